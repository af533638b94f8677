"""How commands print: one JSON document or a table, and progress on a terminal (rank 9)."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Literal

import click

from anatune.cli.signals import ending, endings
from anatune.units import FLOP_RATE, TIME

WIDTH = 1000
"""Columns of a table that goes to a file or a pipe: wide enough that nothing is folded."""

NONE = "-"

Tell = Callable[[str], None]


def print_json(value: Any) -> None:
    """``value`` as one JSON document; what JSON cannot say, such as infinity, becomes null."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """``value`` as what JSON has: dataclasses become objects, named outcomes their names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


NUMBERS = ("threads", "predicted", "measured", "time", "+-", "rate", "of peak")
"""Titles of the commands' columns whose cells end flush."""


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    numbers: Collection[str] = NUMBERS,
) -> None:
    """A table on standard output; the columns titled as in ``numbers`` end flush."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title or None, title_justify="left",
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False,
    )  # fmt: skip
    for column in columns:
        flush: Literal["right", "left"] = "right" if column in numbers else "left"
        table.add_column(column, justify=flush, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


@contextmanager
def progress() -> Iterator[Tell]:
    """A function that shows what is going on, on standard error, where that is a terminal.

    It is also where an interruption is kept in mind: one that comes in the middle of a compilation
    is turned into that compilation's failure by TVM, one that ends a worker too into a dead worker.
    """
    with endings() as heard:
        try:
            with _status_line() as show:
                yield lambda text: _show_unless(heard, show, text)
        except Exception:
            _show_unless(heard)
            raise
        _show_unless(heard)


def _show_unless(heard: list[int], show: Tell = lambda text: None, text: str = "") -> None:
    if heard:
        raise ending(heard[0])
    show(text)


@contextmanager
def _status_line() -> Iterator[Tell]:
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))


def seconds(value: float | None) -> str:
    return NONE if value is None else TIME.show(value)


def rate(flops_per_s: float | None) -> str:
    return NONE if flops_per_s is None else FLOP_RATE.show(flops_per_s)


def percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"
