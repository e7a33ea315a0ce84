"""The fused step of a group.

Launched directly, or as the operator ``inna::fused_step`` under ``torch.compile``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from inna.torch.shards import to_local_lists
from inna.torch.tensor_lists import Settings, SumLists, TensorLists

__all__ = ["fused_step", "make_table", "measure", "step"]


def step(
    lists: TensorLists,
    settings: Settings,
    grad_scale: Tensor | None = None,  # ()
    found_inf: Tensor | None = None,  # ()
) -> None:
    """Take one fused step in place.

    Args:
        lists: the tensors of one group. Each has a kernel: `inna.torch.kernels.support.refusal` is empty.
        settings: lr, alpha and beta as floats or 0-dimensional tensors.
        grad_scale: GradScaler's scale. Gradients are divided by it and stay so.
        found_inf: GradScaler's verdict. If it is not 0, nothing changes.
    """
    changed = [*lists.params, *(lists.grads if grad_scale is not None else [])]
    lists = to_local_lists(lists)
    if torch.compiler.is_compiling():
        _step_compiled(lists, settings, grad_scale, found_inf)
        return
    for device, part in _by_device(lists):
        addresses = [grad.data_ptr() for grad in part.grads]
        make_table(device, part).launch(addresses, settings, grad_scale, found_inf)
    # Autograd does not see the kernels write to tensors that it may have saved.
    torch.autograd.graph.increment_version(changed)


def measure(lists: TensorLists, settings: Settings) -> list[Tensor]:
    """The inner products of a guarded step, () each, on CUDA devices.

    Those of `inna.torch.measures.guard.Products`, once for each device.

    Args:
        lists: as for `step`; plain tensors.
        settings: lr, alpha and beta as floats or 0-dimensional tensors.
    """
    return [
        make_table(device, part).measure([grad.data_ptr() for grad in part.grads], settings)
        for device, part in _by_device(lists)
    ]


def make_table(device: torch.device, lists: TensorLists, sums: SumLists | None = None) -> Any:
    """Make the launch table of the tensors on one device.

    Args:
        device: of the tensors.
        lists: as for `step`; plain tensors.
        sums: what finds the distance, without a learning rate, if a kernel is to add it up.
    """
    if device.type == "cpu":
        from inna.torch.kernels import cpu

        return cpu.Table(lists, sums)
    from inna.torch.kernels import cuda

    return cuda.Table(lists, sums)


def _by_device(lists: TensorLists) -> Iterator[tuple[torch.device, TensorLists]]:
    by_device: dict[torch.device, list[int]] = defaultdict(list)
    for i, param in enumerate(lists.params):
        by_device[param.device].append(i)
    for device, indices in by_device.items():
        yield device, lists if len(by_device) == 1 else lists.subset(indices)


def _step_compiled(lists: TensorLists, settings: Settings, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    """Take the step by one operator per kind of state, opaque to the compiler."""
    if grad_scale is not None:
        torch._foreach_mul_(lists.grads, grad_scale.reciprocal())
    lr, alpha, beta = map(_as_tensor, settings[:3])
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
                part.streams,
                *settings[3:9],
                *(_as_tensor(value) for value in settings[9:]),
            )


def _as_tensor(value: Any) -> Any:
    """A tensor or None as it is, a number as a tensor."""
    return value if value is None or isinstance(value, Tensor) else torch.full((), value, dtype=torch.float64)


@torch.library.custom_op(
    "inna::fused_step", mutates_args=("params", "momentums", "exp_avg_sqs", "compensations", "steps")
)
def fused_step(
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    exp_avg_sqs: list[Tensor],  # as params
    compensations: list[Tensor],  # as params
    steps: list[Tensor],  # () each
    lr: Tensor,  # ()
    alpha: Tensor,  # ()
    beta: Tensor,  # ()
    found_inf: Tensor | None,  # ()
    streams: list[int],
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    sigma: float | None,
    eps: float,
    time_step: Tensor | None = None,  # ()
    decay_lr: Tensor | None = None,  # ()
) -> None:
    """Take one fused step as an operator, for ``torch.compile``.

    Unused lists are empty.
    """
    lists = TensorLists(params, grads, momentums, exp_avg_sqs, list(compensations), steps, streams)
    settings = Settings(lr, alpha, beta, weight_decay, initial_speed, decoupled_weight_decay, maximize, sigma, eps)
    if lr.device.type != "cpu" or lr != 0:  # with lr = 0 nothing may change
        settings = settings._replace(time_step=time_step, decay_lr=decay_lr)
    step(lists, settings, found_inf=found_inf)


@fused_step.register_fake
def _(*args: Any) -> None:
    return None
