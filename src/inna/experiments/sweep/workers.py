"""Runs in worker processes of this machine: each run's row is written where it ends, as soon as it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import os
import pickle
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from inna.experiments.rows.row_files import write_row
from inna.experiments.rows.run import Run
from inna.experiments.sweep.active_runs import Announcement
from inna.experiments.sweep.stopping import StopSign
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.task import Task
from inna.experiments.training.loop import StoppedError
from inna.experiments.training.tensorboard import EventLog
from inna.experiments.training.train import checkpoint_path, measure

__all__ = [
    "Ended",
    "Failure",
    "Processes",
    "SweepError",
    "attempt",
    "explain",
    "pickled",
]

CHECKPOINT_SECONDS = 30.0


class SweepError(RuntimeError):
    """The sweep cannot go on; the rows so far are intact."""


class Failure(NamedTuple):
    """A run that raised: which, what in one line, and the whole traceback."""

    run: Run
    error: str
    traceback: str


@dataclass(frozen=True)
class Ended:
    """How an attempt at a run ended: with a result, with a failure, or stopped before its end.

    ``fatal`` failures are no fault of the run, so that the sweep cannot go on.
    """

    run: Run
    result: dict[str, Any]
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    fatal: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class _Delivery:
    """What a worker needs beside the run: where rows go, when to stop, and where the task is found."""

    folder: Path
    directory: Path
    parent: int
    stop: StopSign
    pickled: Path | None = None
    sha256: str = ""  # of the pickled task; it comes by the workers' own pipe, not in the file
    tensorboard: Path | None = None


@contextlib.contextmanager
def _deliver(folder: Path, task: Task | None, stop: StopSign, tensorboard: Path | None) -> Iterator[_Delivery]:
    """The `_Delivery` for workers of this process; ``task`` itself is handed over in a file, as long as this lasts."""
    log = None if tensorboard is None else tensorboard.absolute()
    plain = _Delivery(folder.absolute(), Path.cwd(), os.getpid(), stop, tensorboard=log)
    if task is None:
        yield plain
        return
    with tempfile.TemporaryDirectory(prefix="inna-") as place:
        path = Path(place) / "task.pickle"
        content = pickled(task)
        path.write_bytes(content)
        yield dataclasses.replace(plain, pickled=path, sha256=hashlib.sha256(content).hexdigest())


def pickled(task: Task) -> bytes:
    """``task`` as bytes, its functions by value.

    Raises:
        ValueError: it holds something that cannot be handed to another process.
    """
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(task)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ValueError(f"task {task.name} cannot be handed to other processes: {error}") from error
    return content


class Processes:
    """Worker processes of this machine for one sweep; a context manager.

    Args:
        folder: of the rows.
        task: as in `sweep`.
        stop: looked at before a run and after each epoch.
        jobs: how many runs at once, >= 1; 1 runs here.
        tensorboard: folder of event logs; None for none.
    """

    def __init__(self, folder: Path, task: Task | None, stop: StopSign, jobs: int, tensorboard: Path | None) -> None:
        self.delivering = _deliver(folder, task, stop, tensorboard)
        self.jobs = jobs

    def __enter__(self) -> Processes:
        self.delivery = self.delivering.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.delivering.__exit__(*exception)

    def execute(self, runs: list[Run]) -> Generator[Ended]:
        """Attempt ``runs`` and yield how each ended, as it ends.

        Raises:
            SweepError: a worker process was killed.
        """
        return _execute(runs, self.delivery, self.jobs)


def _execute(runs: list[Run], delivery: _Delivery, jobs: int) -> Generator[Ended]:
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
        if delivery.stop():  # Ctrl-C met a worker that had not started yet; it would have stopped anyway
            return
        raise SweepError(
            "a worker process was killed (out of memory? fewer --jobs need less); rows are kept, the same command "
            "goes on from there"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tasks that are given up, which is what is wanted
            results.close()
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def attempt(
    run: Run,
    find_task: Callable[[], Task],
    *,
    checkpoint: Path,
    checkpoint_seconds: float,
    stop: Callable[[], bool],
    on_epoch: Callable[[dict[str, Any]], object],
    keep: Callable[[dict[str, Any]], object],
) -> Ended:
    """Train as ``run`` says and ``keep`` the result; whatever is raised comes back as an `Ended`.

    ``stop`` is asked before the start and after each epoch; a run that stops leaves a checkpoint.
    """
    if stop():
        return Ended(run, {}, stopped=True)
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            result = measure(
                run,
                find_task(),
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                on_epoch=on_epoch,
                on_note=notes.append,
                stop=stop,
            )
            keep(result)
        except StoppedError:
            return Ended(run, {}, tuple(notes), stopped=True)
        except Exception as error:
            text, fatal = explain(error)
            return Ended(run, {}, tuple(notes), Failure(run, text, traceback.format_exc()), fatal)
    notes += dict.fromkeys(f"warning: {warning.message}" for warning in caught)
    return Ended(run, result, tuple(notes))


def explain(error: Exception) -> tuple[str, bool]:
    """What ``error`` means in a line, and whether it is the machine's fault rather than the run's."""
    text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}); rows are kept, the same command goes on from there", True
    # torch's allocator for the CPU raises a plain RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error):
        return f"out of memory ({text}); fewer --jobs need less; rows are kept", True
    return text, isinstance(error, OSError)


def _work(run: Run, delivery: _Delivery) -> Ended:
    """One run in a worker: its row is written here, so that it outlives everybody else."""
    worker = os.getpid() != delivery.parent
    if worker:
        os.chdir(delivery.directory)  # workers outlive a sweep; the next may start elsewhere
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    checkpoint = checkpoint_path(delivery.folder, run)

    def watch(entry: dict[str, Any]) -> None:
        if worker and os.getppid() != delivery.parent:
            os._exit(1)  # nobody waits for this any more
        announcement.update(entry)
        log.update(entry)

    def keep(result: dict[str, Any]) -> None:
        write_row(delivery.folder, run, result)
        checkpoint.unlink(missing_ok=True)

    with Announcement(delivery.folder, run) as announcement, EventLog(delivery.tensorboard, run) as log:
        return attempt(
            run,
            lambda: _task(run, delivery),
            checkpoint=checkpoint,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            stop=delivery.stop,
            on_epoch=watch,
            keep=keep,
        )


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
