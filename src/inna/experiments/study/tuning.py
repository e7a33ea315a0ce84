"""Tuning of an optimizer: which runs are due, and which learning rate is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from inna.experiments.rows.run import Run
from inna.experiments.study.study import Choice, Contender, Study

__all__ = [
    "MAX_EXTENSIONS",
    "Spent",
    "choose",
    "spent",
    "tuning_plan",
    "tuning_results",
]


# A best value on the edge of the grid extends it this often at most, per schedule; half a decade each time.
MAX_EXTENSIONS = 4


def tuning_plan(study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]) -> list[Run]:
    """The tuning runs of ``contender`` that ``rows`` call for, done or not, in the order in which they are due.

    First the grid, coarse before fine, each value under every schedule. Then, for a schedule whose grid is done and
    whose best value lies on the edge, half a decade beyond that edge, until the best is interior or the grid has grown
    `MAX_EXTENSIONS` times. A grid where everything diverged grows downwards. A grid of one value is not extended.
    Since the plan follows from the rows alone, a study chooses the same whatever else lies in its folder.
    """
    order = _coarse_to_fine(len(contender.grid))
    plan = [study.tuning_run(contender, contender.grid[i], q) for i in order for q in contender.qs]
    for q in contender.qs if len(contender.grid) > 1 else ():
        tried = [study.tuning_run(contender, lr, q) for lr in contender.grid]
        for _ in range(MAX_EXTENSIONS):
            if not all(run in rows for run in tried):
                break
            best = min((run for run in tried if _usable(rows[run])), key=lambda run: _loss(rows[run]), default=tried[0])
            if best is not tried[0] and best is not tried[-1]:
                break
            downwards = best is tried[0]
            beyond = study.tuning_run(contender, _half_decade_beyond(best.lr, -1 if downwards else 1), q)
            tried.insert(0 if downwards else len(tried), beyond)
            plan.append(beyond)
    return plan[: study.tuning_limit]


def tuning_results(
    study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]
) -> Iterator[tuple[Run, Mapping[str, Any]]]:
    """The runs of `tuning_plan` among ``rows``, by q and gamma_0; other rows of the same folder do not count."""
    for run in sorted(tuning_plan(study, contender, rows), key=lambda run: (run.q, run.lr)):
        if run in rows:
            yield run, rows[run]


def choose(study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]) -> Choice | None:
    """The step size with the least training loss after the tuning epochs; test data takes no part.

    Diverged runs and losses that are not finite lose. Equal losses go to the smaller q, then the smaller gamma_0.
    None if no tuning run of ``contender`` is among ``rows`` or all diverged.
    """
    results = list(tuning_results(study, contender, rows))
    usable = [(run, result) for run, result in results if _usable(result)]
    if not usable:
        return None
    best, result = min(usable, key=lambda item: _loss(item[1]))
    lrs = [run.lr for run, _ in results if run.q == best.q]
    edge = -1 if best.lr == min(lrs) else 1 if best.lr == max(lrs) else 0
    return Choice(best.lr, best.q, _loss(result), edge)


class Spent(NamedTuple):
    """What a contender's runs cost, tuning and final ones together; a diverged run costs what it ran."""

    runs: int
    epochs: int
    seconds: float


def spent(study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]]) -> Spent:
    """What ``contender`` has spent of the study so far: runs, epochs begun, and seconds of one process."""
    results = [result for _, result in tuning_results(study, contender, rows)]
    choice = choose(study, contender, rows)
    if choice is not None:
        results += [rows[run] for run in study.final_runs(contender, choice) if run in rows]
    return Spent(
        len(results), sum(_epochs(result) for result in results), math.fsum(r.get("seconds", 0.0) for r in results)
    )


def _coarse_to_fine(count: int) -> list[int]:
    """0 .. count - 1, the middle first, then the middles of the halves, and so on."""
    spans, order = [(0, count)], []
    for low, high in spans:  # grows while it is read: breadth first
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            spans += [(low, middle), (middle + 1, high)]
    return order


def _half_decade_beyond(lr: float, direction: int) -> float:
    """``lr`` times 10^(direction/2), to three digits; values of `HALF_DECADES` stay on that ladder."""
    exponent = 2 * math.log10(lr)
    if abs(exponent - round(exponent)) < 0.01:
        exponent = round(exponent)
    return float(f"{10 ** ((exponent + direction) / 2):.3g}")


def _loss(result: Mapping[str, Any]) -> float:
    return float(result.get("train_loss", math.nan))


def _usable(result: Mapping[str, Any]) -> bool:
    return result.get("status") == "done" and math.isfinite(_loss(result))


def _epochs(result: Mapping[str, Any]) -> int:
    divergence = result.get("divergence")
    return int(divergence["epoch"]) if divergence else max(0, len(result.get("history", ())) - 1)
