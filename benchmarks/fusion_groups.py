"""The workloads of fusion.py: two experiments of a report, and operators of real networks."""

from __future__ import annotations

from typing import Any

import anatune as at
from anatune.workload.fused import Fused
from anatune.workload.group import Group

BALANCED, PRODUCT, UNBALANCED = "balanced", "balanced, product", "unbalanced"

THEIRS: dict[str, tuple[float | None, ...]] = {
    BALANCED: (1.36, 0.95, 1.11, 0.98, 1.03, 0.98, 1.02, 0.94, 1.02, 0.99),
    PRODUCT: (None,) * 10,
    UNBALANCED: (1.00, 0.45, None, 0.47, None, 0.46, None, 0.51, None, 0.50),
}
"""Unfused over fused time for M from 1 to 10, read off the chart and the table of "Co-optimized
kernel generation" (CMU 15-745, 2021), on four cores with rows of 10^8 elements."""

ROWS = range(1, 11)

BALANCED_N, UNBALANCED_N = 65_536, 1000
"""Elements of a row here: operands stay in the caches, where theirs were at memory's speed."""


def experiment(name: str, m: int) -> Fused:
    """M rows of two operators that do not depend on each other."""
    n = UNBALANCED_N
    add = at.elementwise("x + y", (m, BALANCED_N))
    return at.fused({
        BALANCED: [add, add],
        PRODUCT: [add, at.elementwise("x * y", (m, BALANCED_N))],
        UNBALANCED: [
            at.elementwise("x + y", (m, n)), at.elementwise("sigmoid(exp(x))", (m, n * n)),
        ],
    }[name])  # fmt: skip


def _products(m: int, k: int, *widths: int, **of: Any) -> list[Any]:
    return [at.matmul(m, n, k, **of) for n in widths]


def networks() -> dict[str, Fused | Group]:
    """Twenty groups of independent operators by name; those of one input read it once.

    GoogLeNet's branches of 1x1 and ResNet-50's first blocks of a stage as products; layers of
    BERT-base, of a model with grouped queries, and of an LSTM of 512 channels.
    """
    add, gelu = at.elementwise("x + y", (128, 768)), at.elementwise("gelu(x + b[n])", (128, 3072))
    layer = at.matmul(128, 768, 768)
    sums = [at.reduce("sum", (128, n), axis=0) for n in (768, 3072)]
    one_input = {
        "inception 3a, 1x1 branches": _products(784, 192, 64, 96, 16),
        "inception 3b, 1x1 branches": _products(784, 256, 128, 128, 32),
        "inception 4a, 1x1 branches": _products(196, 480, 192, 96, 16),
        "inception 5a, 1x1 branches": _products(49, 832, 256, 160, 32),
        "query, key, value of BERT, 128 tokens": _products(128, 768, 768, 768, 768),
        "query, key, value of BERT, 16 tokens": _products(16, 768, 768, 768, 768),
        "query, key, value, grouped, 32 tokens": _products(32, 1024, 1024, 256, 256),
        "reduce and downsample, stage 1": _products(3136, 64, 64, 256),
    }
    own_inputs = {
        "reduce and downsample, stage 2": [at.matmul(3136, 128, 256), at.matmul(784, 512, 256)],
        "reduce and downsample, stage 4": [at.matmul(196, 512, 1024), at.matmul(49, 2048, 1024)],
        "inception 3a, 3x3 and 5x5": [at.matmul(784, 128, 864), at.matmul(784, 32, 400)],
        "gates of an LSTM, 16 rows": _products(16, 512, 2048, 2048),
        "means and sums of rows": [
            at.reduce("mean", (128, 768)), at.reduce("sum", (128, 768), "x * x")],
        "mean of channels beside a small product": [
            at.reduce("mean", (49, 2048), axis=0), at.matmul(1, 1000, 512)],
        "gradients of two biases": sums,
        "addition beside a product": [add, layer],
        "gelu beside a product": [gelu, layer],
        "softmax beside a product": [at.softmax(1536, 128), layer],
        "softmax beside gelu": [at.softmax(1536, 128), gelu],
        "relu of three branches": [
            at.elementwise("relu(x + b[n])", (196, n)) for n in (192, 208, 48)],
    }  # fmt: skip
    return {
        **{name: at.fused(group, same_a=True) for name, group in one_input.items()},
        **{name: at.fused(group) for name, group in own_inputs.items()},
    }
