"""One row of dynamic.py: the family's kernel, kernels for its members and libraries, over a range.

Everybody has one process for the whole row, which goes from member to member. Libraries' settings
first meet in heats at some values; those near the best at any of them run at every value.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import common
from dynamic_rows import FAMILY, STATIC, TVM_DYNAMIC, Case, Line, Point, Row, Step
from dynamic_values import heat_values, neighbours, spread

import anatune as at
from anatune.errors import (
    AnatuneError,
    BuildError,
    VerificationError,
    WorkerError,
    require,
)
from anatune.hwprofile.kept import CACHE_ENVIRONMENT
from anatune.measure.worker import Worker
from anatune.plan import DynamicPlan, Plan
from anatune.records import Kernels
from anatune.report.compare import HEAT_ROUNDS, HOPELESS
from anatune.report.competitors.entries import PATIENCE_S, Choice, Request
from anatune.report.competitors.registry import find
from anatune.report.turns import Entrant, take_turns

LIBRARIES = ("numpy", "mkl", "blis", "torch", "onnxruntime")
"""All that compute products on a CPU; TVM's untuned loops run as `TVM_DYNAMIC` where asked for."""

NEAR = 1.25
"""Times the best library's time: a library within it in some heat runs at all values."""

ALIKE = 1.03
"""Times another setting's time: closer settings of a library are not told apart."""

CHECKED_FLOPS = 5e8
"""Largest member for which every setting of every library is checked: the reference takes longer
than the heat beyond."""

EXCESS_SEEN_TWICE = 0.08
"""A step that is further off is timed anew in other memory, and the second time counts."""

BUILD = """
import json, time, anatune as at
{dim} = at.Dim({dim!r}, {low}, {high})
start = time.perf_counter()
result = at.tune(at.matmul({m}, {n}, {k}, batch={batch}), threads={threads})
print(json.dumps([time.perf_counter() - start, result.code_bytes]))
"""
"""What a user writes, timed."""


Times = dict[str, float]
"""Seconds by the name of a library's setting."""


@dataclass(frozen=True)
class Terms:
    """What holds for all rows of a run."""

    run: str
    budget: Any = None  # of the tuning of static kernels
    points: int = 64
    rounds: int = 7
    libraries: Sequence[str] = LIBRARIES
    dynamic_tvm: Sequence[str] = ()  # names of lines for which TVM's own symbolic code is run
    tell: Callable[[str], None] = lambda text: None


def measure(case: Case, terms: Terms) -> Row:
    """The row of a case. A failure becomes its note; what was found before stays."""
    row = Row(case, terms.run, str(terms.budget))
    start = time.monotonic()
    try:
        terms.tell("building in a new process")
        row.build_s, row.code_bytes = timed_build(case)
        family = at.tune(case.line.family, threads=case.threads)
        row.cuts = [(region.intervals[0].low, region.variant) for region in family.plan.regions]
        row.plans = [str(variant) for variant in family.plan.variants]
        with ExitStack() as stack:
            field = _Field(case, family.plan, terms, row, stack)
            field.tune_statics(spread(case.line, family.plan, terms.points))
            field.hold_heats()
            field.time_points()
            field.time_steps(neighbours(case.line, family.plan))
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    row.wall_s = time.monotonic() - start
    return row


def timed_build(case: Case) -> tuple[float, int]:
    """Seconds of `tune` in a process that has imported anatune and finds no kernels; their size.

    Raises:
        BuildError: it failed.
    """
    line = case.line
    fields = {name: getattr(line, name) for name in ("dim", "low", "high", "m", "n", "k", "batch")}
    code = BUILD.format(threads=case.threads, **fields)
    with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
        common.keep_probed_hosts(Path(folder))
        root = str(Path(at.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, CACHE_ENVIRONMENT: folder, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    require(done.returncode == 0, f"{line}: in a new process: {said}", BuildError)
    seconds, code_bytes = json.loads(done.stdout)
    return seconds, code_bytes


def worth_running(heats: Sequence[Times], libraries: dict[str, str]) -> set[str]:
    """The settings that are to run at all values: of each library that was near the best in some
    heat, the one that is fastest on the whole, and others where they beat it.

    Args:
        libraries: the library of each setting.
    """
    best = [min(heat.values(), default=math.inf) for heat in heats]
    kept: set[str] = set()
    for library in set(libraries.values()):
        own = [{n: s for n, s in heat.items() if libraries[n] == library} for heat in heats]
        if not any(o and min(o.values()) <= NEAR * b for o, b in zip(own, best)):
            continue
        chosen = {min(set().union(*own), key=partial(_on_the_whole, own))}
        for times in own:
            fastest = min(times, key=lambda name: times[name], default=None)
            at_hand = min((times[n] for n in chosen if n in times), default=math.inf)
            if fastest is not None and times[fastest] * ALIKE < at_hand:
                chosen.add(fastest)
        kept |= chosen
    return kept


def _on_the_whole(heats: Sequence[Times], name: str) -> tuple[int, float]:
    """Smallest for the setting that was timed most often, and of these for the fastest."""
    logs = [math.log(heat[name]) for heat in heats if name in heat]
    return -len(logs), sum(logs)


@dataclass
class _Rival:
    """A library with one setting, in a process that goes from member to member."""

    choice: Choice
    worker: Worker
    name: str = ""
    note: str = ""

    def entrant(self, member: at.Matmul, check: bool = False) -> Entrant:
        entrant = Entrant(self.choice.library, self.choice.setting, end=self.worker.kill)
        try:
            self._call("take", member)
            wrong = self._call("check") if check else ""
            if not self.name:
                self.name = f"{self._call('library')}, {self.choice.setting}"
        except WorkerError as error:
            wrong = str(error)
        if wrong:
            self.note = entrant.note = wrong
            return entrant
        entrant.batch = lambda calls: float(self._call("sample", calls))
        return entrant

    def _call(self, method: str, *arguments: Any) -> Any:
        return self.worker.call(method, *arguments, timeout_s=PATIENCE_S)


class _Field:
    """All who take part in a row, which takes what they find."""

    def __init__(
        self, case: Case, plan: DynamicPlan, terms: Terms, row: Row, stack: ExitStack
    ) -> None:
        self._case, self._plan, self._terms, self._row = case, plan, terms, row
        self._stack = stack
        self._kernels = Kernels()
        self._family = self._path(plan)
        common.workers_look_here()
        self._ours = self._worker("dynamic_served:OurMembers")
        self._rivals: list[_Rival] = []
        self._loops: _Rival | None = None
        self._statics: dict[int, Plan] = {}

    @property
    def _line(self) -> Line:
        return self._case.line

    def tune_statics(self, values: Sequence[int]) -> None:
        """A kernel for each of these members. Raises what `tune` raises."""
        for place, value in enumerate(values, 1):
            self._terms.tell(f"tuning {self._line.dim} = {value}, {place} of {len(values)}")
            member, budget = self._line.member(value), self._terms.budget
            found = at.tune(member, threads=self._case.threads, budget=budget)
            self._statics[value] = found.plan

    def hold_heats(self) -> None:
        """Find the libraries' settings that are worth running."""
        line, terms = self._line, self._terms
        largest = line.member(line.high)
        request = Request(
            workload=largest, target=self._plan.target, threads=self._case.threads
        )
        found, self._row.left_out = find(request, terms.libraries)
        every = [self._rival(choice) for choices in found.values() for choice in choices]
        heats: list[Times] = []
        for value in heat_values(line):
            terms.tell(f"heats: {len(every)} settings of libraries, {line.dim} = {value}")
            member = line.member(value)
            check = member.flops <= CHECKED_FLOPS
            running = {r.name: e for r in every if (e := r.entrant(member, check)).batch}
            take_turns(list(running.values()), HEAT_ROUNDS, common.BATCH_S, patience=HOPELESS)
            heats.append({name: e.seconds for name, e in running.items() if e.seconds})
        libraries = {rival.name: rival.choice.library for rival in every if rival.name}
        kept = worth_running(heats, libraries)
        self._rivals = [rival for rival in every if rival.name in kept]
        for rival in every:
            if rival.name not in kept:
                rival.worker.kill()
            if rival.note:
                self._row.left_out[rival.name or rival.choice.library] = rival.note
        if line.name in terms.dynamic_tvm:
            self._loops = self._tvm_dynamic(request)

    def time_points(self) -> None:
        """Everybody at every value for which there is a static kernel."""
        values = sorted(self._statics)
        for place, value in enumerate(values, 1):
            self._terms.tell(f"{self._line.dim} = {value}, {place} of {len(values)}")
            self._row.points.append(self._point(value))

    def time_steps(self, steps: dict[int, str]) -> None:
        """The family's kernel at some values and at the next one."""
        self._terms.tell(f"steps from one value to the next: {len(steps)}")
        for value, why in sorted(steps.items()):
            step = self._step(value, why)
            if step.excess > EXCESS_SEEN_TWICE:
                step = self._step(value, why)
            self._row.steps.append(step)

    def _point(self, value: int) -> Point:
        member, plan = self._line.member(value), self._statics[value]
        self._ours_call("clear")
        wrong = self._ours_call("check", self._family, member)
        require(not wrong, f"{self._line.dim} = {value}: {wrong}", VerificationError)
        entrants = {
            FAMILY: self._our_entrant(self._family, member),
            STATIC: self._our_entrant(self._path(plan), member),
            **{rival.name: rival.entrant(member) for rival in self._rivals},
        }
        if self._loops is not None and value in heat_values(self._line):
            entrants[TVM_DYNAMIC] = self._loops.entrant(member, True)
        playing = list(entrants.values())
        take_turns(playing, self._terms.rounds, common.BATCH_S, patience=HOPELESS)
        return Point(
            value, member.flops, str(plan),
            {name: tuple(entrant.samples) for name, entrant in entrants.items()},
            {name: entrant.note for name, entrant in entrants.items() if entrant.note},
        )  # fmt: skip

    def _step(self, value: int, why: str) -> Step:
        self._ours_call("clear")
        members = [self._line.member(v) for v in (value, value + 1)]
        first, second = (self._our_entrant(self._family, member) for member in members)
        take_turns([first, second], self._terms.rounds, common.BATCH_S)
        require(bool(first.samples and second.samples), first.note or second.note, WorkerError)
        flops = members[0].flops, members[1].flops
        return Step(value, why, flops, (tuple(first.samples), tuple(second.samples)))

    def _our_entrant(self, path: str, member: at.Matmul) -> Entrant:
        return Entrant("anatune", "", lambda n: float(self._ours_call("mean", path, member, n)))

    def _ours_call(self, method: str, *arguments: Any) -> Any:
        return self._ours.call(method, *arguments, timeout_s=PATIENCE_S)

    def _path(self, plan: Plan) -> str:
        """Where `tune` has put the kernel."""
        path = self._kernels.get(plan)
        require(path is not None, f"{plan}: built, but not in {self._kernels.folder}", BuildError)
        return str(path)

    def _rival(self, choice: Choice) -> _Rival:
        how = (choice.factory, self._case.threads, dict(choice.environment), choice.how)
        return _Rival(choice, self._worker("dynamic_served:LibraryMembers", *how))

    def _tvm_dynamic(self, request: Request) -> _Rival:
        choice = Choice(
            library="tvm", setting="symbolic extents, untuned", workload=request.workload,
            factory="dynamic_served:TvmDynamic", how=(request.target, self._line.family),
        )  # fmt: skip
        return replace(self._rival(choice), name=TVM_DYNAMIC)

    def _worker(self, factory: str, *arguments: Any) -> Worker:
        return self._stack.enter_context(Worker(factory, arguments, self._case.threads))
