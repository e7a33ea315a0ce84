"""Find a learning rate for Keras by short races of copies of the model."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from inna.checks import check_range
from inna.docstrings import insert
from inna.learning_rate_race import ARGUMENTS, CHANCE, WARNINGS, LearningRateSearch, Race, check_races, run_races

__all__ = ["LearningRateSearch", "find_lr"]


@insert(arguments=ARGUMENTS, chance=CHANCE, warnings=WARNINGS)
def find_lr(
    optimizer: Callable[..., keras.optimizers.Optimizer],
    model: keras.Model,
    loss: str | Callable[[Any, Any], Any],
    batches: Iterable[Any],
    *,
    grid: Sequence[float] | None = None,
    steps: int = 600,
    seed: int = 0,
    chance: float | None = None,
) -> LearningRateSearch:
    """Find a learning rate by short races of copies of the model.

    The races are those of `inna.torch.find_lr`: after a few steps at each learning rate of the grid the best two go
    on, and the one with the lower projected loss races against the next half-way above it. Each candidate is a clone of
    the model with its weights, compiled for itself. The model and the states of the random number generators of
    Python and NumPy are not changed.

    Args:
        optimizer: a class of optimizers, or a function lr -> optimizer.
        model: a Sequential or functional model, or one with ``get_config``, as it is before training. It is built, and
            need not be compiled.
        loss: as for ``model.compile``.
        batches: pairs (inputs, targets): a list, in a new order for each epoch; or another iterable, such as a
            ``keras.utils.PyDataset`` or a ``tf.data.Dataset``, which is iterated as often as needed.
        {arguments}
        seed: of the order of a list of batches, and of dropout.
        {chance}

    Returns:
        The result, with ``lr``, ``table`` and ``plot()``.

    Warns:
        {warnings}

    Raises:
        ValueError: an argument is out of range, the optimizer refuses a learning rate of your grid, the model cannot
            be cloned or is not built, or ``batches`` yields no pairs, or nothing on a second iteration.

    >>> data = [(np.linspace(-1, 1, 8)[:, None], np.linspace(-2, 2, 8)[:, None])]
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> short = {"grid": [0.001, 0.1, 1e4], "steps": 60}
    >>> found = find_lr(keras.optimizers.SGD, model, "mean_squared_error", data, **short)
    >>> found.lr < 10, found.status[1e4]
    (True, 'diverged')
    """
    lrs = check_races(grid, steps, seed)
    if chance is not None:
        check_range("chance", chance, minimum=-math.inf)
    with _restored():
        race = _ModelRace(optimizer, model, loss, batches, seed, chance)
        return run_races(race, lrs, steps, default=grid is None)


class _ModelRace(Race):
    """A race of clones of a Keras model."""

    def __init__(
        self,
        optimizer: Callable[..., keras.optimizers.Optimizer],
        model: keras.Model,
        loss: str | Callable[[Any, Any], Any],
        batches: Iterable[Any],
        seed: int,
        chance: float | None,
    ) -> None:
        super().__init__(seed)
        self.make, self.model, self.loss, self.batches, self.given = optimizer, model, loss, batches, chance
        if not model.built:
            raise ValueError("model must be built: give it an Input, or call it on a batch")
        self._untrained = self._clone()
        self._untrained.compile(loss=loss)

    def again(self, seed: int) -> _ModelRace:
        """Return a race of the same model on the same data, with another seed."""
        return _ModelRace(self.make, self.model, self.loss, self.batches, seed, self.given)

    def start(self, lr: float) -> Callable[[int, Any], float]:
        """Return a function that trains a new clone of the model."""
        made = self.make(learning_rate=lr) if isinstance(self.make, type) else self.make(lr)
        twin = self._clone()
        twin.compile(optimizer=made, loss=self.loss)

        def step(_: int, batch: Any) -> float:
            twin.reset_metrics()
            return _finite(twin.train_on_batch(*batch, return_dict=True)["loss"])

        return step

    def untrained(self, number: int, batch: Any) -> float:
        """Return the loss of the model as it was, on a batch."""
        inputs, targets = batch
        outputs = self._untrained(inputs, training=True)
        return _finite(self._untrained.compute_loss(inputs, targets, outputs))

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of an epoch.

        The seed decides the order of a list.
        """
        data: Any = self.batches
        if isinstance(data, (list, tuple)):
            order: Iterable[Any] = random.Random(self.seed + number).sample(data, len(data))
        elif isinstance(data, keras.utils.PyDataset):
            order = (data[index] for index in range(data.num_batches))
        else:
            order = data
        for batch in order:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batches must yield pairs (inputs, targets), got {type(batch).__name__}")
            yield batch[0], batch[1]

    def best_constant(self) -> float | None:
        """Return the loss of the best constant output that was given."""
        return self.given

    def _clone(self) -> keras.Model:
        # The same seed for all: layers draw the seeds of their dropout from Python's generator.
        random.seed(self.seed)
        try:
            twin = keras.models.clone_model(self.model)
            twin.set_weights(self.model.get_weights())
        except Exception as error:
            raise ValueError(f"the model cannot be cloned: {error}") from error
        return twin


def _finite(value: Any) -> float:
    number = float(keras.ops.convert_to_numpy(value))
    return number if math.isfinite(number) else math.inf


@contextmanager
def _restored() -> Iterator[None]:
    """Restore the states of the random number generators of Python and NumPy."""
    states = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            # Keras's variables predate NumPy 2's __array__.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
