"""Stable constant learning rates, from the curvature alone.

On J(t) = lambda t²/2 the rule is a linear map of (theta, m). Its eigenvalues are z = 1 + lr mu, where mu are the
rates of the continuous flow on the same curvature, so that with a = alpha + beta lambda

    mu² + a mu + lambda = 0        stable (both |z| < 1) iff lambda > 0, lr lambda < a and 4 - 2 lr a + lr² lambda > 0

In several dimensions this holds for each eigenvalue of the Hessian. For a fixed lr the stable curvatures form an
interval, which need not begin at 0 (alpha = 3, beta = 0, lr = 1: only 2 < lambda < 3). A spectrum that extends to 0
needs lr < 2/alpha as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range

__all__ = [
    "QuasiHyperbolic",
    "StepSizeWarning",
    "effective_momentum",
    "flow_rates",
    "is_stable",
    "max_curvature",
    "max_lr",
    "quasi_hyperbolic",
    "roots",
]

Floats = NDArray[np.float64]


class StepSizeWarning(UserWarning):
    """The learning rate is larger than the curvature, or the energy so far, allows."""


def flow_rates(alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike) -> NDArray[np.complex128]:
    """Return the two rates mu of the flow on one curvature.

    They are the roots of mu² + (alpha + beta lambda) mu + lambda = 0; a solution is a sum of exp(mu t). The slower
    rate, with the larger real part, is first.

    Args:
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        curvature: lambda, any sign. The three broadcast against each other.

    Returns:
        Complex, the broadcast shape + (2,).

    Raises:
        ValueError: alpha or beta is negative, or an argument is not finite.

    >>> flow_rates(3.0, 0.0, 2.0).real
    array([-1., -2.])
    """
    a, lam = _damping(alpha, beta, curvature)
    root = np.sqrt((a * a - 4 * lam).astype(complex))
    # The root of larger modulus by a sum without cancellation, the other from the product lambda of the two.
    large = -(a + np.where(a >= 0, 1.0, -1.0) * root) / 2
    small = np.divide(lam, large, out=np.zeros_like(large), where=large != 0)
    pair = np.stack([small, large], axis=-1)
    swap = pair[..., 1].real > pair[..., 0].real
    return np.where(swap[..., None], pair[..., ::-1], pair)


def roots(lr: ArrayLike, alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike) -> NDArray[np.complex128]:
    """Return the eigenvalues z = 1 + lr mu of one iteration on one curvature.

    The largest |z| is the factor per step.

    Args:
        lr: learning rate, >= 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        curvature: lambda, any sign. All four broadcast against each other.

    Returns:
        Complex, the broadcast shape + (2,).

    Raises:
        ValueError: lr, alpha or beta is negative, or an argument is not finite.

    >>> roots(0.1, 3.0, 0.0, 2.0)
    array([0.9+0.j, 0.8+0.j])
    """
    gamma = _number("lr", lr)
    return 1 + gamma[..., None] * flow_rates(alpha, beta, curvature)


def is_stable(lr: ArrayLike, alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike) -> Any:
    """Return whether every solution on this curvature tends to 0.

    The answer is exact up to the rounding of a few operations.

    None is stable for lambda <= 0: at lambda = 0 the rule is neutral (a constant theta stays), below 0 it grows.

    Args:
        lr: learning rate, >= 0; nothing is stable at 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        curvature: lambda, any sign; an array of eigenvalues answers for each. All four broadcast.

    Returns:
        A bool, or a boolean array of the broadcast shape.

    Raises:
        ValueError: lr, alpha or beta is negative, or an argument is not finite.

    >>> is_stable(0.1, 0.5, 0.1, 51.0)
    True
    >>> is_stable(1.0, 3.0, 0.0, [1.0, 2.5])
    array([False,  True])
    """
    gamma = _number("lr", lr)
    a, lam = _damping(alpha, beta, curvature)
    # (4 - 2 lr a) + lr² lambda, the determinant's bound and lambda > 0: the Jury conditions.
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is far beyond every bound
        stable = (lam > 0) & (gamma > 0) & (gamma * lam < a) & (4 - 2 * gamma * a + gamma * gamma * lam > 0)
    return bool(stable) if stable.ndim == 0 else stable


def max_lr(alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike, *, alone: bool = False) -> Any:
    """Return the learning rate below which all of (0, curvature] is stable.

    On one curvature the bound is a/lambda where a² < 4 lambda and (a - sqrt(a² - 4 lambda))/lambda elsewhere, with
    a = alpha + beta lambda. As lambda falls to 0 it tends to 2/alpha (to beta where alpha = 0). Between, it is never
    below the smaller of the two ends.

    Args:
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        curvature: lambda, the largest eigenvalue of the Hessian, or an array. All three broadcast.
        alone: bound this curvature alone, not those between 0 and it.

    Returns:
        A float, or an array of the broadcast shape: the bound, excluded itself; 0 where no learning rate is stable
        (lambda <= 0, or alpha = beta = 0).

    Raises:
        ValueError: alpha or beta is negative, or an argument is not finite.

    >>> max_lr(0.5, 0.1, 100.0)
    0.105
    >>> max_lr(3.0, 0.0, 2.5), max_lr(3.0, 0.0, 2.5, alone=True)
    (0.6666666666666666, 1.2)
    """
    a, lam = _damping(alpha, beta, curvature)
    discriminant = a * a - 4 * lam
    positive = lam > 0
    safe = np.where(positive, lam, 1.0)
    # 4 / (a + sqrt(..)) is (a - sqrt(..)) / lambda without the cancellation; a > 0 wherever it is taken.
    total = np.where(discriminant >= 0, a + np.sqrt(np.maximum(discriminant, 0.0)), 1.0)
    bound = np.where(discriminant >= 0, 4 / np.where(total > 0, total, 1.0), a / safe)
    if not alone:
        viscous = np.broadcast_to(_number("alpha", alpha), lam.shape)
        newtonian = np.broadcast_to(_number("beta", beta), lam.shape)
        flat = np.where(viscous > 0, 2 / np.where(viscous > 0, viscous, 1.0), newtonian)
        bound = np.minimum(bound, flat)
    return _scalar_or_array(np.where(positive, bound, 0.0))


def max_curvature(lr: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> Any:
    """Return the curvature below which everything is stable.

    This is the inverse of `max_lr`.

    It is the

        minimum of  alpha/(lr - beta) where lr > beta   and   (4 - 2 lr alpha)/(lr (2 beta - lr)) where lr < 2 beta

    Args:
        lr: learning rate, > 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0. All three broadcast.

    Returns:
        A float, or an array of the broadcast shape: 0 where alpha lr >= 2 (the flat directions are unstable) or where
        no curvature at all is stable.

    Raises:
        ValueError: lr is not > 0, alpha or beta is negative, or an argument is not finite.

    >>> max_curvature(0.5, 1.0, 0.25)
    4.0
    >>> max_curvature(1.0, 3.0, 0.0)
    0.0
    """
    gamma, viscous, newtonian = np.broadcast_arrays(
        _number("lr", lr, positive=True), _number("alpha", alpha), _number("beta", beta)
    )
    excess, room = gamma - newtonian, 2 * newtonian - gamma
    by_determinant = np.where(excess > 0, viscous / np.where(excess > 0, excess, 1.0), np.inf)
    by_determinant = np.where((excess == 0) & (viscous == 0), 0.0, by_determinant)
    by_trace = np.where(room > 0, (4 - 2 * gamma * viscous) / (gamma * np.where(room > 0, room, 1.0)), np.inf)
    bound = np.minimum(by_determinant, by_trace)
    return _scalar_or_array(np.where(gamma * viscous < 2, bound, 0.0))


def effective_momentum(lr: ArrayLike, alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike = 0.0) -> Any:
    """Return the momentum of the heavy ball that INNA equals on one curvature.

    It is 1 - lr alpha - lr (beta - lr) lambda.

    On curvature lambda the iterates theta_k satisfy the recurrence of ``SGD(lr², momentum)`` with this momentum.
    For lr = beta it is the same on every curvature (the heavy ball); for beta > lr steep directions are damped more.

    Args:
        lr: learning rate, >= 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        curvature: lambda, any sign. All four broadcast.

    Returns:
        A float, or an array of the broadcast shape. A steep direction can make it negative.

    Raises:
        ValueError: lr, alpha or beta is negative, or an argument is not finite.

    >>> effective_momentum(0.1, 0.5, 0.1)
    0.95
    >>> effective_momentum(0.25, 0.5, 0.5, curvature=8.0)
    0.375
    """
    gamma = _number("lr", lr)
    viscous, newtonian = _number("alpha", alpha), _number("beta", beta)
    lam = _number("curvature", curvature, signed=True)
    return _scalar_or_array(1 - gamma * viscous - gamma * (newtonian - gamma) * lam)


class QuasiHyperbolic(NamedTuple):
    """Settings of quasi-hyperbolic momentum (Ma and Yarats 2019).

    The buffer is b' = momentum b + (1 - momentum) g, the step theta' = theta - lr ((1 - nu) g + nu b').
    """

    lr: float
    momentum: float
    nu: float


def quasi_hyperbolic(lr: float, alpha: float, beta: float) -> QuasiHyperbolic:
    """Return the quasi-hyperbolic momentum that makes INNA's iterates.

    The learning rate is constant, and m_0 = 0.

    Its settings are

        lr' = lr/alpha    momentum = 1 - alpha lr    nu = (1 - alpha beta)/(1 - alpha lr)

    Args:
        lr: learning rate, > 0.
        alpha: viscous damping, > 0, with alpha lr different from 1.
        beta: Newtonian damping, >= 0.

    Raises:
        ValueError: an argument is out of range, or alpha lr = 1 (the buffer has no memory and nu does not exist).

    >>> quasi_hyperbolic(0.1, 0.5, 0.1).momentum
    0.95
    """
    gamma = check_range("lr", lr, minimum=0.0, exclusive=True)
    viscous = check_range("alpha", alpha, minimum=0.0, exclusive=True)
    newtonian = check_range("beta", beta, minimum=0.0)
    momentum = 1 - viscous * gamma
    if momentum == 0:
        raise ValueError(f"alpha lr must differ from 1, got alpha={alpha!r} and lr={lr!r}")
    return QuasiHyperbolic(gamma / viscous, momentum, (1 - viscous * newtonian) / momentum)


def _damping(alpha: ArrayLike, beta: ArrayLike, curvature: ArrayLike) -> tuple[Floats, Floats]:
    """Return alpha + beta lambda and lambda, broadcast."""
    viscous, newtonian = _number("alpha", alpha), _number("beta", beta)
    lam = _number("curvature", curvature, signed=True)
    a, lam = np.broadcast_arrays(viscous + newtonian * lam, lam)
    return a, lam


def _number(name: str, value: ArrayLike, *, signed: bool = False, positive: bool = False) -> Floats:
    """Return ``value`` as float64.

    An entry that is not finite or out of range is a ValueError with ``name``.
    """
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real, got {value!r}")
    numbers = numbers.astype(np.float64)
    low = numbers <= 0 if positive else (numbers < 0 if not signed else np.zeros(numbers.shape, dtype=bool))
    wrong = low | ~np.isfinite(numbers)
    if np.any(wrong):
        allowed = " > 0" if positive else "" if signed else " >= 0"
        raise ValueError(f"{name} must be finite{allowed}, got {float(numbers[wrong].flat[0])!r}")
    return numbers


def _scalar_or_array(values: Floats) -> Any:
    return float(values) if values.ndim == 0 else values
