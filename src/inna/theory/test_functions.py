"""Test functions with their critical points and gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from inna.theory.objectives import Floats, Objective, _points, piecewise_linear

__all__ = [
    "BEALE",
    "CANCELLING_ABS",
    "DOUBLE_WELL",
    "MONKEY_SADDLE",
    "ROSENBROCK",
    "ROSENBROCK_V",
    "SPLIT_LINE",
    "SPURIOUS_CORNER",
    "SPURIOUS_VALLEY",
]


def _valley_value(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.asarray(100 * (t2 - np.abs(t1)) ** 2 + np.abs(1 - t1))


def _valley_gradient(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    across = 200 * (t2 - np.abs(t1))
    return np.stack([-across * np.sign(t1) - np.sign(1 - t1), across], axis=-1)


def _valley_kinks(theta: ArrayLike) -> Floats:
    t1 = _points(theta, 2)[..., 0]
    return np.stack([t1, t1 - 1], axis=-1)


def _rosenbrock_value(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.asarray(100 * (t2 - t1**2) ** 2 + (1 - t1) ** 2)


def _rosenbrock_gradient(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    across = 200 * (t2 - t1**2)
    return np.stack([-2 * t1 * across - 2 * (1 - t1), across], axis=-1)


_BEALE_TARGETS = (1.5, 2.25, 2.625)


def _beale_residuals(t1: Floats, t2: Floats) -> list[Floats]:
    return [target - t1 * (1 - t2**i) for i, target in enumerate(_BEALE_TARGETS, start=1)]


def _beale_value(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    return np.asarray(sum(residual**2 for residual in _beale_residuals(points[..., 0], points[..., 1])))


def _beale_gradient(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    residuals = _beale_residuals(t1, t2)
    first = sum(-2 * residual * (1 - t2**i) for i, residual in enumerate(residuals, start=1))
    second = sum(2 * residual * t1 * i * t2 ** (i - 1) for i, residual in enumerate(residuals, start=1))
    return np.stack([np.asarray(first), np.asarray(second)], axis=-1)


def _double_well_value(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.asarray(t1**4 - 4 * t1**2 + t2**2)


def _double_well_gradient(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.stack([4 * t1**3 - 8 * t1, 2 * t2], axis=-1)


def _monkey_value(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.asarray(t1**3 - 3 * t1 * t2**2)


def _monkey_gradient(theta: ArrayLike) -> Floats:
    points = _points(theta, 2)
    t1, t2 = points[..., 0], points[..., 1]
    return np.stack([3 * t1**2 - 3 * t2**2, -6 * t1 * t2], axis=-1)


_NO_POINTS = np.empty((0, 2))


ROSENBROCK_V = Objective(
    name="V-shaped Rosenbrock",
    formula="100 (t2 - |t1|)² + |1 - t1|",
    dimension=2,
    value=_valley_value,
    gradient=_valley_gradient,
    minimisers=np.array([[1.0, 1.0]]),
    saddles=_NO_POINTS,
    spurious_points=_NO_POINTS,
    kinks=_valley_kinks,
)


ROSENBROCK = Objective(
    name="Rosenbrock",
    formula="100 (t2 - t1²)² + (1 - t1)²",
    dimension=2,
    value=_rosenbrock_value,
    gradient=_rosenbrock_gradient,
    minimisers=np.array([[1.0, 1.0]]),
    saddles=_NO_POINTS,
    spurious_points=_NO_POINTS,
)


BEALE = Objective(
    name="Beale",
    formula="(1.5 - t1 (1 - t2))² + (2.25 - t1 (1 - t2²))² + (2.625 - t1 (1 - t2³))²",
    dimension=2,
    value=_beale_value,
    gradient=_beale_gradient,
    minimisers=np.array([[3.0, 0.5]]),
    # Both are strict saddles; the second is a root of the resultant, which has no closed form.
    saddles=np.array([[0.0, 1.0], [0.10053793732415839, -2.6445135850231245]]),
    spurious_points=_NO_POINTS,
)


DOUBLE_WELL = Objective(
    name="double well",
    formula="t1⁴ - 4 t1² + t2²",
    dimension=2,
    value=_double_well_value,
    gradient=_double_well_gradient,
    minimisers=np.array([[-np.sqrt(2.0), 0.0], [np.sqrt(2.0), 0.0]]),
    saddles=np.array([[0.0, 0.0]]),
    spurious_points=_NO_POINTS,
)


MONKEY_SADDLE = Objective(
    name="monkey saddle",
    formula="t1³ - 3 t1 t2²",
    dimension=2,
    value=_monkey_value,
    gradient=_monkey_gradient,
    minimisers=_NO_POINTS,
    saddles=np.array([[0.0, 0.0]]),
    spurious_points=_NO_POINTS,
)


_RELU = [[0.0], [1.0]]


_RELU_MIRRORED = [[0.0], [-1.0]]


_ABS = [[0.0], [1.0], [-1.0]]  # max(0, t, -t), whose first piece makes abs'(0) = 0


CANCELLING_ABS = piecewise_linear(
    "|t| - |t|",
    "|t1| - |t1|",
    [_ABS, _ABS],
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    [1.0, -1.0],
    minimisers=[[0.0]],
)


SPLIT_LINE = piecewise_linear(
    "relu(t) - relu(-t)",
    "max(0, t1) - max(0, -t1)",
    [_RELU, _RELU_MIRRORED],
    [[0.0, 0.0], [0.0, 0.0]],
    [1.0, -1.0],
    spurious_points=[[0.0]],
)


SPURIOUS_VALLEY = piecewise_linear(
    "spurious valley",
    "max(0, t1) - max(0, -t1) + 2 max(0, -1 - t1)",
    [_RELU, _RELU_MIRRORED, _RELU_MIRRORED],
    [[0.0, 0.0], [0.0, 0.0], [0.0, -1.0]],
    [1.0, -1.0, 2.0],
    minimisers=[[-1.0]],
    spurious_points=[[0.0]],
)


SPURIOUS_CORNER = piecewise_linear(
    "spurious corner",
    "max(0, s) - max(0, -s) + 2 max(0, -1 - s) + |t1 - t2| with s = t1 + t2",
    [
        [[0.0, 0.0], [1.0, 1.0]],
        [[0.0, 0.0], [-1.0, -1.0]],
        [[0.0, 0.0], [-1.0, -1.0]],
        [[0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]],
    ],
    [[0.0, 0.0], [0.0, 0.0], [0.0, -1.0], [0.0, 0.0, 0.0]],
    [1.0, -1.0, 2.0, 1.0],
    minimisers=[[-0.5, -0.5]],
    spurious_points=[[0.0, 0.0]],
)
