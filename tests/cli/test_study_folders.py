"""A study has its folder: another one on the same data does not replace it, and the same one is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_task
from inna.cli import run
from inna.experiments.study.study import Study

FEW = ["--tuning-epochs", "1", "--seeds", "1", "--grid", "0.1", "--schedules", "0", "--jobs", "1", "--optimizer", "sgd"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inna.experiments.report.write.write_report", lambda folder: folder / "report.html")


def compare(capsys, *options, task=tiny_task.PATH):
    """What the command prints."""
    assert run(["compare", "--task", task, *FEW, *options]) == 0
    return capsys.readouterr().out


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_two_studies_of_one_task_have_two_folders_and_are_found_again(capsys):
    assert "results in runs/tiny_task-make_task\n" in compare(capsys, "--epochs", "1")
    first = contents("runs/tiny_task-make_task")
    shown = compare(capsys, "--epochs", "2")
    (own,) = Path("runs").glob("*-make_task-*")
    assert (
        f"runs/tiny_task-make_task contains another study (other epochs); the results are in {own}. "
        "To share runs: --out runs/tiny_task-make_task\n" in shown
    )
    assert own.name == f"tiny_task-make_task-{Study.load(own).digest}"
    second = contents(own)
    assert f"2 runs done, 0 to do, results in {own}\n" in compare(capsys, "--epochs", "2")
    assert "2 runs done, 0 to do, results in runs/tiny_task-make_task\n" in compare(capsys, "--epochs", "1")
    assert len(list(Path("runs").iterdir())) == 2
    for folder, before in (("runs/tiny_task-make_task", first), (own, second)):
        after = contents(folder)
        assert {name: content for name, content in after.items() if name != "study.json"} == {
            name: content for name, content in before.items() if name != "study.json"
        }


def test_in_a_folder_that_was_named_another_study_is_kept_and_said(capsys):
    compare(capsys, "--epochs", "1", "--out", "here")
    before = Study.load(Path("here"))
    shown = compare(capsys, "--epochs", "2", "--out", "here")
    kept = Path("here") / f"study-{before.digest}.json"
    assert (
        f"here contained another study (other epochs); its rows stay, its description is kept as {kept.name}\n" in shown
    )
    assert "1 run done, 1 to do" in shown  # the tuning run is shared
    kept.rename("here/study.json")
    assert Study.load(Path("here")) == before


def test_a_study_that_contains_the_one_before_says_so(capsys):
    compare(capsys, "--epochs", "1", "--out", "here")
    shown = compare(capsys, "--epochs", "1", "--optimizer", "adam", "--seeds", "2", "--out", "here")
    assert "here contained another study (other optimizers and seeds), which is part of this one\n" in shown
    assert "2 runs done" in shown
    assert len(list(Path("here").glob("study*.json"))) == 1
    assert "contained" not in compare(capsys, "--epochs", "1", "--optimizer", "adam", "--seeds", "2", "--out", "here")


def test_a_damaged_description_is_left_alone_or_written_again(capsys):
    compare(capsys, "--epochs", "1")
    description = Path("runs/tiny_task-make_task/study.json")
    description.write_text("{}", encoding="utf-8")
    shown = compare(capsys, "--epochs", "1")
    assert f"{description}: not JSON with a checksum" in shown
    (own,) = Path("runs").glob("*-make_task-*")
    assert f"results in {own}\n" in shown
    assert description.read_text(encoding="utf-8") == "{}"
    shown = compare(capsys, "--epochs", "1", "--out", str(description.parent))
    assert "it is written again\n" in shown
    assert Study.load(description.parent) == Study.load(own)


def test_tasks_of_two_modules_have_two_folders(capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "pkgfolders"
    package.mkdir()
    for name in ("__init__", "a", "b"):
        (package / f"{name}.py").write_text("from tiny_task import make_task as make\n", encoding="utf-8")
    for name in ("a", "b"):
        folder = f"runs/pkgfolders.{name}-make"
        assert f"results in {folder}\n" in compare(capsys, "--epochs", "1", task=f"pkgfolders.{name}:make")
    assert {path.name for path in Path("runs").iterdir()} == {"pkgfolders.a-make", "pkgfolders.b-make"}


@pytest.mark.parametrize(
    ("optimizer", "dry", "words"),
    [
        ("inna:differentiable=true", ["--dry-run"], "inna: INNA (differentiable=True): a leaf Variable"),
        ("sparseadam", ["--dry-run"], "inna: SparseAdam: SparseAdam does not support dense gradients"),
        ("inna:kahan=3", [], "inna: INNA (kahan=3): kahan must be True, False or None, got 3"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(capsys, tmp_path, optimizer, dry, words):
    arguments = ["--dataset", "digits[:100]", "--optimizer", "sgd", "--optimizer", optimizer, "--out", str(tmp_path)]
    assert run(["compare", *dry, *arguments]) != 0
    assert words in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.glob("*.row.json")) == []


def test_a_dry_run_lists_the_runs_and_writes_nothing(capsys, tmp_path, monkeypatch):
    arguments = ["--optimizer", "inna", "--optimizer", "sgd:lr=.1", "--grid", "0.1", "--schedules", "0"]
    arguments += ["--epochs", "2", "--tuning-epochs", "1", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert run(["compare", "--dry-run", *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "0 runs done, 4 to do, 6 epochs. Estimate, from a few iterations of each optimizer here:" in shown
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("INNA_DATA", str(tmp_path / "nothing"))
    assert run(["compare", "--dry-run", "--dataset", "mnist"]) == 0
    assert "mnist is not here. Without --dry-run it is downloaded (12 MB)." in capsys.readouterr().out


def test_show_opens_the_page_that_was_written(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    arguments = [
        "--optimizer",
        "sgd:lr=.1",
        "--schedules",
        "0",
        "--epochs",
        "1",
        "--tuning-epochs",
        "1",
        "--seeds",
        "1",
    ]
    assert run(["compare", *arguments, "--out", str(tmp_path), "--show"]) == 0
    assert opened == [(tmp_path / "report.html").as_uri()]
