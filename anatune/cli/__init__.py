"""The command line: what each command of ``anatune`` does, on top of the Python interface (rank 9).

program (errors, statuses), signals, options, show <- plans, profiles, hosts, comparisons, records.
Nothing heavy is imported before a command needs it, so that help is instant.
"""

from __future__ import annotations

from anatune.cli.comparisons import compare
from anatune.cli.hosts import host
from anatune.cli.plans import explain, plan, tune, why_not
from anatune.cli.profiles import profile
from anatune.cli.program import app
from anatune.cli.records import records
from anatune.cli.signals import endings

for _command in (host, profile, plan, explain, why_not, tune, compare, records):
    app.add_command(_command)


def main() -> None:
    """Entry point of the ``anatune`` program."""
    with endings():
        app(prog_name="anatune")
