"""The README's code runs as written, and its two SGD lines make the same iterates."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import inna.torch
from inna.experiments import load_rows
from inna.experiments.tasks.load import load_task

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_ten_lines_run():
    names: dict[str, object] = {}
    exec(BLOCKS[0], names)
    assert names["optimizer"].param_groups[0]["lr"] == 0


@pytest.mark.parametrize(
    ("optimizer", "loss"), [(None, 0.03), ("inna.torch.INNAprop.lr_free(model.parameters())", 0.003)]
)
def test_the_ten_lines_train_a_network_on_digits(optimizer, loss):
    """With the README's optimizer, its settings and its schedule, and with the one that it names below."""
    task = load_task("digits")[0]
    torch.manual_seed(0)
    model, (inputs, labels) = task.model(), task.train
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(20)])
    batches = [(inputs[rows], labels[rows]) for rows in order.split(32)]
    lines = [line for line in BLOCKS[0].splitlines() if not line.startswith(("model =", "batches ="))]
    code = "\n".join(lines).replace("mse_loss", "cross_entropy")
    if optimizer:
        code = code.replace("INNA(model.parameters(), lr=0.1, alpha=0.5, beta=0.1)", optimizer)
        assert optimizer in code
    exec(code, {"model": model, "batches": batches, "inna": inna})
    with torch.no_grad():
        assert torch.nn.functional.cross_entropy(model(inputs), labels) < loss


def test_the_two_lines_take_the_same_steps():
    from inna import INNA

    ends = []
    for line in BLOCKS[1].splitlines():
        theta = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        names = {"torch": torch, "INNA": INNA, "params": [theta]}
        exec(line, names)
        for _ in range(50):
            theta.grad = 3 * theta.detach() - 1
            names["optimizer"].step()
        ends.append(theta.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_it_is_one_screen_of_less_than_700_words():
    assert len(README.read_text(encoding="utf-8").split()) < 700


def test_the_files_it_links_to_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (README.parent / link).exists()]


def test_its_losses_without_tuning_are_those_of_the_rows():
    rows = load_rows(README.parent / "results" / "lr-free-digits")
    rows = rows[rows["seed"].between(1, 5) & (rows["epochs"] == 30)]
    settings = (
        ("innaprop-lr-free", 1.0, "linear", "ends on digits at a training loss of {:.1g}"),
        ("adam", 0.001, "power", "Adam ends at {:.2g} with its default"),
        ("adam", 0.0316, "linear", "at {:.1g} tuned"),
    )
    text = " ".join(README.read_text(encoding="utf-8").split())
    for optimizer, lr, schedule, sentence in settings:
        chosen = rows[(rows["optimizer"] == optimizer) & (rows["lr"] == lr) & (rows["schedule"] == schedule)]
        assert len(chosen) == 5
        assert sentence.format(np.exp(np.log(chosen["train_loss"]).mean())) in text


def test_its_verdict_has_the_places_of_the_benchmark():
    page = (README.parent / "docs" / "benchmark.md").read_text(encoding="utf-8")

    def place(optimizer, ranking):
        table = page.split(f"\n### {ranking}\n")[1].split("\n### ")[0]
        names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
        return names.index(optimizer) + 1, len(names)

    loss, steps = "final training loss", "steps to the target training loss"
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert place("INNAprop", f"Tuned: {loss}") == (3, 12)
    assert "INNAprop third of twelve by training loss" in text
    assert place("INNAprop", f"Tuned: {steps}") == (5, 12)
    assert "(fifth by steps)" in text
    assert place("INNA", f"Tuned: {loss}") == place("INNA", f"Tuned: {steps}") == (8, 12)
    assert "INNA eighth" in text
    assert place("INNA lr-free", f"Untuned: {loss}") == (3, 17)
    assert "`INNA.lr_free` is third of seventeen" in text
