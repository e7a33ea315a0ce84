"""Computations that demonstrate the theory, run by ``inna theory-check``.

>>> [finding] = run_demonstrations(["stable-window"])
>>> finding.holds
True
"""

from __future__ import annotations

from inna.theory.demonstrations import continuous, guard, kinks, networks
from inna.theory.demonstrations.registry import Demonstration, Finding, names, run_demonstrations

__all__ = ["Demonstration", "Finding", "continuous", "guard", "kinks", "names", "networks", "run_demonstrations"]
