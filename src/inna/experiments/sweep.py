"""Carry a study out: the runs that its rows do not hold yet, in local processes, each row written as its run ends.

Every start looks at the rows first, so a sweep that was stopped, even by ``kill -9``, goes on where it was and loses
at most the runs in progress.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import pickle
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from inna.documents import remove_abandoned
from inna.experiments.budget import parse_budget
from inna.experiments.rows import Run, read_rows, write_row
from inna.experiments.running import Announcement, read_running
from inna.experiments.study import Contender, Study, choose, spent, tuning_plan
from inna.experiments.tasks import Task, load_task
from inna.experiments.training import checkpoint_path, measure

__all__ = ["Failure", "Outlook", "Progress", "SilentProgress", "SweepError", "outlook", "raised", "sweep"]

CHECKPOINT_SECONDS = 30.0


class SweepError(RuntimeError):
    """The sweep cannot go on; the rows so far are intact."""


class Failure(NamedTuple):
    """A run that raised: which, what in one line, and the whole traceback."""

    run: Run
    error: str
    traceback: str


def raised(failures: Sequence[Failure]) -> SweepError:
    """The error that says how many runs raised and what the first one did; its note holds the traceback."""
    first = failures[0]
    error = SweepError(f"{len(failures)} runs raised; the first: {first.error}  [{describe(first.run)}]")
    error.add_note(first.traceback)
    return error


class Outlook(NamedTuple):
    """How far a study is: runs done, runs and epochs that are left as far as can be foreseen."""

    done: int
    left: int
    epochs_left: int


class Progress(Protocol):
    """Whoever watches a sweep."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """The sweep starts."""

    def finished(self, label: str, run: Run, result: Mapping[str, Any], outlook: Outlook) -> None:
        """A run has ended, and this is what is left."""

    def note(self, text: str) -> None:
        """Something that the user should read: a damaged row, a run that raised, a warning."""


class SilentProgress:
    """Watches and says nothing."""

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None: ...

    def finished(self, label: str, run: Run, result: Mapping[str, Any], outlook: Outlook) -> None: ...

    def note(self, text: str) -> None: ...


def sweep(
    study: Study,
    folder: str | Path,
    *,
    task: Task | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[dict[Run, dict[str, Any]], list[Failure]]:
    """Do the runs of ``study`` whose rows ``folder`` does not hold yet.

    Rounds alternate between what can be known: the grids, then the extensions of those whose best lies on the edge
    beside the final runs of those that are settled.

    Args:
        study: what to do. Its description is written into the folder as study.json.
        folder: of the rows; made if missing. Damaged rows are reported and run again.
        task: what ``study.dataset`` stands for; by default each process finds it by that name.
        jobs: processes that run at once, >= 1; 1 runs here. Rows do not depend on it, timings aside.
        progress: told what happens.

    Returns:
        Run -> result for every intact row of the folder, and the runs that raised.

    Raises:
        SweepError: a worker process was killed, the disk is full, or the time budget does not pay for the final runs.
        KeyboardInterrupt: Ctrl-C; the workers are gone, the rows intact.
    """
    folder, progress = Path(folder), progress or SilentProgress()
    study.save(folder)
    remove_abandoned(folder)  # what a killed sweep left there
    read_running(folder)  # which removes its announcements
    rows = read_rows(folder, on_damage=lambda text: progress.note(f"{text}; it is run again if it is needed"))
    failures: dict[Run, Failure] = {}
    progress.begin(study, folder, outlook(study, rows, failures))
    with _delivery(study, folder, task) as delivery:
        while due := _due(study, rows, failures, jobs):
            labels = {run: label for label, run in due}
            with contextlib.closing(_execute(list(labels), delivery, jobs)) as results:
                for ended in results:
                    for text in ended.notes:
                        progress.note(text)
                    if ended.failure is None:
                        rows[ended.run] = ended.result
                        progress.finished(labels[ended.run], ended.run, ended.result, outlook(study, rows, failures))
                    elif ended.fatal:
                        raise SweepError(ended.failure.error)
                    else:
                        failures[ended.run] = ended.failure
                        progress.note(f"a run raised {ended.failure.error}  [{describe(ended.run)}]")
    return rows, list(failures.values())


def describe(run: Run) -> str:
    """A run in short, for messages."""
    settings = [("alpha", run.alpha), ("beta", run.beta), *run.settings]
    written = ",".join(f"{name}={value}" for name, value in settings if value is not None)
    name = f"{run.optimizer}:{written}" if written else run.optimizer
    return f"{name} lr={run.lr:g} q={run.q:g} seed={run.seed} epochs={run.epochs}"


def outlook(study: Study, rows: Mapping[Run, Mapping[str, Any]], failed: Collection[Run] = ()) -> Outlook:
    """How far ``study`` is. Extensions of grids are counted once they are due; a budget in time is not foreseen."""
    done, left, epochs = 0, 0, 0
    for contender in study.contenders:
        plan = tuning_plan(study, contender, rows)
        tuning = [run for run in plan if run not in rows and run not in failed]
        done += sum(run in rows for run in plan)
        choice = choose(study, contender, rows)
        finals = study.final_runs(contender, choice) if choice is not None and not tuning else []
        coming = len(study.seeds) if tuning else sum(run not in rows and run not in failed for run in finals)
        done += sum(run in rows for run in finals)
        left += len(tuning) + coming
        epochs += len(tuning) * study.tuning_epochs + coming * study.epochs
    return Outlook(done, left, epochs)


def _due(
    study: Study, rows: Mapping[Run, Mapping[str, Any]], failed: Collection[Run], jobs: int
) -> list[tuple[str, Run]]:
    """(label, run) of all runs that can start now; contenders take turns."""
    queues = []
    for contender in study.contenders:
        runs = [run for run in tuning_plan(study, contender, rows) if run not in rows and run not in failed]
        runs = _affordable(study, contender, rows, runs, jobs)
        if not runs and (choice := choose(study, contender, rows)) is not None:
            runs = [run for run in study.final_runs(contender, choice) if run not in rows and run not in failed]
        queues.append([(contender.label, run) for run in runs])
    turns = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]


def _affordable(
    study: Study, contender: Contender, rows: Mapping[Run, Mapping[str, Any]], runs: list[Run], jobs: int
) -> list[Run]:
    """The tuning runs that a budget in time allows now: the next one, if the final runs can still be paid after it."""
    if not study.budget or parse_budget(study.budget).unit != "seconds":
        return runs
    share = parse_budget(study.budget).amount * jobs / len(study.contenders)
    cost = spent(study, contender, rows)
    if not cost.epochs:
        return runs[:1]
    per_epoch = cost.seconds / cost.epochs
    final = per_epoch * study.epochs * len(study.seeds)
    if cost.runs == 1 and cost.seconds + final > share:
        raise SweepError(
            f"a budget of {study.budget} gives {contender.label} {share:.0f} s of computing, but its final runs need "
            f"about {final:.0f} s: fewer epochs or seeds, or a larger budget"
        )
    return runs[:1] if cost.seconds + per_epoch * study.tuning_epochs + final <= share else []


@dataclass(frozen=True)
class _Delivery:
    """What a worker needs beside the run: where rows go, and where the task is found."""

    folder: Path
    directory: Path
    parent: int
    pickled: Path | None = None
    sha256: str = ""  # of the pickled task; it comes through the workers' own pipe, not through the file


@dataclass(frozen=True)
class _Ended:
    run: Run
    result: dict[str, Any]
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    fatal: bool = False


@contextlib.contextmanager
def _delivery(study: Study, folder: Path, task: Task | None) -> Iterator[_Delivery]:
    plain = _Delivery(folder.absolute(), Path.cwd(), os.getpid())
    if task is None:
        yield plain
        return
    import cloudpickle

    with tempfile.TemporaryDirectory(prefix="inna-") as place:
        path = Path(place) / "task.pickle"
        try:
            content = cloudpickle.dumps(task)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ValueError(f"task {task.name} cannot be handed to other processes: {error}") from error
        path.write_bytes(content)
        yield dataclasses.replace(plain, pickled=path, sha256=hashlib.sha256(content).hexdigest())


def _execute(runs: list[Run], delivery: _Delivery, jobs: int) -> Generator[_Ended]:
    if jobs == 1:
        for run in runs:
            yield _work(run, delivery)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    parallel = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    results = parallel(delayed(_work)(run, delivery) for run in runs)
    try:
        for ended in results:  # noqa: UP028 - joblib's generator must be closed below, not by `yield from`
            yield ended
    except BrokenProcessPool as error:
        raise SweepError("a worker process was killed (out of memory?); start again to go on") from error
    except (KeyboardInterrupt, GeneratorExit):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tasks that are given up, which is what is wanted
            results.close()
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _work(run: Run, delivery: _Delivery) -> _Ended:
    """One run in a worker: its row is written here, so that it outlives everybody else."""
    worker = os.getpid() != delivery.parent
    if worker:
        os.chdir(delivery.directory)  # workers outlive a sweep; the next may start elsewhere
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    notes: list[str] = []
    checkpoint = checkpoint_path(delivery.folder, run)

    def watch(entry: dict[str, Any]) -> None:
        if worker and os.getppid() != delivery.parent:
            os._exit(1)  # nobody waits for this any more
        announcement.update(entry)

    with warnings.catch_warnings(record=True) as caught, Announcement(delivery.folder, run) as announcement:
        warnings.simplefilter("default")
        try:
            result = measure(
                run,
                _task(run, delivery),
                checkpoint=checkpoint,
                checkpoint_seconds=CHECKPOINT_SECONDS,
                on_epoch=watch,
                on_note=notes.append,
            )
            write_row(delivery.folder, run, result)
            checkpoint.unlink(missing_ok=True)
        except Exception as error:
            text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            failure = Failure(run, text, traceback.format_exc())
            return _Ended(run, {}, tuple(notes), failure, fatal=isinstance(error, (OSError, MemoryError)))
    notes += dict.fromkeys(f"warning: {warning.message}" for warning in caught)
    return _Ended(run, result, tuple(notes))


def _task(run: Run, delivery: _Delivery) -> Task:
    if delivery.pickled is not None:
        return _unpickled(delivery.pickled, delivery.sha256)
    task, source = load_task(run.dataset, delivery.directory, model=run.model)
    if source != run.source:
        raise ValueError(f"{run.dataset} was changed while the sweep was under way")
    return task


@functools.lru_cache(maxsize=1)
def _unpickled(path: Path, sha256: str) -> Task:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SweepError(f"{path}: the task was altered on its way to the workers; it is not unpickled")
    task: Task = pickle.loads(content)
    return task
