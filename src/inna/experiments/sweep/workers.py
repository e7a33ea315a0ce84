"""Runs in worker processes of this machine: each run's row is written where it ends, as soon as it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import itertools
import os
import pickle
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from inna.experiments.rows.row_files import write_row
from inna.experiments.rows.run import Run
from inna.experiments.sweep.active_runs import Announcement, read_running
from inna.experiments.sweep.stopping import StopFlag, Stopping
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.task import Task
from inna.experiments.training.loop import StoppedError
from inna.experiments.training.tensorboard import EventLog
from inna.experiments.training.train import checkpoint_path, measure
from inna.files import remove_abandoned

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

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
POLL_SECONDS = 0.1
IDLE_SECONDS = 300.0  # after which an idle worker ends, should its parent have been killed
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # a run computes in one thread


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
    stop: StopFlag
    pickled: Path | None = None
    sha256: str = ""  # of the pickled task; it comes by the workers' own pipe, not in the file
    tensorboard: Path | None = None


@contextlib.contextmanager
def _deliver(folder: Path, task: Task | None, stop: StopFlag, tensorboard: Path | None) -> Iterator[_Delivery]:
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
    """Worker processes of this machine for one sweep; a context manager, which kills them at its end.

    Args:
        folder: of the rows.
        task: as in `sweep`.
        stopping: checked before a run and after each epoch.
        jobs: how many runs at once, >= 1; 1 runs here.
        tensorboard: folder of event logs; None for none.
    """

    def __init__(
        self, folder: Path, task: Task | None, stopping: Stopping, jobs: int, tensorboard: Path | None
    ) -> None:
        self.delivering = _deliver(folder, task, stopping.requested, tensorboard)
        self.folder, self.stopping, self.jobs = folder, stopping, jobs
        self.executor: ProcessPoolExecutor | None = None
        self.waiting: set[Future[Ended]] = set()

    def __enter__(self) -> Processes:
        self.delivery = self.delivering.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.executor is not None:
            while not all(future.running() or future.done() for future in self.waiting):
                time.sleep(0.001)  # loky cannot kill workers while it takes over a task
            self.executor.shutdown(wait=True, kill_workers=True)
            read_running(self.folder)  # removes the heartbeats of killed workers
            remove_abandoned(self.folder)
        self.delivering.__exit__(*exception)

    def execute(self, runs: list[Run]) -> Generator[Ended]:
        """Attempt ``runs`` and yield how each ended, as it ends.

        Raises:
            SweepError: a worker process was killed.
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        if self.jobs == 1:
            for run in runs:
                with self.stopping.interruptible():
                    ended = _work(run, self.delivery)
                yield ended
            return
        pending = iter(runs)
        try:
            while True:
                self.waiting |= {
                    self._submit(run) for run in itertools.islice(pending, 2 * self.jobs - len(self.waiting))
                }
                if not self.waiting:
                    return
                done, self.waiting = wait(self.waiting, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                self.stopping.raise_if_urgent()
        except BrokenProcessPool as error:
            raise SweepError(
                "a worker process was killed (out of memory? fewer --jobs need less); rows are kept, the same command "
                "goes on from there"
            ) from error

    def _submit(self, run: Run) -> Future[Ended]:
        from joblib.externals.loky import ProcessPoolExecutor

        with _sigint_blocked():
            if self.executor is None:
                environment = {name: os.environ.get(name, "1") for name in THREAD_VARIABLES}
                self.executor = ProcessPoolExecutor(
                    self.jobs, timeout=IDLE_SECONDS, initializer=_ignore_sigint, env=environment
                )
            future: Future[Ended] = self.executor.submit(_work, run, self.delivery)
            return future


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in a block; the processes and threads that it starts inherit that from their first instruction.

    Ctrl-C reaches the whole process group, but only the parent reacts: it asks its workers to stop, or kills them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
