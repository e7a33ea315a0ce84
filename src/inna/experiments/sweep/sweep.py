"""Carry a study out: the runs that its rows do not hold yet, here or on a cluster, each row written as its run ends.

Every start looks at the rows first, so a sweep that was stopped, even by ``kill -9``, goes on where it was and loses
at most the runs in progress.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inna.checks import check_range
from inna.experiments.rows.lock import FolderInUseError, lock
from inna.experiments.rows.results import Result, Rows, cost
from inna.experiments.rows.row_files import read_rows
from inna.experiments.rows.run import Run, describe
from inna.experiments.study.budget import parse_budget
from inna.experiments.study.remaining import Outlook, outlook
from inna.experiments.study.study import Contender, Study
from inna.experiments.study.tuning import Tuning, state
from inna.experiments.sweep.active_runs import SweepAtWork, read_running, sweep_at_work, write_failures
from inna.experiments.sweep.stopping import Stopping
from inna.experiments.sweep.workers import Failure, Processes, SweepError, explain
from inna.experiments.tasks.task import Task
from inna.experiments.training.tensorboard import check_tensorboard
from inna.files import remove_abandoned

if TYPE_CHECKING:
    from inna.experiments.sweep.dask import Cluster

__all__ = ["Failure", "Progress", "SilentProgress", "SweepError", "raised", "sweep"]


def raised(failures: Sequence[Failure]) -> SweepError:
    """The error that says how many runs raised and what the first one did; its note holds the traceback."""
    first = failures[0]
    error = SweepError(f"{len(failures)} runs raised; the first: {first.error}  [{describe(first.run)}]")
    error.add_note(first.traceback)
    return error


class Progress(Protocol):
    """Whoever watches a sweep."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """The sweep starts."""

    def finished(self, label: str, run: Run, result: Result, outlook: Outlook) -> None:
        """A run has ended, and this is what is left."""

    def note(self, text: str) -> None:
        """Something that the user should read: a damaged row, a run that raised, a warning."""


class SilentProgress:
    """Watches and says nothing."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None: ...

    def finished(self, label: str, run: Run, result: Result, outlook: Outlook) -> None: ...

    def note(self, text: str) -> None: ...


def sweep(
    study: Study,
    folder: str | Path,
    *,
    task: Task | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    description: Study | None = None,
    minutes: float | None = None,
    scheduler: str | None = None,
    tensorboard: Path | None = None,
) -> tuple[dict[Run, Result], list[Failure]]:
    """Do the runs of ``study`` whose rows ``folder`` does not hold yet.

    Rounds alternate between what can be known: the grids, then the extensions of those whose best lies on the edge
    beside the final runs of those that are settled.

    Args:
        study: what to do. Its description is written into the folder as study.json.
        folder: of the rows; made if missing. Damaged rows are reported and run again.
        task: what ``study.dataset`` stands for; by default each process finds it by that name.
        jobs: processes that run at once, >= 1; 1 runs here. Rows do not depend on it, timings aside.
        progress: told what happens.
        description: what study.json says, where ``study`` is a part of something larger; by default ``study``.
        minutes: after so much time the sweep stops: runs under way finish their epoch and leave a checkpoint, from
            which a later call goes on bit for bit. None for no limit.
        scheduler: the address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``, whose workers do the runs instead;
            they have the same version of inna, need no folder in common, and a built-in task's data of their own.
        tensorboard: a folder for event logs that TensorBoard reads, one a run; None for none.

    Returns:
        Run -> result for every intact row of the folder, and the runs that raised.

    Raises:
        SweepError: a worker process was killed, no scheduler answers, disk or memory are full, another sweep is at work
            on the folder, or the time budget does not pay for the final runs. The rows are intact.
        KeyboardInterrupt: Ctrl-C, once: after the epochs in progress, of which checkpoints are left; twice: at once.
            The workers are gone, the rows intact.
        ValueError: minutes is not > 0, or logs are asked for and the package tensorboard is missing.
    """
    check_tensorboard(tensorboard)
    seconds = None if minutes is None else 60 * check_range("minutes", minutes, minimum=0.0, exclusive=True)
    folder, progress = Path(folder), progress or SilentProgress()
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(_explaining())
        enter(_alone(folder))
        stopping = enter(Stopping(folder, seconds, progress.note))
        workers: Processes | Cluster
        if scheduler is None:
            workers = enter(Processes(folder, task, stopping, jobs, tensorboard))
        else:
            from inna.experiments.sweep.dask import Cluster

            workers = enter(Cluster(scheduler, folder, study, task, stopping, progress.note, tensorboard))
        enter(SweepAtWork(folder, workers.jobs))
        (description or study).save(folder)
        remove_abandoned(folder)  # what a killed sweep left there
        read_running(folder)  # which removes its announcements
        rows = read_rows(folder, on_damage=lambda text: progress.note(f"{text}; it is run again if it is needed"))
        failures = _carry_out(study, folder, rows, workers, stopping, progress)
        if stopping.presses:
            stopping.leave()
    return rows, list(failures.values())


def _carry_out(
    study: Study,
    folder: Path,
    rows: dict[Run, Result],
    workers: Processes | Cluster,
    stopping: Stopping,
    progress: Progress,
) -> dict[Run, Failure]:
    """Extend ``rows`` by what is missing, until it is time to stop; return what raised."""
    failures: dict[Run, Failure] = {}
    write_failures(folder, {})
    progress.begin(study, folder, outlook(study, rows, failures))
    while not stopping.requested() and (due := _due(study, rows, failures, workers.jobs)):
        labels = {run: label for label, run in due}
        with contextlib.closing(workers.execute(list(labels))) as results:
            for ended in results:
                for text in ended.notes:
                    progress.note(text)
                if ended.stopped:
                    continue
                if ended.failure is None:
                    rows[ended.run] = ended.result
                    progress.finished(labels[ended.run], ended.run, ended.result, outlook(study, rows, failures))
                elif ended.fatal:
                    raise SweepError(ended.failure.error)
                else:
                    failures[ended.run] = ended.failure
                    write_failures(folder, {run: failure.error for run, failure in failures.items()})
                    progress.note(f"a run raised {ended.failure.error}  [{describe(ended.run)}]")
    return failures


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder):
            yield
    except FolderInUseError as error:
        other = sweep_at_work(folder)
        raise SweepError(f"{error}" + (f"; it is process {other.pid} on {other.host}" if other else "")) from None


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """What the machine refuses in here, in a line."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise SweepError(explain(error)[0]) from error


def _due(study: Study, rows: Rows, failed: Collection[Run], jobs: int) -> list[tuple[str, Run]]:
    """(label, run) of all runs that can start now; contenders take turns."""
    queues = []
    for contender in study.contenders:
        tuning = state(study, contender, rows)
        runs = [run for run in tuning.plan if run not in rows and run not in failed]
        runs = _affordable(study, contender, tuning, rows, runs, jobs)
        if not runs:
            runs = [run for run in tuning.finals if run not in rows and run not in failed]
        queues.append([(contender.label, run) for run in runs])
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def _affordable(
    study: Study, contender: Contender, tuning: Tuning, rows: Rows, runs: list[Run], jobs: int
) -> list[Run]:
    """The tuning runs that a budget in time allows now: the next one, if the final runs can still be paid after it."""
    if not study.budget or parse_budget(study.budget).unit != "seconds":
        return runs
    share = parse_budget(study.budget).amount * jobs / len(study.contenders)
    spent = cost(tuning.done(rows))
    if not spent.epochs:
        return runs[:1]
    per_epoch = spent.seconds / spent.epochs
    final = per_epoch * study.epochs * len(study.seeds)
    if spent.runs == 1 and spent.seconds + final > share:
        raise SweepError(
            f"a budget of {study.budget} gives {contender.label} {share:.0f} s of computing, but its final runs need "
            f"about {final:.0f} s: fewer epochs or seeds, or a larger budget"
        )
    return runs[:1] if spent.seconds + per_epoch * study.tuning_epochs + final <= share else []
