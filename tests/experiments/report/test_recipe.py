"""The code and the commands that a report gives train as the runs did."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from inna.cli import run as run_command
from inna.experiments import Run
from inna.experiments.comparison import contender
from inna.experiments.report.recipe import command, constructor, recipe
from inna.experiments.rows.row_files import find_result
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.constructors import has_modes
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.seeds import THREADS, derive, isolated, threads
from inna.experiments.training.batches import Batches
from inna.experiments.training.train import measure
from synthetic_study import classification_study, result

DATASET = "digits[:96]"
# Each schedule once, guards, an optimizer without a name of its own, and settings that are tuples and flags.
CASES = [
    ("inna:alpha=.1,beta=.1", 0.1, 0.0),
    ("sgd", 0.1, 0.5),
    ("heavy-ball", 0.01, "linear"),
    ("adam:betas=(.8,.99)", 0.01, "cosine"),
    ("nesterov:momentum=.8", 0.01, 0.25),
    ("sgd:momentum=.5", 0.05, "hold"),
    ("inna:loss_bound=0", 1.0, 0.0),
    ("inna-lr-free:initial_distance=.1", 1.0, "linear"),
    ("innaprop-lr-free:slice_every=11", 1.0, 0.0),
    ("nadam:decoupled_weight_decay=true", 0.01, 0.0),
    ("muon-adamw:momentum=.8", 0.02, "linear"),
    ("schedule-free-adamw", 0.01, 0.0),
]


def trained_study() -> tuple[Study, dict[Run, dict[str, Any]]]:
    contenders = tuple(contender(text, [lr], [decay]) for text, lr, decay in CASES)
    study = Study(
        dataset=DATASET,
        model="small-cnn",
        contenders=contenders,
        reference=contenders[0].label,
        tuning_epochs=1,
        epochs=3,
        seeds=(1,),
        batch_size=16,
    )
    task, rows = load_task(DATASET)[0], {}
    for each in contenders:
        for run in state(study, each, rows).plan:
            rows[run] = measure(run, task)
        for run in state(study, each, rows).finals:
            rows[run] = measure(run, task)
    return study, rows


STUDY, ROWS = trained_study()
SUMMARY = summarize(STUDY, ROWS)


@pytest.mark.parametrize("entry", SUMMARY.entries, ids=[text for text, *_ in CASES])
def test_the_code_trains_to_the_loss_of_the_row(entry: Any) -> None:
    found = recipe(SUMMARY, entry)
    assert found is not None
    run, row = entry.finals[1]
    task = load_task(DATASET)[0]
    data = Batches(task.train, torch.device("cpu"), torch.float32)
    with threads(THREADS), isolated(derive(run.seed, "weights")):
        names: dict[str, Any] = {"model": task.model()}
        exec(found.code, names)
        model, optimizer, scheduler = names["model"], names["optimizer"], names.get("scheduler")
        modes = run.optimizer == "schedule-free-adamw"
        assert ("optimizer.train()" in found.code) == ("optimizer.eval()" in found.code) == modes
        for epoch in range(1, run.epochs + 1):
            if modes:
                optimizer.train()
            for inputs, targets in data.shuffled(run.seed, epoch, run.batch_size):
                optimizer.zero_grad()
                loss = task.loss(model(inputs), targets)
                loss.backward()
                if "optimizer.step(loss=loss)" in found.code:
                    optimizer.step(loss=loss)
                else:
                    optimizer.step()
                if scheduler is not None:
                    scheduler.step()
        if modes:
            optimizer.eval()
        with torch.no_grad():
            loss = task.loss(model(data.data[0]), data.data[1]).item()
    assert loss == pytest.approx(row["train_loss"], rel=1e-5)
    assert loss < 0.99 * row["history"][0]["train_loss"]
    assert ("scheduler" in names) == (run.decay != 0)


def test_code_without_its_schedule_or_a_setting_trains_to_another_loss() -> None:
    """So that equality above is no accident of short runs."""
    losses = [row["train_loss"] for run, row in ROWS.items() if run.epochs == 3]
    assert len(set(losses)) == len(CASES)


@pytest.mark.parametrize("entry", SUMMARY.entries[:5], ids=[text for text, *_ in CASES[:5]])
def test_the_command_does_the_run(entry: Any, tmp_path: Path, capsys: Any) -> None:
    found = recipe(SUMMARY, entry)
    assert found is not None
    program, *arguments = shlex.split(found.command)
    assert program == "inna"
    run_command([*arguments, "--out", str(tmp_path)])
    run, row = entry.finals[1]
    repeated = find_result(tmp_path, run, pytest.fail)
    assert repeated is not None
    assert repeated["train_loss"] == row["train_loss"]
    assert "row:" in capsys.readouterr().out


def test_an_optimizer_of_a_single_file_is_shown_with_all_settings_and_modes() -> None:
    name = "own_optimizer_spaces:Switched"
    made = constructor(Run("d", "m", name, 0.1))
    assert made == "Switched(model.parameters(), lr=0.1, momentum=0.9)"
    assert has_modes(name)


def test_every_setting_is_in_the_constructor() -> None:
    sgd = constructor(Run("d", "m", "heavy-ball", 0.1))
    assert sgd == "SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0, weight_decay=0)"
    made = constructor(Run("d", "m", "adam", 1e-3))
    model = torch.nn.Linear(2, 1)
    optimizer = eval(made, {"Adam": torch.optim.Adam, "model": model})
    assert optimizer.defaults == torch.optim.Adam(model.parameters(), lr=1e-3).defaults
    assert "betas=(0.9, 0.999)" in made


@pytest.mark.parametrize(
    ("dataset", "model", "expected"),
    [
        ("mnist", "nin-w0.333", "--dataset mnist --model nin --width 0.333"),
        ("my_task.py:make", "network", "--task my_task.py:make"),
        ("mine.npz", "mlp", "--dataset mine.npz --model mlp"),
        ("mnist[:1000]", "nin", "--dataset 'mnist[:1000]' --model nin"),
        ("cifar10[:1000]", "nin-w0.333", "--dataset 'cifar10[:1000]' --model nin --width 0.333"),
        ("mine.npz[:10]", "mlp", "--dataset 'mine.npz[:10]' --model mlp"),
    ],
)
def test_commands_name_the_task(dataset: str, model: str, expected: str) -> None:
    written = command(Run(dataset, model, "sgd", 0.1, epochs=2, seed=3, precision="bfloat16", device="cuda"))
    assert written == (
        f"inna train sgd {expected} --lr 0.1 --epochs 2 --seed 3 --batch-size 32 --device cuda --precision bfloat16"
    )


def test_a_task_that_no_name_describes_has_no_command() -> None:
    assert command(Run("a Task object", "network", "sgd", 0.1)) == ""
    assert command(Run("digits", "network", "sgd", 0.1, source="v3:0123")) == ""


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [("momo", "step(loss=loss)"), ("lbfgs", "step(closure)"), ("inna", "step()"), ("adamw", "step()")],
)
def test_the_code_gives_a_step_what_it_needs(optimizer: str, step: str) -> None:
    one = contender(optimizer, [0.1], [0.0])
    study = dataclasses.replace(STUDY, contenders=(one,), reference=one.label, precision="float64")
    rows = {run: result(study, one, run) for run in state(study, one, {}).plan}
    summary = summarize(study, rows)
    found = recipe(summary, summary.entries[0])
    assert found is not None
    assert f"optimizer.{step};" in found.code
    assert found.code.splitlines()[0].endswith(", batches of 16, float64")


def test_without_a_choice_there_is_no_recipe() -> None:
    study = classification_study()
    one = study.contenders[0]
    rows = {run: result(study, one, run, diverges=True) for run in state(study, one, {}).plan}
    summary = summarize(study, rows)
    assert [recipe(summary, entry) for entry in summary.entries] == [None] * len(summary.entries)
