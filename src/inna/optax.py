"""INNA and INNAprop for Optax: gradient transformations that apply the learning rate, since gamma enters the state.

    params, state = ...;  updates, state = optimizer.update(grads, state, params);  optax.apply_updates(params, updates)

The rule is `inna.dynamics.step`. A second form gives the same iterates from the new momentum m' instead of the old one:

    u = -gamma (m + beta g) = -gamma/(1 - alpha gamma) (m' + (beta - gamma) g)

With donated buffers, XLA on the CPU then writes m' over m. In the first form it copies m, which doubles the time of a
step. The second form divides, so it is taken only if |1 - alpha gamma| >= 1/2 is known in advance. Otherwise, see
docs/from-sgd-or-adam.md.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import ScalarOrSchedule

from inna import dynamics
from inna.checks import check_range
from inna.docstrings import insert

__all__ = ["InertialState", "inna", "innaprop"]

# A tree of bools like the parameters or a prefix of it, or a function from the parameters to one.
Mask = Any

RATES = """\
learning_rate: learning rate (gamma) >= 0, or a schedule. It is applied here: add no ``scale_by_learning_rate``.
alpha: viscous damping >= 0, or a schedule.
beta: Newtonian damping >= 0, or a schedule."""
OPTIONS = """\
initial_speed: s, for the initial velocity -s times the first gradient. The paper's experiments use 1. None is s
    = beta, where the momentum starts at 0, as in the authors' code.
mask: where to decay: a tree of bools like the parameters, a prefix of one, or a function that makes it.
momentum_dtype: dtype of the momentum. None is that of each parameter. Arithmetic is at least in float32.
max_learning_rate: a bound at which a schedule or traced learning rate is clipped. If it and alpha are numbers
    with alpha max_learning_rate <= 1/2, the faster of the two forms above serves schedules too."""


class InertialState(NamedTuple):
    """State of `inna` and `innaprop`.

    ``count`` is the number of calls, the argument of schedules. ``steps`` does not count calls with lr = 0.
    ``momentum`` is m, and ``exp_avg_sq`` is INNAprop's running mean of g², at least in float32; None for INNA.
    """

    # () in int32; hides tuple.count, as Optax's own states do
    count: jax.Array  # type: ignore[assignment]
    steps: jax.Array  # (), int32
    momentum: optax.Updates  # as the parameters
    exp_avg_sq: optax.Updates | None  # as the parameters


@insert(rates=RATES, options=OPTIONS)
def inna(
    learning_rate: ScalarOrSchedule = 0.1,
    alpha: ScalarOrSchedule = 0.5,
    beta: ScalarOrSchedule = 0.1,
    *,
    initial_speed: float | jax.Array | None = None,
    weight_decay: float | jax.Array = 0.0,
    mask: Mask | None = None,
    decoupled_weight_decay: bool = False,
    momentum_dtype: Any | None = None,
    max_learning_rate: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""INNA, the inertial Newton algorithm, as a gradient transformation.

    .. math::
        u_k &= -\gamma_k (m_k + \beta g_k) \\
        m_{k+1} &= (1 - \alpha\gamma_k) m_k + \gamma_k (1 - \alpha\beta) g_k

    A step with a learning rate of 0 changes neither parameters nor momentum; only the count of schedules advances.
    To maximise, put ``optax.scale(-1.0)`` before it in a chain.

    Args:
        {rates}
        weight_decay: lambda >= 0; lambda theta is added to the gradient.
        decoupled_weight_decay: multiply theta by (1 - gamma lambda) instead, without changing the momentum. The fixed
            point is that of an L2 penalty with alpha lambda.
        {options}

    Returns:
        The transformation. With weight decay, ``update`` needs ``params``.

    Raises:
        ValueError: an argument is out of range. Schedules and traced values are not checked.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from inna.optax import inna
        >>> optimizer = inna(learning_rate=0.1, alpha=0.5, beta=0.1)
        >>> params = jnp.array([1.0, -2.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(200):
        ...     grads = jax.grad(lambda x: jnp.sum(x**2))(params)
        ...     updates, state = optimizer.update(grads, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> bool(jnp.abs(params).max() < 0.02)
        True

    References:
        Castera, Bolte, Févotte, Pauwels, An Inertial Newton Algorithm for Deep Learning, JMLR 22(134), 2021, eq. (12).
    """
    rates = _Rates.checked(learning_rate, alpha, beta, weight_decay, initial_speed, max_learning_rate)

    def prepare(
        theta: Any, momentum: Any, exp_avg_sq: Any, grad: Any, now: _Rates, moves: Any, steps: Any
    ) -> tuple[Any, ...]:
        if now.weight_decay is None:
            return theta, momentum, exp_avg_sq, grad
        if decoupled_weight_decay:
            return (1 - now.learning_rate * now.weight_decay) * theta, momentum, exp_avg_sq, grad
        return theta, momentum, exp_avg_sq, grad + now.weight_decay * theta

    return _transformation("inna", rates, prepare, mask, momentum_dtype, averages_squares=False)


@insert(rates=RATES, options=OPTIONS)
def innaprop(
    learning_rate: ScalarOrSchedule = 1e-3,
    alpha: ScalarOrSchedule = 0.1,
    beta: ScalarOrSchedule = 0.9,
    sigma: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    weight_decay: float | jax.Array = 0.01,
    *,
    initial_speed: float | jax.Array | None = None,
    mask: Mask | None = None,
    momentum_dtype: Any | None = None,
    max_learning_rate: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""INNAprop: INNA on RMSprop's gradient.

    .. math::
        v_{k+1} &= \sigma v_k + (1 - \sigma) g_k^2 \\
        \hat g_k &= g_k / (\sqrt{v_{k+1} / (1 - \sigma^{k+1})} + \epsilon)

    and the step of `inna` with :math:`\hat g_k`. Complex gradients are rescaled by their real and imaginary parts.

    Args:
        {rates}
        sigma: decay rate of the mean of g², in [0, 1).
        eps: added to the root, >= 0.
        weight_decay: lambda >= 0. As published, theta is multiplied by (1 - gamma lambda) and gamma lambda
            (1/beta - alpha) theta is added to the momentum, before the step. It needs beta > 0.
        {options}

    Returns:
        The transformation. With weight decay, ``update`` needs ``params``.

    Raises:
        ValueError: an argument is out of range, or beta = 0 with weight decay.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> from inna.optax import innaprop
        >>> optimizer = innaprop(learning_rate=0.1, weight_decay=0.0)
        >>> params = jnp.array([1.0, -2.0])
        >>> updates, state = optimizer.update(2 * params, optimizer.init(params), params)
        >>> print(updates.round(4))  # the first step is gamma beta against the sign of the gradient
        [-0.09  0.09]

    References:
        Bolte, Boustany, Pauwels, Purica, A second-order-like optimizer with adaptive gradient scaling for deep
        learning, arXiv 2410.05871, 2024.
    """
    rates = _Rates.checked(learning_rate, alpha, beta, weight_decay, initial_speed, max_learning_rate)
    sigma = _checked("sigma", sigma, minimum=0.0, below=1.0)
    eps = _checked("eps", eps, minimum=0.0)
    if rates.weight_decay is not None and isinstance(rates.beta, float) and rates.beta == 0:
        raise ValueError(f"beta must be > 0 with weight_decay (1/beta is taken), got {beta!r}")

    # Two functions, because a closure that refers to itself cannot be made a pytree, as Optimistix does.
    def rescale_real(grad: Any, exp_avg_sq: Any, steps: Any, moves: Any) -> tuple[Any, Any]:
        # Only the stored mean is computed: a second one would need a copy, see above. If the step changes nothing, it
        # may be 0, whose root has no derivative.
        exp_avg_sq = jnp.where(moves, dynamics.average_square(grad, exp_avg_sq, sigma), exp_avg_sq)
        safe = jnp.where(moves, exp_avg_sq, 1)
        return dynamics.divide_by_root(grad, safe, steps.astype(grad.dtype), sigma, eps), exp_avg_sq

    def rescale(grad: Any, exp_avg_sq: Any, steps: Any, moves: Any) -> tuple[Any, Any]:
        if not jnp.iscomplexobj(grad):
            return rescale_real(grad, exp_avg_sq, steps, moves)
        real, real_sq = rescale_real(grad.real, exp_avg_sq.real, steps, moves)
        imag, imag_sq = rescale_real(grad.imag, exp_avg_sq.imag, steps, moves)
        return jax.lax.complex(real, imag), jax.lax.complex(real_sq, imag_sq)

    def prepare(
        theta: Any, momentum: Any, exp_avg_sq: Any, grad: Any, now: _Rates, moves: Any, steps: Any
    ) -> tuple[Any, ...]:
        grad, exp_avg_sq = rescale(grad, exp_avg_sq, steps, moves)
        if now.weight_decay is not None:
            theta, momentum = dynamics.decay_innaprop(
                theta, momentum, now.learning_rate, now.alpha, now.beta, now.weight_decay
            )
        return theta, momentum, exp_avg_sq, grad

    return _transformation("innaprop", rates, prepare, mask, momentum_dtype, averages_squares=True)


class _Rates(NamedTuple):
    """The hyper-parameters: checked floats if they are known in advance, else tracers or schedules.

    ``weight_decay`` is None without weight decay. A pytree, so that libraries that look for arrays in closures find
    those here.
    """

    learning_rate: Any
    alpha: Any
    beta: Any
    weight_decay: Any
    initial_speed: Any
    max_learning_rate: Any

    @classmethod
    def checked(
        cls, learning_rate: Any, alpha: Any, beta: Any, weight_decay: Any, initial_speed: Any, max_learning_rate: Any
    ) -> "_Rates":
        """Check the arguments of `inna` and `innaprop`."""
        decay = _checked("weight_decay", weight_decay, minimum=0.0)
        return cls(
            _checked("learning_rate", learning_rate, schedule=True, minimum=0.0),
            _checked("alpha", alpha, schedule=True, minimum=0.0),
            _checked("beta", beta, schedule=True, minimum=0.0),
            None if isinstance(decay, float) and decay == 0 else decay,
            None if initial_speed is None else _checked("initial_speed", initial_speed),
            None if max_learning_rate is None else _checked("max_learning_rate", max_learning_rate, minimum=0.0),
        )

    def divisible(self) -> bool:
        """Whether |1 - alpha gamma| >= 1/2 at every step, so that dividing by it loses at most one bit."""
        if not isinstance(self.alpha, float):
            return False
        if isinstance(self.learning_rate, float) and self.max_learning_rate is None:
            return abs(1 - self.alpha * self.learning_rate) >= 0.5
        return isinstance(self.max_learning_rate, float) and self.alpha * self.max_learning_rate <= 0.5

    def at(self, count: jax.Array) -> "_Rates":
        """The hyper-parameters of one step: floats and arrays of shape ()."""
        lr, alpha, beta = (value(count) if callable(value) else value for value in self[:3])
        if self.max_learning_rate is not None:
            lr = jnp.minimum(lr, self.max_learning_rate)
        return self._replace(learning_rate=lr, alpha=alpha, beta=beta)

    def for_array(self, dtype: Any, decays: Any) -> "_Rates":
        """The hyper-parameters for one array of parameters: arrays in the real ``dtype``, decay only if ``decays``.

        Floats stay floats, so that their products are rounded once.
        """
        decay = self.weight_decay
        if decay is not None and isinstance(decays, (bool, np.bool_)):
            decay = decay if decays else None
        elif decay is not None:
            decay = decay * decays
        now = self._replace(weight_decay=decay)
        return _Rates(*(x if x is None or isinstance(x, float) else jnp.asarray(x, dtype) for x in now))


def _transformation(
    name: str,
    rates: _Rates,
    prepare: Callable[..., tuple[Any, ...]],
    mask: Mask | None,
    momentum_dtype: Any | None,
    *,
    averages_squares: bool,
) -> optax.GradientTransformationExtraArgs:
    """Make the transformation of `inna` or `innaprop`.

    Args:
        name: the name, for messages.
        rates: the hyper-parameters.
        prepare: a function of (theta, momentum, exp_avg_sq, grad, rates, moves, steps) that applies decay and
            rescaling; it returns the first four as the step takes them, with the mean square to store.
        mask: where to decay.
        momentum_dtype: dtype of the momentum.
        averages_squares: whether the state has a mean of g².
    """
    if momentum_dtype is not None:
        momentum_dtype = jax.dtypes.canonicalize_dtype(momentum_dtype)
        if not jnp.issubdtype(momentum_dtype, jnp.inexact):
            raise ValueError(f"momentum_dtype must be a floating or complex dtype or None, got {momentum_dtype}")

    def init(params: optax.Params) -> InertialState:
        for path, param in jax.tree.leaves_with_path(params):
            dtype = jnp.result_type(param)
            if not jnp.issubdtype(dtype, jnp.inexact):
                raise TypeError(f"{name} moves floating or complex parameters, got {dtype} at params{_keys(path)}")
        momentum = jax.tree.map(lambda p: jnp.zeros_like(p, momentum_dtype or jnp.result_type(p)), params)
        exp_avg_sq = None
        if averages_squares:
            exp_avg_sq = jax.tree.map(lambda p: jnp.zeros_like(p, _at_least_single(p)), params)
        # Two arrays: one buffer cannot be donated twice.
        count, steps = jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32)
        return InertialState(count, steps, momentum, exp_avg_sq)

    def update(
        grads: optax.Updates, state: InertialState, params: optax.Params | None = None, **_: Any
    ) -> tuple[optax.Updates, InertialState]:
        gradients = _leaves("grads", grads, state.momentum)
        if params is not None:
            thetas = _leaves("params", params, state.momentum)
        elif rates.weight_decay is None:
            params, thetas = grads, gradients  # only their dtypes matter
        else:
            raise ValueError(f"{name} with weight decay needs the parameters: call update(grads, state, params)")
        now = rates.at(state.count)
        moves = now.learning_rate != 0
        steps = state.steps + jnp.asarray(moves, jnp.int32)

        def move(decays: Any, theta: Any, grad: Any, momentum: Any, exp_avg_sq: Any = None) -> tuple[Any, Any, Any]:
            dtype = jnp.promote_types(_at_least_single(theta), momentum.dtype)
            rates_here = now.for_array(jnp.zeros([], dtype).real.dtype, decays)
            lr, alpha, beta = rates_here.learning_rate, rates_here.alpha, rates_here.beta
            p, g, m = (jnp.asarray(x).astype(dtype) for x in (theta, grad, momentum))
            start = p, m, exp_avg_sq, g, rates_here, moves
            shrunk, m, v, g = prepare(*start, state.steps + 1)
            if rates.initial_speed is not None:
                m = m + jnp.where(state.steps == 0, dynamics.initial_momentum(g, beta, rates_here.initial_speed), 0)
            u, m = dynamics.step(0.0, m, g, lr, alpha, beta)
            m = jnp.where(moves, m.astype(momentum.dtype), momentum)
            if rates.divisible() and m.dtype == dtype:
                # Recompute INNAprop's gradient from a count that XLA cannot identify with the first. Otherwise XLA
                # stores the first gradient in fresh memory, which takes longer than the root.
                again = jax.lax.optimization_barrier(state.steps + 1)  # type: ignore[no-untyped-call]
                *_, g = prepare(*start, again)
                u = -lr / (1 - alpha * lr) * (m + (beta - lr) * g)
            if shrunk is not p:
                u = u + (shrunk - p)
            # An integer must not truncate its update, nor a real gradient that of a complex parameter.
            to = jnp.result_type(theta)
            kind = jnp.complexfloating if jnp.iscomplexobj(u) else jnp.floating
            return jnp.where(moves, u, 0).astype(to if jnp.issubdtype(to, kind) else momentum.dtype), m, v

        tree: Any = jax.tree.structure(state.momentum)
        state_trees = [state.momentum, *([state.exp_avg_sq] if averages_squares else [])]
        columns = [thetas, gradients, *(_leaves("state", x, state.momentum) for x in state_trees)]
        decays = tree.flatten_up_to(_broadcast(mask, params))
        moved = [move(row_decays, *row) for row_decays, *row in zip(decays, *columns, strict=True)]
        updates, momentum, exp_avg_sq = (tree.unflatten([row[i] for row in moved]) for i in range(3))
        return updates, InertialState(
            optax.safe_increment(state.count), steps, momentum, exp_avg_sq if averages_squares else None
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _broadcast(mask: Mask | None, params: optax.Params) -> Any:
    mask = True if mask is None else mask(params) if callable(mask) else mask
    return jax.tree.map(lambda decays, below: jax.tree.map(lambda _: decays, below), mask, params)


def _leaves(what: str, values: Any, like: Any) -> list[Any]:
    """Return the leaves of ``values`` in the order of those of ``like``.

    Raises:
        ValueError: a leaf is missing, superfluous, or neither a number nor of the shape of that in ``like``. The
            message names it. None and ``optax.MaskedNode`` have no leaves.
    """
    tree: Any = jax.tree.structure(like)
    if jax.tree.structure(values) != tree:
        ours, theirs = (dict(jax.tree.leaves_with_path(x)) for x in (like, values))
        for path in ours:
            if path not in theirs:
                raise ValueError(
                    f"{what}{_keys(path)} must be an array, got none (None, a masked node or a missing key). "
                    "Pass zeros, or exclude the parameter with optax.masked or optax.multi_transform"
                )
        for path in theirs:
            if path not in ours:
                raise ValueError(f"{what}{_keys(path)} belongs to no parameter of the state")
    leaves: list[Any] = tree.flatten_up_to(values)
    for i, (leaf, one) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True)):
        if jnp.shape(leaf) not in ((), jnp.shape(one)):
            path = jax.tree.leaves_with_path(like)[i][0]
            raise ValueError(
                f"{what}{_keys(path)} must have the shape {jnp.shape(one)} of its parameter, got {jnp.shape(leaf)}"
            )
    return leaves


def _keys(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _at_least_single(x: Any) -> Any:
    return jnp.promote_types(jnp.result_type(x), jnp.float32)


def _checked(name: str, value: Any, *, schedule: bool = False, **bounds: Any) -> Any:
    if isinstance(value, jax.core.Tracer) or (schedule and callable(value)):
        return value
    try:
        return check_range(name, value, **bounds)
    except ValueError as error:
        if not _is_rounded(name, value, **bounds):
            raise
        raise ValueError(
            f"{error}: {value.dtype} rounds numbers near the limit to it. optax.inject_hyperparams casts to the dtype "
            "of the parameters; pass it hyperparam_dtype=jnp.float32"
        ) from None


def _is_rounded(name: str, value: Any, **bounds: Any) -> bool:
    """Return whether ``value`` is an array of at most 16 bits, and its neighbour of this dtype is in the range."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize > 2 or jnp.shape(value) != ():
        return False
    try:
        check_range(name, np.nextafter(np.asarray(value), np.zeros((), dtype)), **bounds)
    except ValueError:
        return False
    return True
