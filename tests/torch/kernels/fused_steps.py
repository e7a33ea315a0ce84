"""Optimizers and tensors for the tests of the fused step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inna.torch import INNA
from inna.torch.kernels import cpu

needs_kernels = pytest.mark.skipif(
    bool(cpu.unavailable()), reason=f"{cpu.unavailable()}: python setup.py build_ext --inplace"
)


def stepper(**kwargs: Any) -> INNA:
    """An optimizer of one parameter with a gradient."""
    param = torch.nn.Parameter(torch.ones(4, 6))
    param.grad = torch.full((4, 6), 0.5)
    return INNA([param], **kwargs)


class Tagged(Tensor):
    """A subclass of Tensor, which has no kernel."""
