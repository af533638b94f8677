"""Which row of the micro-architecture table describes a core: by part, then by LLVM's name."""

from __future__ import annotations

from anatune.hwprofile.detect import uarch_arm, uarch_x86
from anatune.hwprofile.detect.facts import Part
from anatune.hwprofile.detect.uarch import Uarch

ROWS = (*uarch_x86.ROWS, *uarch_arm.ROWS)
EFFICIENCY_CORES = {**uarch_x86.EFFICIENCY_CORES, **uarch_arm.EFFICIENCY_CORES}


def find(part: Part, mcpu: str, role: str | None) -> Uarch | None:
    """The row of one kind of core; ``mcpu`` names a chip, so its small cores need ``role``."""
    by_part = next((row for row in ROWS if part in row.parts), None)
    if role == "efficiency" and part.arm_part is None:
        chip = mcpu if by_part is None else by_part.mcpu[0]
        return EFFICIENCY_CORES.get(mcpu) or EFFICIENCY_CORES.get(chip)
    if by_part is not None or role == "efficiency":
        return by_part
    return next((row for row in ROWS if mcpu in row.mcpu), None)
