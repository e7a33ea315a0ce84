"""Folders with odd files: each is named and skipped, or shown as plain text; no hang and no traceback."""

from __future__ import annotations

import copy
import io
import json
import os
import socket
import unicodedata
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

import inna.files
import synthetic_study
from inna.cli import run
from inna.experiments.report.terminal import print_table
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.pack import pack
from inna.experiments.rows.packed import PACKED
from inna.experiments.rows.row_files import DamagedRowError, read_rows, row_path
from inna.experiments.statistics.read import open_results
from inna.experiments.study.study import Contender, Study
from inna.experiments.sweep.active_runs import FOLDER, SWEEP, Heartbeat, read_active_runs, read_active_sweep
from inna.files import LockedFile, write_document

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**3), 10**3),
    st.sampled_from([10**400, -(2**63), 2**63, -1, 0, 1e308, -1e308, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(
        [[], {}, [[]], [{}], {"float": "nan"}, {"float": []}, {"float": "x"}, "\x1b[2J", "\u202e", "[red]", ":x:"]
    ),
    st.sampled_from([30, 900]).map(lambda depth: json.loads("[" * depth + "]" * depth)),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
quick = settings(
    phases=(Phase.generate,),
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def study():
    contenders = (
        Contender("SGD", "sgd", grid=(0.01, 0.1), qs=(0.0,)),
        Contender("Adam", "adam", grid=(0.01,), qs=(0.0,)),
    )
    return synthetic_study.classification_study(contenders=contenders, epochs=3, tuning_epochs=2, seeds=(1, 2))


@pytest.fixture(scope="module")
def rows(study):
    return synthetic_study.rows_of(study)


def places(value, path=()):
    """The path of every member of a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(document, path, value):
    """``document`` with ``value`` at ``path``, or without the member there if the value is the string "gone"."""
    document = copy.deepcopy(document)
    *way, last = path
    inner = document
    for key in way:
        inner = inner[key]
    if value == "gone" and isinstance(inner, dict):
        del inner[last]
    else:
        inner[last] = value
    return document


def odd_document(data, document):
    """One to three members of ``document`` changed."""
    for _ in range(data.draw(st.integers(1, 3))):
        members = [path for path in places(document) if path]
        if not members:
            break
        path = data.draw(st.sampled_from(members))
        document = changed(document, path, data.draw(st.one_of(ODD, st.just("gone"))))
    return document


@pytest.fixture
def folder(tmp_path_factory, study):
    def make(documents):
        path = tmp_path_factory.mktemp("study")
        study.save(path)
        for (own, _), document in documents.items():
            write_document(row_path(path, own), document)
        return path

    return make


def shown(capsys, *arguments):
    """The status and the output of a command, which has no traceback and none of what a terminal would obey."""
    status = run(list(arguments))
    out, errors = capsys.readouterr()
    assert "Traceback" not in out + errors
    assert {unicodedata.category(letter) for letter in out + errors if letter != "\n"} & {"Cc", "Cf", "Cs"} == set()
    return status, out, errors


@quick
@given(data=st.data())
def test_an_odd_row_is_named_and_skipped_or_counts_and_everything_goes_on(folder, study, rows, capsys, data):
    kept, *others = rows.items()
    odd, result = data.draw(st.sampled_from(others))
    document = odd_document(data, row_document(odd, result))
    path = folder({(kept[0], 0): row_document(*kept), (odd, 0): document})
    named = []
    found = read_rows(path, on_damage=named.append)
    assert len(found) + len(named) == 2
    assert all(str(row_path(path, odd)) in line for line in named)
    status, out, _ = shown(capsys, "status", str(path))
    assert status == 0
    assert out.count("damaged: ") == len(named)
    print_table(open_results(path).summary, Console(file=io.StringIO()))
    packed = pack(path)
    assert packed.added == len(found)
    assert len(packed.damaged) == len(named)
    again = []
    assert read_rows(path, on_damage=again.append).keys() == found.keys()
    assert len(again) == len(named)


@settings(quick, max_examples=4)
@given(data=st.data())
def test_a_report_of_odd_rows_is_written(folder, rows, capsys, data):
    documents = {(own, 0): row_document(own, result) for own, result in rows.items()}
    for place in data.draw(st.lists(st.sampled_from(sorted(documents, key=str)), min_size=1, max_size=3, unique=True)):
        documents[place] = odd_document(data, documents[place])
    path = folder(documents)
    status, _, errors = shown(capsys, "report", str(path))
    assert status == 0 or "no run of the study is done yet" in errors
    assert (path / "report.html").exists() == (status == 0)


@quick
@given(data=st.data())
def test_an_odd_study_is_refused_in_one_line_or_is_one(folder, study, rows, capsys, data):
    path = folder({(own, 0): row_document(own, result) for own, result in list(rows.items())[:2]})
    document = json.loads((path / "study.json").read_bytes())
    del document["sha256"]
    write_document(path / "study.json", odd_document(data, document))
    try:
        Study.load(path)
        refusal = ""
    except DamagedRowError as error:
        refusal = str(error)
    status, _, errors = shown(capsys, "status", str(path))
    assert status == (2 if refusal else 0)
    assert bool(refusal) == ("study.json" in errors)
    assert errors.count("\n") == bool(refusal)


@quick
@given(data=st.data())
def test_odd_announcements_and_failures_are_named_and_skipped(folder, rows, capsys, data):
    own = next(iter(rows))
    path = folder({})
    with Heartbeat(path, own) as heartbeat:
        announced = json.loads(heartbeat.file.path.read_bytes())
    odd = LockedFile(path / FOLDER / "odd.json")
    sweep = LockedFile(path / FOLDER / SWEEP)
    odd.write(json.dumps(odd_document(data, announced)).encode())
    sweep.write(json.dumps(odd_document(data, {"pid": 1, "host": "x", "jobs": 2, "started": 1.0})).encode())
    write_document(path / "failures.json", odd_document(data, {"failures": [["key", "run", "error"]]}))
    try:
        status, out, _ = shown(capsys, "status", str(path))
        named = []
        running = read_active_runs(path, named.append)
        active = read_active_sweep(path, named.append)
    finally:
        odd.close()
        sweep.close()
    assert status == 0
    assert len(running) + (active is not None) + len(named) == 2
    assert f"{len(running)} running" in out
    assert ("A sweep is running" in out) == (active is not None)


def make_socket(path):
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


ODD_FILES = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "nowhere": lambda path: path.symlink_to("nothing"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_file_is_named_and_skipped_by_every_command(folder, rows, capsys, kind, monkeypatch):
    monkeypatch.setattr("inna.experiments.report.write.build_page", lambda results: "page")
    path = folder({(own, 0): row_document(own, result) for own, result in rows.items()})
    (path / FOLDER).mkdir()
    places = [path / "a.row.json", path / FOLDER / "b.json", path / FOLDER / SWEEP, path / "failures.json"]
    for place in places:
        ODD_FILES[kind](place)
    status, out, _ = shown(capsys, "status", str(path))
    assert status == 0
    for place in places if kind != "nowhere" else places[:1]:
        assert f"damaged: {place}: " in out
    status, out, _ = shown(capsys, "report", str(path))
    assert status == 0
    assert f"Skipped: {places[0]}: " in out
    status, out, _ = shown(capsys, "pack", str(path))
    assert status == 0
    assert f"damaged, left as it is: {places[0]}: " in out
    assert os.path.lexists(places[0])
    (path / PACKED).rename(path / "kept")
    ODD_FILES[kind](path / PACKED)
    if kind != "nowhere":
        assert f"damaged: {path / PACKED}: " in shown(capsys, "status", str(path))[1]
        assert shown(capsys, "pack", str(path))[0] in (1, 2)
        assert os.path.lexists(path / PACKED)


def test_every_command_removes_what_a_killed_one_left(folder, rows, capsys, monkeypatch):
    monkeypatch.setattr("inna.experiments.report.write.build_page", lambda results: "page")
    path = folder({(own, 0): row_document(own, result) for own, result in rows.items()})
    left = path / f".{socket.gethostname()}-1-left.tmp"
    for arguments in (
        ["report", str(path)],
        ["pack", str(path)],
        ["landscape", "--steps", "9", "--out", str(path)],
        ["landscape", "--interactive", "--out", str(path)],
    ):
        left.touch()
        assert shown(capsys, *arguments)[0] == 0
        assert not left.exists()


def test_another_user_sees_what_can_be_read(folder, rows, capsys, monkeypatch):
    path = folder({(own, 0): row_document(own, result) for own, result in rows.items()})
    closed = [row_path(path, next(iter(rows))), path / FOLDER / "a.json", path / FOLDER / SWEEP, path / "failures.json"]
    (path / FOLDER).mkdir()
    for file in closed[1:]:
        file.touch()
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    really = os.open

    def refuse(file, *arguments, **options):
        if Path(file) in closed:
            raise PermissionError(13, "Permission denied", str(file))
        return really(file, *arguments, **options)

    monkeypatch.setattr(inna.files.os, "open", refuse)
    status, out, _ = shown(capsys, "status", str(path))
    assert status == 0
    for file in closed:
        assert f"damaged: {file}: cannot be read (Permission denied)" in out
    monkeypatch.undo()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_names_are_plain_text(tmp_path, capsys):
    hostile = "[red]:x: \x1b[31m\u202eab\x07"
    plain = "[red]:x: \ufffd[31m\ufffdab\ufffd"
    contenders = (Contender(f"{hostile}1", "sgd", grid=(0.1,), qs=(0.0,)), Contender("Adam", hostile, grid=(0.1,)))
    study = synthetic_study.classification_study(
        dataset=hostile, model=hostile, contenders=contenders, reference="Adam", command=hostile
    )
    synthetic_study.save(tmp_path, study, {})
    inna.files.write_document(tmp_path / "failures.json", {"failures": [["key", hostile, hostile]]})
    file = LockedFile(tmp_path / FOLDER / "a.json")
    state = {"key": "k", "text": hostile, "epoch": 1, "epochs": 2, "train_loss": None}
    file.write(json.dumps({"state": state}).encode())
    try:
        status, out, _ = shown(capsys, "status", str(tmp_path))
    finally:
        file.close()
    assert status == 0
    assert out.count(plain) == 7
