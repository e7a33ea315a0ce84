"""Learning-rate schedules: values, limits of Theorem 3, and every kind of k."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from inna.schedules import cosine_decay, hold_decay, linear_decay, log_decay, power_decay

RULES = {
    "power": power_decay(0.25),
    "constant": power_decay(0),
    "log": log_decay(1.5),
    "linear": linear_decay(700),
    "hold": hold_decay(1500, 1200),
    "cosine": cosine_decay(1500),
    "cosine with warm-up": cosine_decay(1500, 10),
}


@pytest.mark.parametrize("q", [0, 0.25, 0.5, 1])
def test_power_decay(q):
    k = np.arange(50)
    np.testing.assert_allclose(power_decay(q)(k), 1 / (k + 1.0) ** q, rtol=1e-15)
    assert power_decay(q)(0) == 1.0


def test_log_decay_is_below_the_limit_of_theorem_3_exactly_for_powers_above_one():
    # gamma_k log k -> 0 for p > 1, stays at 1 for p = 1, and sum gamma_k diverges
    log10_k = [3.0, 30.0, 300.0]
    products = {p: [log_decay(p)(10.0**n) * math.log(10.0**n) for n in log10_k] for p in (1.0, 1.5)}
    assert products[1.0] == pytest.approx([1, 1, 1], abs=1e-3)
    for n, product in zip(log10_k, products[1.5], strict=True):
        assert product == pytest.approx((n * math.log(10)) ** -0.5, rel=1e-3)
    assert log_decay(2)(0) == 1.0


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (7, 0), (100, 5), (100, 99)])
def test_linear_and_cosine_decay(total, warmup):
    k = np.arange(total)
    np.testing.assert_allclose(linear_decay(total)(k), (total - k) / total, rtol=1e-14)
    # The cosine is 1 where the warm-up ends, 0 at the end, and its halves mirror each other about 1/2.
    rule, middle = cosine_decay(total, warmup), (total + warmup) / 2
    assert (rule(warmup), rule(total), linear_decay(total)(total)) == pytest.approx((1, 0, 0), abs=1e-15)
    for distance in range((total - warmup) // 2):
        assert rule(middle + distance) + rule(middle - distance) == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(rule(np.arange(warmup)), (np.arange(warmup) + 1) / max(warmup, 1), rtol=1e-14)
    # Beyond the end nothing moves.
    assert linear_decay(total)(2 * total) == rule(2 * total) == 0


@pytest.mark.parametrize(("total", "hold"), [(1, 0), (7, 3), (100, 80), (100, 99)])
def test_hold_decay(total, hold):
    k, rule = np.arange(2 * total), hold_decay(total, hold)
    np.testing.assert_array_equal(rule(k[: hold + 1]), 1)
    # Then it is a linear decay over the iterations that are left, and with none before it, over all.
    np.testing.assert_array_equal(rule(k[hold:]), linear_decay(total - hold)(k[hold:] - hold))
    np.testing.assert_array_equal(hold_decay(total, 0)(k), linear_decay(total)(k))
    with pytest.raises(ValueError, match=f"hold must be less than total, {total}; got {total}"):
        hold_decay(total, total)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "total must be a whole number >= 1, got 0"),
        ((4, 4), "less than total, 4; got 4"),
        ((4, -1), "warmup must"),
    ],
)
def test_bad_lengths(arguments, words):
    with pytest.raises(ValueError, match=words):
        cosine_decay(*arguments)


@pytest.mark.parametrize("name", RULES)
def test_numbers_and_arrays_of_every_framework_agree(name):
    import jax
    import jax.numpy as jnp
    import torch

    rule = RULES[name]
    ks = [0, 1, 7, 1000]
    exact = [float(rule(k)) for k in ks]
    for k, value in zip(ks, exact, strict=True):
        for scalar in (float(k), np.int64(k), np.float64(k)):
            assert rule(scalar) == pytest.approx(value, rel=1e-15)
    np.testing.assert_allclose(rule(np.array(ks)), exact, rtol=1e-15)
    np.testing.assert_allclose(rule(torch.tensor(ks)), exact, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(rule(torch.tensor(ks, dtype=torch.float64)), exact, rtol=1e-14)
    np.testing.assert_allclose(rule(jnp.array(ks)), exact, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.jit(rule)(jnp.array(ks)), exact, rtol=1e-6, atol=1e-7)


def test_rules_pickle():
    assert pickle.loads(pickle.dumps(power_decay(0.5)))(3) == 0.5
    assert pickle.loads(pickle.dumps(log_decay(2.0)))(3) == log_decay(2.0)(3)
    assert pickle.loads(pickle.dumps(cosine_decay(9, 2)))(3) == cosine_decay(9, 2)(3)
    assert pickle.loads(pickle.dumps(hold_decay(9, 2)))(3) == hold_decay(9, 2)(3)


@pytest.mark.parametrize("rule", [power_decay, log_decay])
@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, "1/2", None])
def test_bad_powers(rule, value):
    with pytest.raises(ValueError, match=r"^[pq] must be a finite number >= 0, got"):
        rule(value)
