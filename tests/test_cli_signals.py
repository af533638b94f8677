"""What asks the program to end, ends it: cleaned up, with a status of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anatune import errors
from anatune.cli.show import progress
from anatune.cli.signals import Ended

ROOT = Path(__file__).resolve().parents[1]

WAITS = """
import sys, tempfile, time
from anatune import cli
from anatune.cli.show import progress

FOLDER = sys.argv.pop()

@cli.app.command()
def wait():
    with progress() as tell, tempfile.TemporaryDirectory(dir=FOLDER):
        print("ready", flush=True)
        time.sleep(60)

cli.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_that_asks_to_end_leaves_no_folder(name, tmp_path):
    if sys.platform == "win32":
        pytest.skip("Windows ends a process without telling it")
    number = getattr(signal, name)
    command = [sys.executable, "-c", WAITS, "wait", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert said.strip() == f"anatune: {'interrupted' if name == 'SIGINT' else f'ended by {name}'}"
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_does_not_disturb_the_cleaning_up():
    cleaned = []
    with pytest.raises(Ended) as caught, progress():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append("all")
    assert (caught.value.status, cleaned) == (143, ["all"])


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with progress():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interruption_that_somebody_swallowed_is_not_forgotten():
    reached = []
    with pytest.raises(KeyboardInterrupt), progress() as tell:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        reached.append("compiled")
        tell("next")
        reached.append("next")
    assert reached == ["compiled"]


@pytest.mark.parametrize("error", [None, errors.WorkerError("worker died")])
def test_an_interruption_outweighs_how_the_work_ended(error):
    with pytest.raises(KeyboardInterrupt), progress():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        if error:
            raise error


def test_progress_leaves_other_errors_and_the_handler_alone():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(errors.WorkerError), progress() as tell:
        tell("one")
        raise errors.WorkerError("worker died")
    assert signal.getsignal(signal.SIGINT) is before
