"""The index of the examples, and those that no other test runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

import torch

from example_programs import load_example
from inna.experiments import Run, train
from inna.experiments.tasks.load import load_task
from scripts import ROOT

EXAMPLES = ROOT / "examples"
INDEX = (EXAMPLES / "README.md").read_text("utf-8")
LOG = (EXAMPLES.parent / "docs" / "log.md").read_text("utf-8")


def test_every_example_has_a_line_with_a_test_that_runs_it():
    lines = re.findall(r"^\| \[(\w+)\.py\]\((\w+)\.py\) \| (.+?) \| .*\| \[(.+?)\]\((.+?)\) \|$", INDEX, re.MULTILINE)
    assert sorted(line[0] for line in lines) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
    for stem, link, shown, name, path in lines:
        assert stem == link
        assert len(shown) <= 90
        test = EXAMPLES / path
        assert test.name == name
        assert re.search(rf"""["'/]{stem}(\.py)?\b""", test.read_text("utf-8")), f"{name} does not run {stem}"


def test_titles_of_the_log_have_date_subject_and_outcome():
    titles = re.findall(r"^## (.*)", LOG, re.MULTILINE)
    assert [title for title in titles if not re.fullmatch(r"\d{4}-\d\d-\d\d: \S.* \(.+\)", title)] == []
    dates = [title[:10] for title in titles]
    assert dates == sorted(dates, reverse=True)


def test_diabetes_trains(tmp_path):
    name = f"{EXAMPLES / 'diabetes.py'}:make_task"
    task, source = load_task(name)
    assert [len(part[0]) for part in (task.train, task.test)] == [331, 111]
    assert task.train[0].mean(0).abs().max() < 1e-5
    run = Run(name, "two-layers", "inna", lr=0.1, alpha=0.5, beta=0.1, epochs=3, source=source)
    losses = [epoch["train_loss"] for epoch in train(run, folder=tmp_path)["history"]]
    assert losses[-1] < 0.6 * losses[0]


def test_mnist_lenet_fits_images_of_mnist(monkeypatch):
    example = load_example("mnist_lenet")
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.rand(count, 1, 28, 28, generator=generator), torch.randint(10, (count,), generator=generator))
        for count in (40, 20)
    ]
    monkeypatch.setattr(example, "published", lambda name: data if name == "mnist" else None)
    task = example.make_task()
    task.check()
    assert sum(parameter.numel() for parameter in task.model().parameters()) == 61_706


def test_lr_free_digits_trains_without_a_learning_rate(capsys):
    example = load_example("lr_free_digits")
    # The floor is the least of the loss itself, at the logarithms of the smoothed label.
    shares = torch.full((10,), example.SMOOTHING / 10, dtype=torch.float64)
    shares[3] += 1 - example.SMOOTHING
    loss = torch.nn.functional.cross_entropy(shares.log(), torch.tensor(3), label_smoothing=example.SMOOTHING)
    assert example.floor(example.SMOOTHING, 10) == pytest.approx(loss.item(), rel=1e-12)
    example.main(3)
    lines = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    free, guarded, adam = (float(lines[name]) for name in ("INNAprop.lr_free", "INNA.lr_free", "Adam"))
    assert loss < max(free, guarded) < 0.8 * adam < adam < 2.3


def test_suggest_lr_digits_prints_a_line_for_each_damping(capsys):
    example = load_example("suggest_lr_digits")
    example.main(Path(__file__).parents[1] / "results" / "digits-eighths")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["alpha", "beta"]
    assert [tuple(map(float, line.split()[:2])) for line in lines] == [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0)]
    for line in lines:
        _, _, curvature, suggested, tuned, largest, ratio = map(float, line.split())
        assert ratio == pytest.approx(tuned / suggested, rel=0.02, abs=0.006)
        assert tuned <= largest
        assert curvature > 0
