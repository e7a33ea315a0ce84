"""Train a task's network with one optimizer, and evaluate it.

The learning rate is set at every iteration k = 0, 1, 2, ..., which are not epochs, by the schedule; for a power q

    γ_k = γ_0 (k + 1)^-q

The seed decides the initial weights, which are the same for every optimizer, and the order of the data in each epoch.
A run computes in one thread, so its row does not depend on what runs beside it, timings aside, on one kind of
processor.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inna.experiments.rows.results import Rows
from inna.experiments.rows.row_files import trajectory_name, write_row
from inna.experiments.rows.run import Run
from inna.experiments.tasks.load import task_of
from inna.experiments.tasks.seeds import THREADS, derive, isolated, threads
from inna.experiments.tasks.task import Task
from inna.experiments.training.checkpoint import DamagedCheckpointError, load_checkpoint
from inna.experiments.training.devices import resolve_device
from inna.experiments.training.hardware import hardware, versions
from inna.experiments.training.loop import OnEpoch, OnNote, Pace, Training
from inna.experiments.training.optimizers import RefusedError
from inna.files import remove_abandoned

__all__ = [
    "checkpoint_epochs",
    "checkpoint_path",
    "measure",
    "pace",
    "refused_result",
    "remove_finished_checkpoints",
    "train",
]


def train(
    run: Run,
    *,
    task: Task | None = None,
    folder: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_note: OnNote = warnings.warn,
) -> dict[str, Any]:
    """Do ``run`` and return its row, as in a line of `load_rows`.

    Args:
        run: everything that decides the run.
        task: the task that ``run.dataset`` names; by default it is found by that name.
        folder: where the row is written, and a checkpoint after each epoch. An interrupted run is resumed from it bit
            for bit. None writes nothing.
        on_epoch: called after each epoch, and once before training, with the newest entry of ``history``.
        on_note: called with a line about a damaged checkpoint; by default a warning.

    Returns:
        Beside the fields of ``run``: ``status`` ("done" or "diverged"), ``train_loss`` (mean over the training set
        in evaluation mode after the last epoch), ``test_loss`` and ``test_<metric>`` likewise over the test set (all
        NaN where diverged), ``seconds_per_epoch`` (median, of training alone), ``seconds`` (of the whole run),
        ``history`` (a dictionary per epoch, the one before training first: ``epoch``, ``lr`` (γ at its last
        iteration), ``train_loss`` (of ``run.loss_samples`` samples before the last epoch), ``test_loss``,
        ``test_<metric>``, ``seconds``; finite training losses only),
        ``constant_loss`` (the lowest training loss of an output that is the same for every input; None where unknown),
        ``state_bytes_per_parameter``, ``parameters``, ``iterations``, ``threads``, ``versions``, ``hardware``,
        ``cuda_graph`` (whether iterations were replayed as a CUDA graph),
        ``finished`` (UTC), and where it diverged ``divergence``: ``iteration``, ``epoch``, ``parameter`` (the first
        that is not finite, or whose gradient is not; None if all are), ``lr`` (γ there), ``last_finite_loss``
        (of a mini-batch), ``reason``.

    Raises:
        ValueError: the task, the optimizer, the device or the precision does not exist or cannot be used.

    >>> row = train(Run("digits", "small-cnn", "sgd", lr=0.1, epochs=1))
    >>> row["status"], row["parameters"], row["iterations"]
    ('done', 8714, 45)
    """
    if task is None:
        task = task_of(run)
    checkpoint = None
    if folder is not None:
        checkpoint = checkpoint_path(Path(folder), run)
        remove_abandoned(Path(folder))
    result = measure(run, task, checkpoint=checkpoint, on_epoch=on_epoch, on_note=on_note)
    if folder is not None:
        write_row(Path(folder), run, result)
    return {field.name: getattr(run, field.name) for field in dataclasses.fields(run)} | result


def checkpoint_path(folder: Path, run: Run) -> Path:
    """Return the path of the checkpoint of ``run`` in ``folder``.

    Runs of one trajectory share it.
    """
    return folder / f"{trajectory_name(run)}.checkpoint"


def remove_finished_checkpoints(folder: Path, rows: Rows) -> None:
    """Remove the checkpoints of runs that have rows.

    A kill between the two leaves one.

    A checkpoint after the last epoch stays: it contains the weights that `train` keeps.
    """
    if next(folder.glob("*.checkpoint"), None) is None:
        return
    for run in rows:
        path = checkpoint_path(folder, run)
        if path.exists() and not _is_complete(path, run):
            path.unlink(missing_ok=True)


def _is_complete(path: Path, run: Run) -> bool:
    return (checkpoint_epochs(path) or 0) >= run.epochs


def checkpoint_epochs(path: Path) -> int | None:
    """Return the number of epochs after which a checkpoint was written.

    None if it is damaged.
    """
    try:
        return len(load_checkpoint(path)["history"]) - 1
    except (DamagedCheckpointError, KeyError, TypeError):
        return None


def measure(
    run: Run,
    task: Task,
    *,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 0.0,
    on_epoch: OnEpoch | None = None,
    on_note: OnNote = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
    leave_checkpoint: bool = False,
) -> dict[str, Any]:
    """Return the result of ``run`` on ``task``, as `train` describes it.

    Args:
        run: everything that decides the run.
        task: its task.
        checkpoint: where the state is kept after an epoch; an existing checkpoint is resumed, be it of a shorter run
            of the same trajectory. A damaged one is reported to ``on_note``, and training restarts.
        checkpoint_seconds: the least time between two checkpoints. At 0 there is also one after the last epoch.
        on_epoch: as in `train`.
        on_note: as in `train`.
        stop: called after each epoch but the last; if it returns true, a checkpoint is left and training ends.
        leave_checkpoint: whether one is left after the last epoch, too, from which a longer run continues.

    Raises:
        StoppedError: ``stop`` returned true.
    """
    device = resolve_device(run.device)
    with threads(THREADS), isolated(derive(run.seed, "weights"), device):
        return Training(run, task, device).results(
            checkpoint, checkpoint_seconds, on_epoch, on_note, stop, leave_checkpoint
        )


def refused_result(run: Run, task: Task, error: RefusedError) -> dict[str, Any]:
    """Return the result of a run whose optimizer refuses its settings.

    It is that of a run that diverged before its first step.
    """
    measures = ("train_loss", "test_loss", *(f"test_{name}" for name in task.metrics))
    return {
        "status": "diverged",
        **dict.fromkeys((*measures, "seconds_per_epoch"), math.nan),
        "seconds": 0.0,
        "history": [],
        "state_bytes_per_parameter": 0.0,
        "iterations": 0,
        "constant_loss": None,
        "threads": THREADS,
        "cuda_graph": False,
        "versions": versions(),
        "hardware": hardware(resolve_device(run.device)),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "divergence": {
            "iteration": 0,
            "epoch": 1,
            "parameter": None,
            "lr": run.lr,
            "last_finite_loss": math.nan,
            "reason": f"the optimizer refuses these settings: {error}",
        },
    }


def pace(run: Run, task: Task, seconds: float = 0.5) -> Pace:
    """Measure how long an epoch of ``run`` takes, from ``seconds`` of iterations.

    On a GPU these run one by one; a run that replays them as a graph is faster than this estimate.

    Raises:
        ValueError: the task's data are DataLoaders, or as in `train`.
    """
    device = resolve_device(run.device)
    with threads(THREADS), isolated(derive(run.seed, "weights"), device):
        return Training(run, task, device).pace(seconds)
