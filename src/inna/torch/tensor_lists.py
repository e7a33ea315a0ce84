"""The tensors of one step, and operations that two paths share.

The single and the foreach path.
"""

from __future__ import annotations

import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Operations",
    "Settings",
    "SumLists",
    "TensorLists",
    "can_sync",
    "coefficient_dtype",
    "count_step",
    "group_alike",
    "is_dense",
    "is_transformed",
    "next_counts",
    "on_device",
    "on_device_of",
    "run_together",
    "same_layout",
]


@dataclass
class TensorLists:
    """The tensors of one step of one group.

    Entry i of each list belongs to parameter i.

    Lists that an optimizer or its flags do not use are empty. ``compensations`` may hold None beside tensors.
    """

    params: list[Tensor] = field(default_factory=list)  # any shapes
    grads: list[Tensor] = field(default_factory=list)  # as params
    momentums: list[Tensor] = field(default_factory=list)  # as params
    exp_avg_sqs: list[Tensor] = field(default_factory=list)  # as params
    compensations: list[Tensor | None] = field(default_factory=list)  # as params
    steps: list[Tensor] = field(default_factory=list)  # () each
    streams: list[int] = field(default_factory=list)
    """Where the random bits of `inna.torch.steps.rounding` come from; empty if nothing is rounded stochastically."""
    offsets: list[int] = field(default_factory=list)
    """Of the first entries in pieces of parameters; empty for whole parameters."""
    momentum_scales: list[Tensor | None] = field(default_factory=list)
    """Of momentums that are codes (`inna.torch.steps.companding`); empty if none are."""
    exp_avg_sq_scales: list[Tensor | None] = field(default_factory=list)
    """Of mean squares, likewise."""

    def subset(self, indices: list[int]) -> TensorLists:
        """The lists of some of the parameters; empty lists stay empty."""
        part = TensorLists(*([tensors[i] for i in indices] if tensors else [] for tensors in self._all()))
        part.streams, part.offsets = (
            [each[i] for i in indices] if each else [] for each in (self.streams, self.offsets)
        )
        part.momentum_scales, part.exp_avg_sq_scales = (
            [each[i] for i in indices] if each else [] for each in (self.momentum_scales, self.exp_avg_sq_scales)
        )
        return part

    def map(self, function: Callable[[Tensor], Tensor]) -> TensorLists:
        """The lists with a function applied to each tensor."""

        def each(tensors: list[Any]) -> list[Any]:
            return [None if t is None else function(t) for t in tensors]

        mapped = TensorLists(*map(each, self._all()))
        mapped.streams, mapped.offsets = self.streams, self.offsets
        mapped.momentum_scales, mapped.exp_avg_sq_scales = each(self.momentum_scales), each(self.exp_avg_sq_scales)
        return mapped

    def companions(self, i: int) -> list[tuple[str, Tensor]]:
        """The gradient and the state of parameter i of its shape, with names."""
        kinds: tuple[tuple[str, Sequence[Tensor | None]], ...] = (
            ("gradient", self.grads),
            ("momentum", self.momentums),
            ("exp_avg_sq", self.exp_avg_sqs),
            ("compensation", self.compensations),
        )
        present = [(name, tensors[i]) for name, tensors in kinds if tensors]
        return [(name, tensor) for name, tensor in present if tensor is not None]

    def _all(self) -> list[list[Any]]:
        return [self.params, self.grads, self.momentums, self.exp_avg_sqs, self.compensations, self.steps]


class Settings(NamedTuple):
    """The hyper-parameters of one step of `inna.torch.INNA`.

    Of `inna.torch.INNAprop` where ``sigma`` is given. ``time_step`` is that of the momentum, ``decay_lr`` the learning
    rate of weight decay that multiplies theta; None is lr.
    """

    lr: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    weight_decay: float = 0.0
    initial_speed: float | None = None
    decoupled_weight_decay: bool = False
    maximize: bool = False
    sigma: float | None = None
    eps: float = 0.0
    time_step: float | Tensor | None = None
    decay_lr: float | Tensor | None = None


class SumLists(NamedTuple):
    """The tensors that find the distance, without a learning rate.

    Entry i of each list belongs to parameter i.
    """

    starts: list[Tensor]
    """theta_0 of every so many entries."""
    grad_sums: list[Tensor]
    """INNAprop's s of these; empty for INNA."""
    slice_every: int = 1


def is_dense(tensor: Tensor) -> bool:
    """Return whether the tensor fills a stretch of memory, without gaps.

    Nothing overlaps; its dimensions may be in any order.
    """
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


def is_transformed(tensor: Tensor) -> bool:
    """Return whether the tensor is inside a transform of ``torch.func``.

    Inside ``vmap``, for instance, it has no memory of its own.
    """
    # The function has no public name. Without it, nothing is inside a transform.
    test: Callable[[Tensor], bool] | None = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", None)
    return test is not None and not torch.compiler.is_compiling() and test(tensor)


def same_layout(tensor: Tensor, other: Tensor) -> bool:
    """Return whether entries have the same offsets in both.

    The stride of a dimension of size 1 does not matter.
    """
    if tensor.numel() == 0:
        return True
    return all(a == b for a, b, size in zip(tensor.stride(), other.stride(), tensor.shape, strict=True) if size != 1)


def can_sync(lr: float | Tensor, capturable: bool) -> bool:
    """Return whether the host may read step counts.

    It may not in a captured or compiled graph, nor with a tensor lr.
    """
    return not capturable and not isinstance(lr, Tensor) and not torch.compiler.is_compiling()


def run_together(calls: Iterable[Callable[[], Any]]) -> None:
    """Make calls one after the other.

    If all are functions written in C, Python handles no signal between them.
    """
    if torch.compiler.is_compiling():
        for call in calls:
            call()
    else:
        deque(map(operator.call, calls), maxlen=0)


class Operations:
    """Operations in place that are collected and then run together.

    So no interrupt divides them.

    Under ``torch.compile``, and for autograd, each runs at once.

    >>> total, operations = torch.ones(2), Operations()
    >>> operations(total.add_, 1, alpha=2)
    >>> total
    tensor([1., 1.])
    >>> operations.run()
    >>> total
    tensor([3., 3.])
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once or torch.compiler.is_compiling()
        self._calls: list[Callable[[], Any]] = []

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Add the call of ``function``, which is to be written in C."""
        if self._at_once:
            function(*args, **kwargs)
        else:
            self._calls.append(partial(function, *args, **kwargs))

    def run(self) -> None:
        """Run what was collected."""
        calls, self._calls = self._calls, []
        run_together(calls)


def next_counts(
    steps: list[Tensor],  # () each
    lr: float | Tensor,
    *,
    host: bool,
) -> tuple[Sequence[float | Tensor], list[bool] | list[Tensor]]:
    """Return each parameter's step count after this step, and if it is the first.

    The answers are floats and bools if ``host``, else 0-dimensional tensors. With a tensor ``lr`` that is 0, nothing is
    counted and no step is the first.
    """
    if host:
        counts = [step.item() + 1 for step in steps]
        return counts, [count == 1 for count in counts]
    counted, first = [], []
    for step in steps:
        moves = on_device(step.device, lr) != 0
        first.append((step == 0) & moves)
        counted.append(step + moves)
    return counted, first


def count_step(
    operations: Operations,
    steps: list[Tensor],  # () each
    counts: Sequence[float | Tensor],  # () each
) -> None:
    """Set the step counts to those of `next_counts`."""
    if any(isinstance(count, Tensor) for count in counts):
        operations(torch._foreach_copy_, steps, counts)
    elif counts:
        operations(torch._foreach_add_, steps, 1.0)


def group_alike(params: list[Tensor], momentums: list[Tensor], *others: list[Any]) -> dict[tuple[Any, ...], list[int]]:
    """Indices of the tensors that one foreach call may take together.

    By (device, dtypes, whether others are None).
    """
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, (param, momentum, *more) in enumerate(zip(params, momentums, *others, strict=True)):
        alike[param.device, param.dtype, momentum.dtype, *(other is None for other in more)].append(i)
    return alike


def on_device(device: torch.device, value: Any) -> Any:
    """``value``, moved to ``device`` if it is a tensor."""
    return value.to(device) if isinstance(value, Tensor) else value


def on_device_of(value: Any, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A number on the device of ``like``, (), by default in its dtype.

    It is filled in there: a copy from the host cannot be captured in a CUDA graph.
    """
    dtype = like.dtype if dtype is None else dtype
    if isinstance(value, Tensor):
        return value.to(device=like.device, dtype=dtype).reshape(())
    return torch.full((), value, dtype=dtype, device=like.device)


def coefficient_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of 0-dimensional coefficients of ``tensor``.

    Real, as precise as it, and at least float32.
    """
    real = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    return torch.promote_types(real, torch.float32)
