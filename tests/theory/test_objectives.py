"""Gradients against differences, critical points against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import Polynomial

from inna.theory.objectives import (
    BEALE,
    CANCELLING_ABS,
    DOUBLE_WELL,
    MONKEY_SADDLE,
    ROSENBROCK,
    ROSENBROCK_V,
    SPLIT_LINE,
    SPURIOUS_CORNER,
    SPURIOUS_VALLEY,
    Objective,
    piecewise_linear,
    power,
    quadratic,
)

OBJECTIVES = [
    ROSENBROCK_V,
    ROSENBROCK,
    BEALE,
    DOUBLE_WELL,
    MONKEY_SADDLE,
    CANCELLING_ABS,
    SPLIT_LINE,
    SPURIOUS_VALLEY,
    SPURIOUS_CORNER,
    power(1.0),
    power(3.0),
    power(6.0),
    quadratic([1.0, 4.0, 0.25], seed=3),
    quadratic([2.0, -1.0]),
]
SMOOTH = [objective for objective in OBJECTIVES if objective.kinks is None]


def named(objectives: list[Objective]) -> list:
    return [pytest.param(objective, id=objective.name + " " + objective.formula[:8]) for objective in objectives]


def difference(objective: Objective, theta: np.ndarray, reach: float = 1e-6) -> np.ndarray:
    shifts = reach * np.eye(objective.dimension)
    return (objective.value(theta[..., None, :] + shifts) - objective.value(theta[..., None, :] - shifts)) / (2 * reach)


@pytest.mark.parametrize("objective", named(OBJECTIVES))
def test_gradient_is_the_derivative_off_the_kinks(objective: Objective) -> None:
    points = np.random.default_rng(0).uniform(-2, 2, size=(200, objective.dimension))
    if objective.kinks is not None:
        points = points[np.min(np.abs(objective.kinks(points)), axis=-1) > 1e-5]
    assert len(points) > 150
    np.testing.assert_allclose(
        objective.gradient(points), difference(objective, points), atol=1e-6, rtol=1e-6 * (1 + objective.dimension)
    )
    assert objective.value(points).shape == (len(points),)
    assert objective.gradient(points[0]).shape == (objective.dimension,)


@pytest.mark.parametrize("objective", named(SMOOTH))
def test_gradient_vanishes_at_critical_points(objective: Objective) -> None:
    assert np.max(np.abs(objective.gradient(objective.critical_points)), initial=0.0) < 1e-13
    assert len(objective.spurious_points) == 0


@pytest.mark.parametrize("objective", named(OBJECTIVES))
def test_minimisers_are_lower_than_points_around_them(objective: Objective) -> None:
    points = np.random.default_rng(1).uniform(-5, 5, size=(20_000, objective.dimension))
    for minimiser in objective.minimisers:
        least = objective.value(minimiser)
        assert np.all(objective.value(points) >= least)
        assert np.all(objective.value(minimiser + 1e-3 * points) >= least)


@pytest.mark.parametrize("objective", named(SMOOTH))
def test_saddles_have_a_descent_and_an_ascent_direction(objective: Objective) -> None:
    directions = np.random.default_rng(2).standard_normal((2000, objective.dimension))
    for saddle in objective.saddles:
        change = objective.value(saddle + 1e-3 * directions) - objective.value(saddle)
        assert change.min() < 0 < change.max()


def test_beale_has_no_other_critical_point() -> None:
    y = Polynomial([0.0, 1.0])
    gaps, targets = [1 - y**i for i in (1, 2, 3)], (1.5, 2.25, 2.625)
    top = sum(target * gap for target, gap in zip(targets, gaps, strict=True))
    bottom = sum(gap * gap for gap in gaps)
    # dJ/dt1 = 0 gives t1 = top/bottom (or t2 = 1); what is left of dJ/dt2 = 0 is a polynomial in t2.
    left = sum(
        (c * bottom - top * gap) * i * y ** (i - 1) for i, (c, gap) in enumerate(zip(targets, gaps, strict=True), 1)
    )
    real = [root.real for root in left.roots() if abs(root.imag) < 1e-9 and abs(root - 1) > 1e-3]
    found = sorted([(float(top(t2) / bottom(t2)), t2) for t2 in real] + [(0.0, 1.0)])
    np.testing.assert_allclose(found, sorted(map(tuple, BEALE.critical_points)), atol=1e-9)


def test_quadratic_has_the_spectrum_it_was_given() -> None:
    spectrum = [-1.0, 0.5, 3.0, 7.0]
    hessian = quadratic(spectrum, seed=11).gradient(np.eye(4))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), spectrum, atol=1e-13)


@pytest.mark.parametrize("objective", named([CANCELLING_ABS, SPLIT_LINE, SPURIOUS_VALLEY, SPURIOUS_CORNER]))
def test_terms_add_up_to_the_gradient(objective: Objective) -> None:
    points = np.random.default_rng(4).integers(-2, 3, size=(50, objective.dimension)) / 2
    for point in points:  # many of them on kinks
        np.testing.assert_array_equal(objective.term_gradients(point).sum(axis=0), objective.gradient(point))


def test_backpropagation_returns_zero_at_the_spurious_points() -> None:
    for objective in (SPLIT_LINE, SPURIOUS_VALLEY, SPURIOUS_CORNER):
        np.testing.assert_array_equal(objective.gradient(objective.spurious_points), 0 * objective.spurious_points)
        around = np.random.default_rng(5).standard_normal((500, objective.dimension)) * 1e-3
        assert np.min(np.linalg.norm(objective.gradient(objective.spurious_points[0] + around), axis=1)) >= 1


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"exponent must be a finite number >= 1, got 0.5"):
        power(0.5)
    with pytest.raises(ValueError, match="at least one eigenvalue"):
        quadratic([])
    with pytest.raises(ValueError, match="2 coordinate"):
        BEALE.value([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="2 coordinate"):
        BEALE.gradient(1.0)
    with pytest.raises(ValueError, match="one entry per term"):
        piecewise_linear("", "", [[[1.0]]], [[0.0], [0.0]], [1.0])
    with pytest.raises(ValueError, match=r"term 0 must have slopes of shape \(pieces, 1\)"):
        piecewise_linear("", "", [[[1.0]]], [[0.0, 0.0]], [1.0])
