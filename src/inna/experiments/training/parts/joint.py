"""Several optimizers as one."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from inna.torch.steps.arguments import closure_needed, takes_loss

__all__ = ["JointOptimizer", "takes_network"]


def takes_network(optimizer: type[torch.optim.Optimizer]) -> bool:
    """Return whether an optimizer's class takes a network, not its parameters.

    Its first argument is then called ``network``.

    >>> takes_network(torch.optim.SGD)
    False
    """
    return next(iter(inspect.signature(optimizer).parameters), "") == "network"


class JointOptimizer(torch.optim.Optimizer):
    """Several optimizers that step together, each for a part of a network.

    To compare such an optimizer, derive a class whose first argument is called ``network``, as
    `inna.experiments.training.parts.muon.MuonAdamW` does. A schedule multiplies the learning rates of all parts.

    Args:
        parts: optimizers without common parameters.

    Raises:
        ValueError: there are none, two have a parameter in common, or one needs a closure.

    >>> first, second = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    >>> joint = JointOptimizer([torch.optim.SGD([first], lr=0.5), torch.optim.SGD([second], lr=0.25)])
    >>> (first + second).sum().backward()
    >>> joint.step()
    >>> first.tolist(), second.tolist()
    ([0.5, 0.5], [0.75, 0.75])
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        for part in self.parts:
            if closure_needed(part):
                raise ValueError(f"{type(part).__name__} needs a closure, so it cannot step together with others")
        if not self.parts:
            raise ValueError("a joint optimizer needs at least one part")
        super().__init__([{"params": group["params"]} for part in self.parts for group in part.param_groups], {})
        self._join()

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        """The state of all parameters, each by its part."""
        return defaultdict(dict, [item for part in self.parts for item in part.state.items()])

    @state.setter
    def state(self, value: defaultdict[Tensor, Any]) -> None:
        """Do nothing: the parts have the state, also while torch's constructor runs."""

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """Step each part, with ``loss`` for those that take the loss of the batch.

        Args:
            closure: evaluates the loss and its gradients, and returns the loss, as for any optimizer of torch.
            loss: the loss of the batch, a float or a tensor of one element; by default that of ``closure``.

        Returns:
            The loss of the closure, if any.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
            loss = value if loss is None else loss
        if isinstance(loss, Tensor):
            loss = loss.detach()
        for part in self.parts:
            step: Any = part.step
            if takes_loss(part):
                step(loss=loss)
            else:
                step()
        return value

    def train(self) -> None:
        """Switch the parts that have modes to training."""
        self._switch("train")

    def eval(self) -> None:
        """Switch the parts that have modes to evaluation."""
        self._switch("eval")

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts, in their order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of the parts.

        Raises:
            ValueError: they are of another number of parts.
        """
        states = state_dict["parts"]
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
        self._join()

    def _join(self) -> None:
        """Share the groups of the parts, which loading replaces."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def _switch(self, mode: str) -> None:
        for part in self.parts:
            switch = getattr(part, mode, None)
            if callable(switch):
                switch()
