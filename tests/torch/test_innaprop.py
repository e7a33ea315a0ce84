"""INNAprop: the recorded iterates on both paths, lr = beta, complex parameters as torch's Adam, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inna import dynamics
from inna.torch import INNA, INNAprop
from recorded import INNAPROP_CASES, gradient, step_size, theta0

PATHS = [pytest.param({"foreach": False}, id="single"), pytest.param({"foreach": True}, id="foreach")]


@pytest.mark.parametrize("case", INNAPROP_CASES, ids=str)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("capturable", [False, True])
def test_the_recorded_iterates(case, path, capturable):
    theta = torch.tensor(theta0(), requires_grad=True)
    settings = {"sigma": case.sigma, "eps": case.eps, "weight_decay": case.weight_decay, "capturable": capturable}
    optimizer = INNAprop([theta], case.gamma0, case.alpha, case.beta, **settings, **path)
    for k in range(max(case.iterates)):
        optimizer.param_groups[0]["lr"] = step_size(case, k)
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        optimizer.step()
        if k + 1 in case.iterates:
            recorded_theta, recorded_psi = case.iterates[k + 1]
            ours = theta.detach().numpy()
            momentum = optimizer.state[theta]["momentum"].numpy()
            psi = dynamics.phase_from_momentum(ours, momentum, case.alpha, case.beta)
            for made, recorded in ((ours, recorded_theta), (psi, recorded_psi)):
                scale = max(np.abs(recorded_theta).max(), np.abs(recorded).max())
                np.testing.assert_allclose(made, recorded, rtol=0, atol=1e-12 * scale, err_msg=f"iterate {k + 1}")


@given(
    lr=st.floats(1e-4, 0.3),
    alpha=st.floats(0, 3),
    beta=st.floats(0.01, 2),
    sigma=st.sampled_from([0.0, 0.5, 0.999]),
    eps=st.sampled_from([1e-8, 1e-2]),
    weight_decay=st.sampled_from([0.0, 0.05]),
    initial_speed=st.sampled_from([None, 0.0, 1.0]),
    maximize=st.booleans(),
    shapes=st.lists(st.sampled_from([(), (0,), (1,), (5,), (3, 4)]), min_size=1, max_size=4),
    is_complex=st.booleans(),
    tensors=st.booleans(),
    foreach=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_setting_is_the_rule(
    lr, alpha, beta, sigma, eps, weight_decay, initial_speed, maximize, shapes, is_complex, tensors, foreach, seed
):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if is_complex else torch.float64
    params = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    scalar = (lambda x: torch.tensor([x], dtype=torch.float64)) if tensors else float
    optimizer = INNAprop(
        params,
        scalar(lr),
        scalar(alpha),
        scalar(beta),
        sigma,
        eps,
        weight_decay,
        initial_speed=initial_speed,
        maximize=maximize,
        foreach=foreach,
        capturable=tensors,
    )

    def real(tensor):
        return torch.view_as_real(tensor.detach()).clone() if is_complex else tensor.detach().clone()

    thetas = [real(param) for param in params]
    momentums, squares = ([torch.zeros_like(theta) for theta in thetas] for _ in range(2))
    for k in range(4):
        for i, param in enumerate(params):
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
            g = -real(param.grad) if maximize else real(param.grad)
            thetas[i], momentums[i] = dynamics.decay_innaprop(thetas[i], momentums[i], lr, alpha, beta, weight_decay)
            ghat, squares[i] = dynamics.rescale(g, squares[i], k + 1, sigma, eps)
            if k == 0:
                momentums[i] = momentums[i] + dynamics.initial_momentum(ghat, beta, initial_speed)
            thetas[i], momentums[i] = dynamics.step(thetas[i], momentums[i], ghat, lr, alpha, beta)
        optimizer.step()
        for param, theta, momentum, square in zip(params, thetas, momentums, squares, strict=True):
            state = optimizer.state[param]
            torch.testing.assert_close(real(param), theta, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(real(state["momentum"]), momentum, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(real(state["exp_avg_sq"]), square, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
def test_lr_equal_to_beta_is_the_limit_of_its_neighbours(path):
    # The published formula divides by beta - lr there; this one is continuous in lr.
    def end(lr):
        theta = torch.tensor(theta0(), requires_grad=True)
        optimizer = INNAprop([theta], lr, alpha=0.7, beta=0.05, **path)
        for _ in range(50):
            theta.grad = torch.tensor(gradient(theta.detach().numpy()))
            optimizer.step()
        return theta.detach()

    h = 1e-6
    below, at, above = end(0.05 - h), end(0.05), end(0.05 + h)
    assert at.isfinite().all()
    torch.testing.assert_close(at, (below + above) / 2, rtol=0, atol=1e4 * h**2)
    assert (above - below).abs().max() > h  # lr does matter here


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_entries_are_scaled_as_torch_adam_scales_them(path, dtype):
    # alpha beta = 1: momentum stays 0, and the step is lr beta ghat; Adam without a first moment takes lr ghat.
    def run(kind, *args, **kwargs):
        theta = torch.tensor([1 + 2j, -0.5j, 3.0], dtype=dtype, requires_grad=True)
        optimizer = kind([theta], *args, weight_decay=0.0, **kwargs)
        for k in range(6):
            optimizer.zero_grad()
            ((theta - 1j).abs() ** 2 * (k + 1)).sum().backward()
            optimizer.step()
        return theta.detach(), optimizer.state[theta]["exp_avg_sq"]

    ours, our_square = run(INNAprop, 0.02, 2.0, 0.5, 0.99, 1e-8, **path)
    adam, adam_square = run(torch.optim.Adam, 0.01, betas=(0.0, 0.99), eps=1e-8, **path)
    tolerance = 1e-5 if dtype == torch.complex64 else 1e-12
    torch.testing.assert_close(ours, adam, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(our_square, adam_square, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("path", PATHS)
def test_alpha_beta_one_is_adamw_without_a_first_moment(path):
    # The published decay shrinks theta by 1 - lr lambda; with alpha beta = 1 it leaves the momentum at 0.
    def run(kind, *args, **kwargs):
        theta = torch.tensor(theta0(), requires_grad=True)
        optimizer = kind([theta], *args, weight_decay=0.1, **kwargs)
        for _ in range(30):
            theta.grad = torch.tensor(gradient(theta.detach().numpy()))
            optimizer.step()
        return theta.detach()

    ours = run(INNAprop, 0.01, 1.0, 1.0, 0.99, 1e-8, **path)
    torch.testing.assert_close(ours, run(torch.optim.AdamW, 0.01, betas=(0.0, 0.99), eps=1e-8), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_sigma_zero_with_large_eps_is_inna(path):
    # ghat = g/(|g| + eps) -> g/eps: with gradients scaled by eps this is INNA to first order in |g|/eps.
    thetas = [torch.tensor(theta0(), requires_grad=True) for _ in range(2)]
    eps = 1e8
    prop = INNAprop([thetas[0]], 0.05, 0.5, 0.3, 0.0, eps, 0.0, **path)
    plain = INNA([thetas[1]], 0.05, 0.5, 0.3, **path)
    for _ in range(20):
        for theta, scale in zip(thetas, (eps, 1.0), strict=True):
            theta.grad = torch.full((6,), scale * 1e-9, dtype=torch.float64) * torch.tensor(theta0())
        prop.step()
        plain.step()
    moved = [theta.detach() - torch.tensor(theta0()) for theta in thetas]
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("path", PATHS)
def test_the_step_does_not_depend_on_the_scale_of_the_gradient(path):
    def run(scale):
        theta = torch.tensor(theta0(), requires_grad=True)
        optimizer = INNAprop([theta], 0.01, eps=0.0, weight_decay=0.0, **path)
        for _ in range(10):
            theta.grad = scale * torch.tensor(gradient(theta.detach().numpy()))
            optimizer.step()
        return theta.detach()

    torch.testing.assert_close(run(1024.0), run(1.0), rtol=1e-12, atol=1e-13)


def test_arguments_of_its_own():
    theta = torch.ones(2, requires_grad=True)
    for name, value, bounds in [
        ("sigma", 1.0, ">= 0 and < 1"),
        ("sigma", -0.1, ">= 0 and < 1"),
        ("eps", -1e-8, ">= 0"),
        ("weight_decay", float("inf"), ">= 0"),
    ]:
        with pytest.raises(ValueError, match=f"^{name} must be a finite number {bounds}, got {value}"):
            INNAprop([theta], **{name: value})
    with pytest.raises(ValueError, match=r"weight_decay=0\.01 needs beta > 0, got beta=0\.0"):
        INNAprop([theta], beta=0.0)
    assert INNAprop([theta], beta=0.0, weight_decay=0.0).defaults["beta"] == 0
    with pytest.raises(TypeError, match="decoupled_weight_decay"):
        INNAprop([theta], decoupled_weight_decay=True)


@pytest.mark.parametrize("path", [{"fused": None}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", 0.0), ("beta", torch.tensor(0.0)), ("sigma", 1.0), ("eps", -1.0), ("weight_decay", float("nan"))],
)
def test_a_setting_that_is_changed_out_of_its_range_is_refused_before_anything_moves(path, name, value):
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = INNAprop([param], **path)
    for _ in range(2):
        optimizer.step()
    before = [param.detach().clone(), *(tensor.clone() for tensor in optimizer.state[param].values())]
    optimizer.param_groups[0][name] = value
    with pytest.raises(ValueError, match=name):
        optimizer.step()
    assert all(map(torch.equal, [param.detach(), *optimizer.state[param].values()], before))


def test_a_weight_decay_in_a_tensor_is_read_at_each_step():
    moved = []
    for decay in (torch.tensor(0.1), 0.1):
        param = torch.nn.Parameter(torch.ones(3))
        param.grad = torch.zeros(3)
        optimizer = INNA([param], weight_decay=decay)
        optimizer.step()
        optimizer.param_groups[0]["weight_decay"] = decay.fill_(5.0) if isinstance(decay, torch.Tensor) else 5.0
        optimizer.step()
        moved.append(param.detach())
    torch.testing.assert_close(*moved)
