"""Registering somebody else's micro-kernel: compile, verify, measure, have it compete (rank 8)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from anatune.errors import OptionError, require
from anatune.hwprofile import Profile
from anatune.machine import HOST, cpu_only
from anatune.plan import CodeTarget, ExternalKernel, KernelCost, ThroughputModel
from anatune.plan.registered import remember

SYMBOL = re.compile(r"[A-Za-z_]\w*", re.ASCII)

TO_BE_MEASURED = ThroughputModel(cycles_per_step=1.0).cost
"""Stands in until a kernel is timed."""


def register_microkernel(
    *,
    name: str,
    source: str | os.PathLike[str],
    symbol: str,
    mr: int,
    nr: int,
    dtype: str = "float32",
    isa: str | None = None,
    features: Sequence[str] | None = None,
    cost: Any = None,
    cost_in: str = "cycles",
    reads_ahead_steps: int = 0,
    flags: Sequence[str] = (),
    link: Sequence[str | os.PathLike[str]] = (),
    target: Any = HOST,
) -> ExternalKernel:
    """Verify a micro-kernel and have it compete with generated ones in plans for such machines.

    Its function is ``void symbol(int64_t k, const T *a, const T *b, T *c, int64_t ldc,
    int32_t accumulate)``: a is a packed panel [k][mr], b one [k][nr], c a tile of mr rows, ldc
    elements apart; c becomes a b, or with accumulate c + a b. See `anatune.plan.external`.

    Args:
        name: what plans and reasons call it; a kernel of the same name is replaced.
        source: a text in C or LLVM's language, or the path of a .c, .ll, .o or .a file.
        dtype: "float32", "float64" or "int32", of panels and tile.
        isa: instruction set as profiles name it; None: this machine's, on which it must run.
        features: LLVM features that a machine must have; None: all that ``target`` has.
        cost: a `ThroughputModel`; a table {steps along k: ``cost_in`` "cycles" or "seconds"} of
            calls on data in L1; None: measured now.
        reads_ahead_steps: rows that it reads beyond the end of a panel, without using them.
        flags: further flags of the C compiler.
        link: objects and archives that its code needs; it takes of them what it calls.
        target: this machine as plans know it, whose clock turns seconds into cycles.

    Raises:
        OptionError, IllegalPlan: an argument that cannot be used, named.
        BuildError: no compiler, or what it said.
        VerificationError: a kernel that computes something else, touches what is not its own, or
            does not run.
    """
    from anatune.codegen.external import keep_code
    from anatune.codegen.foreign import code_of
    from anatune.measure.external import on_trial

    profile = cpu_only(target)
    machine = CodeTarget.of(profile.target)
    _check_here(name, symbol, isa or machine.isa, machine, features)
    needed = tuple(machine.features if features is None else sorted(features))
    code, form = code_of(source, symbol, needed, flags, link)
    given = None if cost is None else _cost(cost, cost_in, profile)
    kernel = ExternalKernel(
        name=name, symbol=symbol, mr=mr, nr=nr, dtype=dtype, isa=machine.isa, features=needed,
        form=form, code_sha256=keep_code(code, form), cost=given or TO_BE_MEASURED,
        reads_ahead_steps=reads_ahead_steps or None,
    )  # fmt: skip
    with on_trial(kernel, machine) as trial:
        trial.verify()
        if given is None:
            l1_bytes = profile.core.caches[0].size_bytes
            kernel = replace(kernel, cost=trial.measure(_hz(profile), l1_bytes))
    remember(kernel)
    return kernel


def _check_here(
    name: str, symbol: str, isa: str, machine: CodeTarget, features: Sequence[str] | None
) -> None:
    """Raise OptionError for what could not be verified on this machine."""
    from anatune.codegen.target import runs_here

    require(bool(name) and name.isprintable(), f"name = {name!r}: a text", OptionError)
    why = f"symbol = {symbol!r}: the name of a C function"
    require(SYMBOL.fullmatch(symbol), why, OptionError)
    here = f"kernels are verified where they run: register it on {isa}"
    why = f"isa = {isa!r}: this machine is {machine.isa}; {here}"
    require(isa == machine.isa and runs_here(machine), why, OptionError)
    lacking = sorted(set(features or ()) - set(machine.features))
    why = f"features: this machine lacks {', '.join(lacking)}; kernels are verified where they run"
    require(not lacking, why, OptionError)


def _cost(cost: Any, unit: str, profile: Profile) -> KernelCost:
    why = f"cost_in = {unit!r}: 'cycles' or 'seconds'"
    require(unit in ("cycles", "seconds"), why, OptionError)
    if isinstance(cost, ThroughputModel):
        return cost.cost
    is_table = isinstance(cost, Mapping) and len(cost) > 0
    why = f"cost = {cost!r}: a ThroughputModel, a table of steps and {unit}, or None"
    require(is_table, why, OptionError)
    factor = _hz(profile) if unit == "seconds" else 1.0
    points = sorted((int(k), float(taken) * factor) for k, taken in cost.items())
    steps, cycles = zip(*points)
    return KernelCost(steps=steps, cycles=cycles, origin="the table given")


def _hz(profile: Profile) -> float:
    clock = profile.core.clock_one_hz
    why = f"target = {profile.name!r}: its clock is not known; give cost in cycles"
    require(clock, why, OptionError)
    return float(clock or 0.0)
