"""``inna info``."""

from __future__ import annotations

from rich.console import Console

from inna.cli.messages import say

__all__ = [
    "info",
]


def info() -> int:
    """Show versions, hardware, the paths of the optimizers that are available here, and where data are cached."""
    from inna.experiments.training.hardware import report

    console = Console()
    for name, value in report().items():
        say(console, f"{name:<22} {value}")
    return 0
