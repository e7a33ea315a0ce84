"""INNAprop.lr_free without inertia takes Prodigy's steps, where the two rules are the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inna.torch import INNAprop

prodigyopt = pytest.importorskip("prodigyopt", reason="needs prodigyopt, of the extra contenders")
SHAPES = [(7,), (3, 4)]
NO_EPS = 1e-300


def start(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def pair(seed: int, sigma: float, slice_every: int, beta2: float, **others: float) -> tuple[torch.optim.Optimizer, ...]:
    """Both optimizers, alpha = beta = 1 and betas = (0, beta2), on equal weights of two groups."""
    ours, theirs = ([{"params": [each.requires_grad_()]} for each in start(seed)] for _ in range(2))
    distance = others.pop("initial_distance", 1e-3)
    free = INNAprop.lr_free(ours, 1.0, 1.0, sigma=sigma, eps=NO_EPS, initial_distance=distance, slice_every=slice_every)
    prodigy = prodigyopt.Prodigy(
        theirs, betas=(0.0, beta2), beta3=sigma**0.5, eps=NO_EPS, d0=distance, slice_p=slice_every, **others
    )
    return free, prodigy


def members(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    sigma=st.floats(0.0, 0.9999),
    slice_every=st.sampled_from([1, 3]),
    factors=st.lists(st.floats(0.5, 2.0), min_size=30, max_size=40),
)
def test_on_a_weighted_sum_of_distances_the_iterates_and_d_are_prodigy_s(seed, sigma, slice_every, factors):
    # |g| is constant in each entry. So the mean of g² is g², which Prodigy has with beta2 = 0, where d cancels.
    free, prodigy = pair(seed, sigma, slice_every, beta2=0.0)
    weights, solutions = [each.abs() + 0.1 for each in start(seed + 1)], start(seed + 2)
    grown = set()
    for factor in factors:
        for optimizer in (free, prodigy):
            for group, weight, solution in zip(optimizer.param_groups, weights, solutions, strict=True):
                group["lr"] = factor
                (param,) = group["params"]
                param.grad = weight * (param.detach() - solution).sign()
            optimizer.step()
        assert free.distance == pytest.approx(prodigy.param_groups[0]["d"], rel=1e-9)
        grown.add(free.distance)
        for ours, theirs in zip(members(free), members(prodigy), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert len(grown) > 2


@pytest.mark.parametrize("sigma", [0.5, 0.999])
def test_while_d_does_not_grow_the_steps_are_prodigy_s_with_bias_correction(sigma):
    distance = 0.1
    free, prodigy = pair(0, sigma, 1, beta2=sigma, initial_distance=distance, use_bias_correction=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        for ours, theirs, first in zip(members(free), members(prodigy), start(0), strict=True):
            # It points away from the start, so that <g, theta_0 - theta> is never positive.
            away = (ours.detach() - first).sign() + (ours.detach() == first)
            ours.grad = away * torch.rand(ours.shape, generator=generator, dtype=torch.float64)
            theirs.grad = ours.grad.clone()
        free.step()
        prodigy.step()
        assert free.distance == prodigy.param_groups[0]["d"] == distance
        for ours, theirs in zip(members(free), members(prodigy), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_with_a_growing_d_and_a_mean_of_squares_they_differ():
    """So that equality above is no accident: Prodigy weights the squares by d²."""
    free, prodigy = pair(0, 0.9, 1, beta2=0.9, use_bias_correction=True)
    for _ in range(20):
        for optimizer in (free, prodigy):
            for param in members(optimizer):
                param.grad = param.detach().clone()
            optimizer.step()
    assert free.distance != pytest.approx(prodigy.param_groups[0]["d"], rel=0.1)
