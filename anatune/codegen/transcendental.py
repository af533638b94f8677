"""exp, tanh, sigmoid and erf of vectors, as TIR (rank 5)."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script import builder as T


def exp(x: Any) -> Any:
    return T.exp(x)


def tanh(x: Any) -> Any:
    return T.tanh(x)


def sigmoid(x: Any) -> Any:
    return T.sigmoid(x)


def erf(x: Any) -> Any:
    return T.erf(x)
