"""Automatic mixed precision, through torch.amp.GradScaler itself: unscaling, skipped steps, and the scale that adapts.

The CPU's scaler is used where there is no GPU; it is the same code. Here are the paths that leave unscaling and
skipping to the scaler; the fused path, which does both itself, is tested with its kernels.
"""

from __future__ import annotations

import copy

import pytest
import torch

from inna.torch import INNA, INNAprop

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
PATHS = [pytest.param({"foreach": False}, id="single"), pytest.param({"foreach": True}, id="foreach")]
SETTINGS = [
    pytest.param(INNA, {}, id="INNA"),
    pytest.param(INNA, {"initial_speed": 1.0, "kahan": True, "weight_decay": 0.1}, id="INNA-speed-kahan"),
    pytest.param(INNAprop, {}, id="INNAprop"),
]
pytestmark = [
    pytest.mark.parametrize("device", DEVICES),
    pytest.mark.parametrize("path", PATHS),
    pytest.mark.parametrize(("kind", "settings"), SETTINGS),
]


def pair(kind, settings, path, device):
    """The same network twice, each with its optimizer: one with the scaler, one without."""
    torch.manual_seed(0)
    networks = [torch.nn.Linear(4, 3).to(device)]
    networks.append(copy.deepcopy(networks[0]))
    return networks, [kind(network.parameters(), **settings, **path) for network in networks]


def everything(network, optimizer):
    """A copy of everything that a step may change."""
    return copy.deepcopy((network.state_dict(), optimizer.state_dict()))


def assert_identical(ours, theirs):
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=0)
    assert ours[1]["state"].keys() == theirs[1]["state"].keys()
    for index, values in theirs[1]["state"].items():
        torch.testing.assert_close(ours[1]["state"][index], values, rtol=0, atol=0)
    assert ours[1]["param_groups"] == theirs[1]["param_groups"]


def loss(network, seed):
    points = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)).to(network.weight.device)
    return network(points).square().sum()


def test_the_scaler_unscales_and_the_step_is_that_without_it(kind, settings, path, device):
    (scaled, plain), (with_scaler, without) = pair(kind, settings, path, device)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    assert with_scaler._step_supports_amp_scaling is False
    for seed in range(4):
        with_scaler.zero_grad()
        scaler.scale(loss(scaled, seed)).backward()
        scaler.step(with_scaler)
        scaler.update()
        without.zero_grad()
        loss(plain, seed).backward()
        without.step()
    # A power of two scales without rounding.
    assert_identical(everything(scaled, with_scaler), everything(plain, without))


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("first", [True, False], ids=["first-step", "later-step"])
def test_a_step_with_infinite_gradients_changes_nothing(kind, settings, path, device, bad, first):
    (network, plain), (optimizer, without) = pair(kind, settings, path, device)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    hooks = []
    optimizer.register_step_post_hook(lambda *_: hooks.append(1))

    def step(seed, spoil):
        optimizer.zero_grad()
        scaler.scale(loss(network, seed)).backward()
        if spoil:
            network.weight.grad[1, 2] = bad
        scaler.step(optimizer)
        scaler.update()

    good = [] if first else [0, 1]
    for seed in good:
        step(seed, spoil=False)
    before, scale = everything(network, optimizer), scaler.get_scale()
    step(2, spoil=True)
    assert_identical(everything(network, optimizer), before)
    assert scaler.get_scale() == scale / 2
    assert len(hooks) == len(good)

    # Training goes on as if the step had not been.
    step(3, spoil=False)
    for seed in [*good, 3]:
        without.zero_grad()
        loss(plain, seed).backward()
        without.step()
    assert_identical(everything(network, optimizer), everything(plain, without))


def test_clipping_between_unscaling_and_the_step(kind, settings, path, device):
    (scaled, plain), (with_scaler, without) = pair(kind, settings, path, device)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    for seed in range(3):
        with_scaler.zero_grad()
        scaler.scale(loss(scaled, seed)).backward()
        scaler.unscale_(with_scaler)
        torch.nn.utils.clip_grad_norm_(scaled.parameters(), 0.5)
        scaler.step(with_scaler)
        scaler.update()
        without.zero_grad()
        loss(plain, seed).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        without.step()
    assert_identical(everything(scaled, with_scaler), everything(plain, without))


def test_autocast_trains_with_float32_parameters(kind, settings, path, device):
    (network, _), (optimizer, _) = pair(kind, settings, path, device)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    for seed in range(3):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16):
            value = loss(network, seed)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**10  # no step was skipped
    for param in network.parameters():
        assert param.dtype == optimizer.state[param]["momentum"].dtype == torch.float32
        assert param.isfinite().all()
