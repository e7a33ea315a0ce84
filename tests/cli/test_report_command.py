"""`inna report`: what it writes, and how often it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inna.cli import run
from inna.experiments.report.results_table import records
from inna.experiments.report.terminal import sentences
from inna.experiments.statistics.read import open_results
from inna.paper.descents import write_descents
from protocol_rows import descents, rows_of, study_of
from synthetic_study import save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    study = study_of(contenders=[each for each in study_of().contenders if each.label in ("SGD", "AdaGrad")])
    write_descents(tmp_path, descents())
    return save(tmp_path, study, rows_of(study))


def test_an_unknown_format_is_refused_before_anything_is_written(folder, capsys):
    before = set(folder.iterdir())
    assert run(["report", str(folder), "--figures", "pdf"]) == 2
    assert run(["report", "--figures", "pdf", str(folder)]) == 2
    assert "FOLDER" not in capsys.readouterr().err
    assert set(folder.iterdir()) == before


def test_each_file_is_read_once_and_a_reproduction_s_pictures_come_with_the_report_s(folder):
    code = """
import collections, json, os, sys
folder, opened = sys.argv[1], collections.Counter()
def count(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder):
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)
        opened.update([os.path.basename(arguments[0])] if not writes else [])
from inna.cli import run
from inna.experiments.report.results_table import records
from inna.experiments.report.terminal import sentences
from inna.experiments.statistics.read import open_results
sys.addaudithook(count)
status = run(["report", folder, "--figures", "svg"])
print(json.dumps([status, opened]))
"""
    kept = {path.name for path in folder.iterdir()}
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    status, opened = json.loads(last)
    assert status == 0
    pictures = [Path(line.removeprefix("figure: ")) for line in shown if line.startswith("figure: ")]
    assert {(picture.parent, picture.suffix, picture.is_file()) for picture in pictures} == {
        (folder / "figures", ".svg", True)
    }
    names = [picture.stem for picture in pictures]
    assert names.index("curves-training-loss") < names.index("figure-1-recovered") < names.index("figure-3")
    assert {"report.html", "reproduction.html", "figures"} <= {path.name for path in folder.iterdir()}
    assert opened == dict.fromkeys(kept | {"rows.jsonl"}, 1)  # looked for, too


def test_show_opens_the_last_page(folder, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert run(["report", str(folder), "--show"]) == 0
    assert opened == [(folder / "reproduction.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert run(["report", str(folder), "--show"]) == 1


def test_json_is_the_table_and_nothing_else(folder, capsys):
    assert run(["report", str(folder), "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert "report: " in shown.err
    summary = open_results(folder).summary
    assert document["optimizers"] == records(summary)
    assert [row["optimizer"] for row in document["optimizers"]] == ["SGD", "AdaGrad"]
    assert document["verdict"] == list(sentences(summary))
    assert document["measures"]["train_loss"] == "min"


def test_status_as_json_agrees_with_the_lines(folder, capsys):
    assert run(["status", str(folder)]) == 0
    lines = capsys.readouterr().out
    assert run(["status", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    done, left = document["done"], document["left"]
    assert f"{done} runs done ({document['diverged']} diverged), 0 running, 0 failed, {left} left" in lines
    assert [each["optimizer"] for each in document["optimizers"]] == ["SGD", "AdaGrad"]
    assert document["running"] == document["failed"] == []
    assert document["sweep"] is None


def test_an_unfinished_folder_has_runs_left_and_an_unknown_time(tmp_path, capsys):
    study = study_of(contenders=[each for each in study_of().contenders if each.label in ("SGD", "AdaGrad")])
    save(tmp_path, study, {})
    assert run(["status", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["done"] == 0
    assert document["left"] == sum(each["left"] for each in document["optimizers"]) > 0
    assert document["seconds_left"] is None


def test_a_folder_or_file_with_a_similar_name_is_proposed(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    near = folder.name[:-1] + "x"
    for command in ("report", "status", "pack"):
        assert run([command, near]) == 2
        assert f"{near}: no such folder. Did you mean '{folder.name}'?" in capsys.readouterr().err
    Path("my_task.py").write_text("def make_task(): ...\n", encoding="utf-8")
    assert run(["compare", "--task", "my_tsk.py"]) == 2
    assert "my_tsk.py. Did you mean 'my_task.py'?" in capsys.readouterr().err
    assert run(["compare", "--task", "my_task.py:mak_task"]) == 2
    assert "it has make_task. Did you mean 'make_task'?" in capsys.readouterr().err
