"""Tables and pages of numbers near the ends of the floating-point range; what cannot be shown is named."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from inna.experiments.report.difference_words import compared
from inna.experiments.report.page import build_page
from inna.experiments.report.terminal import print_table
from inna.experiments.rows.run import Metric, Run
from inna.experiments.statistics.intervals import Difference
from inna.experiments.statistics.read import open_results
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.study import Contender, Study
from synthetic_study import classification_study, rows_of, save

HUGE = 1.7e308
extreme = st.sampled_from([HUGE, -HUGE, 5e-324, -1e-310, 0.0, 1.0]) | st.floats(allow_nan=False, allow_infinity=False)


def small_study() -> Study:
    return classification_study(
        contenders=tuple(Contender(name, name.lower(), grid=(0.01, 0.1, 1.0), qs=(0.0,)) for name in ("SGD", "Adam")),
        metrics=(Metric("score", "max"),),
    )


def with_values(study: Study, losses: list[float], scores: list[float]) -> dict[Run, dict[str, Any]]:
    """The rows of ``study`` with these losses and scores at their ends, in turn."""
    rows = rows_of(study)
    for row, loss, score in zip(rows.values(), itertools.cycle(losses), itertools.cycle(scores), strict=False):
        for entry in (row, row["history"][-1]):
            entry |= {"train_loss": loss, "test_loss": loss, "test_score": score}
    return rows


def table(study: Study, rows: dict[Run, dict[str, Any]]) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_table(summarize(study, rows), console)
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return shown


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(extreme, min_size=1, max_size=9), st.lists(extreme, min_size=1, max_size=9))
def test_any_numbers_make_a_table(losses: list[float], scores: list[float]) -> None:
    shown = table(small_study(), with_values(small_study(), losses, scores))
    assert "SGD" in shown
    assert "Adam" in shown
    assert not re.search(r"\bnan\b|\binf\b", shown)


def test_a_difference_that_no_number_holds_is_named() -> None:
    study = small_study()
    rows = with_values(study, [0.5, 0.25, 0.125], [1.0])
    for run, row in rows.items():
        row["test_score"] = HUGE if run.optimizer == "adam" else -HUGE
    shown = " ".join(table(study, rows).split())
    assert "Adam: the difference to SGD in test score is too large for a number." in shown
    assert "−1.7e308" in shown
    assert "+∞" in shown
    assert "0.2" in shown  # the losses


@pytest.mark.parametrize(
    ("losses", "scores"),
    [([0.5], [-1e308]), ([HUGE], [HUGE, -HUGE]), ([HUGE, 5e-324], [5e-324, 0.0]), ([-HUGE, HUGE], [1.0, HUGE])],
)
def test_any_numbers_make_a_page(tmp_path, losses: list[float], scores: list[float]) -> None:
    study = small_study()
    page = build_page(open_results(save(tmp_path, study, with_values(study, losses, scores))))
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for text in found:
        json.loads(text, parse_constant=refuse)
    assert math.isfinite(len(page))


def test_losses_that_are_equal_on_every_seed_are_called_so_once():
    equal = compared(Difference(0.0, 0.0, 0.0, 3, 1.0, True), Metric("train_loss", "min"), 4, 4)
    assert (equal.mean, equal.interval, equal.margin) == ("equal", "equal", "equal")
    near = compared(Difference(0.0, -0.1, 0.1, 3, 1.0, True), Metric("train_loss", "min"), 4, 4)
    assert near.margin == "equal (1.3× lower to 1.3× higher)"
