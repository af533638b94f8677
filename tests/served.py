"""What the tests have worker processes serve."""

from __future__ import annotations

import ctypes
import os
import sys
import time


class Trouble:
    """Each method is one way in which a kernel can go wrong."""

    def __init__(self, greeting: str = "hello") -> None:
        if greeting == "raise":
            raise ValueError("first line\nno such greeting")
        self._greeting = greeting

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
