"""Run a study from the command line: sweep, table and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from inna.experiments.formatting import count, print_line

if TYPE_CHECKING:
    from inna.experiments.study.study import Study
    from inna.experiments.sweep.options import SweepOptions
    from inna.experiments.sweep.sweep import Failure

__all__ = ["conclude", "run_study"]


def run_study(
    study: Study, folder: Path, console: Console, options: SweepOptions, *, description: Study | None = None
) -> tuple[list[Path], list[Failure]]:
    """Do the missing runs, then write report.html and print the table.

    Arguments as in `inna.experiments.sweep.sweep.sweep`.

    Returns:
        The pages written and the runs that failed, for `conclude`.
    """
    from inna.experiments.study.remaining import outlook
    from inna.experiments.sweep.progress import make_progress
    from inna.experiments.sweep.sweep import sweep
    from inna.experiments.training.allocation import keep_freed_memory

    keep_freed_memory()
    began = time.monotonic()
    with make_progress(console) as progress:
        rows, failures = sweep(study, folder, options, progress=progress, description=description)
    ahead = outlook(study, rows, [failure.run for failure in failures])
    if options.minutes is not None and time.monotonic() - began >= 60 * options.minutes and ahead.left:
        print_line(console, f"The time is up; {count(ahead.left, 'run')} left. Run the same command to resume.")
    if not ahead.done:
        return [], failures

    from inna.experiments.report.write import print_table, write_report
    from inna.experiments.statistics.summary import summarize

    print_line(console, "Writing report.html.")
    page = write_report(folder)
    print_table(summarize(study, rows), console)
    return [page], failures


def conclude(console: Console, pages: Sequence[Path], failures: Sequence[Failure]) -> int:
    """Print where the pages are, and return exit status 0.

    Raises:
        SweepError: a run failed.
    """
    from inna.experiments.sweep.sweep import failure_error

    for page in pages:
        print_line(console, f"report: {page}")
    if failures:
        raise failure_error(failures)
    return 0
