"""TVM's own search for the same product: MetaSchedule, with what it took (rank 9)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

from anatune.plan import CodeTarget
from anatune.report.competitors.tvm_untuned import TvmUntuned, tvm_version
from anatune.search.tvm_tuner import LEARNING_TRIALS, import_metaschedule, learns, search_target

TRIALS_AT_ONCE = 64
"""Candidates of one generation: TVM's default."""

CANDIDATE_MS = 20
"""Time for which a candidate is run, milliseconds; TVM's own 100 would be most of a search."""


class TvmMetaSchedule(TvmUntuned):
    """``trials`` candidates, built and timed in this process: starting others takes TVM longer."""

    def prepare(  # type: ignore[override]
        self, target: CodeTarget, trials: int
    ) -> Callable[[], Any]:
        start = time.perf_counter()
        meta_schedule = import_metaschedule()
        import tvm

        told = search_target(target, self.threads)
        learning = learns()
        self.note = "XGBoost's cost model" if learning else "no xgboost here: a random cost model"
        if learning and trials <= LEARNING_TRIALS:
            self.note += f", which learns from trial {LEARNING_TRIALS} on"
        with tempfile.TemporaryDirectory(prefix="anatune-") as folder:
            builder, runner = _in_this_process([*self.inputs.values(), self.c])
            found = meta_schedule.tune_tir(
                self._module(), told, folder, trials, builder=builder, runner=runner,
                num_trials_per_iter=min(trials, TRIALS_AT_ONCE), num_tuning_cores=self.threads,
                cost_model="xgb" if learning else "random", seed=0,
                measure_callbacks=[  # the default ones but for the removal of files: there are none
                    meta_schedule.measure_callback.AddToDatabase(),
                    meta_schedule.measure_callback.UpdateCostModel(),
                ],
            )  # fmt: skip
            best = meta_schedule.tir_integration.compile_tir(found, self._module(), told)
        if best is None:
            raise RuntimeError(f"none of {trials} candidates of MetaSchedule works")
        self._executable = tvm.compile(best.mod, target=told)
        self.tuning_s = time.perf_counter() - start
        return self._ready(self._executable)

    def library(self) -> str:
        return f"TVM {tvm_version()}, MetaSchedule"


def _in_this_process(arrays: list[Any]) -> tuple[Any, Any]:
    """A builder that keeps what it builds, and a runner that times it on ``arrays``."""
    import tvm
    import tvm_ffi
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerResult

    built: dict[str, Any] = {}
    tensors = [tvm_ffi.from_dlpack(array) for array in arrays]

    @derived_object
    class Builder(PyBuilder):  # type: ignore[misc]
        def build(self, build_inputs: Any) -> list[Any]:
            return [self._built(given) for given in build_inputs]

        def _built(self, given: Any) -> Any:
            name = f"candidate{len(built)}"
            try:
                built[name] = tvm.compile(given.mod, target=given.target)
            except Exception as error:  # whatever a candidate does wrong is its own failure
                return BuilderResult(None, str(error))
            return BuilderResult(name, None)

    @derived_object
    class Future(PyRunnerFuture):  # type: ignore[misc]
        def __init__(self, result: Any) -> None:
            super().__init__()
            self._result = result

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self._result

    @derived_object
    class Runner(PyRunner):  # type: ignore[misc]
        def run(self, runner_inputs: Any) -> list[Any]:
            return [Future(self._timed(built[given.artifact_path])) for given in runner_inputs]

        def _timed(self, executable: Any) -> Any:
            timer = executable.mod.time_evaluator("main", tvm.cpu(), min_repeat_ms=CANDIDATE_MS)
            try:
                return RunnerResult(list(timer(*tensors).results), None)
            except Exception as error:
                return RunnerResult(None, str(error))

    return Builder(), Runner()
