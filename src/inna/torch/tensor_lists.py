"""The tensors of one step, and what the single and the foreach paths of both optimizers do with them alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Settings",
    "TensorLists",
    "beside",
    "coefficient_dtype",
    "count_step",
    "group_alike",
    "host_may_look",
    "is_dense",
    "on_device",
    "same_layout",
    "use_foreach",
]


@dataclass
class TensorLists:
    """The tensors of one step of one group, entry i of each list belonging to parameter i.

    ``momentums``, ``exp_avg_sqs`` and ``compensations`` have the shape of the parameter, ``steps`` are 0-dimensional.
    Lists that an optimizer or its flags do not use stay empty; ``compensations`` may hold None beside tensors.
    """

    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    momentums: list[Tensor] = field(default_factory=list)
    exp_avg_sqs: list[Tensor] = field(default_factory=list)
    compensations: list[Tensor | None] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)

    def subset(self, indices: list[int]) -> TensorLists:
        """The lists of some of the parameters; what stays empty stays empty."""
        return TensorLists(*([tensors[i] for i in indices] if tensors else [] for tensors in self._all()))

    def map(self, function: Callable[[Tensor], Tensor]) -> TensorLists:
        """The lists with a function applied to each tensor."""
        lists: list[list[Any]] = [[None if t is None else function(t) for t in tensors] for tensors in self._all()]
        return TensorLists(*lists)

    def _all(self) -> list[list[Any]]:
        return [self.params, self.grads, self.momentums, self.exp_avg_sqs, self.compensations, self.steps]


def use_foreach(foreach: bool | None, params: Iterable[Tensor], *, differentiable: bool) -> bool:
    """Whether the foreach path is taken: as asked, else wherever autograd and tensor subclasses do not forbid it."""
    if foreach is not None:
        return foreach
    return not differentiable and all(type(param) in (Tensor, torch.nn.Parameter) for param in params)


def host_may_look(lr: float | Tensor, capturable: bool) -> bool:
    """Whether the host may read the step counts: not while a graph is captured or compiled, nor with a tensor lr."""
    return not capturable and not isinstance(lr, Tensor) and not torch.compiler.is_compiling()


def count_step(steps: list[Tensor], lr: float | Tensor, *, host: bool) -> list[bool] | list[Tensor]:
    """Count one step; the answer, per parameter, is whether it is the first.

    Bools where the host may look, else 0-dimensional tensors. Where ``lr`` is a tensor that holds 0, nothing is
    counted and no step is the first.
    """
    if host:
        first_on_host = [step.item() == 0 for step in steps]
        torch._foreach_add_(steps, 1.0)
        return first_on_host
    first = []
    for step in steps:
        moves = on_device(step.device, lr) != 0
        first.append((step == 0) & moves)
        step.add_(moves)
    return first


def group_alike(params: list[Tensor], momentums: list[Tensor], *others: list[Any]) -> dict[tuple[Any, ...], list[int]]:
    """Indices of the tensors that one foreach call may take together, by (device, dtypes, whether others are None)."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, (param, momentum, *more) in enumerate(zip(params, momentums, *others, strict=True)):
        alike[param.device, param.dtype, momentum.dtype, *(other is None for other in more)].append(i)
    return alike


def on_device(device: torch.device, value: Any) -> Any:
    """``value``, on ``device`` if it is a tensor."""
    return value.to(device) if isinstance(value, Tensor) else value


def coefficient_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype for 0-dimensional coefficients beside ``tensor``: real, as precise as it, and float32 at the least."""
    real = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    return torch.promote_types(real, torch.float32)


class Settings(NamedTuple):
    """The hyper-parameters of one step, as `inna.torch.INNA` and `INNAprop` (where ``sigma`` is given) define them."""

    lr: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    weight_decay: float = 0.0
    initial_speed: float | None = None
    decoupled_weight_decay: bool = False
    maximize: bool = False
    sigma: float | None = None
    eps: float = 0.0


def beside(lists: TensorLists, i: int) -> list[tuple[str, Tensor]]:
    """What there is of the same shape as parameter i, by name."""
    kinds: tuple[tuple[str, Sequence[Tensor | None]], ...] = (
        ("gradient", lists.grads),
        ("momentum", lists.momentums),
        ("exp_avg_sq", lists.exp_avg_sqs),
        ("compensation", lists.compensations),
    )
    beside = [(name, tensors[i]) for name, tensors in kinds if tensors]
    return [(name, tensor) for name, tensor in beside if tensor is not None]


def is_dense(tensor: Tensor) -> bool:
    """Whether the tensor fills a stretch of memory without gaps or overlaps, in whatever order of its dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def same_layout(tensor: Tensor, other: Tensor) -> bool:
    """Whether entries lie at the same offsets in both; the stride of a dimension of size 1 says nothing."""
    if tensor.numel() == 0:
        return True
    return all(a == b for a, b, size in zip(tensor.stride(), other.stride(), tensor.shape, strict=True) if size != 1)
