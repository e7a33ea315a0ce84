"""The step of INNAprop on lists of tensors, by the single and the foreach path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.blocks import blocks, one_by_one
from inna.torch.paths import use_foreach
from inna.torch.steps.inertial import add_scaled, foreach_add_scaled, move
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
    on_device_of,
)

__all__ = ["innaprop"]


def innaprop(
    lists: TensorLists,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    sigma: float,
    eps: float,
    weight_decay: float = 0.0,
    initial_speed: float | None = None,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    time_step: float | Tensor | None = None,
    decay_lr: float | Tensor | None = None,
) -> None:
    """Take one step of INNAprop on lists of tensors, in place.

    See `INNAprop` for the rule and the arguments.

    Args:
        lists: parameters, gradients and state, with ``exp_avg_sqs`` and ``steps``.
        lr, alpha, beta: floats >= 0, or tensors of shape (), which are not read on the host.
        time_step: h > 0 of the momentum. None is lr.
        decay_lr: theta is multiplied by 1 - decay_lr lambda, and the momentum does not change. None is the published
            weight decay.
    """
    host = can_sync(lr, capturable)
    lists = _real(lists)
    foreach = use_foreach(foreach, lists.params, differentiable=differentiable)
    rescale = _multi_tensor_innaprop if foreach else _single_tensor_innaprop
    for part in blocks(lists) if foreach else one_by_one(lists):
        operations = Operations(at_once=differentiable)
        counts, first = next_counts(part.steps, lr, host=host)
        widened = Widened(part, counts, differentiable=differentiable)
        wide = widened.lists
        rescaled = rescale(
            operations,
            part.params,
            part.grads,
            wide.momentums,
            wide.exp_avg_sqs,
            counts,
            lr=lr,
            alpha=alpha,
            beta=beta,
            sigma=sigma,
            eps=eps,
            weight_decay=weight_decay if decay_lr is None else 0.0,
            differentiable=differentiable,
            host=host,
        )
        # The published decay of theta is the decoupled one; `rescale` has applied that of the momentum.
        move(
            operations,
            replace(wide, grads=rescaled),
            first if initial_speed is not None else None,
            lr=lr,
            alpha=alpha,
            beta=beta,
            weight_decay=weight_decay,
            initial_speed=initial_speed,
            decoupled_weight_decay=True,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            temporary_grads=not differentiable,
            time_step=time_step,
            decay_lr=decay_lr,
        )
        widened.store(operations)
        count_step(operations, part.steps, counts)
        operations.run()


def _single_tensor_innaprop(
    operations: Operations,
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    exp_avg_sqs: list[Tensor],  # as params
    counts: Sequence[float | Tensor],  # () each
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    sigma: float,
    eps: float,
    weight_decay: float,
    differentiable: bool,
    host: bool,
) -> list[Tensor]:
    """Decay the momentums, update the mean squares, rescale the gradients.

    That happens when ``operations`` run.
    """
    rescaled = []
    for param, grad, momentum, exp_avg_sq, count in zip(params, grads, momentums, exp_avg_sqs, counts, strict=True):
        gamma, a, b = (on_device(param.device, value) for value in (lr, alpha, beta))
        if differentiable:
            # Out of place, since autograd needs the old values.
            if weight_decay:
                _, m = dynamics.decay_innaprop(param.clone(), momentum.clone(), gamma, a, b, weight_decay)
                momentum.copy_(m)
            ghat, v = dynamics.rescale(grad, exp_avg_sq.clone(), max(float(count), 1.0), sigma, eps)
            exp_avg_sq.copy_(v)
            rescaled.append(ghat)
            continue
        if weight_decay:
            add_scaled(operations, momentum, param, gamma * weight_decay * (1 / b - a))
        ghat = torch.empty_like(exp_avg_sq)
        if host:
            operations(exp_avg_sq.mul_, sigma)
            operations(exp_avg_sq.addcmul_, grad, grad, value=1 - sigma)
        else:
            _average_on_device(operations, exp_avg_sq, grad, ghat, sigma, gamma)
        operations(ghat.copy_, exp_avg_sq)
        operations(ghat.div_, _bias_correction(exp_avg_sq, count, sigma))
        operations(ghat.sqrt_)
        operations(ghat.add_, eps)
        operations(ghat.reciprocal_)
        operations(ghat.mul_, grad)
        rescaled.append(ghat)
    return rescaled


def _multi_tensor_innaprop(
    operations: Operations,
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    exp_avg_sqs: list[Tensor],  # as params
    counts: Sequence[float | Tensor],  # () each
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    sigma: float,
    eps: float,
    weight_decay: float,
    differentiable: bool,
    host: bool,
) -> list[Tensor]:
    rescaled = list(grads)
    for (device, *_), indices in group_alike(params, momentums).items():
        gamma, a, b = (on_device(device, value) for value in (lr, alpha, beta))
        theta, g, m, v = ([tensors[i] for i in indices] for tensors in (params, grads, momentums, exp_avg_sqs))
        if weight_decay:
            foreach_add_scaled(operations, m, theta, gamma * weight_decay * (1 / b - a))
        # The only temporary, turned into the rescaled gradient in place.
        ghat = [torch.empty_like(exp_avg_sq) for exp_avg_sq in v]
        corrections = [_bias_correction(exp_avg_sqs[i], counts[i], sigma) for i in indices]
        if host:
            operations(torch._foreach_mul_, v, sigma)
            operations(torch._foreach_addcmul_, v, g, g, value=1 - sigma)
        else:
            for exp_avg_sq, grad, buffer in zip(v, g, ghat, strict=True):
                _average_on_device(operations, exp_avg_sq, grad, buffer, sigma, gamma)
        operations(torch._foreach_copy_, ghat, v)
        operations(torch._foreach_div_, ghat, corrections)
        operations(torch._foreach_sqrt_, ghat)
        operations(torch._foreach_add_, ghat, eps)
        operations(torch._foreach_reciprocal_, ghat)
        operations(torch._foreach_mul_, ghat, g)
        for i, tensor in zip(indices, ghat, strict=True):
            rescaled[i] = tensor
    return rescaled


def _average_on_device(
    operations: Operations,
    exp_avg_sq: Tensor,  # any shape
    grad: Tensor,  # as exp_avg_sq
    buffer: Tensor,  # as exp_avg_sq
    sigma: float,
    lr: float | Tensor,  # ()
) -> None:
    moves = on_device_of(lr != 0, exp_avg_sq, coefficient_dtype(exp_avg_sq))
    weight = (1 - sigma) * moves
    operations(exp_avg_sq.mul_, 1 - weight)
    operations(buffer.copy_, grad)
    operations(buffer.mul_, buffer)
    add_scaled(operations, exp_avg_sq, buffer, weight)


def _bias_correction(exp_avg_sq: Tensor, count: float | Tensor, sigma: float) -> Any:
    if not isinstance(count, Tensor):
        return 1 - sigma**count
    # 1 - sigma^t without cancellation in single precision; 1 before the first step.
    log_sigma = math.log(sigma) if sigma else -math.inf
    count = count.to(device=exp_avg_sq.device, dtype=coefficient_dtype(exp_avg_sq)).clamp(min=1)
    return -torch.expm1(count * log_sigma)


def _real(lists: TensorLists) -> TensorLists:
    if not any(param.is_complex() for param in lists.params):
        return lists

    def view(tensor: Any) -> Any:
        return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor

    return replace(lists.map(view), steps=lists.steps)
