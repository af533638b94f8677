"""This machine's profile: detected, probed, kept in the user's cache (rank 6)."""

from __future__ import annotations

from collections.abc import Callable

from tvm.target import Target
from tvm.target import codegen as llvm

from anatune.codegen.target import host_triple
from anatune.hwprofile import Profile
from anatune.hwprofile.detect import LlvmFacts, detect_host
from anatune.hwprofile.kept import keep_host
from anatune.measure.probe import probe_profile


def llvm_facts() -> LlvmFacts:
    """What LLVM, through TVM, says of this machine's processor."""
    features = llvm.llvm_get_cpu_features(Target.from_device("cpu"))
    return LlvmFacts(
        mcpu=str(llvm.llvm_get_system_cpu()),
        triple=host_triple(),
        features=tuple(sorted(str(f) for f in features)),
    )


def measure_host(progress: Callable[[str], None] = lambda text: None) -> Profile:
    """Detect and probe this machine, and keep the profile for the next time.

    Raises:
        ProfileError: the system tells nothing that a plan could be made for.
        WorkerError, BuildError: a probe that could not be built or run.
    """
    profile = probe_profile(detect_host(llvm_facts()), progress)
    keep_host(profile)
    return profile
