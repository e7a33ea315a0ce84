"""Objectives with known critical points.

They are Figure 1's valley, classical test functions, saddles, powers, and sums with kinks.

Every objective J maps points of shape (..., P) to values of shape (...), and its gradient keeps the shape (..., P).
At a kink the gradient is that of backpropagation with relu'(0) = abs'(0) = 0. It need not be a Clarke subgradient of J
there, as `SPURIOUS_VALLEY` and similar objectives show (paper, section 2.3.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range

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
    "Objective",
    "piecewise_linear",
    "power",
    "quadratic",
]

Floats = NDArray[np.float64]
Function = Callable[[ArrayLike], Floats]


@dataclass(frozen=True, eq=False)
class Objective:
    """A function J on R^P with its known critical points.

    Attributes:
        name: for tables and figures.
        formula: J in plain text, with t1, t2, ... for the coordinates.
        dimension: P.
        value: (..., P) -> (...), J.
        gradient: (..., P) -> (..., P), the gradient; at a kink, the result of backpropagation.
        minimisers: (M, P), the global minimisers; none where J is unbounded below. A continuum is given by one point.
        saddles: (K, P), the other Clarke-critical points: 0 is in the convex hull of the gradients of J nearby.
        spurious_points: (S, P), points that are D-critical (0 is in the sum over n of the subdifferentials of J_n)
            and not Clarke-critical.
        kinks: (..., P) -> (..., K), functions that are 0 where J is not smooth; None: J is smooth.
        term_gradients: (P,) -> (N, P), row n the gradient of J_n where J is given as a sum; None: it is not.

    >>> ROSENBROCK_V.value([-1.0, 1.5])
    array(27.)
    >>> ROSENBROCK_V.gradient([-1.0, 1.5])
    array([ 99., 100.])
    """

    name: str
    formula: str
    dimension: int
    value: Function
    gradient: Function
    minimisers: Floats
    saddles: Floats
    spurious_points: Floats
    kinks: Function | None = field(default=None, repr=False)
    term_gradients: Function | None = field(default=None, repr=False)

    @property
    def critical_points(self) -> Floats:
        """The Clarke-critical points, minimisers first, of shape (M + K, P)."""
        return np.concatenate([self.minimisers, self.saddles])

    @property
    def d_critical_points(self) -> Floats:
        """The D-critical points, critical ones first, of shape (M + K + S, P).

        Mini-batch methods can end at these.
        """
        return np.concatenate([self.critical_points, self.spurious_points])


def quadratic(spectrum: Sequence[float], *, seed: int | None = None) -> Objective:
    """Return J = 1/2 sum_i lambda_i <q_i, theta>².

    The lambda_i are the eigenvalues of its Hessian.

    Args:
        spectrum: the eigenvalues lambda_1, ..., lambda_P; any sign.
        seed: of a random orthonormal basis q; None: the coordinate axes.

    Raises:
        ValueError: the spectrum is empty or not finite.

    >>> quadratic([1.0, 4.0]).gradient([1.0, 1.0])
    array([1., 4.])
    """
    eigenvalues = np.array([check_range("spectrum", curvature) for curvature in spectrum])
    if eigenvalues.size == 0:
        raise ValueError("spectrum must contain at least one eigenvalue, got none")
    size = eigenvalues.size
    axes = np.eye(size)
    basis = axes if seed is None else np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    hessian = (basis * eigenvalues) @ basis.T
    origin = np.zeros((1, size))
    bounded = bool(np.all(eigenvalues >= 0))
    return Objective(
        name="quadratic",
        formula="1/2 <t, H t> with the spectrum " + ", ".join(f"{curvature:g}" for curvature in eigenvalues),
        dimension=size,
        value=lambda theta: 0.5 * np.sum(eigenvalues * (_points(theta, size) @ basis) ** 2, axis=-1),
        gradient=lambda theta: _points(theta, size) @ hessian,
        minimisers=origin if bounded else origin[:0],
        saddles=origin[:0] if bounded else origin,
        spurious_points=origin[:0],
    )


def power(exponent: float) -> Objective:
    """Return J = |t|^c.

    For c > 1 its Kurdyka-Lojasiewicz exponent at the minimiser 0 is 1 - 1/c.

    Args:
        exponent: c >= 1; at c = 1 the minimiser is a kink.

    Raises:
        ValueError: c is below 1, where |t|^c is not locally Lipschitz, or not finite.

    >>> power(3.0).gradient([-2.0])
    array([-12.])
    """
    c = check_range("exponent", exponent, minimum=1.0)

    def gradient(theta: ArrayLike) -> Floats:
        points = _points(theta, 1)
        return c * np.sign(points) * np.abs(points) ** (c - 1)

    return Objective(
        name=f"power {c:g}",
        formula=f"|t1|^{c:g}",
        dimension=1,
        value=lambda theta: np.abs(_points(theta, 1)[..., 0]) ** c,
        gradient=gradient,
        minimisers=np.zeros((1, 1)),
        saddles=np.empty((0, 1)),
        spurious_points=np.empty((0, 1)),
        kinks=(lambda theta: _points(theta, 1)) if c == 1 else None,
    )


def piecewise_linear(
    name: str,
    formula: str,
    slopes: Sequence[ArrayLike],
    offsets: Sequence[ArrayLike],
    signs: Sequence[float],
    *,
    minimisers: ArrayLike = (),
    saddles: ArrayLike = (),
    spurious_points: ArrayLike = (),
) -> Objective:
    """Return a sum of piecewise-linear terms.

    The terms are J_n(t) = sign_n max_k (<slope_nk, t> + offset_nk).

    Where several k reach the maximum the gradient is that of the first, so a relu with the pieces (0, t) has
    relu'(0) = 0. The subdifferential of J_n at t is the convex hull of sign_n slope_nk over those k.

    Args:
        name: as in `Objective`.
        formula: as in `Objective`.
        slopes: for each term an array (K_n, P).
        offsets: for each term an array (K_n,).
        signs: for each term a factor; negative ones make concave terms.
        minimisers: of the sum, an array (.., P); not checked.
        saddles: of the sum, an array (.., P); not checked.
        spurious_points: of the sum, an array (.., P); not checked.

    Raises:
        ValueError: the arguments disagree on the number of terms, of pieces, or on P.

    >>> relu = piecewise_linear("relu", "max(0, t1)", [[[0.0], [1.0]]], [[0.0, 0.0]], [1.0])
    >>> float(relu.value([3.0])), float(relu.gradient([0.0])[0])
    (3.0, 0.0)
    """
    pieces = [np.atleast_2d(np.asarray(rows, dtype=float)) for rows in slopes]
    heights = [np.atleast_1d(np.asarray(row, dtype=float)) for row in offsets]
    factors = np.array([check_range("signs", sign) for sign in signs])
    if not pieces or not len(pieces) == len(heights) == len(factors):
        raise ValueError(
            "slopes, offsets and signs must have one entry per term and at least one term, "
            f"got {len(pieces)}, {len(heights)} and {len(factors)}"
        )
    dimension = pieces[0].shape[1]
    for n, (rows, row) in enumerate(zip(pieces, heights, strict=True)):
        if rows.shape != (row.size, dimension):
            raise ValueError(
                f"term {n} must have slopes of shape (pieces, {dimension}) and one offset for each piece, "
                f"got shapes {rows.shape} and {row.shape}"
            )

    def levels(theta: ArrayLike) -> list[Floats]:
        points = _points(theta, dimension)
        return [points @ rows.T + row for rows, row in zip(pieces, heights, strict=True)]

    def terms(theta: ArrayLike) -> Floats:
        chosen = [rows[np.argmax(level, axis=-1)] for rows, level in zip(pieces, levels(theta), strict=True)]
        return np.stack([factor * rows for factor, rows in zip(factors, chosen, strict=True)], axis=-2)

    def value(theta: ArrayLike) -> Floats:
        highest = [np.max(level, axis=-1) for level in levels(theta)]
        return np.asarray(sum(factor * top for factor, top in zip(factors, highest, strict=True)))

    planes = _kink_planes(pieces, heights)

    def kinks(theta: ArrayLike) -> Floats:
        return np.asarray(_points(theta, dimension) @ planes[:, :-1].T + planes[:, -1])

    return Objective(
        name=name,
        formula=formula,
        dimension=dimension,
        value=value,
        gradient=lambda theta: np.sum(terms(theta), axis=-2),
        minimisers=_rows(minimisers, dimension),
        saddles=_rows(saddles, dimension),
        spurious_points=_rows(spurious_points, dimension),
        kinks=kinks if len(planes) else None,
        term_gradients=terms,
    )


def _kink_planes(pieces: list[Floats], heights: list[Floats]) -> Floats:
    """Return the planes on which two pieces of a term are equal.

    Row (a, b), with |a| = 1, is the plane <a, t> + b = 0.
    """
    planes: list[Floats] = []
    for rows, row in zip(pieces, heights, strict=True):
        for i, j in itertools.combinations(range(len(row)), 2):
            normal = rows[i] - rows[j]
            length = np.linalg.norm(normal)
            if length == 0:
                continue
            plane = np.append(normal, row[i] - row[j]) / length
            plane *= np.sign(normal[np.flatnonzero(normal)[0]])
            if not any(np.allclose(plane, known, rtol=1e-12, atol=1e-12) for known in planes):
                planes.append(plane)
    return np.array(planes).reshape(-1, pieces[0].shape[1] + 1)


def _points(theta: ArrayLike, dimension: int) -> Floats:
    points = np.asarray(theta, dtype=float)
    if points.ndim == 0 or points.shape[-1] != dimension:
        raise ValueError(f"points must have {dimension} coordinate(s) on their last axis, got shape {points.shape}")
    return points


def _rows(points: ArrayLike, dimension: int) -> Floats:
    return np.asarray(points, dtype=float).reshape(-1, dimension)


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
"""Figure 1's objective: kinks along t1 = 0 and t1 = 1, one critical point."""

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
"""The classical curved valley: the curvatures at its minimiser differ by a factor of 2,500."""

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
"""Plateaus and steep walls: one minimiser and two strict saddles."""

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
"""A strict saddle at 0, with the curvatures -8 and 2: the escape experiment of arXiv 2111.04596."""

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
"""A saddle that is not strict: its Hessian is 0."""

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
"""The paper's example of the sum rule that fails: J = 0, dJ(0) = {0}, yet DJ(0) = [-2, 2]. Every point minimises J."""

SPLIT_LINE = piecewise_linear(
    "relu(t) - relu(-t)",
    "max(0, t1) - max(0, -t1)",
    [_RELU, _RELU_MIRRORED],
    [[0.0, 0.0], [0.0, 0.0]],
    [1.0, -1.0],
    spurious_points=[[0.0]],
)
"""J(t) = t has no critical point, yet DJ(0) = [0, 2] and backpropagation returns 0 there: a spurious point."""

SPURIOUS_VALLEY = piecewise_linear(
    "spurious valley",
    "max(0, t1) - max(0, -t1) + 2 max(0, -1 - t1)",
    [_RELU, _RELU_MIRRORED, _RELU_MIRRORED],
    [[0.0, 0.0], [0.0, 0.0], [0.0, -1.0]],
    [1.0, -1.0, 2.0],
    minimisers=[[-1.0]],
    spurious_points=[[0.0]],
)
"""J = t to the right of its minimiser -1 and -2 - t to the left, with a spurious point at 0."""

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
"""The spurious valley in the plane, with a spurious point at 0 on a kink of J itself."""
