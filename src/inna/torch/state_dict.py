"""Checks of a state dict before anything is loaded from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_layout", "check_state"]


def check_layout(state_dict: Any) -> None:
    """Check that ``state_dict`` has the layout of `torch.optim.Optimizer`'s.

    Raises:
        ValueError: it does not; the message names the place.
    """
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"a state dict must be a dictionary, got {_kind(state_dict)}")
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, Mapping) or not all(isinstance(values, Mapping) for values in state.values()):
        raise ValueError("a state dict needs the key 'state', a dictionary of dictionaries")
    if not isinstance(groups, (list, tuple)) or not all(isinstance(group, Mapping) for group in groups):
        raise ValueError("a state dict needs the key 'param_groups', a list of dictionaries")
    if not all(isinstance(group.get("params"), (list, tuple)) for group in groups):
        raise ValueError("each of a state dict's param_groups needs the key 'params', a list")
    named = [key for group in groups for key in group["params"]]
    if not all(isinstance(key, (int, str)) for key in named):
        raise ValueError("a state dict's param_groups must name parameters by integers or strings")
    if len(set(named)) < len(named):
        raise ValueError("a state dict's param_groups name a parameter twice")
    if stray := [key for key in state if key not in set(named)]:
        raise ValueError(f"the state dict has state for {stray[0]!r}, which none of its param_groups names")


def check_state(state_dict: Mapping[str, Any], params: Sequence[Sequence[Tensor]], known: Collection[str]) -> None:
    """Check that the state fits the parameters, group by group. Torch itself reports groups of different lengths.

    Args:
        state_dict: a state dict that passed `check_layout`.
        params: the parameters of each group of the optimizer.
        known: the allowed names in the state of a parameter.

    Raises:
        ValueError: the state of a parameter does not fit; the message names the parameter and the fault.
    """
    groups = [group["params"] for group in state_dict["param_groups"]]
    if [len(group) for group in groups] != [len(group) for group in params]:
        return
    pairs = [pair for keys, own in zip(groups, params, strict=True) for pair in zip(keys, own, strict=True)]
    for position, (key, param) in enumerate(pairs):
        for name, value in state_dict["state"].get(key, {}).items():
            if why := _refusal(name, value, param, known):
                raise ValueError(
                    f"the state dict's state of parameter {position}, of shape {tuple(param.shape)}: {why}"
                )


def _refusal(name: str, value: Any, param: Tensor, known: Collection[str]) -> str:
    if name not in known:
        return f"there is no {name!r} here, only {', '.join(sorted(known))}; is it another optimizer's?"
    if name == "step":
        try:
            count = float(value)
        except (TypeError, ValueError, RuntimeError):
            count = math.nan
        return "" if math.isfinite(count) and count >= 0 else f"step must be one number >= 0, got {_kind(value)}"
    if not isinstance(value, Tensor):
        return f"{name} must be a tensor, got {_kind(value)}"
    if value.shape != param.shape:
        return f"{name} has shape {tuple(value.shape)}"
    if value.is_complex() != param.is_complex() or not (value.is_floating_point() or value.is_complex()):
        return f"{name} has dtype {value.dtype}, the parameter {param.dtype}"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    return repr(value) if isinstance(value, (int, float, str, torch.dtype, type(None))) else f"a {type(value).__name__}"
