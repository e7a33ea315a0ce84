"""Do runs in worker processes of this machine, which write their rows themselves."""

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
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from inna.experiments.rows.results import Result, finished
from inna.experiments.rows.row_files import write_row
from inna.experiments.rows.run import Run
from inna.experiments.sweep.active_runs import Heartbeat, read_ended_runs, remove_leftovers
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.stopping import StopFlag, Stopping
from inna.experiments.tasks.exits import ExitGuard, raised_by_code
from inna.experiments.tasks.load import task_of
from inna.experiments.tasks.own_code import own_modules
from inna.experiments.tasks.task import Task, describe_error
from inna.experiments.training.allocation import keep_freed_memory
from inna.experiments.training.loop import StoppedError
from inna.experiments.training.optimizers import RefusedError
from inna.experiments.training.tensorboard import EventLog
from inna.experiments.training.train import checkpoint_path, measure, refused_result
from inna.interrupts import SIGNALS, ignore_interrupts
from inna.streams import spell_missing_letters

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

__all__ = [
    "RESUME",
    "Context",
    "Ended",
    "Failure",
    "Processes",
    "SweepError",
    "attempt",
    "decode_task",
    "drain",
    "encode_task",
    "explain",
    "store",
]

RESUME = "finished runs are saved, run the same command to resume"
CHECKPOINT_SECONDS = 30.0
POLL_SECONDS = 0.1
IDLE_SECONDS = 300.0  # after which an idle worker ends, should its parent have been killed
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # a run computes in one thread


class SweepError(RuntimeError):
    """A sweep had to end early; the rows so far are intact."""


class Failure(NamedTuple):
    """A run that raised: the error in one line, and its traceback."""

    run: Run
    error: str
    traceback: str


@dataclass(frozen=True)
class Ended:
    """The end of an attempt at a run: a result, a failure or a stop.

    Attributes:
        run: the run.
        result: as `train` describes it; empty unless the run ended by itself.
        notes: lines for the user.
        failure: what was raised, if anything was.
        fatal: whether the failure is the machine's rather than the run's, so that the sweep has to end.
        stopped: whether the run was asked to stop, and did.
        checkpoint: the checkpoint of a run that stopped on another machine, or may be continued.
    """

    run: Run
    result: Result = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    fatal: bool = False
    stopped: bool = False
    checkpoint: bytes | None = None

    @classmethod
    def failed(cls, run: Run, error: BaseException, notes: tuple[str, ...] = ()) -> Ended:
        """Return the end of a run that raised ``error``."""
        text, fatal = explain(error)
        trace = "".join(traceback.format_exception(error))
        return cls(run, notes=notes, failure=Failure(run, text, trace), fatal=fatal)


def attempt(
    run: Run,
    find_task: Callable[[], Task],
    *,
    checkpoint: Path,
    checkpoint_seconds: float,
    stop: Callable[[], bool],
    on_epoch: Callable[[dict[str, Any]], object],
    keep: Callable[[Result], object] = lambda result: None,
    leave_checkpoint: bool = False,
) -> Ended:
    """Do ``run``, unless ``stop()`` is true at its start; ``keep`` its result.

    Whatever is raised is returned as an `Ended`. ``stop`` is called after each epoch too; a run that stops leaves a
    checkpoint, and one that ends does if ``leave_checkpoint`` is true. Settings that the optimizer refuses did not
    train: a search, or the extension of a grid, came to the end of their range.
    """
    if stop():
        return Ended(run, stopped=True)
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            task = find_task()
            try:
                result = measure(
                    run,
                    task,
                    checkpoint=checkpoint,
                    checkpoint_seconds=checkpoint_seconds,
                    on_epoch=on_epoch,
                    on_note=notes.append,
                    stop=stop,
                    leave_checkpoint=leave_checkpoint,
                )
            except RefusedError as error:
                result = refused_result(run, task, error)
            keep(result)
        except StoppedError:
            return Ended(run, notes=tuple(notes), stopped=True)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not raised_by_code(error):
                raise
            return Ended.failed(run, error, tuple(notes))
    notes += dict.fromkeys(f"warning: {warning.message}" for warning in caught)
    return Ended(run, result, tuple(notes))


def explain(error: BaseException) -> tuple[str, bool]:
    """Explain ``error`` in one line; is it the machine's fault, not the run's?"""
    text = describe_error(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror}); {RESUME}", True
    # torch's allocator for the CPU raises a plain RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error):
        return f"out of memory ({text}); fewer --jobs need less; {RESUME}", True
    return text, isinstance(error, OSError)


def encode_task(task: Task) -> tuple[bytes, str]:
    """Return ``task`` as bytes and their SHA-256.

    The user's own modules are in it by value, as they are here.

    Raises:
        ValueError: it contains something that cannot be sent to another process.
    """
    import cloudpickle

    with contextlib.ExitStack() as stack:
        for module in own_modules():
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        try:
            with ExitGuard():
                content: bytes = cloudpickle.dumps(task)
        except Exception as error:
            raise ValueError(f"task {task.name} cannot be sent to other processes: {describe_error(error)}") from error
    return content, hashlib.sha256(content).hexdigest()


def decode_task(content: bytes, sha256: str) -> Task:
    """Return the task that `encode_task` made into ``content``.

    Raises:
        SweepError: the digest is another one; nothing is unpickled.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SweepError("the task was altered on its way to the workers; it is not unpickled")
    with ExitGuard("the task, as it was read,"):
        task: Task = pickle.loads(content)
    return task


def drain(
    submit: Callable[[Run], Future[Any]], runs: list[Run], at_once: int, check: Callable[[], object]
) -> Generator[Future[Any]]:
    """Submit ``runs``, ``at_once`` at a time; yield the futures as they complete.

    ``check`` is called after each wait of at most `POLL_SECONDS`.
    """
    pending, waiting = iter(runs), set[Future[Any]]()
    while True:
        waiting |= {submit(run) for run in itertools.islice(pending, at_once - len(waiting))}
        if not waiting:
            return
        done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
        yield from done
        check()


def never_continued(run: Run) -> bool:
    """Return False: no run is continued for more epochs."""
    return False


@dataclass(frozen=True)
class Context:
    """The parts of a sweep that its workers share.

    Attributes:
        folder: of the rows.
        task: sent to the workers; None if they find it by its name.
        options: of the sweep, with a number of jobs.
        stopping: checked before a run and after each epoch.
        note: called with a line for the user.
        continues: whether a run may be continued for more epochs, so that it leaves a checkpoint.
    """

    folder: Path
    task: Task | None
    options: SweepOptions
    stopping: Stopping
    note: Callable[[str], object]
    continues: Callable[[Run], bool] = never_continued


@dataclass(frozen=True)
class _Delivery:
    """The things that a worker process needs beside the run.

    Attributes:
        folder: of the rows.
        directory: of the files of tasks.
        parent: the number of the parent process.
        stop: asked after each epoch.
        continues: as in `Context`.
        tensorboard: folder of event logs; None for none.
        pickled: file of the task, if it is not found by its name.
        sha256: its digest, which does not come from the file.
    """

    folder: Path
    directory: Path
    parent: int
    stop: StopFlag
    continues: Callable[[Run], bool]
    tensorboard: Path | None
    pickled: Path | None = None
    sha256: str = ""


class Processes:
    """Worker processes for one sweep; a context manager that kills them at its end.

    With one job the runs are done in this process.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.jobs = context, context.options.jobs or 1
        log = context.options.tensorboard
        self.delivery = _Delivery(
            context.folder.absolute(),
            Path.cwd(),
            os.getpid(),
            context.stopping.requested,
            context.continues,
            None if log is None else log.absolute(),
        )
        self.executor: ProcessPoolExecutor | None = None
        self.futures: set[Future[Ended]] = set()

    def __enter__(self) -> Processes:
        with contextlib.ExitStack() as stack:
            if self.context.task is not None:
                content, sha256 = encode_task(self.context.task)
                path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inna-"))) / "task.pickle"
                path.write_bytes(content)
                self.delivery = dataclasses.replace(self.delivery, pickled=path, sha256=sha256)
            stack.callback(self._kill)
            self.exits = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.exits.close()

    def execute(self, runs: list[Run]) -> Generator[Ended]:
        """Attempt ``runs`` and yield how each ended, as it ends.

        Raises:
            SweepError: a worker process was killed.
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        if self.jobs == 1:
            for run in runs:
                with self.context.stopping.interruptible():
                    ended = _work(run, self.delivery)
                yield ended
            return
        try:
            # A few more than workers, so that none waits for work.
            for future in drain(self._submit, runs, 2 * self.jobs, self.context.stopping.raise_if_urgent):
                self.futures.discard(future)
                yield future.result()
        except BrokenProcessPool as error:
            names = "  ".join(f"[{run.text}]" for run in read_ended_runs(self.context.folder))
            raise SweepError(
                f"a worker process was killed (out of memory? fewer --jobs need less); {RESUME}{names and f'  {names}'}"
            ) from error

    def _submit(self, run: Run) -> Future[Ended]:
        from joblib.externals.loky import ProcessPoolExecutor

        with _signals_blocked():
            if self.executor is None:
                environment = {name: os.environ.get(name, "1") for name in THREAD_VARIABLES}
                self.executor = ProcessPoolExecutor(
                    self.jobs, timeout=IDLE_SECONDS, initializer=_begin_worker, env=environment
                )
            future: Future[Ended] = self.executor.submit(_work, run, self.delivery)
        self.futures.add(future)
        return future

    def _kill(self) -> None:
        if self.executor is not None:
            while not all(future.running() or future.done() for future in self.futures):
                time.sleep(0.001)  # loky must not be told to kill workers while it takes over a run
            self.executor.shutdown(wait=True, kill_workers=True)
            remove_leftovers(self.context.folder)


def store(folder: Path, run: Run, result: Result, *, continues: bool = False) -> None:
    """Write the row of ``run``, and remove its checkpoint.

    Unless a longer run may continue it.
    """
    write_row(folder, run, result)
    if not (continues and finished(result)):
        checkpoint_path(folder, run).unlink(missing_ok=True)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and signals to end in this thread and what it starts.

    That is, in its processes and threads.

    They reach the whole process group, but only the parent reacts: it asks its workers to stop, or kills them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # Its process unblocks SIGINT and SIGTERM as it starts, here too, and ignores them. A hang-up would end it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Ignore signals that are for the parent, keep freed memory, and write any text."""
    ignore_interrupts()
    keep_freed_memory()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # processes that a task starts can be ended
    spell_missing_letters()


def _work(run: Run, delivery: _Delivery) -> Ended:
    """Do a run in a worker, and write its row there: the parent may be killed."""

    def report(entry: dict[str, Any]) -> None:
        if os.getpid() != delivery.parent != os.getppid():
            os._exit(1)  # the parent is gone
        heartbeat.update(entry)
        log.update(entry)

    leave = delivery.continues(run)
    with Heartbeat(delivery.folder, run) as heartbeat, EventLog(delivery.tensorboard, run) as log:
        return attempt(
            run,
            lambda: _task(run, delivery),
            checkpoint=checkpoint_path(delivery.folder, run),
            checkpoint_seconds=CHECKPOINT_SECONDS,
            stop=delivery.stop,
            on_epoch=report,
            keep=lambda result: store(delivery.folder, run, result, continues=leave),
            leave_checkpoint=leave,
        )


def _task(run: Run, delivery: _Delivery) -> Task:
    if delivery.pickled is not None:
        return _read_task(delivery.pickled, delivery.sha256)
    return task_of(run, delivery.directory)


@functools.lru_cache(maxsize=1)
def _read_task(path: Path, sha256: str) -> Task:
    return decode_task(path.read_bytes(), sha256)
