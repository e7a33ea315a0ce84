"""NaN and Inf in gradients, on every path: they stay where they are, and a skipped step leaves no trace."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from inna.torch import INNA, INNAprop, INNApropLRFree

BAD = [math.nan, math.inf, -math.inf]
PATHS = {
    "single": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
    "capturable": {"capturable": True, "foreach": True},
    "kahan": {"kahan": True, "foreach": False, "fused": False},
    "kahan foreach": {"kahan": True, "foreach": True},
    "kahan fused": {"kahan": True, "fused": True},
    "low momentum": {"momentum_dtype": torch.bfloat16},
}
SETTINGS = {
    "plain": (INNA, {}),
    "initial speed": (INNA, {"initial_speed": 1.0}),
    "weight decay": (INNA, {"weight_decay": 0.1}),
    "decoupled": (INNA, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "maximize": (INNA, {"maximize": True}),
    "INNAprop": (INNAprop, {}),
    "INNAprop without decay": (INNAprop, {"weight_decay": 0.0, "initial_speed": 1.0}),
}
ROWS, COLUMNS = 3, 40  # more than a vector register holds, and a remainder
PLACES = [(0, 0), (1, 7), (2, COLUMNS - 1)]


def trajectory(cls, flags, bad_at=None, value=math.nan, steps=4):
    """Parameters and states after ``steps`` steps, the gradient of the second being ``value`` at ``bad_at``."""
    generator = torch.Generator().manual_seed(0)
    # No leaves that require gradients: those autograd would not let the differentiable path change in place.
    params = [torch.randn(ROWS, COLUMNS, generator=generator) for _ in range(2)]
    optimizer = cls(params, lr=0.1, **flags)
    for k in range(steps):
        for param in params:
            param.grad = torch.randn(ROWS, COLUMNS, generator=generator)
        if k == 1 and bad_at is not None:
            params[0].grad[bad_at] = value
        optimizer.step()
    kept = {name: [optimizer.state[p].get(name) for p in params] for name in ("momentum", "exp_avg_sq", "compensation")}
    return [p.detach() for p in params], {name: tensors for name, tensors in kept.items() if tensors[0] is not None}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_gradient_that_is_not_finite_stays_in_its_own_entry(path, setting):
    cls, more = SETTINGS[setting]
    flags = PATHS[path] | more
    try:
        clean, clean_state = trajectory(cls, flags)
    except RuntimeError as error:
        if "fused=True" in str(error) and "built" in str(error):
            pytest.skip(str(error))
        raise
    for place, value in zip(PLACES, BAD, strict=True):
        params, state = trajectory(cls, flags, place, value)
        elsewhere = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
        elsewhere[place] = False
        for found, expected in zip([params, *state.values()], [clean, *clean_state.values()], strict=True):
            assert not torch.isfinite(found[0][place]) or cls is INNAprop
            assert found[0][elsewhere].equal(expected[0][elsewhere])
            assert found[1].equal(expected[1])
        # Nothing brings the entry back to a number, so no later look at the weights can miss it.
        assert not torch.isfinite(params[0][place])


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_path_loses_the_same_entry_and_no_other(setting, value):
    cls, more = SETTINGS[setting]
    found = {path: trajectory(cls, PATHS[path] | more, PLACES[1], value, steps=2)[0][0] for path in PATHS}
    reference = found["single"]
    finite = torch.isfinite(reference)
    assert not finite[PLACES[1]]
    for path, params in found.items():
        tolerance = 0.1 if path == "low momentum" else 1e-5
        # Inf on one path may be NaN on another: 0 Inf is NaN where a coefficient is 0 and not left out.
        assert torch.isfinite(params).equal(finite), path
        torch.testing.assert_close(params[finite], reference[finite], rtol=tolerance, atol=tolerance, msg=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("setting", ["INNAprop", "INNAprop without decay", "lr_free"])
def test_a_gradient_whose_square_is_infinite_stops_its_entry(path, setting):
    """As with AdamW: its mean square stays infinite, and its rescaled gradient is 0."""
    cls, more = (INNApropLRFree, {"initial_distance": 1e-3}) if setting == "lr_free" else SETTINGS[setting]
    if cls is INNApropLRFree and PATHS[path].get("differentiable"):
        pytest.skip("it cannot be differentiated through")
    params, state = trajectory(cls, PATHS[path] | more, PLACES[1], 1e25)
    assert all(bool(param.isfinite().all()) for param in params)
    assert all(bool(momentum.isfinite().all()) for momentum in state["momentum"])


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("path", ["single", "foreach", "fused"])
@pytest.mark.parametrize("setting", ["plain", "initial speed", "INNAprop"])
def test_gradscaler_skips_the_step_and_nothing_changes(path, setting, value):
    cls, more = SETTINGS[setting]
    param = nn.Parameter(torch.ones(ROWS, COLUMNS))
    optimizer = cls([param], lr=0.1, **PATHS[path] | more)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for k in range(3):
        before = param.detach().clone()
        states = {name: tensor.clone() for name, tensor in optimizer.state[param].items()}
        scaler.scale((param * (value if k == 1 else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert param.equal(before) == (k == 1)
        if k == 1:
            assert all(optimizer.state[param][name].equal(tensor) for name, tensor in states.items())
    assert torch.isfinite(param).all()
