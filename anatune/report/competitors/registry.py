"""Who can run beside our kernel: the libraries and what each computes (rank 9).

Nothing is imported to find out: a library that is installed is started in a worker, once for each
of its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from anatune.errors import OptionError, require
from anatune.report.competitors import settings
from anatune.report.competitors.cblas import blis_file, mkl_file
from anatune.report.competitors.entries import Choice, Library, Request

UNTUNED_FLOPS = 2e10
"""Work up to which untuned loops are run: seen at 1-2 GFLOP/s where they leave the caches."""

FLOAT_OUT = {"float32": ("float32",), "float64": ("float64",)}
BYTES_OUT = {pair: ("int32",) for pair in ("int8", "uint8 x int8", "int8 x uint8", "uint8")}


def find(
    request: Request, names: Sequence[str] | None = None, trials: Sequence[int] = ()
) -> tuple[dict[str, list[Choice]], dict[str, str]]:
    """Choices by library, and why each other library is left out.

    Args:
        names: libraries that are asked for; all of `LIBRARIES` by default.
        trials: numbers of trials that MetaSchedule is given, each a competitor of its own.

    Raises:
        OptionError: a name that is not in the list, or a number of trials below 1.
    """
    wanted = tuple(LIBRARIES) if names is None else known_names(names)
    require(all(n >= 1 for n in trials), f"metaschedule = {trials}: 1 trial or more", OptionError)
    entries = {name: LIBRARIES[name] for name in wanted}
    for count in trials:
        name = f"metaschedule {count}"
        ways = partial(settings.metaschedule_choices, count)
        entries[name] = replace(METASCHEDULE, name=name, ways=ways)
    found: dict[str, list[Choice]] = {}
    left_out: dict[str, str] = {}
    for name, library in entries.items():
        why = library.missing() or library.refusal(request.workload)
        if why:
            left_out[name] = why
            continue
        choices = library.ways(replace(request, workload=library.produced(request.workload)))
        if choices:
            found[name] = choices
        else:
            left_out[name] = "has no one call for this product"
    return found, left_out


def known_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names``, each once. Raises OptionError for one that is not in `LIBRARIES`."""
    unknown = next((name for name in names if name not in LIBRARIES), None)
    known = ", ".join(LIBRARIES)
    require(unknown is None, f"libraries = {unknown!r}: there are {known}", OptionError)
    return tuple(dict.fromkeys(names))


def _pip(module: str, package: str) -> str:
    return "" if find_spec(module) else f"not installed: pip install {package}"


def _missing_tvm() -> str:
    return _pip("tvm", "apache-tvm")


def _missing_search() -> str:
    """The modules that MetaSchedule's own code imports; xgboost is asked for only if there."""
    absent = [name for name in ("cloudpickle", "psutil") if not find_spec(name)]
    return _missing_tvm() or (f"not installed: pip install {' '.join(absent)}" if absent else "")


def _missing_onnx() -> str:
    return _pip("onnxruntime", "onnxruntime") or _pip("onnx", "onnx")


TVM_OUT = {**FLOAT_OUT, "float16": ("float32",), **BYTES_OUT}

LIBRARIES = {
    library.name: library
    for library in (
        Library(
            name="numpy", missing=lambda: _pip("numpy", "numpy"), ways=settings.numpy_choices,
            out_dtypes=FLOAT_OUT, alpha=False, beta=False,
        ),
        Library(
            name="mkl", missing=lambda: "" if mkl_file() else "not installed: pip install mkl",
            ways=settings.mkl_choices,
            out_dtypes={
                **FLOAT_OUT, "bfloat16": ("float32",), "float16": ("float32",),
                "uint8 x int8": ("int32",),
            },
        ),
        Library(
            name="blis", ways=settings.blis_choices, out_dtypes=FLOAT_OUT, batch=False,
            missing=lambda: "" if blis_file() else "not installed: the system's package libblis4",
        ),
        Library(
            name="torch", missing=lambda: _pip("torch", "torch"), ways=settings.torch_choices,
            out_dtypes={
                **FLOAT_OUT, "float16": ("float16",), "bfloat16": ("bfloat16",),
                "int8": ("int32",), "uint8 x int8": ("int32",),
            },
            epilogue=True,
        ),
        Library(
            name="onnxruntime", missing=_missing_onnx, ways=settings.onnxruntime_choices,
            out_dtypes={**FLOAT_OUT, "float16": ("float16",), **BYTES_OUT},
            rows_apart=False, beta=False, epilogue=True,
        ),
        Library(
            name="tvm", missing=_missing_tvm, ways=settings.tvm_choices, out_dtypes=TVM_OUT,
            rows_apart=False, alpha=False, beta=False, most_flops=UNTUNED_FLOPS,
        ),
    )
}  # fmt: skip
"""By name, in the order in which they are tried."""

METASCHEDULE = Library(
    name="metaschedule", missing=_missing_search, ways=settings.tvm_choices, out_dtypes=TVM_OUT,
    rows_apart=False, alpha=False, beta=False,
)  # fmt: skip
"""Runs only where a number of trials is asked for."""
