"""MetaSchedule, TVM's own search: imported without the wait, told of the machine (rank 7.5)."""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anatune.plan import CodeTarget

LEARNING_TRIALS = 100
"""Measured candidates before XGBoost's model is trained (``num_warmup_samples``)."""

SOURCED_FRAMES = 4
"""Frames of a stack whose source line is looked up."""


def import_metaschedule() -> Any:
    """The package, ready to make a `TuneContext` in a second or two."""
    _cheapen_stack_walks()
    from tvm.s_tir import meta_schedule

    return meta_schedule


def search_target(target: CodeTarget, threads: int) -> Any:
    """TVM's target of a plan, with the cores that a schedule is to keep busy."""
    from tvm.target import Target

    from anatune.codegen.target import tvm_target

    return Target({**dict(tvm_target(target).export()), "num-cores": threads})


def learns() -> bool:
    """Whether XGBoost, which its cost model learns with, is installed."""
    return importlib.util.find_spec("xgboost") is not None


def _cheapen_stack_walks() -> None:
    """Let TVM's script parser see four frames of the stack with their source instead of all.

    It asks for the whole stack at each of the thousands of functions that MetaSchedule's import
    declares, which takes a quarter of a minute; it reads the innermost frames only.
    """
    import tvm.relax.script.parser.entry as of_relax
    import tvm.script.parser.ir.entry as of_modules
    import tvm.tirx.script.parser.entry as of_functions

    cheaper = types.SimpleNamespace(**vars(inspect))
    cheaper.stack = _stack
    for module in (of_functions, of_modules, of_relax):
        module.inspect = cheaper


def _stack(context: int = 1) -> list[inspect.FrameInfo]:
    frames: list[inspect.FrameInfo] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        file, line, name = frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        source = [linecache.getline(file, line)] if len(frames) < SOURCED_FRAMES else None
        frames.append(inspect.FrameInfo(frame, file, line, name, source, 0 if source else None))
        frame = frame.f_back
    return frames
