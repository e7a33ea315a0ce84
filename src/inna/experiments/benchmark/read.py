"""Read the results of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inna.experiments.benchmark.suite import TRACKS, Suite, SuiteTask
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.statistics.read import Results, open_results
from inna.experiments.statistics.summary import Summary

__all__ = ["ADDED", "Benchmark", "open_benchmark"]

# Rows of others are in folders below this one, one for each name.
ADDED = "added"


@dataclass(frozen=True)
class Benchmark:
    """The results of a benchmark, read once for everything that shows them.

    Attributes:
        folder: where they are.
        name: "" for one's own, else the name under which they were added.
        suite: tasks and protocol.
        results: track -> task -> results, as far as there are any.
        added: the results of others, in the order of their names.
    """

    folder: Path
    name: str
    suite: Suite
    results: Mapping[str, Mapping[SuiteTask, Results]]
    added: tuple[Benchmark, ...] = ()

    def complete(self, track: str) -> dict[SuiteTask, Summary]:
        """Return task -> summary of the tasks all of whose final runs are done."""
        summaries = {task: results.summary for task, results in self.results[track].items()}
        return {
            task: summary for task, summary in summaries.items() if not any(entry.pending for entry in summary.entries)
        }

    @property
    def begun(self) -> list[str]:
        """The tracks with results."""
        return [track for track in TRACKS if self.results[track]]

    def missing(self, tracks: Iterable[str]) -> list[str]:
        """Return the tasks with final runs that remain on ``tracks``, as words."""
        return [
            f"{task.name} ({track})"
            for track in tracks
            for task in self.suite.tasks
            if task not in self.complete(track)
        ]


def open_benchmark(folder: str | Path, name: str = "") -> Benchmark:
    """Read ``folder``, and the results of others in it.

    Args:
        folder: of `inna benchmark`.
        name: under which the results were added.

    Raises:
        FileNotFoundError: there is no benchmark.json.
        ValueError: no run is done yet.
        DamagedRowError: benchmark.json or a study.json is damaged.
    """
    folder = Path(folder)
    suite = Suite.load(folder)
    results: dict[str, dict[SuiteTask, Results]] = {track: {} for track in TRACKS}
    for track in TRACKS:
        for task in suite.tasks:
            try:
                results[track][task] = open_results(folder / task.folder(track))
            except DamagedRowError:
                raise
            except (FileNotFoundError, ValueError):  # not begun
                continue
    if not any(results.values()):
        raise ValueError(f"{folder}: no run of the benchmark is done yet; run the same `inna benchmark` to resume")
    others = sorted(path for path in (folder / ADDED).glob("*") if path.is_dir()) if not name else []
    return Benchmark(folder, name, suite, results, tuple(open_benchmark(path, path.name) for path in others))
