"""The plan of a group's fused step, reused while no tensor moves."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from inna.torch.kernels.step import launcher
from inna.torch.tensor_lists import Settings, TensorLists

__all__ = ["Plan"]


class Plan:
    """What a group's last fused step found out, for the next one to use while nothing has moved.

    Looking anew at every tensor costs more than stepping a small model. `holds` looks only at what may have changed, by
    a few calls for all tensors together.

    Args:
        group: the group, its settings as they are.
        states: the optimizer's state.
        lists: the tensors with gradients, accepted by `choose`.
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
        # The state's tensors are looked up at every step: kept here, they would stay in memory when their owner drops
        # them or moves them to another device.
        kept = [(i, name) for i in range(len(values)) for name in values[i] if isinstance(values[i][name], Tensor)]
        self._owners, self._names = ([pair[i] for pair in kept] for i in (0, 1))
        still = [*lists.params, *(values[i][name] for i, name in kept)]
        self._places = list(map(Tensor.data_ptr, still))
        self._look_alike = _watch([*still, *lists.grads])
        self._table = launcher(lists.params[0].device, lists)

    @staticmethod
    def possible(lists: TensorLists) -> bool:
        """Whether a plan can see all that may change of the tensors: they are plain and on one device."""
        device = lists.params[0].device
        return not torch.compiler.is_compiling() and all(
            type(param) in (Tensor, torch.nn.Parameter) and param.device == device for param in lists.params
        )

    def grads(self, group: dict[str, Any], states: dict[Tensor, Any]) -> list[Tensor] | None:
        """The gradients to step with, or None where something has moved that the plan relies on."""
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
        self, grads: list[Tensor], settings: Settings, grad_scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        """Step with gradients that `grads` has just found, or that the plan has just been made with."""
        self._table.launch(list(map(Tensor.data_ptr, grads)), settings, grad_scale, found_inf)
        torch.autograd.graph.increment_version(self._moving if grad_scale is None else [*self._moving, *grads])


_GRAD = attrgetter("grad")
# What decides the path and the state; a change of it makes a plan void.
_FLAGS = itemgetter("fused", "foreach", "differentiable", "kahan", "momentum_dtype", "capturable", "initial_speed")


def _watch(tensors: list[Tensor]) -> Callable[..., bool]:
    """A test whether other tensors have the types, dtypes, devices, shapes and strides of these, which are not kept."""
    try:
        # What torch.compile guards its graphs with: a tenth of the time, but no public name.
        from torch._C._dynamo.guards import TensorGuards

        alike: Callable[..., bool] = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
    except (ImportError, TypeError):
        facts = list(map(_facts, tensors))
        return lambda *others: list(map(_facts, others)) == facts
    return alike


def _facts(tensor: Tensor | None) -> tuple[Any, ...]:
    if tensor is None or tensor.layout is not torch.strided:
        return ()
    pending = tensor.is_conj(), tensor.is_neg(), tensor._is_zerotensor()
    return type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.stride(), pending
