"""Find a learning rate for an optimizer on a task, by `inna.torch.find_lr`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inna.experiments.comparison import make_run
from inna.experiments.rows.run import Run
from inna.experiments.study.optimizer_names import check_has_lr
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.seeds import THREADS, derive, isolated, threads
from inna.experiments.training import optimizers as named
from inna.experiments.training.batches import Batches
from inna.experiments.training.parts.joint import takes_network
from inna.torch import LearningRateSearch, find_lr

__all__ = ["LearningRateRace", "LearningRateSearch", "prepare"]


@dataclass(frozen=True)
class LearningRateRace:
    """A race that is ready to run.

    Attributes:
        run: the optimizer, task and device; its learning rate means nothing.
        model: the network, on the device.
        batches: of the training data.
        loss: of the task.
    """

    run: Run
    model: nn.Module
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Tensor]

    def search(self, grid: Sequence[float] | None, steps: int) -> LearningRateSearch:
        """Return the result of `inna.torch.find_lr`."""

        def make(params: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
            return named.build(replace(self.run, lr=lr), nn.ParameterList(params))

        with threads(THREADS):
            return find_lr(make, self.model, self.loss, self.batches, grid=grid, steps=steps, seed=self.run.seed)


def prepare(
    optimizer: str, task: str, *, model: str = "", batch_size: int | None = None, device: str = "cpu", seed: int = 0
) -> LearningRateRace:
    """Load a task and make its network, as a run would.

    Args:
        optimizer: a specification without a learning rate, such as "inna:alpha=.5,beta=.1".
        task: a name that `load_task` accepts.
        model: which of a built-in task's networks; "" for its first.
        batch_size: samples per mini-batch; None is 32, or the DataLoader's own.
        device: cpu, cuda, cuda:1, ..., or auto.
        seed: of the weights, of the order of the batches and of dropout.

    Raises:
        ValueError: as in `make_run`, or the optimizer has no learning rate to find.
    """
    check_has_lr(optimizer)
    run = make_run(optimizer, task, model=model, lr=1.0, batch_size=batch_size, device=device, seed=seed)
    if takes_network(named.class_of(run)):
        raise ValueError(f"{optimizer} takes the network, not its parameters; find-lr cannot race it")
    loaded, _ = load_task(task, model=model)
    place = torch.device(run.device)
    layout = torch.channels_last if loaded.channels_last else torch.preserve_format
    with isolated(derive(seed, "weights")):
        network = loaded.model().to(place)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    data = Batches(loaded.train, place, torch.float32)
    if isinstance(data.data, DataLoader):
        return LearningRateRace(run, network, data.data, loaded.loss)
    inputs, targets = data.data
    if loaded.channels_last:
        inputs = inputs.contiguous(memory_format=layout)
    return LearningRateRace(run, network, _Shuffled(inputs, targets, run.batch_size), loaded.loss)


class _Shuffled:
    """Batches in a new order in each epoch, drawn from torch's global generator."""

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int) -> None:
        self.data, self.batch_size = (inputs, targets), batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in torch.randperm(len(self.data[0])).split(self.batch_size):
            yield self.data[0][batch], self.data[1][batch]
