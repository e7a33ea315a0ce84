"""What a step takes beyond the parameters, gradients and state: nothing when fused, else one tensor or one block."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from inna.torch.blocks import BLOCK
from inna.torch.kernels import cpu

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
COUNT, SIZE = 3, 1 << 19  # float32 tensors of 2 MiB: one temporary for each of them is far more than is allowed
NOISE = 1 << 20  # the system counts resident pages by thread and adds them up late

# One process for all: to import torch takes longer than the measurements. Freed memory goes back to the system at once
# (see MALLOC_MMAP_THRESHOLD_), so that the peak shows every temporary.
MEASURE = """
import json, sys, torch, inna.torch
torch.set_num_threads(2)

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

def extra(name, count, size, **flags):
    if flags.get("capturable"):
        flags["lr"] = torch.tensor(0.01)
    params = [torch.nn.Parameter(torch.ones(size)) for _ in range(count)]
    for param in params:
        param.grad = torch.ones(size)
    optimizer = getattr(inna.torch, name)(params, **flags)
    optimizer.step()
    peaks = []
    for _ in range(2):
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        before = memory("VmRSS")
        optimizer.step()
        peaks.append(memory("VmHWM") - before)
    return min(peaks)

print(json.dumps([extra(name, count, size, **flags) for name, flags, count, size in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def extra() -> dict[tuple[str, str, int], int]:
    """Bytes that resident memory grows by during a step, at its peak: by optimizer, path and entry of SETTINGS."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("no peak of resident memory to be read")
    keys = [
        (name, path, i)
        for name in ("INNA", "INNAprop")
        for path in PATHS
        for i in range(len(SETTINGS))
        if path != "fused" or not cpu.unavailable()
    ]
    runs = [(name, {**SETTINGS[i], **PATHS[path]}, COUNT, SIZE) for name, path, i in keys]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=json.dumps(runs),
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(keys, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("name", ["INNA", "INNAprop"])
@pytest.mark.parametrize("path", PATHS)
def test_no_step_takes_more_than_one_tensor_or_block_and_a_fused_one_nothing(extra, path, name):
    if path == "fused" and cpu.unavailable():
        pytest.skip(cpu.unavailable())
    allowed = {"fused": 0, "foreach": 4 * 2 * BLOCK, "single": 4 * SIZE}[path]
    for i, settings in enumerate(SETTINGS):
        assert extra[name, path, i] <= allowed + NOISE, settings


def test_the_measurement_sees_a_temporary(extra):
    assert extra["INNAprop", "single", 0] > 4 * SIZE - NOISE
