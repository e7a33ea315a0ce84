"""find_lr for Optax: what it finds, that the same comes out each time, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from inna.learning_rate_race import GRID, run_races  # noqa: E402
from inna.optax import find_lr, inna, innaprop  # noqa: E402
from inna.optax.find_lr import _TreeRace  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")


def data(samples=96, batch=16):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(samples, 4)).astype(np.float32)
    targets = inputs @ np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    return [(inputs[i : i + batch], targets[i : i + batch]) for i in range(0, samples, batch)]


PARAMS = {"weight": np.zeros(4, np.float32), "bias": np.zeros((), np.float32)}


def loss(params, batch):
    return jnp.mean((batch[0] @ params["weight"] + params["bias"] - batch[1]) ** 2)


@pytest.mark.parametrize("curvature", [0.5, 10.0, 1000.0])
def test_of_gradient_descent_on_a_quadratic_it_stays_below_the_edge_and_near_it(curvature):
    found = find_lr(optax.sgd, jnp.ones(()), lambda theta, scale: curvature * scale * theta**2 / 2, [jnp.ones(())])
    assert 0.05 / curvature < found.lr < 2 / curvature
    for lr in GRID:
        assert (found.status[lr] == "trained") or lr > 2 / curvature or lr < 0.1 / curvature
    assert {found.status[lr] for lr in GRID if lr > 2.5 / curvature} <= {"did not train", "diverged"}


def test_the_losses_are_those_of_training_at_each_learning_rate():
    batches = data()
    found = find_lr(inna, PARAMS, loss, lambda _: batches, grid=[0.01, 0.1], steps=48)
    for lr, losses in found.losses.items():
        transformation, params = inna(lr), PARAMS
        state = transformation.init(params)
        for number, expected in enumerate(losses):
            value, grads = jax.value_and_grad(loss)(params, batches[number % len(batches)])
            assert expected == pytest.approx(float(value), rel=1e-5)
            updates, state = transformation.update(grads, state, params)
            params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    "optimizer",
    [
        inna,
        lambda lr: inna(lr, alpha=0.1, loss_bound=0.0),
        lambda lr: optax.chain(optax.clip_by_global_norm(1.0), innaprop(lr)),
        lambda lr: optax.adam(optax.linear_schedule(lr, 0.0, 100)),
        optax.contrib.momo,
        optax.contrib.schedule_free_adamw,
    ],
)
def test_any_optimizer_races_and_the_result_is_repeated(optimizer):
    results = [find_lr(optimizer, PARAMS, loss, data(), grid=[0.01, 0.1, 1.0], steps=60) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].steps == sum(results[0].table.steps)


def test_a_list_is_shuffled_by_the_seed_and_a_function_is_given_it():
    def order(seed, batches):
        seen = []
        race = _TreeRace(optax.sgd, PARAMS, loss, batches, seed, None, None)
        for epoch in range(2):
            seen += [float(batch[1].sum()) for batch in race.epoch(epoch)]
        return seen

    sums = [float(batch[1].sum()) for batch in data()]
    first = order(0, data())
    assert first == order(0, data())
    assert sorted(first) == sorted(2 * sums)
    assert first[:6] != first[6:]
    assert first != order(1, data())
    seeds = []
    order(5, lambda seed: seeds.append(seed) or data())
    assert seeds == [5, 6]


@pytest.mark.filterwarnings("ignore:no learning rate")
def test_all_candidates_get_the_same_keys():
    def noisy(params, batch, key):
        return loss(params, batch) + jax.random.uniform(key)

    found = find_lr(optax.sgd, PARAMS, noisy, data(), grid=[1e-9, 2e-9], steps=24, key=jax.random.key(0))
    noise = np.diff(found.losses[1e-9])
    assert np.abs(noise).max() > 0.1
    np.testing.assert_allclose(noise, np.diff(found.losses[2e-9]), rtol=1e-4)


def test_getting_to_chance_is_not_training():
    def far(theta, batch):  # falls from 9 to 1, which is its smallest value
        return 1.0 + 0 * batch + (theta - 3.0) ** 2 * 8 / 9

    settings = {"grid": [0.1, 0.3], "steps": 200}
    assert find_lr(optax.sgd, jnp.zeros(()), far, [jnp.ones(())], **settings).status[0.3] == "trained"
    with pytest.warns(UserWarning, match="no learning rate of the grid gets the loss below chance"):
        assert find_lr(optax.sgd, jnp.zeros(()), far, [jnp.ones(())], chance=1.0, **settings).chance == 1.0


def test_of_the_default_grid_what_the_optimizer_refuses_is_left_out():
    def guarded(lr):
        return inna(lr, loss_bound=0.0)  # α γ must be <= 1

    with pytest.warns(UserWarning, match=r"3\.16 and above are left out of the grid"):
        found = find_lr(guarded, PARAMS, loss, data())
    assert max(found.losses) <= 2
    with pytest.raises(ValueError, match="alpha"):
        find_lr(guarded, PARAMS, loss, data(), grid=[0.1, 1.0, 3.0])


def stubborn(lr):
    return optax.sgd(lr if lr > 0 else 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [0.1]}, "grid must have at least two learning rates"),
        ({"steps": 10}, "steps must be a whole number >= 24"),
        ({"batches": []}, "batches is empty"),
        ({"batches": iter(data())}, "each time it is iterated"),
        ({"chance": math.nan}, "chance must be a finite number"),
        ({"optimizer": stubborn}, "optimizer must accept a traced learning rate"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments_are_refused(changes, message):
    given = {"optimizer": optax.sgd, "batches": data(), "grid": [0.01, 0.1], "steps": 60} | changes
    with pytest.raises(ValueError, match=message):
        find_lr(params=PARAMS, loss=loss, **given)


def test_a_race_knows_nothing_of_candidates_of_another():
    race = _TreeRace(optax.sgd, PARAMS, loss, data(), 0, None, None)
    run_races(race, [0.01, 0.1], 48)
    again = race.again(1)
    assert not again.losses
    assert not again.control
