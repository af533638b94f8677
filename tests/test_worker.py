"""Worker processes that raise, die, hang and babble; what is left of them afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from traces import gone, wait_until

from anatune.errors import WorkerError
from anatune.measure.worker import DIED, HUNG, Worker, WorkerFailure

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[1]
LONG_S = 60.0
"""Far longer than any of these calls takes: reaching it is a failure, never a figure."""


pytestmark = pytest.mark.usefixtures("served", "nothing_left")


@pytest.fixture
def worker():
    with Worker("served:Trouble", ("hello",), threads=2) as worker:
        yield worker


def greets(worker: Worker) -> bool:
    return worker.call("greet", "you", timeout_s=LONG_S) == ("hello", "you")


def test_answers_come_back(worker):
    assert greets(worker)
    assert len(worker.call("large", 10**6, timeout_s=LONG_S)) == 10**6
    assert (
        worker.call("pid", timeout_s=LONG_S) == worker.call("pid", timeout_s=LONG_S) != os.getpid()
    )
    assert worker.call("environment", "TVM_NUM_THREADS", timeout_s=LONG_S) == "2"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("raise_error", "one\ntwo"), "RuntimeError: two"),
        (("raise_error", ""), "RuntimeError: no message"),
        (("no_such_method",), "AttributeError: 'Trouble' object has no attribute 'no_such_method'"),
        (
            ("greet_", 1),
            "AttributeError: 'Trouble' object has no attribute 'greet_'. Did you mean: 'greet'?",
        ),
    ],
)
def test_what_raises_is_told_and_the_worker_lives_on(worker, call, message):
    before = worker.call("pid", timeout_s=LONG_S)
    with pytest.raises(WorkerError) as caught:
        worker.call(*call, timeout_s=LONG_S)
    assert not isinstance(caught.value, WorkerFailure)
    assert message.startswith(str(caught.value))
    assert worker.call("pid", timeout_s=LONG_S) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("exit", 0), "worker died: exit status 0"),
        (("exit", 7), "worker died: exit status 7"),
        (("leave",), "worker died: exit status 4"),
        (("segfault",), "worker died: SIGSEGV"),
        (("complain_and_exit",), "worker died: exit status 3, what I had to say"),
    ],
)
def test_a_death_is_told_and_the_next_call_works(worker, call, message):
    with pytest.raises(WorkerFailure) as caught:
        worker.call(*call, timeout_s=LONG_S)
    assert caught.value.how == DIED
    assert str(caught.value) == message
    assert greets(worker)


def test_an_answer_that_cannot_be_sent_is_an_error(worker):
    with pytest.raises(WorkerError) as caught:
        worker.call("lambda_", timeout_s=LONG_S)
    assert not isinstance(caught.value, WorkerFailure) and "pickle" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert greets(worker)


def test_arguments_that_cannot_be_sent_leave_a_worker_that_works(worker):
    with pytest.raises(Exception, match="pickle"):
        worker.call("greet", lambda: 0, timeout_s=LONG_S)
    assert greets(worker)


def test_a_hang_is_told_and_the_next_call_works(worker):
    pid = worker.call("pid", timeout_s=LONG_S)
    with pytest.raises(WorkerFailure) as caught:
        worker.call("sleep", LONG_S, timeout_s=0.2)
    assert caught.value.how == HUNG
    assert str(caught.value).startswith("worker hung: no answer in ")
    assert gone(pid)
    assert greets(worker)


def test_a_late_answer_is_not_taken_for_the_next(worker):
    with pytest.raises(WorkerFailure):
        worker.call("sleep", 0.3, timeout_s=0.01)
    assert greets(worker)


def test_prints_do_not_mix_with_answers(worker, capfd):
    assert worker.call("print", "babble", timeout_s=LONG_S) == 6
    assert greets(worker)
    assert capfd.readouterr() == ("", "")


def test_killed_from_outside_between_calls(worker):
    pid = worker.call("pid", timeout_s=LONG_S)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid))
    with pytest.raises(WorkerFailure) as caught:
        greets(worker)
    assert str(caught.value) == "worker died: SIGKILL"
    assert greets(worker)


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        ("served:Trouble", ("raise",), "ValueError: no such greeting"),
        ("served:Nothing", (), "AttributeError: module 'served' has no attribute 'Nothing'"),
        ("no_such_module:Trouble", (), "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_what_cannot_be_served_is_told_at_the_call(factory, arguments, message):
    with Worker(factory, arguments, threads=1) as worker:
        for _ in range(2):
            with pytest.raises(WorkerError) as caught:
                worker.call("greet", timeout_s=LONG_S)
            assert str(caught.value) == message


def test_leaving_ends_a_busy_worker():
    with pytest.raises(ZeroDivisionError), Worker("served:Trouble", (), threads=1) as worker:
        pid = worker.call("pid", timeout_s=LONG_S)
        busy = threading.Thread(target=call_and_fail, args=(worker,))
        busy.start()
        raise ZeroDivisionError
    busy.join()
    assert gone(pid)
    worker.kill()  # twice is once


def call_and_fail(worker: Worker) -> None:
    with pytest.raises((WorkerFailure, AttributeError)):  # killed before the call or within it
        worker.call("sleep", LONG_S, timeout_s=LONG_S)


def test_an_interpreter_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WorkerError, match="^worker: cannot be started: "):
        Worker("served:Trouble", (), threads=1).__enter__()


PARENT = """
import sys, threading, time
from anatune.measure.worker import Worker
worker = Worker("served:Trouble", (), threads=1)
worker.__enter__()
print(worker.call("pid", timeout_s=60), flush=True)
threading.Thread(target=lambda: worker.call("sleep", 600, timeout_s=600), daemon=True).start()
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is told by Linux")
def test_the_end_of_the_parent_ends_a_worker_in_the_middle_of_a_call():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid))
