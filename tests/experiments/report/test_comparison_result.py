"""What `compare` returns, from a network and data alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny_task
from inna.experiments import Comparison, Run, compare
from inna.experiments.report.results_table import records
from inna.experiments.statistics.summary import TRAIN_LOSS
from inna.experiments.study.study import Contender, Study
from inna.experiments.tasks.task import Task

SHORT = {"epochs": 2, "tuning_epochs": 1, "seeds": (1, 2), "grid": (0.01, 0.1), "schedules": (0,)}
PAGE = Path(__file__).parents[3] / "docs" / "own-task.md"


@pytest.fixture(scope="module")
def data():
    return tiny_task.regression_data(60, 0), tiny_task.regression_data(30, 1)


@pytest.fixture(scope="module")
def result(data):
    metrics = {"worst_error": (tiny_task.worst_error, "min")}
    loss = nn.functional.mse_loss
    optimizers = ["sgd", "adam", "inna"]
    return compare(tiny_task.network, *data, loss, metrics=metrics, name="tiny", optimizers=optimizers, **SHORT)


def test_it_is_the_comparison_of_the_same_task(data, result):
    metrics = {"worst_error": (tiny_task.worst_error, "min")}
    task = Task("tiny", tiny_task.network, *data, nn.functional.mse_loss, metrics)
    same = compare(task, optimizers=["sgd", "adam", "inna"], **SHORT)
    columns = ["optimizer", "train_loss", "test_worst_error", "lr"]
    assert same.table[columns].equals(result.table[columns])
    assert set(same.rows.source) == set(result.rows.source)


def test_the_table_is_computed_from_the_rows(result):
    finals = result.rows[result.rows.epochs == 2]
    assert len(finals) == 6
    for row in result.table.itertuples():
        name = {"SGD": "sgd", "Adam": "adam"}.get(row.optimizer, "inna")
        losses = finals[finals.optimizer == name].train_loss
        assert row.train_loss == pytest.approx(losses.prod() ** 0.5)
        assert (row.train_loss_worst, row.train_loss_best) == (losses.max(), losses.min())
    assert result.table.train_loss.is_monotonic_increasing
    assert result.best == result.table.optimizer[0]
    reference = result.table.set_index("optimizer").loc["SGD"]
    for row in result.table.itertuples():
        if row.optimizer != "SGD":
            assert row.train_loss_ratio == pytest.approx(row.train_loss / reference.train_loss)
            assert 0 < row.train_loss_p <= 1
    assert reference.isna().train_loss_ratio


def test_it_prints_as_the_command_does_and_as_html_in_a_notebook(result):
    shown = repr(result)
    assert f"{result.best} has the lowest training loss." in shown
    assert result.verdict.splitlines()[0] in " ".join(shown.split())
    html = result._repr_html_()
    assert html.index(f"<td>{result.best}</td>") == min(
        html.index(f"<td>{label}</td>") for label in result.table.optimizer
    )
    assert html.count("<tr>") == 4
    assert re.fullmatch(r"<table>.*</table>(<p>[^<>]*</p>)+", html)


def test_code_makes_the_best_optimizer(result):
    space = {"model": nn.Linear(2, 1)}
    exec(result.code, space)
    chosen = result.table.lr[0]
    assert space["optimizer"].param_groups[0]["lr"] == chosen


def test_curves_and_page(result, tmp_path):
    drawn = result.plot().to_dict()
    (points,) = [rows for rows in drawn["datasets"].values() if rows and "worst" in rows[0]]
    assert {row["contender"] for row in points} == set(result.table.optimizer)
    assert [row["epoch"] for row in points if row["contender"] == "SGD"] == [0, 1, 2]
    assert "worst error" in str(result.plot("test_worst_error").to_dict())
    assert "test loss" in str(result.plot("test_loss").to_dict())
    with pytest.raises(ValueError, match=r"got 'test_worst_eror'\. Did you mean 'test_worst_error'\?"):
        result.plot("test_worst_eror")
    assert result.report(tmp_path) == tmp_path / "report.html"
    assert result.report(tmp_path / "deep" / "page.html").read_text("utf-8").startswith("<!doctype html>")


def test_without_finals_there_is_no_best(tmp_path):
    study = Study("d", "m", (Contender("SGD", "sgd", grid=(0.1,), qs=(0.0,)),), "SGD", 1, 1, (1,), batch_size=4)
    tuning = Run("d", "m", "sgd", 0.1, epochs=1, seed=0, batch_size=4)
    from inna.experiments.statistics.summary import summarize

    (record,) = records(summarize(study, {tuning: {"status": "done", "train_loss": 0.5, "history": []}}))
    assert record["train_loss"] is None
    assert record["seeds_missing"] == 1
    assert record["lr"] == 0.1
    assert TRAIN_LOSS.name in record


def test_parts_that_do_not_fit_are_refused(data):
    with pytest.raises(TypeError, match="a function that makes the network needs test and loss, too"):
        compare(tiny_task.network, data[0])
    with pytest.raises(TypeError, match=r"the task 'digits' has its own data and loss; do not give train"):
        compare("digits", ["sgd"])
    with pytest.raises(TypeError, match="a Task has its own data and loss; do not give loss"):
        compare(tiny_task.make_task(), loss=nn.functional.mse_loss)
    with pytest.raises(TypeError, match=r"Task\.model must be a function that makes the network, got a network"):
        compare(nn.Linear(3, 1), *data, nn.functional.mse_loss)


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text("utf-8").partition("## In Python")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    torch.manual_seed(0)
    space = {"__name__": "example"}
    short = "seeds=[1], epochs=1, tuning_epochs=1, grid=[0.1], schedules=[0]"
    assert "epochs=20" in code[1]
    exec(code[1].replace("epochs=20", short), space)
    assert isinstance(space["result"], Comparison)
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizers": "sgd"}, r"optimizers must be a list of specifications such as \['sgd'\]"),
        ({"optimizers": ["sgd"], "tuning": "trials"}, "tuning must be grid or halving"),
        ({"optimizers": ["sgd"], "trials": 0}, "trials must be a whole number >= 1"),
        ({"optimizers": ["sgd"], "trials": 5, "grid": [0.1]}, "a grid has none"),
        ({"optimizers": ["sgd"], "tuning": "halving", "grid": [0.1]}, "a search has no grid"),
    ],
)
def test_options_are_checked_as_those_of_the_command(options, words):
    with pytest.raises(ValueError, match=words):
        compare(tiny_task.PATH, **options)
