"""Untuned runs: planned, counted, done, and shown beside the tuned ones."""

from __future__ import annotations

import inspect
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import tiny_task
from inna.dynamics import INNA_DEFAULTS
from inna.experiments.comparison import contender, make_study
from inna.experiments.report.results_table import lines
from inna.experiments.report.sections import diverged_runs
from inna.experiments.report.write import print_table, write_report
from inna.experiments.rows.results import trained
from inna.experiments.rows.run import Run
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.remaining import outlook, remaining
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state
from inna.experiments.sweep.forecast import forecast, print_forecast
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import sweep

OPTIMIZERS = ("sgd", "heavy-ball", "adam:betas=(.8,.99)", "inna", "adamw:lr=.02")
OPTIONS: dict[str, Any] = {
    "epochs": 3,
    "tuning_epochs": 2,
    "seeds": (1, 2),
    "grid": (0.01, 0.1),
    "schedules": (0.5,),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[Run, Any], Path]:
    study = make_study(tiny_task.PATH, OPTIMIZERS, untuned=True, **OPTIONS)
    folder = tmp_path_factory.mktemp("untuned")
    rows, failures = sweep(study, folder, SweepOptions(jobs=1))
    assert failures == []
    return study, rows, folder


def test_the_defaults_are_those_of_the_constructors() -> None:
    study = make_study(tiny_task.PATH, OPTIMIZERS, untuned=True, **OPTIONS)
    library = {
        "SGD": inspect.signature(torch.optim.SGD).parameters["lr"].default,
        "heavy ball": inspect.signature(torch.optim.SGD).parameters["lr"].default,
        "Adam (betas=(0.8, 0.99))": inspect.signature(torch.optim.Adam).parameters["lr"].default,
        "INNA (0.5, 0.1)": INNA_DEFAULTS.lr,
        "AdamW (lr=0.02)": 0.02,
    }
    assert {each.label: each.untuned_lr for each in study.contenders} == library
    for each in study.contenders:
        for seed, run in zip(study.seeds, study.untuned_runs(each), strict=True):
            assert (run.lr, run.decay, run.seed, run.epochs) == (library[each.label], 0.0, seed, study.epochs)
            assert (run.alpha, run.beta, run.settings) == (each.alpha, each.beta, each.settings)


def test_what_a_search_tunes_is_the_librarys_untuned() -> None:
    searched = contender("inna", search=True, untuned=True)
    study = Study("d", "m", (searched,), searched.label, 4, 6, (1, 2), trials=8)
    run = study.untuned_runs(searched)[0]
    assert (run.arguments, run.lr) == ({}, INNA_DEFAULTS.lr)


def test_a_class_without_a_default_has_no_untuned_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import torch\nclass Bare(torch.optim.SGD):\n    def __init__(self, params, lr):\n"
    (tmp_path / "bare_optimizer.py").write_text(code + "        super().__init__(params, lr)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert contender("bare_optimizer:Bare", untuned=True).untuned_lr is None


def test_without_the_option_nothing_changes() -> None:
    study = make_study(tiny_task.PATH, OPTIMIZERS, **OPTIONS)
    assert [study.untuned_runs(each) for each in study.contenders] == [[]] * len(OPTIMIZERS)
    with_them = make_study(tiny_task.PATH, OPTIMIZERS, untuned=True, **OPTIONS)
    assert study.digest != with_them.digest
    assert with_them.differences(study) == ["optimizers"]


def test_the_description_survives_its_file(done: tuple[Study, dict[Run, Any], Path], tmp_path: Path) -> None:
    study, _, folder = done
    assert Study.load(folder) == study
    plain = make_study(tiny_task.PATH, OPTIMIZERS, **OPTIONS)
    plain.save(tmp_path)
    assert "untuned" not in (tmp_path / "study.json").read_text()
    assert Study.load(tmp_path) == plain


def test_their_runs_are_planned_counted_and_done(done: tuple[Study, dict[Run, Any], Path]) -> None:
    study, rows, _ = done
    ahead = outlook(study, {})
    tuning = sum(len(state(study, each, {}).plan) for each in study.contenders)
    assert (ahead.done, ahead.left) == (0, tuning + 4 * len(OPTIMIZERS))
    assert ahead.epochs_left == 2 * tuning + 3 * 4 * len(OPTIMIZERS)
    after = outlook(study, rows)
    assert (after.left, after.epochs_left, after.done) == (0, 0, len(rows))
    assert all(run in rows for each in study.contenders for run in study.untuned_runs(each))


def test_a_choice_that_is_the_librarys_own_counts_once() -> None:
    each = contender("adamw:lr=.02", schedules=[0.0], untuned=True)
    study = Study("d", "m", (each,), each.label, 4, 6, (1, 2))
    rows: dict[Run, Any] = {run: {"status": "done", "train_loss": 1.0} for run in state(study, each, {}).plan}
    assert state(study, each, rows).finals == state(study, each, rows).untuned
    left = remaining(study, each, rows)
    assert (left.finals, left.untuned, left.runs, left.epochs) == ((1, 2), (), 2, 12)


@pytest.mark.parametrize(("budget", "limit"), [("10runs", 1), ("56epochs", 1), ("90s", None)])
def test_a_budget_pays_for_them(budget: str, limit: int | None) -> None:
    # Two optimizers have 5 runs, or 28 epochs, each; 4 of the runs are final or untuned and take 6 epochs.
    both = tuple(contender(name, untuned=True) for name in ("sgd", "adam"))
    assert Study("d", "m", both, "SGD", 4, 6, (1, 2), budget=budget).tuning_limit == limit


def test_the_plan_names_them_with_their_cost() -> None:
    study = make_study(tiny_task.PATH, OPTIMIZERS, untuned=True, **OPTIONS)
    console = Console(file=io.StringIO(), width=200)
    foreseen = forecast(study, {}, None, jobs=1)
    print_forecast(foreseen, study, Path("rows"), 1, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("  untuned, 3 epochs: γ 0.001; constant; seeds 1 2") == 3
    assert "  untuned, 3 epochs: γ 0.1; constant; seeds 1 2" in shown
    assert foreseen.epochs == outlook(study, {}).epochs_left


def test_table_and_page_show_them_beside_the_tuned_ones(done: tuple[Study, dict[Run, Any], Path]) -> None:
    study, rows, folder = done
    summary = summarize(study, rows)
    for line, each in zip(lines(summary), study.contenders, strict=True):
        found = [rows[run] for run in study.untuned_runs(each)]
        geometric = spread([row["train_loss"] for row in found if trained(row)], "min", geometric=True)
        assert line.untuned is not None
        if geometric is None:
            assert line.untuned.mean == "did not train"
        else:
            assert line.untuned.value == pytest.approx(geometric.mean)
            assert line.untuned.ends.startswith("[did not train, ") == (geometric.n < len(found))
        # The cost of an optimizer is that of its tuning and final runs.
        assert line.cost.runs == str(len(state(study, each, rows).plan) + 2)
    assert any(math.isfinite(line.untuned.value) for line in lines(summary) if line.untuned)
    console = Console(file=io.StringIO(), width=300)
    print_table(summary, console)
    table = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"training loss,", table)
    assert re.search(r"\buntuned\b", table)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Training loss, untuned" in page
    assert "Untuned runs have the default learning rate" in page
    assert len(summary.rows()) == len(rows)


def test_a_diverged_untuned_run_is_listed_as_such(done: tuple[Study, dict[Run, Any], Path], tmp_path: Path) -> None:
    study, rows, _ = done
    lost = study.untuned_runs(study.contenders[0])[0]
    summary = summarize(study, rows | {lost: rows[lost] | {"status": "diverged", "train_loss": float("nan")}})
    line = lines(summary)[0]
    assert line.untuned is not None
    assert line.untuned.ends.startswith("[diverged, ") or line.untuned.mean == "diverged"
    assert summary.entries[0].diverged == ()
    assert "untuned, seed 1" in [run.role for group in diverged_runs(summary) for run in group.runs]
