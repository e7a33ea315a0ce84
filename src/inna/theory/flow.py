"""The continuous flow that INNA discretises, solved by SciPy.

It is the dynamical inertial Newton system theta'' + alpha theta' + beta Hess J(theta) theta' + grad J(theta) = 0,
written without the Hessian and without 1/beta (beta = 0 is allowed):

    theta' = -(m + beta g)        m' = -alpha m + (1 - alpha beta) g        psi = beta m + (1 - alpha beta) theta

At a kink of J the flow is a differential inclusion, with g in the subdifferential. Where its ``kinks`` are given, g is
interpolated between their two sides within a thin layer. A flow that is pushed onto a kink from both sides then slides
along it, as Filippov's solutions do, and a stiff solver can follow it cheaply.

Source: paper, section 2 and eq. (5), (7).
"""

from __future__ import annotations

import itertools
import math
import reprlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range
from inna.dynamics import initial_momentum, phase_from_momentum, step

if TYPE_CHECKING:
    from scipy.integrate import OdeSolution

__all__ = ["FlowError", "Trajectory", "momentum_field", "solve"]

Floats = NDArray[np.float64]
Method = Literal["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA"]
METHODS: tuple[Method, ...] = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")
# Interpolating over k kinks that meet costs 2^k gradients.
MOST_MEETING_KINKS = 8


class FlowError(RuntimeError):
    """The solver could not follow the flow to the end.

    The message names the time and the reason.
    """


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A solution of the flow; calling it with times interpolates.

    Attributes:
        t: (T,), the solver's times from 0 to t_end, or t_eval.
        theta: (T, P), the parameters.
        momentum: (T, P), m.
        alpha: viscous damping.
        beta: Newtonian damping.
        kink_times: for each kink, the times at which the flow crossed it; sliding along it is not a crossing.
        evaluations: the number of gradients used.
    """

    t: Floats
    theta: Floats
    momentum: Floats
    alpha: float
    beta: float
    kink_times: tuple[Floats, ...]
    evaluations: int
    _dense: OdeSolution = field(repr=False)

    @property
    def psi(self) -> Floats:
        """The paper's phase variable beta m + (1 - alpha beta) theta, of shape (T, P)."""
        return np.asarray(phase_from_momentum(self.theta, self.momentum, self.alpha, self.beta))

    def __call__(self, t: ArrayLike) -> tuple[Floats, Floats]:
        """Return theta and momentum at the times t, each of shape t.shape + (P,).

        Raises:
            ValueError: a time is outside [0, t_end].
        """
        times = np.asarray(t, dtype=float)
        if not np.all((times >= 0) & (times <= self._dense.t_max)):
            raise ValueError(f"t must be in [0, {self._dense.t_max:g}], got {t!r}")
        states = np.moveaxis(self._dense(times.ravel()), 0, -1).reshape(*times.shape, -1)
        size = self.theta.shape[1]
        return states[..., :size], states[..., size:]


def momentum_field(momentum: Any, grad: Any, alpha: Any, beta: Any) -> tuple[Any, Any]:
    """Return the flow's right-hand side, (theta', m').

    It is (-(m + beta g), -alpha m + (1 - alpha beta) g).

    INNA is the explicit Euler method for it, so this is the change made by `inna.dynamics.step` per unit of learning
    rate.

    Args:
        momentum: m, an array or a float.
        grad: g, of the same shape.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.

    >>> momentum_field(1.0, 2.0, alpha=0.5, beta=0.25)
    (-1.5, 1.25)
    """
    dtheta, after = step(0 * momentum, momentum, grad, 1.0, alpha, beta)
    return dtheta, after - momentum


def solve(
    grad: Callable[[Floats], ArrayLike],
    theta0: ArrayLike,
    alpha: float,
    beta: float,
    t_end: float,
    initial_speed: float | None = None,
    *,
    momentum0: ArrayLike | None = None,
    kinks: Callable[[Floats], ArrayLike] | None = None,
    layer: float = 1e-8,
    method: Method | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    t_eval: ArrayLike | None = None,
    max_evaluations: int = 2_000_000,
) -> Trajectory:
    """Follow the flow from theta0 over [0, t_end].

    Args:
        grad: a (generalised) gradient of J, (P,) -> (P,). `inna.theory.modules.module_gradient` makes one from a torch
            module.
        theta0: (P,), the start; a number for P = 1.
        alpha: viscous damping, >= 0 (1/time).
        beta: Newtonian damping, >= 0 (time).
        t_end: the last time, > 0. One step of INNA takes the time lr.
        initial_speed: s in theta'(0) = -s grad J(theta0); None: s = beta, that is m(0) = 0.
        momentum0: (P,), m(0) itself instead of initial_speed.
        kinks: (P,) -> (K,), functions of theta that are 0 where J is not smooth (`Objective.kinks`);
            their gradients must not vanish there. Crossings are recorded in `Trajectory.kink_times`.
        layer: half the thickness of the layer around a kink in which g is interpolated, > 0, in units of theta.
        method: one of SciPy's; None: "LSODA" (which switches to a stiff method where needed), or "BDF" with kinks. The
            implicit ones need 2 P gradients for a Jacobian; for large P choose "RK45" or "DOP853".
        rtol: the solver's relative tolerance on (theta, m), > 0.
        atol: the solver's absolute tolerance on (theta, m), > 0.
        t_eval: the times to return, within [0, t_end] and increasing; None: the solver's own.
        max_evaluations: the largest number of gradients, >= 1.

    Raises:
        ValueError: an argument is out of range, or grad returns another shape.
        FlowError: the solver failed, the gradient was not finite, or max_evaluations is reached.

    >>> settings = {"alpha": 3.0, "beta": 0.0, "initial_speed": 0.0}
    >>> path = solve(lambda theta: theta, [1.0], t_end=2.0, **settings)
    >>> slow, fast = (-3 + 5**0.5) / 2, (-3 - 5**0.5) / 2  # the roots of mu² + 3 mu + 1
    >>> exact = slow * np.exp(fast * path.t) - fast * np.exp(slow * path.t)
    >>> exact /= slow - fast
    >>> bool(np.max(np.abs(path.theta[:, 0] - exact)) < 1e-7)
    True
    """
    viscous = check_range("alpha", alpha, minimum=0.0)
    newtonian = check_range("beta", beta, minimum=0.0)
    t_last = check_range("t_end", t_end, minimum=0.0, exclusive=True)
    width = check_range("layer", layer, minimum=0.0, exclusive=True)
    check_range("rtol", rtol, minimum=0.0, exclusive=True)
    check_range("atol", atol, minimum=0.0, exclusive=True)
    check_range("max_evaluations", max_evaluations, minimum=1)
    if method is not None and method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    start = _vector("theta0", theta0)
    force = _CountedGradient(grad, start.size, max_evaluations)
    smooth: Callable[[Floats], Floats] = force if kinks is None else _layered(force, kinks, width)
    if momentum0 is not None:
        if initial_speed is not None:
            raise ValueError("give initial_speed or momentum0, not both")
        momentum = _vector("momentum0", momentum0)
        if momentum.shape != start.shape:
            raise ValueError(f"momentum0 must have theta0's shape {start.shape}, got {momentum.shape}")
    else:
        speed = None if initial_speed is None else check_range("initial_speed", initial_speed)
        momentum = initial_momentum(smooth(start), newtonian, speed)

    size = start.size

    def rhs(t: float, state: Floats) -> Floats:
        force.time = t
        dtheta, dmomentum = momentum_field(state[size:], smooth(state[:size]), viscous, newtonian)
        return np.concatenate([dtheta, dmomentum])

    from scipy.integrate import solve_ivp  # takes a second to import

    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")  # a failure is raised below, with the solver's own message
        solution = solve_ivp(
            rhs,
            (0.0, t_last),
            np.concatenate([start, momentum]),
            method=method or ("LSODA" if kinks is None else "BDF"),
            t_eval=None if t_eval is None else _times(t_eval, t_last),
            dense_output=True,
            rtol=rtol,
            atol=atol,
        )
    if not solution.success or solution.sol is None:
        raise FlowError(f"the solver stopped at t = {force.time:.6g} of {t_last:g}: {solution.message}")
    return Trajectory(
        t=solution.t,
        theta=solution.y[:size].T,
        momentum=solution.y[size:].T,
        alpha=viscous,
        beta=newtonian,
        kink_times=() if kinks is None else _crossings(kinks, solution.sol, size, width),
        evaluations=force.count,
        _dense=solution.sol,
    )


class _CountedGradient:
    """A gradient function whose results are checked and counted."""

    def __init__(self, grad: Callable[[Floats], ArrayLike], size: int, most: int) -> None:
        self.grad, self.size, self.most = grad, size, most
        self.count, self.time = 0, 0.0

    def __call__(self, theta: Floats) -> Floats:
        self.count += 1
        if self.count > self.most:
            raise FlowError(
                f"{self.most} gradients were used up at t = {self.time:.6g}; where J has kinks, give them "
                "(kinks=...), else raise max_evaluations or choose another method"
            )
        answer = np.asarray(self.grad(theta), dtype=float)
        if answer.shape != (self.size,):
            raise ValueError(f"grad must return the shape ({self.size},) of theta, got {answer.shape}")
        if not np.all(np.isfinite(answer)):
            raise FlowError(f"the gradient is not finite at t = {self.time:.6g}, |theta| = {np.linalg.norm(theta):.6g}")
        return answer


def _layered(force: Callable[[Floats], Floats], kinks: Callable[[Floats], ArrayLike], width: float) -> Any:
    """Return ``force``, interpolated between the sides of kinks within ``width``."""

    def interpolated(theta: Floats) -> Floats:
        heights = np.atleast_1d(np.asarray(kinks(theta), dtype=float))
        normals = _jacobian(kinks, theta, heights)
        lengths = np.linalg.norm(normals, axis=1)
        near = (lengths > 0) & (np.abs(heights) < width * lengths)
        count = int(np.count_nonzero(near))
        if count == 0:
            return force(theta)
        if count > MOST_MEETING_KINKS:
            raise FlowError(f"{count} kinks meet within the layer; at most {MOST_MEETING_KINKS} can be interpolated")
        normals = normals[near] / lengths[near, None]
        places = heights[near] / lengths[near]  # signed distances to the kinks
        lift = np.linalg.pinv(normals)
        total = np.zeros_like(theta)
        for sides in itertools.product((-1.0, 1.0), repeat=count):
            weight = math.prod((1 + side * place / width) / 2 for side, place in zip(sides, places, strict=True))
            if weight > 0:
                total += weight * force(theta + lift @ (width * np.array(sides) - places))
        return total

    return interpolated


def _jacobian(function: Callable[[Floats], ArrayLike], theta: Floats, heights: Floats) -> Floats:
    """Return central differences, (K, P), exact for affine kinks up to rounding."""
    columns = []
    for index in range(theta.size):
        reach = 1e-6 * (1 + abs(theta[index]))
        shift = np.zeros_like(theta)
        shift[index] = reach
        columns.append((np.asarray(function(theta + shift)) - np.asarray(function(theta - shift))) / (2 * reach))
    return np.stack(columns, axis=1).reshape(heights.size, theta.size)


def _crossings(
    kinks: Callable[[Floats], ArrayLike], path: OdeSolution[Any], size: int, width: float
) -> tuple[Floats, ...]:
    """Return for each kink the times at which the flow crossed its layer."""
    from scipy.optimize import brentq

    def height(t: float, index: int) -> float:
        return float(np.atleast_1d(np.asarray(kinks(path(t)[:size]), dtype=float))[index])

    along = np.array([np.atleast_1d(np.asarray(kinks(state), dtype=float)) for state in path(path.ts)[:size].T])
    found = []
    for index, column in enumerate(along.T):
        outside = np.flatnonzero(np.abs(column) > width)
        changes = np.flatnonzero(np.diff(np.sign(column[outside])))
        brackets = [(path.ts[outside[k]], path.ts[outside[k + 1]]) for k in changes]
        found.append(np.array([brentq(height, *bracket, args=(index,), xtol=1e-14) for bracket in brackets]))
    return tuple(found)


def _vector(name: str, values: ArrayLike) -> Floats:
    vector = np.atleast_1d(np.array(values, dtype=float))
    if vector.ndim != 1 or vector.size == 0 or not np.all(np.isfinite(vector)):
        raise ValueError(f"{name} must be a vector of finite numbers, got {values!r}")
    return vector


def _times(t_eval: ArrayLike, t_end: float) -> Floats:
    times = np.atleast_1d(np.asarray(t_eval, dtype=float))
    # A grid's last point may exceed t_end by rounding.
    inside = times.ndim == 1 and times.size > 0 and np.all((times >= 0) & (times <= t_end * (1 + 1e-12)))
    if not inside or np.any(np.diff(times) <= 0):
        raise ValueError(f"t_eval must increase within [0, {t_end:g}], got {reprlib.repr(times.tolist())}")
    return np.asarray(np.minimum(times, t_end))
