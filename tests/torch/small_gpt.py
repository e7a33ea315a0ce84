"""examples/gpt.py, as the ranks of the tests run it: made small."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest
import torch.distributed as dist

from inna.experiments.rows.row_files import read_rows, row_path

FILE = Path(__file__).parents[2] / "examples" / "gpt.py"


@functools.cache
def module():
    spec = importlib.util.spec_from_file_location("gpt", FILE)
    gpt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpt)
    gpt.CONTEXT, gpt.WIDTH, gpt.LAYERS, gpt.HEADS, gpt.BATCH = 16, 8, 2, 2, 4
    gpt.EVALUATE, gpt.BATCHES, gpt.GRID, gpt.FINAL_SEEDS = 2, 2, (0.003, 0.01), (1, 2)
    return gpt


def run(folder, optimizer, *, stops=(), precision="float32", offload=False, steps=8):
    """The losses of a run that is stopped after so many steps each time, and gone on with."""
    gpt = module()
    row = gpt.describe(optimizer, 0.01, steps, 1, precision)
    for stop in stops:
        gpt.train_run(row, Path(folder), every=3, stop_after=stop)
        assert not row_path(Path(folder), row).exists()
    gpt.train_run(row, Path(folder), offload=offload, every=3)
    result = read_rows(folder)[row]
    assert result["status"] == "done"
    return [(entry["step"], entry["train_loss"], entry["validation_loss"]) for entry in result["history"]]


def compare(folder):
    gpt = module()
    compare = gpt.compare.__wrapped__  # less the process group, which is there
    compare(tuning_steps=2, steps=4, folder=Path(folder))
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*.row.json")}


def diverge(folder):
    """A step size that ends in NaN is a row, not an error, and not a hang."""
    gpt = module()
    row = gpt.describe("innaprop", 1e30, 4, 1, "float32")
    gpt.train_run(row, Path(folder))
    assert read_rows(folder)[row]["status"] == "diverged"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt, "BATCH", 2 * dist.get_world_size() + 1)
        with pytest.raises(ValueError, match="cannot be divided among"):
            gpt.describe("adamw", 0.01, 4, 1, "float32")
