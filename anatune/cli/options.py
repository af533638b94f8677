"""What several commands take: a machine, threads, a budget and how to measure (rank 9)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from anatune.errors import OptionError, UnitError, require
from anatune.units import TIME, clip

Command = TypeVar("Command", bound=Callable[..., Any])

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
        for word in args[: args.index("--")] if "--" in args else args:
            name = word.split("=")[0]
            if _OPTION.match(word) and name not in known:
                near = difflib.get_close_matches(name, sorted(known))
                raise click.NoSuchOption(name, possibilities=near, ctx=ctx)
        return super().parse_args(ctx, args)


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
