"""``inna reproduce``: the optimizers of each figure, shared runs, scales, and dry runs."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from inna.cli import run
from inna.experiments.rows.row_files import read_rows
from inna.experiments.rows.run import Run
from inna.experiments.study.study import Choice, Study
from inna.experiments.study.tuning import state
from inna.experiments.sweep.forecast import forecast, print_forecast
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.load import load_task
from inna.experiments.training.loop import Pace
from inna.experiments.training.train import pace
from inna.paper.descents import descend, read_descents
from inna.paper.protocol import (
    FIGURES,
    QUICK,
    SCALES,
    Scale,
    contenders,
    initial_speed_of,
    protocol_study,
    scale_of,
    united,
)
from inna.paper.runs import described, study_of

INNAS = ["INNA (0.1, 0.1)", "INNA (0.5, 0.1)", "INNA (0.5, 0.5)", "INNA (0.5, 1)"]
DECAYS = ["INNA (0.5, 0.1), q = 1/4", "INNA (0.5, 0.1), q = 1/8", "INNA (0.5, 0.1), q = 1/16"]


@pytest.fixture
def tiny_scale(monkeypatch):
    """One epoch on the first 64 digits."""
    monkeypatch.setitem(QUICK, "small-cnn", Scale(epochs=1, tuning_epochs=1, seeds=(1,), images=64))


def labels(*figures):
    return [contender.label for contender in contenders(figures)]


def test_each_figure_has_its_optimizers():
    assert labels("fig1") == []
    assert labels("fig2") == INNAS
    assert labels("fig3") == [*INNAS, "SGD", "AdaGrad", "Adam", "heavy ball", "AdamW", "INNAprop"]
    assert labels("fig4") == ["INNA (0.5, 0.1)", "Adam", *DECAYS]
    assert labels(*FIGURES) == [*labels("fig3"), *DECAYS]
    for contender in contenders():
        inna = contender.optimizer == "inna"
        assert contender.settings == ((("initial_speed", 1.0),) if inna else ())
        decaying = inna or contender.label in ("SGD", "heavy ball")
        assert contender.qs[0] > 0 if decaying else contender.qs == (0.0,)


def test_the_paper_s_sizes():
    assert SCALES["paper"] == (200, 15, (1, 2, 3, 4, 5), None)
    study = protocol_study("cifar10", "nin", "paper")
    assert study.batch_size == 32
    assert len(study.final_runs(_choice(study, 0))) == 5
    # networks_for names no others: those of the catalogue, nin for large images, and mlp for any samples.
    assert {*QUICK} == {model for described in CATALOGUE.values() for model in described.networks} | {"mlp"}
    for model in QUICK:
        assert scale_of("medium", model) == SCALES["medium"]
    with pytest.raises(ValueError, match="scale must be quick"):
        scale_of("huge", "nin")


def test_runs_of_the_medium_scale_keep_their_names():
    # Rows of long sweeps are found by these keys; what decides a run of this scale must not change.
    study = protocol_study("mnist", "lenet5", "medium")
    runs = [study.tuning_run(contender, contender.grid[2], contender.qs[0]) for contender in study.contenders]
    assert [runs[0].key, runs[4].key, runs[6].key, runs[-1].key] == KEYS
    assert study.final_runs(_choice(study, 1))[0].epochs == 20


KEYS = ["ef01c1890b1a5128", "681717b2d8c63acc", "15104b6d893e3035", "97cff8a2761e1833"]


def test_the_figures_share_their_runs():
    both = [protocol_study("digits", "small-cnn", "quick", figures=[figure]) for figure in ("fig2", "fig4")]
    ours = [{study.tuning_run(c, c.grid[0], c.qs[0]) for c in study.contenders} for study in both]
    assert len(ours[0] & ours[1]) == 1
    whole = united(*both)
    assert [contender.label for contender in whole.contenders] == [*INNAS, "Adam", *DECAYS]
    assert whole.reference == "INNA (0.5, 0.1)"
    assert united(whole, protocol_study("digits", "small-cnn", "quick")).reference == "SGD"
    other = protocol_study("digits", "small-cnn", "medium", figures=["fig2"])
    assert united(both[0], other) == both[0]


def test_a_quick_study_names_the_number_of_images():
    study = protocol_study("cifar10", "nin", "quick")
    assert study.dataset == f"cifar10[:{QUICK['nin'].images}]"
    task, _ = load_task("digits[:100]")
    assert (len(task.train[0]), len(task.test[0])) == (100, 360 * 100 // 1437)
    whole, _ = load_task("digits")
    assert task.train[0].equal(whole.train[0][:100])
    for wrong in ("digits[:0]", "digits[:1438]"):
        with pytest.raises(ValueError, match="digits has 1437 training images"):
            load_task(wrong)


def test_a_forecast_counts_remaining_runs():
    study = protocol_study("digits", "small-cnn", "medium", figures=["fig2"])
    task, _ = load_task("digits")
    asked = []

    def clock(run: Run, task):
        asked.append(run)
        return Pace(epoch=2.0, evaluation=0.5)

    foreseen = forecast(study, {}, task, 2, clock)
    assert (foreseen.done, foreseen.runs, foreseen.epochs) == (0, 4 * (5 + 3), 4 * (5 * 3 + 3 * 20))
    assert foreseen.seconds == (foreseen.epochs * 2.0 + foreseen.runs * 0.5) / 2
    assert [run.lr for run in asked] == [0.1] * 4
    # With the first contender's tuning done and the second of its seeds, the first and the third are left of it.
    first = study.contenders[0]
    rows = {study.tuning_run(first, lr, 0.5): {"status": "done", "train_loss": abs(lr - 0.1)} for lr in first.grid}
    rows[study.run(first, 0.1, 0.5, seed=2, epochs=20)] = {"status": "done", "train_loss": 0.0}
    foreseen = forecast(study, rows, task, 1, clock)
    assert (foreseen.done, foreseen.runs) == (6, 3 * 8 + 2)
    console = Console(file=io.StringIO(), width=100)
    print_forecast(foreseen, study, Path("rows"), 1, console)
    first_lines = console.file.getvalue().splitlines()[:2]
    assert first_lines == ["INNA (0.1, 0.1), about 2 s per epoch", "  final, 20 epochs: seeds 1 3"]


def test_the_pace_is_measured_in_real_iterations():
    study = protocol_study("digits", "small-cnn", "medium", figures=["fig2"])
    task, _ = load_task("digits")
    measured = pace(study.tuning_run(study.contenders[0], 0.1, 0.5), task, seconds=0.01)
    assert 0 < measured.evaluation < measured.epoch


@pytest.mark.usefixtures("tiny_scale")
def test_reproduce_runs_missing_runs_and_keeps_other_figures(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--device", "cpu", "--jobs", "1"]
    assert run(["reproduce", "fig4", "--dry-run", *arguments]) == 0
    listed = capsys.readouterr().out
    for label in labels("fig4"):
        assert label in listed
    assert "30 to do" in " ".join(listed.split())
    assert "Estimate, from a few iterations" in listed
    assert not list(tmp_path.iterdir())

    assert run(["reproduce", "fig4", *arguments]) == 0
    folder = tmp_path / "runs" / "reproduce-digits-small-cnn-quick"
    four = read_rows(folder)
    assert {row.dataset for row in four} == {"digits[:64]"}
    assert (folder / "report.html").is_file()
    assert (folder / "reproduction.html").is_file()
    # The pages take seconds, and the runs are what follows.
    monkeypatch.setattr("inna.experiments.report.write.write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("inna.paper.page.write_reproduction", lambda folder: folder / "reproduction.html")
    assert run(["reproduce", "fig2", *arguments]) == 0
    rows = read_rows(folder)
    assert four.keys() < rows.keys()
    study = Study.load(folder)
    assert [contender.label for contender in study.contenders] == [*INNAS, "Adam", *DECAYS]
    capsys.readouterr()
    assert run(["reproduce", "fig4", "--dry-run", *arguments]) == 0
    assert " 0 to do" in " ".join(capsys.readouterr().out.split())

    # The rows of the grid count for its refinement; the choices may change, and their final runs with them.
    assert run(["reproduce", "fig4", "--refine", "quarters", *arguments]) == 0
    refined = Study.load(folder)
    assert refined.refinement == 4
    after = read_rows(folder)
    assert rows.keys() < after.keys()
    for contender in refined.contenders:
        tuning = state(refined, contender, after)
        assert {run.lr for run in tuning.plan} > set(contender.grid)
        assert set(tuning.runs) <= after.keys()


@pytest.mark.usefixtures("tiny_scale")
def test_another_initial_speed_has_a_folder_and_a_page_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "fig4", "--device", "cpu", "--jobs", "1"]
    assert run([*arguments, "--initial-speed", "0.1"]) == 0
    folder = tmp_path / "runs" / "reproduce-digits-small-cnn-quick-speed0.1"
    study = Study.load(folder)
    assert {each.settings for each in study.contenders if each.optimizer == "inna"} == {(("initial_speed", 0.1),)}
    page = (folder / "reproduction.html").read_text(encoding="utf-8")
    assert "INNA’s initial speed 0.1 (the paper: 1)" in page


def test_mixed_initial_speeds_are_not_the_protocol():
    study = protocol_study("digits", "small-cnn", "quick", figures=["fig4"])
    other = protocol_study("digits", "small-cnn", "quick", figures=["fig4"], initial_speed=0.1)
    mixed = dataclasses.replace(study, contenders=(*study.contenders[:1], *other.contenders[1:]))
    assert [initial_speed_of(each) for each in (study, other, mixed)] == [1.0, 0.1, None]
    assert united(other, other) == other
    still = protocol_study("digits", "small-cnn", "quick", figures=["fig4"], initial_speed=0.0)
    assert united(still, still) == still


@pytest.mark.parametrize("dataset", [name for name, described in CATALOGUE.items() if described.files])
def test_a_dry_run_plans_without_the_data(capsys, tmp_path, monkeypatch, dataset):
    def download(*arguments):
        raise AssertionError("a dry run downloads nothing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("inna.experiments.tasks.downloads.fetch", download)
    assert run(["reproduce", "all", "--dataset", dataset, "--scale", "paper", "--dry-run", "--device", "cpu"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for label in labels(*FIGURES):
        assert label in shown
    assert "0 runs done, " in shown
    assert f"No estimate of the time: {dataset} is not here. Without --dry-run it is downloaded" in shown
    assert "nan" not in shown
    assert not list(tmp_path.iterdir())


def test_figure_1_is_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "fig1"]) == 0
    assert [str(path) for path in Path("runs").iterdir()] == ["runs/reproduce-fig1"]
    assert run(["reproduce", "fig1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "recovered (0.3, 0.1), initial speed 0.1: dips at 45368, 70598, 87202" in out
    assert (tmp_path / "reproduction.html").is_file()
    assert f"report: {tmp_path / 'reproduction.html'}" in out
    descents = read_descents(tmp_path)
    assert [descent.label for descent in descents] == ["recovered"] * 3 + ["caption"] * 3
    first = descents[0]
    assert (first.iteration[0], first.theta1[0], first.theta2[0]) == (0, -1.0, 1.5)
    assert first.iteration[-1] == 88_000
    assert set(first.dips) <= set(first.iteration)
    assert descend(tmp_path) == list(descents)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "nonsense"], "dataset must be one of digits"),
        (["--initial-speed", "-1"], "initial_speed must be a finite number >= 0"),
        (["--dataset", "a.py:make"], "a built-in one"),
        (["fig1", "--dataset", "../../nonsense"], "dataset must be one of digits"),
        (["--model", "nin"], "the networks for digits are small-cnn"),
        (["fig1", "--model", "nin"], "the networks for digits are small-cnn"),
        (["--device", "abacus"], "device 'abacus'"),
        (["fig1", "--device", "abacus"], "device 'abacus'"),
        (["--jobs", "0"], "jobs must be"),
        (["--scale", "huge"], "huge"),
        (["fig5"], "fig5"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", *arguments]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_or_damaged_earlier_study_is_ignored(tmp_path):
    study = study_of(["fig2"], scale="medium", device="cpu")
    assert described(study, tmp_path) == study
    dataclasses.replace(study, epochs=7).save(tmp_path)
    assert described(study, tmp_path) == study
    (tmp_path / "study.json").write_text("{")
    assert described(study, tmp_path) == study
    assert study_of(["fig1"]) is None


def _choice(study, place):
    return Choice(study.tuning_run(study.contenders[place], 0.1, 0.5), 0.0)
