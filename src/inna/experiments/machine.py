"""What a run ran on: versions and hardware, as they stand in its row."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

import inna

__all__ = ["cores", "hardware", "versions"]


def versions() -> dict[str, str]:
    """The versions of inna, torch and Python."""
    return {"inna": inna.__version__, "torch": torch.__version__, "python": platform.python_version()}


def hardware(device: torch.device) -> dict[str, str | int]:
    """The processor's name, the number of cores this process may use, and the name of the device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"cpu": _processor(), "cores": cores(), "device": name}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
