"""The settings of a parameter group.

Checks, plain flags, and numbers that a scheduler's rounding took below 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inna.checks import check_range, check_whole
from inna.torch.steps.rounding import SEEDS

__all__ = ["FLAGS", "LOW_PRECISION", "PRECISIONS", "check_settings", "plain_flags", "read_setting", "undo_rounding"]

# Flags whose None leaves the choice to the optimizer, and flags that are on or off.
CHOICES = ("foreach", "fused", "kahan")
SWITCHES = ("maximize", "capturable", "differentiable", "decoupled_weight_decay")
LOW_PRECISION = (torch.bfloat16, torch.float16, torch.complex32)
PRECISIONS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The dtypes that state can have, besides their complex counterparts."""
ROUNDING = 1e-6
"""A setting of at least -ROUNDING times its initial value counts as 0; float32 rounds by 1e-7."""
FLAGS = """\
kahan: add the rounding error of each update of the parameters to the next one, by Kahan summation with a tensor
    ``compensation`` per parameter, so that updates below their rounding add up. None turns it on for bfloat16
    and float16 parameters.
maximize: maximise the objective instead of minimising it.
foreach: step all tensors of a group in a few calls (True) or one by one (False). None is foreach for plain
    tensors and parameters.
capturable: never synchronise with the host, as CUDA graphs need; give ``lr`` as a tensor on the device to
    change it between replays.
differentiable: let autograd see the step (with respect to parameters, gradients, lr, alpha and beta).
fused: step all tensors of a group by one compiled kernel, in one pass over memory. None takes it if there is a
    kernel for every tensor and neither ``foreach`` nor ``differentiable`` asks for another path; True insists, and
    makes ``GradScaler`` pass its scale to the step."""
"""The documentation of the flags that both optimizers have, for `inna.docstrings.insert`."""


def plain_flags(group: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of ``group`` that NumPy's or torch's booleans give, as Python's.

    Checkpoints can hold only those.
    """
    flags = {}
    for name in (*CHOICES, *SWITCHES):
        value = group.get(name)
        if not isinstance(value, (bool, int, str, type(None))) and hasattr(value, "item"):
            try:
                plain = value.item()
            except (RuntimeError, TypeError, ValueError):
                continue
            if isinstance(plain, bool):
                flags[name] = plain
    return flags


def check_settings(group: Mapping[str, Any], ranges: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the settings of a group.

    Args:
        group: the settings.
        ranges: keyword arguments of `check_range` for each number.

    Raises:
        ValueError: a setting is out of its range, or flags exclude each other.
    """
    for name, bounds in ranges.items():
        value = group[name]
        if isinstance(value, Tensor) and value.is_complex():
            raise ValueError(f"{name} must be real, got {value.detach()!r}")
        # float() of a tensor that requires a gradient warns.
        check_range(name, value.detach() if isinstance(value, Tensor) else value, **bounds)
    if group["initial_speed"] is not None:
        check_range("initial_speed", group["initial_speed"])
    dtype = group["momentum_dtype"]
    if dtype is not None and dtype not in PRECISIONS:
        allowed = ", ".join(map(str, PRECISIONS))
        raise ValueError(f"momentum_dtype must be a real floating-point torch.dtype ({allowed}) or None, got {dtype!r}")
    bits = group.get("momentum_bits")
    if bits is not None:
        if not isinstance(bits, int) or bits != 8:
            raise ValueError(f"momentum_bits must be 8 or None, got {bits!r}")
        if dtype is not None:
            raise ValueError(f"momentum_bits=8 and momentum_dtype={dtype!r} exclude each other; leave one of them None")
        if group["differentiable"]:
            raise ValueError(
                "momentum_bits=8 cannot be differentiated through, since the scales are not smooth; use "
                "momentum_dtype=torch.bfloat16 or leave both None"
            )
    if check_whole("rounding_seed", group.get("rounding_seed", 0), 0) >= SEEDS:
        raise ValueError(f"rounding_seed must be a whole number < 2^32, got {group['rounding_seed']!r}")
    for flag in (*CHOICES, *SWITCHES):
        value = group.get(flag, False)
        is_flag = isinstance(value, int) and value in (0, 1)
        if not is_flag and not (value is None and flag in CHOICES):
            choices = "True, False or None" if flag in CHOICES else "True or False"
            raise ValueError(f"{flag} must be {choices}, got {value!r}")
    if group["differentiable"]:
        for flag in ("foreach", "fused", "kahan"):
            if group[flag]:
                raise ValueError(f"{flag}=True cannot be differentiated through; leave it None or False")
    if group["fused"] and group["foreach"]:
        raise ValueError("foreach=True and fused=True exclude each other; choose one, or leave both None")


def undo_rounding(name: str, group: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """A group's setting; 0 if a schedule that ends at 0 has missed it by rounding.

    >>> undo_rounding("lr", {"lr": -2e-18, "initial_lr": 0.1}, {}), undo_rounding("lr", {"lr": -1}, {"lr": 0.1})
    (0.0, -1)
    """
    value = group[name]
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
        initial = [float(given) for given in (group.get(f"initial_{name}"), defaults.get(name)) if given is not None]
    except (TypeError, ValueError, RuntimeError):
        return value
    return 0.0 if 0 > number >= -ROUNDING * max(map(abs, initial), default=0.0) else value


def read_setting(
    name: str,
    group: Mapping[str, Any],
    bounds: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    keep_tensor: bool,
) -> float | Tensor:
    """Read a number of a group: a float, or a tensor of shape () if tensors are kept.

    Raises:
        ValueError: it is out of its range.
    """
    value: float | Tensor = group[name]
    if isinstance(value, Tensor):
        if keep_tensor:
            return value.reshape(())
        value = value.item()
    # All settings are >= 0. This test takes a tenth of the time of `check_range`.
    if not (isinstance(value, (int, float)) and 0.0 <= value < bounds.get("below", math.inf)):
        value = check_range(name, undo_rounding(name, {**group, name: value}, defaults), **bounds)
    if name == "lr" and torch.compiler.is_compiling():
        # A number would be a constant of the graph, and each step of a scheduler would recompile it.
        return value * torch.ones((), dtype=torch.float64)
    return value
