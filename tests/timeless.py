"""What two runs must agree on: everything but the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CLOCK = {"seconds", "seconds_per_epoch", "finished"}


def without_times(value: Any) -> Any:
    """A result less what depends on the clock, at any depth."""
    if isinstance(value, Mapping):
        return {name: without_times(item) for name, item in value.items() if name not in CLOCK}
    return (
        [without_times(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
    )
