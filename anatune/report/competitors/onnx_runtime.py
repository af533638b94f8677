"""ONNX Runtime on the CPU: a graph of one product, its arrays bound once (rank 9).

B is an input of the graph where it is known at run time only, and an initializer where it is
constant, so that the session packs it while it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from anatune.report.competitors.base import Competitor

if TYPE_CHECKING:
    import numpy as np

SPINNING = "session.intra_op.allow_spinning"
"""Session setting: whether threads wait for work by spinning (its session option keys)."""

OPSET, IR_VERSION = 20, 9
"""Version 20 of the operators is the first with Gelu; the format's is of its release."""

ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu"}

FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators, FusedMatMul among them."""


class OnnxProduct(Competitor):
    def prepare(self, spinning: bool = True, epilogue: str = "") -> Callable[[], Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry(SPINNING, str(int(spinning)))
        model = self._model([name for name in epilogue.split("+") if name])
        self._version = onnxruntime.__version__
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for name in (value.name for value in session.get_inputs()):
            binding.bind_input(name, "cpu", 0, *_bound(self.inputs[name]))
        binding.bind_output("c", "cpu", 0, *_bound(self.c))
        return partial(session.run_with_iobinding, binding)

    def library(self) -> str:
        return f"ONNX Runtime {self._version}"

    def _model(self, epilogue: list[str]) -> bytes:
        from onnx import helper

        names = ["a", "b", *(["bias"] if "bias" in epilogue else [])]
        constant = {"b"} if self.workload.constant_b else set()
        graph = helper.make_graph(
            self._nodes(epilogue),
            "product",
            [_declared(name, self.inputs[name]) for name in names if name not in constant],
            [_declared("c", self.c)],
            [_initializer("b", self._constant_b())] if constant else [],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())

    def _constant_b(self) -> np.ndarray:
        """B as [k, n], however it is stored: a session packs it once, whatever that takes."""
        b = self.inputs["b"]
        return b.swapaxes(-1, -2).copy() if self.workload.trans_b else b

    def _nodes(self, epilogue: list[str]) -> list[Any]:
        """The product, then what becomes of the sums: what the session fuses is its own affair."""
        from onnx import helper

        value, steps = "c" if not epilogue else "sum", []
        steps.append(self._product(value))
        for place, name in enumerate(epilogue, 1):
            result = "c" if place == len(epilogue) else f"after_{name}"
            inputs = [value, "bias"] if name == "bias" else [value]
            steps.append(helper.make_node(ACTIVATIONS.get(name, "Add"), inputs, [result]))
            value = result
        return steps

    def _product(self, result: str) -> Any:
        from onnx import helper

        w = self.workload
        if w.accumulator == "int32":
            return helper.make_node("MatMulInteger", ["a", "b"], [result])
        trans_b = w.trans_b and not w.constant_b
        if not (w.trans_a or trans_b or w.alpha != 1):
            return helper.make_node("MatMul", ["a", "b"], [result])
        how: dict[str, Any] = {"transA": int(w.trans_a), "transB": int(trans_b), "alpha": w.alpha}
        if w.batch == 1:
            return helper.make_node("Gemm", ["a", "b"], [result], **how)
        return helper.make_node("FusedMatMul", ["a", "b"], [result], domain=FUSED, **how)


def _bound(array: np.ndarray) -> tuple[int, tuple[int, ...], int]:
    """What `bind_input` and `bind_output` take: element type, shape, address."""
    return _element_type(array), array.shape, array.ctypes.data


def _element_type(array: np.ndarray) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _declared(name: str, array: np.ndarray) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, _element_type(array), array.shape)


def _initializer(name: str, array: np.ndarray) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)
