"""Compilations that are given up: what they leave behind must not be blamed on the next plan."""

from __future__ import annotations

import threading

import pytest

import anatune as at
from anatune.measure.builder import Builder, Built
from anatune.measure.entry import Entry

LONG_S = 60.0
"""Far longer than any of this takes: reaching it is a failure, never a figure."""


class Compiling:
    """A process that answers at once, or just as it is stopped."""

    def __init__(self, at_once: bool) -> None:
        self._done, self.begun = threading.Event(), threading.Event()
        self.dead = False
        if at_once:
            self._done.set()

    def call(self, method: str, *arguments: object, timeout_s: float) -> str:
        self.begun.set()
        assert self._done.wait(LONG_S)
        return "kernel.so"

    def stop(self) -> None:
        self.dead = True
        self._done.set()

    def kill(self) -> None:
        self.dead = True


@pytest.fixture
def entries() -> list[Entry]:
    return [Entry(at.plan(at.matmul(size, 64, 64), "zen4", threads=1)) for size in (64, 128)]


def test_a_process_that_answered_as_it_was_stopped_compiles_nothing_more(entries, monkeypatch):
    cells = [Compiling(at_once=True), Compiling(at_once=False)]
    waiting = iter(cells)
    with Builder(jobs=2) as builder:
        monkeypatch.setattr(builder, "warm_up", lambda: None)
        monkeypatch.setattr(builder, "_cell", lambda: next(waiting))
        found = builder.build(entries)
        _, built = next(found)
        assert isinstance(built, Built) and cells[1].begun.wait(LONG_S)
        found.close()
        assert cells[1].dead
        assert not any(cell.dead for cell in builder._idle)
        assert builder._idle == cells[:1]
