"""differentiable: the derivatives of several steps, by autograd against finite differences."""

from __future__ import annotations

import pytest
import torch

from inna import dynamics
from inna.torch import INNA, INNAprop

STEPS = 3
SETTINGS = [
    pytest.param(INNA, {}, id="INNA"),
    pytest.param(INNA, {"initial_speed": 1.0}, id="INNA-speed"),
    pytest.param(INNA, {"initial_speed": 0.5, "weight_decay": 0.2}, id="INNA-speed-penalty"),
    pytest.param(INNA, {"weight_decay": 0.2, "decoupled_weight_decay": True}, id="INNA-decoupled"),
    pytest.param(INNA, {"weight_decay": 0.2, "maximize": True, "initial_speed": 1.0}, id="INNA-maximize"),
    pytest.param(INNAprop, {"weight_decay": 0.0}, id="INNAprop"),
    pytest.param(INNAprop, {"weight_decay": 0.2, "initial_speed": 1.0}, id="INNAprop-speed-decay"),
    pytest.param(INNAprop, {"weight_decay": 0.2, "maximize": True}, id="INNAprop-maximize"),
]


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(4, generator=generator, dtype=dtype, requires_grad=True)
    grads = torch.randn(STEPS, 4, generator=generator, dtype=dtype, requires_grad=True)
    numbers = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.7, 0.4)]
    return theta, grads, *numbers


def unrolled(kind, settings):
    """A function of theta, gradients, lr, alpha and beta that returns the last iterate and all of its state."""

    def function(theta, grads, lr, alpha, beta):
        param = theta.clone()
        optimizer = kind([param], lr, alpha, beta, differentiable=True, **settings)
        for grad in grads:
            param.grad = grad
            optimizer.step()
        return param, *(value for name, value in optimizer.state[param].items() if name != "step")

    return function


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_gradcheck_through_several_steps(kind, settings, dtype):
    # With respect to the parameters, every gradient, lr, alpha and beta; of the parameters and of the state.
    assert torch.autograd.gradcheck(unrolled(kind, settings), inputs(dtype), eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "settings"), [SETTINGS[2], SETTINGS[6]])
def test_gradgradcheck(kind, settings):
    assert torch.autograd.gradgradcheck(unrolled(kind, settings), inputs(), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_the_values_are_those_of_the_plain_step(kind, settings):
    theta, grads, lr, alpha, beta = inputs()
    plain = theta.detach().clone().requires_grad_()
    optimizer = kind([plain], lr.item(), alpha.item(), beta.item(), foreach=False, **settings)
    for grad in grads.detach():
        plain.grad = grad
        optimizer.step()
    made, *state = unrolled(kind, settings)(theta, grads, lr, alpha, beta)
    torch.testing.assert_close(made.detach(), plain.detach(), rtol=1e-13, atol=1e-14)
    names = [name for name in optimizer.state[plain] if name != "step"]
    for name, value in zip(names, state, strict=True):
        torch.testing.assert_close(value.detach(), optimizer.state[plain][name], rtol=1e-13, atol=1e-14)


def test_the_derivative_with_respect_to_lr_in_closed_form():
    # Two steps on J = theta^2/2 from theta = 1, m = 0: a polynomial in lr that the rule itself spells out.
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    param = torch.ones(1, dtype=torch.float64, requires_grad=True).clone()
    optimizer = INNA([param], lr, alpha=0.7, beta=0.4, differentiable=True)
    theta, momentum = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for _ in range(2):
        param.grad = param.clone()
        optimizer.step()
        theta, momentum = dynamics.step(theta, momentum, theta, lr, 0.7, 0.4)
    torch.testing.assert_close(param, theta)
    torch.testing.assert_close(*(torch.autograd.grad(made.sum(), lr)[0] for made in (param, theta)))


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_the_learning_rate_is_learned_by_the_gradient_of_the_loss_after_training(kind):
    """The purpose of the flag: a meta-gradient through a network's training, against a central difference."""
    points = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)

    def loss_after_training(lr):
        weight = torch.full((2, 3), 0.5, dtype=torch.float64, requires_grad=True).clone()
        optimizer = kind([weight], lr, differentiable=True)
        for _ in range(4):
            value = torch.tanh(points @ weight.T).square().sum()
            (weight.grad,) = torch.autograd.grad(value, weight, create_graph=True)
            optimizer.step()
        return torch.tanh(points @ weight.T).square().sum()

    lr = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(loss_after_training(lr), lr)
    h = 1e-5
    difference = (loss_after_training(lr.detach() + h) - loss_after_training(lr.detach() - h)) / (2 * h)
    torch.testing.assert_close(derivative, difference.detach(), rtol=1e-6, atol=1e-8)
    assert abs(derivative) > 1e-3
