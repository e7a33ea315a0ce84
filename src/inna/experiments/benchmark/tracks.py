"""The two tracks: tuned alike on each task, and one setting for all tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from inna.experiments.benchmark.suite import Suite, SuiteTask
from inna.experiments.comparison import contender, make_study
from inna.experiments.study.optimizer_names import NAMED, parse_tuned
from inna.experiments.study.study import Contender, Study
from inna.experiments.training.optimizers import default_lr, parse

__all__ = ["TUNED", "UNTUNED", "make_track"]

TUNED = (
    "inna",
    "inna-guarded",
    "innaprop",
    "sgd",
    "heavy-ball",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "muon-adamw",
    "schedule-free-adamw",
)
UNTUNED = (
    "inna",
    "inna-guarded",
    "inna-lr-free",
    "innaprop",
    "innaprop-lr-free",
    "sgd",
    "heavy-ball",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "muon-adamw",
    "schedule-free-adamw",
    "prodigy",
    "dog",
    "momo",
)
_REFERENCE = "AdamW"
# It has no schedule by design.
_CONSTANT = ("schedule-free-adamw",)


def make_track(suite: Suite, task: SuiteTask, track: str, optimizers: Sequence[str] = (), command: str = "") -> Study:
    """Return the study of a task in a track, after trying its runs.

    In the tuned track every optimizer has the same trials and the same epochs for its search, and its learning rate
    falls linearly to zero, but for schedule-free AdamW, which has none by design. In the untuned track each has the
    default learning rate of its class, constant, on every task; a run of one epoch takes the place of the search.

    Args:
        suite: the suite.
        task: one of its tasks.
        track: "tuned" or "untuned".
        optimizers: specifications; by default those of the track.
        command: the command line, for the report.

    Raises:
        ValueError: as in `inna.experiments.comparison.make_study`.
    """
    tuned = track == "tuned"
    make = _tuned if tuned else _untuned
    contenders = [make(text) for text in optimizers or (TUNED if tuned else UNTUNED)]
    labels = [each.label for each in contenders]
    return make_study(
        task.task,
        contenders,
        model=task.model,
        command=command,
        batch_size=task.batch_size,
        tuning="halving" if tuned else "grid",
        reference=_REFERENCE if _REFERENCE in labels else labels[0],
        **suite.protocol(task, track, len(contenders)),
    )


def _tuned(text: str) -> Contender:
    return contender(text, schedules=(0.0 if text in _CONSTANT else "linear",), search=True)


def _untuned(text: str) -> Contender:
    tuned = parse_tuned(text)
    specification = parse(tuned.fixed)
    made = contender(text, [default_lr(specification) if tuned.lr is None else tuned.lr], [0.0])
    label = NAMED[text].label if text in NAMED else made.label
    return dataclasses.replace(made, label=label)
