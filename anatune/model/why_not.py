"""Why a tile, an order, an arithmetic or a storage is not the plan's: one line (rank 4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from anatune.errors import IllegalPlan, OptionError, require
from anatune.hwprofile.profile import Profile
from anatune.model.candidates import Ranked, best
from anatune.model.estimate import predict
from anatune.model.registers import check_tile
from anatune.model.shapes import Shape
from anatune.plan import ARITHMETIC, CodeTarget, GemmPlan, MicroTile, Order, Storage, arithmetics
from anatune.workload import Matmul
from anatune.workload.dtypes import ELEMENT_BYTES

WHY_SLOWER = (
    "{choice}: legal, predicted {factor:.2f} times the time of {best}: {term} {cycles:.3g} against"
    " {best_cycles:.3g} cycles; at best: {plan}"
)
WHY_LEFT_OUT = (
    "{choice}: legal, predicted {factor:.2f} times the time of {best}: not among the few that are"
    " looked at closely; at best: {plan}"
)
WHY_CHOSEN = "{choice}: it is the model's choice"
WHY_TOO_LARGE = "{choice}: larger than the product {m}x{n}x{k}, or no cache keeps its panels"
WHY_LACKING = "{choice}: needs {features}, which the target lacks"
WHY_ISA = "{choice}: instructions of {isa}, the target is {target}"
WHY_SHORTER = "{choice}: {other} does the same in fewer instructions"

CHOICES = (
    "a tile such as '8x48', an order such as 'C3B2A0', an arithmetic such as 'int16 pairs', "
    "or a storage such as 'b=in_place'"
)

TILE = re.compile(r"\s*(\d{1,4})\s*[xX]\s*(\d{1,4})\s*(?:[xX]\s*(\d{1,4})\s*)?", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """What a plan has or has not: fields of it, and how they are called."""

    name: str
    fields: dict[str, Any]

    def of_shape(self, shape: Shape) -> bool:
        """Whether plans of ``shape`` may have it."""
        known = {"arithmetic": shape.arithmetic.name, "order": shape.order, "tile": shape.tile}
        return all(known[f] == value for f, value in self.fields.items() if f in known)

    def of_plan(self, plan: GemmPlan) -> bool:
        return all(getattr(plan, field) == value for field, value in self.fields.items())


def why_not(profile: Profile, workload: Matmul, choice: str, threads: int | None = None) -> str:
    """One line: why ``choice`` is not the plan's.

    Args:
        choice: a register tile as plans print it, such as "8x48", or "1x32x13" where A or B stays
            in registers; an order; the name of an arithmetic; or "a=" or "b=" and a storage.

    Raises:
        OptionError: text that is none of these.
    """
    asked = _parse(choice, profile, workload)
    refused = _refused_by_machine(profile, workload, asked)
    if refused:
        return refused
    winner, estimate = best(profile, workload, threads)[0]
    if asked.of_plan(winner):
        return WHY_CHOSEN.format(choice=asked.name)
    found = _best_with(profile, workload, asked, threads)
    if found is None and "tile" in asked.fields:
        w = workload
        return WHY_TOO_LARGE.format(choice=asked.name, m=w.m, n=w.n, k=w.k)
    if found is None:
        try:
            plan = replace(winner, **asked.fields)
        except IllegalPlan as error:
            return f"{asked.name}: {str(error).split(': ', 1)[-1]}"
        found = plan, predict(profile, plan)
    return _slower(asked, found, (winner, estimate))


def _slower(asked: Choice, found: Ranked, winner: Ranked) -> str:
    theirs, mine = dict(found[1].terms), dict(winner[1].terms)
    term = max(theirs, key=lambda name: theirs[name] - mine.get(name, 0.0))
    factor = found[1].seconds / winner[1].seconds
    return (WHY_SLOWER if factor >= 1 else WHY_LEFT_OUT).format(
        choice=asked.name,
        best=winner[0].tile,
        factor=factor,
        term=term,
        cycles=theirs[term],
        best_cycles=mine.get(term, 0.0),
        plan=found[0],
    )


def _best_with(
    profile: Profile, workload: Matmul, asked: Choice, threads: int | None
) -> Ranked | None:
    """The best plan that has it, looked for in every arithmetic and order; None: there is none."""
    target = CodeTarget.of(profile.target)
    found = []
    for arithmetic, order in product(arithmetics(workload, target), Order):

        def keep(shape: Shape) -> bool:
            same = shape.arithmetic == arithmetic and shape.order is order
            return same and asked.of_shape(shape)

        found += _with(profile, workload, asked, threads, keep)[:1]
    return min(found, key=lambda ranked: ranked[1].seconds, default=None)


def _with(
    profile: Profile,
    workload: Matmul,
    asked: Choice,
    threads: int | None,
    keep: Callable[[Shape], bool],
) -> list[Ranked]:
    try:
        ranked = best(profile, workload, threads, keep=keep)
    except IllegalPlan:  # no shape, or none that a cache keeps
        return []
    return [(plan, estimate) for plan, estimate in ranked if asked.of_plan(plan)]


def _refused_by_machine(profile: Profile, workload: Matmul, asked: Choice) -> str:
    """Why no plan on this machine can have it, else ""."""
    if "tile" in asked.fields:
        return _why_not_tile(profile, workload, asked.fields["tile"])
    name = asked.fields.get("arithmetic")
    if name is None:
        return ""
    target, arithmetic = CodeTarget.of(profile.target), ARITHMETIC[name]
    if not arithmetic.computes(workload):
        return f"{name}: does not compute {workload}"
    if arithmetic.isa not in (None, target.isa):
        return WHY_ISA.format(choice=name, isa=arithmetic.isa, target=target.isa)
    if not arithmetic.runs_on(target):
        features = " or ".join(arithmetic.any_feature)
        return WHY_LACKING.format(choice=name, features=features)
    able = arithmetics(workload, target)
    same = (a.name for a in able if (a.a, a.b) == (arithmetic.a, arithmetic.b))
    other = next(same, name)
    return "" if arithmetic in able else WHY_SHORTER.format(choice=name, other=other)


def _why_not_tile(profile: Profile, workload: Matmul, tile: MicroTile) -> str:
    """Why no register file of this machine holds it, with C in registers or, given kr, A or B."""
    orders = (Order.B3A2C0,) if tile.kr == 1 else (Order.B3C2A0, Order.C3A2B0)
    refusals = []
    for order in orders:
        try:
            check_tile(tile, profile.core, ELEMENT_BYTES[workload.accumulator], order)
        except IllegalPlan as error:
            refusals.append(str(error))
    return refusals[0] if len(refusals) == len(orders) else ""


def _parse(text: str, profile: Profile, workload: Matmul) -> Choice:
    known = isinstance(text, str)
    words = text.strip() if known else ""
    tile = TILE.fullmatch(words)
    if tile:
        mr, nr, kr = (int(number) for number in tile.groups("1"))
        lanes = profile.core.lanes(ELEMENT_BYTES[workload.accumulator])
        shape = MicroTile(mr=mr, nr=nr, lanes=lanes, kr=kr)
        return Choice(f"{shape} tile", {"tile": shape})
    if words.upper() in Order.__members__:
        return Choice(words.upper(), {"order": Order[words.upper()]})
    if words in ARITHMETIC:
        return Choice(words, {"arithmetic": words})
    operand, _, storage = words.replace(" ", "").partition("=")
    named = operand.lower() in ("a", "b") and storage in [item.value for item in Storage]
    require(named, f"choice = {text!r}: {CHOICES}", OptionError)
    return Choice(f"{operand.lower()}={storage}", {operand.lower(): Storage(storage)})
