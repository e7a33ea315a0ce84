"""INNA in Flax NNX on scikit-learn's digits with the paper's schedule, saved every epoch by Orbax and resumed.

    pip install flax scikit-learn
    python examples/flax_nnx_digits.py

`nnx.Optimizer` accepts `inna` like any Optax transformation.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint
from flax import nnx
from sklearn.datasets import load_digits

from inna.optax import inna
from inna.schedules import power_decay

BATCH = 128


class Classifier(nnx.Module):
    """A network with one hidden layer."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.hidden, self.last = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.hidden(x)))


def transformation() -> optax.GradientTransformationExtraArgs:
    rule = power_decay(0.25)
    return optax.chain(
        optax.clip_by_global_norm(5.0), inna(lambda k: 0.5 * rule(k), alpha=0.5, beta=0.5, max_learning_rate=0.5)
    )


def digits() -> tuple[jax.Array, jax.Array]:
    """The digits as flat arrays in [0, 1], and their labels."""
    x, y = load_digits(return_X_y=True)
    return jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)


@nnx.jit
def step(model: Classifier, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> None:
    def loss(model: Classifier) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))


def train(folder: Path, resume_from: Path | None = None, done: int = 0) -> Classifier:
    """Train to epoch 3, from ``resume_from`` after ``done`` epochs; save a checkpoint per epoch in ``folder``."""
    model = Classifier()
    optimizer = nnx.Optimizer(model, transformation(), wrt=nnx.Param)
    x, y = digits()
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        if resume_from is not None:
            nnx.update((model, optimizer), checkpointer.restore(resume_from, nnx.state((model, optimizer))))
        for epoch in range(done, 3):
            for i in range(0, len(x) - BATCH + 1, BATCH):
                step(model, optimizer, x[i : i + BATCH], y[i : i + BATCH])
            checkpointer.save(folder.resolve() / f"epoch-{epoch}", nnx.state((model, optimizer)))
    return model


def main(folder: Path) -> None:
    whole = train(folder / "whole")
    resumed = train(folder / "resumed", resume_from=(folder / "whole" / "epoch-0").resolve(), done=1)
    same = all(jax.tree.leaves(jax.tree.map(jnp.array_equal, nnx.state(whole), nnx.state(resumed))))
    x, y = digits()
    print(
        f"training accuracy {(whole(x).argmax(1) == y).mean():.2f}; resumed after one epoch, the same weights: {same}"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
