"""Learning-rate schedules: functions of the iteration k = 0, 1, 2, ... that multiply the initial learning rate gamma_0.

They work with any framework, for instance as
``torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.5))`` with one ``scheduler.step()`` per iteration.
Theorem 3 of the paper requires sum gamma_k = infinity and gamma_k = o(1/log k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from inna.checks import check_range

__all__ = ["log_decay", "power_decay"]


def power_decay(q: float) -> Callable[[Any], Any]:
    """Make the schedule k -> (k + 1)^-q of the paper's section 5.

    The paper uses q = 1/2 in Figures 2 and 3, and down to 1/16 in Figure 4.

    Args:
        q: power, >= 0; 0 is a constant learning rate. Theorem 3 of the paper covers 0 < q <= 1.

    Returns:
        A picklable function of k, a number or a NumPy, JAX or torch array of any shape, with values in (0, 1].

    Raises:
        ValueError: q is negative or not finite.

    >>> power_decay(0.5)(3)
    0.5
    """
    return partial(_power, check_range("q", q, minimum=0.0))


def log_decay(p: float) -> Callable[[Any], Any]:
    """Make the schedule k -> log(k + e)^-p, the slowest that Theorem 3 covers: o(1/log k) exactly for p > 1.

    Args:
        p: power, >= 0.

    Returns:
        A picklable function of k, a number or a NumPy, JAX or torch array of any shape, with values in (0, 1].

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
