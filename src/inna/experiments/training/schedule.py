"""The learning rate of a run at each of its iterations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from inna import schedules
from inna.experiments.rows.run import SCHEDULES, Run
from inna.experiments.tasks.task import Data

__all__ = ["factor_of", "iterations_per_epoch"]


def factor_of(run: Run, data: Data) -> Callable[[Any], Any]:
    """Return the schedule of ``run``: iteration k -> the factor of its learning rate.

    Args:
        run: the run.
        data: its training data; a schedule that ends at zero has as many iterations as they give in its epochs.

    Raises:
        ValueError: the schedule ends at zero and the data are a DataLoader of unknown length.
    """
    if run.decay == run.q:
        return schedules.power_decay(run.q)
    total = iterations_per_epoch(run, data) * (run.horizon or run.epochs)
    name, share = SCHEDULES[run.schedule]
    schedule: Callable[[Any], Any] = getattr(schedules, name)(
        total, *([] if share is None else [math.floor(share * total)])
    )
    return schedule


def iterations_per_epoch(run: Run, data: Data) -> int:
    """Return the iterations of an epoch of ``run`` on ``data``.

    Raises:
        ValueError: the data are a DataLoader of unknown length.
    """
    if not isinstance(data, DataLoader):
        return math.ceil(len(data[0]) / run.batch_size)
    try:
        return len(data)
    except TypeError:
        raise ValueError(f"the schedule {run.decay} needs a DataLoader of known length") from None
