"""Least-norm points against non-negative least squares, distances against hulls known by other means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from inna.theory.criticality import criticality
from inna.theory.minnorm import min_norm_point
from inna.theory.objectives import (
    CANCELLING_ABS,
    SPLIT_LINE,
    SPURIOUS_CORNER,
    SPURIOUS_VALLEY,
    Objective,
    piecewise_linear,
)


def distance_by_nnls(vertices: np.ndarray) -> float:
    """min |w V| over the simplex: least squares on [V^T; 1^T] w = (0, 1) with w >= 0 has its solution on that ray."""
    scale = max(np.max(np.abs(vertices)), 1e-300)
    system = np.vstack([vertices.T / scale, np.ones(len(vertices))])
    weights, _ = nnls(system, np.append(np.zeros(vertices.shape[1]), 1.0))
    return float(np.linalg.norm((weights / weights.sum()) @ vertices))


def minkowski(hulls: list[np.ndarray]) -> np.ndarray:
    return np.array([np.sum(choice, axis=0) for choice in itertools.product(*hulls)])


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dimension=st.integers(1, 6),
    terms=st.integers(1, 4),
    grid=st.booleans(),
    shift=st.sampled_from([0.0, 0.3, 3.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_min_norm_point_of_a_sum(seed: int, dimension: int, terms: int, grid: bool, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    hulls = []
    for _ in range(terms):
        points = rng.standard_normal((int(rng.integers(1, 6)), dimension))
        hulls.append(scale * ((np.round(points) if grid else points) + shift))  # a grid makes many ties and duplicates
    found = min_norm_point(hulls)
    size = sum(np.max(np.linalg.norm(hull, axis=1)) for hull in hulls)
    assert found.distance == pytest.approx(distance_by_nnls(minkowski(hulls)), abs=1e-11 * size)
    assert 0 <= found.gap <= 1e-10 * size**2
    assert found.distance == pytest.approx(np.linalg.norm(found.point))
    assert found.vertices <= dimension + 1
    # The optimality condition, checked on all vertices: <x, s> >= |x|².
    assert np.min(minkowski(hulls) @ found.point) >= found.distance**2 - 1e-11 * size**2


def test_min_norm_point_never_lists_the_sum() -> None:
    """Fifty segments have 2^50 vertices in their sum; a zonotope's distance is known along an axis."""
    rng = np.random.default_rng(0)
    segments = [np.array([[0.0] * 20, row]) for row in np.abs(rng.standard_normal((50, 20)))]
    far = np.zeros((1, 20))
    far[0, 0] = 7.0
    # All other generators have non-negative entries, so nothing comes nearer than the shift itself.
    assert min_norm_point([*segments, far]).distance == pytest.approx(7.0, abs=1e-13)
    cube = [np.array([-row, row]) for row in np.eye(20)]
    assert min_norm_point([*cube, 3 * np.ones((1, 20))]).distance == pytest.approx(2 * np.sqrt(20), rel=1e-14)
    assert min_norm_point([*cube, 0.5 * np.ones((1, 20))]).distance < 1e-14


@pytest.mark.parametrize("seed", range(6))
def test_min_norm_point_of_points_that_nearly_coincide(seed: int) -> None:
    """What sampling a smooth network near a kink gives: clusters of radius 1e-8 to 1e-6 at a few pieces of size 10."""
    rng = np.random.default_rng(seed)
    pieces = 10 / np.sqrt(200) + rng.standard_normal((3, 200)) * 0.3
    spread = np.logspace(0, -12, 200)
    radii = 10.0 ** -rng.integers(6, 9, size=(400, 1))
    points = pieces[rng.integers(3, size=400)] + radii * spread * rng.standard_normal((400, 200))
    found = min_norm_point([points])
    assert found.gap <= 1e-12
    assert found.distance == pytest.approx(distance_by_nnls(points), abs=1e-9)


def test_min_norm_point_in_many_dimensions() -> None:
    rng = np.random.default_rng(1)
    points = rng.standard_normal((300, 100)) + 0.4
    found = min_norm_point([points])
    assert found.gap <= 1e-10
    assert found.distance == pytest.approx(distance_by_nnls(points), abs=1e-11)


@pytest.mark.parametrize(
    ("hulls", "message"),
    [
        ([], "non-empty arrays"),
        ([np.ones((2, 2)), np.ones((2, 3))], "with one P"),
        ([np.empty((0, 2))], "non-empty"),
        ([np.array([[np.nan]])], "finite points"),
    ],
)
def test_min_norm_point_refuses(hulls: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        min_norm_point(hulls)


def random_sum(rng: np.random.Generator, dimension: int, terms: int) -> tuple[Objective, np.ndarray, list, list]:
    """A sum of convex and concave piecewise-linear terms all of whose kinks meet at one point, some pieces inactive."""
    point = rng.standard_normal(dimension)
    slopes, offsets, signs = [], [], []
    for _ in range(terms):
        pieces = int(rng.integers(1, 4))
        rows = rng.standard_normal((pieces + 1, dimension))
        row = -rows @ point  # every piece reaches 0 at the point ...
        row[pieces] -= 1.0  # ... but the last, which is out of reach nearby
        slopes.append(rows)
        offsets.append(row)
        signs.append(float(rng.choice([-1.0, 1.0])) * rng.uniform(0.5, 2))
    if rng.random() < 0.5:  # a linear term that puts 0 into DJ
        inside = sum(
            sign * rng.dirichlet(np.ones(len(rows) - 1)) @ rows[:-1] for sign, rows in zip(signs, slopes, strict=True)
        )
        slopes.append(np.stack([-inside, np.zeros(dimension)]))
        offsets.append(np.array([inside @ point, -1.0]))
        signs.append(1.0)
    hulls = [sign * rows[:-1] for sign, rows in zip(signs, slopes, strict=True)]
    return piecewise_linear("random", "", slopes, offsets, signs), point, hulls, [rows[:-1] for rows in slopes]


def clarke_vertices(hulls: list[np.ndarray], active: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """The gradients of J on the cones on which it is linear, and the width of the narrowest cone.

    A choice of one piece per term is a cone iff some direction makes each chosen piece strictly the largest: a linear
    programme for the largest margin.
    """
    vertices, narrowest = [], np.inf
    for choice in itertools.product(*(range(len(rows)) for rows in active)):
        gaps = [rows[k] - np.delete(rows, k, axis=0) for rows, k in zip(active, choice, strict=True)]
        inequalities = np.vstack(gaps)
        if len(inequalities):
            dimension = inequalities.shape[1]
            inequalities = inequalities / np.linalg.norm(inequalities, axis=1, keepdims=True)
            answer = linprog(
                np.append(np.zeros(dimension), -1.0),
                A_ub=np.hstack([-inequalities, np.ones((len(inequalities), 1))]),
                b_ub=np.zeros(len(inequalities)),
                bounds=[(-1, 1)] * dimension + [(None, 1)],
            )
            margin = -answer.fun
            if margin <= 1e-9:
                continue
            narrowest = min(narrowest, margin)
        vertices.append(np.sum([hull[k] for hull, k in zip(hulls, choice, strict=True)], axis=0))
    return np.array(vertices), narrowest


@pytest.mark.parametrize(
    ("dimension", "samples", "cases", "narrow"), [(1, 16, 30, 0.0), (2, 256, 20, 0.1), (3, 1536, 8, 0.2)]
)
def test_distances_of_random_piecewise_linear_sums(dimension: int, samples: int, cases: int, narrow: float) -> None:
    rng = np.random.default_rng(dimension)
    checked = spurious = 0
    while checked < cases:
        objective, point, hulls, active = random_sum(rng, dimension, terms=int(rng.integers(1, 5)))
        vertices, narrowest = clarke_vertices(hulls, active)
        if narrowest < narrow:  # random points would need long to find that cone
            continue
        clarke, d = distance_by_nnls(vertices), distance_by_nnls(minkowski(hulls))
        found = criticality(objective.term_gradients, point, samples=samples, seed=checked)
        np.testing.assert_allclose(found.clarke_at_radii, clarke, atol=1e-8)
        np.testing.assert_allclose(found.d_at_radii, d, atol=1e-8)
        assert found.spurious(1e-7) == (d < 1e-7 < clarke)
        spurious += found.spurious(1e-7)
        checked += 1
    if dimension < 3:
        assert 1 <= spurious < cases  # the draw holds both


@pytest.mark.parametrize(
    ("objective", "point", "clarke", "d"),
    [
        (CANCELLING_ABS, [0.0], 0.0, 0.0),
        (SPLIT_LINE, [0.0], 1.0, 0.0),
        (SPLIT_LINE, [0.5], 1.0, 1.0),
        (SPURIOUS_VALLEY, [0.0], 1.0, 0.0),
        (SPURIOUS_VALLEY, [-1.0], 0.0, 0.0),
        (SPURIOUS_CORNER, [0.0, 0.0], np.sqrt(2), 0.0),
        (SPURIOUS_CORNER, [-0.5, -0.5], 0.0, 0.0),
        (SPURIOUS_CORNER, [1.0, 1.0], np.sqrt(2), np.sqrt(2)),
        (SPURIOUS_CORNER, [1.0, -1.0], 2.0, np.sqrt(2)),
    ],
)
def test_known_points(objective: Objective, point: list[float], clarke: float, d: float) -> None:
    found = criticality(objective.term_gradients, point)
    np.testing.assert_allclose(found.clarke_at_radii, clarke, atol=1e-12)
    np.testing.assert_allclose(found.d_at_radii, d, atol=1e-12)
    assert found.spurious(1e-6) == (d == 0 < clarke)


@pytest.mark.parametrize("objective", [CANCELLING_ABS, SPLIT_LINE, SPURIOUS_VALLEY, SPURIOUS_CORNER])
def test_objectives_classify_their_points_correctly(objective: Objective) -> None:
    for point in objective.spurious_points:
        assert criticality(objective.term_gradients, point).spurious(1e-6)
    for point in objective.critical_points:
        assert criticality(objective.term_gradients, point).clarke < 1e-12


def test_cancelling_curvature_is_not_spurious() -> None:
    """J_1 = 50 x² + x and J_2 = -50 x² at 0: at a large radius D's hull holds 0, at a smaller one it does not."""

    def gradients(theta: np.ndarray) -> np.ndarray:
        return np.array([100 * theta + 1, -100 * theta])

    for radius in (0.02, None):
        found = criticality(gradients, [0.0], radius=radius)
        assert found.clarke == pytest.approx(1.0)
        assert not found.spurious(1e-3)
    wide = criticality(gradients, [0.0], radius=0.02)
    assert wide.d_at_radii[0] < 1e-12  # one radius alone would have called it spurious
    assert wide.d_at_radii[2] == pytest.approx(1.0, abs=0.05)


def test_subdifferentials_at_a_smooth_point_are_the_gradient() -> None:
    def gradients(theta: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(theta), 2 * theta])

    theta = np.array([0.3, -1.2, 2.0])
    found = criticality(gradients, theta)
    exact = np.linalg.norm(np.cos(theta) + 2 * theta)
    for distances in (found.clarke_at_radii, found.d_at_radii):
        errors = np.abs(np.array(distances) - exact)
        assert np.all(errors < 4 * np.array(found.radii))  # too small by about radius times curvature


def test_results_repeat_and_bad_arguments_are_refused() -> None:
    gradients = SPURIOUS_CORNER.term_gradients
    assert criticality(gradients, [0.1, 0.2], seed=3) == criticality(gradients, [0.1, 0.2], seed=3)
    with pytest.raises(ValueError, match="radius must be a finite number > 0, got 0"):
        criticality(gradients, [0.0, 0.0], radius=0)
    with pytest.raises(ValueError, match="large enough to move theta"):
        criticality(gradients, [1e20, 1e20], radius=1e-3)
    with pytest.raises(ValueError, match="samples must be an integer >= 2, got 1"):
        criticality(gradients, [0.0, 0.0], samples=1)
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(3,\)"):
        criticality(lambda theta: theta, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="finite numbers near theta"):
        criticality(lambda theta: np.full((1, 1), np.nan), [0.0])
    with pytest.raises(ValueError, match="theta must be a vector"):
        criticality(gradients, [[0.0, 0.0]])
    with pytest.raises(ValueError, match="tolerance must be a finite number > 0"):
        criticality(gradients, [0.0, 0.0]).spurious(0.0)
