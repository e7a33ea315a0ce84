"""A parameter group of the guarded INNA.

Its checks, its memory, its part in a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.checks import check_range
from inna.torch.kernels.plan import Plan
from inna.torch.measures.guard import GuardShare
from inna.torch.measures.guarded_step import MEMORY, SCALARS, GuardedGroup
from inna.torch.measures.scalars import as_scalar
from inna.torch.paths import Path
from inna.torch.shards import is_dtensor, to_local
from inna.torch.tensor_lists import Settings, TensorLists, on_device_of

__all__ = [
    "GatheredGroup",
    "add_memory",
    "check_guard",
    "check_memory",
    "check_momentum",
    "check_time_step",
    "forget",
    "join",
    "make_plain",
    "one_bound",
    "read_loss",
]


class GatheredGroup(NamedTuple):
    """A parameter group before a guarded step."""

    entries: dict[str, Any]
    """The group itself."""
    lists: TensorLists
    """The tensors with gradients, as GradScaler scaled them."""
    settings: Settings
    path: Path
    plan: Plan | None
    """Of a fused step, if all tensors are plain."""
    starts: list[Tensor] | None = None
    """theta_0 of each tensor, for a cap by the distance."""


def check_time_step(value: Any) -> float:
    """Return h as a number.

    Raises:
        ValueError: it is none > 0.
    """
    return float(check_range("time_step", value, **dynamics.LENGTH_RANGES["time_step"]))


def check_memory(group: Mapping[str, Any]) -> None:
    """Check what a group keeps of the guard.

    Raises:
        ValueError: a number is out of its range.
    """
    for name, bounds in SCALARS.items():
        if name in group:
            value = group[name]
            check_range(name, value.detach() if isinstance(value, Tensor) else value, **bounds)


def check_momentum(index: int, group: Mapping[str, Any], state: Mapping[Any, Any]) -> None:
    """Check that a saved group with a memory of past batches has a momentum.

    Both are sums over the same batches.

    Args:
        index: of the group.
        group: the group of a state dict, with the names of its parameters.
        state: the state of all parameters.

    Raises:
        ValueError: a parameter that was stepped, or every parameter, has none.
    """
    if not group["params"] or not float(group.get("guard_weight", 0.0)):
        return
    values = [state.get(key, {}) for key in group["params"]]
    without = [i for i, each in enumerate(values) if {"momentum", "psi"}.isdisjoint(each)]
    damaged = [i for i in without if not {"step", "compensation"}.isdisjoint(values[i])] or (
        without if len(without) == len(values) else []
    )
    if damaged:
        raise ValueError(
            f"the state dict's group {index} has guard_weight={float(group['guard_weight']):g}, the weight of past "
            f"gradients, but its parameter {damaged[0]} has no momentum; drop the group's guard_* entries to begin anew"
        )


def check_guard(group: Mapping[str, Any], *, host: bool = True) -> None:
    """Check the settings of a group that the guard and the time step have.

    Args:
        group: the settings.
        host: read tensors on the host. Otherwise they are not checked.

    Raises:
        ValueError: one is out of its range, or the guard excludes it.
    """
    h, bound, speed = group.get("time_step"), group.get("loss_bound"), group["initial_speed"]
    h = None if h is None else check_time_step(h)
    start = group.get("initial_distance")
    if start is not None:
        check_range("initial_distance", start, **dynamics.LENGTH_RANGES["initial_distance"])
        if bound is None or h is None:
            raise ValueError(f"initial_distance={start!r} needs a loss_bound and a time_step, as INNA.lr_free has them")
        if group.get("differentiable"):
            raise ValueError("differentiable=True needs a learning rate; leave initial_distance None")
    if bound is None:
        return
    check_range("loss_bound", bound)
    if speed is not None:
        check_range("initial_speed", speed)
    values = [group["alpha"], group["beta"], group["lr"]]
    if not host and any(isinstance(value, Tensor) for value in values):
        return
    alpha, beta, lr = (float(value.detach() if isinstance(value, Tensor) else value) for value in values)
    dynamics.check_weights(alpha, beta=beta, **({"lr": lr} if h is None else {"time_step": h}))
    if speed is not None and speed < beta:
        raise ValueError(
            f"initial_speed must be >= beta with a loss_bound, got {speed!r} and beta={beta!r}: past gradients would "
            "have negative weights"
        )


def one_bound(groups: Iterable[Mapping[str, Any]]) -> float:
    """Return the ``loss_bound`` of all groups, some of which are guarded.

    Raises:
        ValueError: it is no finite number, or the groups differ in it or in ``maximize``.
    """
    first, *others = groups
    for group in (first, *others):
        if group["loss_bound"] is not None:
            check_range("loss_bound", group["loss_bound"])
    for name in ("loss_bound", "maximize", "initial_distance"):
        for group in others:
            if group[name] != first[name]:
                raise ValueError(
                    f"{name} must be the same in all groups of a guarded INNA, got {first[name]!r} and {group[name]!r}"
                )
    return float(first["loss_bound"])


def read_loss(loss: Any, *, differentiable: bool) -> Any:
    """Return the loss as a number or a tensor of shape ().

    Raises:
        ValueError: there is none, or it is not one real number.
    """
    if loss is None:
        raise ValueError(
            "the guard needs the loss of the batch: call step(loss=loss), or return it from the closure, or give no "
            "loss_bound"
        )
    if isinstance(loss, Tensor):
        if is_dtensor(loss):  # of tensor parallelism
            sharded: Any = loss
            loss = sharded.full_tensor()
        if loss.numel() == 1 and loss.is_floating_point() and loss.layout is torch.strided and not loss.is_meta:
            return loss.reshape(()) if differentiable else loss.detach().reshape(())
        raise ValueError(
            f"loss must be a number or a dense tensor with one floating-point number, got {loss.dtype} of shape "
            f"{tuple(loss.shape)}, layout {loss.layout}, on {loss.device}"
        )
    try:
        return float(loss) if not isinstance(loss, (bool, str, bytes)) else float(None)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"loss must be a number or a tensor with one floating-point number, got {loss!r}") from None


def add_memory(group: dict[str, Any], device: torch.device, *, older: bool) -> None:
    """Give a group what it keeps of the guard, if it has not.

    Args:
        group: a group with its parameters.
        device: one for all groups, so that they can be added there.
        older: whether there is a momentum already. Its weight is taken to be that of many steps.
    """
    for name in SCALARS:
        value = 0.0
        if older and name == "guard_weight" and name not in group:
            alpha, beta = float(group["alpha"]), float(group["beta"])
            value = 1 / alpha - beta if alpha else 0.0
        if name == "guard_distance":
            value = group.get("initial_distance") or 0.0
        group[name] = as_scalar(group.get(name, value), device)


def forget(group: dict[str, Any]) -> None:
    """Remove what a group keeps of the guard."""
    for name in SCALARS:
        group.pop(name, None)


def make_plain(group: dict[str, Any]) -> None:
    """Turn the checked numbers of a group into Python's or scalar tensors."""
    for name in ("loss_bound", "time_step", "initial_distance"):
        if group.get(name) is not None:
            group[name] = float(group[name])
    for name in SCALARS.keys() & group.keys():
        group[name] = as_scalar(float(group[name]), torch.device("cpu"))


def join(group: GatheredGroup, *, host: bool) -> GuardedGroup:
    """Return a group's part in a step.

    Args:
        group: the group, with unscaled gradients; an lr of 0 if it does not step.
        host: whether the host reads the inner products.
    """
    entries, lists, settings, path, plan, starts = group
    lr: Any = settings.lr
    if not host:
        lr = on_device_of(lr, entries[MEMORY[0]])
        settings = settings._replace(lr=lr)
    moves = lr != 0
    # The kernels of CUDA devices take DTensors and tensors of several devices, too, for which there is no plan.
    kernels = plan is None and path == "fused" and all(to_local(each).device.type == "cuda" for each in lists.params)
    kernels = kernels and not torch.compiler.is_compiling()
    first: Any = []
    if settings.initial_speed is not None and plan is None and not kernels:
        first = [step.item() == 0 if host else step == 0 for step in lists.steps]
    h = lr if settings.time_step is None else settings.time_step
    return GuardedGroup(
        entries, GuardShare(lists, first, settings, plan, kernels, starts, entries["params"]), path, h, moves
    )
