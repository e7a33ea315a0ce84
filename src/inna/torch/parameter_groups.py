"""Parameter groups with and without weight decay."""

from __future__ import annotations

from typing import Any

import torch

from inna.checks import check_range

__all__ = ["param_groups"]


def param_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make two parameter groups.

    ``weight_decay`` for weights, none for biases and normalisation layers.

    Parameters of normalisation modules and all with at most one dimension do not decay. A shared parameter appears
    once. Empty groups are omitted.

    Args:
        model: any module.
        weight_decay: lambda, >= 0, for the group that decays.

    Raises:
        ValueError: weight_decay is out of range, or the model has no parameters.

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    >>> groups = param_groups(model, 0.01)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.01), (3, 0.0)]
    """
    check_range("weight_decay", weight_decay, minimum=0.0)
    normalisation = (
        torch.nn.modules.batchnorm._NormBase,
        torch.nn.GroupNorm,
        torch.nn.LayerNorm,
        torch.nn.RMSNorm,
    )
    exempt = {
        id(param)
        for module in model.modules()
        for param in module.parameters(recurse=False)
        if isinstance(module, normalisation) or param.ndim <= 1
    }
    params = list(model.parameters())
    if not params:
        raise ValueError(f"model has no parameters: {type(model).__name__}")
    groups = [
        {"params": [param for param in params if id(param) not in exempt], "weight_decay": weight_decay},
        {"params": [param for param in params if id(param) in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
