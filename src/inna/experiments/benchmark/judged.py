"""The verdicts of a benchmark, one for each track and measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inna.experiments.benchmark.read import Benchmark
from inna.experiments.benchmark.scores import Scores, final_loss_scores, steps_scores
from inna.experiments.benchmark.suite import TRACKS, SuiteTask
from inna.experiments.benchmark.verdict import RESAMPLES, Verdict
from inna.experiments.statistics.summary import Summary

__all__ = ["MEASURES", "Judged", "judge"]

MEASURES = ("steps", "loss", "test")
"""Steps to the target training loss, final training loss, steps to the target of the main test measure."""


@dataclass(frozen=True)
class Judged:
    """A benchmark with its verdicts.

    Attributes:
        benchmark: the results.
        tracks: track -> task -> summary, of complete tasks.
        verdicts: (track, measure) -> verdict.
    """

    benchmark: Benchmark
    tracks: Mapping[str, Mapping[SuiteTask, Summary]]
    verdicts: Mapping[tuple[str, str], Verdict]

    @property
    def labels(self) -> list[str]:
        """The optimizers of all tracks, in their order."""
        found = [entry.label for track in self.tracks.values() for each in track.values() for entry in each.entries]
        return list(dict.fromkeys(found))


def judge(benchmark: Benchmark, resamples: int = RESAMPLES) -> Judged:
    """Compute the verdicts on all tracks and measures that have a complete task."""
    tracks = {track: benchmark.complete(track) for track in TRACKS}
    verdicts = {}
    for track, summaries in tracks.items():
        for measure, scores in _scores(summaries).items():
            if scores.tasks and scores.labels:
                verdicts[track, measure] = Verdict(scores, resamples)
    return Judged(benchmark, tracks, verdicts)


def _scores(summaries: Mapping[SuiteTask, Summary]) -> dict[str, Scores]:
    return {
        "steps": steps_scores(summaries),
        "loss": final_loss_scores(summaries),
        "test": steps_scores(summaries, "metric"),
    }
