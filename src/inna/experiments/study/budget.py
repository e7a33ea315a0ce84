"""A budget in runs, epochs or time, shared equally among the optimizers."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from inna.checks import check_range

__all__ = ["Budget", "parse_budget"]

_UNITS: dict[str, tuple[Literal["runs", "epochs", "seconds"], float]] = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "run": ("runs", 1.0),
    "runs": ("runs", 1.0),
    "epoch": ("epochs", 1.0),
    "epochs": ("epochs", 1.0),
}


class Budget(NamedTuple):
    """A number of runs, of epochs, or of seconds."""

    amount: float
    unit: Literal["runs", "epochs", "seconds"]


def parse_budget(text: str) -> Budget:
    """Read ``90s``, ``20m``, ``1.5h``, ``200runs`` or ``3000epochs``.

    Raises:
        ValueError: ``text`` has another form, or is not > 0.

    >>> parse_budget("20m")
    Budget(amount=1200.0, unit='seconds')
    """
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*([a-z]+)\s*", text.lower())
    if not match or match[2] not in _UNITS:
        raise ValueError(f"budget must be written like 90s, 20m, 1.5h, 200runs or 3000epochs, got {text!r}")
    unit, factor = _UNITS[match[2]]
    return Budget(check_range("budget", float(match[1]), minimum=0.0, exclusive=True) * factor, unit)
