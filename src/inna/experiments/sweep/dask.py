"""Do runs on the workers of a Dask cluster, without a common folder.

A run is sent with its checkpoint, if there is one. It comes back as a result, which this process writes, or as a
checkpoint if the sweep is stopped. Dask repeats the run of a lost worker on another one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import inna
from inna.experiments.rows.run import Run
from inna.experiments.sweep.active_runs import INTERVAL, Heartbeat
from inna.experiments.sweep.remote import attempt_remotely, read_checkpoint, save
from inna.experiments.sweep.stopping import at_most_every
from inna.experiments.sweep.workers import RESUME, Context, Ended, SweepError, decode_task, drain, encode_task, explain
from inna.experiments.tasks.task import Task

__all__ = ["Cluster", "connect"]

CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def connect(context: Context) -> Iterator[Cluster]:
    """Connect to the Dask scheduler of ``context.options`` for one sweep.

    Raises:
        SweepError: no scheduler answers.
        ValueError: the task cannot be sent to another process.
    """
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    address, parcel = context.options.scheduler, context.task and encode_task(context.task)
    with contextlib.ExitStack() as stack:
        # distributed logs a lost connection with tracebacks; here it is reported in one line.
        for name in ("distributed", "distributed.client"):
            stack.enter_context(silence_logging_cmgr(logging.CRITICAL, name))
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SweepError(f"no Dask scheduler answers at {address}: {explain(error)[0]}") from error
        cluster = Cluster(client, context, parcel and client.submit(decode_task, *parcel, pure=False))
        stack.callback(cluster.close)
        yield cluster


class Cluster:
    """The workers of a Dask scheduler; made by `connect`."""

    def __init__(self, client: Any, context: Context, task: Any) -> None:
        from distributed import Event

        channel = f"inna-{time.time_ns()}"
        self.client, self.context, self.sent, self.alone = client, context, (task, channel, inna.__version__), False
        self.stop, self.executor = Event(channel, client=client), client.get_executor(pure=False)
        self.runs: dict[Future[Any], Run] = {}
        self.heartbeats: dict[str, Heartbeat] = {}
        client.subscribe_topic(channel, lambda event: self.heartbeats[event[1][0]].update(event[1][1]))

    @property
    def jobs(self) -> int:
        """The number of workers, at least 1."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def execute(self, runs: list[Run]) -> Generator[Ended]:
        """Attempt ``runs`` and yield how each ended, its row written.

        Raises:
            SweepError: the scheduler is gone.
            KeyboardInterrupt: Ctrl-C was pressed twice.
        """
        try:
            for future in drain(self._submit, runs, len(runs), at_most_every(INTERVAL, self._check)):
                yield self._ended(future)
        except (CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of this machine's disk, not of the connection
            raise SweepError(f"the Dask scheduler at {self.context.options.scheduler} is gone; {RESUME}") from error

    def close(self) -> None:
        """Stop what is running, and disconnect."""
        with contextlib.suppress(OSError, CancelledError):
            if self.runs and self.client.status == "running":
                self.stop.set()
                self.executor.shutdown(wait=False)
            self.client.close()
        for heartbeat in self.heartbeats.values():
            heartbeat.close()

    def _submit(self, run: Run) -> Future[Any]:
        self.heartbeats[run.key] = Heartbeat(self.context.folder, run)
        future: Future[Any] = self.executor.submit(
            _train, run, read_checkpoint(self.context.folder, run), self.context.continues(run), *self.sent
        )
        self.runs[future] = run
        return future

    def _check(self) -> None:
        """Look for workers, and tell them of a stop."""
        self.context.stopping.raise_if_urgent()
        alone = not self.client.scheduler_info(n_workers=-1)["workers"]
        if self.client.status != "running":
            raise CancelledError
        if alone and not self.alone:
            self.context.note(f"the Dask scheduler at {self.context.options.scheduler} has no worker; waiting for one")
        self.alone = alone
        if self.context.stopping.requested():
            self.stop.set()
            if alone:
                self.executor.shutdown(wait=False)

    def _ended(self, future: Future[Any]) -> Ended:
        run = self.runs.pop(future)
        self.heartbeats[run.key].close()
        if future.cancelled():
            if self.context.stopping.requested() and self.client.status == "running":
                return Ended(run, stopped=True)
            raise CancelledError
        if error := future.exception():
            return Ended.failed(run, error)
        ended: Ended = future.result()
        save(ended, self.context.folder, self.context.options.tensorboard)
        return ended


def _train(
    run: Run, checkpoint: bytes | None, leave_checkpoint: bool, task: Task | None, channel: str, version: str
) -> Ended:
    """Do a run on a worker."""
    from distributed import Event, get_worker

    if version != inna.__version__:
        raise RuntimeError(f"a worker has inna {inna.__version__}, the client {version}; install one version on both")
    stop, worker = Event(channel), get_worker()
    return attempt_remotely(
        run,
        task,
        checkpoint,
        stop=at_most_every(INTERVAL, stop.is_set),
        on_epoch=at_most_every(INTERVAL, lambda entry: worker.log_event(channel, (run.key, entry))),
        leave_checkpoint=leave_checkpoint,
    )
