"""Every error that anatune raises, in one tree; messages name field, value and mend (rank 0)."""

from __future__ import annotations


class AnatuneError(Exception):
    """Root of the tree: catch this to catch whatever anatune refuses."""


class UnitError(AnatuneError, ValueError):
    """A quantity whose text cannot be read: no unit, a wrong unit, or no number."""


class ProfileError(AnatuneError, ValueError):
    """A hardware profile that is not found, not readable or contradicts itself."""


class WorkloadError(AnatuneError, ValueError):
    """A workload that cannot be computed as described: extents, data types, epilogue."""


class IllegalPlan(AnatuneError, ValueError):
    """A plan that breaks a limit of the machine or of the workload."""


class OptionError(AnatuneError, ValueError):
    """An option of a call or a command with a value that it does not take."""


class OperandError(AnatuneError, ValueError):
    """An operand at call time with the wrong shape, data type, strides or device."""


class CacheError(AnatuneError, OSError):
    """A cache folder that cannot be created, read or written."""


class BuildError(AnatuneError, RuntimeError):
    """Code generation or compilation that failed."""


class WorkerError(AnatuneError, RuntimeError):
    """A worker process that died, hung or could not be started."""


class VerificationError(AnatuneError, ArithmeticError):
    """A kernel whose numbers differ from the float64 reference by more than the tolerance."""


def last_line(said: object) -> str:
    """The last line of what a tool or an exception says, where the reason stands; "" of nothing."""
    return (str(said).strip().splitlines() or [""])[-1]


def require(condition: object, why: str, error: type[AnatuneError] = IllegalPlan) -> None:
    """Raise ``error(why)`` unless ``condition`` holds; ``why`` has the limit with its numbers."""
    if not condition:
        raise error(why)
