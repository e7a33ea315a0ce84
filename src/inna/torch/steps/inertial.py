"""The step of INNA on lists of tensors, by the single and the foreach path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.blocks import blocks, one_by_one
from inna.torch.paths import use_foreach
from inna.torch.steps.rounding import Widened
from inna.torch.tensor_lists import (
    Operations,
    TensorLists,
    can_sync,
    coefficient_dtype,
    count_step,
    group_alike,
    next_counts,
    on_device,
)

__all__ = ["add_scaled", "foreach_add_scaled", "inna", "move"]


def inna(
    lists: TensorLists,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float = 0.0,
    initial_speed: float | None = None,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    time_step: float | Tensor | None = None,
    decay_lr: float | Tensor | None = None,
) -> None:
    """Take one step of INNA on lists of tensors, in place.

    See `INNA` for the rule and the arguments.

    Args:
        lists: parameters, gradients and state; ``steps`` is needed with ``initial_speed`` and with ``streams``.
        lr, alpha, beta: floats >= 0, or tensors of shape (), which are not read on the host.
        time_step: h > 0 of the momentum. None is lr.
        decay_lr: learning rate of the decoupled weight decay. None is lr.

    >>> theta, g, m = torch.ones(1), torch.ones(1), torch.zeros(1)
    >>> lists = TensorLists([theta], [g], [m], compensations=[None])
    >>> inna(lists, lr=0.1, alpha=0.5, beta=0.1)
    >>> theta, m
    (tensor([0.9900]), tensor([0.0950]))
    """
    host = can_sync(lr, capturable)
    foreach = use_foreach(foreach, lists.params, differentiable=differentiable)
    for part in blocks(lists) if foreach else one_by_one(lists):
        operations = Operations(at_once=differentiable)
        counts: Sequence[float | Tensor] = ()
        first: list[bool] | list[Tensor] | None = None
        if initial_speed is not None or part.streams:
            counts, first = next_counts(part.steps, lr if time_step is None else time_step, host=host)
        widened = Widened(part, counts, differentiable=differentiable)
        move(
            operations,
            widened.lists,
            first if initial_speed is not None else None,
            lr=lr,
            alpha=alpha,
            beta=beta,
            weight_decay=weight_decay,
            initial_speed=initial_speed,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            time_step=time_step,
            decay_lr=decay_lr,
        )
        widened.store(operations)
        count_step(operations, part.steps, counts)
        operations.run()


def move(
    operations: Operations,
    lists: TensorLists,
    first: list[bool] | list[Tensor] | None,  # () each
    *,
    foreach: bool,
    **settings: Any,
) -> None:
    """Collect the operations that update one block, by foreach or one by one.

    Args:
        operations: takes the operations.
        lists: parameters, gradients, momentums and compensations.
        first: whether this is a parameter's first step, which sets the initial velocity; None without one.
        foreach: the path.
        **settings: those of the two implementations. With ``temporary_grads``, gradients may be overwritten. A
            ``time_step`` is the momentum's, and ``decay_lr`` is the learning rate of the decoupled weight decay; None
            is lr.
    """
    update = _multi_tensor_inna if foreach else _single_tensor_inna
    update(
        operations,
        lists.params,
        lists.grads,
        lists.momentums,
        lists.compensations,
        first,
        **settings,
    )


def _single_tensor_inna(
    operations: Operations,
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    compensations: list[Tensor | None],  # as params
    first: list[bool] | list[Tensor] | None,  # () each
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    differentiable: bool,
    temporary_grads: bool = False,
    time_step: float | Tensor | None = None,
    decay_lr: float | Tensor | None = None,
) -> None:
    sign = -1.0 if maximize else 1.0
    shrinkage, penalty = (weight_decay, 0.0) if decoupled_weight_decay else (0.0, weight_decay)
    for i, param in enumerate(params):
        grad, momentum, compensation = grads[i], momentums[i], compensations[i]
        gamma, a, b = (on_device(param.device, value) for value in (lr, alpha, beta))
        h = gamma if time_step is None else on_device(param.device, time_step)
        if differentiable:
            # Out of place, since autograd needs the old values.
            theta, m, g = param.clone(), momentum.clone(), -grad if maximize else grad
            if penalty:
                g = g + penalty * theta
            if first is not None and initial_speed is not None:
                m = m + first[i] * dynamics.initial_momentum(g, b, initial_speed)
            rate = gamma if decay_lr is None else on_device(param.device, decay_lr)
            theta, m = dynamics.step((1 - rate * shrinkage) * theta, m, g, gamma, a, b, h)
            param.copy_(theta)
            momentum.copy_(m)
            continue
        if penalty:
            grad = grad.add(param, alpha=sign * penalty)
        if first is not None and initial_speed is not None:
            _start(operations, momentum, grad, first[i], sign * (initial_speed - b))
        # Kahan: the step is added to the rounding error so far, and their sum to the parameter.
        target = param if compensation is None else compensation
        if shrinkage:
            rate = gamma if decay_lr is None else on_device(param.device, decay_lr)
            add_scaled(operations, target, param, -rate * shrinkage)
        add_scaled(operations, target, momentum, -gamma)
        add_scaled(operations, target, grad, -sign * gamma * b)
        # Not a factor 1 - alpha gamma: rounding it to low precision would change alpha.
        add_scaled(operations, momentum, momentum, -a * h)
        add_scaled(operations, momentum, grad, sign * h * (1 - a * b))
        if compensation is not None:
            reusable = (penalty or temporary_grads) and grad.dtype == param.dtype
            total = grad if reusable else torch.empty_like(param)
            operations(total.copy_, param)
            operations(total.add_, compensation)
            total = rounded(total)
            operations(param.sub_, total)
            operations(compensation.add_, param)
            operations(param.copy_, total)


def _multi_tensor_inna(
    operations: Operations,
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    compensations: list[Tensor | None],  # as params
    first: list[bool] | list[Tensor] | None,  # () each
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    differentiable: bool,
    temporary_grads: bool = False,
    time_step: float | Tensor | None = None,
    decay_lr: float | Tensor | None = None,
) -> None:
    sign = -1.0 if maximize else 1.0
    shrinkage, penalty = (weight_decay, 0.0) if decoupled_weight_decay else (0.0, weight_decay)
    for (device, *_), indices in group_alike(params, momentums, compensations).items():
        gamma, a, b = (on_device(device, value) for value in (lr, alpha, beta))
        h = gamma if time_step is None else on_device(device, time_step)
        theta, g, m = ([tensors[i] for i in indices] for tensors in (params, grads, momentums))
        held_back = [tensor for tensor in (compensations[i] for i in indices) if tensor is not None]
        if penalty:
            # The one temporary: the sign of maximize goes into the coefficients instead of a second one.
            g = list(torch._foreach_add(g, theta, alpha=sign * penalty))
        if first is not None and initial_speed is not None:
            for i, momentum, grad in zip(indices, m, g, strict=True):
                _start(operations, momentum, grad, first[i], sign * (initial_speed - b))
        target = held_back or theta
        if shrinkage:
            rate = gamma if decay_lr is None else on_device(device, decay_lr)
            foreach_add_scaled(operations, target, theta, -rate * shrinkage)
        foreach_add_scaled(operations, target, m, -gamma)
        foreach_add_scaled(operations, target, g, -sign * gamma * b)
        foreach_add_scaled(operations, m, m, -a * h)
        foreach_add_scaled(operations, m, g, sign * h * (1 - a * b))
        if held_back:
            reusable = (penalty or temporary_grads) and g[0].dtype == theta[0].dtype
            total = g if reusable else [torch.empty_like(tensor) for tensor in theta]
            operations(torch._foreach_copy_, total, theta)
            operations(torch._foreach_add_, total, held_back)
            total = [rounded(tensor) for tensor in total]
            operations(torch._foreach_sub_, theta, total)
            operations(torch._foreach_add_, held_back, theta)
            operations(torch._foreach_copy_, theta, total)


def _start(
    operations: Operations,
    momentum: Tensor,  # any shape
    grad: Tensor,  # as momentum
    first: bool | Tensor,  # ()
    scale: float | Tensor,  # ()
) -> None:
    """Set m_0 = scale * g if this is the first step; the momentum is zero until then."""
    if isinstance(first, Tensor) or isinstance(scale, Tensor):
        mask = torch.as_tensor(first, dtype=coefficient_dtype(momentum), device=momentum.device)
        operations(momentum.addcmul_, grad, mask * scale)
    elif first:
        operations(momentum.add_, grad, alpha=scale)


def rounded(tensor: Tensor) -> Tensor:
    """Return ``tensor`` rounded to its dtype, under a compiler, too.

    A compiler may compute low precision in float32.

    Without this, the rounding error that Kahan summation needs would be zero. Reading the bits forces the rounding.
    """
    if torch.compiler.is_compiling() and tensor.dtype in (torch.bfloat16, torch.float16):
        return (tensor.view(torch.int16) & -1).view(tensor.dtype)
    return tensor


def add_scaled(
    operations: Operations,
    target: Tensor,  # any shape
    tensor: Tensor,  # as target
    scale: float | Tensor,  # ()
) -> None:
    """Add ``scale * tensor`` to ``target`` in place."""
    if isinstance(scale, Tensor):
        operations(target.addcmul_, tensor, scale)
    else:
        operations(target.add_, tensor, alpha=scale)


def foreach_add_scaled(
    operations: Operations,
    targets: list[Tensor],  # any shapes
    tensors: list[Tensor],  # as targets
    scale: float | Tensor,  # ()
) -> None:
    """Add ``scale * tensor`` to each target in place."""
    if isinstance(scale, Tensor):
        # A foreach product with a tensor would need a temporary of the group's size.
        for target, tensor in zip(targets, tensors, strict=True):
            operations(target.addcmul_, tensor, scale)
    else:
        operations(torch._foreach_add_, targets, tensors, alpha=scale)
