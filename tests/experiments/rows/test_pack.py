"""Packed rows: the same rows in one file, whatever is damaged, killed or added."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_task
from inna.cli import run as inna
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.history import History, by_column
from inna.experiments.rows.lock import FolderInUseError, lock
from inna.experiments.rows.pack import Packed, pack
from inna.experiments.rows.packed import PACKED, packed_line
from inna.experiments.rows.row_files import load_rows, read_rows, row_path, write_row
from inna.experiments.rows.run import Run
from inna.experiments.statistics.read import open_results
from inna.experiments.sweep.status import read_status
from synthetic_study import classification_study, rows_of, save

RUN = Run("d", "m", "adam", 0.1, settings=(("betas", (0.9, 0.99)), ("note", 'a\nb\u2028 "float"')))
FIRST_VERSION = Path(__file__).parents[2] / "data" / "first-version"
HISTORY = [
    {"epoch": 0, "lr": 0.1, "train_loss": math.inf, "seconds": 0.0},
    {"epoch": 1, "lr": 0.1, "train_loss": -0.0, "seconds": 1e-7},
]
RESULT = {"status": "done", "train_loss": math.nan, "history": HISTORY, "versions": {"inna": "0.1.0"}, "threads": 1}


def documents(folder: Path) -> list[Any]:
    return [row_document(run, result) for run, result in read_rows(folder, on_damage=pytest.fail).items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    study = classification_study()
    return save(tmp_path, study, rows_of(study))


def test_packed_rows_are_the_same_rows_in_the_same_order(folder):
    before, frame, status = documents(folder), load_rows(folder), read_status(folder)
    files = len(list(folder.glob("*.row.json")))
    assert pack(folder) == Packed(folder / PACKED, files, files, ())
    assert not list(folder.glob("*.row.json"))
    assert documents(folder) == before
    assert json.dumps(documents(folder)) == json.dumps(before)
    pd.testing.assert_frame_equal(load_rows(folder), frame)
    assert read_status(folder) == status
    keys = [Run(**json.loads(line)["run"]).key for line in (folder / PACKED).read_text(encoding="utf-8").splitlines()]
    assert keys == sorted(keys)


def test_a_line_holds_every_value(tmp_path):
    write_row(tmp_path, RUN, RESULT)
    before = documents(tmp_path)
    pack(tmp_path)
    assert documents(tmp_path) == before == [row_document(RUN, RESULT)]
    ((run, result),) = read_rows(tmp_path).items()
    assert run == RUN
    assert [list(map(repr, entry.values())) for entry in result["history"]] == [
        list(map(repr, entry.values())) for entry in HISTORY
    ]


def test_what_is_added_later_is_merged_and_a_newer_row_file_replaces_the_line(tmp_path):
    others = [Run("d", "m", "sgd", lr) for lr in (0.1, 0.2, 0.3)]
    for run in others[:2]:
        write_row(tmp_path, run, {"status": "done", "train_loss": 1.0})
    assert pack(tmp_path).added == 2
    before = (tmp_path / PACKED).read_bytes()
    assert pack(tmp_path).added == 0
    assert (tmp_path / PACKED).read_bytes() == before
    for run in others[1:]:
        write_row(tmp_path, run, {"status": "done", "train_loss": 2.0})
    expected = {others[0]: 1.0, others[1]: 2.0, others[2]: 2.0}
    assert {run: result["train_loss"] for run, result in read_rows(tmp_path).items()} == expected
    outcome = pack(tmp_path)
    assert (outcome.rows, outcome.added) == (3, 2)
    assert {run: result["train_loss"] for run, result in read_rows(tmp_path).items()} == expected


def test_a_damaged_row_file_is_named_and_left_and_the_packed_row_counts(tmp_path):
    write_row(tmp_path, RUN, {"status": "done", "train_loss": 1.0})
    pack(tmp_path)
    cut = write_row(tmp_path, RUN, {"status": "done", "train_loss": 2.0})
    cut.write_bytes(cut.read_bytes()[:40])
    outcome = pack(tmp_path)
    assert (outcome.rows, outcome.added) == (1, 0)
    assert len(outcome.damaged) == 1
    assert str(cut) in outcome.damaged[0]
    assert cut.exists()
    with pytest.warns(UserWarning, match=cut.name):
        assert [result["train_loss"] for result in read_rows(tmp_path).values()] == [1.0]


@given(st.binary(min_size=1, max_size=3), st.floats(0, 1, exclude_max=True))
def test_any_changed_bytes_of_a_line_are_noticed(tmp_path_factory, noise, place):
    folder, named = tmp_path_factory.mktemp("rows"), []
    write_row(folder, RUN, RESULT)
    pack(folder)
    path = folder / PACKED
    content = path.read_bytes()
    start = int(place * len(content))
    path.write_bytes(content[:start] + noise + content[start + len(noise) :])
    found = read_rows(folder, on_damage=named.append)
    assert all(line.startswith(f"{path}, line ") for line in named)
    assert found or named
    assert all(row_document(RUN, result) == row_document(RUN, RESULT) for result in found.values())


def test_damaged_lines_are_named_by_number_and_kept_by_packing(tmp_path):
    lines = [packed_line(Run("d", "m", "sgd", 0.1, seed=seed), {"status": "done"}) for seed in range(4)]
    lines[1] = lines[1].replace(b"done", b"DONE")
    lines[2] = lines[2][:50]
    path = tmp_path / PACKED
    path.write_bytes(b"\n".join(lines))  # the last line has no end
    named: list[str] = []
    assert sorted(run.seed for run in read_rows(tmp_path, on_damage=named.append)) == [0, 3]
    assert [line.split(":")[0] for line in named] == [f"{path}, line 2", f"{path}, line 3"]
    write_row(tmp_path, Run("d", "m", "sgd", 0.1, seed=9), {"status": "done"})
    outcome = pack(tmp_path)
    assert (outcome.rows, outcome.added, len(outcome.damaged)) == (3, 1, 2)
    assert set(lines) <= set(path.read_bytes().split(b"\n"))


def test_lines_may_come_in_any_order_and_the_last_of_a_run_counts(tmp_path):
    run = Run("d", "m", "sgd", 0.1)
    parts = [packed_line(run, {"status": "done", "train_loss": loss}) for loss in (1.0, 2.0)]
    (tmp_path / PACKED).write_bytes(b"\n\r\n".join([packed_line(RUN, RESULT), *parts, b""]))
    assert [result["train_loss"] for each, result in read_rows(tmp_path).items() if each == run] == [2.0]
    assert pack(tmp_path).rows == 2


def test_a_line_of_another_version_is_named(tmp_path):
    from inna.experiments.rows.packed import _MEMBER, _digest

    text = b'{"run":{"dataset":"d","new_field":1},"result":{}}'
    (tmp_path / PACKED).write_bytes(text[:-1] + _MEMBER % _digest(text))
    with pytest.warns(UserWarning, match=r"rows\.jsonl, line 1: written by another version of inna"):
        assert read_rows(tmp_path) == {}


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.unlink"])
def test_a_killed_pack_loses_nothing(folder, moment):
    before = documents(folder)
    module, name = moment.rsplit(".", 1)
    code = (
        f"import os, pathlib, signal, sys; from inna.experiments.rows.pack import pack\n"
        f"{module}.{name} = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "pack(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == -signal.SIGKILL
    assert documents(folder) == before
    assert pack(folder).rows == len(before)
    assert documents(folder) == before
    assert {path.suffix for path in folder.iterdir() if not path.name.startswith(".")} == {".json", ".jsonl"}
    assert not list(folder.glob(".*.tmp"))


def test_nothing_is_removed_when_the_file_read_back_differs(folder, monkeypatch):
    before = documents(folder)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path)[:-9] if path.suffix == ".tmp" else read(path))
    with pytest.raises(OSError, match="differs from what was written"):
        pack(folder)
    monkeypatch.undo()
    assert documents(folder) == before
    assert not (folder / PACKED).exists()


def test_a_sweep_on_the_folder_is_not_disturbed(folder):
    code = (
        "import sys; from pathlib import Path; from inna.experiments.rows.lock import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = set(folder.iterdir())
        with pytest.raises(FolderInUseError, match=r"a sweep is running on .*; wait for it, or stop it"):
            pack(folder)
        assert set(folder.iterdir()) == before
        holder.kill()
    pack(folder)
    with lock(folder):
        pass


def test_a_sweep_on_a_packed_folder_runs_only_what_is_missing(tmp_path, monkeypatch):
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", "--epochs", "2", "--tuning-epochs", "1"]
    arguments += ["--grid", "0.01,0.1", "--schedules", "0", "--jobs", "1", "--out", str(tmp_path)]
    with monkeypatch.context() as without_pages:  # they take seconds
        without_pages.setattr("inna.experiments.report.write.write_report", lambda folder: folder / "report.html")
        assert inna([*arguments, "--seeds", "1"]) == 0
        first = {path.name for path in tmp_path.glob("*.row.json")}
        assert inna(["pack", str(tmp_path)]) == 0
        assert inna([*arguments, "--seeds", "1,2"]) == 0
    assert [path.name.split("-")[-2] for path in tmp_path.glob("*.row.json")] == ["seed2"]
    assert len(read_rows(tmp_path)) == len(first) + 1
    assert inna(["status", str(tmp_path)]) == 0
    assert inna(["report", str(tmp_path)]) == 0


def test_the_command_tells_what_it_did(folder, capsys):
    cut = next(folder.glob("*.row.json"))
    cut.write_bytes(b"{")
    rows = len(list(folder.glob("*.row.json"))) - 1
    assert inna(["pack", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"damaged, left as it is: {cut}: not JSON with a checksum" in said
    assert f"{folder / PACKED}: {rows} runs, {rows} of them added now" in said
    assert inna(["pack", str(folder / "absent")]) == 2
    assert "absent: no such folder" in capsys.readouterr().err


def test_results_are_the_same_from_packed_rows(folder):
    before = open_results(folder).summary
    pack(folder)
    assert repr(open_results(folder).summary) == repr(before)  # equal but for NaN, which is not equal to itself


def test_a_folder_of_the_first_version_is_read_and_packed(tmp_path):
    shutil.copytree(FIRST_VERSION, tmp_path, dirs_exist_ok=True)
    names = sorted(path.name for path in tmp_path.glob("*.row.json"))
    rows = read_rows(tmp_path, on_damage=pytest.fail)
    assert [row_path(tmp_path, run).name for run in rows] == names
    assert len(rows) == 10
    assert all(len(result["history"]) == run.epochs + 1 for run, result in rows.items())
    summary = open_results(tmp_path).summary
    assert [contender.label for contender in summary.study.contenders][:3] == ["SGD", "heavy ball", "Adam"]
    assert len(summary.rows()) == 10
    assert pack(tmp_path).rows == 10
    assert read_rows(tmp_path) == rows
    assert open_results(tmp_path).summary == summary


def test_a_history_reads_as_a_list_of_dictionaries():
    history = by_column(HISTORY)
    assert isinstance(history, History)
    assert history == HISTORY
    assert history == HISTORY
    assert history != HISTORY[:1]
    assert (history[-1], history[:1], history[5:]) == (HISTORY[-1], HISTORY[:1], [])
    assert repr(history) == repr(HISTORY)
    with pytest.raises(IndexError):
        _ = history[2]
    pd.testing.assert_frame_equal(pd.DataFrame(history), pd.DataFrame(HISTORY))
    for odd in ([], None, "text", [1], [{"epoch": 0}, {"loss": 1.0}], [{"epoch": 0}, {"epoch": 1, "loss": 1.0}]):
        assert by_column(odd) is odd


def test_rows_whose_history_changes_its_names_survive(tmp_path):
    odd = {"status": "done", "history": [{"epoch": 0}, {"epoch": 1, "loss": 1.0}]}
    write_row(tmp_path, RUN, odd)
    pack(tmp_path)
    assert read_rows(tmp_path) == {RUN: odd}


def test_the_benchmark_of_reading_prints_seconds_and_memory():
    script = Path(__file__).parents[3] / "benchmarks" / "read_rows.py"
    done = subprocess.run([sys.executable, str(script), "--rows", "20"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("20 rows of 30 epochs")
    assert "peak memory of the process" in done.stdout
