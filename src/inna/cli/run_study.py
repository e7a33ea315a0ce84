"""What commands that carry a study out have in common: the sweep with its progress, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from inna.experiments.formatting import print_line

if TYPE_CHECKING:
    from inna.experiments.study.study import Study
    from inna.experiments.sweep.options import SweepOptions
    from inna.experiments.sweep.sweep import Failure

__all__ = ["carry_out", "conclude"]


def carry_out(
    study: Study,
    folder: Path,
    console: Console,
    options: SweepOptions,
    *,
    description: Study | None = None,
) -> tuple[list[Path], list[Failure]]:
    """Do the runs of ``study`` that ``folder`` lacks, show the table and write report.html, if any run is done.

    Arguments as in `inna.experiments.sweep.sweep.sweep`.

    Returns:
        The pages written, and the runs that raised: both for `conclude`.
    """
    from inna.experiments.study.remaining import outlook
    from inna.experiments.sweep.progress import watching
    from inna.experiments.sweep.sweep import sweep

    began = time.monotonic()
    with watching(console) as progress:
        rows, failures = sweep(
            study,
            folder,
            jobs=options.processes(study.device),
            progress=progress,
            description=description,
            minutes=options.minutes,
            scheduler=options.scheduler,
            tensorboard=options.tensorboard,
        )
    ahead = outlook(study, rows, [failure.run for failure in failures])
    if options.minutes is not None and time.monotonic() - began >= 60 * options.minutes and ahead.left:
        print_line(console, f"the time is up; {ahead.left} runs are left, the same command goes on from there")
    if not ahead.done:
        return [], failures

    from inna.experiments.report.write import print_table, summary_table, write_report
    from inna.experiments.statistics.summary import summarize

    print_table(summary_table(summarize(study, rows)), console)
    return [write_report(folder)], failures


def conclude(console: Console, pages: Sequence[Path], failures: Sequence[Failure]) -> int:
    """Say where the pages are, and leave with status 0.

    Raises:
        SweepError: a run raised.
    """
    from inna.experiments.sweep.sweep import raised

    for page in pages:
        print_line(console, f"report: {page}")
    if failures:
        raise raised(failures)
    return 0
