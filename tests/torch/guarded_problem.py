"""A problem of least squares on mini-batches, and the ways in which the guarded INNA is run on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from inna.torch.kernels import cpu
from inna.torch.measures.guarded_step import SCALARS
from triton_kernels import in_the_interpreter

SHAPES = [(3,), (2, 4)]
STEPS = 40
TRITON = pytest.param("Triton", marks=in_the_interpreter)
TRITON_ON_DEVICE = pytest.param("Triton on device", marks=in_the_interpreter)
FUSED = pytest.param("fused", marks=pytest.mark.skipif(bool(cpu.unavailable()), reason="no kernels"))
FLAGS = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "Triton": {"fused": True},
    "Triton on device": {"fused": True, "capturable": True},
    "on device": {"foreach": True, "capturable": True},
    "single on device": {"foreach": False, "capturable": True},
    "differentiable": {"differentiable": True},
}
PATHS = ["single", "foreach", FUSED, TRITON, "on device", "single on device", "differentiable"]


def problem(seed=0, noise=0.3):
    """The start, and a function of step and point: loss and gradients of |A theta - b|^2/2 on mini-batches."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(16, 11))
    targets = inputs @ rng.normal(size=11) + noise * rng.normal(size=16)
    rows = np.stack([rng.choice(16, size=4, replace=False) for _ in range(STEPS)])

    def evaluate(k, thetas):
        batch, wanted = inputs[rows[k % STEPS]], targets[rows[k % STEPS]]
        residual = batch @ np.concatenate(thetas) - wanted
        return float(residual @ residual / 8), np.split(batch.T @ residual / 4, [3])

    return np.split(rng.normal(size=11), [3]), evaluate


def parameters(start, dtype=torch.float64, flags=()):
    leaves = [torch.tensor(part.reshape(shape), dtype=dtype) for part, shape in zip(start, SHAPES, strict=True)]
    return [leaf if "differentiable" in flags else leaf.requires_grad_() for leaf in leaves]


def set_gradients(params, evaluate, k, sign=1.0):
    """Set the gradients of step k; return its loss."""
    thetas = [param.detach().double().reshape(-1).numpy() for param in params]
    value, grads = evaluate(k, thetas)
    for param, grad in zip(params, grads, strict=True):
        param.grad = torch.tensor(sign * grad, dtype=param.dtype).reshape(param.shape)
    return sign * value


def train(optimizer, params, evaluate, steps, schedule=None, sign=1.0):
    """The learning rate after the guard of each step."""
    scheduler = LambdaLR(optimizer, schedule) if schedule else None
    lengths = []
    for k in steps:
        optimizer.step(loss=set_gradients(params, evaluate, k, sign))
        if scheduler:
            scheduler.step()
        lengths.append(optimizer.last_lr)
    return lengths


def whole(optimizer):
    """Everything that a later step depends on, as a list of tensors."""
    state = [value for values in optimizer.state.values() for _, value in sorted(values.items())]
    scalars = [group[name] for group in optimizer.param_groups for name in SCALARS]
    return [param.detach() for group in optimizer.param_groups for param in group["params"]] + state + scalars


def assert_equal(ours, theirs):
    for mine, other in zip(whole(ours), whole(theirs), strict=True):
        assert torch.equal(mine, other)
