"""How far a study is, from its rows alone. No framework is imported."""

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
    """How far a study is: runs done, runs and epochs that are left as far as can be foreseen."""

    done: int
    left: int
    epochs_left: int


def outlook(study: Study, rows: Rows, failed: Collection[Run] = ()) -> Outlook:
    """How far ``study`` is. Extensions of grids are counted once they are due; a budget in time is not foreseen."""
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
