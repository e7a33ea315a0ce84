"""The optimizers and the schedule for Keras, on Keras tensors.

The rule is `inna.dynamics.step`.
"""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import keras
from keras import ops

from inna import dynamics
from inna.checks import check_range
from inna.docstrings import insert
from inna.schedules import power_decay

__all__ = ["INNA", "INNAprop", "INNApropLRFree", "PowerDecay"]

ARGUMENTS = """\
learning_rate: learning rate (gamma) >= 0, a schedule (`PowerDecay` is the paper's) or a function without
    arguments.
alpha: viscous damping, >= 0.
beta: Newtonian damping, >= 0.
initial_speed: s, for the initial velocity -s times the first gradient. The paper's experiments use 1. None is s
    = beta, where the momentum starts at 0, as in the authors' PyTorch code."""
KWARGS = """\
**kwargs: those of ``keras.optimizers.Optimizer``: ``clipnorm``, ``clipvalue``, ``global_clipnorm``,
    ``use_ema``, ``ema_momentum``, ``ema_overwrite_frequency``, ``loss_scale_factor``,
    ``gradient_accumulation_steps``, ``name``."""


SHORT = ("bfloat16", "float16")


@keras.saving.register_keras_serializable("inna")
class PowerDecay(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The paper's learning rates gamma_k = gamma_0 (k + 1)^-q.

    For k = 0, 1, 2, ... (section 5).

    Keras counts micro-steps if gradients are accumulated. Give the optimizer's ``gradient_accumulation_steps`` here
    too,
    and k counts updates of the weights: n accumulated batches then take the steps of one batch n times as large.

    Args:
        initial_learning_rate: gamma_0 >= 0.
        power: q >= 0. The paper uses 1/2 to 1/16; 0 is a constant learning rate.
        gradient_accumulation_steps: micro-steps per update, >= 1.
        name: the name of the schedule.

    Raises:
        ValueError: an argument is out of range.

    >>> float(PowerDecay(0.1, 0.5)(3))
    0.05...
    """

    def __init__(
        self,
        initial_learning_rate: float = 0.1,
        power: float = 0.5,
        gradient_accumulation_steps: int = 1,
        name: str = "PowerDecay",
    ) -> None:
        super().__init__()
        self.initial_learning_rate = _checked("initial_learning_rate", initial_learning_rate, minimum=0.0)
        self.power = _checked("power", power, minimum=0.0)
        self.gradient_accumulation_steps = int(
            _checked("gradient_accumulation_steps", gradient_accumulation_steps, minimum=1)
        )
        if self.gradient_accumulation_steps != gradient_accumulation_steps:
            raise ValueError(f"gradient_accumulation_steps must be an integer, got {gradient_accumulation_steps!r}")
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The learning rate at micro-step ``step``, (), in Keras's float type."""
        k = ops.floor_divide(ops.convert_to_tensor(step), self.gradient_accumulation_steps)
        return self.initial_learning_rate * power_decay(self.power)(ops.cast(k, keras.config.floatx()))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "power": self.power,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "name": self.name,
        }


class _InertialOptimizer(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Base class of INNA and INNAprop.

    Arguments, momentum, initial velocity, steps with a learning rate of 0.
    """

    def __init__(
        self,
        learning_rate: Any,
        alpha: float,
        beta: float,
        initial_speed: float | None,
        weight_decay: float | None,
        **kwargs: Any,
    ) -> None:
        if not callable(learning_rate):
            learning_rate = _checked("learning_rate", learning_rate, minimum=0.0)
        if weight_decay is not None:
            weight_decay = _checked("weight_decay", weight_decay, minimum=0.0)
        alpha, beta = _checked("alpha", alpha, minimum=0.0), _checked("beta", beta, minimum=0.0)
        if initial_speed is not None:
            initial_speed = _checked("initial_speed", initial_speed)
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.alpha = alpha
        self.beta = beta
        self.initial_speed = initial_speed

    @property
    def _counts_steps(self) -> bool:
        return self.initial_speed is not None

    def build(self, variables: list[Any]) -> None:
        """Create the state: momentums of zeros, and step counts if needed."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        if self._counts_steps:
            self._steps = [self.add_variable((), dtype="int32", name=f"steps_{i}") for i in range(len(variables))]

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Do nothing: `update_step` decays.

        INNAprop's momentum needs the variable before its decay.
        """

    def update_step(
        self,
        gradient: Any,  # as variable
        variable: Any,  # any shape
        learning_rate: Any,  # ()
    ) -> None:
        """Take one step of one variable; called by Keras.

        With a learning rate of 0 nothing changes.

        Args:
            gradient: the gradient, shaped like ``variable``.
            variable: a variable of any shape, updated in place with its state.
            learning_rate: the learning rate (gamma), of shape ().
        """
        index = self._get_variable_index(variable)
        momentum = self._momentums[index]
        # 16-bit variables are stepped in single precision. Keras's result_type would turn float64 into float32.
        dtype = keras.backend.standardize_dtype(variable.dtype)
        dtype = "float32" if dtype in SHORT else dtype
        if hasattr(gradient, "dense_shape"):  # TensorFlow's IndexedSlices, from an embedding
            gradient = ops.add(ops.zeros_like(variable), gradient)
        theta, m, g, lr = (ops.convert_to_tensor(x, dtype) for x in (variable, momentum, gradient, learning_rate))
        moves = ops.not_equal(lr, 0)
        count = None
        if self._counts_steps:
            count = ops.convert_to_tensor(self._steps[index]) + ops.cast(moves, "int32")
        decay = self.weight_decay if self.weight_decay and self._use_weight_decay(variable) else 0.0
        start, m_start, g = self._prepare(index, theta, m, g, lr, decay, moves, count)
        if self.initial_speed is not None:
            first = ops.cast(ops.equal(count, 1), dtype)
            m_start = m_start + first * dynamics.initial_momentum(g, self.beta, self.initial_speed)
        new_theta, new_m = dynamics.step(start, m_start, g, lr, self.alpha, self.beta)
        self._keep(variable, new_theta, theta, moves)
        self._keep(momentum, new_m, m, moves)
        if count is not None:
            self.assign(self._steps[index], count)

    def _keep(self, variable: Any, new: Any, old: Any, moves: Any) -> None:
        self.assign(variable, ops.cast(ops.where(moves, new, old), variable.dtype))

    def _prepare(
        self, index: int, theta: Any, momentum: Any, grad: Any, lr: Any, decay: float, moves: Any, count: Any
    ) -> tuple[Any, Any, Any]:
        """Return (theta, momentum, grad) as the step takes them: decayed or rescaled."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for ``from_config``."""
        ours = {"alpha": self.alpha, "beta": self.beta, "initial_speed": self.initial_speed}
        return {**super().get_config(), **ours}


@keras.saving.register_keras_serializable("inna")
@insert(arguments=ARGUMENTS, kwargs=KWARGS)
class INNA(_InertialOptimizer):
    """INNA, the inertial Newton algorithm, with one variable of state per weight.

        theta_{k+1} = theta_k - gamma_k (m_k + beta g_k)
        m_{k+1}     = (1 - alpha gamma_k) m_k + gamma_k (1 - alpha beta) g_k

    A step with a learning rate of 0 changes nothing.

    Args:
        {arguments}
        weight_decay: lambda >= 0 or None. As in Keras, theta is multiplied by (1 - gamma lambda) before the step, and
            the momentum does not change. The fixed point is that of an L2 penalty with alpha lambda. The authors' decay
            adds lambda/beta theta to the gradient; for it, use such a penalty in the loss or a ``kernel_regularizer``.
        {kwargs}

    Raises:
        ValueError: an argument is out of range or unknown.

    Source: Castera, Bolte, Févotte, Pauwels, JMLR 22(134), 2021, eq. (12).

    >>> weight = keras.Variable([1.0, -2.0])
    >>> optimizer = INNA(learning_rate=0.1, alpha=0.5, beta=0.1)
    >>> for _ in range(200):
    ...     optimizer.apply([2 * weight.value], [weight])
    >>> bool(ops.max(ops.abs(weight)) < 0.02)
    True
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        alpha: float = 0.5,
        beta: float = 0.1,
        initial_speed: float | None = None,
        weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, alpha, beta, initial_speed, weight_decay, **kwargs)

    def _prepare(
        self, index: int, theta: Any, momentum: Any, grad: Any, lr: Any, decay: float, moves: Any, count: Any
    ) -> tuple[Any, Any, Any]:
        return (1 - lr * decay) * theta if decay else theta, momentum, grad


@keras.saving.register_keras_serializable("inna")
@insert(arguments=ARGUMENTS, kwargs=KWARGS)
class INNAprop(_InertialOptimizer):
    """INNAprop: the step of `INNA` on RMSprop's gradient ghat.

    It has two variables of state per weight.

        v_{k+1} = sigma v_k + (1 - sigma) g_k²        ghat_k = g_k / (sqrt(v_{k+1}/(1 - sigma^(k+1))) + epsilon)

    Args:
        {arguments}
        sigma: decay rate of v, in [0, 1).
        epsilon: added to the root, >= 0. The name ``eps`` is deprecated.
        weight_decay: lambda >= 0 or None. As published, theta is multiplied by (1 - gamma lambda) and gamma lambda
            (1/beta - alpha) theta is added to the momentum, before the step. It needs beta > 0.
        {kwargs}

    Raises:
        ValueError: an argument is out of range or unknown, or beta = 0 with weight decay.

    Source: Bolte, Boustany, Pauwels, Purica, arXiv 2410.05871, 2024.

    >>> weight = keras.Variable([1.0, -2.0])
    >>> optimizer = INNAprop(learning_rate=0.1, weight_decay=None)
    >>> optimizer.apply([2 * weight.value], [weight])
    >>> # the first step is gamma beta against the gradient's sign
    >>> bool(ops.all(ops.abs(weight - ops.array([0.91, -1.91])) < 1e-4))
    True
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        alpha: float = 0.1,
        beta: float = 0.9,
        sigma: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float | None = 0.01,
        initial_speed: float | None = None,
        **kwargs: Any,
    ) -> None:
        if "eps" in kwargs:
            warnings.warn("INNAprop(eps=...) is deprecated, write epsilon=...", DeprecationWarning, stacklevel=2)
            epsilon = kwargs.pop("eps")
        sigma = _checked("sigma", sigma, minimum=0.0, below=1.0)
        epsilon = _checked("epsilon", epsilon, minimum=0.0)
        own_name = {INNAprop: "innaprop", INNApropLRFree: "innaprop_lr_free"}.get(type(self))
        if own_name is not None and kwargs.get("name") is None:
            # Keras would make inn_aprop of the class's name.
            uid = keras.backend.get_uid(own_name)
            kwargs["name"] = own_name if uid == 1 else f"{own_name}_{uid - 1}"
        super().__init__(learning_rate, alpha, beta, initial_speed, weight_decay, **kwargs)
        self.sigma = sigma
        self.epsilon = epsilon
        if self.weight_decay and self.beta == 0 and not isinstance(self, INNApropLRFree):
            raise ValueError(f"beta must be > 0 with weight_decay (1/beta is taken), got {beta!r}")

    @property
    def _counts_steps(self) -> bool:
        return True

    def build(self, variables: list[Any]) -> None:
        """Create the state: that of `INNA`, and the mean of g² of each variable."""
        if self.built:
            return
        super().build(variables)
        self._exp_avg_sqs = self.add_optimizer_variables(variables, "exp_avg_sq")

    def _prepare(
        self, index: int, theta: Any, momentum: Any, grad: Any, lr: Any, decay: float, moves: Any, count: Any
    ) -> tuple[Any, Any, Any]:
        old = ops.convert_to_tensor(self._exp_avg_sqs[index], grad.dtype)
        grad, exp_avg_sq = dynamics.rescale(grad, old, ops.cast(count, grad.dtype), self.sigma, self.epsilon)
        self._keep(self._exp_avg_sqs[index], exp_avg_sq, old, moves)
        if decay:
            theta, momentum = dynamics.decay_innaprop(theta, momentum, lr, self.alpha, self.beta, decay)
        return theta, momentum, grad

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for ``from_config``."""
        return {**super().get_config(), "sigma": self.sigma, "epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> INNAprop:
        """Make the optimizer of ``get_config``, also of an older one with ``eps``."""
        config = {("epsilon" if name == "eps" else name): value for name, value in config.items()}
        return super().from_config(config, custom_objects)  # type: ignore[no-any-return]


@keras.saving.register_keras_serializable("inna")
@insert(kwargs=KWARGS)
class INNApropLRFree(INNAprop):
    """INNAprop that finds the length of its steps, without a learning rate.

    It has four variables of state per weight.

        w      = (d/d_0) d l        r' = sqrt(sigma) r + w <g, theta_0 - theta>        s' = sqrt(sigma) s + w g
        d'     = max(d, r'/|s'|_1)
        theta' = theta - d' l/(M + beta) (m + beta ghat)
        m'     = (1 - alpha h) m + h (1 - alpha beta) ghat        M' = (1 - alpha h) M + h (1 - alpha beta)

    with the rescaled gradient ghat of `INNAprop`. The distance d estimates how far the farthest weight is from its
    value at a solution. It starts at d_0 and never shrinks. M is the total weight of the gradients in m, so a step
    moves each weight by about d. A step with l = 0 or a sum that is not finite changes nothing.

    Args:
        learning_rate: the factor l >= 0 of the step, a number, a schedule or a function without arguments. A decay from
            1 to 0 helps.
        alpha: viscous damping, > 0.
        beta: Newtonian damping, with 0 <= beta <= 1/alpha.
        sigma: decay rate of v, in [0, 1).
        epsilon: added to the root, >= 0.
        weight_decay: lambda >= 0 or None; theta is multiplied by (1 - d' l lambda), and the momentum does not change.
        initial_distance: d_0 > 0, smaller than any weight's distance to a solution; it grows.
        time_step: h of the momentum, with 0 < h <= 1/alpha. None is 0.1/alpha.
        {kwargs}

    Raises:
        ValueError: an argument is out of range or unknown; a variable has fewer than 32 bits, in which the first steps
            would be lost; or TensorFlow trains on several replicas.

    Source: the estimate is Prodigy's (Mishchenko and Defazio, arXiv 2306.06101), on INNAprop's average.

    >>> weight = keras.Variable([3.0, -2.0])
    >>> schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 200, 0.0)
    >>> optimizer = INNApropLRFree(schedule)
    >>> for _ in range(200):
    ...     optimizer.apply([ops.sign(weight)], [weight])  # of |theta|, with the solution 0
    >>> bool(ops.max(ops.abs(weight)) < 0.1), 0.1 < float(optimizer.distance) <= 3.0
    (True, True)
    """

    def __init__(
        self,
        learning_rate: Any = 1.0,
        alpha: float = dynamics.INNAPROP_DEFAULTS.alpha,
        beta: float = dynamics.INNAPROP_DEFAULTS.beta,
        sigma: float = dynamics.INNAPROP_DEFAULTS.sigma,
        epsilon: float = dynamics.INNAPROP_DEFAULTS.eps,
        weight_decay: float | None = None,
        initial_distance: float = dynamics.LR_FREE_DISTANCE,
        time_step: float | None = None,
        **kwargs: Any,
    ) -> None:
        alpha = _checked("alpha", alpha, minimum=0.0, exclusive=True)
        initial_distance = _checked("initial_distance", initial_distance, minimum=0.0, exclusive=True)
        if time_step is not None:
            time_step = _checked("time_step", time_step, minimum=0.0, exclusive=True)
        super().__init__(learning_rate, alpha, beta, sigma, epsilon, weight_decay, initial_speed=None, **kwargs)
        dynamics.check_weights(alpha, beta=self.beta, time_step=time_step)
        self.initial_distance = initial_distance
        self.time_step = time_step

    @property
    def distance(self) -> Any:
        """The distance d, a variable of shape (). It exists once the optimizer is built."""
        return self._distance

    def build(self, variables: list[Any]) -> None:
        """Create the state: that of `INNAprop`, theta_0 and s, and three numbers."""
        if self.built:
            return
        dtypes = [keras.backend.standardize_dtype(variable.dtype) for variable in variables]
        for variable, dtype in zip(variables, dtypes, strict=True):
            if dtype in SHORT:
                raise ValueError(
                    f"INNApropLRFree needs variables of at least 32 bits, got {dtype} in {variable.path}: the first "
                    "steps would be lost in rounding; use the policy mixed_bfloat16 or mixed_float16"
                )
        super().build(variables)
        self._starts = self.add_optimizer_variables(variables, "start")
        self._grad_sums = self.add_optimizer_variables(variables, "grad_sum")
        dtype = "float64" if "float64" in dtypes else "float32"
        first = keras.initializers.Constant(self.initial_distance)
        self._distance = self.add_variable((), initializer=first, dtype=dtype, name="distance")
        self._correlation = self.add_variable((), dtype=dtype, name="correlation")
        self._average_weight = self.add_variable((), dtype=dtype, name="average_weight")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Refuse to step one variable: the distance is found from all of them.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("INNApropLRFree steps all variables together: call apply(grads, variables)")

    def _backend_update_step(self, grads: list[Any], trainable_variables: list[Any], learning_rate: Any) -> None:
        """Find the distance from all gradients, then take the step of each variable.

        Called by Keras.
        """
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow's
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"INNApropLRFree does not sum over TensorFlow's replicas, got {strategy.num_replicas_in_sync}: "
                "train on one, or use INNAprop"
            )
        dtype = keras.backend.standardize_dtype(self._distance.dtype)
        scalars = (self._distance, self._correlation, self._average_weight)
        lr, distance, correlation, average = (ops.convert_to_tensor(x, dtype) for x in (learning_rate, *scalars))
        weight = dynamics.distance_weight(distance, self.initial_distance, lr)
        moved = norm = ops.zeros((), dtype)
        rows = []
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            if hasattr(gradient, "dense_shape"):  # TensorFlow's IndexedSlices, from an embedding
                gradient = ops.add(ops.zeros_like(variable), gradient)
            theta, start, grad_sum, g = (
                ops.convert_to_tensor(x, variable.dtype)
                for x in (variable, self._starts[index], self._grad_sums[index], gradient)
            )
            start = ops.where(ops.equal(self._steps[index], 0), theta, start)
            new_sum = dynamics.accumulate(grad_sum, g, ops.cast(weight, g.dtype), self.sigma)
            moved = moved + ops.cast(ops.sum(g * (start - theta)), dtype)
            norm = norm + ops.cast(ops.sum(ops.abs(new_sum)), dtype)
            rows.append((index, variable, theta, start, grad_sum, new_sum, g))
        for index in set(range(len(self._grad_sums))) - {index for index, *_ in rows}:
            norm = norm + ops.cast(ops.sum(ops.abs(self._grad_sums[index])), dtype)
        new_correlation = dynamics.accumulate(correlation, moved, weight, self.sigma)
        # inna.dynamics.grow_distance multiplies by bools, which TensorFlow does not.
        grows = ops.logical_and(norm > 0, new_correlation > distance * norm)
        new_distance = ops.where(grows, new_correlation / ops.where(grows, norm, 1.0), distance)
        finite = ops.logical_and(ops.isfinite(new_correlation), ops.isfinite(norm))
        moves = ops.logical_and(ops.not_equal(lr, 0), finite)
        total = average + self.beta
        total = ops.where(ops.equal(total, 0), 1.0, total)  # then the momentum is 0, and so is the step
        length = new_distance * lr
        h = dynamics.LR_FREE_TIME_STEP / self.alpha if self.time_step is None else self.time_step
        for index, variable, theta, start, grad_sum, new_sum, g in rows:
            count = ops.convert_to_tensor(self._steps[index]) + ops.cast(moves, "int32")
            step, shrink = (ops.cast(x, g.dtype) for x in (length / total, length))
            m, v = (ops.convert_to_tensor(x[index], g.dtype) for x in (self._momentums, self._exp_avg_sqs))
            rescaled, new_v = dynamics.rescale(g, v, ops.cast(count, g.dtype), self.sigma, self.epsilon)
            decays = self.weight_decay and self._use_weight_decay(variable)
            shrunk = (1 - shrink * self.weight_decay) * theta if decays else theta
            new_theta, new_m = dynamics.step(shrunk, m, rescaled, step, self.alpha, self.beta, h)
            self._keep(variable, new_theta, theta, moves)
            self._keep(self._momentums[index], new_m, m, moves)
            self._keep(self._exp_avg_sqs[index], new_v, v, moves)
            self._keep(self._starts[index], start, ops.convert_to_tensor(self._starts[index]), moves)
            self._keep(self._grad_sums[index], new_sum, grad_sum, moves)
            self.assign(self._steps[index], count)
        new_average = dynamics.update_average(average, 1.0, h, self.alpha, self.beta)
        for variable, new, old in zip(
            scalars, (new_distance, new_correlation, new_average), (distance, correlation, average), strict=True
        ):
            self._keep(variable, new, old, moves)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for ``from_config``."""
        config = {**super().get_config(), "initial_distance": self.initial_distance, "time_step": self.time_step}
        del config["initial_speed"]
        return config


def _checked(name: str, value: Any, **bounds: Any) -> float:
    """Return ``value`` as a float if it is in the range.

    Refuse variables, whose changes would be missed.
    """
    if hasattr(value, "dtype") and not isinstance(value, numbers.Real):
        ways = "a number, a schedule or a function without arguments" if name == "learning_rate" else "a number"
        then = "; to change it, assign to optimizer.learning_rate" if name == "learning_rate" else ""
        raise ValueError(
            f"{name} must be {ways}, got {value!r}. Later changes of a variable, tensor or array would be ignored: "
            f"pass float({name}){then}"
        )
    return check_range(name, value, **bounds)
