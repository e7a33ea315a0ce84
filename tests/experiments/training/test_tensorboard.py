"""TensorBoard's event files, read back by TensorBoard itself."""

from __future__ import annotations

import importlib
import warnings

import pytest

import tiny_task
from inna.cli import run as run_command
from inna.experiments.comparison import make_study
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import sweep


@pytest.fixture(scope="module")
def read_back():
    """(folder) -> tag -> [(step, value)]; steps that a later file took back are gone."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its imports say is not ours
        reading = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        importlib.import_module("torch.utils.tensorboard")

    def read(folder):
        events = reading.EventAccumulator(str(folder)).Reload()
        return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


def test_curves_are_logged_as_they_stand_in_the_rows_also_across_a_stop(tmp_path, monkeypatch, read_back):
    from types import SimpleNamespace

    now = iter(range(1_000_000))
    monkeypatch.setattr("inna.experiments.sweep.stopping.time", SimpleNamespace(monotonic=lambda: next(now)))
    study = make_study(tiny_task.PATH, ["sgd"], epochs=3, tuning_epochs=2, seeds=(1,), grid=(0.1,), schedules=(0.5,))
    rows, slices = {}, 0
    while len(rows) < 2:
        rows, _ = sweep(study, tmp_path / "rows", SweepOptions(jobs=1, minutes=5 / 60, tensorboard=tmp_path / "logs"))
        slices += 1
    assert slices > 1
    for run, result in rows.items():
        (folder,) = (tmp_path / "logs").glob(f"*{run.trajectory.key}")
        logged = read_back(folder)
        assert logged.keys() == {"loss/train", "loss/test", "test/worst_error", "learning rate", "seconds"}
        for tag, name in (
            ("loss/train", "train_loss"),
            ("test/worst_error", "test_worst_error"),
            ("learning rate", "lr"),
        ):
            expected = [(entry["epoch"], pytest.approx(entry[name], rel=1e-6)) for entry in result["history"]]
            assert logged[tag] == expected


def test_train_logs_too(tmp_path, monkeypatch, read_back):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "sgd", "--task", tiny_task.PATH, "--lr", "0.1", "--epochs", "2"]
    assert run_command([*arguments, "--tensorboard", "logs"]) == 0
    (folder,) = (tmp_path / "logs").iterdir()
    assert [step for step, _ in read_back(folder)["loss/train"]] == [0, 1, 2]


def test_the_guard_s_share_and_learning_rate_are_logged_as_in_the_rows(tmp_path, read_back):
    study = make_study(
        tiny_task.PATH, ["sgd", "inna-guarded"], epochs=3, tuning_epochs=1, seeds=(1,), grid=(0.5,), schedules=(0,)
    )
    rows, _ = sweep(study, tmp_path / "rows", SweepOptions(jobs=1, tensorboard=tmp_path / "logs"))
    for run, result in rows.items():
        (folder,) = (tmp_path / "logs").glob(f"*{run.trajectory.key}")
        logged = read_back(folder)
        tags = {"guard/share of steps": "guarded_share", "guard/learning rate": "last_lr"}
        if run.optimizer == "sgd":
            assert not tags.keys() & logged.keys()
            assert not set(tags.values()) & result["history"][-1].keys()
            continue
        for tag, name in tags.items():
            expected = [(entry["epoch"], pytest.approx(entry[name], rel=1e-6)) for entry in result["history"]]
            assert logged[tag] == expected
        first, *later = result["history"]
        assert (first["guarded_share"], first["last_lr"]) == (0, 0)
        assert all(0 <= entry["guarded_share"] <= 1 and 0 < entry["last_lr"] <= run.lr for entry in later)


def test_without_the_package_it_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("inna.experiments.training.tensorboard.find_spec", lambda name: None)
    arguments = ["--task", tiny_task.PATH, "--tensorboard", str(tmp_path)]
    for command in (["compare"], ["train", "sgd"]):
        assert run_command([*command, *arguments]) == 2
        error = capsys.readouterr().err
        assert "--tensorboard needs the package tensorboard: pip install 'inna[tensorboard]'" in error
        assert error.count("\n") == 1
