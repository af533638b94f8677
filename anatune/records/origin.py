"""Who measured: versions, machine and device, which a record must share to count here (rank 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

import anatune
from anatune.hwprofile.detect import LocalSystem, cpuinfo, host_fingerprint


@dataclass(frozen=True)
class Origin:
    """Where a record comes from; two are equal where the one's measurements hold for the other.

    Attributes:
        host: the fingerprint of the machine that the pass ran on.
        cpu: what its processor calls itself, for people; of no weight in comparisons.
        device: name of the machine that the kernels ran on; "" for ``host`` itself.
    """

    anatune: str
    tvm: str
    host: str
    cpu: str = field(default="", compare=False)
    device: str = ""

    @classmethod
    def here(cls, device: str = "") -> Origin:
        """That of what this process measures; takes milliseconds, as the host is looked at."""
        return cls(anatune.__version__, tvm_version(), host_fingerprint(), _cpu_name(), device)


@cache
def tvm_version() -> str:
    """The installed TVM's, without loading it; "" where there is none."""
    try:
        return metadata.version("apache-tvm")
    except metadata.PackageNotFoundError:
        return ""


@cache
def _cpu_name() -> str:
    system = LocalSystem()
    blocks = cpuinfo.parse(system.read_text("/proc/cpuinfo") or "")
    return cpuinfo.brand_of(*blocks) or system.processor() or system.machine()
