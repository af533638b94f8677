"""Read the host machine into a `Profile`: the operating system first, tables where it is silent.

system -> linux | macos | windows -> cache_chain (with uarch) -> host.detect_host   (rank 1, no TVM)
"""

from anatune.hwprofile.detect.captured import CapturedSystem
from anatune.hwprofile.detect.fingerprint import host_fingerprint
from anatune.hwprofile.detect.host import detect_host
from anatune.hwprofile.detect.system import LlvmFacts, LocalSystem, System

__all__ = [
    "CapturedSystem",
    "LlvmFacts",
    "LocalSystem",
    "System",
    "detect_host",
    "host_fingerprint",
]
