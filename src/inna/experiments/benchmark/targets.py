"""Targets that were fixed before the optimizers were judged by them.

They are in ``targets.json``, beside the rule by which they were set, once, from the baselines alone.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from importlib import resources
from typing import Any

from inna.experiments.benchmark.suite import SuiteTask
from inna.experiments.rows.results import finished, history, number
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Entry, Summary
from inna.experiments.study.optimizer_names import NAMED

__all__ = ["BASELINES", "RULE", "SHARE", "fixed_targets", "set_targets", "targets_of"]

BASELINES = ("sgd", "heavy-ball", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
SHARE = 0.75
RULE = (
    "Of each measure the median over SGD, heavy ball, Nesterov, AdaGrad, RMSprop, Adam and AdamW, each tuned, of the "
    "mean over the seeds after three quarters of the epochs (rounded up), to three digits. Means of losses > 0 are "
    "geometric. INNA and its variants take no part."
)
_FILE = "targets.json"


def fixed_targets() -> Mapping[str, Mapping[str, float]]:
    """Return task -> measure -> target, for the embedded suite.

    >>> all(target > 0 for task in fixed_targets().values() for target in task.values())
    True
    """
    document = json.loads(resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))
    tasks: Mapping[str, Mapping[str, float]] = document["tasks"]
    return tasks


def targets_of(task: SuiteTask) -> Mapping[str, float]:
    """Return the targets of a task: its own, or those of the embedded suite.

    The latter only for the same task with the same epochs; empty without any.
    """
    from inna.experiments.benchmark.suite import DEFAULT_SUITE

    known = [each for each in DEFAULT_SUITE.tasks if (each.name, each.task) == (task.name, task.task)]
    embedded = any((each.epochs, each.batch_size) == (task.epochs, task.batch_size) for each in known)
    return task.targets or (fixed_targets().get(task.name, {}) if embedded else {})


def set_targets(summary: Summary) -> dict[str, float]:
    """Return the targets that the rule sets from the tuned baselines of a study.

    Args:
        summary: of the tuned track of a task.

    Raises:
        ValueError: a baseline is missing, or has a final run that is not done.
    """
    by_label = {entry.label: entry for entry in summary.entries}
    entries = {name: by_label[NAMED[name].label] for name in BASELINES if NAMED[name].label in by_label}
    missing = [name for name in BASELINES if name not in entries or entries[name].pending]
    if missing:
        raise ValueError(f"targets need the final runs of all baselines; {', '.join(missing)} is not done")
    epoch = math.ceil(SHARE * summary.study.epochs)
    targets = {}
    for measure in summary.measures:
        means = [_mean_at(entries[name], epoch, measure.name, measure.goal) for name in BASELINES]
        targets[measure.name] = float(f"{statistics.median(means):.3g}")
    return targets


def _mean_at(entry: Entry, epoch: int, key: str, goal: Any) -> float:
    """Return the mean of a measure after ``epoch``.

    It is the worst value if a run did not get there.
    """
    values = [
        number(history(result)[epoch].get(key)) if finished(result) else math.nan for _, result in entry.finals.values()
    ]
    if not values or not all(map(math.isfinite, values)):
        return math.inf if goal == "min" else -math.inf
    found = spread(values, goal, geometric=key.endswith("_loss") and min(values) > 0)
    assert found is not None
    return found.mean
