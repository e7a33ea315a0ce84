"""Final seeds that are added until the winner is established.

After 3, 5, 8, 12, ... seeds (half as many again each time) and after the cap the winner's lead is tested. Each of these
looks may spend a part of the error rate in proportion to the seeds that it adds, so all of them together spend it once:

    alpha_k = alpha (n_k - n_(k-1)) / cap,    n_0 = 0.

The probability that any look finds a lead that is not there is at most the sum of these, alpha, whatever the dependence
between the looks. A spending function usually takes that dependence into account, which needs a known joint
distribution; this bound needs none, and is a little conservative.

Source: K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from inna.checks import check_whole

__all__ = ["FIRST_LOOK", "SEED_CAP", "looks", "parse_seeds", "share"]

FIRST_LOOK = 3
SEED_CAP = 20


def parse_seeds(seeds: str | Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the seeds to begin with, and the cap of those that are added.

    The cap is 0 if none are.

    Args:
        seeds: whole numbers, or ``auto`` or ``auto:CAP`` with a cap > 3; 20 by default.

    Raises:
        ValueError: a text has another form, or the cap is too small.

    >>> parse_seeds("auto:10"), parse_seeds([4, 5])
    (((1, 2, 3), 10), ((4, 5), 0))
    """
    if not isinstance(seeds, str):
        return tuple(seeds), 0
    match = re.fullmatch(r"auto(?::(\d+))?", seeds)
    if not match:
        raise ValueError(f"seeds must be whole numbers, auto or auto:CAP, such as auto:20; got {seeds!r}")
    cap = check_whole("seeds: the cap", int(match[1] or SEED_CAP), minimum=FIRST_LOOK + 1)
    return tuple(range(1, FIRST_LOOK + 1)), cap


def looks(cap: int) -> tuple[int, ...]:
    """Return the numbers of seeds after which the lead is tested.

    >>> looks(20), looks(8)
    ((3, 5, 8, 12, 18, 20), (3, 5, 8))
    """
    found = [FIRST_LOOK]
    while (after := math.ceil(1.5 * found[-1])) < cap:
        found.append(after)
    return (*found, cap)


def share(seeds: int, cap: int) -> float:
    """Return the share of the error rate that the look after ``seeds`` may spend.

    >>> [share(seeds, 20) for seeds in looks(20)], share(3, 0)
    ([0.15, 0.1, 0.15, 0.2, 0.3, 0.1], 1.0)
    """
    if not cap:
        return 1.0
    return (seeds - max((look for look in looks(cap) if look < seeds), default=0)) / cap
