"""Find a learning rate for an Optax optimizer by short races."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inna.checks import check_range
from inna.docstrings import insert
from inna.learning_rate_race import ARGUMENTS, CHANCE, WARNINGS, LearningRateSearch, Race, check_races, run_races

__all__ = ["find_lr"]


@insert(arguments=ARGUMENTS, chance=CHANCE, warnings=WARNINGS)
def find_lr(
    optimizer: Callable[[Any], optax.GradientTransformation],
    params: Any,
    loss: Callable[..., Any],
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    grid: Sequence[float] | None = None,
    steps: int = 600,
    seed: int = 0,
    key: jax.Array | None = None,
    chance: float | None = None,
) -> LearningRateSearch:
    """Find a learning rate by short races from the same parameters.

    The races are those of `inna.torch.find_lr`: after a few steps at each learning rate of the grid the best two go
    on, and the one with the lower projected loss races against the next half-way above it. One function is compiled
    for all, with the learning rate as an argument. The parameters are not changed.

    Args:
        optimizer: a function lr -> gradient transformation, such as `inna`, ``optax.adam``, or
            ``lambda lr: inna(lr, beta=0.5)``. It is called with numbers and with traced values.
        params: the parameters before training, a tree of arrays.
        loss: (params, batch) -> the mean loss of a batch; with a ``key``, (params, batch, key).
        batches: a list of batches, in a new order for each epoch; or a function seed -> batches of an epoch; or another
            iterable, which is iterated as it is as often as needed.
        {arguments}
        seed: of the order of the batches.
        key: for dropout. Each batch gets a key of its own, the same for all candidates.
        {chance}

    Returns:
        The result, with ``lr``, ``table`` and ``plot()``.

    Warns:
        {warnings}

    Raises:
        ValueError: an argument is out of range, the optimizer refuses a learning rate of your grid or a traced one, or
            ``batches`` yields nothing.

    >>> data = [(jnp.linspace(-1, 1, 8), jnp.linspace(-2, 2, 8))]
    >>> def square(slope, batch):
    ...     return jnp.mean((slope * batch[0] - batch[1]) ** 2)
    >>> short = {"grid": [0.001, 0.1, 1e4], "steps": 60}
    >>> found = find_lr(optax.sgd, jnp.zeros(()), square, data, **short)
    >>> found.lr < 10, found.status[1e4]
    (True, 'diverged')
    """
    lrs = check_races(grid, steps, seed)
    if chance is not None:
        check_range("chance", chance, minimum=-math.inf)
    race = _TreeRace(optimizer, params, loss, batches, seed, key, chance)
    return run_races(race, lrs, steps, default=grid is None)


class _TreeRace(Race):
    """A race from the same parameters."""

    def __init__(
        self,
        optimizer: Callable[[Any], optax.GradientTransformation],
        params: Any,
        loss: Callable[..., Any],
        batches: Iterable[Any] | Callable[[int], Iterable[Any]],
        seed: int,
        key: jax.Array | None,
        chance: float | None,
    ) -> None:
        super().__init__(seed)
        self.make, self.loss, self.batches, self.key, self.given = optimizer, loss, batches, key, chance
        self.params = jax.tree.map(jnp.asarray, params)
        self._value = jax.jit(loss)
        self._step = jax.jit(self._train)

    def again(self, seed: int) -> _TreeRace:
        """Return a race from the same parameters on the same data, with another seed."""
        key = None if self.key is None else jax.random.fold_in(self.key, seed % 2**31)
        return _TreeRace(self.make, self.params, self.loss, self.batches, seed, key, self.given)

    def start(self, lr: float) -> Callable[[int, Any], float]:
        """Return a function that trains from the parameters."""
        params, state, rate = self.params, self.make(lr).init(self.params), jnp.asarray(lr)

        def step(number: int, batch: Any) -> float:
            nonlocal params, state
            try:
                params, state, value = self._step(rate, params, state, batch, *self._key(number))
            except jax.errors.ConcretizationTypeError as error:
                raise ValueError("optimizer must accept a traced learning rate, as inna and optax.adam do") from error
            return _finite(value)

        return step

    def untrained(self, number: int, batch: Any) -> float:
        """Return the loss of the parameters as they were, on a batch."""
        return _finite(self._value(self.params, batch, *self._key(number)))

    def epoch(self, number: int) -> Iterable[Any]:
        """Return the batches of an epoch.

        The seed decides their order.
        """
        if callable(self.batches):
            return self.batches(self.seed + number)
        if isinstance(self.batches, (list, tuple)):
            return random.Random(self.seed + number).sample(self.batches, len(self.batches))
        return self.batches

    def best_constant(self) -> float | None:
        """Return the loss of the best constant output that was given."""
        return self.given

    def _key(self, number: int) -> tuple[jax.Array, ...]:
        return () if self.key is None else (jax.random.fold_in(self.key, number),)

    def _train(self, lr: Any, params: Any, state: Any, batch: Any, *key: jax.Array) -> tuple[Any, Any, Any]:
        """Take one step; return the loss before it, too."""

        def loss(params: Any) -> Any:
            return self.loss(params, batch, *key)

        value, grads = jax.value_and_grad(loss)(params)
        transformation = optax.with_extra_args_support(self.make(lr))
        updates, state = transformation.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return optax.apply_updates(params, updates), state, value


def _finite(value: Any) -> float:
    number = float(value)
    return number if math.isfinite(number) else math.inf
