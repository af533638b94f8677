"""PyTorch on the CPU: its matmul, and oneDNN's linear layers with B as it is or packed (rank 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from anatune.report.competitors.base import Competitor

if TYPE_CHECKING:
    import numpy as np

MATMUL, ONEDNN, ONEDNN_PACKED, MKL_PACKED = "matmul", "linear", "linear packed", "MKL packed"
INTEGER, INTEGER_PACKED = "int_mm", "qlinear packed"

LINEAR_ACTIVATIONS = {"": ("none", ""), "relu": ("relu", ""), "gelu": ("gelu", "none")}
"""Activation -> name and algorithm that PyTorch's oneDNN operators have for it."""


class TorchProduct(Competitor):
    """``how`` is one of the names above; ``epilogue`` is "", or joined names such as "bias+relu".

    The linear layers make a new C in every call: they have no way to be given one.
    """

    def prepare(self, how: str, epilogue: str = "") -> Callable[[], Any]:
        import torch

        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        # For good: in a worker nothing else follows, and a `with` would be left before the calls.
        torch.inference_mode().__enter__()
        self._torch = torch
        self._a = self._tensor("a", self.workload.trans_a)
        self._b = self._tensor("b", self.workload.trans_b)
        self._in_place = how in (MATMUL, INTEGER)
        makers: dict[str, Callable[[], Callable[[], Any]]] = {
            MATMUL: self._matmul,
            ONEDNN: partial(self._linear, epilogue),
            ONEDNN_PACKED: partial(self._linear_packed, epilogue),
            MKL_PACKED: self._mkl_packed,
            INTEGER: self._int_mm,
            INTEGER_PACKED: self._qlinear_packed,
        }
        return makers[how]()

    def library(self) -> str:
        return f"PyTorch {self._torch.__version__.partition('+')[0]}"

    def result(self, returned: Any) -> np.ndarray:
        if self._in_place:
            return self.c
        if self.workload.out_dtype == "bfloat16":
            returned = returned.view(self._torch.int16)
        c: np.ndarray = returned.numpy().view(self.c.dtype)
        return c

    def _matmul(self) -> Callable[[], Any]:
        w, c = self.workload, as_tensor(self.c)
        if w.alpha == 1 and not w.beta:
            return partial(self._torch.matmul, self._a, self._b, out=c)
        how = {"beta": w.beta, "alpha": w.alpha, "out": c}
        if w.batch == 1:
            return partial(self._torch.addmm, c, self._a, self._b, **how)
        a, b = (x.expand(w.batch, *x.shape[-2:]) for x in (self._a, self._b))
        return partial(self._torch.baddbmm, c, a, b, **how)

    def _linear(self, epilogue: str) -> Callable[[], Any]:
        return self._pointwise(self._b.t(), epilogue)

    def _linear_packed(self, epilogue: str) -> Callable[[], Any]:
        reorder = self._torch.ops.mkldnn._reorder_linear_weight
        return self._pointwise(reorder(self._b.t().contiguous(), self.workload.m), epilogue)

    def _pointwise(self, weight: Any, epilogue: str) -> Callable[[], Any]:
        names = [name for name in epilogue.split("+") if name]
        bias = self._tensor("bias") if "bias" in names else None
        activation = names[-1] if names and names[-1] != "bias" else ""
        name, algorithm = LINEAR_ACTIVATIONS[activation]
        linear = self._torch.ops.mkldnn._linear_pointwise.default
        return partial(linear, self._a, weight, bias, name, [], algorithm)

    def _mkl_packed(self) -> Callable[[], Any]:
        ops, m, weight = self._torch.ops.mkl, self.workload.m, self._b.t().contiguous()
        packed = ops._mkl_reorder_linear_weight(weight, m)
        return partial(ops._mkl_linear.default, self._a, packed, weight, None, m)

    def _int_mm(self) -> Callable[[], Any]:
        return partial(self._torch._int_mm, self._a, self._b, out=as_tensor(self.c))

    def _qlinear_packed(self) -> Callable[[], Any]:
        """A quantised layer of scales 1 and zero points 0: the product, in float32."""
        torch, w = self._torch, self.workload
        packed = torch.ops.onednn.qlinear_prepack(self._b.t().contiguous(), [w.m, w.k])
        scales, zeros = torch.ones(w.n), torch.zeros(w.n, dtype=torch.int32)
        weight = (packed, scales, zeros, None)
        out = (1.0, 0, torch.float32)
        layer = torch.ops.onednn.qlinear_pointwise.default
        return partial(layer, self._a, 1.0, 0, *weight, *out, "none", [], "")

    def _tensor(self, name: str, transposed: bool = False) -> Any:
        tensor = as_tensor(self.inputs[name])
        return tensor.transpose(-1, -2) if transposed else tensor


def as_tensor(array: np.ndarray) -> Any:
    """The same memory as a torch tensor; bfloat16 goes by way of 16-bit integers."""
    import torch

    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
