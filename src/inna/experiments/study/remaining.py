"""Completed runs of a study, and the runs and epochs known to remain.

No framework is imported.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from inna.experiments.rows.results import Rows, epochs_added
from inna.experiments.rows.run import Run
from inna.experiments.study.halving import Ahead
from inna.experiments.study.study import Contender, Study
from inna.experiments.study.tuning import state

__all__ = ["Outlook", "Remaining", "outlook", "remaining"]


class Outlook(NamedTuple):
    """Completed runs and their epochs, and the runs and epochs known to remain.

    A run that diverged counts all its epochs; one that continues another counts those that it adds.
    """

    done: int
    left: int
    epochs_left: int
    epochs_done: int


class Remaining(NamedTuple):
    """The runs of one optimizer that remain, and its completed ones."""

    first: Run | None
    """The first of all tuning runs; None where a budget allows none."""
    tuning: tuple[Run, ...]
    """The tuning runs that are due."""
    ahead: Ahead
    """The runs that follow them for certain."""
    finals: tuple[int, ...]
    """The seeds of the final runs that are left."""
    untuned: tuple[int, ...]
    """The seeds of the untuned runs that are left."""
    done: int
    epochs: int
    """The epochs of all that remains."""
    epochs_done: int

    @property
    def runs(self) -> int:
        """The number of runs that are left."""
        return len(self.tuning) + self.ahead.runs + len(self.finals) + len(self.untuned)


def outlook(study: Study, rows: Rows, failed: Collection[Run] = ()) -> Outlook:
    """Return the completed and remaining runs of ``study``.

    Extensions and refinements of grids, and moves of a search's refinement, are counted once they are due. A budget in
    time is not taken into account.

    Args:
        study: the study.
        rows: the runs done so far.
        failed: runs that raised; they do not remain.
    """
    parts = [remaining(study, contender, rows, failed) for contender in study.contenders]
    return Outlook(
        sum(part.done for part in parts),
        sum(part.runs for part in parts),
        sum(part.epochs for part in parts),
        sum(part.epochs_done for part in parts),
    )


def remaining(study: Study, contender: Contender, rows: Rows, failed: Collection[Run] = ()) -> Remaining:
    """Return the completed and remaining runs of one optimizer."""
    tuning = state(study, contender, rows)
    added = dict(zip(tuning.plan, epochs_added(tuning.plan), strict=True))
    missing = tuple(run for run in tuning.plan if run not in rows and run not in failed)
    finals = () if missing else tuning.finals
    left = study.seeds if missing else tuple(run.seed for run in finals if run not in rows and run not in failed)
    ahead = tuning.ahead if missing else Ahead()
    # The runs of a choice that is the library's own count once.
    others = [run for run in tuning.untuned if run not in finals]
    untuned = tuple(run.seed for run in others if run not in rows and run not in failed)
    finals_done = sum(run in rows for run in (*finals, *others))
    return Remaining(
        next(iter(tuning.plan), None),
        missing,
        ahead,
        left,
        untuned,
        sum(run in rows for run in tuning.plan) + finals_done,
        sum(added[run] for run in missing) + ahead.epochs + (len(left) + len(untuned)) * study.epochs,
        sum(added[run] for run in tuning.plan if run in rows) + finals_done * study.epochs,
    )
