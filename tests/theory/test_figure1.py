"""Figure 1: the dips of the loss against the published ones, and the curves that the caption's settings give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from inna.theory import figure1
from inna.theory.demonstrations import run_demonstrations
from inna.theory.objectives import ROSENBROCK_V

# The dips computed with the recovered settings, by panel.
COMPUTED = {"a": (45077, 73174), "b": (45368, 70598, 87202), "c": (71649, 80991, 87667)}


def test_the_recovered_settings_dip_within_12_iterations_of_the_published_curves() -> None:
    assert figure1.PAPER_DIPS == {"a": (45089, 73185), "b": (45380, 70609, 87212), "c": (71660,)}
    assert figure1.DIP_TOLERANCE == 12
    assert [curve[2:] for curve in figure1.RECOVERED] == [(0.3, 0.01, 0.1), (0.3, 0.1, 0.1), (1.3, 0.1, 0.1)]
    for n, curve in enumerate(figure1.RECOVERED):
        computed = figure1.dips(figure1.iterates()[:, n])
        assert computed == pytest.approx(list(COMPUTED[curve.panel]), abs=10)
        found = figure1.compare_dips(computed, figure1.PAPER_DIPS[curve.panel])
        assert found.agrees
        assert found.further == pytest.approx(figure1.FURTHER_DIPS.get(curve.panel, ()), abs=10)


def test_a_comparison_fails_beyond_the_tolerance_and_where_dips_are_missing() -> None:
    published = figure1.PAPER_DIPS["a"]
    assert figure1.compare_dips([45077, 73173], published) == ((45077, 73173), (), 12)
    assert figure1.compare_dips([45101, 73185], published).agrees
    assert not figure1.compare_dips([45102, 73185], published).agrees
    assert not figure1.compare_dips([45076, 73185], published).agrees
    assert not figure1.compare_dips([45089], published).agrees
    assert figure1.compare_dips([], published) == ((), (), math.inf)
    # One dip cannot account for two published ones.
    assert not figure1.compare_dips([100], [95, 105]).agrees


@pytest.mark.parametrize(
    ("panel", "dips"),
    [
        ("a", (45077 - 1, 73174)),
        ("b", (45368, 70598)),
        ("b", (45368, 70598, 80000, 87202)),
        ("c", (71649,)),
        ("c", (71649, 80991, 87667 + 13)),
    ],
    ids=["shifted", "missing", "further", "without the further ones", "further one shifted"],
)
def test_the_demonstration_fails_where_a_dip_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch, panel: str, dips: Sequence[int]
) -> None:
    def answers(changed: dict[str, Sequence[int]]) -> list[Sequence[int]]:
        return list((COMPUTED | changed).values())

    for expected, found in ((True, answers({})), (False, answers({panel: dips}))):
        monkeypatch.setattr(figure1, "dips", lambda path, found=found: found.pop(0))
        monkeypatch.setattr(figure1, "iterates", lambda: np.empty((1, 6, 2)))
        (finding,) = run_demonstrations(["figure-1"])
        assert finding.holds is expected


def test_the_recovered_trajectories_reach_as_far_as_the_paper_s() -> None:
    path = figure1.iterates()
    assert path.shape == (88_001, 6, 2)
    np.testing.assert_array_equal(path[0], [[-1.0, 1.5]] * 6)
    np.testing.assert_allclose(path[:, :3, 0].min(axis=0), [-1.673, -1.274, -1.270], atol=1e-3)
    np.testing.assert_allclose(path[:, :3, 0].max(axis=0), [1.488, 1.394, 1.051], atol=1e-3)
    # The first step by hand: initial speed 0.1 in panel (a) gives m_0 = 0.09 g_0.
    grad = ROSENBROCK_V.gradient([-1.0, 1.5])
    np.testing.assert_allclose(path[1, 0], [-1.0, 1.5] - 1e-4 * 0.1 * grad, rtol=1e-14)


def test_the_caption_s_settings_give_other_curves() -> None:
    path = figure1.iterates()
    for n, curve in enumerate(figure1.CAPTION, start=3):
        assert curve.initial_speed == 1.0
        found = figure1.dips(path[:, n])
        published = figure1.PAPER_DIPS[curve.panel]
        assert all(min((abs(dip - ours) for ours in found), default=np.inf) > 100 for dip in published)
    # In panel (a) the iterates leave the valley and end far from the minimiser (1, 1).
    np.testing.assert_allclose(path[-1, 3], [121.8, 121.8], atol=0.1)
