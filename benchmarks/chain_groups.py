"""The workloads of chains.py: steps of real networks that read each other's results.

Products with an activation state it as a step of its own, as a network's graph does: the unfused
version computes it by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anatune as at
from anatune.workload.group import Group

PRODUCTS, ATTENTION, MAPS = "products", "attention", "element-wise"

HEADS, HEAD = 12, 64
"""Heads of BERT-base and channels of each."""

EPSILON = 1e-5
"""What a layer norm adds to the variance (Ba, Kiros and Hinton, arXiv 1607.06450, in every
framework)."""

Steps = dict[str, Any]


def feed_forward(tokens: int, width: int, inner: int) -> Group:
    """Two products with gelu between them."""
    return at.group({
        "h": at.matmul(tokens, inner, width),
        "g": (at.elementwise("gelu(x + b[n])", (tokens, inner)), {"x": "h"}),
        "y": (at.matmul(tokens, width, inner), {"a": "g"}),
    })  # fmt: skip


def layers(m: int, *widths: int, activation: str = "relu(x + b[n])") -> Group:
    """Products one after the other, each but the last with an activation."""
    steps: Steps = {}
    before: dict[str, str] = {}
    for number, (k, n) in enumerate(zip(widths, widths[1:]), 1):
        name = f"h{number}"
        steps[name] = (at.matmul(m, n, k), before)
        if number < len(widths) - 1:
            steps[f"r{number}"] = (at.elementwise(activation, (m, n)), {"x": name})
            before = {"a": f"r{number}"}
    return at.group(steps)


def residual_block(m: int, k: int, inner: int, n: int) -> Group:
    """The end of a bottleneck: 3x3 as a product, 1x1 that expands, the input added."""
    return at.group({
        "h": at.matmul(m, inner, k),
        "r": (at.elementwise("relu(x + b[n])", (m, inner)), {"x": "h"}),
        "e": (at.matmul(m, n, inner), {"a": "r"}),
        "y": (at.elementwise("relu(x + b[n] + before)", (m, n)), {"x": "e"}),
    })  # fmt: skip


def attention(tokens: int, heads: int = HEADS, head: int = HEAD) -> Group:
    """Softmax(Q K^T / sqrt(head)) V of each head, whose arrays lie one after the other."""
    scaled = f"x * {head ** -0.5}"
    return at.group({
        "s": at.matmul(tokens, tokens, head, batch=heads, trans_b=True),
        "p": (at.softmax(heads * tokens, tokens, scaled), {"x": "s"}),
        "y": (at.matmul(tokens, head, tokens, batch=heads), {"a": "p"}),
    })  # fmt: skip


def norm_steps(name: str, x: str, rows: int, width: int) -> Steps:
    """A layer norm of ``x`` as a graph states it; ``name`` is its result."""
    mean, off, scale = f"{name}_mean", f"{name}_off", f"{name}_scale"
    shape = (rows, width)
    variance = at.reduce("mean", shape, "x * x", finish=f"1 / sqrt(c + {EPSILON})")
    return {
        mean: (at.reduce("mean", shape), {"x": x}),
        off: (at.elementwise("x - mean[m]", shape), {"x": x, "mean": mean}),
        scale: (variance, {"x": off}),
        name: (at.elementwise("x * scale[m] * gain[n] + shift[n]", shape),
               {"x": off, "scale": scale}),
    }  # fmt: skip


def layer_norm(rows: int, width: int) -> Group:
    return at.group(norm_steps("y", "x", rows, width))


def residual_norm(rows: int, width: int) -> Group:
    """What ends each half of an encoder's layer."""
    added = at.elementwise("x + b[n] + before", (rows, width))
    return at.group({"sum": added, **norm_steps("y", "sum", rows, width)})


def pointwise(rows: int, width: int) -> Group:
    """Bias, gelu, a gate and a residual, each by itself."""
    return at.chain([
        at.elementwise(text, (rows, width))
        for text in ("x + b[n]", "gelu(x)", "x * gate", "x + before")
    ])  # fmt: skip


def masked_softmax(rows: int, width: int) -> Group:
    return at.chain([
        at.elementwise("x * 0.125", (rows, width)), at.elementwise("x + mask[n]", (rows, width)),
        at.softmax(rows, width), at.elementwise("x * keep", (rows, width)),
    ])  # fmt: skip


def softmax_in_parts(rows: int, width: int) -> Group:
    """As a graph without an operator for it states it."""
    shape = (rows, width)
    return at.group({
        "top": (at.reduce("max", shape), {"x": "x"}),
        "e": (at.elementwise("exp(x - top[m])", shape), {"x": "x", "top": "top"}),
        "sum": (at.reduce("sum", shape, finish="1 / c"), {"x": "e"}),
        "y": (at.elementwise("x * part[m]", shape), {"x": "e", "part": "sum"}),
    })  # fmt: skip


CHAINS: dict[str, dict[str, Callable[[], Group]]] = {
    PRODUCTS: {
        "feed-forward, 128x768x3072x768": partial(feed_forward, 128, 768, 3072),
        "feed-forward, 16x768x3072x768": partial(feed_forward, 16, 768, 3072),
        "feed-forward, 1024x256x1024x256": partial(feed_forward, 1024, 256, 1024),
        "ResNet stage 1, 3x3 and expand": partial(residual_block, 3136, 576, 64, 256),
        "ResNet stage 2, 3x3 and expand": partial(residual_block, 784, 1152, 128, 512),
        "1x1 of 64, 64, 256": partial(layers, 3136, 64, 64, 256),
        "1x1 of 64, 256, 64": partial(layers, 3136, 64, 256, 64),
        "1x1 of 24, 144, 24, as in MobileNetV2": partial(
            layers, 12544, 24, 144, 24, activation="clip(x + b[n], 0, 6)"),
        "1x1 of 32, 192, 32, as in MobileNetV2": partial(
            layers, 3136, 32, 192, 32, activation="clip(x + b[n], 0, 6)"),
        "1x1 of 16, 96, 24, 112 x 112": partial(
            layers, 12544, 16, 96, 24, activation="clip(x + b[n], 0, 6)"),
        "perceptron, 256 rows of 64, 64, 64, 16": partial(layers, 256, 64, 64, 64, 16),
        "perceptron, 8192 rows of 32, 64, 64, 16": partial(layers, 8192, 32, 64, 64, 16),
    },
    ATTENTION: {
        "attention, 128 tokens": partial(attention, 128),
        "attention, 512 tokens": partial(attention, 512),
    },
    MAPS: {
        "layer norm, 128x768": partial(layer_norm, 128, 768),
        "layer norm, 4096x768": partial(layer_norm, 4096, 768),
        "residual and layer norm, 128x768": partial(residual_norm, 128, 768),
        "bias, gelu, gate, residual, 128x3072": partial(pointwise, 128, 3072),
        "bias, gelu, gate, residual, 2048x3072": partial(pointwise, 2048, 3072),
        "scaled, masked softmax, dropout, 6144x512": partial(masked_softmax, 6144, 512),
        "softmax in parts, 1536x128": partial(softmax_in_parts, 1536, 128),
        "softmax in parts, 6144x512": partial(softmax_in_parts, 6144, 512),
    },
}  # fmt: skip
