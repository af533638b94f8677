"""What several commands take: a workload and the options about it (rank 9)."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from anatune.cli.extents import read_extents
from anatune.errors import OptionError, UnitError, require
from anatune.units import TIME, clip

if TYPE_CHECKING:
    from anatune.workload import Matmul

Command = TypeVar("Command", bound=Callable[..., Any])
WorkloadOption = Callable[[Any], Any]
Reader = Callable[[str], Any]

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_OPTION = re.compile(r"--?[^-\d.]")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
target_option = click.option(
    "--target", default="host", metavar="NAME|FILE", show_default=True,
    help="The machine: host, a profile's name or a profile file.",
)  # fmt: skip


def _whole(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """A number of threads; which are possible is the target's to say, and it is asked later."""
    if text is not None and not _WHOLE.fullmatch(text):
        raise click.BadParameter(
            f"{text!r}: a whole number from 1 to the usable threads of the target"
        )
    return None if text is None else int(text)


threads_option = click.option(
    "--threads", metavar="N", callback=_whole, help="At most so many threads.  [default: all]"
)


def budget_option(nothing: str = "model only") -> Callable[[Command], Command]:
    """``--budget``; ``nothing`` says what a command does with a budget of 0."""
    return click.option(
        "--budget", metavar="N|TIME",
        help=f"0: {nothing}; 16: at most 16 candidates; 5s: for so long.  "
        "[default: a short pass]",
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


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the workload refuses it by itself


def _extent(text: str) -> int | str:
    return int(text) if _WHOLE.fullmatch(text) else text


def _of_workload(
    flag: str, help_: str, read: Reader = str, metavar: str = "NAME"
) -> WorkloadOption:
    """An option that is named as a field of `anatune.workload.Matmul`; not given: its default."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        return None if text is None else read(text)

    return click.option(flag, metavar=metavar, callback=callback, help=help_)


_words_argument = click.argument("words", nargs=-1, required=True, metavar="matmul M N K")

WORKLOAD_OPTIONS: tuple[WorkloadOption, ...] = (
    _of_workload("--dtype", "Data type of A.  [default: float32]"),
    _of_workload("--dtype-b", "Data type of B.  [default: A's; int8 beside uint8]"),
    _of_workload("--out-dtype", "Data type of C.  [default: a float's own, else the sums']"),
    click.option("--trans-a", is_flag=True, help="A is stored as [k, m]."),
    click.option("--trans-b", is_flag=True, help="B is stored as [n, k]."),
    _of_workload("--batch", "So many products at once.", _extent, "N"),
    click.option("--broadcast-a", is_flag=True, help="One A for the whole batch."),
    click.option("--broadcast-b", is_flag=True, help="One B for the whole batch."),
    _of_workload("--lda", "Elements from one row of A to the next.", _extent, "N"),
    _of_workload("--ldb", "The same of B.", _extent, "N"),
    _of_workload("--ldc", "The same of C.", _extent, "N"),
    _of_workload("--stride-a", "Elements from one A of a batch to the next.", _extent, "N"),
    _of_workload("--stride-b", "The same of B.", _extent, "N"),
    _of_workload("--stride-c", "The same of C.", _extent, "N"),
    _of_workload("--alpha", "Factor of the product.", _number, "X"),
    _of_workload("--beta", "Factor of what C held before.", _number, "X"),
    click.option("--constant-b", is_flag=True, help="B is a weight: packed once, ahead of time."),
    _of_workload("--epilogue", "Such as bias+gelu or 'max(c + bias[n], 0)'.", metavar="TEXT"),
)
"""In the order of the fields of `anatune.workload.Matmul`."""

search_option = click.option(
    "--search", default="shortlist", metavar="shortlist|evolve|metaschedule", show_default=True,
    help="Who proposes candidates: the model, the model and what it learns, or TVM.",
)  # fmt: skip

cache_option = click.option(
    "--cache", default="warm", metavar="warm|cold", show_default=True,
    help="Operands in use just before, or all caches emptied before each call.",
)  # fmt: skip

tune_database_option = click.option(
    "--database", metavar="FILE|none",
    help="The record store; none: measure anew and keep nothing.  [default: the user's own]",
)  # fmt: skip

remote_option = click.option(
    "--remote", metavar="HOST:PORT/KEY",
    help="Measure on the devices of a TVM RPC tracker instead of here.",
)  # fmt: skip


def read_database(text: str | None) -> str | bool | None:
    """``--database`` as `anatune.tune` takes it."""
    return False if text == "none" else text


objective_option = click.option(
    "--objective", default="time", metavar="time|energy|edp", show_default=True,
    help="What is made small; energy is modelled, edp is energy times time.",
)  # fmt: skip


def workload_options(function: Command) -> Command:
    """The workload, handed over as ``w``; ``--target``, ``--threads`` and ``--json``."""

    @wraps(function)
    def command(**given: Any) -> Any:
        of_command = inspect.signature(function).parameters
        rest = {name: given.pop(name) for name in list(given) if name in of_command}
        return function(w=read_workload(given.pop("words"), given), **rest)

    decorated: Any = command
    for decorate in (json_option, threads_option, target_option, *reversed(WORKLOAD_OPTIONS)):
        decorated = decorate(decorated)
    return cast(Command, _words_argument(decorated))


def read_workload(words: tuple[str, ...], options: dict[str, Any]) -> Matmul:
    """The workload that ``matmul M N K`` and the options about it name; None is not given.

    Raises:
        OptionError: another kind, another number of extents, or a range that is not one.
        WorkloadError: an extent, a data type or an option that cannot be computed.
    """
    kind, *extents = words
    if _WHOLE.match(kind):  # a word was left out
        raise OptionError(f"workload = {kind!r}: {_usage_with_example()}")
    require(kind == "matmul", f"workload = {kind!r}: this version takes matmul M N K", OptionError)
    given = " ".join(extents) or "none"
    require(len(extents) == 3, f"matmul = {given}: give three extents, M N K", OptionError)
    from anatune.workload import matmul

    stated = {name: value for name, value in options.items() if value is not None}
    varying = {name: _extent(text) for name, text in zip("mnk", extents)}
    varying |= {"batch": stated["batch"]} if "batch" in stated else {}
    return matmul(**{**stated, **read_extents(varying)})  # it refuses text by itself


def _usage_with_example() -> str:
    """How the current command is written."""
    context = click.get_current_context()
    arguments = [p for p in context.command.params if isinstance(p, click.Argument)]
    words = " ".join([context.command_path, *(str(p.metavar) for p in arguments)])
    example = words.replace("CHOICE", "8x48").replace("M N K", "784 512 128")
    return f"write {words}, for example {example}"


def read_budget(text: str | None) -> int | str | None:
    """``--budget`` as `anatune.tune` takes it: a number of candidates, or a time as text.

    Raises:
        OptionError: neither, in words for a shell, or more candidates than there can be.
    """
    if text is None:
        return None
    from anatune.measure.budget import NO_LIMIT

    if re.fullmatch(r"\+?\d+", text, re.ASCII):
        digits = text.lstrip("+").lstrip("0")
        few = len(digits) <= len(str(NO_LIMIT)) and int(digits or 0) <= NO_LIMIT
        limit = f"budget = {clip(text)}: at most {NO_LIMIT} candidates"
        require(few, limit, OptionError)
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        TIME.parse(text)
    except UnitError:
        wanted = "0, a number of candidates, or a time such as 5s"
        raise OptionError(f"budget = {clip(text)}: {wanted}") from None
    return text
