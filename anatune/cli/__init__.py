"""The command line: every command of ``anatune``, one module each group (rank 9)."""

from __future__ import annotations


def main() -> None:
    raise SystemExit("anatune: error: the command line is not written yet")
