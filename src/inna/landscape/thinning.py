"""Thin long paths and series, with a bound on the error.

A path in the plane keeps the vertices of the method of Ramer, Douglas and Peucker: every iterate lies within a
tolerance of the line. A series keeps the first, last, smallest and largest value of each stretch of iterations.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inna.landscape.scenes import Frame

__all__ = ["Thinned", "clip", "extremes", "significance", "thin"]

Floats = NDArray[np.float64]

# Simplifying stretches of at most this length bounds the work.
STRETCH = 128


class Thinned(NamedTuple):
    """A line in pieces, and the largest distance of a point of the path from it.

    Attributes:
        pieces: (vertices, 2) each.
        tolerance: the distance, as a fraction of the frame's size.
        skipped: number of pieces that are not drawn, of a path that crosses the edge of the frame too often.
    """

    pieces: list[Floats]
    tolerance: float
    skipped: int = 0

    @property
    def vertices(self) -> int:
        """Number of vertices of all pieces."""
        return sum(len(piece) for piece in self.pieces)


def thin(path: Floats, frame: Frame, tolerance: float, limit: int) -> Thinned:
    """Thin the part of a path inside ``frame`` to at most ``limit`` vertices.

    Args:
        path: finite points (K, 2).
        frame: the path is cut at its edge.
        tolerance: as a fraction of the frame's width and height; it grows if ``limit`` needs it.
        limit: vertices. A path that crosses the edge very often keeps its first ``limit``/2 pieces.
    """
    found = clip(path, frame)
    pieces = found[: limit // 2]
    sizes = [significance(piece / np.array(frame.size), tolerance) for piece in pieces]
    ranked = np.sort(np.concatenate(sizes))[::-1] if sizes else np.empty(0)
    if len(ranked) > limit:
        tolerance = max(tolerance, float(ranked[limit]))
    kept = [piece[size > tolerance] for piece, size in zip(pieces, sizes, strict=True)]
    return Thinned(kept, tolerance, len(found) - len(pieces))


def clip(path: Floats, frame: Frame) -> list[Floats]:
    """Cut a path (K, 2) into its pieces inside ``frame`` (Liang and Barsky)."""
    low, high = np.array([frame.left, frame.bottom]), np.array([frame.right, frame.top])
    if len(path) == 1:
        return [path] if np.all((path >= low) & (path <= high)) else []
    begin, direction = path[:-1], np.diff(path, axis=0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near, far = (low - begin) / direction, (high - begin) / direction
    still = direction == 0
    within = (begin >= low) & (begin <= high)
    enter = np.where(still, np.where(within, -np.inf, np.inf), np.minimum(near, far)).max(axis=1).clip(min=0)
    leave = np.where(still, np.where(within, np.inf, -np.inf), np.maximum(near, far)).min(axis=1).clip(max=1)
    seen = np.flatnonzero(enter <= leave)
    if not len(seen):
        return []
    # A piece continues while each segment begins inside the frame and follows the previous one.
    starts = np.flatnonzero((enter[seen] > 0) | (np.diff(seen, prepend=-2) != 1))
    pieces = []
    for first, last in zip(starts, [*starts[1:], len(seen)], strict=True):
        inside = seen[first:last]
        head = begin[inside[0]] + enter[inside[0]] * direction[inside[0]]
        tail = begin[inside[-1]] + leave[inside[-1]] * direction[inside[-1]]
        pieces.append(np.vstack([head, begin[inside[1:]], tail]))
    return pieces


def significance(points: Floats, floor: float) -> Floats:
    """Return the tolerance above which each vertex can be dropped.

    Infinity for both ends, 0 below ``floor``.

    Every point lies within a tolerance of the line through the vertices above that tolerance.

    >>> significance(np.array([[0.0, 0.0], [1.0, 0.001], [2.0, 0.0], [2.0, 1.0]]), floor=0.01).round(3)
    array([  inf, 0.   , 0.894,   inf])
    """
    last = len(points) - 1
    found = np.zeros(len(points))
    found[0] = found[last] = np.inf
    ends = [*range(0, last, max(STRETCH, last // 1000)), last]
    found[ends] = np.inf
    waiting = [(i, j, np.inf) for i, j in itertools.pairwise(ends)]
    while waiting:
        i, j, above = waiting.pop()
        if j - i < 2:
            continue
        chord = points[j] - points[i]
        offsets = points[i + 1 : j] - points[i]
        length = chord @ chord
        along = (offsets @ chord / length).clip(0, 1) if length > 0 else np.zeros(len(offsets))
        gaps = np.hypot(*(offsets - along[:, None] * chord).T)
        worst = int(np.argmax(gaps))
        middle = i + 1 + worst
        if gaps[worst] > floor:
            # A vertex is at most as significant as the one that split its stretch.
            found[middle] = min(above, float(gaps[worst]))
            waiting += [(i, middle, found[middle]), (middle, j, found[middle])]
    return found


def extremes(values: Floats, stretches: int) -> NDArray[np.intp]:
    """Return the indices of four values of each of ``stretches`` stretches.

    The first, the last, the smallest and the largest of equal stretches.

    >>> extremes(np.array([0.0, 5.0, -1.0, 2.0, 3.0, 3.0, 3.0, 3.0]), 2)
    array([0, 1, 2, 3, 4, 7])
    """
    edges = np.linspace(0, len(values), min(stretches, len(values)) + 1).astype(int)
    chosen = set()
    for begin, end in itertools.pairwise(edges):
        part = values[begin:end]
        chosen |= {int(begin), int(end) - 1, int(begin + np.argmin(part)), int(begin + np.argmax(part))}
    return np.array(sorted(chosen), dtype=np.intp)
