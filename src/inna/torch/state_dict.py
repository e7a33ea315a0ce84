"""Checks of a state dict before anything is loaded from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from inna.torch.settings import LOW_PRECISION, PRECISIONS
from inna.torch.shards import is_dtensor, misplacement
from inna.torch.steps.companding import MEAN_SQUARE, MOMENTUM, dequantized, scale_shape
from inna.torch.tensor_lists import same_layout

__all__ = ["check_layout", "check_state", "move_to", "split_state"]

# State of both optimizers. Other names belong to wrappers and hooks.
OWN = ("momentum", "momentum_scale", "exp_avg_sq", "exp_avg_sq_scale", "compensation", "psi", "step")
# The dtypes of codes, which have scales beside them.
CODES = {"momentum": MOMENTUM, "exp_avg_sq": MEAN_SQUARE}


def check_layout(state_dict: Any) -> None:
    """Check that ``state_dict`` has the layout of `torch.optim.Optimizer`'s.

    Raises:
        ValueError: it does not; the message names the place.
    """
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"a state dict must be a dictionary, got {_kind(state_dict)}")
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, Mapping):
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
    for key, values in state.items():
        if key in set(named):
            if not isinstance(values, Mapping):
                raise ValueError(f"a state dict's state of parameter {key!r} must be a dictionary, got {_kind(values)}")
        elif isinstance(key, int) and isinstance(values, Mapping) and not values.keys().isdisjoint(OWN):
            raise ValueError(f"the state dict has state for {key!r}, which none of its param_groups names")


def check_state(state_dict: Mapping[str, Any], params: Sequence[Sequence[Tensor]], known: Collection[str]) -> None:
    """Check that the state fits the parameters, group by group.

    Torch itself reports groups of different lengths.

    Args:
        state_dict: a state dict that passed `check_layout`.
        params: the parameters of each group of the optimizer.
        known: the names that the optimizer gives to the state of a parameter. Others are not checked.

    Raises:
        ValueError: the state of a parameter does not fit; the message names the parameter and the fault.
    """
    groups = state_dict["param_groups"]
    if [len(group["params"]) for group in groups] != list(map(len, params)):
        return
    members = [(group, key) for group in groups for key in group["params"]]
    for position, ((group, key), param) in enumerate(zip(members, chain.from_iterable(params), strict=True)):
        values = state_dict["state"].get(key, {})
        refusals = (_refusal(name, value, param, values) for name, value in values.items() if name in known)
        if why := _origin(values, group, known) or next(filter(None, refusals), ""):
            raise ValueError(f"the state dict's state of parameter {position}, of shape {tuple(param.shape)}: {why}")


def split_state(
    state_dict: Mapping[str, Any], params: Sequence[Sequence[Tensor]], known: Collection[str]
) -> tuple[dict[Any, Any], dict[Any, dict[str, Any]]]:
    """Divide state into the optimizer's and what others keep with parameters.

    The optimizer's is made ready for its parameters.

    Args:
        state_dict, params, known: as for `check_state`, which they passed.
    """
    own: dict[Any, Any] = dict(state_dict["state"])
    extra: dict[Any, dict[str, Any]] = {}
    keys = [group["params"] for group in state_dict["param_groups"]]
    if list(map(len, keys)) != list(map(len, params)):
        return own, extra  # torch refuses these
    owners = dict(zip(chain.from_iterable(keys), chain.from_iterable(params), strict=True))
    for key in own.keys() & owners.keys():
        values, param = own[key], owners[key]
        own[key] = {
            name: _ready(name, value, param) for name, value in _readable(values, param).items() if name in known
        }
        extra[key] = {name: value for name, value in values.items() if name not in known}
    return own, extra


def move_to(value: Any, device: torch.device) -> Any:
    """Return ``value`` with all tensors on ``device``, in their own dtypes.

    Those in containers, too.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        moved = copy.copy(value)
        moved.update({name: move_to(entry, device) for name, entry in value.items()})
        return moved
    if isinstance(value, (list, tuple)):
        entries = [move_to(entry, device) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    return value


def _origin(values: Mapping[str, Any], group: Mapping[str, Any], known: Collection[str]) -> str:
    """The reason to believe that the state of a parameter is another optimizer's.

    Empty if there is none.
    """
    if "exp_avg_sq" in values and "exp_avg_sq" not in known and "sigma" in group:
        return "there is no 'exp_avg_sq' here; is it INNAprop's?"
    if "exp_avg_sq" in known and "momentum" in values and "exp_avg_sq" not in values:
        return "there is momentum, but no exp_avg_sq; is it INNA's?"
    others = sorted(str(name) for name in values if name not in known)
    if others and values.keys().isdisjoint({"momentum", "psi"}) and not {"alpha", "beta"} <= group.keys():
        return f"there is no {others[0]!r} here, only {', '.join(sorted(known))}; is it another optimizer's?"
    return ""


def _refusal(name: str, value: Any, param: Tensor, values: Mapping[str, Any]) -> str:
    if name == "step":
        try:
            count = (
                math.nan if isinstance(value, str) else float(value.detach() if isinstance(value, Tensor) else value)
            )
        except (TypeError, ValueError, RuntimeError):
            count = math.nan
        return "" if math.isfinite(count) and count >= 0 else f"step must be one number >= 0, got {_kind(value)}"
    if not isinstance(value, Tensor):
        return f"{name} must be a tensor, got {_kind(value)}"
    if name.endswith("_scale"):
        return _scale_refusal(name, value, values.get(name.removesuffix("_scale")))
    if value.shape != param.shape:
        return f"{name} has shape {tuple(value.shape)}"
    if value.dtype is CODES.get(name) and isinstance(values.get(f"{name}_scale"), Tensor):
        return "" if is_dtensor(value) is is_dtensor(param) else misplacement(name, value, param)
    real = value.dtype.to_real() if value.is_complex() else value.dtype
    if value.is_complex() != param.is_complex() or real not in PRECISIONS:
        return f"{name} has dtype {value.dtype}, the parameter {param.dtype}"
    if value.layout is not torch.strided:
        return f"{name} has layout {value.layout}; convert it by to_dense()"
    if value.is_meta and not param.is_meta:
        return f"{name} is on the meta device and has no values"
    return misplacement(name, value, param)


def _scale_refusal(name: str, value: Tensor, codes: Any) -> str:
    """The reason why scales do not fit their codes; empty if they do."""
    codes_name = name.removesuffix("_scale")
    if not isinstance(codes, Tensor) or codes.dtype is not CODES[codes_name]:
        return f"there is {name}, but {codes_name} is {_kind(codes)}"
    if value.dtype is not torch.float32 or value.numel() != math.prod(scale_shape(codes)):
        return f"{name} is {_kind(value)}, and must be one of shape {scale_shape(codes)} and dtype torch.float32"
    return misplacement(name, value, codes)


def _readable(values: Mapping[str, Any], param: Tensor) -> Mapping[str, Any]:
    """The state, with numbers in place of codes laid out as another tensor.

    Their blocks would be other entries of the parameter.
    """
    for name in CODES:
        codes, scales = values.get(name), values.get(f"{name}_scale")
        if isinstance(codes, Tensor) and isinstance(scales, Tensor) and not is_dtensor(codes):
            plain = type(codes) in (Tensor, torch.nn.Parameter) and not codes._is_zerotensor()
            if plain and not same_layout(codes, param):
                values = {key: value for key, value in values.items() if key != f"{name}_scale"}
                values[name] = dequantized(codes, scales)
    return values


def _ready(name: str, value: Any, param: Tensor) -> Any:
    """The state as steps can write it.

    Laid out as the parameter, each entry with memory of its own.
    """
    if name == "step" or is_dtensor(value) or type(value) not in (Tensor, torch.nn.Parameter):
        return value
    if name.endswith("_scale"):
        return value.detach().contiguous()
    value = value.detach()
    dtype = value.dtype
    if name == "compensation":
        dtype = param.dtype
    elif name == "exp_avg_sq" and dtype in LOW_PRECISION and dtype is not torch.bfloat16:
        dtype = torch.complex64 if value.is_complex() else torch.float32  # float16 would round small squares to 0
    pending = value.is_conj() or value.is_neg() or value._is_zerotensor() or value.is_inference()
    if dtype == value.dtype and not pending and same_layout(value, param):
        return value
    return torch.zeros_like(param, dtype=dtype, device=value.device).detach().copy_(value)


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    return repr(value) if isinstance(value, (int, float, str, torch.dtype, type(None))) else f"a {type(value).__name__}"
