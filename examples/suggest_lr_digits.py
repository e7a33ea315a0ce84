"""How good a first guess for gamma_0 the theory gives on digits: `suggest_lr` beside the outcome of tuning.

    python examples/suggest_lr_digits.py [ROWS]

At the initial weights of the tuning seed, on the whole training set, no network trained: the largest stable step size
for the top curvature there. Beside it the constant gamma_0 that the tuning runs of ROWS (default results/digits, made
by `inna compare`) chose, and the largest one of the grid that did not end at chance.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from inna.experiments.rows.row_files import load_rows
from inna.experiments.tasks.datasets import digits
from inna.experiments.tasks.networks import small_cnn
from inna.experiments.tasks.seeds import derive, isolated
from inna.theory.curvature import suggest_lr

CHANCE = 2.0  # below log(10) = 2.30, the training loss of a network that says nothing


def main(folder: Path) -> None:
    rows = load_rows(folder)
    tuning = rows[(rows.optimizer == "inna") & (rows.seed == 0) & (rows.q == 0.0)]
    train, _ = digits()
    with isolated(derive(0, "weights")):
        network = small_cnn()
    print("alpha  beta  top curvature  suggested  tuned (constant)  largest that trains  tuned/suggested")
    for (alpha, beta), runs in tuning.groupby(["alpha", "beta"]):
        suggestion = suggest_lr(network, torch.nn.functional.cross_entropy, train, alpha, beta)
        tuned = runs.loc[runs.train_loss.idxmin(), "lr"]
        largest = runs.loc[runs.train_loss < CHANCE, "lr"].max()
        print(
            f"{alpha:5g} {beta:5g} {suggestion.curvature:14.3g} {suggestion.lr:10.3g} {tuned:17.3g} {largest:20.3g} "
            f"{tuned / suggestion.lr:16.2f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/digits"))
