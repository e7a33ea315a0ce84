"""Record a training iteration as one CUDA graph, from the batch to the step.

Launching the kernels of a small network takes the host longer than the device needs to execute them. A graph is
recorded once and replayed with a single launch. So everything that changes between iterations is on the device: a
counter, the epoch's order of the data, and its learning rates. Losses stay there too, until the epoch is over.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inna.experiments.training.parts.joint import takes_network
from inna.torch.steps.arguments import takes_loss

__all__ = ["GraphedEpochs", "graph_settings"]

WARM_UP = (
    3  # iterations before the graph is recorded: they create the optimizer's state and choose convolution algorithms
)


def graph_settings(optimizer: type[torch.optim.Optimizer]) -> dict[str, Any] | None:
    """Return the arguments that make an optimizer's step recordable; None if none do.

    Its learning rate must be read on the device: by ``capturable``, or by torch's fused SGD. All groups must have the
    same, so none of a class that takes the network.

    >>> graph_settings(torch.optim.Adam), graph_settings(torch.optim.SGD), graph_settings(torch.optim.Adagrad)
    ({'capturable': True}, {'fused': True}, None)
    """
    if takes_network(optimizer):
        return None
    if "capturable" in inspect.signature(optimizer).parameters:
        return {"capturable": True}
    return {"fused": True} if optimizer is torch.optim.SGD else None


class GraphedEpochs:
    """Trains for whole epochs on data that are on the device.

    The first iterations of the first epoch run eagerly, then one is recorded; a smaller last
    batch of an epoch always runs eagerly. On a CPU nothing is recorded: the same iterations run eagerly, so that they
    can be tested.

    Args:
        loss: (inputs, targets) -> the loss of a batch, of shape (); it must not read values on the host.
        optimizer: constructed with `graph_settings`.
        inputs: of the training data, on the device.
        targets: likewise.
        batch_size: >= 1.
        dtype: of the learning rates.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        device = inputs.device
        self.loss, self.optimizer, self.inputs, self.targets = loss, optimizer, inputs, targets
        self.takes_loss = takes_loss(optimizer)
        self.batch_size = min(batch_size, len(inputs))
        self.whole, self.rest = divmod(len(inputs), self.batch_size)
        iterations = self.whole + bool(self.rest)
        self.order = torch.zeros(len(inputs), dtype=torch.int64, device=device)
        self.lrs = torch.zeros(iterations, dtype=dtype, device=device)
        self.losses = torch.zeros(iterations, dtype=torch.float64, device=device)
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.lr = torch.zeros((), dtype=dtype, device=device)
        self.within = torch.arange(self.batch_size, device=device)
        self.warm_up = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None

    def epoch(self, order: Tensor, lrs: list[float]) -> Tensor:
        """Train on ``order``, iteration k with ``lrs[k]``; return the losses, on the CPU."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.order.copy_(order)
        self.lrs.copy_(torch.tensor(lrs, dtype=self.lrs.dtype))
        self.count.zero_()
        for _ in range(self.whole):
            self._advance()
        if self.rest:
            self._iterate(self.order[self.whole * self.batch_size :])
        return self.losses.cpu()

    def _advance(self) -> None:
        if self.inputs.device.type != "cuda":
            self._iterate_by_count()
        elif self.warm_up:
            self.warm_up -= 1
            aside = torch.cuda.Stream(self.inputs.device)
            aside.wait_stream(torch.cuda.current_stream(self.inputs.device))
            with torch.cuda.stream(aside):
                self._iterate_by_count()
            torch.cuda.current_stream(self.inputs.device).wait_stream(aside)
        else:
            if self.graph is None:
                self.optimizer.zero_grad(set_to_none=True)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._iterate_by_count()
                self.graph = graph
            self.graph.replay()

    def _iterate_by_count(self) -> None:
        self._iterate(self.order.index_select(0, self.within + self.count * self.batch_size))

    def _iterate(self, rows: Tensor) -> None:
        self.lr.copy_(self.lrs.index_select(0, self.count)[0])
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.inputs[rows], self.targets[rows])
        loss.backward()
        if self.takes_loss:
            step: Any = self.optimizer.step
            step(loss=loss.detach())
        else:
            self.optimizer.step()
        self.losses.index_copy_(0, self.count, loss.detach().reshape(1).to(self.losses.dtype))
        self.count += 1
