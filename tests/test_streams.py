"""Output whose encoding lacks letters, or that nobody reads: commands go on in plain letters, or end quietly."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import inna
import synthetic_study
import tiny_task
from inna.cli import app, run
from inna.experiments.formatting import print_line
from inna.experiments.report.terminal import print_table
from inna.experiments.statistics.summary import summarize
from inna.streams import close_streams, spell, spell_missing_letters
from source_rules import read_sources

ROOT = Path(__file__).parent.parent
SPEAKING = ("cli", "experiments", "interrupts", "landscape", "paper", "theory", "torch", "checks", "dynamics")


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "koi8-r", "utf-8", "utf-16", "nonsense"]))
def test_any_text_can_be_written_in_any_encoding(text, encoding):
    spelled = spell(text, encoding)
    known = "ascii" if encoding == "nonsense" else encoding
    spelled.encode(known)
    kept = "".join(letter for letter in text if spell(letter, encoding) == letter)
    assert spell(kept, encoding) == kept
    assert text.isascii() <= (spelled == text)


def texts(source):
    return [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]


def test_every_letter_of_our_texts_has_a_spelling():
    rooms = {name: source for name, source in read_sources(ROOT / "src" / "inna").items() if name.count(".")}
    said = [text for name, source in rooms.items() if name.split(".")[1] in SPEAKING for text in texts(source)]
    letters = {letter for text in said if isinstance(text, str) for letter in text if not letter.isascii()}
    assert {"γ", "±", "−"} <= letters
    assert {letter for letter in letters if "?" in spell(letter, "ascii")} <= {"\ufffd", *SURROGATES}


class Stream(io.TextIOWrapper):
    """Standard output or error as Python makes them: strict about letters."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


def open_streams(monkeypatch, encoding):
    """Put such streams in place, and let the command line prepare them."""
    streams = Stream(encoding), Stream(encoding)
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    spell_missing_letters()
    return streams


SURROGATES = (chr(0xD800), chr(0xDFFF))  # the bounds of a check
FEW = ["--epochs", "1", "--tuning-epochs", "1", "--seeds", "1,2", "--grid", "0.1,0.5"]
FEW += ["--schedules", "0.5", "--jobs", "1"]


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_every_command_goes_on_where_letters_are_missing(encoding, tmp_path, monkeypatch):
    out, errors = open_streams(monkeypatch, encoding)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("inna.experiments.report.write.write_report", lambda results: Path("report.html"))
    folder = synthetic_study.save(
        tmp_path / "γ", study := synthetic_study.regression_study(), synthetic_study.rows_of(study)
    )
    optimizers = ["--optimizer", "sgd", "--optimizer", "tiny_task:Fragile"]
    for arguments, status in (
        *(([*command, "--help"], 0) for command in ([], *([name] for name in app if not name.startswith("-")))),
        (["status", str(folder)], 0),
        (["report", str(folder)], 0),
        (["pack", str(folder)], 0),
        (["datasets"], 0),
        (["datasets", "mnist"], 0),
        (["landscape", "--steps", "50", "--out", "γ-paths"], 0),
        (["theory-check", "--only", "rates"], 0),
        (["train", "inna", "--task", tiny_task.PATH, "--epochs", "1", "--out", "γ-train"], 0),
        (["compare", "--task", tiny_task.PATH, *optimizers, *FEW, "--out", "γ-compare"], 1),
        (["compare", "--optimizer", "sgd:γ=1"], 2),
        (["compare", "--γ"], 2),
        (["report", "ψ"], 2),
    ):
        assert run(arguments) == status, (arguments, errors.text())
    assert "gamma" in out.text()
    assert ("×" in out.text()) == (encoding == "latin-1")  # of ratios
    assert "inna: 1 run failed" in errors.text()
    assert "gamma 0.5" in errors.text()
    assert "UnicodeEncodeError" not in errors.text()
    assert (tmp_path / "γ" / "rows.jsonl").stat().st_size > 0


def test_columns_stay_in_line(monkeypatch):
    out, _ = open_streams(monkeypatch, "ascii")
    study = synthetic_study.classification_study()
    print_table(summarize(study, synthetic_study.rows_of(study)), Console(width=100))
    first = out.text().split("\n\n")[0].splitlines()
    ends = {line.rstrip().find("]") for line in first if "]" in line and "[worst" not in line}
    assert len(ends) == 1


def test_a_locale_without_letters():
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment |= {"PYTHONPATH": str(Path(inna.__file__).parents[1]), "PYTHONIOENCODING": ""}
    shown = subprocess.run(
        [sys.executable, "-m", "inna", "landscape", "--help"], env=environment, capture_output=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"decay gamma (k+1)^-q" in shown.stdout


def test_a_line_is_printed_as_it_is():
    console = Console(file=io.StringIO(), width=20, force_terminal=True, color_system=None)
    print_line(console, "[red]:smile: :x:[/red] \x1b[31m\u202eab\u2066\x07 two\nlines\tand more than twenty letters")
    assert console.file.getvalue() == (
        "[red]:smile: :x:[/red] \ufffd[31m\ufffdab\ufffd\ufffd two lines and more than twenty letters\n"
    )


@pytest.mark.parametrize(("arguments", "status"), [(["datasets"], 1), (["status", "nowhere"], 2)])
def test_a_command_whose_reader_has_gone_says_nothing(arguments, status):
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "inna", *arguments]
    shown = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False, text=True)
    assert shown.returncode == status
    assert shown.stderr == ("" if status == 1 else "inna: nowhere: no such folder\n")
    assert subprocess.run(command, env=environment, stdout=writer, stderr=writer, check=False).returncode in (1, status)
    os.close(writer)


@pytest.mark.parametrize("target", ["/dev/full", None])
def test_output_that_cannot_be_written_or_is_closed_leaves_no_traceback(target):
    if target and not Path(target).exists():
        pytest.skip(f"no {target}")
    code = "import sys; from inna.streams import close_streams; sys.stdout and sys.stdout.write('x'); close_streams()"
    redirect = f">{target}" if target else ">&-"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": ""},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_streams_that_are_no_files_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    spell_missing_letters()
    close_streams()
