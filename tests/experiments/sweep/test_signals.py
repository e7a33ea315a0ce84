"""SIGTERM and SIGHUP do what one Ctrl-C does, however often they come: checkpoints are left, nothing else is."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import inna.interrupts
import tiny_task
from inna.experiments.comparison import make_study
from inna.experiments.study.remaining import outlook
from inna.experiments.sweep.active_runs import read_active_runs
from inna.experiments.sweep.sweep import sweep
from inna.experiments.training.checkpoint import load_checkpoint
from inna.interrupts import STOPPED, Interrupt, exit_status
from waiting import wait_until

SMALL = {"epochs": 3, "tuning_epochs": 9, "seeds": (1, 2), "grid": (0.01, 0.1), "schedules": (0.5,)}
LONG = ["--epochs", "9999", "--tuning-epochs", "9999", "--grid", "0.1"]


def signalling_task(*signals):
    """The tiny task, where ``signals`` arrive as the first run measures its first epoch."""
    measured = []

    def metric(outputs, targets):
        measured.append(None)
        if len(measured) == 3:  # the first measured was a trial, the second the weights before training
            for signum in signals:
                signal.raise_signal(signum)
        return (outputs - targets).abs().max()

    return replace(tiny_task.make_task(), metrics={"worst_error": (metric, "min")})


@pytest.mark.parametrize("signum", [each for each in inna.interrupts.SIGNALS if each != signal.SIGINT])
def test_a_signal_finishes_the_epoch_and_leaves_a_checkpoint(tmp_path, signum):
    task = signalling_task(signum, signum, signum)
    study = make_study(task, ("sgd",), **SMALL)
    before = [signal.getsignal(each) for each in inna.interrupts.SIGNALS]
    with pytest.raises(Interrupt) as raised:
        sweep(study, tmp_path, task=task)
    assert exit_status(raised.value) == 128 + signum
    assert [signal.getsignal(each) for each in inna.interrupts.SIGNALS] == before
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    assert [entry["epoch"] for entry in load_checkpoint(checkpoint)["history"]] == [0, 1]
    assert not (tmp_path / ".running").exists()
    rows, failures = sweep(study, tmp_path, task=signalling_task())
    assert failures == []
    assert outlook(study, rows).left == 0


def test_ctrl_c_after_a_signal_stops_at_once(tmp_path):
    task = signalling_task(signal.SIGTERM, signal.SIGINT)
    with pytest.raises(Interrupt) as raised:
        sweep(make_study(task, ("sgd",), **SMALL), tmp_path, task=task)
    assert exit_status(raised.value) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("*.checkpoint"))


def test_signals_that_are_ignored_or_handled_by_the_program_stay_so(tmp_path):
    told = []
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
        task = signalling_task(signal.SIGHUP, signal.SIGTERM)
        _, failures = sweep(make_study(task, ("sgd",), **SMALL), tmp_path, task=task)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert (told, failures) == ([signal.SIGTERM], [])


def under_way(folder):
    """The number of active runs that have something to leave in a checkpoint."""
    return sum(run.epoch >= 1 for run in read_active_runs(folder))


def wait_for_the_group(leader):
    """Wait until the last process of a group has gone."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(leader, 0)
            time.sleep(0.01)


def test_the_group_of_a_sweep_with_workers_is_asked_to_end(tmp_path):
    """As by `timeout`, which signals the command and then its whole group, or by Slurm."""
    command = [sys.executable, "-m", "inna", "compare", "--task", tiny_task.PATH, *LONG, "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: under_way(tmp_path) == 2, process)
        os.kill(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGTERM)
        shown, errors = process.communicate()
        wait_for_the_group(process.pid)
    assert (process.returncode, errors) == (143, f"inna: {STOPPED}\n")
    assert "stopping after the current epoch" in shown
    checkpoints = list(tmp_path.glob("*.checkpoint"))
    assert len(checkpoints) == 2
    assert all(len(load_checkpoint(path)["history"]) > 0 for path in checkpoints)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".sweep.lock",
        "study.json",
        *(path.name for path in checkpoints),
    }


# JAX warns of forks once it is imported, as other tests of the process may do.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_terminal_that_closes_leaves_a_checkpoint(tmp_path):
    """The display cannot be written to any more, which must not end the sweep before its checkpoint is there."""
    arguments = ["compare", "--task", tiny_task.PATH, *LONG, "--jobs", "1", "--out", str(tmp_path)]
    pid, terminal = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-m", "inna", *arguments])
    while not under_way(tmp_path):  # and read what is shown, so that it can be written
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1
    assert not (tmp_path / ".running").exists()


def test_any_command_ends_with_one_line():
    """Elsewhere than in a sweep the first signal ends the command."""
    code = (
        "import sys, signal, time, inna.cli\n"
        "from inna.__main__ import main\n"
        "def report():\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "import inna.experiments.training.hardware as hardware\nhardware.report = report\n"
        "sys.argv = ['inna', 'info']\nmain()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (143, f"inna: {STOPPED}\n")
