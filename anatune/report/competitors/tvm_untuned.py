"""TVM without a tuner: the product as its pipeline compiles it (rank 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from anatune.plan import CodeTarget
from anatune.report.competitors.base import Competitor


class TvmUntuned(Competitor):
    """The loops that a tensor expression stands for, in the order in which it is written."""

    note = "one thread: its loops are not parallel"

    def prepare(self, target: CodeTarget) -> Callable[[], Any]:
        import tvm

        from anatune.codegen.target import tvm_target

        self._executable = tvm.compile(self._module(), target=tvm_target(target))
        return self._ready(self._executable)

    def library(self) -> str:
        return f"TVM {tvm_version()}, untuned"

    def _ready(self, executable: Any) -> Callable[[], Any]:
        import tvm_ffi

        arrays = [self.inputs["a"], self.inputs["b"], self.c]
        return partial(executable["main"], *map(tvm_ffi.from_dlpack, arrays))

    def _module(self) -> Any:
        import tvm
        from tvm import te

        w = self.workload
        tensors = [te.placeholder(self.inputs[x].shape, w.operands[x].dtype, x) for x in "ab"]
        p = te.reduce_axis((0, w.k), "k")

        def element(*place: Any) -> Any:
            *outer, i, j = place
            at_a = (p, i) if w.trans_a else (i, p)
            at_b = (j, p) if w.trans_b else (p, j)
            factors = [
                tensor[tuple(outer[: len(tensor.shape) - 2]) + at].astype(w.accumulator)
                for tensor, at in zip(tensors, (at_a, at_b))
            ]
            return te.sum(factors[0] * factors[1], axis=p)

        c = te.compute(self.c.shape, element, name="c")
        return tvm.IRModule({"main": te.create_prim_func([*tensors, c])})


def tvm_version() -> str:
    import tvm

    return str(tvm.__version__)
