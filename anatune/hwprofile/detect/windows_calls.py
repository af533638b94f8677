"""The Windows functions that detection needs, through ctypes; they judge nothing."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

_RELATION_ALL = 0xFFFF
_MEMORY_STATUS_BYTES = 64  # sizeof(MEMORYSTATUSEX)


def call(name: str) -> bytes | None:
    """Answer of the function ``name``, or None where it is unknown or fails."""
    function = {
        "GetLogicalProcessorInformationEx": _processor_information,
        "GlobalMemoryStatusEx": _memory_status,
    }.get(name)
    try:
        return function() if function else None
    except (OSError, AttributeError):
        return None


def process_affinity() -> frozenset[int] | None:
    """Processors of this process; None where it spans groups, because then the mask is zero."""
    kernel = _kernel()
    if kernel.GetActiveProcessorGroupCount() != 1:
        return None
    own, whole = ctypes.c_size_t(), ctypes.c_size_t()
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not kernel.GetProcessAffinityMask(process, ctypes.byref(own), ctypes.byref(whole)):
        return None
    return frozenset(b for b in range(64) if own.value >> b & 1) or None


def _kernel() -> Any:
    return ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]


def _processor_information() -> bytes | None:
    """The first call tells the size, the second fills the buffer."""
    function, size = _kernel().GetLogicalProcessorInformationEx, ctypes.c_uint32(0)
    function(_RELATION_ALL, None, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    if not size.value or not function(_RELATION_ALL, buffer, ctypes.byref(size)):
        return None
    return buffer.raw[: size.value]


def _memory_status() -> bytes | None:
    buffer = ctypes.create_string_buffer(_MEMORY_STATUS_BYTES)
    struct.pack_into("<I", buffer, 0, _MEMORY_STATUS_BYTES)  # dwLength must be set by the caller
    return buffer.raw if _kernel().GlobalMemoryStatusEx(buffer) else None
