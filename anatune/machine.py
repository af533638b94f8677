"""From what a user hands over to a workload and a profile that can be used (rank 7)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from anatune.errors import OptionError, WorkloadError, require
from anatune.hwprofile import Profile
from anatune.hwprofile import load_profile as load_named
from anatune.workload import Matmul

HOST = "host"
"""Name that stands for the machine this runs on."""


def detect(progress: Callable[[str], None] = lambda text: None) -> Profile:
    """Detect and probe this machine anew, and keep the profile (seconds).

    Raises:
        ProfileError: the system tells nothing that a plan could be made for.
        WorkerError, BuildError: a probe that could not be built or run.
    """
    from anatune.measure.host import measure_host

    return measure_host(progress)


def load_profile(
    target: str | os.PathLike[str] = HOST, progress: Callable[[str], None] = lambda text: None
) -> Profile:
    """The profile of "host", of a shipped or own machine by name, or in a file.

    "host" is detected and probed the first time, and again when the machine changes; in between it
    comes from the user's cache.

    Raises:
        ProfileError: not found, not readable or contradicting itself.
    """
    if target != HOST:
        return load_named(target)
    from anatune.hwprofile.kept import kept_host

    return kept_host() or detect(progress)


def resolve(target: Any, progress: Callable[[str], None] = lambda text: None) -> Profile:
    """The profile of whatever `tune` and `plan` take as a target.

    Raises:
        OptionError: not a name, a path or a profile.
        ProfileError: a name or a file that gives no profile.
    """
    if isinstance(target, Profile):
        return target
    if isinstance(target, (str, os.PathLike)):
        return load_profile(target, progress)
    raise OptionError(
        f"target = {target!r}: 'host', the name of a profile, the path of a file, or a Profile"
    )


def cpu_only(target: Any, progress: Callable[[str], None] = lambda text: None) -> Profile:
    """`resolve`, for kernels that are generated for CPUs. Raises OptionError for others as well."""
    profile = resolve(target, progress)
    other = "a GPU" if profile.gpu is not None else "an accelerator"
    why = f"target = {profile.name!r}: a CPU is needed, this is {other}"
    require(profile.cores, why, OptionError)
    return profile


def accelerator_only(target: Any) -> Profile:
    """`resolve`, for what is simulated. Raises OptionError for CPUs and GPUs as well."""
    profile = resolve(target)
    why = f"target = {profile.name!r}: a described accelerator is needed, such as described_npu"
    require(profile.accelerator is not None, why, OptionError)
    return profile


def matmul_only(workload: Any) -> Matmul:
    """``workload`` if it is one that kernels are generated for, else WorkloadError."""
    why = f"workload = {type(workload).__name__}: use anatune.matmul(m, n, k)"
    if not isinstance(workload, Matmul):
        raise WorkloadError(why)
    return workload


def fixed_only(workload: Any) -> Matmul:
    """`matmul_only` of numbers for extents, else WorkloadError."""
    product = matmul_only(workload)
    dims = ", ".join(dim.described for dim in product.dims)
    why = f"workload with {dims}: numbers for extents are needed here; take workload.at(...)"
    require(not product.dims, why, WorkloadError)
    return product
