"""Inside the workers of dynamic.py: one process serves all members of a family, one after another.

Starting a process for each value of a range would take longer than all that is timed. Libraries are
told their settings by their environment, so nothing that loads them is imported here at first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from anatune.report.competitors.tvm_untuned import TvmUntuned

if TYPE_CHECKING:
    from anatune.plan import CodeTarget
    from anatune.workload import Matmul


class LibraryMembers:
    """A library with one setting, for one member at a time; arguments are those of a `Choice`."""

    def __init__(
        self, factory: str, threads: int, environment: Mapping[str, str], how: tuple[Any, ...]
    ) -> None:
        os.environ.update(environment)
        self._factory, self._more = factory, (threads, environment, *how)
        self._competitor: Any = None

    def take(self, member: Matmul) -> None:
        """Go over to ``member``."""
        module, name = self._factory.split(":")
        self._competitor = None  # its operands' memory is free for the next one's
        make = getattr(__import__(module, fromlist=[name]), name)
        self._competitor = make(member, *self._more)

    def check(self) -> str:
        """Run once and compare; "" or what is wrong."""
        wrong: str = self._competitor.check()
        return wrong

    def library(self) -> str:
        name: str = self._competitor.library()
        return name

    def sample(self, calls: int) -> float:
        """Seconds per call over a batch."""
        seconds: float = self._competitor.sample(calls)
        return seconds


class OurMembers:
    """Our kernels, for some members at a time; all kernels of a member share its operands.

    Where the operands' pages lie costs or saves some percent; the same pages for all leave that out
    of the comparison of one of our kernels with another.
    """

    def __init__(self) -> None:
        from anatune.codegen.library import load_runtime

        load_runtime()
        self._members: dict[Matmul, tuple[Any, Any, list[Any]]] = {}
        self._modules: dict[str, Any] = {}
        self._parted = False

    def clear(self) -> None:
        """Let all members go."""
        self._members.clear()

    def check(self, path: str, member: Matmul) -> str:
        """Run the kernel in a file once and compare; "" or what is wrong."""
        from anatune.errors import VerificationError
        from anatune.measure import inputs, verify

        given, c, arguments = self._operands(member)
        inputs.forget(c)
        self._module(path)["main"](*arguments)
        if inputs.strayed(c):
            return "c: written outside of its elements"
        try:
            verify.check(member, given, c)
        except VerificationError as error:
            return str(error)
        return ""

    def mean(self, path: str, member: Matmul, calls: int) -> float:
        """Seconds per call over a batch of ``calls``, one before it left out."""
        from anatune.measure.bench import time_batches
        from anatune.measure.pinning import pin_threads

        module, (_, _, arguments) = self._module(path), self._operands(member)
        if not self._parted:
            module["main"](*arguments)  # which starts the pool's threads
            pin_threads()
            self._parted = True
        if calls == 1:  # as long as it takes to fill the caches, or asked to find out how long
            start = time.perf_counter()
            module["main"](*arguments)
            return time.perf_counter() - start
        return time_batches(module, arguments, calls=calls, batches=1)[0]

    def _module(self, path: str) -> Any:
        from anatune.codegen.library import load_module

        if path not in self._modules:
            self._modules[path] = load_module(path)
        return self._modules[path]

    def _operands(self, member: Matmul) -> tuple[Any, Any, list[Any]]:
        if member not in self._members:
            import tvm_ffi

            from anatune.measure import inputs

            given, c = inputs.operands(member), inputs.untouched(member.output)
            arguments = [tvm_ffi.from_dlpack(x) for x in (*given.values(), c)]
            self._members[member] = given, c, arguments
        return self._members[member]


class TvmDynamic(TvmUntuned):
    """The same loops with symbolic extents: what a user of TVM gets for any size at once."""

    def prepare(self, target: CodeTarget, family: Matmul) -> Callable[[], Any]:  # type: ignore
        self._family = family
        return super().prepare(target)

    def _module(self) -> Any:
        import tvm
        from tvm import te, tirx

        from anatune.codegen.vectors import index
        from anatune.workload.dim import at, dims_of

        family = self._family
        values = {dim.name: tirx.Var(dim.name, "int64") for dim in family.dims}
        extents = (family.m, family.n, family.k)
        m, n, k = (at(e, values) if dims_of(e) else index(e) for e in extents)
        a = te.placeholder((m, k), family.dtype, "a")
        b = te.placeholder((k, n), family.dtype, "b")
        p = te.reduce_axis((0, k), "p")
        c = te.compute((m, n), lambda i, j: te.sum(a[i, p] * b[p, j], axis=p), name="c")
        return tvm.IRModule({"main": te.create_prim_func([a, b, c])})
