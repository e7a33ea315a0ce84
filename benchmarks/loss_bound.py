"""Wrong bounds of the loss for the guarded INNA, on least squares with noise, whose smallest loss is known.

    python benchmarks/loss_bound.py            a table, a few seconds on one core
    python benchmarks/loss_bound.py --epochs 200

512 samples in 16 unknowns, noise of variance 1/4, batches of 32, five seeds. Printed is the mean loss over all samples
in the last ten epochs, in units of the smallest loss f. The rule is that of `inna.dynamics`, on all runs at once.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from inna import dynamics

SAMPLES, UNKNOWNS, BATCH, LAST, SEEDS = 512, 16, 32, 10, 5
NO_GUARD = -1e30
BOUNDS = (NO_GUARD, -1.0, 0.0, 0.5, 0.9, 1.0, 1.5, 2.0, 4.0)  # in units of f
FREE = dynamics.INNA_LR_FREE_DEFAULTS
INNA = dynamics.INNA_DEFAULTS
# Label: lr, alpha, beta, time step, and whether lr is a factor of the cap by the distance.
KINDS = {f"INNA, γ = {lr:g}": (lr, INNA.alpha, INNA.beta, lr, False) for lr in (0.1, 0.5, 2.0)}
KINDS["INNA.lr_free"] = (FREE.lr, FREE.alpha, FREE.beta, dynamics.LR_FREE_TIME_STEP / FREE.alpha, True)

Array = NDArray[np.float64]


def problem(seed: int) -> tuple[Array, Array, float]:
    """Return inputs (samples, unknowns), targets (samples,) and the smallest loss."""
    rng = np.random.default_rng(seed)
    inputs, solution = rng.normal(size=(SAMPLES, UNKNOWNS)), rng.normal(size=UNKNOWNS)
    targets = inputs @ solution + rng.normal(size=SAMPLES) / 2
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return inputs, targets, float(((inputs @ best - targets) ** 2).mean())


def losses(seed: int, epochs: int) -> Array:
    """Return the mean losses of the last epochs over the smallest one, (bounds, kinds)."""
    inputs, targets, smallest = problem(seed)
    lr, alpha, beta, time_step, by_distance = (np.array(column) for column in zip(*KINDS.values(), strict=True))
    bound = smallest * np.array(BOUNDS)[:, None]
    theta = np.zeros((len(BOUNDS), len(KINDS), UNKNOWNS))
    momentum, memory = np.zeros_like(theta), dynamics.NO_MEMORY
    distance, squares = np.full(theta.shape[:2], dynamics.LR_FREE_DISTANCE), np.zeros(theta.shape[:2])
    rng, found = np.random.default_rng(seed), []
    for epoch in range(epochs):
        for rows in np.split(rng.permutation(SAMPLES), SAMPLES // BATCH):
            error = theta @ inputs[rows].T - targets[rows]
            loss, grad = (error**2).mean(-1), 2 / BATCH * error @ inputs[rows]
            distance = np.maximum(distance, np.sqrt((theta**2).sum(-1)))
            squares += (grad**2).sum(-1)
            length = np.where(by_distance, dynamics.distance_cap(distance, squares, lr), lr)
            average = momentum + beta[:, None] * grad
            products = (momentum * theta).sum(-1), (average**2).sum(-1)
            factor = dynamics.guard_factor([dynamics.guard_terms(memory, loss, *products, length, beta)], bound)
            memory = dynamics.update_memory(memory, loss, (grad * theta).sum(-1), time_step, alpha, beta)
            columns = (value[..., None] for value in (length * factor, alpha, beta, time_step))
            theta, momentum = dynamics.step(theta, momentum, grad, *columns)
        if epoch >= epochs - LAST:
            found.append(((theta @ inputs.T - targets) ** 2).mean(-1) / smallest)
    return np.mean(found, 0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="passes over the samples (%(default)s)")
    epochs = parser.parse_args().epochs
    with np.errstate(all="ignore"):
        found = np.exp(np.mean([np.log(losses(seed, epochs)) for seed in range(SEEDS)], 0))
    print("| bound, in f |", " | ".join(KINDS), "|")
    print("|---:|" + "---:|" * len(KINDS))
    for bound, row in zip(BOUNDS, found, strict=True):
        cells = [f"{loss:.3g}" if loss < 1e4 else "diverges" for loss in row]
        print("|", "no guard" if bound == NO_GUARD else f"{bound:g}", "|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
