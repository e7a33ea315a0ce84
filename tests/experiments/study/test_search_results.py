"""The search against exhaustive grids of eighths of a decade, from the committed rows."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from inna.experiments.formatting import short
from inna.experiments.rows.results import epochs_added, final_loss
from inna.experiments.rows.row_files import read_rows
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/comparisons.md").read_text(encoding="utf-8")


def read(name):
    """Label -> the tuning of each optimizer of a committed study, and its rows."""
    folder = ROOT / "results" / name
    study, rows = Study.load(folder), read_rows(folder)
    return {contender.label: state(study, contender, rows) for contender in study.contenders}, rows


def geometric_mean(values):
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def loss(tuning, rows):
    assert len(tuning.finals) == 5
    return geometric_mean([final_loss(rows[run]) for run in tuning.finals])


def epochs(tunings):
    return sum(sum(epochs_added(tuning.plan)) for tuning in tunings.values())


def test_the_search_finds_losses_close_to_those_of_an_exhaustive_grid_at_the_cost_of_the_default():
    (grid, grid_rows), (found, rows) = read("digits-eighths"), read("digits")
    ratios = {label: loss(found[label], rows) / loss(grid[label], grid_rows) for label in grid}
    assert len(ratios) == 8
    assert max(ratios.values()) <= 1.5
    assert geometric_mean(ratios.values()) <= 1.2
    default, _ = read("digits-grid")
    assert epochs(found) <= epochs(default)
    # The page shows these numbers.
    assert f"The geometric mean of the ratios is {geometric_mean(ratios.values()):.2f}" in PAGE
    assert f"{epochs(found):,} epochs" in PAGE
    assert f"{epochs(default):,}" in PAGE
    for label, ratio in ratios.items():
        assert any(line.startswith(f"| {label} |") and f"| {ratio:.2f} |" in line for line in PAGE.splitlines())


def cells(tuning, rows):
    """The learning rate and schedule chosen, and the loss over the first three seeds, as the page shows them."""
    choice = tuning.choice
    losses = [final_loss(rows[run]) for run in tuning.finals if run.seed <= 3]
    value = short(geometric_mean(losses)) if all(map(math.isfinite, losses)) else "diverged"
    return f"{choice.lr:g}{', decay' if choice.decay else ''} | {value}"


def test_the_page_shows_what_the_search_changed():
    tables = [read(f"{name}{kind}") for name in ("digits", "diabetes") for kind in ("-grid", "")]
    for label in tables[0][0]:
        line = " | ".join(cells(tunings[label], rows) for tunings, rows in tables)
        assert f"| {label} | {line} |" in PAGE


def lines_of_mnist():
    tunings, rows = read("mnist-10000-eighths")
    losses = {label: loss(tuning, rows) for label, tuning in tunings.items()}
    return [
        f"| {each} | {tunings[each].choice.lr:g} | {short(losses[each])} |" for each in sorted(losses, key=losses.get)
    ]


def test_the_page_orders_the_optimizers_on_mnist_by_the_exhaustive_grid():
    lines = lines_of_mnist()
    assert len(lines) == 8
    assert "\n".join(lines) in PAGE
    assert lines[0].startswith("| INNA (0.5, 0.5) |")


@pytest.mark.parametrize("name", ["digits-eighths", "diabetes-eighths", "mnist-10000-eighths"])
def test_the_grids_are_exhaustive(name):
    folder = ROOT / "results" / name
    study, rows = Study.load(folder), read_rows(folder)
    for contender in study.contenders:
        places = [8 * math.log10(lr) for lr in contender.grid]
        steps = [after - before for before, after in itertools.pairwise(places)]
        assert steps == pytest.approx([1] * len(steps), abs=0.04)
        tuning = state(study, contender, rows)
        assert all(run in rows for run in tuning.runs)
        assert len(tuning.plan) >= len(contender.qs) * len(contender.grid)
        assert tuning.choice.edge == 0
