"""What a constant B costs and saves: packed once, against B that each call is given (rank 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

from anatune.hwprofile.profile import Profile
from anatune.model.candidates import best
from anatune.model.copying import packing_b_cycles
from anatune.model.estimate import predict
from anatune.model.machine import machine
from anatune.model.traffic import Extents
from anatune.plan import GemmPlan, Storage
from anatune.units import CAPACITY, TIME
from anatune.workload.dtypes import ELEMENT_BYTES


@dataclass(frozen=True, kw_only=True)
class PackedAhead:
    """``packing_s`` is paid once, ``call_s`` by every call, ``given_s`` by a call that is given B.

    All is modelled, so that the saving compares like with like; `measured` puts in what packing
    took.
    """

    packed_bytes: int  # 0: B is read in place
    packing_s: float
    call_s: float
    given_s: float  # best plan of the same workload with a B that changes
    packing_is_measured: bool = False

    @property
    def pays_after_calls(self) -> int | None:
        """Calls after which packing has paid; None where it does not."""
        saved_s = self.given_s - self.call_s
        if not self.packed_bytes:
            return 0
        return ceil(self.packing_s / saved_s) if saved_s > 0 else None

    def measured(self, packing_s: float) -> PackedAhead:
        """The same with the seconds that packing took; as it is where nothing is packed."""
        if not self.packed_bytes:
            return self
        return replace(self, packing_s=packing_s, packing_is_measured=True)

    def __str__(self) -> str:
        calls_s = TIME.show(self.call_s), TIME.show(self.given_s)
        given = f"a call is predicted to take {calls_s[0]}, {calls_s[1]} if it is given B"
        if not self.packed_bytes:
            return f"read in place, nothing is packed; {given}"
        how = "measured" if self.packing_is_measured else "modelled"
        calls = self.pays_after_calls
        pays = "packing does not pay" if calls is None else f"packing pays after {calls} call(s)"
        return (
            f"{CAPACITY.show(self.packed_bytes)} packed in {TIME.show(self.packing_s)} ({how}); "
            f"{given}; {pays}"
        )


def packed_ahead(profile: Profile, plan: GemmPlan) -> PackedAhead:
    """For a plan of a constant B; a call that is given B has as many threads as the plan."""
    changing = replace(plan.workload, constant_b=False)
    packs = plan.b is Storage.PACKED_AHEAD
    size = prod(plan.packed_ahead_shape) * ELEMENT_BYTES[plan.multiply.b] if packs else 0
    return PackedAhead(
        packed_bytes=size,
        packing_s=_packing_s(profile, plan, size) if packs else 0.0,
        call_s=predict(profile, plan).seconds,
        given_s=best(profile, changing, plan.grid.threads)[0][1].seconds,
    )


def _packing_s(profile: Profile, plan: GemmPlan, packed_bytes: int) -> float:
    """As where each call packs B, but once, all of it, into memory of that size."""
    here, x = machine(profile, plan.grid.threads), Extents.of(plan)
    cycles = packing_b_cycles(plan, x, packed_bytes, here)
    products = 1 if plan.workload.broadcast_b else x.products
    return (products * cycles + here.barrier_cycles) / here.hz
