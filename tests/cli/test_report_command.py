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


def test_the_pictures_of_a_reproduction_come_with_those_of_the_report(folder, monkeypatch):
    drawn = []

    def write_pictures(figures, into, formats):
        drawn.append(([figure.name for figure in figures], into, formats))
        return []

    monkeypatch.setattr("inna.experiments.charts.pictures.write_pictures", write_pictures)
    assert run(["report", str(folder), "--figures", "svg"]) == 0
    ((names, into, formats),) = drawn
    assert (into, formats) == (folder / "figures", ("svg",))
    assert names.index("curves-training-loss") < names.index("figure-1-recovered") < names.index("figure-3")


def test_an_unknown_format_is_refused_before_anything_is_written(folder):
    before = set(folder.iterdir())
    assert run(["report", str(folder), "--figures", "pdf"]) == 2
    assert set(folder.iterdir()) == before


def test_each_file_is_read_once(folder):
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
    status, opened = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert {"report.html", "reproduction.html", "figures"} <= {path.name for path in folder.iterdir()}
    assert opened == dict.fromkeys(kept, 1)
