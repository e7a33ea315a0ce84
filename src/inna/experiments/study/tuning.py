"""Tuning of an optimizer: which runs are due, and which learning rate is chosen."""

from __future__ import annotations

import math
from typing import NamedTuple

from inna.experiments.rows.results import Result, Rows, final_loss
from inna.experiments.rows.run import Run
from inna.experiments.study.halving import Ahead, search
from inna.experiments.study.search_space import round_lr
from inna.experiments.study.study import REFINEMENTS, Choice, Contender, Study, schedule_order

__all__ = ["MAX_EXTENSIONS", "Tuning", "state"]


# A best value on the edge of the grid extends it this often at most, per schedule; half a decade each time.
MAX_EXTENSIONS = 4


class Tuning(NamedTuple):
    """The state of the tuning of one optimizer.

    Attributes:
        plan: the tuning runs known to be needed so far, done or not, in the order in which they are due.
        choice: the best learning rate and schedule among those done; None if none finished.
        finals: the final runs of ``choice``, one a seed; empty without a choice.
        stage: what a search does now; empty for a grid.
        ahead: the runs of a search that follow ``plan`` for certain, with their epochs.
        untuned: the runs at the library's defaults, one a seed; empty if the study has none.
    """

    plan: tuple[Run, ...]
    choice: Choice | None
    finals: tuple[Run, ...]
    stage: str = ""
    ahead: Ahead = Ahead()
    untuned: tuple[Run, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs known to be needed, each once."""
        return tuple(dict.fromkeys((*self.plan, *self.finals, *self.untuned)))

    def results(self, rows: Rows) -> list[tuple[Run, Result]]:
        """Return the tuning runs that are done, by schedule and learning rate.

        With their results.
        """

        def order(run: Run) -> tuple[object, ...]:
            return schedule_order(run.decay), run.lr, run.seed, run.epochs

        return [(run, rows[run]) for run in sorted(self.plan, key=order) if run in rows]

    def done(self, rows: Rows) -> list[tuple[Run, Result]]:
        """Return `results`, then the final runs that are done with theirs."""
        return self.results(rows) + [(run, rows[run]) for run in self.finals if run in rows]


def state(study: Study, contender: Contender, rows: Rows) -> Tuning:
    """Return the state of the tuning of ``contender``, which the rows decide.

    With ``study.trials`` it is that of `inna.experiments.study.halving.search`. Otherwise the plan is the grid, coarse
    before fine, each value under every schedule. Once the grid of a schedule is done and its best value is on the edge,
    the plan goes half a decade beyond that edge, until the best is interior or the grid has grown `MAX_EXTENSIONS`
    times. A grid where everything diverged grows downwards. With ``study.refinement`` the best of each schedule then
    gets neighbours a quarter of a decade to both sides, and the best of these three an eighth. A grid of one value is
    neither extended nor refined.

    The choice has the least training loss after the tuning epochs; test data are not used. Diverged runs and losses
    that are not finite lose. Equal losses go to the smaller q, then to the smaller learning rate.

    Rows of other runs do not count, so a study chooses the same whatever else its folder contains.
    """
    if study.trials:
        plan, choice, stage, ahead = search(study, contender, rows)
    else:
        plan, stage, ahead = _plan(study, contender, rows), "", Ahead()
        choice = _choose(Tuning(plan, None, ()).results(rows), tuned=len(contender.grid) > 1)
    finals = () if choice is None else tuple(study.final_runs(choice))
    return Tuning(plan, choice, finals, stage, ahead, tuple(study.untuned_runs(contender)))


def _plan(study: Study, contender: Contender, rows: Rows) -> tuple[Run, ...]:
    order = _coarse_to_fine(len(contender.grid))
    plan = [study.tuning_run(contender, contender.grid[i], q) for i in order for q in contender.qs]
    for q in contender.qs if len(contender.grid) > 1 else ():
        tried = [study.tuning_run(contender, lr, q) for lr in contender.grid]
        for _ in range(MAX_EXTENSIONS):
            if not all(run in rows for run in tried):
                break
            best = min(tried, key=lambda run: final_loss(rows[run]))
            if best is not tried[0] and best is not tried[-1]:
                break
            downwards = best is tried[0]
            beyond = study.tuning_run(contender, _beyond(best.lr, -1 if downwards else 1, 2), q)
            tried.insert(0 if downwards else len(tried), beyond)
            plan.append(beyond)
        for parts in REFINEMENTS if all(run in rows for run in tried) else ():
            best = min(tried, key=lambda run: final_loss(rows[run]))
            if parts > study.refinement or math.isinf(final_loss(rows[best])):
                break
            around = [study.tuning_run(contender, _beyond(best.lr, side, parts), q) for side in (-1, 1)]
            new = [run for run in around if run not in tried]
            plan += new
            if not all(run in rows for run in new):
                break
            tried = sorted([*tried, *new], key=lambda run: run.lr)
    return tuple(plan[: study.tuning_limit])


def _choose(results: list[tuple[Run, Result]], *, tuned: bool) -> Choice | None:
    best, result = min(results, key=lambda item: final_loss(item[1]), default=(None, {}))
    if best is None or math.isinf(final_loss(result)):
        return None
    lrs = [run.lr for run, _ in results if run.decay == best.decay]
    edge = -1 if best.lr == min(lrs) else 1 if best.lr == max(lrs) else 0
    return Choice(best, final_loss(result), edge if tuned else 0)


def _coarse_to_fine(count: int) -> list[int]:
    """0 .. count - 1, the middle first, then the middles of the halves, and so on."""
    spans, order = [(0, count)], []
    for low, high in spans:  # grows while it is read: breadth first
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            spans += [(low, middle), (middle + 1, high)]
    return order


def _beyond(lr: float, direction: int, parts: int) -> float:
    """``lr`` times 10^(direction/parts), to three digits.

    Values of such a ladder, as of `HALF_DECADES`, stay on it.
    """
    exponent = parts * math.log10(lr)
    if abs(exponent - round(exponent)) < 0.01:
        exponent = round(exponent)
    return round_lr(10 ** ((exponent + direction) / parts))
