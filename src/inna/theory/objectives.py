"""Objectives whose critical points are known: Figure 1's valley, classical tests, saddles, powers, sums with kinks.

Every objective J maps points of shape (..., P) to values of shape (...), and its gradient keeps the shape (..., P).
At a kink the gradient is the one that backpropagation answers with relu'(0) = abs'(0) = 0; it need not be a Clarke
subgradient of J there, and that is what `SPURIOUS_VALLEY` and its relatives show (paper, section 2.3.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range

__all__ = [
    "Objective",
    "piecewise_linear",
    "power",
    "quadratic",
]

Floats = NDArray[np.float64]
Function = Callable[[ArrayLike], Floats]


@dataclass(frozen=True, eq=False)
class Objective:
    """A function J on R^P with what is known about it.

    Attributes:
        name: for tables and figures.
        formula: J in plain text, with t1, t2, ... for the coordinates.
        dimension: P.
        value: (..., P) -> (...), J.
        gradient: (..., P) -> (..., P), the gradient; at a kink, what backpropagation answers.
        minimisers: (M, P), the global minimisers; none where J is unbounded below. A continuum is given by one point.
        saddles: (K, P), the other Clarke-critical points: 0 is in the convex hull of the gradients of J nearby.
        spurious_points: (S, P), points that are D-critical (0 is in the sum over n of the subdifferentials of J_n)
            and not Clarke-critical.
        kinks: (..., P) -> (..., K), functions whose zeros hold every point where J is not smooth; None: J is smooth.
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
        """(M + K, P): the Clarke-critical points, minimisers first."""
        return np.concatenate([self.minimisers, self.saddles])

    @property
    def d_critical_points(self) -> Floats:
        """(M + K + S, P): the D-critical points, the critical ones first; where mini-batch methods can end."""
        return np.concatenate([self.critical_points, self.spurious_points])


def quadratic(spectrum: Sequence[float], *, seed: int | None = None) -> Objective:
    """J = 1/2 sum_i lambda_i <q_i, theta>², with the given eigenvalues of its Hessian.

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
        raise ValueError("spectrum must hold at least one eigenvalue, got none")
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
    """J = |t|^c, whose Kurdyka-Lojasiewicz exponent at its minimiser 0 is 1 - 1/c for c > 1.

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
    """A sum of piecewise-linear terms, J = sum_n J_n with J_n(t) = sign_n max_k (<slope_nk, t> + offset_nk).

    Where several k reach the maximum the gradient takes the first of them, so that a relu written with the pieces
    (0, t) has relu'(0) = 0. The subdifferential of J_n at t is the convex hull of sign_n slope_nk over those k.

    Args:
        name, formula: as in `Objective`.
        slopes: per term an array (K_n, P).
        offsets: per term an array (K_n,).
        signs: per term a factor; negative ones make concave terms.
        minimisers, saddles, spurious_points: what is known about the sum, arrays (.., P); not checked.

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
                f"term {n} must have slopes of shape (pieces, {dimension}) and one offset a piece, "
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
    """(K, P + 1): rows (a, b) of unit normal whose planes <a, t> + b = 0 are where two pieces of a term are equal."""
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


"""Figure 1's objective: kinks along t1 = 0 and t1 = 1, one critical point."""

"""The classical curved valley: the curvatures at its minimiser differ by a factor of 2,500."""

"""Plateaus and steep walls: one minimiser and two strict saddles."""

"""A strict saddle at 0, with the curvatures -8 and 2: the escape experiment of arXiv 2111.04596."""

"""A saddle that is not strict: its Hessian is 0."""


"""The paper's example of the sum rule that fails: J = 0, dJ(0) = {0}, yet DJ(0) = [-2, 2]. Every point minimises J."""

"""J(t) = t has no critical point, yet DJ(0) = [0, 2] and backpropagation answers 0 there: a spurious point."""

"""J = t to the right of its minimiser -1 and -2 - t to the left, with a spurious point at 0."""

"""The spurious valley across a crease: in the plane, a spurious point at 0 where a kink of J itself meets it."""
