"""Hyper-parameters of the transformations.

Checked when they are made, and read at each step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inna import dynamics
from inna.checks import check_range

__all__ = ["Rates", "Settings", "check_average", "checked", "read_dtype"]


class Settings(NamedTuple):
    """The hyper-parameters of one step: floats and arrays of shape ()."""

    lr: Any
    """Length of the step along m + beta g."""
    alpha: Any
    beta: Any
    time_step: Any
    """Time step h of the momentum. None is lr."""
    decay_lr: Any
    """Learning rate of weight decay that multiplies theta."""
    weight_decay: Any
    """None without weight decay."""
    initial_speed: Any

    def for_array(self, dtype: Any, decays: Any) -> Settings:
        """The settings for one array of parameters.

        Arrays in the real ``dtype``, decay only if ``decays``.

        Floats stay floats, so that their products are rounded once.
        """
        decay = self.weight_decay
        if decay is not None and isinstance(decays, (bool, np.bool_)):
            decay = decay if decays else None
        elif decay is not None:
            decay = decay * decays
        now = self._replace(weight_decay=decay)
        return Settings(*(x if x is None or isinstance(x, float) else jnp.asarray(x, dtype) for x in now))


class Rates(NamedTuple):
    """The hyper-parameters.

    Checked floats if they are known in advance, else tracers or schedules.

    ``weight_decay`` is None without weight decay. A pytree, so that libraries that look for arrays in closures find
    those here.
    """

    learning_rate: Any
    alpha: Any
    beta: Any
    weight_decay: Any
    initial_speed: Any
    max_learning_rate: Any
    time_step: Any

    @classmethod
    def checked(
        cls,
        learning_rate: Any,
        alpha: Any,
        beta: Any,
        weight_decay: Any,
        *,
        initial_speed: Any = None,
        max_learning_rate: Any = None,
        time_step: Any = None,
        name: str = "learning_rate",
    ) -> Rates:
        """Check the arguments of the transformations.

        ``name`` is that of the learning rate, for messages.
        """
        decay = checked("weight_decay", weight_decay, minimum=0.0)
        return cls(
            checked(name, learning_rate, schedule=True, minimum=0.0),
            checked("alpha", alpha, schedule=True, minimum=0.0),
            checked("beta", beta, schedule=True, minimum=0.0),
            None if isinstance(decay, float) and decay == 0 else decay,
            None if initial_speed is None else checked("initial_speed", initial_speed),
            None if max_learning_rate is None else checked("max_learning_rate", max_learning_rate, minimum=0.0),
            None if time_step is None else checked("time_step", time_step, minimum=0.0, exclusive=True),
        )

    def divisible(self) -> bool:
        """Return whether |1 - alpha h| >= 1/2 at every step.

        Then dividing by it loses at most one bit.
        """
        if not isinstance(self.alpha, float):
            return False
        if self.time_step is not None:
            return isinstance(self.time_step, float) and abs(1 - self.alpha * self.time_step) >= 0.5
        if isinstance(self.learning_rate, float) and self.max_learning_rate is None:
            return abs(1 - self.alpha * self.learning_rate) >= 0.5
        return isinstance(self.max_learning_rate, float) and self.alpha * self.max_learning_rate <= 0.5

    def at(self, count: jax.Array) -> Settings:
        """The settings of the step with this number, from 0."""
        lr, alpha, beta = (value(count) if callable(value) else value for value in self[:3])
        if self.max_learning_rate is not None:
            lr = jnp.minimum(lr, self.max_learning_rate)
        return Settings(lr, alpha, beta, self.time_step, lr, self.weight_decay, self.initial_speed)


def check_average(rates: Rates) -> None:
    """Check that the gradients in m + beta g have weights >= 0.

    As far as the hyper-parameters are known.

    Raises:
        ValueError: alpha beta > 1, alpha h > 1 or s < beta; the message names the arguments.
    """
    h, name = rates.time_step, "time_step"
    if h is None:
        h, name = rates.learning_rate, "learning_rate"
    if not isinstance(rates.alpha, float):
        return
    known = {"beta": rates.beta, name: h}
    dynamics.check_weights(rates.alpha, **{key: value for key, value in known.items() if isinstance(value, float)})
    speed = rates.initial_speed
    if isinstance(speed, float) and isinstance(rates.beta, float) and speed < rates.beta:
        raise ValueError(
            f"initial_speed must be >= beta here, got {speed!r} < {rates.beta!r}: "
            "the first gradient would have a negative weight"
        )


def read_dtype(momentum_dtype: Any) -> Any:
    """Return the dtype of the momentum, or None for that of each parameter.

    Raises:
        ValueError: it is neither floating nor complex.
    """
    if momentum_dtype is None:
        return None
    dtype = jax.dtypes.canonicalize_dtype(momentum_dtype)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise ValueError(f"momentum_dtype must be a floating or complex dtype or None, got {dtype}")
    return dtype


def checked(name: str, value: Any, *, schedule: bool = False, **bounds: Any) -> Any:
    """Return ``value`` as a float if it is known and in the range.

    Tracers and schedules as they are.

    Raises:
        ValueError: it is out of the range.
    """
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
    """Return whether ``value`` is a short array whose neighbour is in the range.

    Short arrays have at most 16 bits.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or dtype.itemsize > 2 or jnp.shape(value) != ():
        return False
    try:
        check_range(name, np.nextafter(np.asarray(value), np.zeros((), dtype)), **bounds)
    except ValueError:
        return False
    return True
