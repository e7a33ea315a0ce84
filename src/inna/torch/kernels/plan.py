"""The plan of a group's fused step, reused while no tensor moves."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from inna.torch.kernels.step import make_table, step
from inna.torch.paths import PATH_FLAGS
from inna.torch.tensor_lists import Settings, TensorLists

__all__ = ["Plan", "step_and_plan"]


def step_and_plan(
    group: dict[str, Any],
    states: dict[Tensor, Any],
    lists: TensorLists,
    settings: Settings,
    grad_scale: Tensor | None,  # ()
    found_inf: Tensor | None,  # ()
) -> Plan | None:
    """Take a fused step; return the plan for the next one.

    Returns:
        None where a plan could not notice all changes: under ``torch.compile``, with tensor subclasses and on several
        devices.
    """
    device = lists.params[0].device
    if torch.compiler.is_compiling() or not all(
        type(param) in (Tensor, torch.nn.Parameter) and param.device == device for param in lists.params
    ):
        step(lists, settings, grad_scale, found_inf)
        return None
    plan = Plan(group, states, lists)
    plan.step(lists.grads, settings, grad_scale, found_inf)
    return plan


class Plan:
    """The launch table of a group's last fused step, and the facts on which it relies.

    Examining every tensor at each step would cost more than the step of a small model. `grads` checks only what may
    have changed, by a few calls for all tensors together.

    Args:
        group: the parameter group.
        states: the optimizer's state.
        lists: the tensors with gradients. Each has a kernel.
    """

    def __init__(self, group: dict[str, Any], states: dict[Tensor, Any], lists: TensorLists) -> None:
        self._group = group
        self._params = list(group["params"])
        self._flags = _FLAGS(group)
        self._moving = lists.params
        moving = {id(param) for param in lists.params}
        self._idle = [param for param in self._params if id(param) not in moving]
        values = [states[param] for param in lists.params]
        self._entries = sum(map(len, values))
        # The state's tensors are looked up at every step: references kept here would keep them in memory when their
        # owner drops them or moves them to another device.
        kept = [(i, name) for i in range(len(values)) for name in values[i] if isinstance(values[i][name], Tensor)]
        self._owners, self._names = ([pair[i] for pair in kept] for i in (0, 1))
        still = [*lists.params, *(values[i][name] for i, name in kept)]
        self._places = list(map(Tensor.data_ptr, still))
        self._look_alike = _metadata_check([*still, *lists.grads])
        self._table = make_table(lists.params[0].device, lists)

    def grads(self, group: dict[str, Any], states: dict[Tensor, Any]) -> list[Tensor] | None:
        """The gradients of the next step; None if anything has changed on which the plan relies."""
        params = group["params"]
        grads = list(map(_GRAD, self._moving))
        if not (
            group is self._group
            and _FLAGS(group) == self._flags
            and len(params) == len(self._params)
            and all(map(is_, params, self._params))
            and all(param.grad is None for param in self._idle)
        ):
            return None
        values: list[Any] = list(map(states.get, self._moving))
        if not all(values) or sum(map(len, values)) != self._entries:
            return None
        state: list[Any] = list(map(dict.get, [values[i] for i in self._owners], self._names))
        still = [*self._moving, *state]
        holds = self._look_alike(*still, *grads) and list(map(Tensor.data_ptr, still)) == self._places
        return grads if holds else None

    def step(
        self,
        grads: list[Tensor],  # as the parameters
        settings: Settings,
        grad_scale: Tensor | None,  # ()
        found_inf: Tensor | None,  # ()
    ) -> None:
        """Take a step with gradients from `grads`, or with those that the plan was made with."""
        self._table.launch(list(map(Tensor.data_ptr, grads)), settings, grad_scale, found_inf)
        torch.autograd.graph.increment_version(self._moving if grad_scale is None else [*self._moving, *grads])


_GRAD = attrgetter("grad")
# The settings that decide the path and the state: changing one invalidates a plan.
_FLAGS = itemgetter(*PATH_FLAGS, "kahan", "momentum_dtype", "capturable", "initial_speed")


def _metadata_check(tensors: list[Tensor]) -> Callable[..., bool]:
    """Return a test whether other tensors have the types, dtypes, devices, shapes and strides of these.

    The test keeps no reference to ``tensors``.
    """
    try:
        # torch.compile's own guards take a tenth of the time, but have no public name.
        from torch._C._dynamo.guards import TensorGuards

        alike: Callable[..., bool] = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
    except (ImportError, TypeError):
        facts = list(map(_metadata, tensors))
        return lambda *others: list(map(_metadata, others)) == facts
    return alike


def _metadata(tensor: Tensor | None) -> tuple[Any, ...]:
    if tensor is None or tensor.layout is not torch.strided:
        return ()
    pending = tensor.is_conj(), tensor.is_neg(), tensor._is_zerotensor()
    return type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.stride(), pending
