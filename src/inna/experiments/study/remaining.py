"""Completed runs of a study, and the runs and epochs known to remain. No framework is imported."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from inna.experiments.rows.results import Rows
from inna.experiments.rows.run import Run
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state

__all__ = [
    "Outlook",
    "outlook",
]


class Outlook(NamedTuple):
    """Completed runs, and the runs and epochs known to remain."""

    done: int
    left: int
    epochs_left: int


def outlook(study: Study, rows: Rows, failed: Collection[Run] = ()) -> Outlook:
    """Return the completed and remaining runs of ``study``.

    Extensions of grids are counted once they are due. A budget in time is not taken into account.

    Args:
        study: the study.
        rows: the runs done so far.
        failed: runs that raised; they do not remain.
    """
    done, left, epochs = 0, 0, 0
    for contender in study.contenders:
        plan, _, finals = state(study, contender, rows)
        tuning = [run for run in plan if run not in rows and run not in failed]
        finals = () if tuning else finals
        done += sum(run in rows for run in plan)
        coming = len(study.seeds) if tuning else sum(run not in rows and run not in failed for run in finals)
        done += sum(run in rows for run in finals)
        left += len(tuning) + coming
        epochs += len(tuning) * study.tuning_epochs + coming * study.epochs
    return Outlook(done, left, epochs)
