"""``anatune profile``: list, show, detect, measure and check hardware profiles (rank 9)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anatune.cli.options import Command, json_option
from anatune.cli.program import warn
from anatune.cli.show import NONE, plain, print_json, print_table, progress

if TYPE_CHECKING:
    from anatune.hwprofile import Profile


def _profile_file(
    context: click.Context, _parameter: click.Parameter, file: Path | None
) -> Path | None:
    """Refuse a file that `load_profile` would not take, before seconds are spent on measuring."""
    from anatune.hwprofile.places import SUFFIX
    from anatune.hwprofile.values import is_name

    if file is not None and not (file.suffix == SUFFIX and is_name(file.stem)):
        raise click.BadParameter(f"{file.name!r}: name it such as my_machine{SUFFIX}")
    if file is not None and not file.parent.is_dir():
        raise click.BadParameter(f"{str(file.parent)!r}: no such folder")
    if file is not None and os.path.lexists(file) and not context.params["force"]:
        raise click.BadParameter(f"{str(file)!r}: exists; --force replaces it")
    return file


def _output_options(function: Command) -> Command:
    """``--output`` and ``--force``; the latter is read first, as the former looks at it."""
    output = click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), callback=_profile_file,
        metavar="FILE", help="Write the profile to a file, and name it after the file.",
    )  # fmt: skip
    force = click.option(
        "--force", is_flag=True, is_eager=True, expose_value=True,
        help="Let --output replace a file.",
    )  # fmt: skip
    return output(force(function))


@click.group()
def profile() -> None:
    """Hardware profiles: facts with sources."""


@profile.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Names of all profiles that are found."""
    from anatune.hwprofile.kept import kept_host
    from anatune.machine import HOST

    kept = kept_host()
    found = {HOST: kept, **{one.name: one for one in _readable()}}
    if as_json:
        return print_json([_facts(name, one) for name, one in found.items()])
    rows = [(name, *_line(one)) for name, one in found.items()]
    print_table(("name", "machine", "instruction set"), rows)


def _readable() -> list[Profile]:
    """All profiles that are found; a file with problems costs a line, not the list."""
    from anatune.errors import ProfileError
    from anatune.hwprofile import check_file, load_profile, profiles
    from anatune.hwprofile.places import find

    found = []
    for name in profiles():
        try:
            found.append(load_profile(name))
        except ProfileError:
            file = str(find(name))
            first, *_ = check_file(file)
            warn(f"{file}: {first} (all problems: anatune profile check {file})")
    return found


def _facts(name: str, one: Profile | None) -> dict[str, object]:
    """A line of the list as JSON; a host that nobody has probed yet has no facts."""
    title, isa = (one.title, one.target.isa) if one else (None, None)
    return {"name": name, "title": title, "isa": isa}


def _line(one: Profile | None) -> tuple[str, str]:
    if one is None:
        return "this machine, not yet probed (anatune host)", NONE
    kept = " (this machine, as probed)" if one.name == "host" else ""
    return f"{one.title}{kept}", one.target.isa


@profile.command()
@click.argument("name", metavar="NAME|FILE")
@json_option
def show(name: str, as_json: bool) -> None:
    """One profile: facts, sources, what is missing."""
    from anatune.machine import load_profile

    _print(load_profile(name), as_json)


@profile.command()
@_output_options
@json_option
def detect(output: Path | None, force: bool, as_json: bool) -> None:
    """What the system tells of this machine."""
    from anatune.hwprofile.detect import detect_host
    from anatune.measure.host import llvm_facts

    _hand_over(detect_host(llvm_facts()), output, as_json)


@profile.command()
@_output_options
@json_option
def measure(output: Path | None, force: bool, as_json: bool) -> None:
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
    """Print a profile or write it to ``output``, under the name that the file's name gives it."""
    from anatune.hwprofile import dump_profile

    if output is None:
        return _print(one, as_json)
    one = replace(one, name=output.stem)
    output.write_text(dump_profile(one), encoding="utf-8")
    if as_json:
        return print_json({**_fields(one), "written_to": output})
    click.echo(f"written to {output}")
    if one.missing_note:
        click.echo(one.missing_note)


def _fields(one: Profile) -> dict[str, object]:
    return {**plain(one), "missing": one.missing}


def _print(one: Profile, as_json: bool) -> None:
    from anatune.hwprofile import dump_profile

    if as_json:
        return print_json(_fields(one))
    click.echo(dump_profile(one), nl=False)
    if one.missing_note:
        click.echo(f"# {one.missing_note}")
