"""What is shown while runs are under way."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import tiny_task
from inna.experiments.comparison import make_run, make_study
from inna.experiments.study.remaining import Outlook
from inna.experiments.sweep.active_runs import Heartbeat
from inna.experiments.sweep.progress import LiveProgress, PlainProgress, TrainingProgress, make_progress

DONE = {"status": "done", "train_loss": 0.125, "seconds": 1.0}


@pytest.fixture(scope="module")
def study():
    return make_study(tiny_task.PATH, ["sgd", "adam"])


@pytest.fixture(scope="module")
def a_run():
    return make_run("sgd", tiny_task.PATH, lr=0.1, epochs=20)


def a_console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def test_plain_output_has_about_ten_lines_whatever_the_number_of_runs(study, a_run, tmp_path):
    console = a_console(False)
    with make_progress(console) as progress:
        assert type(progress) is PlainProgress
        progress.begin(study, tmp_path, Outlook(30, 170, 170 * 20, 30 * 20))
        for n in range(1, 171):
            progress.finished("SGD", a_run, DONE, Outlook(30 + n, 170 - n, (170 - n) * 20, (30 + n) * 20))
        progress.note("a [bold]word[/bold] as it is")
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith(f"{tiny_task.PATH}: 2 optimizers, 30 runs done, 170 to do")
    assert len(lines) == 12
    assert lines[1].startswith("47 of 200 runs done, ")
    assert " left; SGD, γ 0.1, q 0, seed 0: loss 0.125" in lines[1]
    assert lines[-2].startswith("200 of 200 runs done; ")
    assert lines[-1] == "a [bold]word[/bold] as it is"


def test_the_time_left_is_that_of_the_epochs_left_at_the_pace_so_far(study, a_run, tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("inna.experiments.sweep.progress.time.monotonic", lambda: clock[0])
    console = a_console(False)
    progress = PlainProgress(console)
    progress.begin(study, tmp_path, Outlook(0, 4, 80, 0))
    clock[0] = 110.0  # nine seconds until the processes were there, one for the run
    progress.finished("SGD", a_run, DONE, Outlook(1, 3, 60, 20))
    assert "1 of 4 runs done, 3 s left" in console.file.getvalue()


def test_the_live_display_shows_runs_done_current_run_loss_and_time_left(study, a_run, tmp_path):
    console = a_console(True)
    with make_progress(console) as progress:
        assert type(progress) is LiveProgress
        progress.begin(study, tmp_path, Outlook(0, 2, 40, 0))
        progress.finished("SGD", a_run, DONE, Outlook(1, 1, 20, 20))
        with Heartbeat(tmp_path, a_run) as heartbeat:
            heartbeat.due = 0.0
            heartbeat.update({"epoch": 7, "train_loss": 0.5})
            progress.live.refresh()
    shown = console.file.getvalue()
    for words in ("1 of 2 runs", " s left", "sgd, γ 0.1, q 0, seed 0", "epoch 7/20", "loss 0.5", "last: SGD"):
        assert words in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_a_single_run_shows_epoch_losses_and_time_left(a_run, terminal):
    console = a_console(terminal)
    with TrainingProgress(console, a_run) as progress:
        for epoch in range(21):
            progress({"epoch": epoch, "lr": 0.1, "train_loss": 1.0, "test_worst_error": 0.25, "seconds": 0.1})
            progress.live.refresh() if terminal else None
    shown = console.file.getvalue()
    assert "epoch 20/20: train loss 1, test worst error 0.25" in shown
    assert " left" in shown
    if not terminal:
        assert len(shown.splitlines()) == 11
