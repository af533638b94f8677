"""Workloads as a command line has them: a kind, its extents, and options of that kind (rank 9)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, cast

import click

from anatune.cli.extents import EXTENTS_HELP, read_extents
from anatune.cli.options import Command, json_option, target_option, threads_option
from anatune.errors import OptionError, require

WorkloadOption = Callable[[Any], Any]
Reader = Callable[[str], Any]

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)

WORKLOAD = "WORKLOAD"
"""Metavar of commands that take all kinds."""

USAGE = {
    "matmul": "matmul M N K",
    "elementwise": "elementwise TEXT [M] N",
    "reduce": "reduce NAME [M] N",
    "softmax": "softmax M N",
    "group": "group FILE.yaml",
}

WORKLOADS_HELP = f"""
\b
WORKLOAD is one of
  matmul M N K            a matrix product
  elementwise TEXT [M] N  an expression of arrays: 'relu(x + bias[n])' 128 768
  reduce NAME [M] N       sum, max, min or mean along an axis
  softmax M N             of each row
  group FILE.yaml         several: fused:, chain: or steps:

{EXTENTS_HELP}"""


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the workload refuses it by itself


def _extent(text: str) -> int | str:
    return int(text) if _WHOLE.fullmatch(text) else text


def _option(
    flag: str, help_: str, read: Reader = str, metavar: str = "NAME"
) -> WorkloadOption:
    """An option that is named as an argument of the workload's function; not given: its default."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Any:
        return None if text is None else read(text)

    return click.option(flag, metavar=metavar, callback=callback, help=help_)


PRODUCT_OPTIONS: tuple[WorkloadOption, ...] = (
    _option("--dtype", "Data type of A, of arrays.  [default: float32]"),
    _option("--dtype-b", "Data type of B.  [default: A's; int8 beside uint8]"),
    _option("--out-dtype", "Data type of the result.  [default: a float's own, else the sums']"),
    click.option("--trans-a", is_flag=True, help="A is stored as [k, m]."),
    click.option("--trans-b", is_flag=True, help="B is stored as [n, k]."),
    _option("--batch", "So many products at once.", _extent, "N"),
    click.option("--broadcast-a", is_flag=True, help="One A for the whole batch."),
    click.option("--broadcast-b", is_flag=True, help="One B for the whole batch."),
    _option("--lda", "Elements from one row of A to the next.", _extent, "N"),
    _option("--ldb", "The same of B.", _extent, "N"),
    _option("--ldc", "The same of C.", _extent, "N"),
    _option("--stride-a", "Elements from one A of a batch to the next.", _extent, "N"),
    _option("--stride-b", "The same of B.", _extent, "N"),
    _option("--stride-c", "The same of C.", _extent, "N"),
    _option("--alpha", "Factor of the product.", _number, "X"),
    _option("--beta", "Factor of what C held before.", _number, "X"),
    click.option("--constant-b", is_flag=True, help="B is a weight: packed once, ahead of time."),
    _option("--epilogue", "Such as bias+gelu or 'max(c + bias[n], 0)'.", metavar="TEXT"),
)
"""In the order of the fields of `anatune.workload.Matmul`."""

MAP_OPTIONS: tuple[WorkloadOption, ...] = (
    _option("--expression", "Of reduce and softmax: what of.  [default: x]", metavar="TEXT"),
    _option("--axis", "Of reduce: the axis that goes, -1 or 0.  [default: -1]", _extent, "N"),
    _option("--finish", "Of reduce: what becomes of it, such as 'sqrt(c)'.", metavar="TEXT"),
)

_OPTIONS_OF = {
    "elementwise": ("dtype", "out_dtype"),
    "reduce": ("dtype", "out_dtype", "expression", "axis", "finish"),
    "softmax": ("dtype", "out_dtype", "expression"),
    "group": (),
}
_NOT_OF_MATMUL = ("expression", "axis", "finish")


def product_options(function: Command) -> Command:
    """A product, handed over as ``w``; ``--target``, ``--threads`` and ``--json``."""
    return _decorated(function, ("matmul",), PRODUCT_OPTIONS, USAGE["matmul"])


def workload_options(function: Command) -> Command:
    """The same of any workload."""
    return _decorated(function, tuple(USAGE), (*PRODUCT_OPTIONS, *MAP_OPTIONS), WORKLOAD)


def _decorated(
    function: Command, kinds: Sequence[str], options: Sequence[WorkloadOption], metavar: str
) -> Command:
    @wraps(function)
    def command(**given: Any) -> Any:
        of_command = inspect.signature(function).parameters
        rest = {name: given.pop(name) for name in list(given) if name in of_command}
        return function(w=read_workload(given.pop("words"), given, kinds), **rest)

    decorated: Any = command
    for decorate in (json_option, threads_option, target_option, *reversed(options)):
        decorated = decorate(decorated)
    words = click.argument("words", nargs=-1, required=True, metavar=metavar)
    return cast(Command, words(decorated))


def read_workload(
    words: tuple[str, ...], options: Mapping[str, Any], kinds: Sequence[str] = tuple(USAGE)
) -> Any:
    """The workload that a kind with its words and the options about it names; None is not given.

    Raises:
        OptionError: another kind, other words than it takes, or an option of another kind.
        WorkloadError: an extent, a data type or an option that cannot be computed.
    """
    kind, *rest = words
    if _WHOLE.match(kind):  # a word was left out
        raise OptionError(f"workload = {kind!r}: {_usage_with_example()}")
    taken = ", ".join(USAGE[each] for each in kinds)
    require(kind in kinds, f"workload = {kind!r}: this version takes {taken}", OptionError)
    stated = {name: value for name, value in options.items() if value is not None}
    if kind == "matmul":
        _refuse(kind, [name for name in stated if name in _NOT_OF_MATMUL], ())
        return _matmul(rest, stated)
    stated = {name: value for name, value in stated.items() if value is not False}
    known = _OPTIONS_OF[kind]
    _refuse(kind, [name for name in stated if name not in known], known)
    return _READERS[kind](rest, stated)


def _refuse(kind: str, foreign: Sequence[str], known: Sequence[str]) -> None:
    shown = ", ".join(map(_flag, known))
    mend = f"it takes {shown}" if shown else "leave it out"
    why = f"{', '.join(map(_flag, sorted(foreign)))}: no option of {kind}; {mend}"
    require(not foreign, why, OptionError)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _matmul(words: Sequence[str], stated: dict[str, Any]) -> Any:
    given = " ".join(words) or "none"
    require(len(words) == 3, f"matmul = {given}: give three extents, M N K", OptionError)
    from anatune.workload import matmul

    varying = {name: _extent(text) for name, text in zip("mnk", words)}
    varying |= {"batch": stated["batch"]} if "batch" in stated else {}
    return matmul(**{**stated, **read_extents(varying)})  # it refuses text by itself


def _elementwise(words: Sequence[str], stated: dict[str, Any]) -> Any:
    from anatune.workload.arrays import elementwise

    text, shape = _text_and_shape("elementwise", "an expression", words)
    return elementwise(text, shape, **stated)


def _reduce(words: Sequence[str], stated: dict[str, Any]) -> Any:
    from anatune.workload.arrays import reduce

    name, shape = _text_and_shape("reduce", "sum, max, min or mean", words)
    return reduce(name, shape, **stated)


def _text_and_shape(kind: str, what: str, words: Sequence[str]) -> tuple[str, list[Any]]:
    given = " ".join(words) or "none"
    why = f"{kind} = {given}: give {what} and one or two extents: {USAGE[kind]}"
    require(len(words) in (2, 3), why, OptionError)
    return words[0], [_extent(word) for word in words[1:]]


def _softmax(words: Sequence[str], stated: dict[str, Any]) -> Any:
    from anatune.workload.arrays import softmax

    given = " ".join(words) or "none"
    require(len(words) == 2, f"softmax = {given}: give two extents, M N", OptionError)
    rows, columns = map(_extent, words)
    return softmax(cast(int, rows), cast(int, columns), **stated)


def _group(words: Sequence[str], stated: dict[str, Any]) -> Any:
    from anatune.workload.group_file import read_group_file

    given = " ".join(words) or "none"
    require(len(words) == 1, f"group = {given}: give one file, such as block.yaml", OptionError)
    return read_group_file(words[0])


_READERS = {
    "elementwise": _elementwise,
    "reduce": _reduce,
    "softmax": _softmax,
    "group": _group,
}


def _usage_with_example() -> str:
    """How the current command is written."""
    context = click.get_current_context()
    arguments = [p for p in context.command.params if isinstance(p, click.Argument)]
    words = " ".join([context.command_path, *(str(p.metavar) for p in arguments)])
    words = words.replace(WORKLOAD, USAGE["matmul"])
    example = words.replace("CHOICE", "8x48").replace("M N K", "784 512 128")
    return f"write {words}, for example {example}"
