"""Settings and tensors at the edge: learning rates rounded below 0, NumPy's flags, negative views, complex halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as schedulers

from inna.torch import INNA, INNAprop

CLASSES = [INNA, INNAprop]


def made(cls, **flags):
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    return param, cls([param], **flags)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("tensor", [False, True])
@given(lr=st.floats(1e-5, 10), total=st.integers(1, 40), kind=st.sampled_from(["linear", "polynomial", "cosine"]))
def test_a_schedule_that_ends_at_zero_trains_on(cls, tensor, lr, total, kind):
    """The chained forms miss 0 by a rounding error, on either side."""
    param, optimizer = made(cls, lr=torch.tensor(lr) if tensor else lr)
    schedule = {
        "linear": lambda: schedulers.LinearLR(optimizer, 1.0, 0.0, total),
        "polynomial": lambda: schedulers.PolynomialLR(optimizer, total),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimizer, total),
    }[kind]()
    for _ in range(total):
        optimizer.step()
        schedule.step()
    assert abs(optimizer.param_groups[0]["lr"]) <= 1e-6 * lr
    end = param.detach().clone()
    optimizer.step()
    assert (param - end).abs().max() <= 1e-5 * lr
    again = cls([param], lr=lr)
    again.load_state_dict(optimizer.state_dict())
    again.step()


@pytest.mark.parametrize("cls", CLASSES)
def test_linear_to_zero_in_four_steps(cls):
    param, optimizer = made(cls)
    schedule = schedulers.LinearLR(optimizer, end_factor=0, total_iters=4)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    end = param.detach().clone()
    optimizer.param_groups[0]["lr"] = -2e-18
    optimizer.step()
    assert torch.equal(param, end)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", ["lr", "alpha", "beta", "weight_decay"])
def test_a_truly_negative_setting_is_refused_and_nothing_changes(cls, name):
    for value in (-1e-3, -1.0, torch.tensor(-1e-3)):
        with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0"):
            made(cls, **{name: value})
        param = torch.nn.Parameter(torch.ones(3))
        other = torch.nn.Parameter(torch.ones(2))
        optimizer = cls([{"params": [param]}, {"params": [other]}])
        param.grad, other.grad = torch.ones(3), torch.ones(2)
        optimizer.param_groups[1][name] = value
        with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0"):
            optimizer.step()
        assert torch.equal(param, torch.ones(3))  # of the first group, which has no fault
    with pytest.raises(ValueError, match="lr must be"):
        made(cls, lr=-2e-18)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flag", ["maximize", "capturable", "foreach", "kahan", "fused", "differentiable"])
@pytest.mark.parametrize("value", [np.True_, np.False_, torch.tensor(True), torch.tensor(False), np.array(True)])
def test_flags_of_numpy_and_torch_are_taken_and_kept_as_pythons(cls, flag, value):
    param = torch.nn.Parameter(torch.ones(3))
    other = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([param], **{flag: value})
    assert optimizer.param_groups[0][flag] is bool(value)
    assert optimizer.defaults[flag] is bool(value)
    optimizer.add_param_group({"params": [other], flag: value})
    assert optimizer.param_groups[1][flag] is bool(value)
    saved = optimizer.state_dict()
    saved["param_groups"][0][flag] = value
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0][flag] is bool(value)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("value", [np.float64(1), np.array([True, False]), "yes", 1.0])
def test_other_flags_are_still_refused(cls, value):
    with pytest.raises(ValueError, match="maximize must be True or False"):
        cls([torch.nn.Parameter(torch.ones(3))], maximize=value)


ON_PATHS = [{}, {"foreach": True}, {"foreach": False}, {"fused": False}]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", ON_PATHS)
@pytest.mark.parametrize(
    "extra", [{}, {"kahan": True, "weight_decay": 0.1}, {"initial_speed": 1.0, "capturable": True}]
)
def test_a_negative_view_steps_as_the_tensor_that_it_shows(cls, flags, extra):
    torch.manual_seed(0)
    start = torch.randn(4)
    view = torch._neg_view(-start).requires_grad_()
    assert view.is_neg()
    plain = torch.nn.Parameter(start.clone())
    for param in (view, plain):
        optimizer = cls([param], lr=0.1, **flags, **extra)
        for k in range(3):
            param.grad = torch.cos(torch.arange(4.0) + k)
            optimizer.step()
    torch.testing.assert_close(view.detach(), plain.detach())


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", ON_PATHS)
def test_a_conjugated_view_is_refused_by_name(cls, flags):
    param = torch.randn(3, dtype=torch.complex64).conj().requires_grad_()
    param.grad = torch.ones(3, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match="resolve_conj"):
        cls([param], **flags).step()


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", [*ON_PATHS, {"foreach": False, "capturable": True}])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex_halves_step_as_complex64_rounded(cls, flags):
    """Squares of such gradients are 0 in float16."""
    start = torch.ones(1, 2)
    half = torch.view_as_complex(start.half()).requires_grad_()
    single = torch.view_as_complex(start.clone()).requires_grad_()
    for param in (half, single):
        optimizer = cls([param], lr=0.01, **flags)
        for k in range(5):
            real = torch.full((1, 2), (k + 1) * 1e-4).half().float()
            param.grad = torch.view_as_complex(real.half() if param is half else real)
            optimizer.step()
    difference = torch.view_as_real(half.detach()).float() - torch.view_as_real(single.detach())
    assert difference.abs().max() <= 2**-11


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("kind", ["OneCycleLR", "CyclicLR"])
def test_schedulers_that_cycle_momentum_name_the_argument(cls, kind):
    """There is no momentum to cycle; the guide and the docstrings name the argument too."""
    _, optimizer = made(cls)
    arguments = {"OneCycleLR": (0.1, 10), "CyclicLR": (0.01, 0.1)}[kind]
    with pytest.raises(ValueError, match="cycle_momentum"):
        getattr(schedulers, kind)(optimizer, *arguments)
    schedule = getattr(schedulers, kind)(optimizer, *arguments, cycle_momentum=False)
    optimizer.step()
    schedule.step()
    assert "cycle_momentum=False" in cls.__doc__


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", [{}, {"foreach": False}, {"fused": False}, {"capturable": True}])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_steps_an_ensemble(cls, flags):
    def train(weight, grad):
        param = weight.clone()
        optimizer = cls([param], lr=0.1, **flags)
        param.grad = grad
        optimizer.step()
        optimizer.step()
        return param

    torch.manual_seed(0)
    weights, grads = torch.randn(5, 3), torch.randn(5, 3)
    apart = torch.stack([train(weight, grad) for weight, grad in zip(weights, grads, strict=True)])
    torch.testing.assert_close(torch.func.vmap(train)(weights, grads), apart)
