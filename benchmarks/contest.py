"""One row of gemm.py: tune, then everybody in turns, as ``anatune compare``; all samples are kept.

Each library is heard in a heat of its own, in which its settings meet our kernel; the best setting
goes on to the final, the processes of the others end. All that is left ends with the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import call_cost
import common
from gemm_rows import OURS, Case, Row, Runner

import anatune as at
from anatune.errors import AnatuneError, WorkerError, require
from anatune.measure.stand import Stand
from anatune.report.compare import BATCH_S, HOPELESS, heat
from anatune.report.competitors.entries import Request
from anatune.report.competitors.registry import find
from anatune.report.turns import Entrant, fastest, take_turns


@dataclass(frozen=True)
class Terms:
    """What holds for all rows of a run."""

    run: str
    budget: Any = None  # of our own tuning
    rounds: int = 9
    libraries: Sequence[str] | None = None  # None: all that are installed
    limit_s: float = 300.0  # of a row; looked at before each library
    tell: Callable[[str], None] = lambda text: None


def measure(case: Case, terms: Terms) -> Row:
    """The row of a case. A failure becomes its note."""
    row = Row(case, terms.run)
    start = time.monotonic()
    try:
        terms.tell("tuning")
        result = at.tune(case.workload, threads=case.threads, budget=terms.budget, database=False)
        tuning_s = time.monotonic() - start
        row.plan, row.predicted_s = result.plan.to_json(), result.predicted.seconds
        _race(row, result, tuning_s, start + terms.limit_s, terms)
        if _call_matters(case):
            terms.tell("calls")
            row.call_s = call_cost.costs(result)
    except AnatuneError as error:
        row.note = common.in_one_line(error)
    row.wall_s = time.monotonic() - start
    return row


def _race(row: Row, result: at.Result, tuning_s: float, end: float, terms: Terms) -> None:
    """Heats of every library, then the final; `row` takes all that was found."""
    case, plan = row.case, result.plan
    request = Request(workload=plan.workload, target=plan.target, threads=case.threads)
    found, row.left_out = find(request, terms.libraries, case.trials)
    with ExitStack() as stack:
        stand = stack.enter_context(Stand([plan], result.measured.median_s))
        ours = common.kernel_entrant("tuned", stand.ready([plan])[plan])
        require(ours.batch, ours.note, WorkerError)
        ours.tuning_s = tuning_s
        final = {OURS: ours}
        for name, choices in found.items():
            if time.monotonic() > end:
                row.unreached.append(name)
                continue
            terms.tell(name)
            best, others = heat(ours, choices, request, stack)
            row.runners += [_kept(name, entrant, final=False) for entrant in others]
            if best is None:
                row.left_out[name] = others[0].note
            else:
                final[name] = best
        terms.tell("final")
        take_turns(_finalists(list(final.values())), terms.rounds, BATCH_S, patience=HOPELESS)
    row.runners[:0] = [_kept(name, entrant) for name, entrant in final.items()]
    row.note = "; ".join(f"{name}: {e.note}" for name, e in final.items() if not e.samples)


def _finalists(entrants: list[Entrant]) -> list[Entrant]:
    """Those within reach of the fastest, without samples; the others keep those of their heats."""
    best = fastest(entrants)
    limit = HOPELESS * (best.seconds or 0.0) if best else 0.0
    finalists = [entrant for entrant in entrants if (entrant.seconds or 0.0) <= limit]
    for entrant in finalists:
        entrant.samples.clear()
    return finalists


def _kept(name: str, entrant: Entrant, final: bool = True) -> Runner:
    return Runner(
        name, entrant.library, entrant.setting, tuple(entrant.samples), entrant.note,
        entrant.tuning_s, final,
    )  # fmt: skip


def _call_matters(case: Case) -> bool:
    """A product so small that a call is most of it, where `call_cost` can call it."""
    return case.product.tiny and case.dtype == "float32" and not case.constant_b
