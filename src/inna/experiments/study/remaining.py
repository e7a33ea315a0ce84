"""Completed runs of a study, and the runs and epochs known to remain.

No framework is imported.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from inna.experiments.rows.results import Rows, epochs_added
from inna.experiments.rows.run import Run
from inna.experiments.study.halving import Ahead
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state

__all__ = [
    "Outlook",
    "outlook",
]


class Outlook(NamedTuple):
    """Completed runs and their epochs, and the runs and epochs known to remain.

    A run that diverged counts all its epochs; one that continues another counts those that it adds.
    """

    done: int
    left: int
    epochs_left: int
    epochs_done: int


def outlook(study: Study, rows: Rows, failed: Collection[Run] = ()) -> Outlook:
    """Return the completed and remaining runs of ``study``.

    Extensions of grids, and moves of a search's refinement, are counted once they are due. A budget in time is not
    taken into account.

    Args:
        study: the study.
        rows: the runs done so far.
        failed: runs that raised; they do not remain.
    """
    done, left, epochs_left, epochs_done = 0, 0, 0, 0
    for contender in study.contenders:
        tuning = state(study, contender, rows)
        added = dict(zip(tuning.plan, epochs_added(tuning.plan), strict=True))
        missing = [run for run in tuning.plan if run not in rows and run not in failed]
        finals = () if missing else tuning.finals
        ahead = tuning.ahead if missing else Ahead()
        coming = len(study.seeds) if missing else sum(run not in rows and run not in failed for run in finals)
        finals_done = sum(run in rows for run in finals)
        done += sum(run in rows for run in tuning.plan) + finals_done
        left += len(missing) + ahead.runs + coming
        epochs_left += sum(added[run] for run in missing) + ahead.epochs + coming * study.epochs
        epochs_done += sum(added[run] for run in tuning.plan if run in rows) + finals_done * study.epochs
    return Outlook(done, left, epochs_left, epochs_done)
