"""The command ``inna info``."""

from __future__ import annotations

from rich.console import Console

from inna.cli.options import waiting
from inna.experiments.formatting import print_line

__all__ = ["info"]


def info() -> int:
    """Show versions, hardware, implementations of the step, and the data folder."""
    console = Console()
    with waiting(console, "importing torch"):
        from inna.experiments.training.hardware import report

        found = report()
    for name, value in found.items():
        print_line(console, f"{name:<22} {value}")
    return 0
