"""The program around all commands: help, exit statuses, one line for every error (rank 9)."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import click

from anatune.cli.signals import Ended
from anatune.errors import (
    AnatuneError,
    IllegalPlan,
    OperandError,
    OptionError,
    ProfileError,
    UnitError,
    WorkloadError,
)

FAILED, BAD_REQUEST, INTERRUPTED = 1, 2, 130

REQUEST_ERRORS = (IllegalPlan, OperandError, OptionError, ProfileError, UnitError, WorkloadError)
"""What the user asked for cannot be; every other error means that doing it failed."""

DEBUG_VARIABLE = "ANATUNE_DEBUG"

HELP = f"""Matrix kernels from a model of the machine: planned, generated, checked, measured.

\b
Exit status:
  0    done
  {FAILED}    the run failed: a build, a worker, a check of the numbers, a profile
       with problems
  {BAD_REQUEST}    the request cannot be met as it stands: usage, extents, data types,
       an unknown profile
  129  ended by SIGHUP
  {INTERRUPTED}  interrupted
  143  ended by SIGTERM

\b
Environment:
  ANATUNE_CACHE_DIR     where the host's profile and built kernels are kept
  ANATUNE_DATABASE      the file of records, instead of one in the user's data folder
  ANATUNE_PROFILE_PATH  folders with profiles of your own
  {DEBUG_VARIABLE}         any value but 0: show the traceback of an error
"""


class App(click.Group):
    """A group of commands that ends with a documented status and never with a traceback."""

    def main(  # type: ignore[override]  # click tells its two ways of ending apart by overloads
        self, args: Any = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        extra["standalone_mode"] = False  # so that errors arrive here instead of being printed
        with warnings.catch_warnings():
            warnings.showwarning = warn
            sys.exit(status_of(lambda: super(App, self).main(args, prog_name, **extra)))


def status_of(work: Callable[[], Any]) -> int:
    """Exit status of ``work``; what it raises becomes one line on standard error."""
    try:
        return int(work() or 0)
    except Ended as ended:
        click.echo(f"anatune: ended by {ended}", err=True)
        return ended.status
    except (click.Abort, KeyboardInterrupt):
        click.echo("anatune: interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        return _complain(_usage(error), error.exit_code)
    except REQUEST_ERRORS as error:
        return _complain(str(error), BAD_REQUEST)
    except AnatuneError as error:
        return _complain(str(error), FAILED)
    except MemoryError:
        return _complain("memory: the operands do not fit; take smaller extents", FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", FAILED)
    except Exception as error:  # a defect of ours: still one line, with the way to the rest
        mend = f"set {DEBUG_VARIABLE}=1 for the traceback"
        return _complain(f"unexpected {type(error).__name__}: {error}; {mend}", FAILED)


def _complain(message: str, status: int) -> int:
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo(f"anatune: error: {' '.join(message.split())}", err=True)
    return status


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    mend = f" (see {context.command_path} --help)" if context else ""
    return error.format_message().rstrip(".") + mend


def warn(message: Warning | str, *_where: Any, **_more: Any) -> None:
    """One line on standard error; also takes what `warnings.showwarning` is called with."""
    click.echo(f"anatune: warning: {' '.join(str(message).split())}", err=True)


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    shown = ("anatune", "apache-tvm", "apache-tvm-ffi")
    versions = [f"{name} {distribution_version(name)}" for name in shown]
    click.echo(", ".join([*versions, f"Python {sys.version.split()[0]}"]))
    context.exit()


def distribution_version(distribution: str) -> str:
    """The version of an installed distribution, as text."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(
    cls=App,
    help=HELP,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Versions of anatune and of what it stands on.",
)  # fmt: skip
@click.pass_context
def app(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
