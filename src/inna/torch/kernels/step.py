"""The fused step of a group: launched directly, or as the operator ``inna::fused_step`` under ``torch.compile``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from inna.torch.shards import localized
from inna.torch.tensor_lists import Settings, TensorLists

__all__ = ["fused_step", "launcher", "step"]


def step(
    lists: TensorLists,
    settings: Settings,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """One fused step on tensors that `choose` has said yes to, in place.

    Args:
        lists: the tensors of one group.
        settings: lr, alpha and beta as floats, or as 0-dimensional tensors.
        grad_scale: GradScaler's scale: gradients are divided by it, and left so.
        found_inf: GradScaler's verdict: where it is not 0, nothing changes at all.
    """
    told = [*lists.params, *(lists.grads if grad_scale is not None else [])]
    lists = localized(lists)
    if torch.compiler.is_compiling():
        _step_compiled(lists, settings, grad_scale, found_inf)
        return
    by_device: dict[torch.device, list[int]] = defaultdict(list)
    for i, param in enumerate(lists.params):
        by_device[param.device].append(i)
    for device, indices in by_device.items():
        part = lists if len(by_device) == 1 else lists.subset(indices)
        addresses = [grad.data_ptr() for grad in part.grads]
        launcher(device, part).launch(addresses, settings, grad_scale, found_inf)
    # What autograd may have saved of these has changed, behind its back.
    torch.autograd.graph.increment_version(told)


def launcher(device: torch.device, lists: TensorLists) -> Any:
    """The launcher for tensors on one device."""
    if device.type == "cpu":
        from inna.torch.kernels import cpu

        return cpu.Table(lists)
    from inna.torch.kernels import cuda

    return cuda.Table(lists)


def _step_compiled(lists: TensorLists, settings: Settings, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    """The same as one operator per kind of state, which the compiler sees as a whole."""
    if grad_scale is not None:
        torch._foreach_mul_(lists.grads, grad_scale.reciprocal())
    lr, alpha, beta = (
        value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.float64) for value in settings[:3]
    )
    compensations = lists.compensations or [None] * len(lists.params)
    for with_kahan in (False, True):
        indices = [i for i, held in enumerate(compensations) if (held is not None) is with_kahan]
        if indices:
            part = lists.subset(indices)
            fused_step(
                part.params,
                part.grads,
                part.momentums,
                part.exp_avg_sqs,
                [held for held in part.compensations if held is not None],
                part.steps,
                lr,
                alpha,
                beta,
                found_inf,
                *settings[3:],
            )


@torch.library.custom_op(
    "inna::fused_step", mutates_args=("params", "momentums", "exp_avg_sqs", "compensations", "steps")
)
def fused_step(
    params: list[Tensor],
    grads: list[Tensor],
    momentums: list[Tensor],
    exp_avg_sqs: list[Tensor],
    compensations: list[Tensor],
    steps: list[Tensor],
    lr: Tensor,
    alpha: Tensor,
    beta: Tensor,
    found_inf: Tensor | None,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    sigma: float | None,
    eps: float,
) -> None:
    """One fused step as an operator, for ``torch.compile``; the lists that are not used are empty."""
    lists = TensorLists(params, grads, momentums, exp_avg_sqs, list(compensations), steps)
    settings = Settings(lr, alpha, beta, weight_decay, initial_speed, decoupled_weight_decay, maximize, sigma, eps)
    step(lists, settings, found_inf=found_inf)


@fused_step.register_fake
def _(*args: Any) -> None:
    return None
