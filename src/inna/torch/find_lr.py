"""Find a learning rate by short races of copies of the model."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from inna.docstrings import insert
from inna.learning_rate_race import ARGUMENTS, WARNINGS, LearningRateSearch, Race, check_races, run_races
from inna.torch.measures.constant_loss import constant_loss
from inna.torch.steps.arguments import closure_needed, takes_loss

__all__ = ["LearningRateSearch", "find_lr"]


@insert(arguments=ARGUMENTS, warnings=WARNINGS)
def find_lr(
    optimizer: Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batches: Iterable[Any],
    *,
    grid: Sequence[float] | None = None,
    steps: int = 600,
    seed: int = 0,
) -> LearningRateSearch:
    """Find a learning rate by short races of copies of the model.

    A copy of the model trains at each learning rate of the grid, all on the same batches. After a few steps the best
    two continue. Of these, the one with the lower projected loss races against the geometric mean of itself and the
    next learning rate of the grid above. The projected loss is that after twice the steps if it goes on falling as in
    the second half. As long as no candidate gets below chance, as in networks that stay there for hundreds of steps,
    the race gets longer, up to 8 times the steps. If the loss at the learning rate found is less than a quarter below
    chance, the network has only just left a plateau, and chance may decide when. It then races once more with another
    order of the batches, beside the next two below it in the grid; the largest that trains is taken.

    The model, its gradients and its modes are not touched. The states of the random number generators of Python, NumPy
    and PyTorch, and of the generator of a DataLoader and its sampler, are restored. There is a copy of the model
    and of the optimizer's state for each candidate.

    Args:
        optimizer: a class of optimizers, or a function (params, lr) -> optimizer.
        model: the network, as it is before training.
        loss: (outputs, targets) -> the loss of a batch.
        batches: pairs (inputs, targets), such as a DataLoader; it is iterated as often as needed.
        {arguments}
        seed: of the order of the batches and of dropout.

    Returns:
        The result, with ``lr``, ``table`` and ``plot()``.

    Warns:
        {warnings} Or the loss uses the parameters of the model itself instead of those of its copies.

    Raises:
        TypeError: ``optimizer`` returns no optimizer.
        ValueError: an argument is out of range, the optimizer refuses a learning rate of your grid, the model cannot be
            copied, or ``batches`` yields no pairs, or nothing on a second iteration.

    >>> x = torch.linspace(-1, 1, 8).unsqueeze(1)
    >>> model, loss, data = nn.Linear(1, 1), nn.functional.mse_loss, [(x, 2 * x)]
    >>> found = find_lr(torch.optim.SGD, model, loss, data, grid=[0.001, 0.1, 10], steps=60)
    >>> found.lr < 10, list(found.table.columns)
    (True, ['lr', 'steps', 'loss', 'projected', 'status'])
    """
    lrs = check_races(grid, steps, seed)
    with _untouched(model), _restored_generators(batches):
        race = _ModuleRace(optimizer, model, loss, batches, seed)
        return run_races(race, lrs, steps, default=grid is None)


class _ModuleRace(Race):
    """A race of copies of a PyTorch module."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        batches: Iterable[Any],
        seed: int,
    ) -> None:
        super().__init__(seed)
        self.make, self.model, self.loss, self.batches = optimizer, model, loss, batches
        self._untrained = self._copy()
        self._output: Any = None
        self._targets: list[Tensor] = []

    def again(self, seed: int) -> _ModuleRace:
        """Return a race of the same model on the same data, with another seed."""
        return _ModuleRace(self.make, self.model, self.loss, self.batches, seed)

    def start(self, lr: float) -> Callable[[int, Any], float]:
        """Return a function that trains a new copy of the model."""
        twin = self._copy()
        made = self.make(twin.parameters(), lr=lr) if isinstance(self.make, type) else self.make(twin.parameters(), lr)
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(f"optimizer must return an optimizer, got {type(made).__name__}")
        if callable(mode := getattr(made, "train", None)):  # schedule-free optimizers have modes
            mode()
        return lambda number, batch: self._step(twin, made, number, batch)

    def untrained(self, number: int, batch: Any) -> float:
        """Return the loss of the model as it was, on a batch."""
        if isinstance(batch[1], Tensor):
            self._targets.append(batch[1].cpu())
        return self._step(self._untrained, None, number, batch)

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of an epoch.

        The seed decides their order.
        """
        torch.manual_seed(self.seed + number)
        for batch in self.batches:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batches must yield pairs (inputs, targets), got {type(batch).__name__}")
            yield batch[0], batch[1]

    def best_constant(self) -> float | None:
        """Return the loss of the best constant output on the batches so far.

        None if the loss does not accept such an output.
        """
        if self._targets and isinstance(self._output, Tensor):
            with contextlib.suppress(Exception):
                return constant_loss(self._output, torch.cat(self._targets), self.loss)
        return None

    def _copy(self) -> nn.Module:
        try:
            return copy.deepcopy(self.model).train()
        except Exception as error:
            raise ValueError(f"the model cannot be copied: {error}") from error

    def _step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, number: int, batch: tuple[Any, Any]
    ) -> float:
        """Take one step, or none without an optimizer; return the loss before it.

        Infinite if it is not finite.
        """
        device = next(model.parameters()).device
        inputs, targets = (each.to(device) if isinstance(each, Tensor) else each for each in batch)
        values: list[Tensor] = []

        def closure() -> Tensor:
            if optimizer:
                optimizer.zero_grad()
            outputs = model(inputs)
            if self._output is None and isinstance(outputs, Tensor):
                self._output = outputs.detach()[:1].cpu()
            value = self.loss(outputs, targets)
            if optimizer:
                value.backward()
            values.append(value.detach())
            return value

        step: Any = optimizer.step if optimizer else None
        state = torch.get_rng_state()
        torch.manual_seed(self.seed + 1_000_003 * (number + 1))  # the same dropout for all
        with torch.set_grad_enabled(optimizer is not None):
            if optimizer and closure_needed(optimizer):
                step(closure)
            else:
                value = closure()
                if optimizer and bool(torch.isfinite(value)):
                    step(**({"loss": value.detach()} if takes_loss(optimizer) else {}))
        torch.set_rng_state(state)
        first = float(values[0])
        return first if math.isfinite(first) else math.inf


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Keep gradients and buffers of the model from a loss that uses it.

    Such a loss gives the model gradients, and runs it in training mode. Copies train without what it adds.
    """
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    used = False
    try:
        for parameter, _ in grads:
            parameter.grad = None
        yield
        used = any(parameter.grad is not None for parameter, _ in grads)
    finally:
        for parameter, grad in grads:
            parameter.grad = grad
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
    if used:
        text = "the loss uses the parameters of the model; the races ignore that part, since they train copies"
        warnings.warn(text, stacklevel=4)


@contextlib.contextmanager
def _restored_generators(batches: Any) -> Iterator[None]:
    """Restore the states of all random number generators."""
    generators = {
        id(each): each
        for holder in (batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None))
        if isinstance(each := getattr(holder, "generator", None), torch.Generator)
    }
    before = [(each, each.get_state()) for each in generators.values()]
    state = random.getstate()
    # torch does not need NumPy: what has not been imported has no state that anyone set.
    numpy_random: Any = getattr(sys.modules.get("numpy"), "random", None)
    numpy_state = numpy_random.get_state() if numpy_random else None
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(state)
            if numpy_random:
                numpy_random.set_state(numpy_state)
            for generator, saved in before:
                generator.set_state(saved)
