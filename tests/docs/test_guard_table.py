"""The tables about the guard in the docs are those of the rows and of the script that they name."""

from __future__ import annotations

import pytest

from scripts import ROOT, load_script

pytest.importorskip("altair", reason="needs altair, of the extra experiments")


def test_the_table_of_the_comparisons_is_that_of_the_rows():
    text = (ROOT / "docs" / "comparisons.md").read_text("utf-8")
    lines = list(load_script("docs/draw_guard.py").table())
    assert len(lines) > 6
    assert "\n".join(lines) in text


def test_the_table_of_wrong_bounds_is_that_of_the_benchmark(capsys, monkeypatch):
    script = load_script("benchmarks/loss_bound.py")
    monkeypatch.setattr("sys.argv", ["loss_bound.py"])
    script.main()
    text = (ROOT / "docs" / "algorithm.md").read_text("utf-8")
    head, _, *lines = capsys.readouterr().out.splitlines()
    shown = text.partition(head)[2].splitlines()[2 : 2 + len(lines)]
    for line, given in zip(lines, shown, strict=True):
        cells, expected = ([cell.strip() for cell in each.strip("|").split("|")] for each in (line, given))
        assert cells[0] == expected[0]
        for cell, known in zip(cells[1:], expected[1:], strict=True):
            # Runs at large learning rates amplify the rounding of another machine.
            assert cell == known or float(cell) == pytest.approx(float(known), rel=0.1)
