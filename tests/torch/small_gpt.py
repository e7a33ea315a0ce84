"""examples/gpt.py made small, and what the ranks of the tests run of it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from inna.experiments.rows.row_files import read_rows, row_path
from scripts import load_script
from sharded_checkpoints import content, same_bits


@functools.cache
def module():
    gpt = load_script("examples/gpt.py")
    gpt.CONTEXT, gpt.WIDTH, gpt.LAYERS, gpt.HEADS, gpt.BATCH = 16, 8, 2, 2, 4
    gpt.EVALUATE, gpt.BATCHES, gpt.GRID, gpt.FINAL_SEEDS = 2, 2, (0.003, 0.01), (1, 2)
    return gpt


def run(folder, optimizer, *, stops=(), precision="float32", offload=False, steps=8):
    """The losses of a run that is stopped after each number of steps in ``stops``, and resumed."""
    gpt = module()
    row = gpt.describe(optimizer, 0.01, steps, 1, precision)
    for steps_of_call in stops:
        stop(folder, optimizer, steps_of_call, precision=precision, steps=steps)
    gpt.train_run(row, Path(folder), offload=offload, every=3)
    return losses(folder, row)


def stop(folder, optimizer, after, *, precision="float32", steps=8):
    """Begin or resume a run and stop it ``after`` that many steps."""
    gpt = module()
    row = gpt.describe(optimizer, 0.01, steps, 1, precision)
    gpt.train_run(row, Path(folder), every=3, stop_after=after)
    assert not row_path(Path(folder), row).exists()


def losses(folder, row):
    result = read_rows(folder)[row]
    assert result["status"] == "done"
    return [(entry["step"], entry["train_loss"], entry["validation_loss"]) for entry in result["history"]]


def compare(folder):
    gpt = module()
    compare = gpt.compare.__wrapped__  # the process group is there already
    compare(tuning_steps=2, steps=4, folder=Path(folder))
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*.row.json")}


def diverge(folder):
    """A learning rate that ends in NaN gives a row, not an error and not a hang."""
    gpt = module()
    row = gpt.describe("innaprop", 1e30, 4, 1, "float32")
    gpt.train_run(row, Path(folder))
    assert read_rows(folder)[row]["status"] == "diverged"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt, "BATCH", 2 * dist.get_world_size() + 1)
        with pytest.raises(ValueError, match="cannot be divided among"):
            gpt.describe("adamw", 0.01, 4, 1, "float32")


def make(seed=0):
    """Model and optimizer, sharded where there are several processes."""
    gpt = module()
    torch.manual_seed(seed)
    model = gpt.GPT()
    if dist.is_initialized():
        model = gpt.sharded(model, "float32", offload=False)
    return model, gpt.make_optimizer(gpt.describe("innaprop", 0.01, 8, 1, "float32"), model)


def train_and_save(folder, steps):
    """Save after each step, and return the content of each checkpoint."""
    gpt = module()
    model, optimizer = make()
    contents = []
    for step in steps:
        gpt.loss_of(model, gpt.text()[0], 1, step).backward()
        optimizer.step()
        optimizer.zero_grad()
        gpt.save_checkpoint(Path(folder), model, optimizer, {"step": step, "history": [{"train_loss": 0.1}]})
        contents.append(content(model, optimizer))
    return contents


def load(folder):
    """Load into another model; return the progress and the content of what was loaded."""
    model, optimizer = make(seed=1)
    return module().load_checkpoint(Path(folder), model, optimizer), content(model, optimizer)


def damaged_shard(folder):
    """The last rank's newest shard is cut short: all ranks load the checkpoint before."""
    expected, _ = train_and_save(folder, (1, 2))
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    victim = Path(folder, "step-00000002", f"__{last}_0.distcp")
    if rank == last:
        victim.write_bytes(victim.read_bytes()[:-1])
    dist.barrier()
    progress, found = load(folder)
    assert progress["step"] == 1
    same_bits(found, expected)


def full_disk(folder):
    """One rank cannot write: an error on all, which names the rank; the checkpoint before is left."""
    gpt = module()
    (expected,) = train_and_save(folder, (1,))
    model, optimizer = make()

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        last = dist.get_world_size() - 1
        if dist.get_rank() == last:
            patch.setattr("os.fsync", no_space)
        with pytest.raises(OSError, match=rf"step-00000002 could not be written: rank {last}: .*No space left"):
            gpt.save_checkpoint(Path(folder), model, optimizer, {"step": 2})
    same_bits(load(folder)[1], expected)
    gpt.save_checkpoint(Path(folder), model, optimizer, {"step": 2})
    dist.barrier()
    assert names(folder) == ["step-00000001", "step-00000002"]


def unpublished(folder):
    """The first rank cannot write its last file: an error on all, and the checkpoint before is left."""
    gpt = module()
    (expected,) = train_and_save(folder, (1,))
    model, optimizer = make()

    def no_space(path, body):
        raise OSError(28, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt, "write_document", no_space)
        with pytest.raises(OSError, match=r"No space left on device: .*progress\.json"):
            gpt.save_checkpoint(Path(folder), model, optimizer, {"step": 2})
    progress, found = load(folder)
    assert progress["step"] == 1
    same_bits(found, expected)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())
