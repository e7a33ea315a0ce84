"""Do the missing runs of a study, on this machine or on a cluster.

Each row is written as its run ends, and every start reads the rows first. So a sweep that was stopped, even by
``kill -9``, is resumed by starting it again, and loses at most the runs in progress.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inna.experiments.formatting import count, enumerate_words
from inna.experiments.rows.lock import FolderGoneError, FolderInUseError, lock
from inna.experiments.rows.origins import unused_sources_note, versions_note
from inna.experiments.rows.results import Result, Rows, cost, epochs_added
from inna.experiments.rows.row_files import DamagedRowError, read_rows
from inna.experiments.rows.run import Run, describe
from inna.experiments.statistics.seed_rule import with_needed_seeds
from inna.experiments.study.budget import parse_budget
from inna.experiments.study.remaining import Outlook, outlook
from inna.experiments.study.study import MANIFEST, Contender, Study
from inna.experiments.study.tuning import Tuning, state
from inna.experiments.sweep.active_runs import announce_sweep, read_active_sweep, remove_leftovers, write_failures
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.stopping import Stopping
from inna.experiments.sweep.workers import Context, Failure, Processes, SweepError, explain
from inna.experiments.tasks.data_file import has_changed
from inna.experiments.tasks.load import task_of
from inna.experiments.tasks.task import Task
from inna.experiments.training.train import checkpoint_path, remove_finished_checkpoints
from inna.files import DamagedFileError, read_file, write_whole

if TYPE_CHECKING:
    from inna.experiments.sweep.dask import Cluster

__all__ = ["Failure", "Progress", "SilentProgress", "SweepError", "failure_error", "sweep"]


def failure_error(failures: Sequence[Failure]) -> SweepError:
    """Return an error about runs that failed; its note is the first traceback."""
    first = failures[0]
    error = SweepError(f"{count(len(failures), 'run')} failed; the first: {first.error}  [{describe(first.run)}]")
    error.add_note(first.traceback)
    return error


class Progress(Protocol):
    """The events of a sweep."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """Handle the start of the sweep."""

    def finished(self, label: str, run: Run, result: Result, outlook: Outlook) -> None:
        """Handle the end of a run; ``outlook`` is what remains."""

    def note(self, text: str) -> None:
        """Show a line to the user: a damaged row, a run that failed, a warning."""


class SilentProgress:
    """Ignores the events."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """Ignore the start."""

    def finished(self, label: str, run: Run, result: Result, outlook: Outlook) -> None:
        """Ignore the end of a run."""

    def note(self, text: str) -> None:
        """Ignore a line."""


def sweep(
    study: Study,
    folder: str | Path,
    options: SweepOptions = SweepOptions(jobs=1),
    *,
    task: Task | None = None,
    progress: Progress | None = None,
    description: Study | None = None,
) -> tuple[dict[Run, Result], list[Failure]]:
    """Do the runs of ``study`` that ``folder`` does not contain yet.

    Rounds of runs alternate with decisions: first the grids, then extensions of those grids whose best value is on the
    edge, together with the final runs of those that are settled; or the rungs of a search, its refinement, and the
    final runs. Where seeds are added, final runs follow until the winner is established.

    Args:
        study: the study.
        folder: of the rows; made if missing. Damaged rows are reported and their runs repeated.
        options: runs at once, where, and for how long. Rows do not depend on them, timings aside.
        task: the task that ``study.dataset`` names; by default each process finds it by that name.
        progress: receives the events.
        description: the study to write into study.json, if ``study`` is a part of it; by default ``study``.

    Returns:
        Run -> result for every intact row of the folder, and the runs that failed.

    Raises:
        SweepError: a worker process was killed, no scheduler answers, disk or memory are full, another sweep uses the
            folder, the folder was deleted or has results of another data file of that name, or the time budget is too
            small for the final runs. The rows are intact.
        KeyboardInterrupt: Ctrl-C was pressed. The first requests a stop after the current epoch, of which checkpoints
            are left; the second interrupts at once. The workers are gone, the rows intact.
        ValueError: an option is out of range, or one is missing.
    """
    options.check()
    if options.backend == "local":
        options = dataclasses.replace(options, jobs=options.processes(study.device))
    folder, progress = Path(folder), progress or SilentProgress()
    seconds = None if options.minutes is None else 60 * options.minutes
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(_machine_errors_explained())
        check_lock = enter(_locked(folder))
        remove_leftovers(folder)
        stopping = enter(Stopping(folder, seconds, progress.note))
        workers = enter(_workers(study, Context(folder, task, options, stopping, progress.note, study.continues)))
        enter(announce_sweep(folder, workers.jobs))
        rows = read_rows(folder, on_damage=lambda text: progress.note(f"{text}; the run is repeated if it is needed"))
        study = with_needed_seeds(study, rows)
        _save(description or study, folder, progress.note)
        remove_finished_checkpoints(folder, rows)
        failures = _run_rounds(study, folder, rows, workers, stopping, progress, check_lock)
        if stopping.presses:
            stopping.leave()
    return rows, list(failures.values())


def _workers(study: Study, context: Context) -> contextlib.AbstractContextManager[Processes | Cluster]:
    if context.options.backend == "local":
        return Processes(context)
    from inna.experiments.sweep.dask import connect

    if context.task is None and study.source:  # its file exists on this machine only
        context = dataclasses.replace(context, task=task_of(state(study, study.contenders[0], {}).plan[0]))
    return connect(context)


def _run_rounds(
    study: Study,
    folder: Path,
    rows: dict[Run, Result],
    workers: Processes | Cluster,
    stopping: Stopping,
    progress: Progress,
    check_lock: Callable[[], None],
) -> dict[Run, Failure]:
    """Add the missing runs to ``rows``, until a stop; return those that failed."""
    failures: dict[Run, Failure] = {}
    write_failures(folder, {})
    for note in filter(None, _origin_notes(study, rows)):
        progress.note(note)
    progress.begin(study, folder, outlook(study, rows, failures))
    while not stopping.requested():
        due = _due(study, rows, failures, workers.jobs)
        if not due:
            before, study = study, with_needed_seeds(study, rows)
            if study == before:
                break
            study.save(folder)
            used = f"{len(study.seeds)} are used now, at most {study.seed_cap}"
            progress.note(f"The winner is not established on {len(before.seeds)} seeds; {used}.")
            continue
        _remove_unneeded_checkpoints(study, folder, rows)
        with contextlib.closing(workers.execute(list(due))) as ends:
            for ended in ends:
                check_lock()
                for text in ended.notes:
                    progress.note(text)
                if ended.fatal and ended.failure is not None:
                    raise SweepError(ended.failure.error)
                if ended.failure is not None:
                    failures[ended.run] = ended.failure
                    write_failures(folder, {run: failure.error for run, failure in failures.items()})
                    progress.note(f"a run failed: {ended.failure.error}  [{describe(ended.run)}]")
                elif not ended.stopped:
                    rows[ended.run] = ended.result
                    progress.finished(due[ended.run], ended.run, ended.result, outlook(study, rows, failures))
    if not stopping.requested():
        _remove_unneeded_checkpoints(study, folder, rows)
    return failures


def _remove_unneeded_checkpoints(study: Study, folder: Path, rows: Rows) -> None:
    """Remove the checkpoints of trials once their search is over.

    Until then it may continue any of them.
    """
    for contender in study.contenders if study.trials else ():
        plan = state(study, contender, rows).plan
        if all(run in rows for run in plan):
            for run in filter(study.continues, plan):
                checkpoint_path(folder, run).unlink(missing_ok=True)


def _save(study: Study, folder: Path, note: Callable[[str], object]) -> None:
    """Write the description of ``study``.

    One of another study is kept beside it, and reported.
    """
    try:
        before = Study.load(folder)
    except FileNotFoundError:
        before = study
    except DamagedRowError as error:
        note(f"{error}; it is written again")
        before = study
    if has_changed((before.dataset, before.source), (study.dataset, study.source)):
        raise SweepError(
            f"{folder} has results of another {study.dataset}: its SHA-256 was {before.source[:15]}..., now it is "
            f"{study.source[:15]}...; put that file back, or choose another folder with --out"
        )
    if others := study.differences(before):
        where = f"{folder} contained another study (other {enumerate_words(others)})"
        if study.contains(before):
            note(f"{where}, which is part of this one")
        else:
            kept = folder / f"study-{before.digest}.json"
            write_whole(kept, read_file(folder / MANIFEST))
            note(f"{where}; its rows stay, its description is kept as {kept.name}")
    study.save(folder)


def _origin_notes(study: Study, rows: Rows) -> tuple[str, str]:
    tunings = [state(study, contender, rows) for contender in study.contenders]
    used = [run for tuning in tunings for run in tuning.runs]
    return versions_note(rows[run] for run in used if run in rows), unused_sources_note(rows, used)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of the folder, which is made if missing; provide the check of it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder) as check:
            yield check
    except FolderGoneError as error:
        raise SweepError(f"{error} during the sweep, which ended; run the same command to begin again") from None
    except DamagedFileError as error:
        raise SweepError(str(error)) from None
    except FolderInUseError as error:
        other = read_active_sweep(folder)
        raise SweepError(f"{error}" + (f"; it is process {other.pid} on {other.host}" if other else "")) from None


@contextlib.contextmanager
def _machine_errors_explained() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError) as error:
        raise SweepError(explain(error)[0]) from error


def _due(study: Study, rows: Rows, failed: Collection[Run], jobs: int) -> dict[Run, str]:
    """Return the runs that can start now -> their labels; contenders take turns."""
    queues = []
    for contender in study.contenders:
        tuning = state(study, contender, rows)
        runs = [run for run in tuning.plan if run not in rows and run not in failed]
        runs = _affordable(study, contender, tuning, rows, runs, jobs)
        if not runs:
            runs = [run for run in tuning.runs if run not in tuning.plan and run not in rows and run not in failed]
        queues.append([(run, contender.label) for run in runs])
    turns = max(map(len, queues), default=0)
    return dict(queue[turn] for turn in range(turns) for queue in queues if turn < len(queue))


def _affordable(
    study: Study, contender: Contender, tuning: Tuning, rows: Rows, runs: list[Run], jobs: int
) -> list[Run]:
    """Return the tuning runs that a time budget allows now.

    That is the next one, if it leaves enough for the final runs.
    """
    if not study.budget or parse_budget(study.budget).unit != "seconds":
        return runs
    share = parse_budget(study.budget).amount * jobs / len(study.contenders)
    spent = cost(tuning.done(rows))
    if not spent.epochs:
        return runs[:1]
    per_epoch = spent.seconds / spent.epochs
    final = per_epoch * study.epochs * study.most_seeds * (2 if tuning.untuned else 1)
    if spent.runs == 1 and spent.seconds + final > share:
        raise SweepError(
            f"a budget of {study.budget} gives {contender.label} {share:.0f} s of computing, but its final runs need "
            f"about {final:.0f} s; use fewer epochs or seeds, or a larger budget"
        )
    if not runs:
        return []
    known = [*(run for run in tuning.plan if run in rows), runs[0]]
    return runs[:1] if spent.seconds + per_epoch * epochs_added(known)[-1] + final <= share else []
