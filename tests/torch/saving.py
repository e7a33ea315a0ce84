"""The ways in which an optimizer is saved and made again."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MEANS = ["state dict", "torch.save", "deepcopy", "pickle"]


def made_again(optimizer: Any, means: str, make: Callable[[Iterable[Tensor]], Any]) -> Any:
    """The optimizer with parameters of its own, by one of MEANS; ``make`` makes a fresh one for loading."""
    if means == "deepcopy":
        return copy.deepcopy(optimizer)
    if means == "pickle":
        return pickle.loads(pickle.dumps(optimizer))
    saved = optimizer.state_dict()
    if means == "torch.save":
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    other = make([param.detach().clone().requires_grad_() for param in params])
    other.load_state_dict(copy.deepcopy(saved))
    return other
