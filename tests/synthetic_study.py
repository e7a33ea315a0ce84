"""Studies with made-up, deterministic rows: the report's tests need plausible curves, not training."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from inna.experiments.rows.row_files import write_row
from inna.experiments.rows.run import Metric, Run
from inna.experiments.study.study import Contender, Study
from inna.experiments.study.tuning import state

HOSTILE = "</script><img src=x onerror=alert(1)>"

# optimizer, alpha, beta, gamma_0 at its best, largest stable gamma_0, decay rate per epoch, floor of the loss, accuracy
FIELD: dict[str, tuple[str, float | None, float | None, float, float, float, float, float]] = {
    "INNA (α=0.1, β=0.1)": ("inna", 0.1, 0.1, 0.0316, 0.2, 0.55, 0.0012, 0.984),
    "INNA (α=0.5, β=0.1)": ("inna", 0.5, 0.1, 0.1, 0.9, 0.50, 0.0016, 0.986),
    "INNA (α=0.5, β=0.5)": ("inna", 0.5, 0.5, 0.1, 0.9, 0.38, 0.0050, 0.981),
    "INNA (α=0.5, β=1)": ("inna", 0.5, 1.0, 0.0316, 0.6, 0.30, 0.0110, 0.979),
    "SGD": ("sgd", None, None, 0.1, 0.9, 0.28, 0.0130, 0.977),
    "heavy ball": ("heavy-ball", None, None, 0.01, 0.2, 0.48, 0.0018, 0.984),
    "AdaGrad": ("adagrad", None, None, 0.0316, 3.0, 0.33, 0.0080, 0.978),
    "Adam": ("adam", None, None, 0.001, 0.09, 0.60, 0.0009, 0.985),
}
ADAPTIVE = ("adagrad", "adam")
VERSIONS = {"inna": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu", "numpy": "2.4.0"}
HARDWARE = {"machine": "x86_64", "processor": "Synthetic CPU @ 3.00 GHz", "cores": 2, "system": "Linux"}


def classification_study(**changes: Any) -> Study:
    contenders = tuple(
        Contender(label, optimizer, alpha, beta, qs=(0.0,) if optimizer in ADAPTIVE else (0.0, 0.5))
        for label, (optimizer, alpha, beta, *_) in FIELD.items()
    )
    fields: dict[str, Any] = {
        "dataset": "digits",
        "model": "small-cnn",
        "contenders": contenders,
        "reference": "SGD",
        "tuning_epochs": 5,
        "epochs": 15,
        "seeds": (1, 2, 3),
        "command": "inna compare --dataset digits --output runs/digits",
    }
    return Study(**(fields | changes))


def regression_study() -> Study:
    return classification_study(
        dataset="diabetes",
        model="mlp",
        metrics=(Metric("rmse", "min"),),
        contenders=classification_study().contenders[1:6],
    )


def hostile_study() -> Study:
    contenders = (
        Contender(HOSTILE, "inna", 0.5, 0.1, grid=(0.01, 0.1, 1.0)),
        Contender('[red]SGD[/red] & "co"\x1b[31m', "sgd", grid=(0.01, 0.1, 1.0)),
        Contender("a" * 120, "adam", grid=(0.001, 0.01), qs=(0.0,), settings=(("weight_decay", 0.01),)),
    )
    return classification_study(
        dataset=f"task.py:{HOSTILE}",
        model=HOSTILE,
        contenders=contenders,
        reference=contenders[1].label,
        metrics=(Metric("<b>score</b>: a.b[0]", "max"), Metric("accuracy", "max")),
        command=f"inna compare --task '{HOSTILE}' <!-- $name ${{name}} {{{{x}}}}",
    )


def result(study: Study, contender: Contender, run: Run, *, diverges: bool = False) -> dict[str, Any]:
    """A made-up row whose numbers depend on the run alone."""
    noise = random.Random(run.key)
    _, _, _, best, limit, rate, floor, top = FIELD.get(contender.label) or (None, 0, 0, 0.1, 0.9, 0.4, 0.004, 0.95)
    decay = 0.0 if run.q == 0 else 0.5
    mismatch = abs(math.log10(run.lr / best) - decay)
    luck = math.exp(noise.gauss(0, 0.12))
    slowness = 10 ** (-0.55 * mismatch**1.5)
    diverges = diverges or run.lr > limit * (1 if run.q == 0 else 8)
    scale = 3000.0 if study.metrics[0].name == "rmse" else 1.0
    history = []
    for epoch in range(run.epochs + 1):
        loss = luck ** (epoch > 0) * (2.303 * math.exp(-rate * slowness * epoch) + floor * 2 * (1 + mismatch))
        loss *= math.exp(noise.gauss(0, 0.05) * (epoch > 0))
        gap = 0.03 + 0.002 * epoch
        error = (1 - top) * (1 + 0.15 * noise.gauss(0, 1)) + 0.88 * (loss / 2.303) ** 0.8 * (1 - 0.05 * noise.random())
        measured = {"accuracy": 1 - min(error, 0.9), "rmse": math.sqrt(scale) * (0.8 + error)}
        history.append(
            {
                "epoch": epoch,
                "lr": run.lr * (1 + 45 * epoch) ** -run.q,
                "train_loss": scale * loss,
                "test_loss": scale * (loss + gap),
                **{f"test_{name}": measured.get(name, measured["accuracy"]) for name, _ in study.metrics},
                "seconds": 0.0 if epoch == 0 else 0.2,
            }
        )
    row: dict[str, Any] = {
        "status": "done",
        **{key: value for key, value in history[-1].items() if key.startswith(("train_", "test_"))},
        "seconds_per_epoch": round(0.2 + 0.03 * noise.random() + 0.02 * (run.optimizer == "inna"), 4),
        "seconds": round(0.25 * run.epochs + 0.1, 2),
        "history": history,
        "state_bytes_per_parameter": {"sgd": 0.0, "adam": 8.0}.get(run.optimizer, 4.0),
        "parameters": 9098,
        "iterations": 45 * run.epochs,
        "threads": 1,
        "versions": VERSIONS,
        "hardware": HARDWARE,
        "finished": "2026-01-01T12:00:00+00:00",
    }
    if diverges:
        last = noise.randrange(min(3, run.epochs))
        row |= {"status": "diverged", "train_loss": math.nan, "test_loss": math.inf, "history": history[: last + 1]}
        row |= {f"test_{name}": math.nan for name, _ in study.metrics}
        row["divergence"] = {
            "iteration": 45 * last + 7,
            "epoch": last + 1,
            "parameter": "features.0.weight",
            "lr": run.lr * (1 + 45 * last) ** -run.q,
            "last_finite_loss": 10.0 ** noise.randrange(2, 30),
            "reason": "the parameter is not finite",
        }
        row["iterations"] = row["divergence"]["iteration"]
    return row


def rows_of(study: Study, *, diverging_final: str = "", without: tuple[str, ...] = ()) -> dict[Run, dict[str, Any]]:
    """Every row of ``study``; the last seed of ``diverging_final`` diverges, final runs of ``without`` are missing."""
    rows: dict[Run, dict[str, Any]] = {}
    for contender in study.contenders:
        for q in contender.qs:
            for lr in contender.grid:
                run = study.tuning_run(contender, lr, q)
                rows[run] = result(study, contender, run)
        if contender.label in without:
            continue
        for run in state(study, contender, rows).finals:
            diverges = contender.label == diverging_final and run.seed == study.seeds[-1]
            rows[run] = result(study, contender, run, diverges=diverges)
    return rows


def save(folder: Path, study: Study, rows: dict[Run, dict[str, Any]]) -> Path:
    """Write the study and its rows as `inna compare` does."""
    study.save(folder)
    for run, row in rows.items():
        write_row(folder, run, row)
    return folder
