"""The settings of each library that are worth trying, as choices (rank 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from anatune.report.competitors.entries import PATIENCE_S, Choice, Request, epilogue_name
from anatune.report.competitors.pytorch import (
    INTEGER,
    INTEGER_PACKED,
    MATMUL,
    MKL_PACKED,
    ONEDNN,
    ONEDNN_PACKED,
)
from anatune.workload import Matmul

ROOM = "anatune.report.competitors"
"""Package of the modules that choices name."""

AS_INSTALLED = "as installed"
PACKED_AHEAD = "B packed ahead"

TOLD_CORE_TYPES = {
    "x86_64": ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen", "Haswell"),
    "aarch64": ("ARMV8", "NEOVERSEN1", "NEOVERSEV1", "NEOVERSEN2"),
}
"""Instruction set -> core types that OpenBLAS can be told (its driver/others/dynamic*.c)."""

TOLD_ARCHITECTURES = {"x86_64": ("skx", "zen3"), "aarch64": ("firestorm", "armsve")}
"""Instruction set -> configurations that BLIS can be told (its config_registry)."""

TRIAL_S = 10.0
"""Patience for each of MetaSchedule's trials, seconds; about one was seen, for small products."""


def numpy_choices(request: Request) -> list[Choice]:
    """As installed first; where the BLAS is OpenBLAS, then told each core type."""
    from anatune.report.competitors.numpy_blas import CORE_TYPE_VARIABLE, blas_name

    make = partial(
        Choice, library="numpy", factory=f"{ROOM}.numpy_blas:NumpyMatmul", workload=request.workload
    )
    told = TOLD_CORE_TYPES.get(request.target.isa, ()) if "openblas" in blas_name() else ()
    as_told = [
        make(setting=f"told {core}", environment=((CORE_TYPE_VARIABLE, core),)) for core in told
    ]
    return [make(setting=AS_INSTALLED), *as_told]


def mkl_choices(request: Request) -> list[Choice]:
    """As installed, told to use AVX-512 where it does not by itself, on another pool of threads."""
    w = request.workload
    pool = ("SEQUENTIAL", "sequential") if request.threads == 1 else ("GNU", "GNU threads")
    environments: dict[str, dict[str, str]] = {
        AS_INSTALLED: {},
        "told AVX512": {"MKL_ENABLE_INSTRUCTIONS": "AVX512"},
        pool[1]: {"MKL_THREADING_LAYER": pool[0]},
    }
    packed = w.constant_b and w.batch == 1
    return [
        Choice(
            library="mkl", factory=f"{ROOM}.cblas:Mkl", workload=w, how=(ahead,),
            setting=f"{setting}, {PACKED_AHEAD}" if ahead else setting,
            environment=tuple(environment.items()),
        )
        for setting, environment in environments.items()
        for ahead in ((False, True) if packed else (False,))
    ]  # fmt: skip


def blis_choices(request: Request) -> list[Choice]:
    told = TOLD_ARCHITECTURES.get(request.target.isa, ())
    make = partial(
        Choice, library="blis", factory=f"{ROOM}.cblas:Blis", workload=request.workload
    )
    as_told = [make(setting=f"told {name}", how=(name,)) for name in told]
    return [make(setting=AS_INSTALLED), *as_told]


def torch_choices(request: Request) -> list[Choice]:
    """matmul, and where there is one product of two matrices, the layers of oneDNN and MKL."""
    w = request.workload
    name = epilogue_name(w)
    make = partial(Choice, library="torch", factory=f"{ROOM}.pytorch:TorchProduct")
    single = w.batch == 1 and w.alpha == 1 and not w.beta
    if w.accumulator == "int32":
        return _torch_integer(w, make) if single else []
    plain = [] if name else [make(setting="matmul", workload=w, how=(MATMUL,))]
    if not single or w.dtype == "float64":
        return plain
    ways = {"oneDNN linear": ONEDNN}
    if w.constant_b:
        ways[f"oneDNN linear, {PACKED_AHEAD}"] = ONEDNN_PACKED
        if w.dtype == "float32" and not name:
            ways[f"MKL linear, {PACKED_AHEAD}"] = MKL_PACKED
    return plain + [make(setting=s, workload=w, how=(how, name)) for s, how in ways.items()]


def _torch_integer(w: Matmul, make: Callable[..., Choice]) -> list[Choice]:
    """The bare product, and where B is constant the layer that networks of bytes are run with."""
    bare = make(setting="_int_mm", workload=w, how=(INTEGER,))
    found = [bare] if w.output.compact else []
    if w.constant_b:
        in_float = replace(w, out_dtype="float32")
        setting = f"quantised linear, {PACKED_AHEAD}"
        found.append(make(setting=setting, workload=in_float, how=(INTEGER_PACKED,)))
    return found


def onnxruntime_choices(request: Request) -> list[Choice]:
    """Threads that wait spinning or asleep; with one thread there is nobody to wait."""
    w = request.workload
    name = epilogue_name(w)
    stored_transposed = w.trans_a or (w.trans_b and not w.constant_b)
    if w.accumulator == "int32" and (stored_transposed or w.alpha != 1):
        return []  # MatMulInteger takes neither
    if name and w.dtype != "float32":
        return []  # Add takes no bias of another type than the sums
    ahead = f", {PACKED_AHEAD}" if w.constant_b else ""
    settings = {"threads spin": True, "threads sleep": False}
    if request.threads == 1:
        settings = {AS_INSTALLED: False}
    return [
        Choice(
            library="onnxruntime", factory=f"{ROOM}.onnx_runtime:OnnxProduct", workload=w,
            setting=f"{setting}{ahead}", how=(spinning, name),
        )
        for setting, spinning in settings.items()
    ]  # fmt: skip


def tvm_choices(request: Request) -> list[Choice]:
    factory = f"{ROOM}.tvm_untuned:TvmUntuned"
    return [
        Choice(
            library="tvm", setting="default pipeline", factory=factory,
            workload=request.workload, how=(request.target,),
        )
    ]  # fmt: skip


def metaschedule_choices(trials: int, request: Request) -> list[Choice]:
    factory = f"{ROOM}.tvm_metaschedule:TvmMetaSchedule"
    return [
        Choice(
            library=f"metaschedule {trials}", setting=f"{trials} trials", factory=factory,
            workload=request.workload, how=(request.target, trials),
            patience_s=PATIENCE_S + TRIAL_S * trials,
        )
    ]  # fmt: skip
