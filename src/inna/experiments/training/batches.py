"""The batches of a task's data on a device, in the order that the seed decides.

A DataLoader keeps its own order; if it draws random numbers, it is seeded from torch's global generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from inna.experiments.tasks.seeds import derive
from inna.experiments.tasks.task import Data

__all__ = ["EVALUATION_BATCH", "Batches"]

# Samples at once when a whole set is evaluated; the same for every optimizer, so that sums round alike.
EVALUATION_BATCH = 512


class Batches:
    """The data of one set.

    Attributes:
        data: (inputs, targets) on ``device``, or the task's DataLoader.
        device: of the batches.
        dtype: of what is floating-point in them.
    """

    def __init__(self, data: Data, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.data: Data = data if isinstance(data, DataLoader) else (self._moved(data[0]), self._moved(data[1]))

    def shuffled(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch of training; the last one may be smaller."""
        if isinstance(self.data, DataLoader):
            yield from self._loaded(self.data)
            return
        inputs, targets = self.data
        for batch in self.order(seed, epoch, len(inputs)).split(batch_size):
            yield inputs[batch], targets[batch]

    def order(self, seed: int, epoch: int, count: int) -> Tensor:
        """Return the order of ``count`` samples in an epoch, int64 of shape (count,)."""
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
        return torch.randperm(count, generator=generator).to(self.device)

    def in_turn(self, samples: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of the first ``samples`` in their own order, for evaluation.

        0 is the whole set, as is any number for a DataLoader.
        """
        if isinstance(self.data, DataLoader):
            return self._loaded(self.data)
        inputs, targets = (part[: samples or None] for part in self.data)
        return zip(inputs.split(EVALUATION_BATCH), targets.split(EVALUATION_BATCH), strict=True)

    def _loaded(self, loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for generator in (loader.generator, getattr(loader.sampler, "generator", None)):
            if isinstance(generator, torch.Generator):
                generator.manual_seed(torch.initial_seed())
        for inputs, targets in loader:
            yield self._moved(inputs), self._moved(targets)

    def _moved(self, part: Tensor) -> Tensor:
        return part.to(self.device, self.dtype) if part.is_floating_point() else part.to(self.device)
