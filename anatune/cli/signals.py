"""Signals that ask to end, as exceptions: whatever is open is closed on the way out (rank 9)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a program to end: Ctrl-C, a supervisor, a terminal that closes (Windows: no SIGHUP)."""

STATUS_BASE = 128
"""Added to a signal's number it is the status that shells give to a program ended by it."""


class Ended(BaseException):
    """A signal other than Ctrl-C asked this process to end.

    Not an Exception, so that nobody takes it for a failure; not a KeyboardInterrupt either, of
    which click would make an `Abort` that has forgotten the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = STATUS_BASE + number


def ending(number: int) -> BaseException:
    """What is raised for a signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else Ended(number)


@contextmanager
def endings() -> Iterator[list[int]]:
    """While inside, the signals of `ENDING` raise `ending`; the list has those that came so far.

    Only Ctrl-C raises twice: another signal would interrupt the cleaning up. A signal that this
    process was started to ignore, as by nohup, is left alone.
    """
    heard: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        if number == signal.SIGINT or len(heard) == 1:
            raise ending(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    taken = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in taken:
        signal.signal(number, end)
    try:
        yield heard
    finally:
        for number in taken:
            signal.signal(number, before[number])
