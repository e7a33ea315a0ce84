"""Compare the learning rate proposed by `suggest_lr` on digits with the tuned one.

    python examples/suggest_lr_digits.py [ROWS]

`suggest_lr` returns the largest stable learning rate for the top curvature at the initial weights of the tuning seed,
on the whole training set. No network is trained. The table also shows the constant learning rate chosen by the tuning
runs in ROWS (a folder of `inna compare --grid`, default results/digits-eighths) and the largest one of the grid that
did not end at chance.
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

CHANCE = 2.0  # below log(10) = 2.30, the training loss of a uniform prediction


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
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("results/digits-eighths"))
