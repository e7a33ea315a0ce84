"""Scores of optimizers on each task: steps to the target, and final losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inna.experiments.benchmark.suite import SuiteTask
from inna.experiments.benchmark.targets import targets_of
from inna.experiments.rows.results import Result, finished, history, number
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.summary import TRAIN_LOSS, Entry, Summary

__all__ = ["PENALTY", "SOLVED", "Scores", "final_loss_scores", "steps_scores"]

# A run that does not reach its target counts as this many times its budget (PAR2, as in contests of SAT solvers).
PENALTY = 2.0
# A loss below this share of that of the initial weights counts as this share: the task is solved, and which of 1e-6 and
# 1e-8 is smaller decides nothing.
SOLVED = 1e-4


@dataclass(frozen=True)
class Scores:
    """Steps or losses of each optimizer on each task; smaller is better.

    Attributes:
        title: the measure in words.
        tasks: names of the tasks.
        labels: the optimizers, those with all final runs on each of the tasks.
        values: (task, label) -> a number > 0 for each seed.
        reached: (task, label) -> whether the run of each seed reached the target, or finished.
    """

    title: str
    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    values: Mapping[tuple[str, str], Sequence[float]]
    reached: Mapping[tuple[str, str], Sequence[bool]]

    def without(self, task: str) -> Scores:
        """Return the scores without a task."""
        return Scores(
            self.title, tuple(each for each in self.tasks if each != task), self.labels, self.values, self.reached
        )


def steps_scores(
    track: Mapping[SuiteTask, Summary], measure: str = TRAIN_LOSS.name, *, penalty: float = PENALTY
) -> Scores:
    """Return the epochs to the target of each task, as scores.

    A task counts if it has a target for the measure. ``measure`` "metric" is the main one on each test set.

    Args:
        track: the summaries of a track, complete ones only.
        measure: key of the rows, or "metric".
        penalty: what a run that does not reach its target counts as, in its epochs.
    """
    values, reached, tasks = {}, {}, []
    for task, summary in track.items():
        aim = summary.measures[1] if measure == "metric" else TRAIN_LOSS
        target = targets_of(task).get(aim.name)
        if target is None:
            continue
        tasks.append(task.name)
        for entry in summary.entries:
            epochs = [_epochs_to(entry.finals.get(seed, (None, {}))[1], aim, target) for seed in summary.study.seeds]
            place = task.name, entry.label
            reached[place] = [each is not None for each in epochs]
            values[place] = [penalty * task.epochs if each is None else float(each) for each in epochs]
    title = "Steps to the target training loss" if measure == TRAIN_LOSS.name else "Steps to the target test measure"
    return Scores(title, tuple(tasks), _common(track), values, reached)


def final_loss_scores(track: Mapping[SuiteTask, Summary], *, solved: float = SOLVED) -> Scores:
    """Return the training losses at the end of the equal budgets, as scores.

    A run that did not finish counts with the largest loss of initial weights among all rows. Losses below ``solved``
    times that are equal, zero too. A task with a negative loss does not count: ratios of such losses mean nothing.

    Args:
        track: the summaries of a track, complete ones only.
        solved: the share of the initial loss below which a task is solved.
    """
    values, reached, tasks = {}, {}, []
    for task, summary in track.items():
        initial = _initial_loss(summary)
        losses = {
            entry.label: [_loss(entry, seed, initial) for seed in summary.study.seeds] for entry in summary.entries
        }
        if not all(loss >= 0 and max(loss, solved * initial) > 0 for each in losses.values() for loss in each):
            continue
        tasks.append(task.name)
        for entry in summary.entries:
            place = task.name, entry.label
            values[place] = [max(loss, solved * initial) for loss in losses[entry.label]]
            reached[place] = [finished(entry.finals.get(seed, (None, {}))[1]) for seed in summary.study.seeds]
    return Scores("Final training loss", tuple(tasks), _common(track), values, reached)


def _common(track: Mapping[SuiteTask, Summary]) -> tuple[str, ...]:
    """Return the optimizers that every task has, in the order of the first."""
    labels = [[entry.label for entry in summary.entries] for summary in track.values()]
    return tuple(label for label in labels[0] if all(label in each for each in labels)) if labels else ()


def _epochs_to(result: Result, aim: Metric, target: float) -> int | None:
    """Return the first epoch at which a finished run has reached the target.

    None if never.
    """
    if not finished(result):
        return None
    for epoch in history(result)[1:]:
        value = number(epoch.get(aim.name))
        if (value <= target) if aim.goal == "min" else (value >= target):
            return int(epoch["epoch"])
    return None


def _initial_loss(summary: Summary) -> float:
    """Return the largest training loss before training; infinity if no row has it."""
    histories = (history(result) for _, result in summary.rows())
    return max((number(entries[0].get("train_loss")) for entries in histories if entries), default=math.inf)


def _loss(entry: Entry, seed: int, initial: float) -> float:
    result = entry.finals.get(seed, (None, {}))[1]
    loss = number(result.get("train_loss"))
    return loss if finished(result) and math.isfinite(loss) else initial
