"""Tuning by successive halving.

Trials of a search space, and a refinement of the learning rate.

The trials are points of `inna.experiments.study.search_space.points`, divided among the schedules. They train for an
eighth of the tuning epochs; of each schedule the better half continues to a quarter, a half and the whole, as in
K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
A schedule competes with itself until then: learning rates that end at zero are still high in the middle. The better
half of all that trained for the whole then trains on the second tuning seed. If none of these trains there, those that
were left behind have their turn, one by one.

The learning rates of the best, and of the best of every other schedule, are refined by quarter-decades on the first
tuning seed until both neighbours are worse; that of the best of these then by eighth-decades on both. A learning rate
is not chosen if one of its neighbours fails to train on either seed.

Trials are compared by the mean loss of the last quarter of their epochs. At the edge of stability the loss of one epoch
says little: it spikes, and the largest learning rate that still trains looks best on one seed and fails on the next.

Everything follows from the rows alone. A decision is made once all runs that it is about are done, so their order does
not matter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cache, partial
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from inna.experiments.formatting import count, seeds
from inna.experiments.rows.results import Result, Rows, epochs_added, final_loss, history, number, trained
from inna.experiments.rows.run import Run, Schedule
from inna.experiments.study.budget import parse_budget
from inna.experiments.study.search_space import LEARNING_RATE, Dimension, learning_rate, points, round_lr
from inna.experiments.study.study import Choice, Contender, Study

__all__ = ["MAX_MOVES", "MAX_RATES", "Ahead", "Search", "Trial", "rungs", "search", "trials_of"]

# The refinement moves by at most so many quarter-decades, and then tries at most so many eighth-decades.
MAX_MOVES = 6
MAX_RATES = 9
_PARTS_OF_DECADE = 8


class Trial(NamedTuple):
    """A point of the search space."""

    lr: float
    decay: Schedule
    settings: tuple[tuple[str, Any], ...]


class Ahead(NamedTuple):
    """The runs that follow for certain after those planned, and their epochs."""

    runs: int = 0
    epochs: int = 0


class Search(NamedTuple):
    """The state of a search, as in `inna.experiments.study.tuning.Tuning`."""

    plan: tuple[Run, ...]
    choice: Choice | None
    stage: str
    ahead: Ahead


def search(study: Study, contender: Contender, rows: Rows) -> Search:
    """Return the state of the search of ``contender``, which the rows decide."""
    planner = _Planner(study, contender, rows)
    try:
        choice, stage = planner.tune(), "tuned"
    except _UndecidedError:
        choice, stage = planner.best_so_far(), planner.stage
    return Search(tuple(planner.plan), choice, stage, Ahead() if planner.spent else planner.ahead)


def rungs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which trials are compared.

    An eighth, a quarter, a half, the whole.

    >>> rungs(15), rungs(1)
    ((2, 4, 8, 15), (1,))
    """
    return tuple(sorted({math.ceil(epochs / part) for part in (8, 4, 2, 1)}))


@cache
def trials_of(contender: Contender, count: int) -> tuple[Trial, ...]:
    """Return ``count`` trials of ``contender``, those of a schedule together.

    There are fewer if some are equal.

    The schedules share the points in blocks, because consecutive points of the sequence fill the range evenly. The
    first half of each block keeps the usual values of settings that have one, so that no search is much worse than one
    of the learning rate alone.
    """
    space = _space(contender)
    trials, shares = [], iter(points(count))
    for position, decay in enumerate(contender.qs):
        size = count // len(contender.qs) + (position < count % len(contender.qs))
        for place in range(size):
            values = {each.name: each.value(share) for each, share in zip(space, next(shares), strict=False)}
            if 2 * place < size:
                values |= {each.name: each.usual for each in space if each.default is not None}
            lr = values.pop(LEARNING_RATE, contender.grid[0])
            trials.append(Trial(lr, decay, tuple(sorted(values.items()))))
    return tuple(dict.fromkeys(trials))


def _space(contender: Contender) -> tuple[Dimension, ...]:
    """Return the dimensions of the search, a free learning rate first."""
    rates = [each for each in contender.space if each.name == LEARNING_RATE]
    if not rates and len(contender.grid) > 1:
        rates = [learning_rate(contender.grid[0], contender.grid[-1])]
    return (*rates, *(each for each in contender.space if each.name != LEARNING_RATE))


class _UndecidedError(Exception):
    """A decision needs runs that are not done."""


class _Planner:
    """Plans the runs of one search, as far as the rows decide it.

    Attributes:
        plan: the runs needed so far.
        stage: what they are for.
        ahead: what follows for certain.
        spent: whether the budget ends the search.
    """

    def __init__(self, study: Study, contender: Contender, rows: Rows) -> None:
        self.study, self.contender, self.rows = study, contender, rows
        self.trials = trials_of(contender, study.trials)
        self.free = any(each.name == LEARNING_RATE for each in _space(contender))
        self.plan: dict[Run, None] = {}
        self.stage, self.ahead, self.spent = "", Ahead(), False
        self.strict = True
        self.most_runs, self.most_epochs = _limits(study)
        self.runs: dict[tuple[Trial, int, int], Run] = {}

    def tune(self) -> Choice | None:
        """Return the choice.

        Raises:
            _UndecidedError: it depends on runs that are not done.
        """
        queue, size = self._halve()
        if not queue:
            return None
        # Where nothing trains within the tuning epochs, a finished run is enough.
        self.strict = any(trained(self.rows[run]) for run in self.plan)
        best = self._on_all_seeds(queue, size)
        if not self.free:
            return None if math.isinf(self._mean(best)) else self._choice(best)
        others = [next((trial for trial in queue if trial.decay == decay), None) for decay in self.contender.qs]
        centers = [best, *(trial for trial in others if trial is not None and trial.decay != best.decay)]
        climbed = [(center, self._climb(center)) for center in centers]
        climbed.sort(key=lambda each: self._loss(_moved(*each)))
        choices = (self._refine(center, place) for center, place in climbed)
        return next((choice for choice in choices if choice is not None), None)

    def best_so_far(self) -> Choice | None:
        """Return the best of the runs that trained for most epochs; None without any."""
        done = [run for run in self.plan if run in self.rows and run.seed == self.study.tuning_seed]
        usable = [run for run in done if math.isfinite(final_loss(self.rows[run]))]
        longest = max((run.epochs for run in usable), default=0)
        best = min(
            (run for run in usable if run.epochs == longest), key=lambda run: final_loss(self.rows[run]), default=None
        )
        return None if best is None else Choice(self._at_full_length(best), final_loss(self.rows[best]))

    def _halve(self) -> tuple[list[Trial], int]:
        """Return the trials that did not diverge, the best of the longest first.

        The second value is how many of them train on the next seed: half of those that trained for the whole.
        """
        lengths = rungs(self.study.tuning_epochs)
        alive = {decay: [trial for trial in self.trials if trial.decay == decay] for decay in self.contender.qs}
        queue: list[Trial] = []
        for position, epochs in enumerate(lengths):
            self.stage = f"rung {position + 1} of {len(lengths) + 1}: {count(epochs, 'epoch')}"
            self.ahead = self._ahead([len(trials) for trials in alive.values()], position)
            self._need(self._run(trial, epochs) for trial in _in_turns(list(alive.values())))
            loss = partial(self._loss, epochs=epochs)
            ranked = {
                decay: sorted((trial for trial in trials if math.isfinite(loss(trial))), key=loss)
                for decay, trials in alive.items()
            }
            kept = {decay: math.ceil(len(alive[decay]) / 2) if epochs < lengths[-1] else 0 for decay in alive}
            alive = {decay: trials[: kept[decay]] for decay, trials in ranked.items()}
            out = [trial for decay, trials in ranked.items() for trial in trials[kept[decay] :]]
            queue = [*sorted(out, key=loss), *queue]
        self.stage = f"rung {len(lengths) + 1} of {len(lengths) + 1}: {seeds(self.study.tuning_seeds[1:])}"
        self.ahead = self._ahead_of_refinement()
        return queue, max(1, math.ceil(len(out) / 2))

    def _on_all_seeds(self, queue: Sequence[Trial], size: int) -> Trial:
        """Return the best of the first ``size`` trials over the tuning seeds.

        While none of them trains on every seed, the next one of the queue has its turn.
        """
        while True:
            tried = queue[:size]
            self._need(self._run(trial, seed=seed) for seed in self.study.tuning_seeds for trial in tried)
            best = min(tried, key=lambda trial: (self._mean(trial), self._loss(trial)))
            if math.isfinite(self._mean(best)) or size >= len(queue):
                return best
            size += 1

    def _climb(self, center: Trial) -> int:
        """Return how far the best learning rate is from ``center``.

        In eighths of a decade; quarters are tried on the first tuning seed.
        """
        place = 0
        for _ in range(MAX_MOVES):
            self.stage = f"quarter-decades around {_moved(center, place).lr:g}"
            self.ahead = self._ahead_of_refinement(quarters=0)
            nearest = (place, place - 2, place + 2)
            self._need(self._run(_moved(center, each)) for each in nearest)
            best = min(nearest, key=lambda each: self._loss(_moved(center, each)))
            if best == place:
                break
            place = best
        return place

    def _refine(self, center: Trial, place: int) -> Choice | None:
        """Return the choice among the learning rates around the one at ``place``."""
        at = partial(_moved, center)
        tried = {place}
        while True:
            self.ahead = self._ahead_of_refinement(quarters=0) if len(tried) == 1 else Ahead()
            self.stage = f"eighth-decades around {at(place).lr:g}"
            self._need(self._run(at(each), seed=seed) for each in sorted(tried) for seed in self.study.tuning_seeds)
            means = {each: self._mean(at(each)) for each in tried}
            judged = {
                each: means[each]
                if all(math.isfinite(means[near]) for near in (each - 1, each + 1) if near in means)
                else math.inf
                for each in sorted(tried)
            }
            eligible = [each for each, loss in judged.items() if math.isfinite(loss)]
            # The quarter-decades may have gone where only the first seed trains; the center trains on all.
            place = min(eligible, key=lambda each: judged[each]) if eligible else min(0, min(tried) - 1)
            wanted = {place - 1, place + 1} - tried if eligible else {place}
            if not wanted:
                return self._choice(at(place))
            if len(tried) >= MAX_RATES:
                between = [each for each in eligible if {each - 1, each + 1} <= tried]
                side = sum(each - place for each in wanted)
                return self._choice(at(min(between, key=lambda each: judged[each])), side) if between else None
            tried |= wanted

    def _need(self, runs: Iterable[Run]) -> None:
        """Plan ``runs``; raise `_UndecidedError` unless all are done."""
        missing = False
        for run in runs:
            if run not in self.plan:
                if self._beyond_budget(run):
                    self.spent = True
                    raise _UndecidedError
                self.plan[run] = None
            missing |= run not in self.rows
        if missing:
            raise _UndecidedError

    def _beyond_budget(self, run: Run) -> bool:
        if len(self.plan) >= self.most_runs:
            return True
        return math.isfinite(self.most_epochs) and sum(epochs_added([*self.plan, run])) > self.most_epochs

    def _run(self, trial: Trial, epochs: int | None = None, seed: int | None = None) -> Run:
        place = (trial, epochs or self.study.tuning_epochs, self.study.tuning_seed if seed is None else seed)
        if place not in self.runs:
            self.runs[place] = self._make_run(*place)
        return self.runs[place]

    def _make_run(self, trial: Trial, epochs: int, seed: int) -> Run:
        run = self.study.tuning_run(self.contender, trial.lr, trial.decay)
        dampings = {name: value for name, value in trial.settings if name in ("alpha", "beta")}
        others = {name: value for name, value in trial.settings if name not in dampings}
        return dataclasses.replace(
            run,
            **dampings,
            settings=tuple((dict(run.settings) | others).items()),
            epochs=epochs,
            horizon=self.study.tuning_epochs,
            seed=seed,
        )

    def _at_full_length(self, run: Run) -> Run:
        return dataclasses.replace(run, epochs=self.study.tuning_epochs)

    def _result(self, trial: Trial, epochs: int | None = None, seed: int | None = None) -> Result:
        return self.rows[self._run(trial, epochs, seed)]

    def _loss(self, trial: Trial, epochs: int | None = None) -> float:
        return late_loss(self._result(trial, epochs))

    def _mean(self, trial: Trial) -> float:
        """Return the mean loss over the tuning seeds.

        Infinity if the trial fails to train on one of them.
        """
        results = [self._result(trial, seed=seed) for seed in self.study.tuning_seeds]
        losses = [late_loss(result) for result in results]
        return math.inf if self.strict and not all(map(trained, results)) else _average(losses)

    def _choice(self, trial: Trial, side: int = 0) -> Choice:
        return Choice(self._run(trial), self._mean(trial), (side > 0) - (side < 0))

    def _ahead(self, sizes: Sequence[int], position: int) -> Ahead:
        """Return what follows the rung at ``position``.

        In it the schedules have so many trials.
        """
        lengths = rungs(self.study.tuning_epochs)
        runs, epochs = 0, 0
        for before, length in zip(lengths[position:], lengths[position + 1 :], strict=False):
            sizes = [math.ceil(size / 2) for size in sizes]
            runs += sum(sizes)
            epochs += sum(sizes) * (length - before)
        finalists = math.ceil(sum(sizes) / 2) * (len(self.study.tuning_seeds) - 1)
        more = self._ahead_of_refinement()
        return Ahead(runs + finalists + more.runs, epochs + finalists * self.study.tuning_epochs + more.epochs)

    def _ahead_of_refinement(self, quarters: int = 2) -> Ahead:
        """Return the least that a refinement takes.

        Its quarter-decades, and two eighth-decades on every seed.
        """
        runs = quarters + 2 * len(self.study.tuning_seeds) if self.free else 0
        return Ahead(runs, runs * self.study.tuning_epochs)


def _moved(trial: Trial, place: int) -> Trial:
    """Return ``trial`` with its learning rate so many eighths of a decade larger."""
    return trial._replace(lr=round_lr(trial.lr * 10 ** (place / _PARTS_OF_DECADE))) if place else trial


def late_loss(result: Result) -> float:
    """Return the mean training loss of the last quarter of the epochs.

    Infinity if the run did not finish with a finite loss. At the edge of stability one epoch's loss says little.
    """
    if math.isinf(final_loss(result)):
        return math.inf
    losses = [number(entry.get("train_loss")) for entry in history(result)[1:]]
    return _average(losses[-max(1, len(losses) // 4) :]) if losses else final_loss(result)


def _average(losses: Sequence[float]) -> float:
    """Return the mean, geometric if all are positive; infinity if one is."""
    if math.inf in losses or min(losses) <= 0:
        return math.fsum(losses) / len(losses)
    return math.exp(math.fsum(map(math.log, losses)) / len(losses))


def _in_turns(groups: Sequence[Sequence[Trial]]) -> list[Trial]:
    return [trial for trial in chain.from_iterable(zip_longest(*groups)) if trial is not None]


def _limits(study: Study) -> tuple[float, float]:
    """Return the runs and epochs that a budget allows each optimizer's search."""
    if not study.budget:
        return math.inf, math.inf
    amount, unit = parse_budget(study.budget)
    share = amount / len(study.contenders)
    if unit == "runs":
        return share - len(study.seeds), math.inf
    if unit == "epochs":
        return math.inf, share - len(study.seeds) * study.epochs
    return math.inf, math.inf
