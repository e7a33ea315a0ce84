"""The command ``inna info``."""

from __future__ import annotations

from rich.console import Console

from inna.experiments.formatting import print_line

__all__ = ["info"]


def info() -> int:
    """Show versions, hardware, implementations of the step, and the data folder."""
    from inna.experiments.training.hardware import report

    console = Console()
    for name, value in report().items():
        print_line(console, f"{name:<22} {value}")
    return 0
