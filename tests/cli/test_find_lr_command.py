"""``inna find-lr``: it prints and writes what `inna.torch.find_lr` finds on the task."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import tiny_task
from inna.cli import run
from inna.experiments.learning_rate import prepare
from inna.experiments.rows.run import Run
from inna.experiments.tasks.load import task_of
from inna.experiments.training.train import train
from inna.torch import INNA, find_lr

FEW = ["find-lr", "--task", tiny_task.PATH, "--grid", "0.01,0.1,1", "--steps", "60"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def test_the_table_ends_with_the_choice_and_the_command_that_trains_with_it(capsys):
    assert run(FEW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[0].split() == ["learning", "rate", "steps", "training", "loss", "projected", "loss"]
    (chosen,) = [line.split()[0] for line in lines if line.rstrip().endswith("<- chosen")]
    assert re.fullmatch(rf"learning rate: {re.escape(chosen)}, after \d\d steps", lines[-2])
    assert lines[-1] == f"train with it: inna train inna --task {tiny_task.PATH} --lr {chosen}"
    assert run([*lines[-1].removeprefix("train with it: inna ").split(), "--epochs", "1", "--out", "there"]) == 0


def test_the_command_names_the_network_that_raced(capsys):
    numbers = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = numbers.normal(size=(32, 1, 20, 20)).astype(np.float32) + 4 * labels[:, None, None, None]
    np.savez("images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    names = ["--dataset", "images.npz", "--model", "nin", "--width", "0.01", "--batch-size", "8"]
    assert run(["find-lr", "--optimizer", "adam", *names, "--grid", "0.0001,0.001,0.01", "--steps", "60"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"train with it: inna train adam {' '.join(names)} --lr ")


def test_json_is_the_result_of_the_function_on_the_weights_of_a_run(capsys):
    assert run([*FEW, "--optimizer", "inna:beta=.5", "--json", "--seed", "3"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    race = prepare("inna:beta=.5", tiny_task.PATH, seed=3)
    options = {"grid": [0.01, 0.1, 1], "steps": 60, "seed": 3}
    found = find_lr(lambda params, lr: INNA(params, lr, beta=0.5), race.model, race.loss, race.batches, **options)
    assert document["lr"] == found.lr
    assert document["chance"] == found.chance
    assert [row["loss"] for row in document["table"]] == found.table.loss.tolist()
    assert document["steps"] == sum(row["steps"] for row in document["table"]) <= 60
    assert {"dataset": tiny_task.PATH, "optimizer": "inna:beta=.5"}.items() <= document.items()


def test_the_network_has_the_weights_of_the_run_with_that_seed(tmp_path):
    race = prepare("sgd", tiny_task.PATH, seed=2)
    first = {}

    def keep(entry):
        first.setdefault("loss", entry["train_loss"])

    train(Run(**{**vars(race.run), "lr": 1e-9, "epochs": 1}), folder=tmp_path, on_epoch=keep)
    inputs, targets = task_of(race.run).train
    with torch.no_grad():
        loss = race.loss(race.model.eval()(inputs), targets)
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_a_file_and_opens(ending, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert run([*FEW, "--plot", f"deep/lr.{ending}", "--show"]) == 0
    content = (tmp_path / "deep" / f"lr.{ending}").read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<svg")
    assert opened == [(tmp_path / "deep" / f"lr.{ending}").as_uri()]


def test_where_none_trains_the_status_is_1(capsys):
    arguments = ["find-lr", "--task", tiny_task.PATH, "--grid", "1e-9,1e-8", "--steps", "24"]
    assert run(arguments) == 1
    shown = capsys.readouterr()
    assert "no learning rate of the grid gets the loss below chance" in shown.err
    assert "chosen" not in shown.out
    assert run([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["lr"] is None
    assert "below chance" in document["warnings"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizer", "sgd:lr=.1"], "the learning rate is to be found; do not give lr"),
        (["--optimizer", "inna-lr-free"], "inna-lr-free has no learning rate to find"),
        (["--optimizer", "adan"], "Did you mean"),
        (["--steps", "10"], "steps must be a whole number >= 112, got 10"),
        (["--grid", ".1"], "grid must have at least two learning rates, got 0.1"),
        (["--grid", ".1,-1"], "grid must be a finite number > 0, got -1.0"),
        (["--plot", "lr.pdf"], "--plot must end in .png or .svg, got 'lr.pdf'"),
        (["--show"], "--show needs --plot FILE"),
        (["--batch-size", "0"], "batch_size must be a whole number >= 1, got 0"),
        (["--seed", "-1"], "seed must be a whole number >= 0, got -1"),
        (["--device", "abacus"], "device 'abacus'"),
    ],
)
def test_what_is_refused(arguments, words, capsys):
    assert run(["find-lr", "--task", tiny_task.PATH, *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(re.escape(words), shown.err), shown.err
