"""The versions and the hardware of a run, as recorded in its row."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import inna

__all__ = ["cores", "hardware", "report", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of inna, torch and Python."""
    return {"inna": inna.__version__, "torch": torch.__version__, "python": platform.python_version()}


def hardware(device: torch.device) -> dict[str, str | int]:
    """Return the processor's name, the cores of this process, and the device's name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"cpu": _processor(), "cores": cores(), "device": name}


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def report() -> dict[str, str]:
    """Return what ``inna info`` shows: versions, hardware, paths, the data folder."""
    from inna.experiments.tasks.local_files import data_folder
    from inna.torch.kernels import cpu, support

    lines = dict(versions())
    for name in ("jax", "optax", "keras", "numpy", "scikit-learn"):
        try:
            lines[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            lines[name] = "not installed"
    lines["processor"] = f"{_processor()}, {cores()} cores"
    count = torch.cuda.device_count()
    lines["GPU"] = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none that torch can use"
    for device in ["cpu", *(["cuda"] if count else [])]:
        for implementation in ("single-tensor", "foreach", "fused"):
            lines[f"{implementation} on {device}"] = _availability(implementation, device)
    lines |= dict(line.split(": ", 1) for line in support.describe())
    if cpu.unavailable() and cpu.compiler_log():
        lines["compiler of the CPU kernels"] = cpu.compiler_log().strip()
    folder = data_folder()
    lines["data"] = f"{folder}{'' if folder.exists() else ' (does not exist yet)'}; inna datasets shows what is in it"
    return lines


def _availability(implementation: str, device: str) -> str:
    from inna.torch import INNA

    parameter = torch.zeros(1, device=device, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    try:
        INNA([parameter], foreach=implementation == "foreach", fused=implementation == "fused").step()
    except RuntimeError as error:
        return f"no: {error}"
    return "yes"
