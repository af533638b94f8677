"""``anatune profile``: list, show, detect, measure and check hardware profiles (rank 9)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anatune.cli.options import json_option
from anatune.cli.show import plain, print_json, print_table, progress

if TYPE_CHECKING:
    from anatune.hwprofile import Profile


def _profile_file(
    _context: click.Context, _parameter: click.Parameter, file: Path | None
) -> Path | None:
    """Refuse a file that `load_profile` would not take, before seconds are spent on measuring."""
    from anatune.hwprofile.places import SUFFIX
    from anatune.hwprofile.values import is_name

    if file is not None and not (file.suffix == SUFFIX and is_name(file.stem)):
        raise click.BadParameter(f"{file.name!r}: name it such as my_machine{SUFFIX}")
    if file is not None and not file.parent.is_dir():
        raise click.BadParameter(f"{str(file.parent)!r}: no such folder")
    return file


_output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), callback=_profile_file,
    metavar="FILE", help="Write the profile to a file, and name it after the file.",
)  # fmt: skip


@click.group()
def profile() -> None:
    """Hardware profiles: facts with sources."""


@profile.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Names of all profiles that are found."""
    from anatune.hwprofile import load_profile, profiles

    found = [load_profile(name) for name in profiles()]
    if as_json:
        return print_json([{"name": p.name, "title": p.title, "isa": p.target.isa} for p in found])
    print_table(("name", "machine", "instruction set"), [_line(p) for p in found])


def _line(one: Profile) -> tuple[str, str, str]:
    return one.name, one.title, one.target.isa


@profile.command()
@click.argument("name", metavar="NAME|FILE")
@json_option
def show(name: str, as_json: bool) -> None:
    """One profile: facts, sources, what is missing."""
    from anatune.machine import load_profile

    _print(load_profile(name), as_json)


@profile.command()
@_output_option
@json_option
def detect(output: Path | None, as_json: bool) -> None:
    """What the system tells of this machine."""
    from anatune.hwprofile.detect import detect_host
    from anatune.measure.host import llvm_facts

    _hand_over(detect_host(llvm_facts()), output, as_json)


@profile.command()
@_output_option
@json_option
def measure(output: Path | None, as_json: bool) -> None:
    """Detect this machine and probe it.

    The profile is kept for the next time."""
    from anatune import machine

    with progress() as tell:
        measured = machine.detect(tell)
    _hand_over(measured, output, as_json)


@profile.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Every problem of profile files.

    One line each; without FILES, of the profiles that are shipped."""
    from anatune.hwprofile import check_file

    problems = {str(file): check_file(file) for file in files or _shipped()}
    if as_json:
        print_json(problems)
    else:
        for file, lines in problems.items():
            for line in lines or ["in order"]:
                click.echo(f"{file}: {line}")
    if any(problems.values()):
        context.exit(1)


def _shipped() -> list[Path]:
    from anatune.hwprofile.places import SUFFIX, shipped_folder

    folder = shipped_folder()
    return sorted(Path(str(file)) for file in folder.iterdir() if file.name.endswith(SUFFIX))


def _hand_over(one: Profile, output: Path | None, as_json: bool) -> None:
    """Print a profile and write it to ``output``, under the name that the file's name gives it."""
    from anatune.hwprofile import dump_profile

    if output is not None:
        one = replace(one, name=output.stem)
        output.write_text(dump_profile(one), encoding="utf-8")
    _print(one, as_json)


def _print(one: Profile, as_json: bool) -> None:
    from anatune.hwprofile import dump_profile

    if as_json:
        return print_json({**plain(one), "missing": one.missing})
    click.echo(dump_profile(one), nl=False)
    if one.missing_note:
        click.echo(f"# {one.missing_note}")
