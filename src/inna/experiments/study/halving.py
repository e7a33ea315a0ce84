"""Tuning by successive halving.

Trials of a search space, and a refinement of the learning rate.

The trials are points of `inna.experiments.study.search_space.points`, divided among the schedules. Their learning rates
are eighths of decades. They train for a sixteenth of the tuning epochs; the better half continues to an eighth, a
quarter and a half, as in K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016. A trial competes with those of its schedule, because learning rates that end at zero are
still high in the middle, and of its kind: those with the usual settings, and those with other ones.

The learning rate of the best of each kind is refined by quarter-decades at half of the tuning epochs, until both
neighbours are worse. These train for the whole. One whose loss rises meanwhile is at the edge of stability, and the
next smaller eighth-decade takes its place if it is better. Those whose loss is at most `CLEAR` times the least, and the
one with the usual settings under the best schedule, are refined by eighth-decades until both neighbours are worse.

The finalists are these, and up to `FINALISTS` in all others that are not clearly worse. They train as long as final
runs, but at most twice the tuning epochs; the better half, at least two, on the second tuning seed, too. The one with
the least mean is chosen, once its neighbours were tried, too. It must train on both seeds, and where a neighbour fails
to train, on two further ones. If none does, those that were left behind have their turn, one by one.

Losses that differ by more than `CLEAR` between the two seeds show that a learning rate is at the edge of stability: on
some seeds it settles, on others not. It is then judged by the worse seed instead of the mean, and the next smaller
learning rate must have trained as long on both seeds.

Trials are compared by the mean loss of the last quarter of their epochs. At the edge of stability the loss of one epoch
says little: it spikes, and the largest learning rate that still trains looks best on one seed and fails on the next.

Everything follows from the rows alone. A decision is made once all runs that it is about are done, so their order does
not matter.
"""

from __future__ import annotations

import dataclasses
import itertools
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

__all__ = ["CLEAR", "FINALISTS", "MAX_MOVES", "Ahead", "Search", "Trial", "rungs", "search", "trials_of"]

# The refinement moves by at most so many quarter-decades, and then by at most so many eighth-decades.
MAX_MOVES = 6
# Losses of neighbouring learning rates scatter by about this factor; one that is larger by more is clearly worse.
CLEAR = 2.0
FINALISTS = 3
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

    A sixteenth, an eighth, a quarter, a half, the whole.

    >>> rungs(15), rungs(1)
    ((1, 2, 4, 8, 15), (1,))
    """
    return tuple(sorted({math.ceil(epochs / part) for part in (16, 8, 4, 2, 1)}))


@cache
def trials_of(contender: Contender, count: int) -> tuple[Trial, ...]:
    """Return ``count`` trials of ``contender``, those of a schedule together.

    There are fewer if some are equal.

    The schedules share the points in blocks, because consecutive points of the sequence fill the range evenly. The
    first half of each block keeps the usual values of settings that have one, so that no search is much worse than one
    of the learning rate alone. Learning rates are rounded to eighths of decades, unless that gives an equal trial or
    leaves the range.
    """
    space = _space(contender)
    trials: dict[Trial, None] = {}
    shares = iter(points(count))
    for position, decay in enumerate(contender.qs):
        size = count // len(contender.qs) + (position < count % len(contender.qs))
        for place in range(size):
            values = {each.name: each.value(share) for each, share in zip(space, next(shares), strict=False)}
            if 2 * place < size:
                values |= {each.name: each.usual for each in space if each.default is not None}
            lr = values.pop(LEARNING_RATE, contender.grid[0])
            trial = Trial(lr, decay, tuple(sorted(values.items())))
            rounded = trial._replace(lr=_eighth(round(_PARTS_OF_DECADE * math.log10(lr))))
            fits = all(each.low <= rounded.lr <= each.high for each in space if each.name == LEARNING_RATE)
            free = any(each.name == LEARNING_RATE for each in space)
            trials[rounded if free and fits and rounded not in trials else trial] = None
    return tuple(trials)


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
        self.lengths = rungs(study.tuning_epochs)
        self.half = self.lengths[max(0, len(self.lengths) - 2)]
        self.longest = study.longest
        self.plan: dict[Run, None] = {}
        self.stage, self.ahead, self.spent = "", Ahead(), False
        self.strict = False
        self.most_runs, self.most_epochs = _limits(study)
        self.runs: dict[tuple[Trial, int, int], Run] = {}

    def tune(self) -> Choice | None:
        """Return the choice.

        Raises:
            _UndecidedError: it depends on runs that are not done.
        """
        queues = self._halve()
        # Where nothing trains within the tuning epochs, a finished run is enough.
        self.strict = any(trained(self.rows[run]) for run in self.plan)
        centers = self._centers(queues)
        if not centers:
            return None
        if self.free:
            centers = self._climb(centers, 2, self.half)
        self.stage = f"{count(self.study.tuning_epochs, 'epoch')}"
        self.ahead = self._ahead_of_end()
        self._need(map(self._run, centers))
        if self.free:
            centers = self._settle(centers)
        live = self._live(centers)
        if self.free:
            live = self._climb(live, 1, self.study.tuning_epochs)
        return self._decide(live, queues)

    def best_so_far(self) -> Choice | None:
        """Return the best of the runs that trained for most epochs; None without any."""
        done = [run for run in self.plan if run in self.rows and run.seed == self.study.tuning_seed]
        usable = [run for run in done if math.isfinite(final_loss(self.rows[run]))]
        longest = max((run.epochs for run in usable), default=0)
        best = min(
            (run for run in usable if run.epochs == longest), key=lambda run: final_loss(self.rows[run]), default=None
        )
        return None if best is None else Choice(self._at_full_length(best), final_loss(self.rows[best]))

    def _halve(self) -> list[list[Trial]]:
        """Return the trials of each kind that did not diverge.

        The best of those that trained longest first.
        """
        alive: dict[tuple[Schedule, bool], list[Trial]] = {}
        for trial in self.trials:
            alive.setdefault((trial.decay, self._is_usual(trial)), []).append(trial)
        queues: dict[tuple[Schedule, bool], list[Trial]] = {kind: [] for kind in alive}
        lengths = self.lengths[: self.lengths.index(self.half) + 1]
        for position, epochs in enumerate(lengths):
            self.stage = f"rung {position + 1} of {len(self.lengths)}: {count(epochs, 'epoch')}"
            self.ahead = self._ahead([len(trials) for trials in alive.values()], lengths[position:])
            self._need(self._run(trial, epochs) for trial in _in_turns(list(alive.values())))
            loss = partial(self._loss, epochs=epochs)
            for kind, trials in alive.items():
                ranked = sorted((trial for trial in trials if math.isfinite(loss(trial))), key=loss)
                kept = math.ceil(len(trials) / 2) if epochs < self.half else 0
                alive[kind], queues[kind] = ranked[:kept], [*ranked[kept:], *queues[kind]]
        return list(queues.values())

    def _is_usual(self, trial: Trial) -> bool:
        settings = dict(trial.settings)
        return all(settings[each.name] == each.usual for each in self.contender.space if each.default is not None)

    def _centers(self, queues: list[list[Trial]]) -> list[Trial]:
        """Return the first trial of each queue that trains within half of the epochs.

        The others before it leave the queue.
        """
        while True:
            centers = [queue[0] for queue in queues if queue]
            self._need(self._run(center, self.half) for center in centers)
            failed = [center for center in centers if not self._trains(self._result(center, self.half))]
            if not failed:
                return centers
            for queue in queues:
                if queue and queue[0] in failed:
                    del queue[0]

    def _climb(self, centers: list[Trial], step: int, epochs: int) -> list[Trial]:
        """Return ``centers`` at their best learning rates.

        They move by ``step`` eighths of a decade, and are judged after ``epochs`` on the first tuning seed.
        """
        loss = partial(self._loss, epochs=epochs)
        self.stage = f"{'quarter' if step == 2 else 'eighth'}-decades, {count(epochs, 'epoch')}"
        for _ in range(MAX_MOVES):
            whole = epochs == self.study.tuning_epochs
            self.ahead = self._ahead_of_last_rung() if whole else self._ahead_of_whole(len(centers))
            nearest = [(center, _moved(center, -step), _moved(center, step)) for center in centers]
            self._need(self._run(trial, epochs) for trials in nearest for trial in trials)
            best = [min(trials, key=loss) for trials in nearest]
            # Where all fail, the learning rate is too large.
            best = [
                lower if math.isinf(loss(trial)) else trial for trial, (_, lower, _) in zip(best, nearest, strict=True)
            ]
            if best == centers:
                break
            centers = best
        return centers

    def _settle(self, centers: list[Trial]) -> list[Trial]:
        """Return ``centers``, smaller ones in place of those whose loss rises.

        The better of a rising one and the next smaller eighth-decade stays, and moves on while its own loss rises.
        """
        for _ in range(MAX_MOVES):
            rising = [each for each in centers if self._run(each, self.half) in self.rows and self._rises(each)]
            lower = {each: _moved(each, -1) for each in rising}
            self._need(map(self._run, lower.values()))
            settled = [min((each, lower.get(each, each)), key=self._loss) for each in centers]
            if settled == centers:
                break
            centers = settled
        return centers

    def _rises(self, trial: Trial) -> bool:
        return self._loss(trial) > self._loss(trial, self.half) > 0

    def _live(self, centers: list[Trial]) -> list[Trial]:
        """Return those of ``centers`` that are refined."""
        best = min(centers, key=self._loss)
        least = self._loss(best)
        return [
            trial
            for trial in centers
            if not _clearly_worse(self._loss(trial), least) or (self._is_usual(trial) and trial.decay == best.decay)
        ]

    def _decide(self, live: list[Trial], queues: list[list[Trial]]) -> Choice | None:
        """Return the choice among ``live``, the best of each kind, and the next best."""
        whole = (self.study.tuning_epochs, self.study.tuning_seed)
        runs = {trial: run for (trial, *place), run in self.runs.items() if tuple(place) == whole}
        done = [trial for trial, run in runs.items() if run in self.plan and math.isfinite(self._loss(trial))]
        done.sort(key=lambda trial: (trial not in live, self._loss(trial)))
        least = min(map(self._loss, done), default=math.inf)
        close = [trial for trial in done if trial in live or not _clearly_worse(self._loss(trial), least)]
        finalists = close[: max(FINALISTS, sum(trial in live for trial in close))]
        self.stage, self.ahead = f"last rung: {count(self.longest, 'epoch')}", Ahead()
        self._need(self._run(trial, self.longest) for trial in finalists)
        ranked = sorted(finalists, key=lambda trial: self._loss(trial, self.longest))
        queue = list(dict.fromkeys((*ranked, *done, *_in_turns(queues))))
        size, moves = max(2, math.ceil(len(ranked) / 2)), MAX_MOVES
        while True:
            tried = queue[:size]
            self.stage = f"last rung: {seeds(self.study.tuning_seeds[1:])}"
            self._need(self._run(trial, self.longest, seed) for seed in self.study.tuning_seeds for trial in tried)
            fit = (trial for trial in sorted(tried, key=self._judged) if math.isfinite(self._judged(trial)))
            best = next((trial for trial in fit if self._is_safe(trial)), None)
            beyond = [] if best is None else self._untried(best, tried)
            if best is not None and not (beyond and moves):
                return self._choice(best)
            if best is not None:
                self._need(map(self._run, beyond))
                queue[size:size] = beyond
                size, moves = size + len(beyond), moves - 1
            elif size < len(queue):
                size += 1
            else:
                return None

    def _untried(self, trial: Trial, tried: Sequence[Trial]) -> list[Trial]:
        """Return the neighbours of ``trial`` that did not train for the tuning epochs.

        Where its losses scatter, also the lower one that is not among ``tried``.
        """
        neighbours = [_moved(trial, step) for step in (-1, 1)] if self.free else []
        scatters = _scatter(self._losses(trial))
        return [
            each
            for each in neighbours
            if self._run(each) not in self.plan or (scatters and each.lr < trial.lr and each not in tried)
        ]

    def _is_safe(self, trial: Trial) -> bool:
        """Return whether ``trial`` may be chosen.

        Where a neighbour fails to train on a tuning seed, it must train on two further seeds.
        """
        neighbours = [_moved(trial, step) for step in (-1, 1)] if self.free else []
        runs = [
            self._run(each, epochs, seed)
            for each in neighbours
            for epochs in {self.study.tuning_epochs, self.longest}
            for seed in self.study.tuning_seeds
        ]
        if all(self._trains(self.rows[run]) for run in runs if run in self.plan and run in self.rows):
            return True
        self.stage = f"{seeds(self.study.spare_seeds)} at {trial.lr:g}, beside one that fails"
        further = [self._run(trial, seed=seed) for seed in self.study.spare_seeds]
        self._need(further)
        return all(self._trains(self.rows[run]) for run in further)

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
            horizon=max(epochs, self.study.tuning_epochs),
            seed=seed,
        )

    def _at_full_length(self, run: Run) -> Run:
        return dataclasses.replace(run, epochs=self.study.tuning_epochs)

    def _result(self, trial: Trial, epochs: int | None = None, seed: int | None = None) -> Result:
        return self.rows[self._run(trial, epochs, seed)]

    def _loss(self, trial: Trial, epochs: int | None = None) -> float:
        """Return the loss on the first tuning seed.

        Infinity if the trial fails to train within the tuning epochs.
        """
        result = self._result(trial, epochs)
        late = epochs is not None and epochs < self.study.tuning_epochs
        return late_loss(result) if late or self._trains(result) else math.inf

    def _trains(self, result: Result) -> bool:
        return trained(result) if self.strict else math.isfinite(final_loss(result))

    def _losses(self, trial: Trial) -> list[float]:
        """Return the losses of the last rung on the tuning seeds.

        Infinity where the trial fails to train.
        """
        results = [self._result(trial, self.longest, seed) for seed in self.study.tuning_seeds]
        return [late_loss(result) if self._trains(result) else math.inf for result in results]

    def _mean(self, trial: Trial) -> float:
        """Return the mean loss over the tuning seeds.

        Infinity if the trial fails to train on one of them.
        """
        return _average(self._losses(trial))

    def _judged(self, trial: Trial) -> float:
        """Return the mean loss over the tuning seeds, or where they scatter the worst."""
        losses = self._losses(trial)
        return max(losses) if _scatter(losses) else _average(losses)

    def _choice(self, trial: Trial) -> Choice:
        best = self._run(trial)
        tried = [run.lr for run in self.plan if dataclasses.replace(run, lr=best.lr) == best]
        edge = (best.lr == max(tried)) - (best.lr == min(tried)) if self.free else 0
        return Choice(best, self._mean(trial), edge)

    def _ahead(self, sizes: Sequence[int], lengths: Sequence[int]) -> Ahead:
        """Return what follows the rung at the first of ``lengths``.

        In it the kinds have so many trials.
        """
        runs, epochs = 0, 0
        for before, length in itertools.pairwise(lengths):
            sizes = [math.ceil(size / 2) for size in sizes]
            runs += sum(sizes)
            epochs += sum(sizes) * (length - before)
        more = self._ahead_of_whole(len(sizes))
        return Ahead(runs + more.runs, epochs + more.epochs)

    def _ahead_of_whole(self, kinds: int) -> Ahead:
        """Return what follows half of the epochs for certain.

        A run of each kind to the end, and what follows then.
        """
        rest = self.study.tuning_epochs - self.half
        more = self._ahead_of_end()
        return Ahead((kinds if rest else 0) + more.runs, kinds * rest + more.epochs)

    def _ahead_of_end(self) -> Ahead:
        """Return the least that follows the tuning epochs.

        Two eighth-decades and the last rung.
        """
        refined = 2 if self.free else 0
        more = self._ahead_of_last_rung()
        return Ahead(refined + more.runs, refined * (self.study.tuning_epochs - self.half) + more.epochs)

    def _ahead_of_last_rung(self) -> Ahead:
        """Return the least that a last rung takes: a finalist on both seeds."""
        rest = self.longest - self.study.tuning_epochs
        return Ahead((rest > 0) + 1, rest + self.longest)


def _eighth(place: int) -> float:
    return round_lr(10 ** (place / _PARTS_OF_DECADE))


def _moved(trial: Trial, places: int) -> Trial:
    """Return ``trial`` with its learning rate so many eighths of a decade larger."""
    place = round(_PARTS_OF_DECADE * math.log10(trial.lr))
    if trial.lr == _eighth(place):
        return trial._replace(lr=_eighth(place + places))
    return trial._replace(lr=round_lr(trial.lr * 10 ** (places / _PARTS_OF_DECADE)))


def _clearly_worse(loss: float, least: float) -> bool:
    return loss > CLEAR * least > 0 or (math.isinf(loss) and math.isfinite(least))


def _scatter(losses: Sequence[float]) -> bool:
    """Return whether the losses of one trial on several seeds differ clearly."""
    return _clearly_worse(max(losses), min(losses))


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
        return share - study.finals, math.inf
    if unit == "epochs":
        return math.inf, share - study.finals * study.epochs
    return math.inf, math.inf
