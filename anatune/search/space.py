"""All legal plans of a workload, estimated shape by shape as they are asked for (rank 7.5).

A full ranking takes seconds on two threads and a minute on a hundred; most of its plans are never
looked at. A shape's least time is known in microseconds and no plan of it is faster, so that shapes
can wait until plans as slow as that are wanted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from math import inf

from anatune.hwprofile.profile import Profile
from anatune.model import candidates as model
from anatune.model.candidates import Ranked
from anatune.model.energy import joules
from anatune.model.estimate import predict
from anatune.model.shapes import Shape, least_seconds, plans_of, shapes_of
from anatune.plan import ThreadGrid
from anatune.workload import Matmul


class Space:
    """The legal plans of ``workload``: first the model's closest look, then shape by shape.

    Attributes:
        ranked: what `model.candidates.best` returns, the model's pick first.
        threads: the most that a plan may use.
        opened: plans with their estimates, in the order in which they were opened.
    """

    def __init__(
        self, profile: Profile, workload: Matmul, threads: int | None, objective: str
    ) -> None:
        self.profile = profile
        self.workload = workload
        self.objective = objective
        self.threads = model.thread_count(profile, threads)
        self.ranked = model.best(profile, workload, threads, objective)
        self.opened: list[Ranked] = []

    @cached_property
    def _shapes(self) -> list[Shape]:
        return shapes_of(self.profile, self.workload, self.threads)

    @cached_property
    def shapes(self) -> frozenset[Shape]:
        """All of them, opened or not."""
        return frozenset(self._shapes)

    @cached_property
    def grids(self) -> list[ThreadGrid]:
        """Of all shapes, each once."""
        return list(dict.fromkeys(shape.grid for shape in self._shapes))

    @cached_property
    def _closed(self) -> list[tuple[float, Shape]]:
        """Shapes that are not opened with their least costs, the cheapest last."""
        # The sort keeps the order of equals: the same question has the same answer.
        costs = sorted(((self._least_cost(s), s) for s in self._shapes), key=lambda item: item[0])
        return costs[::-1]

    def cost(self, ranked: Ranked) -> float:
        """The objective's predicted value."""
        return model.OBJECTIVES[self.objective](ranked[1])

    @property
    def bound(self) -> float:
        """What no plan that is not opened can cost less than."""
        return self._closed[-1][0] if self._closed else inf

    def open_shape(self) -> list[Ranked]:
        """Plans of the next shape; none where it has none, or all shapes are opened."""
        if not self._closed:
            return []
        _, shape = self._closed.pop()
        plans = plans_of(self.profile, self.workload, shape)
        found = [(plan, predict(self.profile, plan)) for plan in plans]
        self.opened += found
        return found

    def open(self, count: int) -> None:
        """Open shapes until ``count`` plans are opened, or all."""
        while self._closed and len(self.opened) < count:
            self.open_shape()

    def in_order(self) -> Iterator[Ranked]:
        """Every plan, cheapest first as the model has it: the order of `model.candidates.rank`.

        To be walked once, and by one walker.
        """
        waiting: list[tuple[float, int, Ranked]] = []
        number = 0
        while waiting or self._closed:
            # A plan's turn has come once no shape that is closed could hold a cheaper one.
            while self._closed and (not waiting or self.bound <= waiting[0][0]):
                for item in self.open_shape():
                    number += 1
                    heapq.heappush(waiting, (self.cost(item), number, item))
            if waiting:
                yield heapq.heappop(waiting)[2]

    def _least_cost(self, shape: Shape) -> float:
        seconds = least_seconds(self.profile, self.workload, shape)
        least = joules(self.workload, {}, seconds, shape.grid.threads)
        pick = self.ranked[0][1]
        return model.OBJECTIVES[self.objective](replace(pick, seconds=seconds, joules=least))
