"""Learning rate schedules: functions of the iteration k = 0, 1, 2, ...

They multiply the initial learning rate gamma_0.

They work with any framework, for instance as
``torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.5))`` with one ``scheduler.step()`` per iteration.
Theorem 3 of the paper requires sum gamma_k = infinity and gamma_k = o(1/log k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from inna.checks import check_range, check_whole

__all__ = ["cosine_decay", "hold_decay", "linear_decay", "log_decay", "power_decay"]


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
    """Make the schedule k -> log(k + e)^-p.

    It is the slowest that Theorem 3 covers: o(1/log k) exactly for p > 1.

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


def linear_decay(total: int) -> Callable[[Any], Any]:
    """Make the schedule k -> 1 - k/K, linear from 1 to 0, and 0 from there on.

    The last of K iterations, k = K - 1, has the factor 1/K.

    Args:
        total: K, the number of iterations, >= 1.

    Returns:
        A picklable function of k, a number or a NumPy, JAX or torch array of any shape, with values in [0, 1].

    Raises:
        ValueError: total is not a whole number >= 1.

    Source: A. Defazio et al., "Optimal linear decay learning rate schedules and further refinements",
    arXiv 2310.07831, 2023.

    >>> linear_decay(4)(0), linear_decay(4)(3), linear_decay(4)(9)
    (1.0, 0.25, 0.0)
    """
    return partial(_linear, check_whole("total", total, minimum=1))


def hold_decay(total: int, hold: int) -> Callable[[Any], Any]:
    """Make the schedule k -> min(1, (K - k)/(K - H)), 1 and then linear to 0.

    It is 1 until k = H, linear between H and K, and 0 from K on. With H = 0 it is `linear_decay`.

    Args:
        total: K, the number of iterations, >= 1.
        hold: H, the iterations that come before the decay, in [0, total).

    Returns:
        A picklable function of k, a number or a NumPy, JAX or torch array of any shape, with values in [0, 1].

    Raises:
        ValueError: total is not a whole number >= 1, or hold not one in [0, total).

    Source: A. Hägele et al., "Scaling laws and compute-optimal training beyond fixed training durations",
    arXiv 2405.18392, 2024 (a constant learning rate with a cooldown).

    >>> [hold_decay(10, hold=8)(k) for k in (0, 8, 9, 10)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return partial(_hold, *_lengths(total, "hold", hold))


def cosine_decay(total: int, warmup: int = 0) -> Callable[[Any], Any]:
    """Make the cosine schedule from 1 to 0, with a linear warm-up.

    It is min((k + 1)/W, 1) (1 + cos(pi t))/2 with t = (k - W)/(K - W) between 0 and 1.

    W iterations of linear warm-up are followed by half a period of the cosine, which is 0 from k = K on.

    Args:
        total: K, the number of iterations, >= 1.
        warmup: W, the iterations of the warm-up among them, in [0, total). 0 is no warm-up.

    Returns:
        A picklable function of k, a number or a NumPy, JAX or torch array of any shape, with values in [0, 1].

    Raises:
        ValueError: total is not a whole number >= 1, or warmup not one in [0, total).

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017; P. Goyal
    et al., "Accurate, large minibatch SGD", arXiv 1706.02677, 2017, for the warm-up.

    >>> [round(cosine_decay(10, warmup=2)(k), 3) for k in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    return partial(_cosine, *_lengths(total, "warmup", warmup))


def _lengths(total: int, name: str, part: int) -> tuple[int, int]:
    """Check the iterations of a schedule and of its first part, called ``name``."""
    total, part = check_whole("total", total, minimum=1), check_whole(name, part, minimum=0)
    if part >= total:
        raise ValueError(f"{name} must be less than total, {total}; got {part}")
    return total, part


def _power(q: float, k: Any) -> Any:
    return (k + 1) ** -q


def _log_power(p: float, k: Any) -> Any:
    return _log(k + math.e) ** -p


def _linear(total: int, k: Any) -> Any:
    return _from_0_to_1((total - k) / total)


def _hold(total: int, hold: int, k: Any) -> Any:
    return _from_0_to_1((total - k) / (total - hold))


def _cosine(total: int, warmup: int, k: Any) -> Any:
    factor = (1 + _apply("cos", math.pi * _from_0_to_1((k - warmup) / (total - warmup)))) / 2
    return factor * _from_0_to_1((k + 1) / warmup) if warmup else factor


def _from_0_to_1(x: Any) -> Any:
    """Clip ``x`` to [0, 1], with operators that numbers and all arrays have.

    It is exact within.
    """
    inside = (x >= 0) * (x <= 1)
    return inside * x + (x > 1) * 1.0


def _log(x: Any) -> Any:
    return _apply("log", x)


def _apply(name: str, x: Any) -> Any:
    if isinstance(x, float):
        return getattr(math, name)(x)
    if hasattr(x, "__array_namespace__"):  # NumPy and JAX
        return getattr(x.__array_namespace__(), name)(x)
    return getattr(x, name)()  # torch
