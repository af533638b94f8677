"""Forked processes that raise, die, hang, grow and scribble; what is left of them afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from traces import gone, wait_until

from anatune.errors import WorkerError
from anatune.measure import nursery as module
from anatune.measure.nursery import FORKS, Cell, Nursery
from anatune.measure.worker import DIED, GREEDY, HUNG, Worker, WorkerFailure

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[1]
LONG_S = 60.0
"""Far longer than any of these calls takes: reaching it is a failure, never a figure."""

MEMORY_BYTES = 64 << 20

pytestmark = [
    pytest.mark.skipif(not FORKS, reason="needs processes that are forked"),
    pytest.mark.usefixtures("served", "nothing_left"),
]


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    with Nursery("served:Trouble", ("hello",), threads=2, memory_bytes=MEMORY_BYTES) as nursery:
        yield nursery


@pytest.fixture
def cell(nursery) -> Iterator[Cell]:
    with nursery.cell() as cell:
        yield cell


@pytest.fixture
def neighbour(nursery) -> Iterator[Cell]:
    """One that was there before; nothing that happens to another may be felt in it."""
    with nursery.cell() as cell:
        assert greets(cell)
        yield cell


def greets(cell: Cell | Worker) -> bool:
    return cell.call("greet", "you", timeout_s=LONG_S) == ("hello", "you")


def ask(cell: Cell | Worker, method: str, *arguments: object):
    return cell.call(method, *arguments, timeout_s=LONG_S)


def failure(cell: Cell | Worker, method: str, *arguments: object, timeout_s=LONG_S):
    with pytest.raises(WorkerFailure) as caught:
        cell.call(method, *arguments, timeout_s=timeout_s)
    assert "\n" not in str(caught.value)
    return caught.value


def test_answers_come_back(nursery, cell):
    assert greets(cell)
    assert len(ask(cell, "large", 10**7)) == 10**7
    assert ask(cell, "pid") == ask(cell, "pid") != os.getpid()
    assert ask(cell, "environment", "TVM_NUM_THREADS") == "2"
    with nursery.cell() as other:
        assert ask(other, "pid") != ask(cell, "pid")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("raise_error", "one\ntwo"), "RuntimeError: two"),
        (("raise_error", ""), "RuntimeError: no message"),
        (("lambda_",), "pickle"),
        (("no_such_method",), "AttributeError: 'Trouble' object has no attribute 'no_such_method'"),
    ],
)
def test_what_raises_is_told_and_the_process_lives_on(cell, call, message):
    before = ask(cell, "pid")
    with pytest.raises(WorkerError) as caught:
        ask(cell, *call)
    assert not isinstance(caught.value, WorkerFailure)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert ask(cell, "pid") == before


def test_arguments_that_cannot_be_sent_leave_a_process_that_works(cell):
    with pytest.raises(Exception, match="pickle"):
        ask(cell, "greet", lambda: 0)
    assert greets(cell)


DEATHS = {
    ("exit", 0): "exit status 0",
    ("exit", 7): "exit status 7",
    ("segfault",): "SIGSEGV",
    ("illegal_instruction",): "SIGILL",
    ("corrupt_heap",): "SIGABRT",
    ("complain_and_exit",): "exit status 3, what I had to say",
}


@pytest.mark.parametrize("call", DEATHS, ids=lambda call: call[0])
def test_a_death_is_named_and_nobody_else_feels_it(nursery, cell, neighbour, call):
    died = failure(cell, *call)
    assert died.how == DIED
    assert str(died).startswith(f"worker died: {DEATHS[call]}")
    assert died.signal == (DEATHS[call] if DEATHS[call].startswith("SIG") else "")
    assert greets(neighbour)
    with nursery.cell() as new:
        assert greets(new)


def test_what_the_library_said_of_the_heap_is_told(cell):
    assert len(str(failure(cell, "corrupt_heap"))) > len("worker died: SIGABRT, ")


def test_a_hang_is_ended_and_nobody_else_feels_it(nursery, cell, neighbour):
    pid = ask(cell, "pid")
    hung = failure(cell, "sleep", LONG_S, timeout_s=0.2)
    assert hung.how == HUNG and str(hung).startswith("worker hung: no answer in ")
    assert gone(pid) and greets(neighbour)
    with nursery.cell() as new:
        assert greets(new)


def test_growth_is_ended_and_nobody_else_feels_it(nursery, cell, neighbour):
    pid = ask(cell, "pid")
    greedy = failure(cell, "grow")
    assert greedy.how == GREEDY
    assert str(greedy).startswith("worker killed: it took ") and str(greedy).endswith(" of memory")
    assert gone(pid) and greets(neighbour)
    with nursery.cell() as new:
        assert greets(new)


def test_memory_that_the_nursery_holds_is_nobodys_growth():
    """All cells share its pages; none is killed for them."""
    size = 2 * MEMORY_BYTES
    with Nursery("served:Heavy", (size,), memory_bytes=MEMORY_BYTES) as nursery:
        with nursery.cell() as cell:
            assert ask(cell, "read_all", 0.5) == size


def test_one_that_closes_its_connection_but_lives_is_ended(cell):
    pid = ask(cell, "pid")
    assert failure(cell, "close_everything").how == DIED
    assert gone(pid)


def test_a_death_is_final(cell):
    failure(cell, "exit", 1)
    assert str(failure(cell, "greet")) == "worker died: it had ended before"
    assert cell.kill() == 0


def test_killing_tells_how_it_ended(cell):
    pid = ask(cell, "pid")
    assert cell.kill() == -signal.SIGKILL
    assert gone(pid) and cell.kill() == 0


def test_nobody_sees_what_another_changes(nursery, cell, neighbour):
    before = ask(cell, "told")
    ask(cell, "change", "goodbye")
    assert ask(cell, "told") != before
    assert ask(neighbour, "told") == before
    with nursery.cell() as new:
        assert ask(new, "told") == before


def test_nobody_inherits_the_descriptors_of_others(nursery, cell):
    before = ask(cell, "descriptors")
    with nursery.cell(), nursery.cell() as third:
        assert ask(third, "descriptors") == before


def test_prints_do_not_mix_with_answers(cell, capfd):
    assert ask(cell, "print", "babble") == 6
    assert greets(cell)
    assert capfd.readouterr() == ("", "")


def test_killed_from_outside_between_calls(nursery, cell, neighbour):
    pid = ask(cell, "pid")
    os.kill(pid, signal.SIGKILL)
    assert str(failure(cell, "greet")) == "worker died: SIGKILL"
    assert greets(neighbour)


def test_a_process_that_is_stopped_by_another_thread(cell):
    asked = threading.Thread(target=failure, args=(cell, "sleep", LONG_S))
    asked.start()
    cell.stop()
    asked.join()
    assert str(failure(cell, "greet")) == "worker died: it had ended before"
    cell.stop()  # which is nothing, once it has ended


def test_several_threads_have_cells_of_one_nursery(nursery):
    met: list[int] = []

    def live() -> None:
        for _ in range(5):
            with nursery.cell() as cell:
                met.append(ask(cell, "pid"))

    threads = [threading.Thread(target=live) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(met) == 20


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_nursery_that_is_killed_is_an_error_and_not_a_wait(nursery, neighbour, name):
    process = nursery._process
    process.send_signal(getattr(signal, name))
    wait_until(lambda: gone(process.pid))
    for _ in range(2):
        with pytest.raises(WorkerError) as caught:
            nursery.cell()
        assert str(caught.value) == f"worker died: {name}"
    wait_until(lambda: not is_alive(neighbour))  # its cells go with it


def is_alive(cell: Cell) -> bool:
    try:
        return greets(cell)
    except WorkerFailure:
        return False


def test_a_nursery_that_does_not_get_ready_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "READY_S", 0.2)
    with Nursery("served:Sleepy", ()) as nursery:
        with pytest.raises(WorkerError, match="^worker hung: not ready in "):
            nursery.cell()
        with pytest.raises(WorkerError, match="^worker died: SIGKILL"):  # no late answer is taken
            nursery.cell()


def test_a_nursery_that_dies_of_what_it_makes():
    with Nursery("served:Deadly", ()) as nursery:
        with pytest.raises(WorkerError, match="^worker died: SIGSEGV$"):
            nursery.cell()


def test_a_nursery_that_was_left():
    with Nursery("served:Trouble", ()) as nursery:
        pass
    with pytest.raises(WorkerError, match="^worker died: it was ended before$"):
        nursery.cell()


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        ("served:Trouble", ("raise",), "ValueError: no such greeting"),
        ("served:Nothing", (), "AttributeError: module 'served' has no attribute 'Nothing'"),
        ("no_such_module:Trouble", (), "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_what_cannot_be_made_is_told_at_the_call(factory, arguments, message):
    with Nursery(factory, arguments) as nursery:
        for _ in range(2):
            with nursery.cell() as cell, pytest.raises(WorkerError) as caught:
                ask(cell, "greet")
            assert str(caught.value) == message


def test_what_it_is_made_of_cannot_be_sent():
    with pytest.raises(Exception, match="pickle"):
        Nursery("served:Trouble", (lambda: 0,)).__enter__()


def test_an_interpreter_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WorkerError, match="^worker: cannot be started: "):
        Nursery("served:Trouble", ()).__enter__()


def test_more_processes_than_the_system_allows():
    with Nursery("served:Crowded", ()) as nursery:
        for _ in range(2):
            with pytest.raises(WorkerError, match="^worker: cannot be forked: Resource "):
                nursery.cell()


def test_leaving_ends_busy_cells():
    with Nursery("served:Trouble", ()) as nursery:
        cell = nursery.cell()
        pid = ask(cell, "pid")
        busy = threading.Thread(target=failure, args=(cell, "sleep", LONG_S))
        busy.start()
    busy.join()
    wait_until(lambda: gone(pid))


def test_where_the_system_cannot_fork_each_is_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "FORKS", False)
    with Nursery("served:Trouble", (), threads=2) as nursery:
        with nursery.cell() as one, nursery.cell() as other:
            assert isinstance(one, Worker) and greets(one) and greets(other)
            assert ask(one, "pid") != ask(other, "pid")
            assert str(failure(one, "segfault")) == "worker died: SIGSEGV"
            assert greets(other)


PARENT = """
import sys, threading, time
from anatune.measure.nursery import Nursery
nursery = Nursery("served:Trouble", ())
nursery.__enter__()
idle, busy = nursery.cell(), nursery.cell()
pids = [nursery._process.pid, *(cell.call("pid", timeout_s=60) for cell in (idle, busy))]
threading.Thread(target=lambda: busy.call("sleep", 600, timeout_s=600), daemon=True).start()
print(*pids, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is told by Linux")
def test_the_end_of_the_parent_ends_all_also_in_the_middle_of_a_call():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment, text=True
    )
    with parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3 and not any(map(gone, pids))
        parent.kill()
    for pid in pids:
        wait_until(lambda: gone(pid))
