"""Training with the state in fewer bytes, beside the spread of the seeds with float32.

    python benchmarks/momentum_bytes.py            a table, a few minutes on one core
    python benchmarks/momentum_bytes.py --seeds 2
    python benchmarks/momentum_bytes.py --tasks "mnist[:10000]" gpt --seeds 3

Data sets of scikit-learn with one hidden layer of 64 for 30 epochs, MNIST's first 10,000 images with LeNet for 5, the
benchmark's small GPT for 30. Batches of 32, a constant learning rate that nobody tuned. The loss is the mean of the
last epoch's batches. With 8 bits, every tensor is in codes here. The optimizers keep small ones in float32.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from lr_free_limits import EPOCHS, Task, make, train

from inna.experiments.tasks.load import load_task
from inna.torch import INNA, INNAprop
from inna.torch.steps import companding

KINDS: dict[str, tuple[type[INNA] | type[INNAprop], dict[str, Any]]] = {
    "INNA (.5, .1), lr 0.03": (INNA, {"lr": 0.03}),
    "INNA (.1, .1), lr 0.01": (INNA, {"lr": 0.01, "alpha": 0.1}),
    "INNAprop, lr 0.001": (INNAprop, {}),
}
STATES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"momentum_dtype": torch.bfloat16},
    "8 bits": {"momentum_bits": 8},
}
LOADED = {"mnist[:10000]": ("mnist[:10000]", 5), "gpt": ("inna.experiments.benchmark.tasks.text:gpt", 30)}
SMALL = ("digits", "breast cancer", "diabetes")


def make_any(name: str, seed: int) -> Task:
    """The task of a name, with weights that follow from the seed."""
    if name in SMALL:
        return make(name, seed)
    task, _ = load_task(LOADED[name][0])
    torch.manual_seed(seed)
    inputs, targets = task.train
    return Task(inputs, targets, task.model(), task.loss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES))
    parser.add_argument("--tasks", nargs="+", choices=[*SMALL, *LOADED], default=list(SMALL))
    parser.add_argument("--optimizers", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    companding.SMALLEST = 1
    print("| task | optimizer | state | last loss: mean | smallest | largest |")
    print("|---|---|---|---:|---:|---:|")
    for name in arguments.tasks:
        epochs = LOADED[name][1] if name in LOADED else EPOCHS
        for title in arguments.optimizers:
            kind, settings = KINDS[title]
            for state in arguments.states:
                losses = []
                for seed in range(arguments.seeds):
                    task = make_any(name, seed)
                    optimizer = kind(task.model.parameters(), **settings, **STATES[state], rounding_seed=seed)
                    losses.append(train(task, optimizer, 32, seed, decay=False, epochs=epochs).losses[-1])
                numbers = " | ".join(f"{value:.4f}" for value in (statistics.mean(losses), min(losses), max(losses)))
                print(f"| {name} | {title} | {state} | {numbers} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
