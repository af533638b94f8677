"""The nouns of the registry: a library with its limits, and a way to run it (rank 9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from anatune.errors import WorkloadError
from anatune.plan import CodeTarget
from anatune.workload import Matmul
from anatune.workload.expression import Expression, parse

PATIENCE_S = 120.0
"""A competitor that has not answered after this many seconds is taken to hang."""

EPILOGUES = ("bias", "relu", "gelu", "bias+relu", "bias+gelu")
"""What PyTorch's linear layers and ONNX graphs are made for."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to run a library: ``factory`` is called with the workload, threads, environment, how.

    ``workload`` is the product in the data type of C that the library has.
    """

    library: str
    setting: str
    factory: str
    workload: Matmul
    environment: tuple[tuple[str, str], ...] = ()
    how: tuple[Any, ...] = ()
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be run, where, on how many threads."""

    workload: Matmul
    target: CodeTarget
    threads: int


Ways = Callable[[Request], list[Choice]]


@dataclass(frozen=True, kw_only=True)
class Library:
    """What it computes: types of A and B -> types of C, the first one if it lacks the right one."""

    name: str
    missing: Callable[[], str]  # "" where it is installed, else what to install
    ways: Ways
    out_dtypes: Mapping[str, tuple[str, ...]]
    batch: bool = True
    rows_apart: bool = True
    trans: bool = True
    alpha: bool = True
    beta: bool = True
    epilogue: bool = False
    most_flops: float = float("inf")

    def refusal(self, w: Matmul) -> str:
        """Why it cannot compute ``w``; "" where it can."""
        scattered = not (w.output.compact and all(t.compact for t in w.operands.values()))
        known = not w.epilogue or bool(epilogue_name(w))
        limits = {
            f"no product of {pair(w)}": pair(w) in self.out_dtypes,
            "no batches": self.batch or w.batch == 1,
            "no rows that lie apart": self.rows_apart or not scattered,
            "no transposed operands": self.trans or not (w.trans_a or w.trans_b),
            "no factor alpha": self.alpha or w.alpha == 1,
            "does not add to C in place": self.beta or not w.beta,
            f"no such epilogue: {w.epilogue}": not w.epilogue or (self.epilogue and known),
            f"more than {self.most_flops:.0e} operations would take long": w.flops
            <= self.most_flops,
        }
        return next((why for why, able in limits.items() if not able), "")

    def produced(self, w: Matmul) -> Matmul:
        """``w`` with a C of the type that it produces."""
        able = self.out_dtypes[pair(w)]
        return w if w.out_dtype in able else replace(w, out_dtype=able[0])


def pair(w: Matmul) -> str:
    """Data types of A and B as one name."""
    return w.dtype if w.dtype == w.dtype_b else f"{w.dtype} x {w.dtype_b}"


def epilogue_name(w: Matmul) -> str:
    """The one of `EPILOGUES` that is the epilogue of ``w``; "" where none is."""
    if not w.epilogue or w.accumulator != "float32":
        return ""

    def parsed(text: str) -> Expression | None:
        try:
            return parse(text, w.accumulator, str(w.out_dtype))
        except WorkloadError:
            return None

    wanted = parsed(w.epilogue)
    return next((name for name in EPILOGUES if parsed(name) == wanted), "")
