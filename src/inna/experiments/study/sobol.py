"""Scrambled Sobol points, those of ``scipy.stats.qmc.Sobol``.

A report needs them to tell the trials of a search. Importing scipy.stats takes longer than the rest of a report.
"""

from __future__ import annotations

__all__ = ["MOST_DIMENSIONS", "scrambled"]

_BITS = 30
# Of each coordinate but the first: the degree of a primitive polynomial over GF(2), its inner coefficients as bits, and
# the first direction numbers.
_POLYNOMIALS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
)
MOST_DIMENSIONS = 1 + len(_POLYNOMIALS)


def scrambled(count: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """Return the first ``count`` points in the unit cube of `MOST_DIMENSIONS`.

    They are scrambled by random lower triangular matrices and a random shift.

    References:
        S. Joe and F. Y. Kuo, Constructing Sobol sequences with better two-dimensional projections, SIAM Journal on
        Scientific Computing 30, 2008. J. Matousek, On the L2-discrepancy for anchored boxes, Journal of Complexity 14,
        1998.

    >>> [[round(share, 3) for share in point[:2]] for point in scrambled(2, 0)]
    [[0.41, 0.964], [0.905, 0.138]]
    """
    import numpy as np

    rng = np.random.default_rng(seed).spawn(1)[0]
    places = np.arange(_BITS)
    shift = rng.integers(2, size=(MOST_DIMENSIONS, _BITS), dtype=np.uint32).astype(np.int64) @ (1 << places)
    matrices = np.tril(rng.integers(2, size=(MOST_DIMENSIONS, _BITS, _BITS), dtype=np.uint32)).astype(np.int64)
    matrices[:, places, places] = 1
    directions = np.array([[1 << place for place in places[::-1]], *(_directions(*each) for each in _POLYNOMIALS)])
    bits = (directions[..., None] >> places[::-1]) & 1  # the highest first
    directions = ((bits @ matrices.transpose(0, 2, 1)) & 1) @ (1 << places[::-1])
    point, found = shift, []
    for k in range(count):
        found.append(tuple((point / 2**_BITS).tolist()))
        point = point ^ directions[:, (~k & (k + 1)).bit_length() - 1]  # of the lowest bit of k that is 0
    return tuple(found)


def _directions(degree: int, coefficients: int, first: tuple[int, ...]) -> list[int]:
    """Return the direction numbers of a coordinate, as integers of `_BITS` bits."""
    numbers = list(first)
    for j in range(degree, _BITS):
        number = numbers[j - degree] ^ (numbers[j - degree] << degree)
        for k in range(1, degree):
            if coefficients >> (degree - 1 - k) & 1:
                number ^= numbers[j - k] << k
        numbers.append(number)
    return [number << (_BITS - 1 - j) for j, number in enumerate(numbers)]
