"""Do runs on machines that share no folder with the sweep.

Checkpoints are sent as bytes; the sweep saves the results.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inna.experiments.rows.run import Run
from inna.experiments.sweep.workers import Ended, attempt, store
from inna.experiments.tasks.load import task_of
from inna.experiments.tasks.task import Task
from inna.experiments.training.tensorboard import EventLog
from inna.experiments.training.train import checkpoint_path
from inna.files import DamagedFileError, read_file, write_whole

__all__ = ["attempt_remotely", "read_checkpoint", "save"]

# A run sets the random state and the threads of its process, so a worker with many threads does one after the other.
_ONE_AT_A_TIME = threading.Lock()


def read_checkpoint(folder: Path, run: Run) -> bytes | None:
    """Return the checkpoint of ``run`` in ``folder``; None if there is none."""
    try:
        return read_file(checkpoint_path(folder, run))
    except (FileNotFoundError, DamagedFileError):
        return None


def attempt_remotely(
    run: Run,
    task: Task | None,
    checkpoint: bytes | None,
    *,
    stop: Callable[[], bool],
    on_epoch: Callable[[dict[str, Any]], object],
    leave_checkpoint: bool = False,
) -> Ended:
    """Do ``run`` on a worker, from ``checkpoint`` if there is one.

    Args:
        run: the run.
        task: its task; None for a built-in one.
        checkpoint: as `read_checkpoint` returns it.
        stop: whether to stop.
        on_epoch: called with the newest entry of the history.
        leave_checkpoint: whether to return the checkpoint of a run that ends, too.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory(prefix="inna-") as folder:
        path = Path(folder) / "run.checkpoint"
        if checkpoint is not None:
            path.write_bytes(checkpoint)
        ended = attempt(
            run,
            lambda: task or task_of(run),
            checkpoint=path,
            checkpoint_seconds=math.inf,
            stop=stop,
            on_epoch=on_epoch,
            leave_checkpoint=leave_checkpoint,
        )
        left = ended.stopped or (leave_checkpoint and ended.failure is None)
        return dataclasses.replace(ended, checkpoint=path.read_bytes() if left and path.exists() else None)


def save(ended: Ended, folder: Path, tensorboard: Path | None) -> None:
    """Write the row or the checkpoint of a run that ended on a worker, and its log."""
    if ended.checkpoint is not None:
        write_whole(checkpoint_path(folder, ended.run), ended.checkpoint)
    if ended.result:
        store(folder, ended.run, ended.result, continues=ended.checkpoint is not None)
        with EventLog(tensorboard, ended.run) as log:
            for entry in ended.result["history"]:
                log.update(entry)
