"""Step-size rules: plain functions of the iteration k = 0, 1, 2, ..., which multiply gamma_0.

They plug into any framework as they are, for instance
``torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.5))`` with one ``scheduler.step()`` per iteration.
Theorem 3 of the paper asks for sum gamma_k = infinity and gamma_k = o(1/log k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from inna.checks import check_range

__all__ = ["log_decay", "power_decay"]


def power_decay(q: float) -> Callable[[Any], Any]:
    """The rule k -> (k + 1)^-q of the paper's section 5: q = 1/2 in Figures 2 and 3, down to 1/16 in Figure 4.

    Args:
        q: power, >= 0; 0 is a constant step. Theorem 3 of the paper covers 0 < q <= 1.

    Returns:
        A function of k (a number, or a NumPy, JAX or torch array of any shape) with values in (0, 1]. It pickles.

    Raises:
        ValueError: q is negative or not finite.

    >>> power_decay(0.5)(3)
    0.5
    """
    return partial(_power, check_range("q", q, minimum=0.0))


def log_decay(p: float) -> Callable[[Any], Any]:
    """The rule k -> log(k + e)^-p, the slow edge of Theorem 3: it is o(1/log k) exactly for p > 1.

    Args:
        p: power, >= 0.

    Returns:
        A function of k (a number, or a NumPy, JAX or torch array of any shape) with values in (0, 1]. It pickles.

    Raises:
        ValueError: p is negative or not finite.

    >>> log_decay(2.0)(0)
    1.0
    """
    return partial(_log_power, check_range("p", p, minimum=0.0))


def _power(q: float, k: Any) -> Any:
    return (k + 1) ** -q


def _log_power(p: float, k: Any) -> Any:
    return _log(k + math.e) ** -p


def _log(x: Any) -> Any:
    if isinstance(x, float):
        return math.log(x)
    if hasattr(x, "__array_namespace__"):  # NumPy and JAX
        return x.__array_namespace__().log(x)
    return x.log()  # torch
