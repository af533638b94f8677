"""The plan of several workloads together: who computes which piece of what (rank 3)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from anatune.errors import IllegalPlan, require
from anatune.plan.gemm import Estimate, GemmPlan
from anatune.plan.maps import MapPlan
from anatune.plan.nouns import CodeTarget, Storage, ThreadGrid
from anatune.plan.plain import json_fields
from anatune.units import TIME
from anatune.workload.fused import Fused

MemberPlan = GemmPlan | MapPlan

ALONG = ("m", "n", "batch")


class Decision(str, Enum):
    """What becomes of workloads that may be computed together."""

    FUSED = "fused"  # one parallel region, divided by predicted cost
    SIDE_BY_SIDE = "side_by_side"  # one region, each workload on processors of its own
    ONE_BY_ONE = "one_by_one"  # a region each, one after the other


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Units ``start`` to ``stop`` of one member."""

    member: int
    start: int
    stop: int

    @property
    def units(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Member:
    """One workload's plan, and along what it is cut: "m", "n" or "batch" of a product.

    The units of a product are register tiles along that dimension, or products of a batch; those of
    other workloads are what `MapPlan` says, and ``along`` is "".
    """

    plan: MemberPlan
    along: str = ""

    def __post_init__(self) -> None:
        product = isinstance(self.plan, GemmPlan)
        known = ALONG if product else ("",)
        why = f"along = {self.along!r}: one of {', '.join(map(repr, known))}"
        require(self.along in known, why)

    @property
    def unit(self) -> int:
        """Rows, columns or products of a unit; 1 of what is no matrix product."""
        if not isinstance(self.plan, GemmPlan) or self.along == "batch":
            return 1
        return self.plan.unit(self.along)

    @property
    def extent(self) -> int:
        """What there is along the dimension of the cut."""
        if not isinstance(self.plan, GemmPlan):
            return self.plan.units
        w = self.plan.workload
        return w.batch if self.along == "batch" else w.along(self.along)

    @property
    def units(self) -> int:
        return -(-self.extent // self.unit)


@dataclass(frozen=True, kw_only=True)
class FusionPlan:
    """Several workloads as one kernel.

    ``shares`` are the pieces of each worker (a thread of a CPU) in the order in which it computes
    them; together they hold each unit of each member once. Workers wait for each other only at the
    end. There are no shares where members run one after the other, each as its own plan says.
    """

    workload: Fused
    decision: Decision
    members: tuple[Member, ...]
    shares: tuple[tuple[Piece, ...], ...] = ()

    def __post_init__(self) -> None:
        workloads = tuple(member.plan.workload for member in self.members)
        why = "members: not the workload's, one plan for each"
        require(workloads == self.workload.members, why)
        if self.decision is Decision.ONE_BY_ONE:
            require(not self.shares, "shares: none where members run one after the other")
            return
        for number, member in enumerate(self.members):
            self._check_member(number, member)

    def _check_member(self, number: int, member: Member) -> None:
        plan, where = member.plan, f"members[{number}]"
        require(plan.threads == 1, f"{where}: {plan.threads} threads; shares say who computes what")
        if isinstance(plan, GemmPlan):
            require(_cuttable(plan, member.along), f"{where}: b = {plan.b.value!r}: not of a piece")
        pieces = [p for share in self.shares for p in share if p.member == number]
        done = 0
        for piece in sorted(pieces, key=lambda p: p.start):
            if piece.start != done or piece.stop <= piece.start:
                raise IllegalPlan(f"shares: {piece}: the units of {where} before it end at {done}")
            done = piece.stop
        require(done == member.units, f"shares: {done} of {member.units} units of {where}")

    @property
    def plans(self) -> tuple[MemberPlan, ...]:
        """Those of its members."""
        return tuple(member.plan for member in self.members)

    @property
    def target(self) -> CodeTarget:
        return self.plans[0].target

    @property
    def threads(self) -> int:
        return len(self.shares) or max(plan.threads for plan in self.plans)

    @property
    def decided(self) -> str:
        """The decision, for people."""
        return self.decision.value

    def to_json(self) -> str:
        """The plan as one line of JSON that `from_json` reads back."""
        fields: dict[str, Any] = {
            "kind": "fusion",
            "decision": self.decision.value,
            "members": [[json.loads(m.plan.to_json()), m.along] for m in self.members],
            "shares": [[list(asdict(p).values()) for p in share] for share in self.shares],
        }
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FusionPlan:
        """The plan that `to_json` wrote. Raises IllegalPlan as `GemmPlan.from_json` does."""
        fields = json_fields(text, "fusion")
        try:
            members = tuple(
                Member(plan=member_plan(plan), along=along) for plan, along in fields["members"]
            )
            shares = tuple(
                tuple(Piece(member=m, start=a, stop=b) for m, a, b in share)
                for share in fields["shares"]
            )
            workload = Fused(tuple(m.plan.workload for m in members))
            decision = Decision(fields["decision"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, IllegalPlan):
                raise
            raise IllegalPlan(f"plan: {error!r}; give what to_json returned") from None
        return cls(workload=workload, decision=decision, members=members, shares=shares)

    def __str__(self) -> str:
        how = self.decision.value.replace("_", " ")
        return f"{how}: " + "; ".join(str(member.plan) for member in self.members)


@dataclass(frozen=True, kw_only=True)
class FusionEstimate(Estimate):
    """What the model predicts of a fusion plan.

    ``terms`` are the cycles of members, all workers together. ``workers`` are cycles of each worker
    (of one region; empty where there are several); ``members`` those of each member, in their
    order, with the term that binds it.
    """

    workers: tuple[float, ...]
    members: tuple[tuple[float, str], ...]
    barriers: int

    def __str__(self) -> str:
        return f"{TIME.show(self.seconds)}, {self.barriers} barrier(s)"


def member_plan(fields: dict[str, Any]) -> MemberPlan:
    """A plan from the plain values of its JSON, by its kind."""
    kinds: dict[str, type[MemberPlan]] = {"gemm": GemmPlan, "map": MapPlan}
    kind = fields.get("kind", "")
    require(kind in kinds, f"members: kind = {kind!r}: 'gemm' or 'map'")
    return kinds[kind].from_json(json.dumps(fields))


def alone(plan: GemmPlan, along: str) -> GemmPlan:
    """``plan`` for one worker, cut along ``along``: no grid, and B packed as pieces need it."""
    return replace(
        plan, grid=ThreadGrid(), b=plan.b if _cuttable(plan, along) else Storage.PACKED
    )


def _cuttable(plan: GemmPlan, along: str) -> bool:
    """Whether pieces find B as they need it: who packs on first use must have the first rows."""
    if plan.b is Storage.PACKED_ON_FIRST_USE:
        return along != "m"
    return plan.b is not Storage.PACKED_AHEAD
