"""Distances of a point from Clarke-critical and D-critical; spurious points.

For J = sum_n J_n, mini-batches and backpropagation follow DJ = sum_n dJ_n, the Minkowski sum of the subdifferentials,
which can be larger than dJ. Where 0 is in DJ(theta) and not in dJ(theta), theta is spurious: a method can rest there
although J still falls. Both distances are measured from gradients sampled in a small ball around theta: dJ is the hull
of the gradients of J, DJ the sum over n of the hulls of the gradients of J_n.

Source: paper, section 2.3.3. Sampling gradients for subdifferentials: Burke, Lewis, Overton, SIAM J. Optim. 15, 2005.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range
from inna.theory.minnorm import min_norm_point

__all__ = ["Criticality", "criticality"]

Floats = NDArray[np.float64]
DEFAULT_SAMPLES = 128
# A direction towards a nearest point is rotated by this much, so that it is not exactly on a kink.
JITTER = 1e-3
# Rounds of sampling along the nearest points found so far; piecewise-linear functions need a few.
MOST_ROUNDS = 10


@dataclass(frozen=True)
class Criticality:
    """The distances from 0 to the two subdifferentials, estimated at three radii.

    Attributes:
        clarke: dist(0, dJ(theta)), at the first radius.
        d: dist(0, DJ(theta)), at the first radius. Never above ``clarke``.
        radii: r, r/10 and r/100.
        clarke_at_radii: dist(0, dJ(theta)) at each radius.
        d_at_radii: dist(0, DJ(theta)) at each radius.
    """

    clarke: float
    d: float
    radii: tuple[float, float, float]
    clarke_at_radii: tuple[float, float, float]
    d_at_radii: tuple[float, float, float]

    def spurious(self, tolerance: float) -> bool:
        """Return whether theta is D-critical and not Clarke-critical, at all three radii.

        At one radius, steep smooth terms that cancel look the same as a kink. As the radius shrinks their gradients
        stop varying and D's distance grows to Clarke's, while at a kink nothing changes.

        Args:
            tolerance: the largest distance that counts as 0, in units of the gradient, > 0.

        Raises:
            ValueError: the tolerance is not > 0.
        """
        check_range("tolerance", tolerance, minimum=0.0, exclusive=True)
        return max(self.d_at_radii) <= tolerance < min(self.clarke_at_radii)


def criticality(
    gradients: Callable[[Floats], ArrayLike],
    theta: ArrayLike,
    *,
    radius: float | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> Criticality:
    """Measure dist(0, dJ(theta)) and dist(0, DJ(theta)) of a sum J = sum_n J_n.

    Gradients are taken at random points of the ball in opposite pairs, at the same points for all n. Further ones are
    taken in both directions along the nearest points found, slightly rotated, until the distances stop falling: a
    vertex that a hull lacks is in these directions where the J_n are maxima (or minima) of smooth functions. The result
    is exact up to rounding for piecewise-linear terms if every piece at theta was sampled; a narrow piece of J may need
    more ``samples``. Where J is smooth the distances are too small by about the radius times the curvature.

    Args:
        gradients: (P,) -> (N, P), row n a gradient of J_n; `Objective.term_gradients`, or
            `inna.theory.modules.sample_gradients` for a torch module and data. It is never called at theta itself.
        theta: (P,), float64.
        radius: of the ball, > 0; None: 1e-6 (1 + |theta|).
        samples: points per radius, >= 2; None: 128. The number needed depends on the number of pieces that meet at
            theta, not on P. About 3 N samples P numbers are kept in memory.
        seed: of the points.

    Raises:
        ValueError: an argument is out of range, or gradients returns no finite (N, P).

    >>> from inna.theory.objectives import SPLIT_LINE  # relu(t) - relu(-t) = t
    >>> found = criticality(SPLIT_LINE.term_gradients, [0.0])
    >>> found.clarke, found.d, found.spurious(1e-6)
    (1.0, 0.0, True)
    """
    center = np.atleast_1d(np.array(theta, dtype=float))
    if center.ndim != 1 or center.size == 0 or not np.all(np.isfinite(center)):
        raise ValueError(f"theta must be a vector of finite numbers, got {theta!r}")
    if radius is None:
        reach = 1e-6 * (1 + float(np.linalg.norm(center)))
    else:
        reach = check_range("radius", radius, minimum=0.0, exclusive=True)
    count = DEFAULT_SAMPLES if samples is None else samples
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise ValueError(f"samples must be an integer >= 2, got {samples!r}")
    if np.all(center + reach / 100 == center):
        raise ValueError(f"radius must be large enough to move theta at radius/100, got {radius!r}")
    rng = np.random.default_rng(seed)
    radii = (reach, reach / 10, reach / 100)
    # The balls are nested: samples of a small one belong to the larger ones too.
    rows: list[Floats] = []
    clarke, d = zip(*(_distances(gradients, center, r, count, rng, rows) for r in reversed(radii)), strict=True)
    return Criticality(clarke[-1], d[-1], radii, clarke[::-1], d[::-1])


def _distances(
    gradients: Callable[[Floats], ArrayLike],
    center: Floats,
    radius: float,
    count: int,
    rng: np.random.Generator,
    rows: list[Floats],
) -> tuple[float, float]:
    """Return both distances at one radius.

    The gradients (N, P) sampled there are appended to ``rows``.
    """
    directions = rng.standard_normal(((count + 1) // 2, center.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # Uniform in the ball, with the opposite points: a kink through theta is sampled on both sides.
    lengths = radius * rng.random((len(directions), 1)) ** (1 / center.size)
    rows += [_rows(gradients, center + sign * shift) for shift in lengths * directions for sign in (1, -1)]
    clarke = d = np.inf
    for _ in range(MOST_ROUNDS):
        stacked = np.stack(rows, axis=1)  # (N, samples, P)
        nearest = min_norm_point([stacked.sum(axis=0)])
        nearest_d = min_norm_point([_distinct(hull) for hull in stacked])
        size = float(np.sum(np.max(np.linalg.norm(stacked, axis=2), axis=1)))
        settled = max(clarke - nearest.distance, d - nearest_d.distance) <= 1e-12 * size
        clarke, d = nearest.distance, nearest_d.distance
        if settled:
            break
        for point in (nearest.point, nearest_d.point):
            if np.linalg.norm(point) > 1e-14 * size:
                turned = point / np.linalg.norm(point) + JITTER * rng.standard_normal(center.size) / center.size**0.5
                shift = radius / 2 * turned / np.linalg.norm(turned)
                rows += [_rows(gradients, center + sign * shift) for sign in (1, -1)]
    return clarke, min(d, clarke)


def _rows(gradients: Callable[[Floats], ArrayLike], point: Floats) -> Floats:
    answer = np.asarray(gradients(point), dtype=float)
    if answer.ndim != 2 or answer.shape[0] == 0 or answer.shape[1] != point.size:
        raise ValueError(f"gradients must return the shape (N, {point.size}), got {answer.shape}")
    if not np.all(np.isfinite(answer)):
        raise ValueError("gradients must return finite numbers near theta")
    return answer


def _distinct(hull: Floats) -> Floats:
    """Return the rows of a hull, or one of them where all are equal.

    They are equal for every smooth linear term.
    """
    return hull[:1] if np.all(hull == hull[0]) else hull
