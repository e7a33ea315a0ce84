"""Inside a training loop: accumulation, clipping, hooks, named parameters, gradient release, groups."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from inna.torch import INNA, INNAprop, param_groups
from waiting import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = pytest.mark.parametrize("kind", [INNA, INNAprop])
PATHS = pytest.mark.parametrize(
    "path",
    [
        pytest.param({"foreach": False}, id="single"),
        pytest.param({"foreach": True}, id="foreach"),
        pytest.param({}, id="default"),  # fused where there is a kernel
    ],
)


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Tanh(), torch.nn.Linear(6, 2)
    ).double()


def batch(seed, size=8):
    return torch.randn(size, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(model, points):
    return model(points).square().mean()


def assert_same_weights(model, other, tolerance=0.0):
    ours, theirs = list(model.parameters()), list(other.parameters())
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@KINDS
@PATHS
def test_accumulated_gradients_are_those_of_the_large_batch(kind, path):
    models = [network(), network()]
    pieces, whole = (kind(model.parameters(), 0.05, **path) for model in models)
    for seed in range(4):
        points = batch(seed, 12)
        pieces.zero_grad()
        for part in points.split(4):
            (loss(models[0], part) / 3).backward()
        pieces.step()
        whole.zero_grad()
        loss(models[1], points).backward()
        whole.step()
    assert_same_weights(*models, tolerance=1e-10)


@KINDS
@PATHS
@pytest.mark.parametrize("clip", ["norm", "value"])
def test_the_step_uses_the_clipped_gradients(kind, path, clip):
    models = [network(), network()]
    clipped, given = (kind(model.parameters(), 0.05, **path) for model in models)
    for seed in range(3):
        for model in models:
            model.zero_grad()
            (1e3 * loss(model, batch(seed))).backward()
        if clip == "norm":
            norm = torch.nn.utils.clip_grad_norm_(models[0].parameters(), 1.0)
            expected = [param.grad / (norm + 1e-6) for param in models[1].parameters()]
        else:
            torch.nn.utils.clip_grad_value_(models[0].parameters(), 0.1)
            expected = [param.grad.clamp(-0.1, 0.1) for param in models[1].parameters()]
        for param, grad in zip(models[1].parameters(), expected, strict=True):
            param.grad = grad
        clipped.step()
        given.step()
    assert_same_weights(*models, tolerance=1e-12)


@KINDS
def test_step_hooks_may_change_gradients_and_see_the_result(kind):
    models = [network(), network()]
    hooked, plain = (kind(model.parameters(), 0.05) for model in models)
    seen = []

    def halve(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad.mul_(0.5)

    hooked.register_step_pre_hook(halve)
    hooked.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(len(optimizer.state)))
    for seed in range(3):
        for model, optimizer, factor in ((models[0], hooked, 1.0), (models[1], plain, 0.5)):
            optimizer.zero_grad()
            (factor * loss(model, batch(seed))).backward()
            optimizer.step()
    assert_same_weights(*models, tolerance=1e-12)
    assert seen == [6, 6, 6]


@KINDS
def test_a_profiler_and_hooks_on_all_optimizers_see_the_step(kind):
    # Where neither is there, `step` leaves out torch's wrapper for them.
    optimizer = kind([torch.nn.Parameter(torch.ones(3))])
    (param,) = optimizer.param_groups[0]["params"]
    param.grad = torch.ones(3)
    seen = []
    optimizer.step()
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("after")),
    ]
    try:
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    optimizer.step()
    assert seen == ["before", "after"]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        optimizer.step()
    assert f"Optimizer.step#{kind.__name__}.step" in [event.key for event in profiler.key_averages()]


@KINDS
def test_named_parameters_train_alike_and_their_names_are_in_the_checkpoint(kind):
    models = [network(), network()]
    named, plain = kind(models[0].named_parameters(), 0.05), kind(models[1].parameters(), 0.05)
    for seed in range(3):
        for model, optimizer in zip(models, (named, plain), strict=True):
            optimizer.zero_grad()
            loss(model, batch(seed)).backward()
            optimizer.step()
    assert_same_weights(*models)
    assert named.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in models[0].named_parameters()]


@KINDS
def test_a_load_hook_may_match_parameters_by_name(kind):
    # torch matches by position; the hook of its documentation matches by name, and the state must follow it.
    model = network()
    optimizer = kind(list(model.named_parameters()), 0.05)
    loss(model, batch(0)).backward()
    optimizer.step()
    saved = optimizer.state_dict()

    other = kind(list(model.named_parameters())[::-1], 0.05)

    def by_name(opt, state_dict):
        adapted = copy.deepcopy(opt.state_dict())
        position = {name: i for i, name in enumerate(state_dict["param_groups"][0]["param_names"])}
        names = adapted["param_groups"][0]["param_names"]
        adapted["state"] = {i: state_dict["state"][position[name]] for i, name in enumerate(names)}
        return adapted

    other.register_load_state_dict_pre_hook(by_name)
    other.load_state_dict(saved)
    for param in model.parameters():
        assert torch.equal(other.state[param]["momentum"], optimizer.state[param]["momentum"])


@KINDS
def test_gradient_release_trains_alike_and_leaves_no_gradients(kind):
    models = [network(), network()]
    optimizers = {param: kind([param], 0.05) for param in models[0].parameters()}
    alive = []

    def step_and_free(param):
        alive.append(sum(p.grad is not None for p in models[0].parameters()))
        optimizers[param].step()
        optimizers[param].zero_grad()

    for param in optimizers:
        param.register_post_accumulate_grad_hook(step_and_free)
    whole = kind(models[1].parameters(), 0.05)
    for seed in range(4):
        loss(models[0], batch(seed)).backward()
        whole.zero_grad()
        loss(models[1], batch(seed)).backward()
        whole.step()
    assert_same_weights(*models, tolerance=1e-13)
    assert len(alive) == 4 * 6
    assert max(alive) < 6  # never all gradients at one time
    assert all(param.grad is None for param in models[0].parameters())


def test_the_example_of_gradient_release_saves_the_memory_of_the_gradients():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, EXAMPLES / "gradient_release.py", "--width", "1024", "--layers", "20", "--steps", "2"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    gradients, saved = (
        float(re.search(rf"^{name} +([\d.]+) MB", result.stdout, re.MULTILINE)[1])
        for name in ("all gradients together", "saved")
    )
    # The rest is the allocator's; a gradient or two live at a time in any case.
    assert saved > 0.4 * gradients, result.stdout
    assert "the trained weights are the same" in result.stdout


def test_param_groups_exempt_biases_and_normalisation_of_every_kind():
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))
            self.matrix = torch.nn.Parameter(torch.ones(2, 2))

    model = torch.nn.ModuleDict(
        {
            "conv": torch.nn.Conv2d(3, 4, 3),
            "batch": torch.nn.BatchNorm2d(4),
            "instance": torch.nn.InstanceNorm2d(4, affine=True),
            "group": torch.nn.GroupNorm(2, 4),
            "layer": torch.nn.LayerNorm([4, 5]),  # two dimensions, and still normalisation
            "rms": torch.nn.RMSNorm([4, 5]),
            "sync": torch.nn.SyncBatchNorm(4),
            "linear": torch.nn.Linear(4, 4),
            "attention": torch.nn.MultiheadAttention(4, 2),
            "embedding": torch.nn.Embedding(7, 4),
            "scale": Scale(),
        }
    )
    names = {id(param): name for name, param in model.named_parameters()}
    decayed, exempt = param_groups(model, 0.1)
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.1, 0.0)
    assert {names[id(param)] for param in decayed["params"]} == {
        "conv.weight",
        "linear.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "embedding.weight",
        "scale.matrix",
    }
    everything = [id(param) for group in (decayed, exempt) for param in group["params"]]
    assert sorted(everything) == sorted(names)


def test_param_groups_keep_the_order_and_shared_parameters_once():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[2].weight = model[0].weight
    decayed, exempt = param_groups(model, 0.1)
    assert [id(param) for param in decayed["params"]] == [id(model[0].weight), id(model[1].weight)]
    assert len(exempt["params"]) == 3
    assert len(param_groups(torch.nn.LayerNorm(3), 0.1)) == 1
    assert len(param_groups(torch.nn.Linear(3, 2, bias=False), 0.1)) == 1


@KINDS
def test_param_groups_decay_what_they_should_and_nothing_else(kind):
    model = network()
    optimizer = kind(param_groups(model, 0.5), 0.1)
    before = copy.deepcopy(model.state_dict())
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    for _ in range(2):
        optimizer.step()
    for name, param in model.named_parameters():
        assert torch.equal(param, before[name]) == (param.ndim <= 1), name


def test_param_groups_refuse_bad_arguments():
    with pytest.raises(ValueError, match=r"weight_decay must be a finite number >= 0, got -0\.1"):
        param_groups(network(), -0.1)
    with pytest.raises(ValueError, match="model has no parameters: Tanh"):
        param_groups(torch.nn.Tanh(), 0.1)
