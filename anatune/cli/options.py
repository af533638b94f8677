"""What several commands take: a workload and the options about it (rank 9)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anatune.errors import OptionError, require

if TYPE_CHECKING:
    from anatune.workload import Matmul

Command = TypeVar("Command", bound=Callable[..., Any])

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_OPTION = re.compile(r"--?[^-\d.]")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
target_option = click.option(
    "--target", default="host", metavar="NAME|FILE", show_default=True,
    help="The machine: host, a profile's name or a profile file.",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=int, help="At most so many threads.  [default: all]"
)
budget_option = click.option(
    "--budget", metavar="N|TIME",
    help="0: model only; 16: at most 16 candidates; 5s: for so long.  [default: a short pass]",
)  # fmt: skip


class WorkloadCommand(click.Command):
    """A command whose arguments may be negative numbers: refused as extents, not as options."""

    ignore_unknown_options = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for word in args:
            name = word.split("=")[0]
            if _OPTION.match(word) and name not in known:
                near = difflib.get_close_matches(name, sorted(known))
                raise click.NoSuchOption(name, possibilities=near, ctx=ctx)
        return super().parse_args(ctx, args)


def workload_options(function: Command) -> Command:
    """The workload, ``--dtype``, ``--target``, ``--threads`` and ``--json``."""
    for decorate in (json_option, threads_option, target_option, _dtype_option, _words_argument):
        function = decorate(function)
    return function


_words_argument = click.argument("words", nargs=-1, required=True, metavar="matmul M N K")
_dtype_option = click.option(
    "--dtype", default="float32", metavar="NAME", show_default=True, help="Data type of A, B and C."
)


def read_workload(words: tuple[str, ...], dtype: str) -> Matmul:
    """The workload that ``matmul M N K`` names.

    Raises:
        OptionError: another kind, or another number of extents.
        WorkloadError: an extent or a data type that cannot be computed.
    """
    kind, *extents = words
    require(kind == "matmul", f"workload = {kind!r}: this version takes matmul M N K", OptionError)
    given = " ".join(extents) or "none"
    require(len(extents) == 3, f"matmul = {given}: give three extents, M N K", OptionError)
    from anatune.workload import matmul

    m, n, k = (int(text) if _WHOLE.fullmatch(text) else text for text in extents)
    return matmul(m, n, k, dtype=dtype)  # type: ignore[arg-type]  # it refuses text by itself


def read_budget(text: str | None) -> int | str | None:
    """``--budget`` as `anatune.tune` takes it: a number of candidates, or a time as text."""
    return int(text) if text is not None and _WHOLE.fullmatch(text) else text
