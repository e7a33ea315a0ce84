"""Learning-rate schedules: values, limits of Theorem 3, and every kind of k."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from inna.schedules import log_decay, power_decay

RULES = {"power": power_decay(0.25), "constant": power_decay(0), "log": log_decay(1.5)}


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
    np.testing.assert_allclose(rule(torch.tensor(ks)), exact, rtol=1e-6)
    np.testing.assert_allclose(rule(torch.tensor(ks, dtype=torch.float64)), exact, rtol=1e-14)
    np.testing.assert_allclose(rule(jnp.array(ks)), exact, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(rule)(jnp.array(ks)), exact, rtol=1e-6)


def test_rules_pickle():
    assert pickle.loads(pickle.dumps(power_decay(0.5)))(3) == 0.5
    assert pickle.loads(pickle.dumps(log_decay(2.0)))(3) == log_decay(2.0)(3)


@pytest.mark.parametrize("rule", [power_decay, log_decay])
@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, "1/2", None])
def test_bad_powers(rule, value):
    with pytest.raises(ValueError, match=r"^[pq] must be a finite number >= 0, got"):
        rule(value)
