"""``anatune records``: list, show, export, merge and prune what was measured (rank 9)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anatune.cli.options import Command, json_option
from anatune.cli.program import warn
from anatune.cli.record_tables import print_each, print_groups, print_one
from anatune.cli.show import print_json
from anatune.errors import OptionError, require

if TYPE_CHECKING:
    from anatune.records.line import Line
    from anatune.records.record import Record
    from anatune.records.select import Selection

FORMATS = ("csv", "json", "jsonl")


def _read(how: Callable[[str], Any]) -> Callable[..., Any]:
    """A callback that reads an option's text; not given: what `Selection` has for it."""
    return lambda _context, _parameter, text: None if text is None else how(text)


def _moment(text: str) -> Any:
    from anatune.records.select import moment

    return moment(text)


def _outcome(text: str) -> Any:
    from anatune.records.select import outcome_named

    return outcome_named(text)


SELECTION_OPTIONS = (
    click.argument("words", nargs=-1, metavar="[matmul M N K]"),
    click.option("--profile", metavar="NAME", help="Planned for this profile: name or hash."),
    click.option(
        "--outcome", metavar="NAME", callback=_read(_outcome),
        help="That ended so: ok, 'wrong result', timeout and the like.",
    ),
    click.option(
        "--since", metavar="DATE|AGE", callback=_read(_moment),
        help="Written from then on: 2026-11-21, 12h, 30d (UTC).",
    ),
    click.option(
        "--before", metavar="DATE|AGE", callback=_read(_moment), help="Written before then."
    ),
    click.option(
        "--host", metavar="TEXT", help="From this machine: fingerprint, processor or device."
    ),
    click.option("--version", metavar="V", help="By this version of anatune or TVM."),
)  # fmt: skip
"""In the order of the fields of `anatune.records.select.Selection`."""

database_option = click.option(
    "--database", type=click.Path(path_type=Path), metavar="FILE",
    help="The store.  [default: ANATUNE_DATABASE, else the user's data folder]",
)  # fmt: skip


def _selection_options(function: Command) -> Command:
    """Everything that says which records are meant; `_selection` makes one of it."""
    decorated: Any = function
    for decorate in (json_option, database_option, *reversed(SELECTION_OPTIONS)):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]


def _selection(given: dict[str, Any]) -> Selection:
    from anatune.records.select import Selection

    return Selection(**{name: value for name, value in given.items() if value is not None})


@click.group()
def records() -> None:
    """What was measured: the store of all runs."""


@records.command("list")
@_selection_options
def list_(database: Path | None, as_json: bool, **given: Any) -> None:
    """What is known of each workload, newest last.

    With a workload, or a part of its text: its records one by one, with the ids that
    anatune records show takes."""
    path, chosen = _path(database), _selection(given)
    rest = {"foreign": 0, "torn": 0}
    show_all = print_each if chosen.words else print_groups
    if not show_all(_chosen(path, chosen, rest), as_json) and not as_json:
        click.echo(f"no such records in {path}" if chosen.is_narrow else f"no records in {path}")
    _tell_rest(rest)


@records.command()
@click.argument("id_", metavar="ID")
@database_option
@json_option
def show(id_: str, database: Path | None, as_json: bool) -> None:
    """One record, whole.

    ID is what the list shows, or its first digits."""
    path = _path(database)
    found = {line.id: line for line in _lines(path) if line.id.startswith(id_.lower())}
    require(found and id_, f"id = {id_!r}: no such record in {path}", OptionError)
    several = f"id = {id_!r}: {len(found)} records begin so; give more digits"
    require(len(found) == 1, several, OptionError)
    (line,) = found.values()
    print_one(line, as_json)


@records.command()
@_selection_options
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="[default: by the file's name, else csv]"
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write to a new file instead of standard output.",
)  # fmt: skip
def export(
    database: Path | None, as_json: bool, form: str | None, output: Path | None, **given: Any
) -> None:
    """Records for other programs.

    csv and json have one row for each, jsonl is what merge takes. Without a selection, jsonl has
    the lines of other versions too."""
    path, chosen = _path(database), _selection(given)
    by_name = output.suffix.lstrip(".") if output and output.suffix.lstrip(".") in FORMATS else ""
    form = "json" if as_json else form or by_name or "csv"
    rest = {"foreign": 0, "torn": 0}
    _write(_text(path, chosen, form, rest), output)
    _tell_rest(rest)


def _text(path: Path, chosen: Selection, form: str, rest: dict[str, int]) -> Iterator[str]:
    from anatune.records.tidy import as_csv, as_json, columns

    if form == "jsonl":
        whole = (line for line in _lines(path) if line.fields is not None)
        meant = (line for line, _ in _chosen(path, chosen, rest))
        lines = meant if chosen.is_narrow else whole
        return (f"{line.raw.decode()}\n" for line in lines)
    rows = (columns(line, record) for line, record in _chosen(path, chosen, rest))
    return as_json(rows) if form == "json" else as_csv(rows)


def _write(text: Iterable[str], output: Path | None) -> None:
    if output is None:
        for part in text:
            click.echo(part, nl=False)
        return
    try:
        with open(output, "x", encoding="utf-8", newline="") as file:
            file.writelines(text)
    except FileExistsError:
        raise OptionError(f"output = {str(output)!r}: exists; give another name") from None
    click.echo(f"written to {output}")


@records.command()
@click.argument(
    "sources", nargs=-1, required=True, metavar="FILE ...",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)  # fmt: skip
@database_option
@json_option
def merge(sources: tuple[Path, ...], database: Path | None, as_json: bool) -> None:
    """Take the lines of other stores into this one.

    Each line once; those of other versions and machines are taken too, and stay what they are."""
    from anatune.records.tidy import merge as put_together

    path = _path(database, must_exist=False)
    done = put_together(sources, path)
    if as_json:
        return print_json({"database": path, "added": done.added, "known": done.known,
                           "torn": done.torn})  # fmt: skip
    click.echo(f"{_lines_text(done.added)} added to {path}, {done.known} were there")
    if done.torn:
        warn(f"{_lines_text(done.torn)} left out: cut short, or no lines of a store")


@records.command()
@_selection_options
@click.option("--torn", is_flag=True, help="Lines that were cut short too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(
    database: Path | None, as_json: bool, torn: bool, dry_run: bool, **given: Any
) -> None:
    """Remove records, those that meet all that is given.

    Nothing goes unless it is named, and lines of other versions stay in any case."""
    from anatune.records.tidy import prune as remove

    path, chosen = _path(database), _selection(given)
    why = "prune: say what to remove, for example --before 365d (see anatune records prune --help)"
    require(chosen.is_narrow or torn, why, OptionError)
    gone = remove(path, chosen, torn=torn, dry_run=dry_run)
    if as_json:
        return print_json({"database": path, "dry_run": dry_run, "removed": [g.id for g in gone]})
    print_groups(((line, line.record) for line in gone if line.record is not None), False)
    cut = sum(line.record is None for line in gone)
    of_torn = f", {cut} of them cut short" if cut else ""
    would = "would be removed" if dry_run else "removed"
    click.echo(f"{_lines_text(len(gone))} {would}{of_torn}")


def _path(database: Path | None, must_exist: bool = True) -> Path:
    """The store that a command is about; one that was named must be there."""
    from anatune.records.lines_file import real
    from anatune.records.store import default_path

    if database is not None and must_exist and not os.path.exists(database):
        raise OptionError(f"database = {str(database)!r}: no such file")
    return real(default_path() if database is None else database)


def _lines(path: Path) -> Iterator[Line]:
    from anatune.records.line import Line
    from anatune.records.lines_file import read_lines

    return map(Line, read_lines(path))


def _chosen(
    path: Path, chosen: Selection, rest: dict[str, int]
) -> Iterator[tuple[Line, Record]]:
    """Records that are meant with their lines; ``rest`` counts the lines that are no records."""
    for line in _lines(path):
        if line.record is None:
            rest[line.state.value] += 1
        elif chosen.takes(line.record):
            yield line, line.record


def _tell_rest(rest: dict[str, int]) -> None:
    """Lines that were passed over, on standard error, so that a document stays one."""
    if rest["foreign"]:
        click.echo(f"{_lines_text(rest['foreign'])} of other versions, kept and not read", err=True)
    if rest["torn"]:
        click.echo(
            f"{_lines_text(rest['torn'])} cut short; anatune records prune --torn removes them",
            err=True,
        )


def _lines_text(count: int) -> str:
    return f"{count} line{'' if count == 1 else 's'}"
