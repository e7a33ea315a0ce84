"""The claims about Figure 1: each can hold, fail to hold, and lack descents."""

from __future__ import annotations

import dataclasses
import math

import pytest

from inna.paper.descents import Descent, descend
from inna.paper.figure1_claims import FIGURE_1_CLAIMS, across, along
from inna.paper.reproduction import judge_figure1

NAMES = [claim.name for claim in FIGURE_1_CLAIMS]

END = 88_000


def descent(
    alpha: float, beta: float, *, across: float, along: float, middle: float, end: float, label: str = "recovered"
) -> Descent:
    """A made-up descent with these swings, and these values of log₁₀ J in the middle and at the end."""
    iteration = tuple(range(0, END + 1, 1000))
    theta1 = tuple(-1.0 if k < 30_000 else 1 + along * math.cos((k - 40_000) / 9_000) for k in iteration)
    theta2 = tuple(
        abs(x) + (0.5 if k < 5_000 else across * math.sin(k)) for k, x in zip(iteration, theta1, strict=True)
    )
    log10_loss = tuple(1.4 if k < 20_000 else middle if k <= 60_000 else end for k in iteration)
    return Descent(label, alpha, beta, 0.1, (), iteration, log10_loss, theta1, theta2)


A = descent(0.3, 0.01, across=0.3, along=0.5, middle=-0.3, end=-0.6)
B = descent(0.3, 0.1, across=0.03, along=0.4, middle=-0.4, end=-1.2)
C = descent(1.3, 0.1, across=0.01, along=0.05, middle=-0.1, end=-4.0)


def changed(original: Descent, **series: tuple[float, ...]) -> Descent:
    return dataclasses.replace(original, **series)


def outcomes(*descents: Descent) -> dict[str, str]:
    return {verdict.name: verdict.outcome for verdict in judge_figure1(descents)}


def test_all_hold_for_descents_like_the_paper_s():
    assert outcomes(A, B, C) == outcomes(C, A, B) == dict.fromkeys(NAMES, "holds")


GONE = changed(A, theta1=tuple(1 + k / 1000 for k in range(89)))


@pytest.mark.parametrize(
    ("descents", "failing"),
    [
        ([descent(0.3, 0.01, across=0.09, along=0.5, middle=-0.3, end=-0.6), B, C], [0, 1]),
        ([descent(0.3, 0.01, across=0.3, along=0.09, middle=-0.3, end=-0.6), B, C], [0]),
        ([GONE, B, C], [0]),
        ([A, descent(0.3, 0.1, across=0.12, along=0.4, middle=-0.4, end=-1.2), C], [1]),
        ([A, descent(0.3, 0.1, across=0.03, along=0.09, middle=-0.4, end=-1.2), C], [2]),
        ([A, B, descent(1.3, 0.1, across=0.01, along=0.11, middle=-0.1, end=-4.0)], [2]),
        ([A, B, descent(1.3, 0.1, across=0.01, along=0.05, middle=-0.35, end=-4.0)], [3]),
        ([A, B, descent(1.3, 0.1, across=0.01, along=0.05, middle=-0.1, end=-1.1)], [3]),
    ],
)
def test_each_can_fail(descents, failing):
    expected = dict.fromkeys(NAMES, "holds") | {NAMES[place]: "does not hold" for place in failing}
    if descents[0] is GONE:
        # It swings across as A does; only coming back is missing.
        expected["beta-damps-across"] = outcomes(*descents)["beta-damps-across"]
    assert outcomes(*descents) == expected


@pytest.mark.parametrize("descents", [[A], [A, B], [B, C], [A, A, C], [A, B, B], [A, B, C, C]])
def test_all_lack_descents_where_a_panel_is_missing_or_unclear(descents):
    assert outcomes(*descents) == dict.fromkeys(NAMES, "not enough runs")
    assert not any(verdict.numbers for verdict in judge_figure1(descents))


def test_each_label_has_its_own_verdicts():
    caption = [dataclasses.replace(each, label="caption", initial_speed=1.0) for each in (GONE, B, C)]
    found = judge_figure1([A, B, C, *caption])
    assert [verdict.when for verdict in found[::4]] == [
        "recovered settings, initial speed 0.1",
        "caption settings, initial speed 1",
    ]
    assert [verdict.outcome for verdict in found[::4]] == ["holds", "does not hold"]
    assert "it ends at (1.09, " not in found[4].sentence
    assert judge_figure1([]) == []


def test_a_descent_that_leaves_is_reported():
    far = changed(
        A, theta1=tuple(-1.0 + 123 * k / 88 for k in range(89)), theta2=tuple(123 * k / 88 for k in range(89))
    )
    verdict = judge_figure1([far, B, C])[0]
    assert verdict.outcome == "does not hold"
    assert verdict.sentence.endswith("; it ends at (122, 123).")


def test_the_measures_of_the_swings():
    assert along(A) == pytest.approx(0.5, abs=0.01)
    assert along(C) == pytest.approx(0.05, abs=0.001)
    assert along(GONE) == 0
    assert across(A) == pytest.approx(0.3, abs=0.01)
    assert judge_figure1([A, B, C])[2].numbers[0].paper == "0.394"


def test_the_descents_of_the_paper(tmp_path):
    """The recovered settings bear the text out; the caption's do not."""
    descents = descend(tmp_path)
    found = judge_figure1(descents)
    assert [verdict.outcome for verdict in found[:4]] == ["holds"] * 4
    # As the caption has it, the descent with small beta leaves for (122, 122): no oscillation along the valley.
    assert found[4].outcome == "does not hold"
    assert found[4].sentence.endswith("; it ends at (122, 122).")
    assert [along(each) for each in descents[:3]] == pytest.approx([0.488, 0.394, 0.051], abs=2e-3)
