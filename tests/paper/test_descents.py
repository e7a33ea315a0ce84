"""The file of Figure 1: it is read as written, and damage is detected."""

from __future__ import annotations

import dataclasses

import pytest

from inna.experiments.rows.row_files import DamagedRowError
from inna.files import write_document
from inna.paper.descents import FIGURE_1, Descent, read_descents, write_descents

DESCENT = Descent("recovered", 0.3, 0.01, 0.1, (2, 3), (0, 2, 4), (1.4, -0.5, -2.0), (-1.0, 0.0, 1.0), (1.5, 0.2, 1.0))


def test_descents_are_read_as_written(tmp_path):
    descents = (DESCENT, dataclasses.replace(DESCENT, label="caption", alpha=0.5, initial_speed=1, dips=()))
    write_descents(tmp_path / "new", descents)
    assert read_descents(tmp_path / "new") == descents


def test_a_folder_without_the_file_has_no_descents(tmp_path):
    assert read_descents(tmp_path) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta1": (0.0,)}, "theta1 must contain a finite number for each"),
        ({"log10_loss": (1.0, float("nan"), 0.0)}, "log10_loss must contain a finite number"),
        ({"iteration": (0, 4, 2)}, "ascending"),
        (dict.fromkeys(("iteration", "log10_loss", "theta1", "theta2"), ()), "at least one"),
        ({"beta": -1.0}, "beta"),
    ],
)
def test_invalid_descents_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DESCENT, **changes)


@pytest.mark.parametrize("body", [{}, {"figure1": [{"label": "caption"}]}, {"figure1": 3}])
def test_other_documents_are_refused(tmp_path, body):
    write_document(tmp_path / FIGURE_1, body)
    with pytest.raises(DamagedRowError, match="not the descents of Figure 1"):
        read_descents(tmp_path)


def test_an_altered_file_is_detected(tmp_path):
    path = write_descents(tmp_path, [DESCENT])
    path.write_text(path.read_text(encoding="utf-8").replace("-0.5", "-0.6"), encoding="utf-8")
    with pytest.raises(DamagedRowError, match="checksum"):
        read_descents(tmp_path)
