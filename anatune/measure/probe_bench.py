"""Inside the worker: run probes (rank 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm_ffi

from anatune.codegen.library import PROBE_ALIGN_BYTES, load_module, load_runtime
from anatune.measure.bench import time_batches
from anatune.measure.pinning import pin_threads


class ProbeBench:
    """Times probe kernels; data is made here, so that nothing large travels."""

    def __init__(self) -> None:
        load_runtime()

    def times(
        self, path: str, dtype: str, data_elements: int, out_elements: int,
        chase_step: int, samples: int,
    ) -> tuple[float, ...]:
        """Seconds of ``samples`` runs of the probe at ``path``, after one that is not counted.

        ``chase_step``: 0 for plain data (ones), else the elements between neighbours of a random
        cycle through all of ``data``, for probes that follow subscripts.
        """  # fmt: skip
        pin_threads()  # those that earlier probes started; each probe runs several times
        plain = not chase_step
        data = np.ones(data_elements, dtype) if plain else _cycle(data_elements, chase_step)
        out = np.zeros(out_elements, dtype)
        arguments = [tvm_ffi.from_dlpack(_aligned(x)) for x in (data, out)]
        return time_batches(load_module(path), arguments, calls=1, batches=samples)


def _aligned(array: np.ndarray, boundary: int = PROBE_ALIGN_BYTES) -> np.ndarray:
    """A copy whose first element lies on a cache line, as the probes assume."""
    room = np.empty(array.nbytes + boundary, np.uint8)
    start = -room.ctypes.data % boundary
    copy = room[start : start + array.nbytes].view(array.dtype)
    copy[:] = array
    return copy


def _cycle(elements: int, step: int) -> np.ndarray[Any, Any]:
    """Subscripts that lead through every ``step``-th element once, in random order, and back."""
    stops = np.random.default_rng(0).permutation(elements // step) * step
    data = np.zeros(elements, np.int64)
    data[stops] = np.roll(stops, -1)
    return data
