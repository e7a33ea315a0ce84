"""Compare the learning rates that find_lr chooses with an exhaustive grid, on eight tasks and three optimizers.

    python benchmarks/find_lr.py --out runs/find-lr            # all of it: 1 to 2 hours on one core
    python benchmarks/find_lr.py --out runs/find-lr --tasks digits-cnn,diabetes

The grid: half-decades, then the eighth-decades within half a decade of the best (Network in Network: half-decades
only; it and LeNet-5 on MNIST: two decades of them). Each learning rate is constant; its loss is the training loss after
the last epoch, geometric mean of the seeds.
find_lr sees other weights and another order of the data (seed 0) than the trainings. Trainings are kept in
FOLDER/trainings.jsonl, so that a stopped command is continued by running it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.networks import mlp
from inna.experiments.training.allocation import keep_freed_memory
from inna.learning_rate_race import GRID
from inna.torch import INNA, find_lr

BATCH = 32
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "inna": INNA,
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


@dataclass
class Problem:
    """A network, training data (inputs, targets), a loss, epochs, and the seeds of the trainings."""

    model: Callable[[], nn.Module]
    data: tuple[Tensor, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    seeds: tuple[int, ...] = (1, 2)
    fine: bool = True
    decades: tuple[float, float] = (-3.0, 1.0)

    @property
    def steps(self) -> int:
        return self.epochs * math.ceil(len(self.data[0]) / BATCH)


class Batches:
    """Random batches in a new order in each epoch."""

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.randperm(len(self.data[0])).split(BATCH):
            yield self.data[0][chosen], self.data[1][chosen]


def digits(model: Callable[[], nn.Module] | None = None, scale: float = 1.0, smoothing: float = 0.0) -> Problem:
    task = load_task("digits")[0]
    inputs, targets = task.train
    loss = partial(nn.functional.cross_entropy, label_smoothing=smoothing)
    return Problem(model or task.model, (inputs * scale, targets), loss, 30)


def breast_cancer() -> Problem:
    x, y = load_breast_cancer(return_X_y=True)
    inputs = torch.as_tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    return Problem(partial(mlp, (30,), 2), (inputs, torch.as_tensor(y)), nn.functional.cross_entropy, 60)


def diabetes() -> Problem:
    path = Path(__file__).parents[1] / "examples/diabetes.py"
    spec = importlib.util.spec_from_file_location("diabetes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task = module.make_task()
    return Problem(task.model, task.train, task.loss, 60)


def images(name: str, network: str, **settings: Any) -> Problem:
    task = load_task(name, model=network)[0]
    inputs, targets = task.train
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Problem(lambda: task.model().to(memory_format=torch.channels_last), (inputs, targets), task.loss, **settings)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits-cnn": digits,
    "digits-mlp": lambda: digits(partial(mlp, (1, 8, 8), 10)),
    "raw-pixels": lambda: digits(partial(mlp, (1, 8, 8), 10), scale=16.0),
    "label-smoothing": lambda: digits(partial(mlp, (1, 8, 8), 10), smoothing=0.1),
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "mnist": lambda: images("mnist[:10000]", "lenet5", epochs=5, seeds=(1,), decades=(-2.0, 0.0)),
    "nin": lambda: images("cifar10[:10000]", "nin-w0.333", epochs=3, seeds=(1,), fine=False, decades=(-2.0, 0.0)),
}


def train(problem: Problem, optimizer: Callable[..., torch.optim.Optimizer], lr: float, seed: int) -> float:
    """Train, and return the training loss at the end; infinite if it diverged."""
    torch.manual_seed(seed)
    model = problem.model()
    steps = optimizer(model.parameters(), lr=lr)
    for _ in range(problem.epochs):
        for inputs, targets in Batches(problem.data):
            steps.zero_grad()
            value = problem.loss(model(inputs), targets)
            value.backward()
            steps.step()
        if not torch.isfinite(value):
            return math.inf
    model.eval()
    total = 0.0
    with torch.no_grad():
        for inputs, targets in zip(*(part.split(1000) for part in problem.data), strict=True):
            total += float(problem.loss(model(inputs), targets)) * len(inputs)
    return total / len(problem.data[0]) if math.isfinite(total) else math.inf


class Trainings:
    """The trainings that are done, in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "trainings.jsonl"
        rows = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        self.done = {(row["task"], row["optimizer"], row["lr"], row["seed"]): row["loss"] for row in rows}

    def loss(self, task: str, problem: Problem, optimizer: str, lr: float) -> float:
        """Return the geometric mean of the losses of all seeds; trains where they are missing."""
        losses = []
        for seed in problem.seeds:
            key = (task, optimizer, lr, seed)
            if key not in self.done:
                self.done[key] = train(problem, OPTIMIZERS[optimizer], lr, seed)
                row = {"task": task, "optimizer": optimizer, "lr": lr, "seed": seed, "loss": self.done[key]}
                with self.path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            losses.append(self.done[key])
            if not math.isfinite(losses[-1]):
                return math.inf
        return statistics.geometric_mean(losses)

    def exhaustive(self, task: str, problem: Problem, optimizer: str) -> dict[float, float]:
        """Return learning rate -> loss: half-decades, and eighth-decades around the best."""
        low, high = (round(2 * end) - (3 if optimizer == "adam" else 0) for end in problem.decades)
        losses = {e: self.loss(task, problem, optimizer, rate(e)) for e in (i / 2 for i in range(low, high + 1))}
        if problem.fine:
            best = min(losses, key=losses.__getitem__)
            losses |= {e: self.loss(task, problem, optimizer, rate(e)) for e in (best + i / 8 for i in range(-4, 5))}
        return {rate(e): loss for e, loss in losses.items()}


def rate(exponent: float) -> float:
    return float(f"{10**exponent:.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--tasks", default=",".join(PROBLEMS), help="separated by commas")
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="separated by commas")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    trainings = Trainings(options.out)
    ratios = []
    print("| task | optimizer | best | its loss | found | its loss | ratio | steps | share |\n|---|---|" + "---:|" * 7)
    for task in options.tasks.split(","):
        problem = PROBLEMS[task]()
        for name in options.optimizers.split(","):
            grid = trainings.exhaustive(task, problem, name)
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = find_lr(OPTIMIZERS[name], problem.model(), problem.loss, Batches(problem.data), grid=GRID)
            best = min(grid, key=grid.__getitem__)
            loss = trainings.loss(task, problem, name, found.lr)
            ratios.append(loss / grid[best])
            share = found.steps / problem.steps
            print(
                f"| {task} | {name} | {best:.3g} | {grid[best]:.2g} | {found.lr:.3g} | {loss:.2g} | "
                f"{ratios[-1]:.2f} | {found.steps} | {share:.0%} |",
                flush=True,
            )
    print(f"\ngeometric mean of the ratios {statistics.geometric_mean(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
