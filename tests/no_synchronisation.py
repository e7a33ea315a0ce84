"""A mode in which no operation may wait for a device."""

from __future__ import annotations

import functools

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoSynchronisation(TorchDispatchMode):
    """Refuses what would wait for a device: a number read from a tensor, and shapes that depend on values."""

    refused = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.is_nonzero.default,
    )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.refused:
            raise AssertionError(f"the step reads a value on the host: {function}")
        return function(*args, **(kwargs or {}))


class NoCopies(TorchDispatchMode):
    """Refuses copies from the host to a device, which a CUDA graph cannot capture. Use the meta device for another.

    A number in `torch.as_tensor` or `torch.tensor` with a device is such a copy.
    """

    def __enter__(self):
        self.makers = {name: getattr(torch, name) for name in ("as_tensor", "tensor")}
        for name, make in self.makers.items():
            setattr(torch, name, functools.partial(self.make, make))
        return super().__enter__()

    def __exit__(self, *raised):
        for name, make in self.makers.items():
            setattr(torch, name, make)
        return super().__exit__(*raised)

    @staticmethod
    def make(make, value, *args, device=None, **kwargs):
        if not isinstance(value, torch.Tensor) and device is not None and torch.device(device).type != "cpu":
            raise AssertionError(f"the step copies {value!r} to {device}")
        return make(value, *args, device=device, **kwargs)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        moved = function is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        mixed = (
            function in (torch.ops.aten.where.self, torch.ops.aten.copy_.default)
            and len({each.device for each in tensors}) > 1
        )
        if moved or mixed:
            raise AssertionError(f"the step copies from the host to a device: {function}")
        return function(*args, **kwargs)
