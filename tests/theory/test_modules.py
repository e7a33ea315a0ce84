"""Torch modules as functions of a vector, relu'(0), and step sizes from curvature."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

import torch

from inna.dynamics import step
from inna.theory.criticality import criticality
from inna.theory.curvature import suggest_lr, top_curvature
from inna.theory.flow import solve
from inna.theory.modules import module_gradient, relu_sensitivity, sample_gradients
from inna.theory.stability import StepSizeWarning, is_stable, max_lr, roots

mse = torch.nn.functional.mse_loss


def tanh_network(seed: int = 0) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    inputs = torch.randn(30, 2)
    return model, (inputs, torch.sin(inputs).sum(dim=1, keepdim=True))


def noisy_teacher() -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A network and data that it fits up to a little noise, so that a strict minimiser lies close to its weights."""
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    inputs = 2 * torch.randn(100, 2)
    return model, (inputs, model(inputs).detach() + 0.01 * torch.randn(100, 1))


def hessian_of(value, theta: np.ndarray, gradient) -> np.ndarray:
    reach = 1e-5
    rows = [(gradient(theta + reach * e) - gradient(theta - reach * e)) / (2 * reach) for e in np.eye(theta.size)]
    return (np.array(rows) + np.array(rows).T) / 2


def test_module_gradient_is_that_of_backpropagation_and_leaves_the_module_alone() -> None:
    model, batch = tanh_network()
    before = copy.deepcopy(model.state_dict())
    theta0, gradient, value = module_gradient(model, mse, batch)
    mse(model(batch[0]), batch[1]).backward()
    flat = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()
    np.testing.assert_allclose(gradient(theta0), flat, atol=1e-6)
    assert value(theta0) == pytest.approx(mse(model(batch[0]), batch[1]).item(), rel=1e-6)
    differences = [(value(theta0 + 1e-6 * e) - value(theta0 - 1e-6 * e)) / 2e-6 for e in np.eye(theta0.size)]
    np.testing.assert_allclose(gradient(theta0), differences, atol=1e-8)
    assert theta0.dtype == np.float64
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(ValueError, match="theta must have the shape"):
        gradient(theta0[1:])


def test_the_flow_follows_a_module() -> None:
    model, batch = tanh_network()
    theta0, gradient, value = module_gradient(model, mse, batch)
    path = solve(gradient, theta0, 0.5, 0.1, 5.0, method="RK45", rtol=1e-6)
    theta, momentum, lr = theta0, np.zeros_like(theta0), 1e-3
    for _ in range(1000):
        theta, momentum = step(theta, momentum, gradient(theta), lr, 0.5, 0.1)
    np.testing.assert_allclose(theta, path(1.0)[0], atol=1e-3)
    assert value(path.theta[-1]) < value(theta0)


def test_sample_gradients_are_those_of_each_sample_and_sum_to_the_whole() -> None:
    model, batch = tanh_network(1)
    theta0, gradients = sample_gradients(model, mse, batch)
    rows = gradients(theta0)
    assert rows.shape == (30, theta0.size)
    doubled = copy.deepcopy(model).double()
    for n in (0, 17):
        doubled.zero_grad()
        mse(doubled(batch[0][n : n + 1].double()), batch[1][n : n + 1].double()).backward()
        flat = torch.cat([p.grad.reshape(-1) for p in doubled.parameters()]).numpy()
        np.testing.assert_allclose(rows[n], flat, atol=1e-13)
    _, gradient, _ = module_gradient(model, mse, batch)
    np.testing.assert_allclose(rows.mean(axis=0), gradient(theta0), atol=1e-13)
    with pytest.raises(ValueError, match="same number of samples, at least one, got 30 and 29"):
        sample_gradients(model, mse, (batch[0], batch[1][1:]))
    with pytest.raises(ValueError, match="module must have parameters"):
        sample_gradients(torch.nn.ReLU(), mse, batch)


def spurious_network() -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """v relu(w x) + b at w = 0, v = 1, b = 0, with the data (1, -1) and (-1, 1) and J_n = (f(x_n) - y_n)²/2.

    On w > 0 only the first sample is active, on w < 0 only the second, and both slopes in w are 1: dJ has the one
    element (1, 0, 0) in (w, v, b). Each sample alone has the slopes [0, 1], so that DJ = [0, 2] x {0} x {0}.
    """
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[2].weight.fill_(1.0)
        model[2].bias.zero_()
    return model, (torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [1.0]]))


def half_squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 0.5 * (outputs - targets).square().sum()


def test_a_relu_network_with_a_constructed_spurious_point() -> None:
    model, batch = spurious_network()
    theta0, gradients = sample_gradients(model, half_squared, batch)
    np.testing.assert_array_equal(gradients(theta0).sum(axis=0), 0)  # backpropagation rests here
    found = criticality(gradients, theta0)
    np.testing.assert_allclose(found.clarke_at_radii, 1.0, atol=1e-4)
    np.testing.assert_allclose(found.d_at_radii, 0.0, atol=1e-4)
    assert found.spurious(1e-3)
    # Other points on the kink's hyperplane, and off it, are not: there a sample's slope does not cancel.
    away = criticality(gradients, theta0 + np.array([0.1, 0.0, 0.0]))
    assert not away.spurious(1e-3)


def test_relu_sensitivity_finds_the_kink() -> None:
    model, batch = spurious_network()
    found = relu_sensitivity(model, half_squared, batch)
    assert found.zeros == 2
    assert found.changes == {"0.weight": pytest.approx(2.0)}  # relu'(0) = 1 gives 1 + 1
    assert relu_sensitivity(model, half_squared, batch, choices=(0.5,)).changes == {"0.weight": pytest.approx(1.0)}
    with torch.no_grad():
        model[0].weight.fill_(0.25)
    assert relu_sensitivity(model, half_squared, batch) == (0, {})
    assert model[0].weight.grad is None


SPELLINGS = {
    "nn.ReLU": lambda x: torch.nn.ReLU()(x),
    "nn.ReLU(inplace)": lambda x: torch.nn.ReLU(inplace=True)(x),
    "F.relu": torch.nn.functional.relu,
    "F.relu(inplace)": lambda x: torch.nn.functional.relu(x, inplace=True),
    "F.relu_": torch.nn.functional.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
}


class Spelled(torch.nn.Module):
    def __init__(self, relu) -> None:
        super().__init__()
        self.linear, self.relu = torch.nn.Linear(3, 3), relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.linear(x) + 0)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_relu_sensitivity_covers_every_form(spelling: str) -> None:
    torch.manual_seed(0)
    model = Spelled(SPELLINGS[spelling])
    with torch.no_grad():
        model.linear.weight[1].zero_()
        model.linear.bias[1] = 0
    found = relu_sensitivity(model, lambda outputs, _: outputs.sum(), (torch.ones(4, 3), torch.zeros(4)))
    assert found.zeros == 4
    assert found.changes == {"linear.weight": 4.0, "linear.bias": 4.0}


def test_relu_sensitivity_refuses() -> None:
    model, batch = spurious_network()
    with pytest.raises(ValueError, match=r"choices must be a finite number >= 0 and <= 1, got 1.5"):
        relu_sensitivity(model, half_squared, batch, choices=(1.5,))
    with pytest.raises(ValueError, match="at least one value"):
        relu_sensitivity(model, half_squared, batch, choices=())
    with pytest.raises(ValueError, match="loss must return a scalar"):
        relu_sensitivity(model, lambda outputs, targets: outputs, batch)


@pytest.mark.parametrize("seed", range(3))
def test_top_curvature_is_the_hessian_s_largest_eigenvalue(seed: int) -> None:
    model, batch = tanh_network(seed)
    model = model.double()
    batch = tuple(data.double() for data in batch)
    theta0, gradient, value = module_gradient(model, mse, batch)
    exact = np.linalg.eigvalsh(hessian_of(value, theta0, gradient))[-1]
    found, products = top_curvature(model, mse, batch, tolerance=1e-8)
    assert found == pytest.approx(exact, rel=1e-6)
    assert 0 < products <= 60
    assert all(p.grad is None for p in model.parameters())


def test_top_curvature_of_one_and_two_weights_and_of_a_linear_loss() -> None:
    model = torch.nn.Linear(1, 1)
    data = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    # J = mean (w x + b)²: the Hessian is [[5, 3], [3, 2]]
    assert top_curvature(model, mse, data)[0] == pytest.approx(np.linalg.eigvalsh([[5, 3], [3, 2]])[-1], rel=1e-6)
    wide = torch.nn.Linear(5, 1)
    assert top_curvature(wide, lambda outputs, _: outputs.sum(), (torch.ones(1, 5), None))[0] == 0.0
    with pytest.raises(ValueError, match="not positive: no learning rate is stable here"):
        suggest_lr(wide, lambda outputs, _: outputs.sum(), (torch.ones(1, 5), None), 0.5, 0.1)


def test_top_curvature_leaves_buffers_frozen_weights_and_random_numbers_alone() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
    )
    model[0].bias.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    top_curvature(model, mse, (torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(8, 1)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)


def test_suggest_lr_warns_beyond_the_largest_stable_step() -> None:
    model, batch = tanh_network()
    suggestion = suggest_lr(model, mse, batch, 0.5, 0.1)
    assert suggestion.lr == max_lr(0.5, 0.1, suggestion.curvature)
    assert suggest_lr(model, mse, batch, 0.5, 0.1, lr=0.99 * suggestion.lr) == suggestion
    with pytest.warns(StepSizeWarning, match="is beyond .*, the largest stable learning rate for the curvature"):
        suggest_lr(model, mse, batch, 0.5, 0.1, lr=1.01 * suggestion.lr)
    for arguments, message in (
        ({"alpha": -1.0}, "alpha must be a finite number >= 0"),
        ({"alpha": 0.0, "beta": 0.0}, "without damping no learning rate is stable"),
        ({"lr": 0.0}, "lr must be a finite number > 0"),
        ({"tolerance": 0.0}, "tolerance must be a finite number > 0"),
        ({"loss": lambda outputs, targets: outputs}, "finite scalar"),
        ({"loss": lambda outputs, targets: (outputs * float("nan")).sum()}, "finite scalar"),
    ):
        with pytest.raises(ValueError, match=message):
            suggest_lr(**{"model": model, "loss": mse, "batch": batch, "alpha": 0.5, "beta": 0.1, **arguments})


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (0.7, 0.3), (0.1, 1.0)])
def test_suggested_step_is_the_edge_near_a_minimiser(alpha: float, beta: float) -> None:
    """Full batch, from near a minimiser: 0.9 of it comes back, 1.1 of it leaves at the rate that the roots say."""
    model, batch = noisy_teacher()
    theta, gradient, value = module_gradient(model, mse, batch)
    for _ in range(8):  # Newton's steps from the teacher to the minimiser nearby
        theta = theta - np.linalg.solve(hessian_of(value, theta, gradient), gradient(theta))
    assert np.linalg.norm(gradient(theta)) < 1e-12
    torch.nn.utils.vector_to_parameters(torch.tensor(theta, dtype=torch.float32), model.parameters())
    suggestion = suggest_lr(model, mse, batch, alpha, beta)
    eigenvalues, vectors = np.linalg.eigh(hessian_of(value, theta, gradient))
    assert eigenvalues[0] > 0  # a strict minimiser
    steepest = vectors[:, -1]
    assert suggestion.lr == max_lr(alpha, beta, suggestion.curvature, alone=True)  # it is the steepest that binds

    def excursions(lr: float, steps: int) -> np.ndarray:
        point, momentum = theta + 1e-7 * steepest, np.zeros_like(theta)
        sizes = []
        for _ in range(steps):
            sizes.append(abs(steepest @ (point - theta)))
            point, momentum = step(point, momentum, gradient(point), lr, alpha, beta)
        return np.array(sizes)

    assert is_stable(0.9 * suggestion.lr, alpha, beta, eigenvalues).all()
    # Slow directions take long to settle; the steepest, on which the bound rests, must be well on its way.
    factor = np.abs(roots(0.9 * suggestion.lr, alpha, beta, eigenvalues[-1])).max()
    steps = int(np.log(500) / -np.log(factor)) + 1
    assert excursions(0.9 * suggestion.lr, steps)[-5:].max() < 1e-7 / 5
    factor = np.abs(roots(1.1 * suggestion.lr, alpha, beta, eigenvalues[-1])).max()
    steps = int(np.log(200) / np.log(factor)) + 1
    sizes = excursions(1.1 * suggestion.lr, steps)
    assert factor > 1
    assert sizes.max() > 1e-7 * 50
