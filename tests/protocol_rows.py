"""Synthetic results of the paper's protocol with chosen final values, for tests of verdicts and figures."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from inna.experiments.rows.run import Run
from inna.experiments.study.study import Study
from inna.experiments.tasks.catalogue import CATALOGUE, split_subset
from inna.paper.descents import Descent
from inna.paper.protocol import protocol_study

End = tuple[float, float, float]

# label -> training loss, test accuracy at the last epoch, and how early the loss falls (1: evenly in log; 0.4: early)
FINE: dict[str, End] = {
    "INNA (0.1, 0.1)": (0.020, 0.985, 1.0),
    "INNA (0.5, 0.1)": (0.022, 0.984, 1.0),
    "INNA (0.5, 0.5)": (0.024, 0.983, 1.0),
    "INNA (0.5, 1)": (0.030, 0.982, 1.0),
    "SGD": (0.100, 0.970, 1.0),
    "AdaGrad": (0.080, 0.972, 0.7),
    "Adam": (0.010, 0.981, 0.4),
    "heavy ball": (0.025, 0.980, 1.0),
    "AdamW": (0.011, 0.981, 0.4),
    "INNAprop": (0.009, 0.981, 0.4),
    "INNA (0.5, 0.1), q = 1/4": (0.005, 0.985, 0.5),
    "INNA (0.5, 0.1), q = 1/8": (0.007, 0.984, 0.5),
    "INNA (0.5, 0.1), q = 1/16": (2.400, 0.100, 0.5),
}


def study_of(dataset: str = "mnist", model: str = "lenet5", **changes: Any) -> Study:
    return dataclasses.replace(protocol_study(dataset, model, "medium"), **changes)


def result(
    study: Study, run: Run, end: tuple[float, float, float], *, diverges_after: int | None = None
) -> dict[str, Any]:
    """Return a result with these final values.

    The losses of seed s differ by a factor of 1.03^(s - 2), the accuracies by 0.0002 (s - 2).
    """
    classes = CATALOGUE[split_subset(study.dataset)[0]].classes
    start, (loss, accuracy, early) = math.log(classes), end
    tilt = run.seed - 2 if run.seed else 0
    history = []
    for epoch in range(run.epochs + 1):
        share = (epoch / run.epochs) ** early
        measured = (start * (loss / start) ** share) * (1.03 ** (tilt * share))
        history.append(
            {
                "epoch": epoch,
                "lr": run.lr,
                "train_loss": measured,
                "test_loss": measured + 0.01,
                "test_accuracy": 1 / classes + (accuracy + 0.0002 * tilt * (epoch > 0) - 1 / classes) * share**0.2,
                "seconds": 1.0 if epoch else 0.0,
            }
        )
    row = {
        "status": "done",
        **{key: history[-1][key] for key in ("train_loss", "test_loss", "test_accuracy")},
        "seconds_per_epoch": 1.0,
        "seconds": float(run.epochs),
        "history": history,
        "parameters": 61706,
        "threads": 1,
        "versions": {"inna": "0.1.0", "torch": "2.13.0+cpu"},
        "hardware": {"cpu": "synthetic", "cores": 2},
    }
    if diverges_after is not None:
        row |= {"status": "diverged", "train_loss": math.nan, "test_loss": math.nan, "test_accuracy": math.nan}
        row["history"] = history[: diverges_after + 1]
        row["divergence"] = {"iteration": 7, "epoch": diverges_after + 1, "reason": "the loss is not finite"}
    return row


def rows_of(
    study: Study,
    changes: Mapping[str, End] | None = None,
    *,
    by_seed: Mapping[tuple[str, int], End] | None = None,
    diverging: Mapping[tuple[str, int], int] | None = None,
    without: Iterable[str | tuple[str, int]] = (),
) -> dict[Run, dict[str, Any]]:
    """Return results that meet every claim about training loss, except for the changes.

    Args:
        study: one of `study_of`.
        changes: other final values of some optimizers.
        by_seed: other final values of single final runs.
        diverging: final run -> the last complete epoch before it diverges.
        without: optimizers without final runs, or single missing final runs.
    """
    ends = FINE | dict(changes or {})
    rows: dict[Run, dict[str, Any]] = {}
    for contender in study.contenders:
        end = ends[contender.label]
        for lr in contender.grid[1:3]:
            tuning = study.tuning_run(contender, lr, contender.qs[0])
            rows[tuning] = result(study, tuning, (end[0] * 30 * (2 if lr == contender.grid[1] else 1), *end[1:]))
        for seed in study.seeds:
            if contender.label in without or (contender.label, seed) in without:
                continue
            run = study.run(contender, contender.grid[2], contender.qs[0], seed=seed, epochs=study.epochs)
            own = (by_seed or {}).get((contender.label, seed), end)
            rows[run] = result(study, run, own, diverges_after=(diverging or {}).get((contender.label, seed)))
    return rows


def descents() -> list[Descent]:
    """Return synthetic descents of Figure 1, three for each label; one leaves the figure."""
    iteration = tuple(range(0, 88_001, 800))
    found = []
    for label, alpha, beta in itertools.product(("recovered", "caption"), (0.3, 1.3), (0.01, 0.1)):
        if (alpha, beta) == (1.3, 0.01):
            continue
        far = 300.0 if (label, beta) == ("caption", 0.01) else 1.4
        theta1 = tuple(-1 + (far + 1) * k / 88_000 for k in iteration)
        theta2 = tuple(abs(x) + 0.2 * math.sin(k) for k, x in zip(iteration, theta1, strict=True))
        log10_loss = tuple(1.4 - k / 30_000 for k in iteration)
        found.append(Descent(label, alpha, beta, 0.1, (800,), iteration, log10_loss, theta1, theta2))
    return found
