"""What a step takes beyond the parameters, gradients and state: nothing when fused, else one temporary at the most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = [
    {},
    {"weight_decay": 0.1},
    {"kahan": True, "weight_decay": 0.1},
    {"initial_speed": 1.0, "maximize": True},
    {"weight_decay": 0.1, "capturable": True},
]
PATHS = {
    "single": {"fused": False, "foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
COUNT, SIZE = 8, 1 << 20  # float32 tensors of 4 MiB

# Freed memory goes back to the system at once (see MALLOC_MMAP_THRESHOLD_), so that the peak shows every temporary.
MEASURE = """
import json, sys, torch, inna.torch

name, flags, count, size = json.loads(sys.argv[1])
if flags.get("capturable"):
    flags["lr"] = torch.tensor(0.01)
params = [torch.nn.Parameter(torch.ones(size)) for _ in range(count)]
for param in params:
    param.grad = torch.ones(size)
optimizer = getattr(inna.torch, name)(params, **flags)

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

for _ in range(2):
    optimizer.step()
peaks = []
for _ in range(3):
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = memory("VmRSS")
    optimizer.step()
    peaks.append(memory("VmHWM") - before)
print(min(peaks))
"""


def extra(name: str, flags: dict[str, object]) -> int:
    """Bytes that the process's resident memory grows by during a step, at its peak."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps([name, flags, COUNT, SIZE])],
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak of resident memory to be read")
@pytest.mark.parametrize("name", ["INNA", "INNAprop"])
@pytest.mark.parametrize("path", PATHS)
def test_no_step_takes_more_than_one_temporary_and_a_fused_one_none(path, name):
    if path == "fused":
        from inna.torch import cpu_kernels

        if cpu_kernels.missing():
            pytest.skip(cpu_kernels.missing())
    noise = 2 << 20
    tensor, group = 4 * SIZE, 4 * SIZE * COUNT
    allowed = {"single": 2 * tensor, "foreach": group, "fused": 0}[path] + noise
    for settings in SETTINGS:
        assert extra(name, {**settings, **PATHS[path]}) <= allowed, settings


def test_the_measurement_sees_a_temporary(tmp_path: Path):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("no peak of resident memory to be read")
    assert extra("INNAprop", {"foreach": True}) > 4 * SIZE * COUNT * 0.9
