"""What the tests have worker processes serve."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import sys
import time


ILLEGAL = b"\x0f\x0b" if platform.machine() in ("x86_64", "AMD64") else bytes(4)
"""UD2, or UDF #0 of AArch64: instructions that stay illegal for ever."""


class Trouble:
    """Each method is one way in which a kernel can go wrong."""

    def __init__(self, greeting: str = "hello") -> None:
        if greeting == "raise":
            raise ValueError("first line\nno such greeting")
        self._greeting = greeting
        self.shared = bytearray(1 << 16)

    def greet(self, *names: str) -> tuple:
        return (self._greeting, *names)

    def pid(self) -> int:
        return os.getpid()

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def raise_error(self, text: str) -> None:
        raise RuntimeError(text)

    def exit(self, status: int) -> None:
        os._exit(status)

    def leave(self) -> None:
        sys.exit(4)

    def complain_and_exit(self) -> None:
        print("what I had to say", file=sys.stderr, flush=True)
        os._exit(3)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def illegal_instruction(self) -> None:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(ILLEGAL)
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()

    def corrupt_heap(self) -> None:
        """Write past what was allocated, and free it; glibc finds out."""
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        size = 100_000  # of none of the sizes for which it keeps lists that it does not check
        held = libc.malloc(size)
        ctypes.memset(held, 0xA5, size + 32)
        libc.free(held)

    def grow(self) -> None:
        """4 MiB every millisecond, without end."""
        held = []
        while True:
            held.append(bytearray(b"x" * (4 << 20)))
            time.sleep(0.001)

    def close_everything(self) -> None:
        os.closerange(0, 1000)
        time.sleep(600)

    def change(self, greeting: str) -> None:
        self._greeting = greeting
        for number in range(len(self.shared)):
            self.shared[number] = 7
        os.environ["CHANGED"] = greeting

    def told(self) -> tuple[str, bytes, str | None]:
        return self._greeting, bytes(self.shared), os.environ.get("CHANGED")

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def print(self, text: str) -> int:
        print(text, flush=True)
        ctypes.CDLL(None).puts(text.encode())  # as a kernel would, past Python
        ctypes.CDLL(None).fflush(None)
        return len(text)

    def lambda_(self):
        return lambda: 0  # cannot be pickled

    def large(self, size: int) -> bytes:
        return bytes(size)


class Heavy:
    """Holds memory that all forks share."""

    def __init__(self, size: int) -> None:
        self._held = bytearray(b"x" * size)

    def read_all(self, seconds: float) -> int:
        """Long enough to be looked at."""
        time.sleep(seconds)
        return self._held.count(b"x")


class Sleepy:
    """Takes its time."""

    def __init__(self) -> None:
        time.sleep(600)


class Deadly:
    """Takes its process along."""

    def __init__(self) -> None:
        ctypes.string_at(0)


class Crowded:
    """The system has no room for another process."""

    def __init__(self) -> None:
        def refuse() -> int:
            raise BlockingIOError(errno.EAGAIN, "as arranged")

        os.fork = refuse
