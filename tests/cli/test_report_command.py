"""`inna report`: what it writes, and how often it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inna.cli import run
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
