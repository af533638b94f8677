"""Many workloads in one call, here one after the other or spread over a Ray cluster (rank 8).

On a cluster each machine tunes one workload at a time and reserves all of its processors for it,
since timing must have the machine to itself; that needs no resource of a name that somebody would
have to agree on. Machines need not share files: what the store knows of a workload goes out with
it, and what was measured comes back with the answer, to be appended here.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anatune.errors import OptionError, last_line, require
from anatune.family import FamilyResult
from anatune.group_result import GroupResult
from anatune.machine import HOST
from anatune.model.joint import is_joint
from anatune.records import Record, Store, open_store
from anatune.result import Result
from anatune.tune import tune

RAY = "ray"

CPU = "CPU"
"""Ray's name for the processors of a machine."""

MEASURING = {"budget", "search", "cache", "remote"}
"""Options of `tune` that do not apply to workloads with dims."""

OF_FAMILIES = {"code_bytes"}
"""Those that apply to no others."""

OF_PRODUCTS = {"search"}
"""Those that apply to single products alone; what remains for others is said in `tune`."""

NO_MACHINE = "no machine of the cluster is left on which it was not tried"

ATTEMPTS = 2
"""Machines on which a workload is tried: one that takes a second machine along is given up."""

LOOK_S = 1.0
"""Time after which machines that joined are looked for, seconds."""

LINGER_S = 10.0
"""Time for which a machine is waited for where none will do, seconds."""

Tell = Callable[[str], None]
Node = dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """What became of one workload: a result, or in one line why there is none.

    Attributes:
        machine: address of the machine that tuned it; "" for this one.
    """

    workload: Any
    result: Result | FamilyResult | GroupResult | None = None
    error: str = ""
    machine: str = ""


def tune_many(
    workloads: Iterable[Any],
    target: Any = HOST,
    *,
    database: Any = None,
    machines: str | None = None,
    progress: Tell = lambda text: None,
    **options: Any,
) -> list[Tuned]:
    """Tune every workload; one that fails does not end the list.

    Args:
        workloads: what `tune` takes, in any number.
        target: as `tune` takes it; "host" is the machine that tunes.
        database: the record store, as `tune` takes it; records of other machines are added to it.
        machines: None: this one. "ray": those of the Ray cluster that this process belongs to, that
            ``RAY_ADDRESS`` names, or that is running here.
        progress: called with a line of text now and then; at the end with one per failure.
        options: passed on to `tune`; those of measuring do not reach workloads with dims, which the
            model alone plans, nor ``code_bytes`` the others, nor ``search`` what is no product.

    Returns:
        one `Tuned` per workload, in their order.

    Raises:
        OptionError: machines that are not known, Ray that is not installed.
    """
    require(machines in (None, RAY), f'machines = {machines!r}: None or "{RAY}"', OptionError)
    wanted = list(workloads)
    store = open_store(database)
    where = _here if machines is None else _on_cluster
    tuned: dict[int, Tuned] = {}
    for place, found in where(wanted, target, store, options, progress):
        tuned[place] = found
        end = f"failed: {found.error}" if found.error else f"{found.result}"
        progress(f"{len(tuned)} of {len(wanted)}: {found.workload}: {end}")
    for place in sorted(tuned):
        if tuned[place].error:
            progress(f"failed: {tuned[place].workload}: {tuned[place].error}")
    return [tuned[place] for place in range(len(wanted))]


def _here(
    workloads: Sequence[Any],
    target: Any,
    store: Store | None,
    options: dict[str, Any],
    progress: Tell,
) -> Iterator[tuple[int, Tuned]]:
    for place, workload in enumerate(workloads):
        database = False if store is None else store
        yield place, _attempt(workload, target, database, {**options, "progress": progress})


def _attempt(workload: Any, target: Any, database: Any, options: dict[str, Any]) -> Tuned:
    no_use = MEASURING if getattr(workload, "dims", ()) else OF_FAMILIES
    no_use = no_use | OF_PRODUCTS if is_joint(workload) else no_use
    useful = {name: value for name, value in options.items() if name not in no_use}
    try:
        return Tuned(workload, tune(workload, target, database=database, **useful))
    except Exception as error:  # whatever it is, the rest of the list is not to blame
        return Tuned(workload, error=last_line(error) or type(error).__name__)


def _there(
    workload: Any, target: Any, known: list[Record] | None, options: dict[str, Any]
) -> tuple[Tuned, list[Record]]:
    """On another machine: tune with the records that came along; those that are new."""
    if known is None:
        return _attempt(workload, target, False, options), []
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        store = Store(Path(folder) / "records.jsonl")
        store.append(known)
        tuned = _attempt(workload, target, store, options)
        return tuned, list(store.all())[len(known) :]


def _on_cluster(
    workloads: Sequence[Any],
    target: Any,
    store: Store | None,
    options: dict[str, Any],
    progress: Tell,
) -> Iterator[tuple[int, Tuned]]:
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="ERROR")
    known = _known(store, workloads)
    try:
        tasks = [(w, target, known and known[str(w)], options) for w in workloads]
        for place, answer, machine in _Cluster(ray, _there).run(tasks, progress):
            if isinstance(answer, Exception):
                told = last_line(answer) or type(answer).__name__
                yield place, Tuned(workloads[place], error=told, machine=machine)
                continue
            tuned, new = answer
            if store is not None:
                store.append(new)
            yield place, replace(tuned, machine=machine)
    finally:
        if ours:
            ray.shutdown()


def _known(store: Store | None, workloads: Sequence[Any]) -> dict[str, list[Record]] | None:
    """What the store holds of each workload, whoever measured it; read once for all."""
    if store is None:
        return None
    known: dict[str, list[Record]] = {str(workload): [] for workload in workloads}
    for record in store.all():
        if record.workload in known:
            known[record.workload].append(record)
    return known


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise OptionError(f"machines = {RAY!r}: needs Ray: pip install ray") from None
    return ray


class _Cluster:
    """Runs a function on the machines of a Ray cluster, one call at a time on each."""

    def __init__(self, ray: Any, function: Callable[..., Any]) -> None:
        self._ray = ray
        self._function = ray.remote(max_retries=0)(function)
        self._running: dict[Any, tuple[int, Node]] = {}  # place, by what will be its answer

    def run(self, tasks: Sequence[tuple[Any, ...]], tell: Tell) -> Iterator[tuple[int, Any, str]]:
        """Place, answer and machine of each task, as they come; an error of Ray is an answer."""
        waiting = deque(range(len(tasks)))
        tried: dict[int, set[str]] = {place: set() for place in waiting}
        idle_since = time.monotonic()
        try:
            while waiting or self._running:
                for place, node in self._placed(waiting, tried):
                    self._start(place, node, tasks[place])
                if self._running:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > LINGER_S:
                    yield from ((place, RuntimeError(NO_MACHINE), "") for place in waiting)
                    return
                for place, answer, node in self._answers():
                    tried[place].add(node["NodeID"])
                    lost = isinstance(answer, self._ray.exceptions.RayError)
                    if lost and len(tried[place]) < ATTEMPTS:
                        tell(f"{node['NodeManagerAddress']}: {last_line(answer)}; trying another")
                        waiting.append(place)
                    else:
                        yield place, answer, node["NodeManagerAddress"]
        finally:
            for answer in self._running:
                self._ray.cancel(answer, force=True)

    def _placed(
        self, waiting: deque[int], tried: dict[int, set[str]]
    ) -> Iterator[tuple[int, Node]]:
        """What waits, taken out, with an idle machine each on which it was not tried."""
        busy = {node["NodeID"] for _, node in self._running.values()}
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        idle = [n for n in nodes if n["Resources"].get(CPU) and n["NodeID"] not in busy]
        for node in idle:
            place = next((p for p in waiting if node["NodeID"] not in tried[p]), None)
            if place is not None:
                waiting.remove(place)
                yield place, node

    def _start(self, place: int, node: Node, task: tuple[Any, ...]) -> None:
        there = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node["NodeID"], soft=False
        )
        whole = self._function.options(num_cpus=node["Resources"][CPU], scheduling_strategy=there)
        self._running[whole.remote(*task)] = place, node

    def _answers(self) -> Iterator[tuple[int, Any, Node]]:
        """Those that came within `LOOK_S`."""
        if not self._running:
            time.sleep(LOOK_S)
            return
        done, _ = self._ray.wait(list(self._running), timeout=LOOK_S)
        for answer in done:
            place, node = self._running.pop(answer)
            try:
                told = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                told = error
            yield place, told, node
