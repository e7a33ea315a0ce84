"""The statistics of a study.

Spreads over seeds, paired differences, sensitivity, cost.

Everything is computed from rows alone, and no framework is imported. Losses are in the task's own unit, smaller is
better; each metric of the test set has its own good direction. Test data are not used for any choice.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from inna.experiments.rows.results import Cost, Result, Rows, cost, final_loss, finished, history, number, trained
from inna.experiments.rows.run import Metric, Run, Schedule
from inna.experiments.statistics.intervals import Difference, Spread, holm, paired_difference, spread
from inna.experiments.study.study import Choice, Contender, Study
from inna.experiments.study.tuning import state

__all__ = ["NEAR", "TWICE", "UNEVEN", "Entry", "Reach", "Summary", "summarize"]


# A tuning run is near the best if its loss is larger by at most this share.
NEAR = 0.10
# Learning rates whose loss is at most this many times the best count for the width.
TWICE = 2.0
# Seeds differ in time if the slowest takes more than this many times the fastest.
UNEVEN = 1.5

TRAIN_LOSS = Metric("train_loss", "min")


class Reach(NamedTuple):
    """When a run first reached the reference's best training loss, if ever.

    On the same seed; None if never.

    ``seconds`` are those of training alone; NaN if the rows lack them.
    """

    epochs: int | None
    seconds: float | None


@dataclass(frozen=True)
class Entry:
    """The results of one optimizer of a study.

    Attributes:
        contender: the optimizer.
        choice: the outcome of tuning; None if no tuning run finished.
        tuning: its tuning runs, by schedule and learning rate; of a search those of all rungs and seeds.
        finals: seed -> the final run with the chosen learning rate.
        missing: the seeds whose final run is not done yet.
        reach: seed -> when it reached the reference's best training loss; only seeds on which the reference has one.
        untuned: the same optimizer at its library's defaults, with its final runs; None if the study has no such runs.
    """

    contender: Contender
    choice: Choice | None
    tuning: tuple[tuple[Run, Result], ...]
    finals: Mapping[int, tuple[Run, Result]]
    missing: tuple[int, ...]
    reach: Mapping[int, Reach]
    untuned: Entry | None = None

    @property
    def label(self) -> str:
        """The optimizer's name in tables and legends."""
        return self.contender.label

    @property
    def diverged(self) -> tuple[int, ...]:
        """The seeds whose final run diverged."""
        return tuple(seed for seed, (_, result) in self.finals.items() if result.get("status") == "diverged")

    @property
    def untrained(self) -> tuple[int, ...]:
        """The seeds whose final run finished at the loss of a constant output."""
        return tuple(
            seed for seed, (_, result) in self.finals.items() if finished(result) and seed not in self._trained
        )

    @cached_property
    def _trained(self) -> Mapping[int, Result]:
        """Seed -> result of the final runs that trained.

        Every number of a report is read from these.
        """
        return {seed: result for seed, (_, result) in self.finals.items() if trained(result)}

    @property
    def pending(self) -> bool:
        """Return whether final runs remain; False if every tuning run diverged."""
        return bool(self.missing) and (self.choice is not None or not self.tuning)

    def values(self, key: str) -> dict[int, float]:
        """Return seed -> the number under ``key`` of each final run that trained.

        Such as train_loss; only finite ones.
        """
        values = {seed: number(result.get(key)) for seed, result in self._trained.items()}
        return {seed: value for seed, value in values.items() if math.isfinite(value)}

    @cached_property
    def near_best(self) -> int:
        """The number of tuning runs within 10 % of this optimizer's best.

        By training loss, including the best.

        Only those of the best's length and seed count.
        """
        if self.choice is None:
            return 0
        best = min((final_loss(result) for run, result in self.comparable if run == self.choice.run), default=math.inf)
        if math.isinf(best):
            return 0
        limit = best + NEAR * abs(best)
        return sum(final_loss(result) <= limit for _, result in self.comparable)

    @cached_property
    def comparable(self) -> Sequence[tuple[Run, Result]]:
        """The tuning runs of the chosen one's length and seed; all without a choice."""
        if self.choice is None:
            return self.tuning
        length, seed = self.choice.run.epochs, self.choice.run.seed
        return [(run, result) for run, result in self.tuning if (run.epochs, run.seed) == (length, seed)]

    @property
    def sensitivity(self) -> float:
        """The share of the tuning runs within 10 % of the best, in [0, 1].

        NaN without tuning runs.
        """
        return self.near_best / len(self.comparable) if self.comparable else math.nan

    @cached_property
    def neighbours(self) -> Sequence[tuple[Run, Result]]:
        """The tuning runs that differ from the chosen one in the learning rate alone.

        By learning rate, with the chosen one; empty without a choice.
        """
        if self.choice is None:
            return ()
        best = self.choice.run
        found = [(run, result) for run, result in self.comparable if replace(run, lr=best.lr) == best]
        return sorted(found, key=lambda item: item[0].lr)

    @cached_property
    def good_lrs(self) -> tuple[float, float] | None:
        """The ends of the learning rates around the best.

        Those whose training loss is at most twice the best's, at its schedule and other settings. Between tried ones
        the logarithm of the loss is taken to be linear in that of the learning rate; towards one that diverged or
        did not train they end at the last that did. None where the best did not train, a loss is not positive, or fewer
        than two learning rates were tried.
        """
        tried = [
            (math.log10(run.lr), final_loss(result) if trained(result) else math.inf) for run, result in self.neighbours
        ]
        if self.choice is None or len(tried) < 2 or any(loss <= 0 for _, loss in tried):
            return None
        place = [run for run, _ in self.neighbours].index(self.choice.run)
        if math.isinf(tried[place][1]):
            return None
        return 10 ** _last_good(tried[place::-1]), 10 ** _last_good(tried[place:])

    @property
    def lr_width(self) -> float:
        """The width of `good_lrs` in decades; NaN without them."""
        return math.log10(self.good_lrs[1] / self.good_lrs[0]) if self.good_lrs else math.nan

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the final runs that trained; NaN without any."""
        seconds = self.values("seconds_per_epoch").values()
        return statistics.median(seconds) if seconds else math.nan

    @property
    def uneven_seconds(self) -> Spread | None:
        """The spread of the seconds per epoch, or None if it is small.

        It is small if the slowest seed takes at most 1.5 times the fastest.
        """
        seconds = spread(self.values("seconds_per_epoch").values(), "min")
        return seconds if seconds and seconds.worst > UNEVEN * seconds.best else None

    @property
    def state_bytes_per_parameter(self) -> float:
        """The optimizer's memory per trained parameter, in bytes; NaN if no row has it."""
        sizes = (number(result.get("state_bytes_per_parameter")) for _, result in self.runs())
        return next((size for size in sizes if math.isfinite(size)), math.nan)

    @property
    def cost(self) -> Cost:
        """The cost of tuning and final runs; a diverged run counts the epochs it began."""
        return cost(self.runs())

    def runs(self) -> Iterator[tuple[Run, Result]]:
        """Yield the tuning runs, then the final runs."""
        yield from self.tuning
        yield from self.finals.values()

    def all_runs(self) -> Iterator[tuple[Run, Result]]:
        """Yield `runs`, then the untuned ones."""
        yield from self.runs()
        if self.untuned is not None:
            yield from self.untuned.finals.values()

    def survivors(self, decay: Schedule) -> list[float]:
        """Return the learning rates whose runs under ``decay`` all finished.

        Ascending, of the tuning.
        """
        tried = [(run.lr, finished(result)) for run, result in self.tuning if run.decay == decay]
        return sorted({lr for lr, _ in tried} - {lr for lr, done in tried if not done})


@dataclass(frozen=True)
class Summary:
    """The statistics of a study, with one entry per optimizer, in the study's order."""

    study: Study
    entries: tuple[Entry, ...]

    @property
    def reference(self) -> Entry:
        """The entry that the others are compared with."""
        return next(entry for entry in self.entries if entry.label == self.study.reference)

    @property
    def measures(self) -> tuple[Metric, ...]:
        """The training loss, then the test metrics, the main one first.

        They are named by their keys in the rows.
        """
        return (TRAIN_LOSS, *(Metric(f"test_{name}", goal) for name, goal in self.study.metrics))

    def rows(self) -> list[tuple[Run, Result]]:
        """Return every row of the summary, once."""
        every = (item for entry in self.entries for item in entry.all_runs())
        return list({run.key: (run, result) for run, result in every}.values())

    def ratios(self, measure: Metric) -> bool:
        """Return whether ``measure`` is compared as ratios.

        Smaller is better, and every optimizer's values are all > 0.
        """
        values = [value for entry in self.entries for value in entry.values(measure.name).values()]
        return measure.goal == "min" and min(values, default=0.0) > 0

    def spread(self, entry: Entry, measure: Metric) -> Spread | None:
        """Return mean, best and worst of ``entry``.

        The mean is geometric where ratios are compared.
        """
        return spread(entry.values(measure.name).values(), measure.goal, geometric=self.ratios(measure))

    def difference(self, entry: Entry, measure: Metric, reference: Entry) -> Difference | None:
        """Return the `paired_difference` between ``entry`` and ``reference``.

        Its p-value is not corrected.
        """
        return paired_difference(entry.values(measure.name), reference.values(measure.name), ratio=self.ratios(measure))

    def differences(self, measure: Metric, reference: Entry | None = None) -> dict[str, Difference]:
        """Return label -> difference to ``reference``, corrected for their number.

        The p-values are those of `holm`, where seeds are added also corrected for the repeated looks.

        Without ``reference`` it is the study's, which was chosen before the runs: the comparisons are the others' with
        it. A ``reference`` is chosen after seeing the results: then all pairs of optimizers count.
        """
        base = reference or self.reference
        pairs = {entry.label: self.difference(entry, measure, base) for entry in self.entries if entry is not base}
        known = {label: difference for label, difference in pairs.items() if difference is not None}
        tested = [label for label, difference in known.items() if difference.p is not None]
        if reference is None:
            corrected = dict(zip(tested, self._corrected([known[label].p or 0.0 for label in tested]), strict=True))
        else:
            of_pairs = self._corrected_pairs(measure)
            corrected = {label: of_pairs[frozenset((label, base.label))] for label in tested}
        return {label: difference._replace(p=corrected.get(label)) for label, difference in known.items()}

    def _corrected_pairs(self, measure: Metric) -> dict[frozenset[str], float]:
        """Return the p-values of all pairs of optimizers, corrected together."""
        found: dict[frozenset[str], float] = {}
        for place, entry in enumerate(self.entries):
            for other in self.entries[:place]:
                difference = self.difference(entry, measure, other)
                if difference is not None and difference.p is not None:
                    found[frozenset((entry.label, other.label))] = difference.p
        return dict(zip(found, self._corrected(list(found.values())), strict=True))

    def _corrected(self, p_values: Sequence[float]) -> list[float]:
        """Return the p-values of `holm`, divided by the error rate's share of this look."""
        return holm([p / self.study.error_share for p in p_values])

    def winners(self, measure: Metric) -> Sequence[Entry]:
        """Return the optimizers with the best mean of ``measure``.

        Among those with a value on every seed.

        Several if their means are equal; none if none has all values, or if final runs remain.
        """
        if any(entry.pending for entry in self.entries):
            return ()
        spreads = [(entry, self.spread(entry, measure)) for entry in self.entries]
        means = [(entry, each.mean) for entry, each in spreads if each and each.n == len(self.study.seeds)]
        if not means:
            return ()
        best = (min if measure.goal == "min" else max)(mean for _, mean in means)
        return [entry for entry, mean in means if math.isclose(mean, best, rel_tol=1e-12)]

    def rivals(self, measure: Metric) -> list[Entry]:
        """Return the optimizers that differ from the winner, but not significantly.

        Empty without a single winner of ``measure``.

        The winner is chosen after seeing the results, so all pairs of optimizers count as comparisons.
        """
        winners = self.winners(measure)
        if len(winners) != 1:
            return []
        found = self.differences(measure, winners[0])
        return [entry for entry in self.entries if entry.label in found and not found[entry.label].significant]


def summarize(study: Study, rows: Rows) -> Summary:
    """Summarize ``rows`` for ``study``.

    Rows of other studies are skipped, runs not done yet are missing.
    """
    tunings = {contender.label: state(study, contender, rows) for contender in study.contenders}
    finals = {
        label: {run.seed: (run, rows[run]) for run in tuning.finals if run in rows} for label, tuning in tunings.items()
    }
    targets = {seed: _best_loss(result) for seed, (_, result) in finals[study.reference].items() if finished(result)}
    targets = {seed: loss for seed, loss in targets.items() if math.isfinite(loss)}
    return Summary(
        study,
        tuple(
            Entry(
                contender=contender,
                choice=tunings[contender.label].choice,
                tuning=tuple(tunings[contender.label].results(rows)),
                finals=finals[contender.label],
                missing=tuple(seed for seed in study.seeds if seed not in finals[contender.label]),
                reach={
                    seed: _reach(result, targets[seed])
                    for seed, (_, result) in finals[contender.label].items()
                    if seed in targets
                },
                untuned=_untuned(contender, tunings[contender.label].untuned, rows),
            )
            for contender in study.contenders
        ),
    )


def _untuned(contender: Contender, runs: Sequence[Run], rows: Rows) -> Entry | None:
    if not runs:
        return None
    finals = {run.seed: (run, rows[run]) for run in runs if run in rows}
    missing = tuple(run.seed for run in runs if run not in rows)
    return Entry(contender, None, (), finals, missing, {})


def _best_loss(result: Result) -> float:
    losses = (number(epoch.get("train_loss")) for epoch in history(result))
    return min((loss for loss in losses if math.isfinite(loss)), default=math.nan)


def _reach(result: Result, target: float) -> Reach:
    seconds = 0.0
    for epoch in history(result):
        if epoch["epoch"] > 0:
            seconds += number(epoch.get("seconds"))
        if number(epoch.get("train_loss")) <= target:
            return Reach(int(epoch["epoch"]), seconds)
    return Reach(None, None)


def _last_good(tried: Sequence[tuple[float, float]]) -> float:
    """Return up to where the loss stays below `TWICE` that of the first.

    ``tried`` are (log10 of the learning rate, loss) of the best and those on one side of it.
    """
    limit, last = math.log(TWICE * tried[0][1]), tried[0]
    for lr, loss in tried[1:]:
        if math.isinf(loss):
            break
        if math.log(loss) > limit:
            low, high = math.log(last[1]), math.log(loss)
            return last[0] + (lr - last[0]) * (limit - low) / (high - low)
        last = lr, loss
    return last[0]
