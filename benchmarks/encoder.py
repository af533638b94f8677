"""One layer of BERT-base's encoder: as workloads that read each other, in PyTorch and ONNX Runtime.

Nothing here judges; encoder_layer.py does. Libraries run in processes of their own and are told the
number of threads before they are loaded, so nothing that loads them is imported here at first.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from chain_groups import EPSILON, HEAD, HEADS, norm_steps

import anatune as at
from anatune.workload.group import Group

WIDTH, INNER = HEADS * HEAD, 3072

SCALE = HEAD**-0.5

OPSET, IR_VERSION = 20, 9
"""Version 20 of the operators is the first with Gelu; the format's is of its release."""


def encoder(tokens: int) -> Group:
    """The layer: attention and feed-forward, each added to its input and normalised.

    Matrices are [in, out]: ``w_q``, and ``b_q`` what is added. Heads are read where they lie side
    by side in rows of [tokens, WIDTH], and written there.
    """
    scores = at.matmul(tokens, tokens, HEAD, trans_b=True, **_heads("a", "b"))
    mixed = at.matmul(tokens, HEAD, tokens, **_heads("b", "c"))
    return at.group({
        **_dense("q", "x", tokens, WIDTH, WIDTH),
        **_dense("k", "x", tokens, WIDTH, WIDTH),
        **_dense("v", "x", tokens, WIDTH, WIDTH),
        "scores": (scores, {"a": "q", "b": "k"}),
        "parts": (at.softmax(HEADS * tokens, tokens, f"x * {SCALE}"), {"x": "scores"}),
        "mixed": (mixed, {"a": "parts", "b": "v"}),
        **_dense("o", "mixed", tokens, WIDTH, WIDTH),
        **_ended("half", "o", "x", tokens),
        **_dense("up", "half", tokens, INNER, WIDTH),
        "g": (at.elementwise("gelu(x)", (tokens, INNER)), {"x": "up"}),
        **_dense("down", "g", tokens, WIDTH, INNER),
        **_ended("y", "down", "half", tokens),
    })  # fmt: skip


def _heads(*side_by_side: str) -> dict[str, int]:
    """A product for each head; operands that are named lie side by side in rows."""
    rows = {f"ld{name}": WIDTH for name in side_by_side}
    return {"batch": HEADS, **rows, **{f"stride_{name}": HEAD for name in side_by_side}}


def _dense(name: str, x: str, tokens: int, n: int, k: int) -> dict[str, Any]:
    product = (at.matmul(tokens, n, k), {"a": x, "b": f"w_{name}"})
    added = (at.elementwise("x + b[n]", (tokens, n)), {"x": f"{name}_sums", "b": f"b_{name}"})
    return {f"{name}_sums": product, name: added}


def _ended(name: str, x: str, before: str, tokens: int) -> dict[str, Any]:
    """The end of a half of the layer: what came before it is added, rows are normalised."""
    added = at.elementwise("x + before", (tokens, WIDTH))
    steps = norm_steps(name, f"{name}_sum", tokens, WIDTH)
    workload, sources = steps[name]
    learned = {"gain": f"gain_{name}", "shift": f"shift_{name}"}
    return {
        f"{name}_sum": (added, {"x": x, "before": before}),
        **steps,
        name: (workload, {**sources, **learned}),
    }


class _Library:
    """A library's layer with our inputs."""

    def __init__(self, tokens: int, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        from anatune.measure.group_bench import drawn_inputs

        self.tokens, self.threads = tokens, threads
        self.inputs = drawn_inputs(encoder(tokens))
        self.call = self.prepare()

    def prepare(self) -> Callable[[], Any]:
        raise NotImplementedError

    def result(self) -> np.ndarray:
        return np.asarray(self.call())

    def sample(self, calls: int) -> float:
        """Seconds per call: the median of parts of a batch, as of our kernels."""
        from anatune.measure.calibrate import SLICES

        parts = min(SLICES, calls)
        return statistics.median(self._batch(calls // parts) for _ in range(parts))

    def _batch(self, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self.call()
        return (time.perf_counter() - start) / calls


class Torch(_Library):
    """Functions of PyTorch, attention by the one that fuses it."""

    def prepare(self) -> Callable[[], Any]:
        import torch
        from torch.nn import functional as F

        torch.set_num_threads(self.threads)
        # For good: in a worker nothing else follows.
        torch.inference_mode().__enter__()
        given = {name: torch.from_numpy(np.ascontiguousarray(array))
                 for name, array in self.inputs.items()}
        weights = {name: given[f"w_{name}"].t().contiguous()
                   for name in ("q", "k", "v", "o", "up", "down")}
        shape = (1, self.tokens, HEADS, HEAD)

        def dense(name: str, x: Any) -> Any:
            return F.linear(x, weights[name], given[f"b_{name}"])

        def norm(name: str, x: Any) -> Any:
            return F.layer_norm(x, (WIDTH,), given[f"gain_{name}"], given[f"shift_{name}"], EPSILON)

        def layer() -> Any:
            x = given["x"]
            q, k, v = (dense(name, x).view(shape).transpose(1, 2) for name in "qkv")
            mixed = F.scaled_dot_product_attention(q, k, v)
            rows = mixed.transpose(1, 2).reshape(self.tokens, WIDTH)
            half = norm("half", dense("o", rows) + x)
            return norm("y", dense("down", F.gelu(dense("up", half))) + half)

        return layer


class Onnx(_Library):
    """A graph of ONNX Runtime, whose session sees the weights as constants and may pack them."""

    def prepare(self) -> Callable[[], Any]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(
            self._model(), options, providers=["CPUExecutionProvider"])
        given = {"x": np.ascontiguousarray(self.inputs["x"])}
        return lambda: session.run(["y"], given)[0]

    def _model(self) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        nodes: list[Any] = []

        def add(kind: str, inputs: list[str], result: str, **how: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [result], **how))
            return result

        def dense(name: str, x: str) -> str:
            return add("Add", [add("MatMul", [x, f"w_{name}"], f"{name}_s"), f"b_{name}"], name)

        def norm(name: str, x: str, before: str) -> str:
            total = add("Add", [x, before], f"{name}_t")
            learned = [f"gain_{name}", f"shift_{name}"]
            return add("LayerNormalization", [total, *learned], name, axis=-1, epsilon=EPSILON)

        def split(name: str, perm: list[int]) -> str:
            parted = add("Reshape", [dense(name, "x"), "heads"], f"{name}_r")
            return add("Transpose", [parted], f"{name}_h", perm=perm)

        scores = add("MatMul", [split("q", [1, 0, 2]), split("k", [1, 2, 0])], "scores")
        parts = add("Softmax", [add("Mul", [scores, "scale"], "scaled")], "parts", axis=-1)
        mixed = add("MatMul", [parts, split("v", [1, 0, 2])], "mixed")
        rows = add("Reshape", [add("Transpose", [mixed], "turned", perm=[1, 0, 2]), "flat"], "rows")
        half = norm("half", dense("o", rows), "x")
        norm("y", dense("down", add("Gelu", [dense("up", half)], "g")), half)
        constants = {name: array for name, array in self.inputs.items() if name != "x"}
        constants["heads"] = np.array([self.tokens, HEADS, HEAD], np.int64)
        constants["flat"] = np.array([self.tokens, WIDTH], np.int64)
        constants["scale"] = np.array(SCALE, np.float32)
        held = [numpy_helper.from_array(np.ascontiguousarray(array), name)
                for name, array in constants.items()]
        shape = [self.tokens, WIDTH]
        ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in "xy"]
        graph = helper.make_graph(nodes, "layer", *ends, held)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())
