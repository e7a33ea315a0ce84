"""The plan of a group's fused step, reused while no tensor moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress, repeat
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from inna.torch.kernels.step import make_table
from inna.torch.paths import PATH_FLAGS
from inna.torch.tensor_lists import Settings, SumLists, TensorLists

__all__ = ["Plan", "can_plan"]


def can_plan(lists: TensorLists) -> bool:
    """Return whether a plan notices all changes.

    It does not under ``torch.compile``, with subclasses or on several devices.
    """
    device = lists.params[0].device
    return not torch.compiler.is_compiling() and all(
        type(param) in (Tensor, torch.nn.Parameter) and param.device == device for param in lists.params
    )


class Plan:
    """The launch table of a group's last fused step, and what it relies on.

    Examining every tensor at each step would cost more than the step of a small model. `tensors` checks only what may
    have changed, by a few calls for all tensors together. The table holds addresses, so what counts is where tensors
    are and how they are laid out, not which objects they are.

    Args:
        group: the parameter group.
        states: the optimizer's state.
        lists: the tensors with gradients. Each has a kernel.
        sums: what finds the distance, without a learning rate, if a kernel is to add it up.
    """

    def __init__(
        self, group: dict[str, Any], states: dict[Tensor, Any], lists: TensorLists, sums: SumLists | None = None
    ) -> None:
        self._flags = _flags(group)
        moving = {id(param) for param in lists.params}
        self._moves = [id(param) in moving for param in group["params"]]
        self._idle = [not moves for moves in self._moves] if not all(self._moves) else None
        values = [states[param] for param in lists.params]
        self._entries = sum(map(len, values))
        # Parameters and state are looked up at every step: references kept here would keep them in memory when they
        # leave the optimizer or move to another device.
        kept = [(i, name) for i in range(len(values)) for name in values[i] if isinstance(values[i][name], Tensor)]
        self._owners, self._names = ([pair[i] for pair in kept] for i in (0, 1))
        still = [*lists.params, *(values[i][name] for i, name in kept)]
        self._places = list(map(Tensor.data_ptr, still))
        self._look_alike = _metadata_check([*still, *lists.grads])
        self._table = make_table(lists.params[0].device, lists, sums)
        self.measures_distance = sums is not None and bool(self._table.measures_distance)
        """Whether the kernels add up the sums: `measure` INNA's, `measure_distance` INNAprop's."""
        self.started = False
        """Whether theta_0 of all parameters is known to be that of their first step."""

    def tensors(self, group: dict[str, Any], states: dict[Tensor, Any]) -> tuple[list[Tensor], list[Tensor]] | None:
        """The parameters and gradients of the next step.

        None if anything has changed on which the plan relies.
        """
        params = group["params"]
        grads = list(map(_GRAD, params))
        if _flags(group) != self._flags or len(params) != len(self._moves):
            return None
        if self._idle is not None:
            if not all(map(is_, compress(grads, self._idle), repeat(None))):
                return None
            params, grads = list(compress(params, self._moves)), list(compress(grads, self._moves))
        values: list[Any] = list(map(states.get, params))
        if not all(values) or sum(map(len, values)) != self._entries:
            return None
        state: list[Any] = list(map(dict.get, [values[i] for i in self._owners], self._names))
        still = [*params, *state]
        holds = self._look_alike(*still, *grads) and list(map(Tensor.data_ptr, still)) == self._places
        return (params, grads) if holds else None

    @property
    def table(self) -> Any:
        """The launch table: `inna.torch.kernels.cpu.Table`, or that of ``cuda``."""
        return self._table

    def measure(
        self,
        grads: list[Tensor],  # any shapes
        settings: Settings,
    ) -> Sequence[float | Tensor]:
        """The inner products of a guarded step.

        Numbers on the CPU, tensors of shape () on a CUDA device.
        """
        products: Sequence[float | Tensor] = self._table.measure(list(map(Tensor.data_ptr, grads)), settings)
        return products

    def measure_distance(
        self,
        grads: list[Tensor],  # any shapes
        weight: float | Tensor,  # ()
        sigma: float | Tensor,  # ()
    ) -> Sequence[float]:
        """The sums that find INNAprop's distance, as those of the table."""
        sums: Sequence[float] = self._table.measure_distance(list(map(Tensor.data_ptr, grads)), weight, sigma)
        return sums

    def prepare(
        self,
        params: list[Tensor],  # any shapes
        grads: list[Tensor],  # as params
        settings: Settings,
        grad_scale: Tensor | None,  # ()
        found_inf: Tensor | None,  # ()
    ) -> Callable[[], Any]:
        """Return the step with these parameters and gradients.

        Those of `tensors`, or those that the plan was made with.
        """
        # Autograd does not see the kernels write to tensors that it may have saved.
        torch.autograd.graph.increment_version(params if grad_scale is None else [*params, *grads])
        table = self._table
        step: Callable[[], Any] = table.prepare(list(map(Tensor.data_ptr, grads)), settings, grad_scale, found_inf)
        return step


_GRAD = attrgetter("grad")
# The settings that decide the path and the state: changing one invalidates a plan.
_FLAGS = itemgetter(
    *PATH_FLAGS, "kahan", "momentum_dtype", "momentum_bits", "rounding_seed", "capturable", "initial_speed"
)


def _flags(group: dict[str, Any]) -> tuple[Any, ...]:
    return *_FLAGS(group), group.get("initial_distance") is None, group.get("slice_every")


def _metadata_check(tensors: list[Tensor]) -> Callable[..., bool]:
    """Return a function that checks that tensors have the layout of these.

    It compares types, dtypes, devices, shapes and strides.

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
