"""Sweeps on a Dask cluster: a real scheduler and two worker processes on loopback, one of them killed in mid-run."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

import inna.experiments
import tiny_task
from inna.cli import run as run_command
from inna.experiments.comparison import make_study
from inna.experiments.rows.row_files import read_rows
from inna.experiments.study.remaining import outlook
from inna.experiments.sweep.active_runs import read_active_runs
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import SweepError, sweep
from timeless import without_times
from waiting import wait_until

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", str(tmp_path / "begun"))
    paths = [str(Path(module.__file__).parent) for module in (tiny_task, inna.experiments)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([paths[0], str(Path(paths[1]).parents[1])]))
    (tmp_path / "begun").mkdir()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
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
