"""Loops with conditions: as written, cut by TVM's own pass, padded (`pad_einsum`), and by anatune.

Each row is checked against the loops as written, then all take turns; least of the medians' times.
Where the time goes: instructions of the hottest loop in the machine code, by kind, and what the
model says of traffic and bound (modelled, not measured).

    python benchmarks/loop_partition.py             # under a minute
    python benchmarks/loop_partition.py --target zen5
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import tvm
from loop_kernels import Kernel, kernels
from tvm import s_tir, tirx

import anatune as at
from anatune.codegen.loop_function import lowered
from anatune.codegen.target import tvm_target
from anatune.plan import CodeTarget
from anatune.units import TIME

ROUNDS, CALLS_S = 15, 0.002
"""Turns that each entrant takes, and seconds of calls in each."""

PARTITION = {"s_tir.LoopPartition": {"partition_const_loop": True}}
"""TVM's pass leaves loops of constant extent alone unless it is told."""

WRITTEN, TVM_CUT, PADDED = "as written", "TVM LoopPartition", "TVM pad_einsum"


def hinted(func: Any) -> Any:
    """``func`` with every serial loop marked for TVM's LoopPartition, which skips others."""

    def mark(loop: Any) -> Any:
        if loop.thread_binding is not None or loop.kind != tirx.ForKind.SERIAL:
            return loop
        one = tirx.IntImm("int32", 1)
        return tirx.AttrStmt(loop.loop_var, "pragma_loop_partition_hint", one, loop)

    import tvm_ffi

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, mark)))


def cut_by_tvm(func: Any) -> Any:
    with tvm.transform.PassContext(config=PARTITION):
        module = s_tir.transform.LoopPartition()(tvm.IRModule({"main": hinted(func)}))
    return module["main"]


def entrants(kernel: Kernel, target: Any) -> dict[str, Callable[[], Any]]:
    """Name -> function that makes the TVM function; made late, as some cannot be."""
    plain = lowered(kernel.func)
    found: dict[str, Callable[[], Any]] = {
        WRITTEN: lambda: plain,
        TVM_CUT: lambda: cut_by_tvm(plain),
    }
    if kernel.padded is not None:
        found[PADDED] = lambda: kernel.padded
    result = at.partition(kernel.func, target, sizes=kernel.sizes)
    for variant in result.variants[1:]:
        chosen = " *" if variant is result.chosen else ""
        found[f"anatune {variant.strategy.value}{chosen}"] = lambda v=variant: v.func
    return found


def compiled(func: Any, target: Any) -> Any:
    return tvm.compile(tvm.IRModule({"main": func}), target=target)


def timed(kernel: Kernel, built: dict[str, Any]) -> dict[str, tuple[float, bool]]:
    """Seconds of each, and whether it gives what the loops as written give."""
    generator = np.random.default_rng(1)
    inputs = [generator.random(shape, "float32") for shape in kernel.shapes]
    tensors = {name: [tvm.runtime.tensor(x) for x in inputs] for name in built}
    for name, executable in built.items():
        executable["main"](*tensors[name])
    want = tensors[WRITTEN][-1].numpy()
    right = {n: bool(np.allclose(t[-1].numpy(), want, rtol=1e-4)) for n, t in tensors.items()}
    calls = {}
    for name, executable in built.items():
        first = executable.mod.time_evaluator("main", tvm.cpu(), number=3)(*tensors[name]).mean
        calls[name] = max(1, int(CALLS_S / first))
    samples: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(ROUNDS):
        for name, executable in built.items():
            run = executable.mod.time_evaluator("main", tvm.cpu(), number=calls[name])
            samples[name].append(run(*tensors[name]).mean)
    return {name: (statistics.median(s), right[name]) for name, s in samples.items()}


KINDS = (
    ("masked", r"\{%k"),
    ("vector", r"^v\S+\s.*%[yz]mm|^v\S+p[sd]\s.*%xmm"),
    ("scalar float", r"^v?\S+s[sd]\s"),
    ("jump", r"^j"),
    ("compare", r"^(cmp|test|vcmp|kortest|ktest)"),
)
"""Kinds of x86-64 instructions by what their text matches first."""


def mix(asm: str) -> Counter[str]:
    """Instructions by kind of the loop that holds most float arithmetic for its length."""
    best: Counter[str] = Counter()
    for block in loops_of(asm):
        kinds = Counter(kind_of(line) for line in block)
        worth = kinds["vector"] * 16 + kinds["masked"] * 16 + kinds["scalar float"]
        if worth > best["vector"] * 16 + best["masked"] * 16 + best["scalar float"]:
            best = kinds
    return best


def kind_of(line: str) -> str:
    return next((kind for kind, pattern in KINDS if re.search(pattern, line)), "other")


def loops_of(asm: str) -> list[list[str]]:
    """Bodies of innermost loops: from a label to the first jump back to it, no label jumped to
    from further on in between."""
    lines = [line.strip() for line in asm.splitlines()]
    lines = [line for line in lines if line and not line.startswith((".loc", "#", ".cfi"))]
    at_line = {line[:-1]: n for n, line in enumerate(lines) if re.match(r"^\.LBB\S+:$", line)}
    spans = []
    for n, line in enumerate(lines):
        jump = re.match(r"^j\S+\s+(\.LBB\S+)", line)
        if jump and at_line.get(jump[1], n) < n:
            spans.append((at_line[jump[1]], n))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    code = re.compile(r"^[a-z]")
    return [[line for line in lines[a : b + 1] if code.match(line)] for a, b in inner]


@click.command()
@click.option("--target", default="host", show_default=True, help="A profile of this machine.")
def main(target: str) -> None:
    """Time loops with conditions under every way to be rid of them."""
    profile = at.load_profile(target)
    machine = tvm_target(CodeTarget.of(profile.target))
    for kernel in kernels():
        click.echo(f"\n{kernel.name}, {', '.join(f'{n} = {v}' for n, v in kernel.sizes.items())}")
        built = {}
        for name, make in entrants(kernel, profile).items():
            try:
                built[name] = compiled(make(), machine)
            except Exception as error:  # what TVM refuses is a result, too
                click.echo(f"  {name:20} refused: {str(error).strip().splitlines()[-1][:70]}")
        found = timed(kernel, built)
        estimates = at.partition(kernel.func, profile, sizes=kernel.sizes).estimates
        by_name = {f"anatune {s.value}": e for s, e in estimates.items()}
        by_name[WRITTEN] = by_name.pop("anatune none")
        for name, (seconds, right) in found.items():
            estimate = by_name.get(name.removesuffix(" *"))
            said = "" if estimate is None else (
                f"  modelled {TIME.show(estimate.seconds)}, bound by {estimate.bound}, "
                f"L2 {dict(estimate.bytes_moved).get('L2', 0) / 1024:.0f} KiB"
            )  # fmt: skip
            kinds = ", ".join(f"{n} {k}" for k, n in mix(asm_of(built[name])).most_common())
            wrong = "" if right else "  WRONG"
            ratio = found[WRITTEN][0] / seconds
            click.echo(f"  {name:20} {TIME.show(seconds):>9}  {ratio:6.2f}x{wrong}{said}")
            click.echo(f"  {'':20} hot loop: {kinds or 'none found'}")


def asm_of(executable: Any) -> str:
    return str(executable.mod.inspect_source("s"))


if __name__ == "__main__":
    main()
