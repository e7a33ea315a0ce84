"""A mode in which no operation may wait for a device."""

from __future__ import annotations

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
