"""What the ranks run in the tests of checkpoints: train, save, load, compare bit for bit."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from inna.torch import INNA, INNAprop, INNApropLRFree
from inna.torch.measures.free_step import SCALARS as FREE_SCALARS
from inna.torch.measures.guarded_step import SCALARS as GUARD_SCALARS
from inna.torch.shards import to_local
from sharded_training import SETTINGS, SIZES, batch, loss, model_inputs, network, own_part, shard, whole

FREE_OF_LR = {"lr": 1.0, "loss_bound": 0.0, "time_step": 0.2, "initial_distance": 1e-3}
CASES = {
    "INNA": (INNA, {}, torch.float32),
    "INNA without a step count": (INNA, {"initial_speed": None, "momentum_dtype": torch.float64}, torch.float32),
    "INNA bfloat16": (INNA, {}, torch.bfloat16),
    "INNA rounded": (
        INNA,
        {"initial_speed": None, "momentum_dtype": torch.bfloat16, "rounding_seed": 5},
        torch.float32,
    ),
    "INNAprop": (INNAprop, {}, torch.float32),
    "INNAprop bfloat16": (INNAprop, {}, torch.bfloat16),
    "INNAprop rounded": (INNAprop, {"momentum_dtype": torch.bfloat16}, torch.float32),
    "INNA of one byte": (INNA, {"momentum_bits": 8, "rounding_seed": 5}, torch.float32),
    "INNAprop of one byte": (INNAprop, {"momentum_bits": 8}, torch.float32),
    "INNA guarded": (INNA, {"lr": 0.5, "loss_bound": 0.0, "time_step": 0.2}, torch.float32),
    "INNA without a learning rate": (INNA, FREE_OF_LR, torch.float32),
    "INNAprop without a learning rate": (INNApropLRFree, {}, torch.float32),
    "INNAprop float64": (INNAprop, {"lr": torch.tensor(0.01)}, torch.float64),
}
# Rows of whole blocks, whose number neither 2 nor 4 divides: they are sharded without being cut.
LARGE = (256, 33, 3)


def make(case, seed=0):
    """Model and optimizer, sharded where there are several processes."""
    kind, settings, dtype = CASES[case]
    model = network(dtype, LARGE if "momentum_bits" in settings else SIZES)
    torch.manual_seed(seed)
    for param in model.parameters():
        torch.nn.init.normal_(param)
    if dist.is_initialized():
        shard(model, init_device_mesh("cpu", (dist.get_world_size(),)))
    return model, kind(model.parameters(), **SETTINGS[kind] | settings)


def train(model, optimizer, steps):
    for step in steps:
        x = batch(step, next(model.parameters()).dtype, model_inputs(model))
        value = loss(model(own_part(x) if dist.is_initialized() else x))
        value.backward()
        if optimizer.defaults.get("loss_bound") is None:
            optimizer.step()
        else:
            optimizer.step(loss=value)
        optimizer.zero_grad()


def content(model, optimizer):
    """Weights and state, whole, by name."""
    names = {param: name for name, param in model.named_parameters()}
    found = {name: whole(param) for param, name in names.items()}
    for param, values in optimizer.state.items():
        found |= {f"{names[param]} {name}": whole(value) for name, value in values.items()}
    for name in (*FREE_SCALARS, *GUARD_SCALARS):
        if name in optimizer.param_groups[0]:
            found[name] = optimizer.param_groups[0][name].clone()
    return found


def same_bits(found, expected, stepped=("first", "norm", "last")):
    """Assert that what was expected is there, and that the rest is state of parameters that were never stepped.

    It is zero, but for the place where they start.
    """
    for name, value in expected.items():
        assert found[name].dtype is value.dtype, name
        assert torch.equal(found[name], value), name
    others = [name for name in found.keys() - expected.keys() if not name.endswith(" start")]
    assert not [name for name in others if name.startswith(stepped) or found[name].any()]


def save(folder, case, *, in_background=False):
    """Train three steps, save, train on; what was saved is in the file ``expected`` too, whole."""
    model, optimizer = make(case)
    train(model, optimizer, range(3))
    expected = content(model, optimizer)
    state = state_of(model, optimizer)
    if in_background:
        # On a group of its own: mixed with the training's messages, gloo ends the process.
        pending = checkpoint.async_save(state, checkpoint_id=Path(folder, "saved"), process_group=dist.new_group())
        train(model, optimizer, range(3, 5))
        pending.result()
    else:
        write(state, Path(folder, "saved"))
        train(model, optimizer, range(3, 5))
    after = content(model, optimizer)
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save((expected, after), Path(folder, "expected"))


def load(folder, case, *, resume=False):
    """Load into another model that has taken a step, and into one that has not; compare with what was saved.

    With ``resume``, also compare what further training makes of it with the undisturbed run.
    """
    expected, after = torch.load(Path(folder, "expected"), weights_only=True)
    for steps in (range(7, 8), ()):
        model, optimizer = make(case, seed=1)
        train(model, optimizer, steps)
        for group in optimizer.param_groups:
            group["alpha"] = 0.1
        stepped = {name.split()[0] for name in expected if " " in name}
        read_into(model, optimizer, Path(folder, "saved"), stepped)
        same_bits(content(model, optimizer), expected)
        kind, settings, _ = CASES[case]
        assert optimizer.param_groups[0]["alpha"] == SETTINGS[kind]["alpha"]
        assert optimizer.param_groups[0]["lr"] == (SETTINGS[kind] | settings)["lr"]
        if resume:
            train(model, optimizer, range(3, 5))
            same_bits(content(model, optimizer), after)


def state_of(model, optimizer):
    weights, state = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": state}


def write(state, path):
    with alone():
        checkpoint.save(state, checkpoint_id=path)


def read_into(model, optimizer, path, stepped=None):
    """Load a checkpoint; parameters that are not among ``stepped`` have no state in it and keep theirs."""
    state = state_of(model, optimizer)
    every = state["optimizer"]["state"]
    saved = {name: values for name, values in every.items() if stepped is None or name in stepped}
    state["optimizer"]["state"] = saved
    with alone():
        checkpoint.load(state, checkpoint_id=path)
    state["optimizer"]["state"] = every | saved
    set_model_state_dict(model, state["model"])
    # A parameter that was never stepped has no state, neither in the checkpoint nor here.
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=StateDictOptions(strict=False))


@contextlib.contextmanager
def alone():
    """Without torch's warning that it takes a program without a process group for a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


def save_cases(folder, cases, **settings):
    for case in cases:
        Path(folder, case).mkdir(parents=True, exist_ok=True)
        save(Path(folder, case), case, **settings)


def load_cases(folder, cases, **settings):
    for case in cases:
        load(Path(folder, case), case, **settings)


def state_before_the_first_step(folder, cases):
    """Asking for state, saving it and loading it changes no bit of what follows."""
    for i, case in enumerate(cases):
        undisturbed, optimizer = make(case)
        train(undisturbed, optimizer, range(3))
        expected = content(undisturbed, optimizer)

        asked, optimizer = make(case)
        lr = optimizer.param_groups[0]["lr"]
        _, moments = get_state_dict(asked, optimizer)
        empty = [whole(value) for each in moments["state"].values() for name, value in each.items() if name != "start"]
        assert not any(value.any() for value in empty)
        assert all(param.grad is None for param in asked.parameters())
        assert optimizer.param_groups[0]["lr"] == lr
        train(asked, optimizer, range(3))
        same_bits(content(asked, optimizer), expected)

        saved, optimizer = make(case)
        write(state_of(saved, optimizer), Path(folder, str(i)))
        train(saved, optimizer, range(3))
        same_bits(content(saved, optimizer), expected)
        loaded, optimizer = make(case, seed=1)
        read_into(loaded, optimizer, Path(folder, str(i)))
        train(loaded, optimizer, range(3))
        same_bits(content(loaded, optimizer), expected)


def refuse_cut_blocks():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for shape, placement in (((4097,), Shard(0)), ((33, 200), Shard(0)), ((16, 256), Shard(1)), ((3, 2048), Shard(1))):
        theta = distribute_tensor(torch.zeros(shape), mesh, [placement]).requires_grad_()
        theta.grad = torch.ones_like(theta)
        whole_blocks = shape == (3, 2048)
        with (
            contextlib.nullcontext()
            if whole_blocks
            else pytest.raises(ValueError, match="needs shards of whole blocks")
        ):
            INNA([theta], momentum_bits=8).step()
        assert whole_blocks is bool(theta.full_tensor().any())


def sharded_scales():
    """The codes of each placement are those that one process has for the same part of the tensor."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    x = torch.randn(40 * world, 256 * world, generator=torch.Generator().manual_seed(0))
    for placement in (Shard(0), Shard(1), Replicate()):
        theta = distribute_tensor(torch.zeros_like(x), mesh, [placement]).requires_grad_()
        theta.grad = distribute_tensor(x, mesh, [placement])
        optimizer = INNA([theta], momentum_bits=8)
        optimizer.step()
        state = optimizer.state[theta]
        part = torch.zeros_like(to_local(theta)).requires_grad_()
        part.grad = to_local(theta.grad).contiguous()
        alone = INNA([part], momentum_bits=8)
        alone.step()
        for name, value in alone.state[part].items():
            assert torch.equal(to_local(state[name]).reshape(value.shape), value)
        assert state["momentum_scale"].shape == (40 * world, world)
        assert (optimizer.momentum_of(theta).full_tensor() * x >= 0).all()
