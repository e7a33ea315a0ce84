"""Run a study from the command line: sweep, table and report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import checking, open_pages
from inna.experiments.formatting import count, print_line

if TYPE_CHECKING:
    from inna.experiments.study.study import Study
    from inna.experiments.sweep.options import SweepOptions
    from inna.experiments.sweep.sweep import Failure

__all__ = ["DryRun", "conclude", "missing_data", "print_plan", "run_study"]

DryRun = Annotated[
    bool, Parameter(help="List the runs and estimate their time from a few iterations of each; run nothing.")
]


def run_study(
    study: Study, folder: Path, console: Console, options: SweepOptions, *, description: Study | None = None
) -> tuple[list[Path], list[Failure]]:
    """Do the missing runs, then write report.html and print verdict and table.

    Arguments as in `inna.experiments.sweep.sweep.sweep`.

    Returns:
        The pages written and the runs that failed, for `conclude`.
    """
    from inna.experiments.statistics.seed_rule import with_needed_seeds
    from inna.experiments.study.remaining import outlook
    from inna.experiments.sweep.progress import make_progress
    from inna.experiments.sweep.sweep import sweep
    from inna.experiments.training.allocation import keep_freed_memory

    keep_freed_memory()
    began = time.monotonic()
    with make_progress(console) as progress:
        rows, failures = sweep(study, folder, options, progress=progress, description=description)
    study = with_needed_seeds(study, rows)
    ahead = outlook(study, rows, [failure.run for failure in failures])
    if options.minutes is not None and time.monotonic() - began >= 60 * options.minutes and ahead.left:
        print_line(console, f"The time is up; {count(ahead.left, 'run')} left. Run the same command to resume.")
    if not ahead.done:
        return [], failures

    from inna.experiments.report.write import print_summary, write_report
    from inna.experiments.statistics.summary import summarize

    print_line(console, "Writing report.html.")
    page = write_report(folder)
    print_summary(summarize(study, rows), console)
    print_line(console, f"All columns: inna report {shlex.quote(str(folder))}")
    return [page], failures


def print_plan(study: Study, folder: Path, console: Console, options: SweepOptions) -> None:
    """Print the runs that are left, and an estimate of their time.

    The latter unless the data are missing.

    Arguments as of `run_study`.
    """
    from inna.experiments.rows.row_files import read_rows
    from inna.experiments.statistics.seed_rule import with_needed_seeds
    from inna.experiments.sweep.forecast import forecast, print_forecast
    from inna.experiments.tasks.load import load_task

    rows = read_rows(folder, on_damage=lambda text: print_line(console, text)) if folder.is_dir() else {}
    study = with_needed_seeds(study, rows)
    at_once = options.processes(study.device)
    if missing := missing_data(study.dataset):
        print_forecast(forecast(study, rows, None, at_once), study, folder, at_once, console)
        print_line(console, f"No estimate of the time: {missing}")
        return
    with checking(), console.status("timing a few iterations of each optimizer", spinner="line"):
        estimate = forecast(study, rows, load_task(study.dataset, model=study.model)[0], at_once)
    print_forecast(estimate, study, folder, at_once, console)


def missing_data(dataset: str) -> str:
    """Return a sentence about the data of a built-in data set that are not here.

    Empty if they are, and of a task or a file of one's own.
    """
    from inna.experiments.tasks.catalogue import CATALOGUE, split_subset
    from inna.experiments.tasks.local_files import missing_files

    name = split_subset(dataset)[0]
    size = sum(file.size for file in missing_files(name)) / 1e6 if name in CATALOGUE else 0.0
    return f"{name} is not here. Without --dry-run it is downloaded ({size:.0f} MB)." if size else ""


def conclude(console: Console, pages: Sequence[Path], failures: Sequence[Failure], *, show: bool = False) -> int:
    """Print where the pages are, open the last if wanted, and return exit status 0.

    Raises:
        SweepError: a run failed.
        RuntimeError: no browser can be started.
    """
    from inna.experiments.sweep.sweep import failure_error

    for page in pages:
        print_line(console, f"report: {page}")
    if show:
        open_pages(pages[-1:])
    if failures:
        raise failure_error(failures)
    return 0
