"""The verdict over several tasks: profiles, mean ratios, and their uncertainty.

On task p the ratio of optimizer s is r_ps = t_ps / min_s t_ps, where t_ps is the geometric mean of its scores over the
seeds. Its performance profile is the share of the tasks on which r_ps <= τ, a function of τ >= 1, and its mean ratio
the geometric mean of r_ps over the tasks. Both are computed again on tasks drawn with replacement, and on seeds drawn
with replacement within each; seeds are the same for all optimizers, since equal seeds mean equal weights and batches.

A lead is judged by a test that is exact for any number of tasks. If two optimizers are alike, the difference of their
log t_ps is as likely to have either sign on each task. So p is the share of the 2^n choices of signs on which the mean
difference is as large as the one observed.

Sources: E. Dolan and J. Moré, "Benchmarking optimization software with performance profiles", Mathematical Programming
91, 2002; R. A. Fisher, "The design of experiments", 1935, section 21.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from inna.experiments.benchmark.scores import Scores
from inna.experiments.statistics.intervals import CONFIDENCE

__all__ = ["LEVEL", "RESAMPLES", "Lead", "ProfilePoint", "Standing", "Verdict"]

RESAMPLES = 2000
# A lead counts as established up to this p. A share of resamples is no such rule: 99 % of them are a false alarm in 6
# to 12 of 100 simulated benchmarks of two equal optimizers on six tasks, in 16 of 100 on four, and always on one.
LEVEL = 0.05
# Up to so many tasks all signs are tried, with more as many at random.
_ALL_SIGNS = 12
_SEED = 0

Array = npt.NDArray[Any]


class Standing(NamedTuple):
    """An optimizer's place.

    Attributes:
        label: the optimizer.
        ratio: its mean ratio, >= 1.
        low, high: the ends of the resampled interval.
        best: the share of the resamples in which no mean ratio is smaller.
        reached: the tasks on which most seeds reached the target, or finished.
    """

    label: str
    ratio: float
    low: float
    high: float
    best: float
    reached: int


class Lead(NamedTuple):
    """Certainty of the lead of the first.

    Attributes:
        p: the largest p of its differences to the others.
        rival: the optimizer with that p.
    """

    p: float
    rival: str


class ProfilePoint(NamedTuple):
    """A point of a profile: the share of the tasks, and its resampled band."""

    tau: float
    share: float
    low: float
    high: float


class Verdict:
    """The verdict on the optimizers of one track by one measure.

    Args:
        scores: of at least one task and one optimizer.
        resamples: how many times tasks and seeds are drawn.

    Raises:
        ValueError: there is no task or no optimizer.
    """

    def __init__(self, scores: Scores, resamples: int = RESAMPLES) -> None:
        if not scores.tasks or not scores.labels:
            raise ValueError("a verdict needs at least one task and one optimizer")
        self.scores = scores
        self.resamples = resamples

    @cached_property
    def ratios(self) -> dict[str, dict[str, float]]:
        """Return task -> label -> ratio to the best of the task."""
        ratios = np.exp(_log_ratios(self._means(self._logs)))
        return {
            task: {label: float(ratios[p, s]) for s, label in enumerate(self.scores.labels)}
            for p, task in enumerate(self.scores.tasks)
        }

    @cached_property
    def standings(self) -> list[Standing]:
        """Return the optimizers' places, the best first."""
        means = _log_ratios(self._means(self._logs)).mean(0)
        drawn = self._drawn[0].mean(1)  # (resample, optimizer)
        ends = np.exp(np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0))
        best = (drawn <= drawn.min(1, keepdims=True) + 1e-12).mean(0)
        reached = (self._reached.mean(2) > 0.5).sum(0)
        found = [
            Standing(
                label, float(np.exp(means[s])), float(ends[0, s]), float(ends[1, s]), float(best[s]), int(reached[s])
            )
            for s, label in enumerate(self.scores.labels)
        ]
        return sorted(found, key=lambda each: each.ratio)

    @cached_property
    def lead(self) -> Lead | None:
        """Return how certain the lead of the first is; None if there is no other."""
        means = self._means(self._logs)
        first = means[:, self.scores.labels.index(self.standings[0].label)]
        found = [
            Lead(_sign_test(means[:, s] - first), label)
            for s, label in enumerate(self.scores.labels)
            if label != self.standings[0].label
        ]
        return max(found, default=None)

    def standing(self, label: str) -> Standing:
        """Return the place of an optimizer."""
        return next(each for each in self.standings if each.label == label)

    def rank(self, label: str) -> int:
        """Return 1 for the best; optimizers with equal ratios share a rank."""
        own = self.standing(label).ratio
        return 1 + sum(each.ratio < own * (1 - 1e-12) for each in self.standings)

    def profile(self, taus: Sequence[float]) -> dict[str, list[ProfilePoint]]:
        """Return label -> profile at each of ``taus``, with its band.

        A task that most seeds do not solve counts at no τ.
        """
        logs = _log_ratios(self._means(self._logs))
        solved = self._reached.mean(2) > 0.5
        drawn, drawn_solved = self._drawn
        points: dict[str, list[ProfilePoint]] = {label: [] for label in self.scores.labels}
        for tau in taus:
            limit = np.log(tau) + 1e-12
            share = ((logs <= limit) & solved).mean(0)
            shares = ((drawn <= limit) & drawn_solved).mean(1)
            low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
            for s, label in enumerate(self.scores.labels):
                points[label].append(ProfilePoint(float(tau), float(share[s]), float(low[s]), float(high[s])))
        return points

    def leave_one_out(self) -> dict[str, list[Standing]]:
        """Return task -> places without it; empty for a single task."""
        if len(self.scores.tasks) < 2:
            return {}
        return {task: Verdict(self.scores.without(task), self.resamples).standings for task in self.scores.tasks}

    @cached_property
    def _logs(self) -> Array:
        """Return the logarithms of the scores, of shape (task, optimizer, seed)."""
        return np.log(self._array(self.scores.values))

    @cached_property
    def _reached(self) -> Array:
        return self._array(self.scores.reached)

    def _array(self, values: Any) -> Array:
        return np.array(
            [[values[task, label] for label in self.scores.labels] for task in self.scores.tasks], dtype=float
        )

    @cached_property
    def _drawn(self) -> tuple[Array, Array]:
        """Return the resampled logarithms of ratios and what was solved.

        Both of shape (resample, task, optimizer).
        """
        generator = np.random.default_rng(_SEED)
        count, _, seeds = self._logs.shape
        tasks = generator.integers(count, size=(self.resamples, count))
        chosen = generator.integers(seeds, size=(self.resamples, count, seeds))

        def draw(values: Array) -> Array:
            return np.take_along_axis(values[tasks], chosen[:, :, None, :], axis=3)

        return _log_ratios(self._means(draw(self._logs))), draw(self._reached).mean(3) > 0.5

    @staticmethod
    def _means(logs: Array) -> Array:
        return np.asarray(logs.mean(-1))


def _log_ratios(means: Array) -> Array:
    """Return log(t_ps / min_s t_ps) for log t_ps of shape (..., task, optimizer)."""
    return np.asarray(means - means.min(-1, keepdims=True))


def _sign_test(differences: Array) -> float:
    """Return the two-sided p of a mean of ``differences``, of shape (task,)."""
    count = len(differences)
    if count <= _ALL_SIGNS:
        bits = np.arange(2**count)[:, None] >> np.arange(count)
    else:
        bits = np.random.default_rng(_SEED).integers(2, size=(2**_ALL_SIGNS, count))
        bits[0] = 0  # the signs observed
    sums = np.abs((1 - 2 * (bits & 1)) @ differences)
    return float((sums >= abs(differences.sum()) * (1 - 1e-9)).mean())
