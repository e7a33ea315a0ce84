"""What the ranks do in the tests of checkpoints: train, save, load, compare bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh

from inna.torch import INNA, INNAprop
from inna.torch.checkpoints import Checkpoints, DamagedCheckpointError
from sharded_training import SETTINGS, batch, loss, network, own_part, shard, whole

PROGRESS = {"tokens": 640, "history": [[1, 0.1]], "name": "é"}
CASES = {
    "INNA": (INNA, {}, torch.float32),
    "INNA without a step count": (INNA, {"initial_speed": None, "momentum_dtype": torch.float64}, torch.float32),
    "INNA bfloat16": (INNA, {}, torch.bfloat16),
    "INNAprop": (INNAprop, {}, torch.float32),
    "INNAprop bfloat16": (INNAprop, {}, torch.bfloat16),
    "INNAprop float64": (INNAprop, {"lr": torch.tensor(0.01)}, torch.float64),
}


def make(case, seed=0):
    """Model and optimizer, sharded where there are several processes."""
    kind, settings, dtype = CASES[case]
    model = network(dtype)
    torch.manual_seed(seed)
    for param in model.parameters():
        torch.nn.init.normal_(param)
    if dist.is_initialized():
        shard(model, init_device_mesh("cpu", (dist.get_world_size(),)))
    return model, kind(model.parameters(), **SETTINGS[kind] | settings)


def train(model, optimizer, steps):
    for step in steps:
        x = batch(step, next(model.parameters()).dtype)
        loss(model(own_part(x) if dist.is_initialized() else x)).backward()
        optimizer.step()
        optimizer.zero_grad()


def content(model, optimizer):
    """Weights and state, whole, by name."""
    names = {param: name for name, param in model.named_parameters()}
    found = {name: whole(param) for param, name in names.items()}
    for param, values in optimizer.state.items():
        found |= {f"{names[param]} {name}": whole(value) for name, value in values.items()}
    return found


def same_bits(found, expected, stepped=("first", "norm", "last")):
    """Assert that what was expected is there, and that the rest is the state of parameters that were never stepped."""
    for name, value in expected.items():
        assert found[name].dtype is value.dtype, name
        assert torch.equal(found[name], value), name
    assert not [name for name in found.keys() - expected.keys() if name.startswith(stepped) or found[name].any()]


def save(folder, case, *, in_background=False):
    """Train three steps, save, train on; what was saved lies beside the checkpoints, whole."""
    model, optimizer = make(case)
    train(model, optimizer, range(3))
    expected = content(model, optimizer)
    checkpoints = Checkpoints(folder)
    if in_background:
        pending = checkpoints.save_async(3, model, optimizer, PROGRESS)
        train(model, optimizer, range(3, 5))
        checkpoints.wait()
        assert pending.result() == Path(folder, "step-0000000003")
    else:
        checkpoints.save(3, model, optimizer, PROGRESS)
        train(model, optimizer, range(3, 5))
    after = content(model, optimizer)
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save((expected, after), Path(folder, "expected"))


def load(folder, case, *, go_on=False):
    """Load into another model, and compare with what was saved; ``go_on``: to the bits of the undisturbed run."""
    expected, after = torch.load(Path(folder, "expected"), weights_only=True)
    model, optimizer = make(case, seed=1)
    train(model, optimizer, range(7, 8))
    for group in optimizer.param_groups:
        group["alpha"] = 0.1
    found = Checkpoints(folder).load(model, optimizer)
    assert found == (3, PROGRESS)
    same_bits(content(model, optimizer), expected)
    kind, settings, _ = CASES[case]
    assert optimizer.param_groups[0]["alpha"] == SETTINGS[kind]["alpha"]
    assert optimizer.param_groups[0]["lr"] == (SETTINGS[kind] | settings)["lr"]
    if go_on:
        train(model, optimizer, range(3, 5))
        same_bits(content(model, optimizer), after)


def save_cases(folder, cases, **settings):
    for case in cases:
        save(Path(folder, case), case, **settings)


def load_cases(folder, cases, **settings):
    for case in cases:
        load(Path(folder, case), case, **settings)


def save_plainly(folder, case, *, in_background=False):
    """The same with nothing but torch.distributed.checkpoint."""
    model, optimizer = make(case)
    train(model, optimizer, range(3))
    expected = content(model, optimizer)
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments}
    if in_background:
        # On a group of its own: mixed with the training's messages, gloo ends the process.
        pending = checkpoint.async_save(state, checkpoint_id=Path(folder, "plain"), process_group=dist.new_group())
        train(model, optimizer, range(3, 5))
        pending.result()
    else:
        checkpoint.save(state, checkpoint_id=Path(folder, "plain"))
    if dist.get_rank() == 0:
        torch.save((expected, {}), Path(folder, "expected"))


def load_plainly(folder, case):
    expected, _ = torch.load(Path(folder, "expected"), weights_only=True)
    model, optimizer = make(case, seed=1)
    weights, moments = get_state_dict(model, optimizer)
    # What was never stepped has no state to be loaded.
    names = {name.split()[0] for name in expected if " " in name}
    kept = {name: values for name, values in moments["state"].items() if name in names}
    fresh = {name: values for name, values in moments["state"].items() if name not in names}
    state = {"model": weights, "optimizer": moments | {"state": kept}}
    checkpoint.load(state, checkpoint_id=Path(folder, "plain"))
    state["optimizer"]["state"] |= fresh
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    same_bits(content(model, optimizer), expected)


def state_before_the_first_step(folder, cases):
    """Asking for state, saving it and loading it changes no bit of what follows."""
    for i, case in enumerate(cases):
        undisturbed, optimizer = make(case)
        train(undisturbed, optimizer, range(3))
        expected = content(undisturbed, optimizer)

        asked, optimizer = make(case)
        lr = optimizer.param_groups[0]["lr"]
        _, moments = get_state_dict(asked, optimizer)
        assert all(not whole(value).any() for values in moments["state"].values() for value in values.values())
        assert all(param.grad is None for param in asked.parameters())
        assert optimizer.param_groups[0]["lr"] == lr
        train(asked, optimizer, range(3))
        same_bits(content(asked, optimizer), expected)

        saved, optimizer = make(case)
        checkpoints = Checkpoints(Path(folder, str(i)))
        checkpoints.save(0, saved, optimizer)
        train(saved, optimizer, range(3))
        same_bits(content(saved, optimizer), expected)
        loaded, optimizer = make(case, seed=1)
        assert checkpoints.load(loaded, optimizer).step == 0
        train(loaded, optimizer, range(3))
        same_bits(content(loaded, optimizer), expected)


def damaged_shard(folder):
    """The last rank's newest shard is cut short: all ranks go back to the checkpoint before."""
    case = "INNAprop"
    model, optimizer = make(case)
    checkpoints = Checkpoints(folder)
    train(model, optimizer, range(1))
    expected = content(model, optimizer)
    checkpoints.save(1, model, optimizer)
    train(model, optimizer, range(1, 2))
    path = checkpoints.save(2, model, optimizer)
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    victim = path / f"__{last}_0.distcp"
    if rank == last:
        victim.write_bytes(victim.read_bytes()[:-1])
    dist.barrier()
    with pytest.raises(DamagedCheckpointError, match=f"{victim.name} has .* bytes instead of"):
        checkpoints.load(model, optimizer, step=2)
    with pytest.warns(UserWarning, match=f"{victim.name} has .* step 1 instead"):
        assert checkpoints.load(model, optimizer).step == 1
    same_bits(content(model, optimizer), expected)


def unwritable(folder):
    """One rank cannot write: an error on all, which names the rank, and the checkpoint before is left."""
    case = "INNA"
    model, optimizer = make(case)
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, model, optimizer)
    last = dist.get_world_size() - 1
    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == last:
            patch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match=r"step-0000000002 could not be written .*No space left.*earlier"):
            checkpoints.save(2, model, optimizer)
        checkpoints.save_async(2, model, optimizer)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.wait()
    assert checkpoints.steps() == [1]
    assert checkpoints.load(model, optimizer).step == 1
    checkpoints.save(2, model, optimizer)
    dist.barrier()
    assert sorted(path.name for path in Path(folder).iterdir()) == ["step-0000000001", "step-0000000002"]


def full_disk(descriptor):
    raise OSError(28, "No space left on device")
