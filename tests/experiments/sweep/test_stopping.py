"""Sweeps that are stopped, refused or hit: what is done is kept, one line says why, and a second start goes on."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tiny_task
from inna.cli import run as run_command
from inna.experiments import Task
from inna.experiments.comparison import make_study
from inna.experiments.rows.pack import pack
from inna.experiments.rows.row_files import read_rows
from inna.experiments.rows.run import Run
from inna.experiments.study.remaining import outlook
from inna.experiments.sweep.active_runs import read_active_sweep, read_failures
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.status import read_status
from inna.experiments.sweep.sweep import SweepError, sweep
from inna.experiments.tasks.networks import network_in_network
from inna.experiments.training.checkpoint import load_checkpoint
from inna.experiments.training.loop import StoppedError
from inna.experiments.training.train import checkpoint_path, measure, train
from timeless import without_times
from waiting import wait_until

SMALL = {"epochs": 3, "tuning_epochs": 2, "seeds": (1, 2), "grid": (0.01, 0.1), "schedules": (0.5,)}


def small_study(*optimizers, **changes):
    return make_study(tiny_task.PATH, optimizers or ("sgd", "inna"), **SMALL | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a sweep that nothing disturbed."""
    rows, failures = sweep(small_study(), tmp_path_factory.mktemp("whole"))
    assert failures == []
    return {run: without_times(result) for run, result in rows.items()}


@pytest.fixture
def slow_clock(monkeypatch):
    """A clock for stopping that goes on by a second whenever it is asked."""
    now = iter(range(1_000_000))
    monkeypatch.setattr("inna.experiments.sweep.stopping.time", SimpleNamespace(monotonic=lambda: next(now)))


def timeless(rows):
    return {run: without_times(result) for run, result in rows.items()}


@pytest.mark.usefixtures("slow_clock")
def test_slices_of_time_add_up_to_the_whole_bit_for_bit(whole, tmp_path):
    slices, checkpoints = 0, 0
    rows = {}
    while rows.keys() != whole.keys():
        rows, failures = sweep(small_study(), tmp_path, SweepOptions(jobs=1, minutes=5 / 60))
        assert failures == []
        slices += 1
        checkpoints += len(list(tmp_path.glob("*.checkpoint")))
        assert not (tmp_path / ".running").exists()
    assert slices > 4
    assert checkpoints > 1  # some slices ended within a run
    assert timeless(rows) == whole


@pytest.mark.usefixtures("slow_clock")
def test_rows_and_checkpoints_of_two_machines_merge_by_copying(whole, tmp_path):
    # One machine got as far as a checkpoint; the other did SGD alone.
    sweep(small_study(), tmp_path / "a", SweepOptions(jobs=1, minutes=12 / 60))
    sweep(small_study("sgd"), tmp_path / "b")
    assert list((tmp_path / "a").glob("*inna*.checkpoint"))
    merged = tmp_path / "merged"
    for machine in ("b", "a"):
        shutil.copytree(tmp_path / machine, merged, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in merged.glob("*.row.json")}
    rows, _ = sweep(small_study(), merged)
    assert timeless(rows) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(merged.glob("*.checkpoint"))


def interrupting_task(presses):
    """The tiny task, where Ctrl-C is pressed so often as the first run measures its first epoch."""
    measured = []

    def metric(outputs, targets):
        measured.append(None)
        if len(measured) == 3:  # the first measured was a trial, the second the weights before training
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return (outputs - targets).abs().max()

    return replace(tiny_task.make_task(), metrics={"worst_error": (metric, "min")})


def test_ctrl_c_once_finishes_the_epoch_and_leaves_a_checkpoint(tmp_path):
    task = interrupting_task(presses=1)
    study = make_study(task, ("sgd",), **SMALL | {"tuning_epochs": 9})
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        sweep(study, tmp_path, task=task)
    assert signal.getsignal(signal.SIGINT) is handler
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    assert [entry["epoch"] for entry in load_checkpoint(checkpoint)["history"]] == [0, 1]
    assert read_rows(tmp_path) == {}
    assert not (tmp_path / ".running").exists()
    rows, failures = sweep(study, tmp_path, task=interrupting_task(presses=0))
    assert failures == []
    assert outlook(study, rows).left == 0
    assert not list(tmp_path.glob("*.checkpoint"))


def test_ctrl_c_twice_stops_at_once(tmp_path):
    task = interrupting_task(presses=2)
    study = make_study(task, ("sgd",), **SMALL | {"tuning_epochs": 9})
    with pytest.raises(KeyboardInterrupt):
        sweep(study, tmp_path, task=task)
    assert not list(tmp_path.glob("*.checkpoint"))
    assert read_rows(tmp_path) == {}


def test_a_second_sweep_on_a_folder_says_so_and_status_shows_the_first(tmp_path, capsys):
    study = small_study("tiny_task:Endless", "sgd")
    code = (
        "import inna.experiments.comparison as c, inna.experiments.sweep.sweep as s; "
        f"s.sweep(c.make_study({tiny_task.PATH!r}, ('tiny_task:Endless', 'sgd'), **{SMALL!r}), {str(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: any((tmp_path / ".running").glob("*.json")), process)
        assert read_active_sweep(tmp_path).pid == process.pid
        with pytest.raises(SweepError, match=rf"a sweep is running on .*; it is process {process.pid} on "):
            sweep(study, tmp_path)
        status = read_status(tmp_path)
        assert (status.outlook.done, status.outlook.left, len(status.running)) == (0, 8, 1)
        assert run_command(["status", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert f"process {process.pid}" in shown
        assert "1 running, 0 failed, 8 left" in shown
        assert "time left: not known before the first run is done" in shown
    finally:
        process.kill()
        process.wait()
    status = read_status(tmp_path)
    assert (status.sweep, status.running) == (None, ())
    # The lock of the killed process is free.
    rows, _ = sweep(small_study("sgd"), tmp_path)
    assert outlook(small_study("sgd"), rows).left == 0


def test_status_tells_what_failed_diverged_and_is_left(tmp_path, capsys):
    study = small_study("tiny_task:Fragile", "sgd", grid=(0.1, 0.5, 1e20), tuning_epochs=1)
    sweep(study, tmp_path)
    (said,) = read_failures(tmp_path).values()
    assert said == ("tiny_task:Fragile, γ 0.5, q 0.5, seed 0", "ArithmeticError: one half is too much")
    next(path for path in tmp_path.glob("*seed2*.row.json")).unlink()
    status = read_status(tmp_path)
    assert status.outlook.left == 1  # the one that is gone; what failed is not counted
    assert status.diverged >= 1
    assert status.seconds > 0
    assert sum(part.done for part in status.parts.values()) == status.outlook.done
    assert run_command(["status", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "failed: tiny_task:Fragile, γ 0.5, q 0.5, seed 0: ArithmeticError: one half is too much" in shown
    assert "1 failed, 1 left" in shown
    assert "time left: about" in shown
    assert run_command(["status", str(tmp_path / "nowhere")]) == 2
    # What failed is tried again, and forgotten once it does not fail.
    sweep(small_study("sgd"), tmp_path)
    assert read_failures(tmp_path) == {}


def test_status_needs_no_torch(tmp_path):
    small_study("sgd").save(tmp_path)
    code = (
        "import sys; from inna.cli import run; status = run(sys.argv[1:]); exit(status or 3 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, "status", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 runs done" in done.stdout


def test_a_full_disk_is_one_line_and_the_rows_before_it_stay(tmp_path, monkeypatch, capsys):
    from inna.experiments.rows.row_files import write_row

    written = []

    def fails_at_the_third(folder, run, result):
        written.append(run)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_row(folder, run, result)

    monkeypatch.setattr("inna.experiments.sweep.workers.write_row", fails_at_the_third)
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", "--epochs", "1", "--tuning-epochs", "1"]
    assert run_command([*arguments, "--jobs", "1", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("inna: the disk is full (No space left on device); finished runs are saved")
    assert error.count("\n") == 1
    assert read_rows(tmp_path).keys() == set(written[:2])


def test_a_checkpoint_that_a_kill_left_beside_its_row_is_removed(tmp_path):
    study = small_study("sgd")
    rows, _ = sweep(study, tmp_path)
    weights, left, damaged, *_ = rows
    train(weights, folder=tmp_path)  # keeps the weights of the last epoch, as `inna train` does
    with pytest.raises(StoppedError):
        measure(left, tiny_task.make_task(), checkpoint=checkpoint_path(tmp_path, left), stop=lambda: True)
    checkpoint_path(tmp_path, damaged).write_bytes(b"half")
    pack(tmp_path)
    missing = study.run(study.contenders[0], 0.7, 0.0, seed=1, epochs=3)
    with pytest.raises(StoppedError):
        measure(missing, tiny_task.make_task(), checkpoint=checkpoint_path(tmp_path, missing), stop=lambda: True)
    sweep(study, tmp_path)
    assert set(tmp_path.glob("*.checkpoint")) == {checkpoint_path(tmp_path, run) for run in (weights, missing)}


def out_of_memory():
    raise MemoryError


@pytest.mark.parametrize("model", [out_of_memory, lambda: nn.Linear(2**24, 2**24)], ids=["Python", "torch"])
def test_memory_that_runs_out_is_one_line(tmp_path, model):
    """Of a model of 2^48 weights no machine has the memory."""
    study = small_study("sgd")
    task = Task("t", model, *(tiny_task.regression_data(8, seed=1),) * 2, nn.functional.mse_loss, model_name="network")
    with pytest.raises(SweepError, match=r"out of memory .*fewer --jobs need less; finished runs are saved"):
        sweep(study, tmp_path, task=task)


def test_a_killed_worker_is_one_line_and_the_next_start_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    study = small_study("tiny_task:Deadly", "sgd", grid=(0.1, 0.5))
    with pytest.raises(SweepError, match=r"a worker process was killed .*  \[tiny_task:Deadly, γ 0.5, q 0.5, seed 0\]"):
        sweep(study, tmp_path / "rows", SweepOptions(jobs=2))
    before = read_rows(tmp_path / "rows", on_damage=pytest.fail)
    rows, failures = sweep(study, tmp_path / "rows")
    assert failures == []
    assert before.keys() <= rows.keys()
    assert outlook(study, rows).left == 0


def test_network_in_network_stops_after_an_epoch_and_goes_on_bit_for_bit_with_its_dropout(tmp_path):
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(6, 3, 32, 32, generator=generator), torch.arange(6)
    task = Task("nin", network_in_network, data, data, nn.functional.cross_entropy, channels_last=True)
    run = Run("nin", "network-in-network", "inna", 0.01, alpha=0.5, beta=0.1, q=0.5, batch_size=4, epochs=2)
    path = tmp_path / "x.checkpoint"
    asked = []

    def after_the_first_epoch():
        asked.append(None)
        return len(asked) == 2

    with pytest.raises(StoppedError):
        measure(run, task, checkpoint=path, checkpoint_seconds=3600.0, stop=after_the_first_epoch)
    assert without_times(measure(run, task, checkpoint=path)) == without_times(measure(run, task))
