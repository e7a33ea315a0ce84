"""The statistics of a study: spreads over seeds, paired differences, sensitivity, cost.

Everything is computed from rows alone, and no framework is imported. Losses are in the task's own unit, smaller is
better; each metric of the test set has its own good direction. Test data are not used for any choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from inna.experiments.rows.results import Cost, Result, Rows, cost, finished, history, number
from inna.experiments.rows.run import Metric, Run
from inna.experiments.statistics.intervals import Difference, paired_difference, spread
from inna.experiments.study.study import Choice, Contender, Study
from inna.experiments.study.tuning import state

__all__ = ["NEAR", "Entry", "Reach", "Summary", "summarize"]


# A tuning run is near the best if its loss is larger by at most this share.
NEAR = 0.10

TRAIN_LOSS = Metric("train_loss", "min")


class Reach(NamedTuple):
    """When a final run first reached the reference's best training loss on the same seed; None if never.

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
        tuning: its tuning runs, by schedule and learning rate.
        finals: seed -> the final run with the chosen learning rate.
        missing: the seeds whose final run is not done yet.
        reach: seed -> when it reached the reference's best training loss; only seeds on which the reference has one.
    """

    contender: Contender
    choice: Choice | None
    tuning: tuple[tuple[Run, Result], ...]
    finals: Mapping[int, tuple[Run, Result]]
    missing: tuple[int, ...]
    reach: Mapping[int, Reach]

    @property
    def label(self) -> str:
        """The optimizer's name in tables and legends."""
        return self.contender.label

    @property
    def diverged(self) -> tuple[int, ...]:
        """The seeds whose final run diverged."""
        return tuple(seed for seed, (_, result) in self.finals.items() if result.get("status") == "diverged")

    @property
    def pending(self) -> bool:
        """Whether final runs remain; False if every tuning run diverged."""
        return bool(self.missing) and (self.choice is not None or not self.tuning)

    def values(self, key: str) -> dict[int, float]:
        """Return seed -> the number under ``key``, such as train_loss, of each final run where it is finite."""
        values = {seed: number(result.get(key)) for seed, (_, result) in self.finals.items() if finished(result)}
        return {seed: value for seed, value in values.items() if math.isfinite(value)}

    @cached_property
    def near_best(self) -> int:
        """The number of tuning runs within 10 % of this optimizer's best training loss, including the best."""
        if self.choice is None:
            return 0
        limit = self.choice.train_loss + NEAR * abs(self.choice.train_loss)
        return sum(finished(result) and number(result.get("train_loss")) <= limit for _, result in self.tuning)

    @property
    def sensitivity(self) -> float:
        """The share of the tuning runs within 10 % of the best, in [0, 1]; NaN without tuning runs."""
        return self.near_best / len(self.tuning) if self.tuning else math.nan

    @property
    def seconds_per_epoch(self) -> float:
        """Mean over the final runs that finished; NaN without any."""
        seconds = spread(self.values("seconds_per_epoch").values(), "min")
        return seconds.mean if seconds else math.nan

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

    def survivors(self, q: float) -> list[float]:
        """Return the learning rates whose tuning run with decay ``q`` finished, ascending."""
        return sorted(run.lr for run, result in self.tuning if run.q == q and finished(result))


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
        """The training loss, then the test metrics, the main one first, named by their keys in the rows."""
        return (TRAIN_LOSS, *(Metric(f"test_{name}", goal) for name, goal in self.study.metrics))

    def rows(self) -> list[tuple[Run, Result]]:
        """Return every row of the summary, once."""
        return list({run.key: (run, result) for entry in self.entries for run, result in entry.runs()}.values())

    def difference(self, entry: Entry, key: str, reference: Entry | None = None) -> Difference | None:
        """Return the `paired_difference` of ``key`` between ``entry`` and ``reference`` (default: the study's)."""
        return paired_difference(entry.values(key), (reference or self.reference).values(key))

    def winner(self, measure: Metric) -> Entry | None:
        """Return the optimizer with the best mean of ``measure`` among those with a value on every seed.

        None if there is none, or if final runs remain.
        """
        if any(entry.pending for entry in self.entries):
            return None
        ranked = []
        for entry in self.entries:
            values = spread(entry.values(measure.name).values(), measure.goal)
            if values is not None and values.n == len(self.study.seeds):
                ranked.append((values.mean if measure.goal == "min" else -values.mean, entry))
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def rivals(self, measure: Metric) -> list[Entry]:
        """Return the optimizers without a significant difference to the winner of ``measure``."""
        winner = self.winner(measure)
        if winner is None:
            return []
        pairs = ((entry, self.difference(entry, measure.name, winner)) for entry in self.entries if entry != winner)
        return [entry for entry, difference in pairs if difference is not None and not difference.significant]


def summarize(study: Study, rows: Rows) -> Summary:
    """Summarize ``rows`` for ``study``: rows of other studies are skipped, runs not done yet are missing."""
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
            )
            for contender in study.contenders
        ),
    )


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
