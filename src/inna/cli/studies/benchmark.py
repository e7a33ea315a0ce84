"""The command ``inna benchmark``."""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import (
    OUTPUT,
    DataFolder,
    DataFolderOptions,
    Show,
    Sweep,
    arguments,
    checking,
    open_pages,
    waiting,
)
from inna.experiments.formatting import count, print_line
from inna.experiments.study.optimizer_names import check_specification
from inna.experiments.sweep.options import SweepOptions

if TYPE_CHECKING:
    from inna.experiments.benchmark.suite import Suite, SuiteTask
    from inna.experiments.study.study import Study
    from inna.experiments.sweep.sweep import Failure

__all__ = ["benchmark"]


def benchmark(
    *,
    quick: Annotated[bool, Parameter(help="Three tasks, fewer trials and one seed: two minutes on two cores.")] = False,
    suite: Annotated[
        Path | None,
        Parameter(
            help="Your own tasks, in a TOML file as docs/benchmark.md describes it. [default: six embedded tasks]"
        ),
    ] = None,
    images: Annotated[
        bool,
        Parameter(help="Add MNIST, Fashion-MNIST and CIFAR-10, 5,000 images each, if the data folder has them."),
    ] = False,
    track: Annotated[
        Literal["both", "tuned", "untuned"],
        Parameter(help="tuned: optimizers are tuned on each task. untuned: they have one setting for all tasks."),
    ] = "both",
    optimizer: Annotated[
        tuple[str, ...],
        Parameter(
            help="An optimizer, as for inna compare; repeat the option for each. [default: 12 tuned, 17 untuned; needs "
            "pip install 'inna[contenders]']"
        ),
    ] = (),
    add: Annotated[
        Path | None,
        Parameter(help="Run nothing. Check the folder of another benchmark, add it to --out, and show both."),
    ] = None,
    out: Annotated[
        Path | None,
        OUTPUT,
        Parameter(
            help="Folder of the results and the page. [default: runs/benchmark, with --quick runs/benchmark-quick]"
        ),
    ] = None,
    show: Show = False,
    data: DataFolder = DataFolderOptions(),
    sweep: Sweep = SweepOptions(),
) -> int:
    """Compare optimizers on several tasks and write benchmark.html with one verdict.

    The verdict has performance profiles, mean ratios to the best of each task with intervals, and a table task by task.
    Runs that the folder contains are not repeated. Each folder in it is one of inna compare: inna report shows it.
    """
    console = Console()
    folder = out or Path("runs") / ("benchmark-quick" if quick else f"benchmark-{suite.stem}" if suite else "benchmark")
    with checking():
        for text in optimizer:
            check_specification(text)
        if quick and suite is not None:
            raise ValueError("give --quick or --suite, not both")
        sweep.check()
        data.use()
        if add is not None:
            from inna.experiments.benchmark.add import add_results

            for note in add_results(folder, add):
                print_line(console, note)
            return _show(folder, console, show, [])
        chosen = _suite(quick, suite, images)
        tracks = ("tuned", "untuned") if track == "both" else (track,)
        _check_folder(chosen, folder)
        with waiting(console, "loading the tasks"):
            studies = _studies(chosen, tracks, optimizer)
    failures = _run(chosen, studies, folder, console, sweep)
    return _show(folder, console, show, failures)


def _suite(quick: bool, path: Path | None, images: bool) -> Suite:
    from inna.experiments.benchmark.images import image_tasks
    from inna.experiments.benchmark.suite import DEFAULT_SUITE, QUICK_SUITE, read_suite_file

    found = QUICK_SUITE if quick else DEFAULT_SUITE if path is None else read_suite_file(path)
    return dataclasses.replace(found, tasks=(*found.tasks, *image_tasks())) if images else found


def _check_folder(suite: Suite, folder: Path) -> None:
    """Check that ``folder`` has no other suite.

    Raises:
        ValueError: it has.
    """
    from inna.experiments.benchmark.suite import Suite

    try:
        before = Suite.load(folder)
    except FileNotFoundError:
        return
    if before != suite:
        raise ValueError(f"{folder} contains the benchmark of another suite; choose another folder with --out")


def _studies(suite: Suite, tracks: tuple[str, ...], optimizers: tuple[str, ...]) -> list[tuple[SuiteTask, str, Study]]:
    from inna.experiments.benchmark.tracks import make_track

    command = shlex.join(arguments())
    return [
        (task, track, make_track(suite, task, track, optimizers, command)) for task in suite.tasks for track in tracks
    ]


def _run(
    suite: Suite, studies: list[tuple[SuiteTask, str, Study]], folder: Path, console: Console, options: SweepOptions
) -> list[Failure]:
    """Do the missing runs, task by task; return those that failed."""
    from inna.experiments.sweep.progress import make_progress
    from inna.experiments.sweep.sweep import sweep
    from inna.experiments.training.allocation import keep_freed_memory

    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    suite.save(folder)
    failures: list[Failure] = []
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    for place, (task, track, study) in enumerate(studies, 1):
        left = None if end is None else (end - time.monotonic()) / 60
        if left is not None and left <= 0:
            print_line(console, "The time is up. Run the same command to resume.")
            break
        print_line(console, f"{task.name}, {track} ({place} of {count(len(studies), 'study', 'studies')})")
        with make_progress(console) as progress:
            _, failed = sweep(
                study, folder / task.folder(track), dataclasses.replace(options, minutes=left), progress=progress
            )
        failures += failed
    return failures


def _show(folder: Path, console: Console, show: bool, failures: list[Failure]) -> int:
    """Write the page and print the verdict.

    Raises:
        SweepError: a run failed.
    """
    from inna.experiments.benchmark.report.page import write_page
    from inna.experiments.benchmark.report.terminal import print_verdict
    from inna.experiments.sweep.sweep import failure_error

    print_line(console, "Writing benchmark.html.")
    page, judged = write_page(folder)
    print_verdict(judged, console)
    if missing := judged.benchmark.missing(judged.benchmark.begun):
        print_line(console, f"Not complete yet: {', '.join(missing)}.")
    print_line(console, f"report: {page}")
    if show:
        open_pages([page])
    if failures:
        raise failure_error(failures)
    return 0
