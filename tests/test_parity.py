"""Every port makes the iterates recorded from the authors' published code, in float64 to 1e-12."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from front_end_defaults import assert_defaults
from inna import dynamics
from keras_backends import BACKENDS, in_a_process
from recorded import INNA_CASES, INNAPROP_CASES, Case, gradient, step_size, theta0

Iterates = dict[int, tuple[np.ndarray, np.ndarray]]


def rule(case: Case) -> Iterates:
    """dynamics.py itself, on NumPy arrays; the authors' decay of INNA is lambda/beta theta in the gradient."""
    theta = theta0()
    momentum, exp_avg_sq = np.zeros_like(theta), np.zeros_like(theta)
    made = {}
    for k in range(max(case.iterates)):
        lr, grad = step_size(case, k), gradient(theta)
        if case.optimizer == "INNAprop":
            theta, momentum = dynamics.decay_innaprop(theta, momentum, lr, case.alpha, case.beta, case.weight_decay)
            grad, exp_avg_sq = dynamics.rescale(grad, exp_avg_sq, k + 1, case.sigma, case.eps)
        else:
            grad = grad + case.weight_decay / case.beta * theta
        theta, momentum = dynamics.step(theta, momentum, grad, lr, case.alpha, case.beta)
        made[k + 1] = theta, momentum
    return made


def torch(case: Case, *, foreach: bool) -> Iterates:
    pytest.importorskip("torch.nn")
    import torch

    from inna.torch import INNA, INNAprop

    theta = torch.nn.Parameter(torch.from_numpy(theta0()))
    if case.optimizer == "INNAprop":
        settings = {"sigma": case.sigma, "eps": case.eps, "weight_decay": case.weight_decay}
        optimizer = INNAprop([theta], 1.0, case.alpha, case.beta, **settings, foreach=foreach)
    else:
        decay = case.weight_decay / case.beta
        optimizer = INNA([theta], 1.0, case.alpha, case.beta, weight_decay=decay, foreach=foreach)
    made = {}
    for k in range(max(case.iterates)):
        optimizer.param_groups[0]["lr"] = step_size(case, k)
        theta.grad = torch.from_numpy(gradient(theta.detach()))
        optimizer.step()
        made[k + 1] = theta.detach().numpy().copy(), optimizer.state[theta]["momentum"].numpy().copy()
    return made


def torch_foreach(case: Case) -> Iterates:
    return torch(case, foreach=True)


def torch_single(case: Case) -> Iterates:
    return torch(case, foreach=False)


def optax_traced(case: Case) -> Iterates:
    """All hyper-parameters traced, one compiled step for all cases: the form that reads the old momentum."""
    pytest.importorskip("jax")
    rates = [case.alpha, case.beta, *([case.sigma, case.eps] if case.sigma else []), _decay(case)]
    update = _traced_update(case.optimizer)
    return _optax(case, lambda k, *at: update(*at, step_size(case, k), *rates))


def optax_bounded(case: Case) -> Iterates:
    """A bound on the schedule allows the form that reads the new momentum, where alpha gamma <= 1/2."""
    jax = pytest.importorskip("jax")
    rates = [case.alpha, case.beta, *([case.sigma, case.eps] if case.sigma else [])]
    optimizer = _make(case.optimizer)(
        lambda k: case.gamma0 * (k + 1.0) ** -case.q, *rates, weight_decay=_decay(case), max_learning_rate=case.gamma0
    )
    update = jax.jit(optimizer.update)
    return _optax(case, lambda k, *at: update(*at))


def _decay(case: Case) -> float:
    return case.weight_decay if case.optimizer == "INNAprop" else case.weight_decay / case.beta


def _make(optimizer: str) -> Any:
    pytest.importorskip("optax")
    from inna.optax import inna, innaprop

    return innaprop if optimizer == "INNAprop" else inna


@functools.cache
def _traced_update(optimizer: str) -> Any:
    import jax

    @jax.jit
    def update(grads: Any, state: Any, params: Any, *rates: Any) -> Any:
        *rates, weight_decay = rates
        return _make(optimizer)(*rates, weight_decay=weight_decay).update(grads, state, params)

    return update


def _optax(case: Case, update: Any) -> Iterates:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        theta = jax.numpy.asarray(theta0())
        state = _make(case.optimizer)().init(theta)
        made = {}
        for k in range(max(case.iterates)):
            updates, state = update(k, jax.numpy.asarray(gradient(theta)), state, theta)
            theta = theta + updates
            made[k + 1] = np.asarray(theta), np.asarray(state.momentum)
        return made


def assert_recorded(case: Case, made: Iterates) -> None:
    for k, (theta, momentum) in made.items():
        assert theta.dtype == momentum.dtype == np.float64
        psi = dynamics.phase_from_momentum(theta, momentum, case.alpha, case.beta)
        for ours, theirs in zip((theta, psi), case.iterates[k], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max(), err_msg=f"iterate {k}")


CASES = [*INNA_CASES, *INNAPROP_CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("port", [rule, torch_single, torch_foreach, optax_traced, optax_bounded])
def test_the_recorded_iterates(port, case):
    made = port(case)
    assert_recorded(case, {k: made[k] for k in case.iterates})


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(scope="module", params=[20, pytest.param(500, marks=pytest.mark.slow)], ids="{}-steps".format)
def keras_iterates(backend, request, tmp_path_factory):
    """All cases of one backend, up to a number of steps, from one process."""
    path = tmp_path_factory.mktemp("keras") / f"{backend}.npz"
    done = in_a_process(backend, "tests/keras_iterates.py", str(path), str(request.param))
    assert done.returncode == 0, done.stderr
    with np.load(path) as rows:
        return request.param, dict(rows)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_recorded_iterates_in_keras(keras_iterates, case):
    steps, rows = keras_iterates
    assert_recorded(case, {k: tuple(rows[f"{case}/{k}"]) for k in case.iterates if k <= steps})


def test_the_defaults_are_those_of_the_rule():
    pytest.importorskip("torch.nn")
    pytest.importorskip("optax")
    from inna import optax, torch

    for front_end in (torch.INNA, optax.inna):
        assert_defaults(front_end, dynamics.INNA_DEFAULTS)
    for front_end in (torch.INNAprop, optax.innaprop):
        assert_defaults(front_end, dynamics.INNAPROP_DEFAULTS)
