"""The point of least norm in a sum of convex hulls, by Wolfe's method.

A Minkowski sum of N hulls can have as many vertices as the product of theirs; the method never lists them. It only
needs the vertex that is least in a direction, which is the sum over n of the least of each hull.

Source: P. Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LARGEST_GAP", "LeastNorm", "min_norm_point"]

Floats = NDArray[np.float64]
EPS = float(np.finfo(float).eps)
LARGEST_GAP = 1e-10
"""The largest accepted duality gap as a share of the squared size of the hulls."""
# Steps without a smaller gap after which only rounding is left.
LONGEST_STALL = 100


@dataclass(frozen=True, eq=False)
class LeastNorm:
    """The nearest point to 0.

    Attributes:
        point: (P,), in the sum of the hulls.
        distance: its norm.
        gap: the duality gap <x, x> - min_s <x, s> >= 0 over the vertices s: the true distance is at least
            distance - gap/distance.
        vertices: the number of vertices of the sum that the point combines, at most P + 1.
    """

    point: Floats
    distance: float
    gap: float
    vertices: int


def min_norm_point(hulls: Sequence[ArrayLike], *, max_iterations: int = 10_000) -> LeastNorm:
    """Return the point of least Euclidean norm in sum_n conv(rows of hulls[n]).

    Args:
        hulls: for each n an array (K_n, P) of points.
        max_iterations: of Wolfe's major cycle; each costs a pass over the points and a least-squares problem.

    Returns:
        The point, accurate to a few units of rounding of the hulls' size.

    Raises:
        ValueError: there is no hull, a hull is empty, the dimensions differ, or a point is not finite.
        RuntimeError: the duality gap is still above 1e-10 times the squared size of the hulls.

    >>> min_norm_point([[[1.0, 1.0], [1.0, -3.0]]]).point
    array([1., 0.])
    >>> min_norm_point([[[-1.0], [1.0]], [[-1.0], [1.0]]]).distance
    0.0
    """
    points = [np.atleast_2d(np.asarray(hull, dtype=float)) for hull in hulls]
    if not points or any(rows.ndim != 2 or rows.size == 0 or rows.shape[1] != points[0].shape[1] for rows in points):
        raise ValueError(
            f"hulls must be non-empty arrays (K_n, P) with one P, got shapes {[rows.shape for rows in points]}"
        )
    if not all(np.all(np.isfinite(rows)) for rows in points):
        raise ValueError("hulls must contain finite points")
    hulls_by_size = _stacked(points)
    size = sum(float(np.max(np.linalg.norm(rows, axis=1))) for rows in points)

    def least(direction: Floats) -> Floats:
        """Return the vertex of the sum that is least in a direction, hull by hull."""
        total = np.zeros_like(direction)
        for block in hulls_by_size:
            chosen = np.argmin(block @ direction, axis=1)
            total += block[np.arange(len(block)), chosen].sum(axis=0)
        return total

    x = least(np.sum([rows.mean(axis=0) for rows in points], axis=0))
    corral, weights = x[None, :], np.ones(1)
    best, least_gap, stalled = (x, 1), np.inf, 0
    for _ in range(max_iterations):
        vertex, norm = least(x), float(np.linalg.norm(x))
        gap = max(0.0, float(x @ (x - vertex)))
        if gap < least_gap:
            best, least_gap, stalled = (x, len(weights)), gap, 0
        else:
            stalled += 1
        # The gap is known to about EPS |x| size; a distance is then known to about EPS size.
        if norm <= 8 * EPS * size or gap <= 8 * EPS * norm * size or stalled == LONGEST_STALL:
            break
        known = np.all(corral == vertex, axis=1)
        wider = np.vstack([corral[~known], vertex])
        start = np.append(weights[~known], weights[known].sum())
        # Near the end a step lowers the norm by less than its rounding, while the gap still shows its progress.
        shrunk, shares = _exchange(wider, start) if known.any() else _shrink(wider, start)
        if np.linalg.norm(shares @ shrunk) > norm * (1 + 4 * EPS):
            shrunk, shares = _exchange(wider, start)
        corral, weights = shrunk, shares
        x = weights @ corral
    if least_gap > LARGEST_GAP * size**2:
        raise RuntimeError(
            f"the point of least norm was not found: duality gap {least_gap:.3g} for hulls of size {size:.3g} "
            f"(allowed: {LARGEST_GAP:g} of its square) within {max_iterations} iterations"
        )
    return LeastNorm(best[0], float(np.linalg.norm(best[0])), least_gap, best[1])


def _shrink(corral: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Run Wolfe's minor cycle.

    Vertices are dropped until the nearest point of the corral's affine hull is inside the corral.
    """
    while True:
        affine = _affine_weights(corral)
        if np.all(affine > EPS):
            return corral, affine
        # Walk from the current weights towards the affine ones as far as the simplex goes.
        leaving = affine <= EPS
        steps = weights[leaving] / np.maximum(weights[leaving] - affine[leaving], EPS)
        share = min(1.0, float(np.min(steps)))
        weights = (1 - share) * weights + share * affine
        kept = weights > EPS
        kept[np.argmin(np.where(leaving, weights, np.inf))] = False
        corral, weights = corral[kept], weights[kept] / weights[kept].sum()


def _exchange(corral: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Move weight from the corral's worst vertex to its last to lower the norm.

    This step needs no linear system. It is for vertices so close together that the affine weights are all rounding.
    """
    x = weights @ corral
    worst = int(np.argmax(np.where(weights > 0, corral @ x, -np.inf)))
    along = corral[-1] - corral[worst]
    length = float(along @ along)
    share = min(float(weights[worst]), max(0.0, -float(x @ along) / length)) if length > 0 else 0.0
    moved = weights.copy()
    moved[worst] -= share
    moved[-1] += share
    kept = moved > 0
    return corral[kept], moved[kept] / moved[kept].sum()


def _affine_weights(corral: Floats) -> Floats:
    """Return the weights of the point of least norm in the rows' affine hull."""
    if len(corral) == 1:
        return np.ones(1)
    edges = corral[1:] - corral[0]
    rest = np.linalg.lstsq(edges.T, -corral[0], rcond=None)[0]
    return np.append(1 - rest.sum(), rest)


def _stacked(points: list[Floats]) -> list[Floats]:
    """Return arrays (N_k, K, P), one for each number K of points.

    One product then serves all hulls of a size.
    """
    sizes = sorted({len(rows) for rows in points})
    return [np.stack([rows for rows in points if len(rows) == size]) for size in sizes]
