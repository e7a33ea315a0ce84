"""``inna new-task``: each kind of file is compared at once, and none replaces another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from inna.cli import run
from inna.experiments import load_rows
from inna.experiments.tasks.load import load_task

KINDS = ("classification", "regression", "text")
FEW = [
    "--optimizer",
    "sgd",
    "--grid",
    ".1",
    "--schedules",
    "0",
    "--epochs",
    "2",
    "--tuning-epochs",
    "1",
    "--seeds",
    "1",
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_each_kind_is_compared_at_once(kind, capsys):
    assert run(["new-task", "my_task.py", "--kind", kind]) == 0
    command = capsys.readouterr().out.splitlines()[-1].split()
    assert command == ["inna", "compare", "--task", "my_task.py"]
    assert run([*command[1:], *FEW]) == 0
    assert "report: runs/my_task-make_task/report.html" in capsys.readouterr().out
    rows = load_rows("runs/my_task-make_task")
    (final,) = rows[rows.epochs == 2].history
    losses = [epoch["train_loss"] for epoch in final]
    assert losses[-1] < 0.95 * losses[0]  # there is something to learn


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_says_what_to_replace_and_checks_itself(kind):
    assert run(["new-task", "folder/own file.py", "--kind", kind]) == 0
    text = Path("folder/own file.py").read_text("utf-8")
    assert text.count("# Replace: ") == 3
    assert "inna compare --task 'folder/own file.py'" in text
    assert "FILE" not in text
    assert max(map(len, text.splitlines())) <= 88
    done = subprocess.run([sys.executable, "folder/own file.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "The parts fit together.\n"
    for tool in (["check", "--select", "E,F,B,UP"], ["format", "--check"]):
        pytest.importorskip("ruff", reason="ruff is not installed")
        subprocess.run([sys.executable, "-m", "ruff", *tool, "--isolated", "folder/own file.py"], check=True)


def test_classification_is_the_default():
    assert run(["new-task", "mine.py"]) == 0
    assert run(["new-task", "other.py", "--kind", "classification"]) == 0
    texts = [Path(name).read_text("utf-8").replace(name, "") for name in ("mine.py", "other.py")]
    assert texts[0] == texts[1]
    task, _ = load_task("mine.py:make_task")
    assert list(task.metrics) == ["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["there.py"], "there.py exists; give another name, or remove it first"),
        (["task.txt"], "the file's name must end in .py, got 'task.txt'"),
        (["there.py/task.py"], "there.py"),
        (["task.py", "--kind", "regresion"], 'Did you mean "regression"?'),
    ],
)
def test_what_is_refused_writes_nothing(arguments, words, capsys):
    Path("there.py").write_text("kept", encoding="utf-8")
    assert run(["new-task", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(re.escape(words), shown.err), shown.err
    assert [path.name for path in Path().rglob("*")] == ["there.py"]
    assert Path("there.py").read_text(encoding="utf-8") == "kept"
