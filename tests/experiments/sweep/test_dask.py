"""Sweeps on a Dask cluster: a real scheduler and two worker processes on loopback, one of them killed in mid-run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import inna
import tiny_task
from inna.cli import run as run_command
from inna.experiments.comparison import make_study
from inna.experiments.rows.row_files import read_rows
from inna.experiments.study.remaining import outlook
from inna.experiments.study.study import Study
from inna.experiments.sweep.active_runs import read_active_runs
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import SweepError, sweep
from timeless import without_times
from waiting import wait_until

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two workers, which look for modules in the folder ``there`` first."""
    monkeypatch.setenv("MARK", str(tmp_path / "begun"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(inna.__file__).parents[1]), *sys.path]))
    (tmp_path / "begun").mkdir()
    (tmp_path / "there").mkdir()
    with monkeypatch.context() as beginning:
        beginning.syspath_prepend(str(tmp_path / "there"))  # which processes take from the one that starts them
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
        )
    with cluster:
        yield cluster


def when_two_are_active(folder, then):
    """A thread that calls ``then`` as soon as two runs are under way in ``folder``."""

    def look():
        wait_until(lambda: len(read_active_runs(folder)) == 2)
        then()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_sweep_on_two_workers_is_stopped_goes_on_and_survives_one_that_is_killed(cluster, tmp_path):
    study = make_study(
        tiny_task.PATH,
        ("tiny_task:Counted",),
        epochs=40,
        tuning_epochs=200,
        seeds=(1, 2, 3),
        grid=(0.1,),
        schedules=(0.0, 0.5),
    )
    folder, begun = tmp_path / "rows", tmp_path / "begun"
    address = cluster.scheduler_address

    # Stopped: what was under way comes back as checkpoints, although workers and client share no folder.
    def put_up_the_sign():
        (folder / ".running" / "stop").touch()

    thread = when_two_are_active(folder, put_up_the_sign)
    sweep(study, folder, SweepOptions(backend="dask", scheduler=address))
    thread.join()
    assert list(folder.glob("*.checkpoint"))
    assert outlook(study, read_rows(folder)).left > 0
    done, before = len(read_rows(folder)), len(list(begun.iterdir()))

    # Killed: its run is done again elsewhere, and everything is there once.
    def kill_a_worker():
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    thread = when_two_are_active(folder, kill_a_worker)
    rows, failures = sweep(study, folder, SweepOptions(backend="dask", scheduler=address))
    thread.join()
    assert failures == []
    assert outlook(study, rows).left == 0
    assert not list(folder.glob("*.checkpoint"))
    assert not (folder / ".running").exists()
    assert len(list(folder.glob("*.row.json"))) == len(rows)
    here, _ = sweep(study, tmp_path / "here")
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in here.items()
    }
    assert len(list(begun.iterdir())) - before > len(rows) - done > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("tuning", ["grid", "halving"])
def test_seeds_are_added_on_a_cluster_whose_worker_is_killed(cluster, tmp_path, tuning):
    folder, here, begun = tmp_path / "rows", tmp_path / "here", tmp_path / "begun"
    arguments = ["compare", "--task", tiny_task.PATH, "--seeds", "auto:6", "--tuning", tuning, "--schedules", "0"]
    arguments += ["--optimizer", "tiny_task:Counted:lr=.1", "--optimizer", "tiny_task:Counted:lr=.1,momentum=0"]
    arguments += ["--tuning-epochs", "1", "--epochs", "30"]

    def kill_a_worker():
        wait_until(lambda: len(list(folder.glob("*.row.json"))) >= 8)  # three seeds are done, none leads
        wait_until(lambda: len(read_active_runs(folder)) == 2)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_a_worker, daemon=True)
    thread.start()
    address = ["--backend", "dask", "--scheduler", cluster.scheduler_address]
    assert run_command([*arguments, *address, "--out", str(folder)]) == 0
    thread.join()
    rows = read_rows(folder)
    assert {run.seed for run in rows if run.epochs == 30} >= {1, 2, 3, 4, 5, 6}
    assert Study.load(folder).seeds == (1, 2, 3, 4, 5, 6)
    there = len(list(begun.iterdir()))
    assert run_command([*arguments, "--jobs", "1", "--out", str(here)]) == 0
    assert there > len(list(begun.iterdir())) - there  # the run that was lost began twice
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in read_rows(here).items()
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_scheduler_that_goes_away_is_one_line(cluster, tmp_path, capfd):
    study = make_study(tiny_task.PATH, ("tiny_task:Counted",), epochs=9, tuning_epochs=9999, seeds=(1,), grid=(0.1,))
    folder, address = tmp_path / "rows", cluster.scheduler_address
    thread = when_two_are_active(folder, lambda: cluster.sync(cluster.scheduler.close))
    capfd.readouterr()
    with pytest.raises(
        SweepError, match=r"the Dask scheduler at tcp://127\.0\.0\.1:\d+ is gone; finished runs are saved"
    ):
        sweep(study, folder, SweepOptions(backend="dask", scheduler=address))
    thread.join()
    assert "Traceback" not in capfd.readouterr().err
    assert not (folder / ".running").exists()


OWN_CODE = """
import torch
from tiny_task import network, regression_data
from inna.experiments import Task

SCALE = {scale}

def loss(outputs, targets):
    return SCALE * (outputs - targets).square().mean()

def make_task():
    return Task("own", network, regression_data(40, seed=1), regression_data(20, seed=2), loss)

class Scaled(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.grad *= SCALE
        return super().step(closure)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_workers_that_have_other_code_train_the_task_that_was_sent_and_refuse_their_own_optimizer(
    cluster, tmp_path, monkeypatch
):
    for place, scale in (("here", 1.0), ("there", 0.5)):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "own_code.py").write_text(OWN_CODE.format(scale=scale))
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    study = make_study(
        str(tmp_path / "here" / "own_code.py:make_task"),
        ("sgd", "own_code:Scaled"),
        epochs=2,
        tuning_epochs=1,
        seeds=(1,),
        grid=(0.1,),
        schedules=(0.0,),
    )
    options = SweepOptions(backend="dask", scheduler=cluster.scheduler_address)
    rows, failures = sweep(study, tmp_path / "rows", options)
    assert {run.optimizer for run in rows} == {"sgd"}
    assert {failure.error for failure in failures} == {
        "ValueError: own_code:Scaled is not the optimizer of the run: its code was changed"
    }
    here, _ = sweep(study, tmp_path / "rows here")
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in here.items() if run.optimizer == "sgd"
    }


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("inna.experiments.sweep.dask.CONNECT_SECONDS", 0.5)
    study = make_study(tiny_task.PATH, ["sgd"], epochs=1, tuning_epochs=1)
    with pytest.raises(SweepError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        sweep(study, tmp_path, SweepOptions(backend="dask", scheduler="tcp://127.0.0.1:9"))
    arguments = ["compare", "--task", tiny_task.PATH, "--out", str(tmp_path)]
    for wrong, words in (
        (["--backend", "dask"], "needs --scheduler ADDRESS"),
        (["--scheduler", "tcp://127.0.0.1:9"], "--scheduler goes with --backend dask"),
        (["--backend", "dask", "--scheduler", "x", "--jobs", "2"], "--jobs is for processes on this machine"),
    ):
        assert run_command([*arguments, *wrong]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_data_file_is_sent_to_the_workers_and_another_of_its_name_is_refused(cluster, tmp_path):
    def write(offset: float) -> str:
        x = np.random.default_rng(0).standard_normal((9, 4)) + offset
        np.savez(tmp_path / "mine.npz", x_train=x, y_train=np.arange(9) % 3, x_test=x, y_test=np.arange(9) % 3)
        return str(tmp_path / "mine.npz")

    path, options = write(0.0), SweepOptions(backend="dask", scheduler=cluster.scheduler_address)
    study = make_study(path, ["sgd"], epochs=1, tuning_epochs=1, seeds=(1,), grid=(0.1,), schedules=(0.0,))
    rows, failures = sweep(study, tmp_path / "rows", options)
    here, _ = sweep(study, tmp_path / "rows here")
    assert failures == []
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in here.items()
    }
    write(1.0)
    with pytest.raises(ValueError, match="is not the file of the run"):
        sweep(study, tmp_path / "other rows", options)
