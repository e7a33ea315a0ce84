"""Runs on the workers of a Dask cluster, which may share no folder with this process: it alone writes rows.

A run goes to a worker with its task (where that is a file of one's own) and its checkpoint (where there is one), and
comes back as a result, or as a checkpoint where the sweep is stopped. What a lost worker was at is begun again on
another.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import pickle
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inna
from inna.experiments.rows.row_files import write_row
from inna.experiments.rows.run import Run
from inna.experiments.study.study import Study
from inna.experiments.sweep.active_runs import Announcement
from inna.experiments.sweep.stopping import Stopping
from inna.experiments.sweep.workers import Ended, Failure, SweepError, attempt, pickled
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.task import Task
from inna.experiments.training.tensorboard import EventLog
from inna.experiments.training.train import checkpoint_path
from inna.files import write_whole

__all__ = ["Cluster"]

CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5
INTERVAL = 0.5  # seconds between two words of a worker to the client, and between two looks at the sign to stop

# A run sets the random state and the threads of its process, so a worker with many threads does one after the other.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class _Parcel:
    """What a worker needs: the run, the sender's version, the task by value, a checkpoint, where to report."""

    run: Run
    version: str
    task: bytes | None
    checkpoint: bytes | None
    channel: str


class Cluster:
    """The workers of the scheduler at an address, for one sweep; a context manager.

    Args:
        scheduler: such as ``tcp://10.0.0.1:8786``.
        folder: of the rows, on this machine.
        study, task: as in `sweep`.
        stopping: looked at here; the workers hear of it through the scheduler.
        note: told when there is no worker.
        tensorboard: folder of event logs on this machine, written as runs end; None for none.

    Raises:
        SweepError: on entering, no scheduler answers at the address.
        ValueError: the task cannot be handed to another process.
    """

    def __init__(
        self,
        scheduler: str,
        folder: Path,
        study: Study,
        task: Task | None,
        stopping: Stopping,
        note: Callable[[str], object],
        tensorboard: Path | None = None,
    ) -> None:
        self.tensorboard = tensorboard
        self.scheduler, self.folder, self.stopping, self.note = scheduler, folder, stopping, note
        self.task = _by_value(study, task)
        self.channel = f"inna-{time.time_ns()}"
        self.announced: dict[str, Announcement] = {}
        self.runs: dict[str, Run] = {}
        self.lock = threading.Lock()
        self.alone = False

    def __enter__(self) -> Cluster:
        from distributed import Client, Event

        # What distributed logs of a lost connection, with tracebacks, is said here in a line.
        loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if _is_distributed(name)]
        self.levels = {logger: logger.level for logger in loggers}
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            self.client = Client(self.scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            self._restore_logs()
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise SweepError(f"no Dask scheduler answers at {self.scheduler}: {why}") from error
        self.event = Event(self.channel, client=self.client)
        self.client.subscribe_topic(self.channel, self._hear)
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError, CancelledError):
            self.client.close()
        for key in list(self.announced):
            self._forget(key)
        self._restore_logs()

    def _restore_logs(self) -> None:
        for logger, level in self.levels.items():
            logger.setLevel(level)

    @property
    def jobs(self) -> int:
        """How many workers there are, at least 1."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def execute(self, runs: list[Run]) -> Generator[Ended]:
        """Attempt ``runs`` and yield how each ended, its row written.

        Raises:
            SweepError: the scheduler is gone.
        """
        from distributed import wait

        self.runs |= {run.key: run for run in runs}
        names: dict[Any, Run] = {f"{self.channel}-{run.key}": run for run in runs}
        futures: list[Any] = [
            self.client.submit(_remote, self._parcel(run), key=name, pure=False) for name, run in names.items()
        ]
        waiting = set(futures)
        try:
            while waiting:
                with contextlib.suppress(TimeoutError), self.client.as_current():
                    wait(list(waiting), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
                if self.client.status != "running":
                    raise CancelledError
                for future in [future for future in waiting if future.done()]:
                    waiting.remove(future)
                    yield self._ended(future, names[future.key])
                self.stopping.raise_if_urgent()
                if self._is_alone() and self.stopping.requested():
                    return
                if self.stopping.requested() and not self.event.is_set():
                    self.event.set()
        except (CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of this machine's disk, not of the connection
            raise SweepError(
                f"the Dask scheduler at {self.scheduler} is gone; rows are kept, the same command goes on from there"
            ) from error
        finally:
            if self.client.status == "running":
                self.client.cancel(list(waiting))

    def _parcel(self, run: Run) -> _Parcel:
        path = checkpoint_path(self.folder, run)
        checkpoint = path.read_bytes() if path.exists() else None
        return _Parcel(run, inna.__version__, self.task, checkpoint, self.channel)

    def _ended(self, future: Any, run: Run) -> Ended:
        if future.cancelled():
            raise CancelledError
        self.runs.pop(run.key, None)
        self._forget(run.key)
        if future.status == "error":
            error = future.exception()
            text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            trace = "".join(traceback.format_exception(error))
            return Ended(run, {}, failure=Failure(run, text, trace))
        ended: Ended
        ended, checkpoint = future.result()
        path = checkpoint_path(self.folder, run)
        if checkpoint is not None:
            write_whole(path, checkpoint)
        elif ended.failure is None and not ended.stopped:
            write_row(self.folder, run, ended.result)
            with EventLog(self.tensorboard, run) as log:
                for entry in ended.result["history"]:
                    log.update(entry)
            path.unlink(missing_ok=True)
        return ended

    def _is_alone(self) -> bool:
        """Whether there is no worker, which is told once."""
        alone = not self.client.scheduler_info(n_workers=-1)["workers"]
        if alone and not self.alone:
            self.note(f"no worker is at the Dask scheduler {self.scheduler}; waiting for one")
        self.alone = alone
        return alone

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """A worker says how far a run is."""
        key, entry = event[1]["key"], event[1]["entry"]
        with self.lock:
            run = self.runs.get(key)
            if run is None:
                return
            if key not in self.announced:
                self.announced[key] = Announcement(self.folder, run).__enter__()
            self.announced[key].update(entry)

    def _forget(self, key: str) -> None:
        with self.lock:
            announcement = self.announced.pop(key, None)
            if announcement is not None:
                announcement.__exit__(None, None, None)


def _is_distributed(name: str) -> bool:
    return name.partition(".")[0] == "distributed"


def _by_value(study: Study, task: Task | None) -> bytes | None:
    """The task of ``study`` as bytes, functions of one's own file included; None for a built-in one."""
    import cloudpickle

    if task is None:
        if not study.source:
            return None
        task, _ = load_task(study.dataset, model=study.model)
    functions = (task.model, task.loss, *(function for function, _ in task.metrics.values()))
    modules = {sys.modules.get(getattr(function, "__module__", None) or "") for function in functions}
    own = [module for module in modules if module is not None and module.__name__.startswith("inna_task_")]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        return pickled(task)
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _remote(parcel: _Parcel) -> tuple[Ended, bytes | None]:
    """On a worker: the run, or a part of it and its checkpoint."""
    from distributed import Event, get_worker

    if parcel.version != inna.__version__:
        raise RuntimeError(f"a worker has inna {inna.__version__}, the client {parcel.version}; give them one version")
    worker = get_worker()
    event = Event(parcel.channel)
    looked, asked, told = -math.inf, False, -math.inf

    def stop() -> bool:
        nonlocal looked, asked
        if not asked and time.monotonic() - looked >= INTERVAL:
            asked, looked = event.is_set(), time.monotonic()
        return asked

    def tell(entry: dict[str, Any]) -> None:
        nonlocal told
        if time.monotonic() - told >= INTERVAL:
            told = time.monotonic()
            said = {"epoch": entry["epoch"], "train_loss": entry["train_loss"]}
            worker.log_event(parcel.channel, {"key": parcel.run.key, "entry": said})

    def find_task() -> Task:
        if parcel.task is not None:
            return _unpickled(parcel.task)
        return load_task(parcel.run.dataset, model=parcel.run.model)[0]

    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="inna-") as place:
        path = Path(place) / "run.checkpoint"
        if parcel.checkpoint is not None:
            path.write_bytes(parcel.checkpoint)
        ended = attempt(
            parcel.run,
            find_task,
            checkpoint=path,
            checkpoint_seconds=math.inf,
            stop=stop,
            on_epoch=tell,
            keep=lambda result: None,
        )
        return ended, path.read_bytes() if ended.stopped and path.exists() else None


@functools.lru_cache(maxsize=1)
def _unpickled(content: bytes) -> Task:
    task: Task = pickle.loads(content)
    return task
