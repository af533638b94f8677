"""Measuring on other machines: TVM's tracker and servers as processes on the loopback address."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anatune.errors import OptionError, WorkerError, WorkloadError
from anatune.measure.tracker import Remote
from anatune.workload import matmul

pytest.importorskip("tvm")
pytest.importorskip("cloudpickle")
pytest.importorskip("psutil")
pytest.importorskip("tornado")
if sys.platform != "linux":
    pytest.skip("process groups are told by /proc", allow_module_level=True)

from lent_machines import HERE, Network, free_port  # noqa: E402
from sample_plans import host_lanes, host_target, plan  # noqa: E402
from traces import wait_until  # noqa: E402

from anatune.codegen.build import build  # noqa: E402
from anatune.codegen.link import write_sendable  # noqa: E402
from anatune.measure.builder import Builder, Built  # noqa: E402
from anatune.measure.calibrate import COLD_CALLS  # noqa: E402
from anatune.measure.entry import Entry  # noqa: E402
from anatune.measure.outcome import Outcome  # noqa: E402
from anatune.measure.remote import MOST_LOSSES, RemoteRunner  # noqa: E402
from anatune.measure.pool import Lost  # noqa: E402
from anatune.plan import Storage, ThreadGrid  # noqa: E402

SHORT_S = 3.0
"""Patience with what is known to hang, and with a device that will not come back."""

BAD = """
#include <stdint.h>
#include <unistd.h>
int __tvm_ffi_main(void* self, const void* arguments, int32_t count, void* result) { %s; }
"""

CRASH = "*(volatile int*)0 = 1; return 0"
HANG = "for (;;) sleep(1)"
NOTHING = "return 0"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    network = Network(tmp_path_factory.mktemp("network") / "log")
    try:
        network.lend("frail", plain=True)  # all start at once
        network.has("ours", 2)
        yield network
    finally:
        network.end()
    assert network.members == []


def entries(count: int, **options) -> list[Entry]:
    """Plans of one small product, for this machine; each with another block."""
    lanes = host_lanes()
    made = plan(37, 50, 29, 2, 2 * lanes, lanes, target=host_target(), **options)
    blocks = (replace(made.blocks, kc=kc) for kc in range(29, 29 - count, -1))
    return [Entry(replace(made, blocks=b)) for b in blocks]


class Faulty:
    """Compiles, but for some entries whose kernels are wrong in the given way."""

    def __init__(self, builder: Builder, folder: Path, wrong: dict[Entry, str]) -> None:
        self._builder, self._folder, self._wrong = builder, folder, wrong
        self.keep = builder.keep

    def build(self, entries):
        yield from self._builder.build([e for e in entries if e not in self._wrong])
        for place, entry in enumerate(e for e in entries if e in self._wrong):
            path = self._folder / f"bad{place}.so"
            path.write_bytes(b"no library")
            if self._wrong[entry]:
                source = path.with_suffix(".c")
                source.write_text(BAD % self._wrong[entry])
                subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, source], check=True)
            yield entry, Built(str(path))


@pytest.fixture(scope="module")
def builder():
    with Builder(2) as builder:
        yield builder


@pytest.fixture
def runner_of(builder):
    """Makes a runner for some entries."""

    def make(remote: Remote, some: list[Entry], *, by=builder, **options) -> RemoteRunner:
        plan = some[0].plan
        return RemoteRunner(plan.workload, remote, plan.threads, by, **options)

    return make


class Objects:
    """Compiles as for a machine that no linker is here for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, entries):
        for entry in entries:
            executable = build(entry.plan).executable
            yield entry, Built(write_sendable(executable, self._folder / "kernel", "vax-dec-vms"))

    def keep(self, plan) -> None:
        pass


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="bad kernels are written in C")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.0.7:9190/laptop", Remote("10.0.0.7", 9190, "laptop")),
        ("farm.example:1/a-b_c.9", Remote("farm.example", 1, "a-b_c.9")),
        ("[::1]:9190/k", Remote("::1", 9190, "k")),
    ],
)
def test_remotes_are_read_and_written(text, wanted):
    assert Remote.parse(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:9190", "host/key", ":9190/key", "host:0/key", "host:65536/key",
             "host:9190/", "host:9190/a b", "host:9190/a:b", "::1:9190/key", "host:x/key"],
)  # fmt: skip
def test_what_is_no_remote_is_refused(text):
    with pytest.raises(OptionError, match="^remote = "):
        Remote.parse(text)


def test_operands_with_gaps_cannot_be_sent(builder):
    remote = Remote(HERE, 1, "k")
    with pytest.raises(WorkloadError, match="^a: gaps between its rows, which TVM's RPC cannot"):
        RemoteRunner(matmul(8, 8, 8, lda=11), remote, 1, builder)


def test_without_a_tracker_one_line_says_so(runner_of):
    remote = Remote(HERE, free_port(), "k")
    start = time.monotonic()
    with pytest.raises(WorkerError) as caught, runner_of(remote, entries(1)):
        raise AssertionError("there is no tracker")
    assert time.monotonic() - start < 30  # TVM's own session tries for a minute
    assert str(caught.value) == (
        f"remote = {remote}: no tracker answers (Connection refused); start one there: "
        f"python -m tvm.exec.rpc_tracker --port={remote.port} --port-end={remote.port + 1}"
    )


def test_without_a_device_one_line_says_so(network, runner_of):
    remote = network.remote("unheard-of")
    with pytest.raises(WorkerError) as caught, runner_of(remote, entries(1), comeback_s=0.2):
        raise AssertionError("there is no device")
    assert str(caught.value) == (
        f"remote = {remote}: no device of key 'unheard-of' is free; start one on each machine: "
        f"python -m anatune.measure.serve {remote}"
    )


def test_too_few_threads_are_told(network, builder):
    some = entries(1)
    with pytest.raises(WorkerError, match="its server runs 2 of 64 threads; start it with TVM_NUM"):
        RemoteRunner(some[0].plan.workload, network.remote("ours"), 64, builder).__enter__()
    network.has("ours", 2)


def test_a_wave_is_checked_on_both_devices_and_timed_on_one(network, runner_of):
    some = entries(5)
    with runner_of(network.has("ours", 2), some) as runner:
        devices = runner._pool.devices
        assert len(runner.devices) == 2
        outcomes = dict(runner.prepare(some))
        assert {m.outcome for m in outcomes.values()} == {Outcome.OK} and len(outcomes) == 5
        assert all(device.verified for device in devices)
        assert sum(len(device.verified) for device in devices) == 5
        for entry in some:
            assert runner.sample(entry, runner.calibrate(entry, 1e-4)) > 0
            assert runner.pace(entry, 3) > 0
        assert devices[0].verified == {entry.plan for entry in some}
        assert len(devices[1].verified) < 5
        runner.let_go(some[1])
        assert not any(some[1].plan in device.verified for device in devices)
        assert runner.sample(some[0], 3) > 0
    network.has("ours", 2)


def test_renewed_operands_lie_elsewhere_and_hold_the_same(network, runner_of):
    some = entries(1)
    with runner_of(network.has("ours", 2), some, most_devices=1) as runner:
        list(runner.prepare(some))
        ((_, before),) = runner._pool.devices[0]._ready.values()
        runner.renew(some[0])
        ((_, after),) = runner._pool.devices[0]._ready.values()
        assert not {x.data_ptr() for x in before} & {x.data_ptr() for x in after}
        assert [x.numpy().tobytes() for x in before] == [x.numpy().tobytes() for x in after]
        assert runner.sample(some[0], 3) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"of": {"dtype": "bfloat16", "epilogue": "bias+relu"}, "b": Storage.PACKED},
        {"of": {"beta": 1}},
        {"b": Storage.PACKED_AHEAD},
        {"grid": ThreadGrid(rows=2), "mc": 20},
    ],
    ids=["bfloat16", "beta", "packed ahead", "two threads"],
)
def test_every_kind_of_operand_arrives(network, runner_of, options):
    some = entries(1, **options)
    with runner_of(network.has("ours", 2), some, most_devices=1) as runner:
        assert len(runner.devices) == 1
        ((_, measurement),) = runner.prepare(some)
        assert (measurement.outcome, measurement.note) == (Outcome.OK, "")
        assert runner.sample(some[0], 20) > 0


@pytest.mark.parametrize("flush_bytes", [0, 1 << 24])
def test_cold_calls_are_few(network, runner_of, flush_bytes):
    some, cold = entries(1), {"most_devices": 1, "flush_bytes": flush_bytes}
    with runner_of(network.has("ours", 2), some, **cold) as runner:
        list(runner.prepare(some))
        calls = runner.calibrate(some[0], 1e-2)
        assert (calls <= COLD_CALLS) == bool(flush_bytes)
        assert runner.sample(some[0], calls) > 0


def test_code_that_cannot_be_linked_here_is_linked_there(network, runner_of, tmp_path):
    some = entries(1)
    by = Objects(tmp_path)
    with runner_of(network.has("ours", 2), some, by=by, most_devices=1) as runner:
        ((_, measurement),) = runner.prepare(some)
        assert (tmp_path / "kernel.o").exists() and not (tmp_path / "kernel.so").exists()
        assert (measurement.outcome, measurement.note) == (Outcome.OK, "")


def test_a_check_that_outlives_the_run_takes_no_device_again(network, runner_of):
    """As where the time for checking was over before the last answer."""
    some, over, ended = entries(1), threading.Event(), []

    def work():
        assert over.wait(60)
        raise RuntimeError("the session was closed")

    def check():
        with pytest.raises(Lost):
            pool.on(device, work)
        ended.append(device)

    with runner_of(network.has("ours", 2), some, most_devices=1) as runner:
        pool = runner._pool
        device = pool.devices[0]
        under_way = threading.Thread(target=check)
        under_way.start()
        wait_until(device.lock.locked)
        before = device._taken
    over.set()
    under_way.join(60)
    assert ended and device._taken is before


def test_sessions_that_run_out_are_replaced(network, runner_of):
    """Patience for an hour leaves no room in any session: each request has one of its own."""
    some = entries(2)
    with runner_of(network.has("ours", 2), some) as runner:
        list(runner.prepare(some))
        before = [device._taken for device in runner._pool.devices]
        runner._pool._patience_s = 3600.0
        assert all(runner.sample(entry, 3) > 0 for entry in some)
        runner._pool.on(runner._pool.devices[1], lambda: None)
        assert not {id(d._taken) for d in runner._pool.devices} & {id(taken) for taken in before}


def test_a_candidate_that_devices_keep_getting_lost_with_is_held_to_be_the_cause(
    network, runner_of, monkeypatch
):
    some, ran = entries(1), []

    def lost(device, work, needed_s=0.0):
        ran.append(device.address)
        raise Lost(running=len(ran) > 3)  # at first while it waited for its turn

    with runner_of(network.has("ours", 2), some) as runner:
        monkeypatch.setattr(runner._pool, "on", lost)
        ((_, measurement),) = runner.prepare(some)
        assert measurement.outcome is Outcome.RUN_ERROR
        assert measurement.note == f"{MOST_LOSSES} devices were lost while it ran"
        assert len(ran) == 3 + MOST_LOSSES


@needs_gcc
def test_bad_kernels_are_named_and_their_device_is_back(network, runner_of, builder, tmp_path):
    good, *bad = some = entries(5)
    crash, hang, nothing, unloadable = bad
    wrong = {crash: CRASH, hang: HANG, nothing: NOTHING, unloadable: ""}
    by = Faulty(builder, tmp_path, wrong)
    remote = network.has("ours", 2)
    with runner_of(remote, some, by=by, patience_s=SHORT_S) as runner:
        devices = set(runner.devices)
        found = dict(runner.prepare(some))
        outcomes = [found[entry].outcome for entry in some]
        assert outcomes == [
            Outcome.OK, Outcome.RUN_ERROR, Outcome.TIMEOUT, Outcome.WRONG_RESULT,
            Outcome.COMPILE_ERROR,
        ]  # fmt: skip
        assert "its process ended: " in found[crash].note
        assert found[hang].note.endswith(": no end in 3 s")
        assert "not written or not finite" in found[nothing].note
        assert set(runner.devices) == devices
        assert runner.sample(good, 5) > 0
    network.has("ours", 2)


@needs_gcc
def test_a_server_that_a_kernel_stops_is_not_used_any_more(network, runner_of, builder, tmp_path):
    """TVM's own stops with the kernel; the kernel is to blame, not the machine."""
    good, bad = some = entries(2)
    options = {"by": Faulty(builder, tmp_path, {bad: CRASH}), "comeback_s": SHORT_S}
    with runner_of(network.has("frail", 1, plain=True), some, **options) as runner:
        assert [m.outcome for _, m in runner.prepare([good])] == [Outcome.OK]
        (address,) = runner.devices
        ((_, measurement),) = runner.prepare([bad])
        assert measurement.outcome is Outcome.RUN_ERROR
        assert "start it with python -m anatune.measure.serve" in measurement.note
        assert runner.devices == ()
        with pytest.raises(WorkerError, match="no device of key 'frail' is left; start one on"):
            runner.sample(good, 3)
    network.kill(address)


def test_a_device_that_goes_down_is_done_without(network, runner_of):
    some = entries(6)
    with runner_of(network.has("ours", 2), some, comeback_s=SHORT_S) as runner:
        list(runner.prepare(some))
        first, second = runner.devices
        killer = threading.Timer(0.05, lambda: network.kill(first))
        killer.start()
        end = time.monotonic() + 30
        while first in runner.devices:
            assert time.monotonic() < end
            assert all(runner.sample(entry, 100) > 0 for entry in some)
        killer.join()
        assert runner.devices == (second,)
        assert all(runner.sample(entry, 3) > 0 for entry in some)
