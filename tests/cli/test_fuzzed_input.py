"""Command lines, task files and attributes of tasks made of anything: a status, one line, never a traceback."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import tiny_task
from inna.cli import app, run
from inna.experiments import Run, Task, train
from inna.experiments.rows.row_files import row_path, write_row
from inna.experiments.study.budget import parse_budget
from inna.experiments.tasks.load import load_task
from inna.experiments.training.optimizers import build, parse

HOSTILE = [
    "",
    " ",
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "9" * 30,
    "True",
    "None",
    "\x00",
    "\n",
    "ä",
    "../..",
    "/",
    "a.py:b",
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
OPTIONS = ["--dataset", "--task", "--optimizer", "--epochs", "--tuning-epochs", "--seeds", "--tuning-seed", "--grid"]
OPTIONS += [
    "--schedules",
    "--budget",
    "--reference",
    "--batch-size",
    "--device",
    "--precision",
    "--jobs",
    "--lr",
    "--q",
]
OPTIONS += ["--seed", "--figures", "--help", "--version", "--bogus", "--", "-"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    """What passes all checks is taken as done: this is about the checks."""

    def stop(*arguments, **options):
        raise RuntimeError("the checks have passed")

    monkeypatch.setattr("inna.experiments.sweep.sweep.sweep", stop)
    monkeypatch.setattr("inna.experiments.training.train.train", stop)


def carry_out(arguments: list[str]) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = run(arguments)
    return status, out.getvalue(), errors.getvalue()


def check_answer(status: int, out: str, errors: str) -> None:
    assert status in (0, 1, 2)
    assert "Traceback" not in out + errors
    if status:
        assert errors.startswith("inna: ")
        assert errors.count("\n") == 1
        assert len(errors) < 2000


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(["compare", "train", "report"]),
    st.lists(st.one_of(st.sampled_from(OPTIONS), TEXTS), max_size=5),
)
def test_any_command_line_is_answered_in_one_line(command, arguments):
    check_answer(*carry_out([command, *arguments]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(OPTIONS[:17]), TEXTS)
def test_any_value_of_an_option_is_answered_in_one_line(option, value):
    command = "train" if option in ("--lr", "--q", "--seed") else "compare"
    check_answer(*carry_out([command, f"{option}={value}"]))


def test_the_options_are_there():
    assert {"compare", "train", "report"} <= set(app)


@settings(max_examples=300)
@given(
    st.sampled_from(["inna", "innaprop", "sgd", "adam", "lbfgs", "torch.optim:SGD", "os:system", ""]),
    st.lists(st.tuples(st.one_of(st.sampled_from(["alpha", "beta", "lr", "betas"]), TEXTS), TEXTS), max_size=3),
)
def test_any_specification_is_an_optimizer_or_an_error_of_one_line(name, settings_given):
    text = f"{name}:{','.join(f'{key}={value}' for key, value in settings_given)}" if settings_given else name
    try:
        spec = parse(text)
    except ValueError:
        return
    run = None
    with contextlib.suppress(ValueError):
        run = Run("d", "m", spec.name, 0.1, spec.alpha, spec.beta, settings=spec.settings)
    if run is not None:
        # What torch's own classes refuse they refuse in their own words; the command line shows them in one line.
        with contextlib.suppress(ValueError, TypeError, RuntimeError):
            build(run, nn.Linear(2, 1))


@given(TEXTS)
def test_any_budget_is_a_number_or_an_error(text):
    with contextlib.suppress(ValueError):
        amount, unit = parse_budget(text)
        assert 0 < amount < math.inf
        assert unit in ("seconds", "runs", "epochs")


LINES = [
    "import torch",
    "from torch import nn",
    "from inna.experiments import Task",
    "x = torch.ones(4, 2)",
    "raise RuntimeError('two\\nlines')",
    "1 / 0",
    "import sys; sys.exit(3)",
    "def make_task(:",
    "def make_task(): return Task('t', lambda: nn.Linear(2, 2), (x, x), (x, x), nn.functional.mse_loss)",
    "def make_task(): return Task('t', lambda: nn.Linear(3, 2), (x, x), (x, x), nn.functional.mse_loss)",
    "def make_task(): return Task('t', nn.Linear(2, 2), (x, x), (x, x), nn.functional.mse_loss)",
    "def make_task(): return Task('t', lambda: nn.Linear(2, 2), (x, x[:1]), (x, x), nn.functional.mse_loss)",
    "def make_task(): return make_task()",
    "def make_task(needed): return needed",
    "make_task = 3",
    "\x00",
    "é = '\udcff'",
]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LINES), max_size=7), st.booleans())
def test_any_task_file_is_a_task_or_an_error_of_one_line(tmp_path, lines, in_order):
    path = tmp_path / "task.py"
    chosen = sorted(lines, key=LINES.index) if in_order else lines
    path.write_bytes("\n".join(chosen).encode("utf-8", "surrogateescape"))
    for command in ("compare", "train"):
        check_answer(*carry_out([command, "--task", f"{path}:make_task"]))


ANYTHING = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.sampled_from([tiny_task.network, nn.Linear(1, 1), torch.ones(3), torch.ones(0), (torch.ones(3, 3),)]),
    st.tuples(st.sampled_from([torch.ones(3, 3), torch.ones(()), None]), st.sampled_from([torch.ones(3, 1), "x"])),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.tuples(st.just(max), st.text(max_size=3)))),
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["name", "model", "train", "test", "loss", "metrics", "model_name"]), ANYTHING))
def test_any_attributes_make_a_task_or_name_the_one_that_is_wrong(changes):
    data = tiny_task.regression_data(6, seed=0)
    values = {"name": "t", "model": tiny_task.network, "train": data, "test": data, "loss": nn.functional.mse_loss}
    message = "task "
    try:
        Task(**values | changes).check()
    except (ValueError, TypeError) as error:
        message = str(error)
    assert any(word in message for word in ("Task.", "task ", "metric"))
    assert "\n" not in message


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["lr", "alpha", "q", "batch_size", "epochs", "seed", "settings"]), ANYTHING))
def test_any_run_is_refused_or_has_a_row(tmp_path_factory, changes):
    try:
        run = Run(**{"dataset": "d", "model": "m", "optimizer": "sgd", "lr": 0.1} | changes)
    except (ValueError, TypeError):
        return
    folder = tmp_path_factory.mktemp("rows")
    assert write_row(folder, run, {"status": "done"}) == row_path(folder, run)


def test_names_of_tasks_stay_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    hostile = "../../" + "x" * 300 + "<script>"
    task = Task(hostile, tiny_task.network, *[tiny_task.regression_data(8, 0)] * 2, nn.functional.mse_loss)
    run = Run(hostile, hostile, "sgd", 0.1, epochs=1)
    train(run, task=task, folder=tmp_path / "rows")
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "rows"}
    with pytest.raises(ValueError, match="dataset must be one of"):
        load_task(hostile)
    assert all(Path(path).name.isascii() for path in (tmp_path / "rows").iterdir())
