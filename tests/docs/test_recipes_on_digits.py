"""Every setting that README and the guides name trains a network on digits, to a loss below that in a table.

A setting that is new on a page needs a line in tests/data/recipe_losses.json.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

import inna.torch
from inna.dynamics import from_sgd
from inna.experiments.tasks.datasets import digits
from inna.schedules import hold_decay, power_decay
from keras_backends import BACKENDS, in_a_process
from recipes import recipes

EPOCHS, BATCH = 10, 32
# Framework -> recipe -> the training loss after ten epochs must be below this; chance is 2.30.
LOSSES = json.loads((Path(__file__).parents[1] / "data" / "recipe_losses.json").read_text(encoding="utf-8"))
# Recipes that are not for training a network on digits, and why.
ELSEWHERE = {
    "torch": {
        "INNA(params, lr=0.1, alpha=0.5, beta=1.0, maximize=True)",  # ascends
        "INNA(params, lr=torch.tensor(0.1, device='cuda'))",  # needs a GPU
        # needs smoothed labels
        (
            "INNA(params, lr=1.0, loss_bound=-(torch.full((classes,), smoothing / classes, dtype=torch.float64) * "
            "torch.full((classes,), smoothing / classes, dtype=torch.float64).log()).sum().item())"
        ),
    },
    "optax": {
        "innaprop(learning_rate, weight_decay=0.0)",  # minimises Rosenbrock's function
        "inna(find_lr(inna, params, batch_loss, batches, chance=np.log(3)).lr)",  # finds its rate on the page's data
    },
    "keras": {
        # the same
        (
            "INNA(find_lr(INNA, model, keras.losses.SparseCategoricalCrossentropy(from_logits=True), batches, "
            "**{'grid': [0.01, 0.1, 1.0], 'steps': 60, 'chance': np.log(3)}).lr)"
        ),
    },
}


@pytest.mark.parametrize("framework", LOSSES)
def test_the_table_has_every_recipe_of_the_pages(framework):
    assert set(LOSSES[framework]) | ELSEWHERE[framework] == recipes(framework)


@functools.cache
def data():
    (images, labels), _ = digits()
    return images.flatten(1), labels


@pytest.mark.parametrize(("recipe", "loss"), LOSSES["torch"].items())
def test_torch(recipe, loss):
    inputs, labels = data()
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.Tanh(), torch.nn.Linear(64, 10)
    model = torch.nn.Sequential(*layers)
    order = [rows for _ in range(EPOCHS) for rows in torch.randperm(len(inputs)).split(BATCH)]
    names = {name: getattr(inna.torch, name) for name in inna.torch.__all__}
    names |= {
        "torch": torch,
        "power_decay": power_decay,
        "hold_decay": hold_decay,
        "model": model,
        "params": list(model.parameters()),
    }
    names |= {"steps": len(order), "batches": [(inputs[rows], labels[rows]) for rows in order[:45]]}
    constructor, _, scheduler = recipe.partition("; ")
    optimizer = names["optimizer"] = eval(constructor, names)
    schedule = eval(scheduler, names) if scheduler else None
    guarded = optimizer.param_groups[0].get("loss_bound") is not None
    for rows in order:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
        value.backward()
        optimizer.step(**({"loss": value} if guarded else {}))
        if schedule:
            schedule.step()
    with torch.no_grad():
        assert torch.nn.functional.cross_entropy(model(inputs), labels) < loss


@pytest.mark.parametrize(("recipe", "loss"), LOSSES["optax"].items())
def test_optax(recipe, loss):
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    import inna.optax

    inputs, labels = (jax.numpy.asarray(tensor.numpy()) for tensor in data())
    torch.manual_seed(0)
    order = torch.stack([rows for _ in range(EPOCHS) for rows in torch.randperm(len(inputs)).split(BATCH)[:-1]])
    first, second = (jax.numpy.asarray(torch.randn(64, n).mul(32**-0.5).numpy()) for n in (64, 10))
    params = {"weight": (first, second), "bias": (jax.numpy.zeros(64), jax.numpy.zeros(10))}
    names = {name: getattr(inna.optax, name) for name in inna.optax.__all__}
    names |= {"jax": jax, "jnp": jax.numpy, "optax": optax, "functools": functools, "steps": len(order)}
    names |= {"power_decay": power_decay, "hold_decay": hold_decay, "from_sgd": from_sgd}
    optimizer = optax.with_extra_args_support(eval(recipe, names))

    def cross_entropy(params, inputs, labels):
        hidden = jax.nn.relu(inputs @ params["weight"][0] + params["bias"][0])
        logits = hidden @ params["weight"][1] + params["bias"][1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, rows):
        params, state = carry
        value, grads = jax.value_and_grad(cross_entropy)(params, inputs[rows], labels[rows])
        updates, state = optimizer.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    train = jax.jit(functools.partial(jax.lax.scan, step))
    (params, _), _ = train((params, optimizer.init(params)), order.numpy())
    assert cross_entropy(params, inputs, labels) < loss


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("backend", BACKENDS[:1])
def test_keras(backend, half, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiling takes longer than training
    table = dict(list(LOSSES["keras"].items())[half::2])
    done = in_a_process(backend, str(Path(__file__).parents[1] / "keras_recipes.py"), json.dumps(list(table)))
    assert done.returncode == 0, done.stderr
    losses = json.loads(done.stdout)
    assert {recipe: losses[recipe] for recipe, loss in table.items() if not losses[recipe] < loss} == {}
