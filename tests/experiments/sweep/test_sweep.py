"""Sweeps: the same rows whatever the processes, whatever was killed, whatever raised."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib.externals.loky import ProcessPoolExecutor

import tiny_task
from inna.experiments import compare
from inna.experiments.comparison import DEFAULT_OPTIMIZERS, contender, make_run, make_study
from inna.experiments.rows.lock import LOCK
from inna.experiments.rows.results import cost, divergence_sentence
from inna.experiments.rows.row_files import read_rows, row_path, write_row
from inna.experiments.study.remaining import Outlook, outlook
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state
from inna.experiments.sweep.active_runs import Heartbeat, read_active_runs
from inna.experiments.sweep.forecast import forecast
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import SilentProgress, SweepError, sweep
from inna.experiments.sweep.workers import _signals_blocked
from timeless import without_times
from waiting import PATIENCE, wait_until

SMALL = {"epochs": 3, "tuning_epochs": 2, "seeds": (1, 2), "grid": (0.01, 0.1), "schedules": (0.0, 0.5)}


class Watch(SilentProgress):
    def __init__(self):
        self.notes, self.outlooks = [], []

    def begin(self, study, folder, outlook):
        self.outlooks.append(outlook)

    def finished(self, label, run, result, outlook):
        self.outlooks.append(outlook)

    def note(self, text):
        self.notes.append(text)


def small_study(*optimizers, **changes):
    return make_study(tiny_task.PATH, optimizers or ("sgd", "inna"), **SMALL | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A whole sweep in this process, its folder and rows."""
    folder = tmp_path_factory.mktemp("done")
    rows, failures = sweep(small_study(), folder)
    assert failures == []
    return folder, rows


def test_the_study_is_carried_out(done):
    folder, rows = done
    study = Study.load(folder)
    assert study == small_study()
    expected = set()
    for entry in study.contenders:
        tuning = state(study, entry, rows)
        tuned = dict(tuning.results(rows))
        assert {run.lr for run in tuned} >= {0.01, 0.1}
        expected |= tuned.keys() | set(tuning.finals)
        assert cost(tuning.done(rows)).runs == len(tuned) + 2
    assert rows.keys() == expected
    assert outlook(study, rows) == Outlook(len(rows), 0, 0, sum(run.epochs for run in rows))
    # The lock stays, as locks do; no checkpoint, nothing temporary.
    assert {p.suffix for p in folder.iterdir() if p.name != LOCK} == {".json"}


def test_rows_agree_bit_for_bit_in_other_processes_and_beside_others(done, tmp_path):
    _, rows = done
    others, failures = sweep(small_study(), tmp_path, SweepOptions(jobs=2))
    assert failures == []
    assert {run: without_times(result) for run, result in others.items()} == {
        run: without_times(result) for run, result in rows.items()
    }


def test_tasks_from_python_need_no_file_and_the_process_does_not_matter(tmp_path):
    task = tiny_task.make_task()
    alone = compare(task, optimizers=["sgd"], **SMALL | {"grid": (0.1,)}).rows
    beside = compare(task, optimizers=["sgd"], jobs=2, folder=tmp_path, **SMALL | {"grid": (0.1,)}).rows
    columns = ["dataset", "lr", "q", "seed", "train_loss", "test_worst_error", "status"]
    order = ["q", "seed"]
    assert alone.sort_values(order)[columns].values.tolist() == beside.sort_values(order)[columns].values.tolist()
    assert len(alone) == 4
    with pytest.raises(SweepError, match="one half is too much"):
        compare(task, optimizers=["tiny_task:Fragile"], **SMALL | {"grid": (0.1, 0.5)})


@pytest.mark.parametrize("tuning", [{"trials": 6}, {"grid": (0.01, 0.04), "schedules": (0.0,)}])
def test_learning_rates_that_an_optimizer_refuses_do_not_end_the_study(tmp_path, tuning):
    short = {"epochs": 6, "tuning_epochs": 2, "seeds": (1,)} | tuning
    found = compare(tiny_task.PATH, optimizers=["own_optimizer_spaces:Capped"], folder=tmp_path, **short)
    assert found.best == "Capped"
    assert found.table.lr[0] <= 0.05
    refused = found.rows[found.rows.lr > 0.05]
    assert len(refused) > 0
    assert set(refused.status) == {"diverged"}
    reasons = [divergence_sentence(result) for run, result in read_rows(tmp_path).items() if run.lr > 0.05]
    assert all("The optimizer refuses these settings: lr must be at most 0.05, got" in text for text in reasons)
    page = found.report(tmp_path).read_text(encoding="utf-8")
    assert "Capped" in page
    study = make_study(tiny_task.PATH, ["own_optimizer_spaces:Capped"], **short)
    assert math.isfinite(forecast(study, {}, tiny_task.make_task(), jobs=1).seconds)


def test_where_an_optimizer_refuses_every_setting_nothing_begins():
    with pytest.raises(ValueError, match=r"Capped: lr must be at most 0\.05, got"):
        make_study(tiny_task.PATH, ["own_optimizer_spaces:Capped"], grid=(0.1, 1.0))


def test_a_search_of_the_guarded_inna_comes_to_the_end_of_its_learning_rates():
    short = {"epochs": 2, "tuning_epochs": 2, "seeds": (1,), "trials": 4, "schedules": (0,)}
    found = compare(tiny_task.PATH, optimizers=["inna:loss_bound=0"], **short)
    assert found.best
    assert set(found.rows[found.rows.lr * found.rows.alpha > 1].status) <= {"diverged"}


class Intruder:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_task_that_was_altered_on_its_way_is_not_unpickled(tmp_path, monkeypatch):
    write = Path.write_bytes

    def intrude(path, content):
        return write(path, pickle.dumps(Intruder(tmp_path / "trace")) if path.name == "task.pickle" else content)

    monkeypatch.setattr(Path, "write_bytes", intrude)
    with pytest.raises(SweepError, match="altered on its way"):
        compare(tiny_task.make_task(), optimizers=["sgd"], folder=tmp_path / "rows", **SMALL)
    assert not (tmp_path / "trace").exists()


def test_a_second_start_runs_what_is_missing_or_damaged_and_nothing_else(done, tmp_path):
    _, rows = done
    study, watch = small_study(), Watch()
    sweep(study, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.row.json")}
    gone, damaged, *_ = before
    gone.unlink()
    damaged.write_text(damaged.read_text()[:50])
    again, _ = sweep(study, tmp_path, progress=watch)
    changed = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed == {gone, damaged}
    assert len(watch.notes) == 1
    assert str(damaged) in watch.notes[0]
    assert {run: without_times(result) for run, result in again.items()} == {
        run: without_times(result) for run, result in rows.items()
    }


def test_a_run_that_raises_is_reported_and_loses_no_other(tmp_path):
    study = small_study("tiny_task:Fragile", "sgd", grid=(0.1, 0.5), schedules=(0.0,))
    watch = Watch()
    rows, failures = sweep(study, tmp_path, progress=watch)
    assert [failure.run.lr for failure in failures] == [0.5]
    assert failures[0].error == "ArithmeticError: one half is too much"
    assert "in step" in failures[0].traceback
    assert [note for note in watch.notes if "one half is too much" in note and "γ 0.5" in note]
    for entry in study.contenders:
        assert set(state(study, entry, rows).finals) <= rows.keys()


def test_progress_foresees_what_is_left(tmp_path):
    watch = Watch()
    study = small_study(grid=(0.1,))
    rows, _ = sweep(study, tmp_path, progress=watch)
    # Two contenders under two schedules with one step size: four tuning runs of 2 epochs, four final runs of 3.
    assert watch.outlooks[0] == (0, 8, 4 * 2 + 4 * 3, 0)
    assert [now.done for now in watch.outlooks] == list(range(9))
    assert all(now.done + now.left == 8 for now in watch.outlooks)
    assert len(rows) == 8


@pytest.mark.parametrize(("jobs", "replaced"), [(1, False), (1, True), (2, False)])
def test_a_folder_that_is_deleted_ends_the_sweep_at_the_next_run(done, tmp_path, jobs, replaced):
    folder = tmp_path / "rows"

    class Deleting(Watch):
        def finished(self, label, run, result, outlook):
            super().finished(label, run, result, outlook)
            shutil.rmtree(folder, ignore_errors=True)
            if replaced:
                folder.mkdir(exist_ok=True)
                (folder / LOCK).touch()

    watch = Deleting()
    with pytest.raises(SweepError, match=r"rows was deleted or replaced by another folder during the sweep"):
        sweep(small_study(), folder, SweepOptions(jobs=jobs), progress=watch)
    assert len(watch.outlooks) == 2
    rows, _ = sweep(small_study(), folder)
    _, expected = done
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in expected.items()
    }


def test_ctrl_c_keeps_the_rows(tmp_path):
    class Impatient(Watch):
        def finished(self, label, run, result, outlook):
            if outlook.done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(small_study(), tmp_path, SweepOptions(jobs=2), progress=Impatient())
    assert len(read_rows(tmp_path)) >= 3
    sweep(small_study(), tmp_path)


@pytest.mark.slow
def test_kill_minus_nine_loses_at_most_the_runs_in_progress(done, tmp_path):
    _, whole = done
    # Endless runs keep the sweep from ending before it is killed.
    optimizers = ("sgd", "inna", "tiny_task:Endless")
    study = f"inna.experiments.comparison.make_study({tiny_task.PATH!r}, {optimizers!r}, **{SMALL!r})"
    imports = (
        "import inna.experiments.comparison; from inna.experiments.sweep.options import SweepOptions; "
        "from inna.experiments.sweep.sweep import sweep"
    )
    code = f"{imports}; sweep({study}, {str(tmp_path)!r}, SweepOptions(jobs=2))"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    wait_until(lambda: len(list(tmp_path.glob("*.row.json"))) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    damaged = []
    kept = read_rows(tmp_path, on_damage=damaged.append)
    assert damaged == []
    assert 3 <= len(kept) < len(whole)
    rows, failures = sweep(small_study(), tmp_path)
    assert failures == []
    assert {run: without_times(result) for run, result in rows.items()} == {
        run: without_times(result) for run, result in whole.items()
    }


def test_workers_are_started_with_signals_blocked():
    with _signals_blocked():
        executor = ProcessPoolExecutor(1, timeout=60)
        mask = executor.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
    executor.shutdown(kill_workers=True)
    assert signal.SIGINT in mask
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


STOPPED = "inna: Stopped. Finished runs are saved; run the same command to resume.\n"
# Ctrl-C is ignored before `main` can handle it: Python itself cannot be asked to stop without a traceback.
READY = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from inna.__main__ import main; print('ready', flush=True); main()"
)


def impatient(folder, seed):
    """Press Ctrl-C three times in the first 2 s of a sweep with two workers; its status, errors and files."""
    options = ["--epochs", "400", "--tuning-epochs", "400", "--jobs", "2", "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-c", READY, "compare", "--task", tiny_task.PATH, *options],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    choice, started = random.Random(seed), time.monotonic()
    if seed % 2:  # as soon as there is a worker, rather than from the beginning
        wait_until(lambda: any((folder / ".running").glob("*.json")), process)
        started = time.monotonic()
    for moment in sorted(choice.uniform(0, 2) for _ in range(3)):
        time.sleep(max(0.0, started + moment - time.monotonic()))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        while True:  # until the last process of the group has gone
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    return process.returncode, errors, {path.name for path in folder.glob("**/*") if path.suffix in {".tmp", ".json"}}


def check_impatient(folder, seed):
    status, errors, left = impatient(folder, seed)
    assert (status, errors) == (1, STOPPED), f"seed {seed}"
    assert not [name for name in left if name != "study.json" and not name.endswith(".row.json")], f"seed {seed}"


@pytest.mark.parametrize("seed", range(2))
def test_an_impatient_ctrl_c_is_one_line_and_status_1(tmp_path, seed):
    check_impatient(tmp_path / "rows", seed)


@pytest.mark.slow
def test_fifty_impatient_ctrl_c_in_a_row(tmp_path):
    for seed in range(100, 150):
        check_impatient(tmp_path / str(seed), seed)


@pytest.mark.parametrize("budget", ["6runs", "24epochs"])
def test_budgets_limit_every_contender_alike(tmp_path, budget):
    study = small_study(budget=budget)
    rows, _ = sweep(study, tmp_path)
    costs = [cost(state(study, entry, rows).done(rows)) for entry in study.contenders]
    # 6 runs: 3 each, 2 of them final. 24 epochs: 12 each, 6 of them final, so 3 tuning runs of 2.
    assert [(each.runs, each.epochs) for each in costs] == ([(3, 8)] * 2 if budget == "6runs" else [(5, 12)] * 2)


def test_a_budget_in_time_is_kept_or_refused(tmp_path):
    generous, tight = small_study(budget="1h"), small_study(budget="0.0001s")
    rows, _ = sweep(generous, tmp_path / "a")
    assert len(rows) > 12
    with pytest.raises(SweepError, match="final runs need about"):
        sweep(tight, tmp_path / "b")
    assert len(read_rows(tmp_path / "b")) == 2  # one tuning run each, and no more


def test_runs_under_way_are_announced_while_they_last(tmp_path):
    run = make_run("sgd", tiny_task.PATH, lr=0.1)
    with Heartbeat(tmp_path, run) as heartbeat:
        heartbeat.due = 0.0
        heartbeat.update({"epoch": 2, "train_loss": 0.25})
        assert read_active_runs(tmp_path)[0][2:] == (2, run.epochs, 0.25)
    assert read_active_runs(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_the_default_comparison_is_the_papers_and_equally_tuned():
    study = make_study()
    assert study.reference == "SGD"
    inna = [(entry.alpha, entry.beta) for entry in study.contenders if entry.optimizer == "inna"]
    assert inna == [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0)]
    assert [entry.label for entry in study.contenders[4:]] == ["SGD", "heavy ball", "AdaGrad", "Adam"]
    assert len({(entry.grid, entry.qs) for entry in study.contenders}) == 1
    assert study.contenders == tuple(contender(text, search=True) for text in DEFAULT_OPTIMIZERS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizers": []}, "at least one"),
        ({"optimizers": ["muon"]}, "Muon"),
        ({"optimizers": ["inna:alpha=-1"]}, "alpha must be"),
        ({"optimizers": ["sgd"], "reference": "adam"}, "reference must be one of SGD"),
        ({"optimizers": ["sgd", "SGD"]}, "is given twice"),
        ({"grid": ()}, "grid must contain at least one"),
        ({"grid": (-1.0,)}, "grid must be a finite number > 0"),
        ({"schedules": (-0.5,)}, "schedules must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"precision": "half"}, "precision must be one of"),
        ({"seeds": (0,)}, "the tuning seed must not be a final seed: 0 is in"),
    ],
)
def test_studies_that_are_refused_before_anything_runs(changes, words):
    arguments = {"task": tiny_task.PATH, "optimizers": ["sgd"]} | SMALL | changes
    with pytest.raises(ValueError, match=words):
        make_study(**arguments)


def test_a_loader_brings_its_batch_size():
    name = tiny_task.PATH.replace("make_task", "make_loader_task")
    assert make_study(name, ["sgd"]).batch_size == 16
    with pytest.raises(ValueError, match="has its own, 16; got 8"):
        make_study(name, ["sgd"], batch_size=8)


def test_rows_of_other_versions_are_named(tmp_path):
    study = small_study("sgd", grid=(0.1,), schedules=(0,))
    rows, _ = sweep(study, tmp_path)
    run, result = next(iter(rows.items()))
    write_row(tmp_path, run, {**result, "versions": {**result["versions"], "inna": "0.0.1"}})
    write_row(tmp_path, dataclasses.replace(run, source="0" * 64), result)
    watch = Watch()
    sweep(study, tmp_path, progress=watch)
    assert watch.notes[0].startswith("1 result is from inna 0.0.1; this is inna ")
    assert watch.notes[1].startswith("1 result of the folder is not used")


def test_an_own_task_keeps_versions_apart(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(Path(tiny_task.__file__).read_text(encoding="utf-8"))
    before = make_run("sgd", f"{path}:make_task", lr=0.1)
    path.write_text(path.read_text().replace("nn.Tanh()", "nn.ReLU()"))
    after = make_run("sgd", f"{path}:make_task", lr=0.1)
    assert before.source != after.source
    assert row_path(tmp_path, before) != row_path(tmp_path, after)
