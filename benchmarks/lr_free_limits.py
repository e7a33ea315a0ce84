"""Where INNAprop without a learning rate is weak: small and large batches, spikes, and a change of data.

    python benchmarks/lr_free_limits.py            tables, a few minutes on one core
    python benchmarks/lr_free_limits.py --seeds 1

Data sets of scikit-learn, nothing tuned. Adam at its default learning rate is beside it. "Largest distance from the
start" is what d estimates: the largest of all |theta - theta_0| at the end. "Worst" is the largest loss of an epoch,
over that of the first epoch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor

from inna.torch import INNAprop, INNApropLRFree

EPOCHS = 30
BATCHES = (8, 32, 128, 1024)


@dataclass
class Task:
    """Inputs, targets, a network and its loss."""

    inputs: Tensor  # (samples, features)
    targets: Tensor  # (samples,)
    model: torch.nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]


@dataclass
class Found:
    """What a run found."""

    losses: list[float]
    distances: list[float]
    moved: float


def make(name: str, seed: int) -> Task:
    """A task with a network of one hidden layer, whose weights follow from the seed."""
    load, classes = {
        "digits": (load_digits, 10),
        "breast cancer": (load_breast_cancer, 2),
        "diabetes": (load_diabetes, 1),
    }[name]
    data = load()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)
    targets = torch.tensor(data.target)
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(inputs.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, classes))
    if classes > 1:
        return Task(inputs, targets, model, torch.nn.functional.cross_entropy)
    targets = ((targets - targets.mean()) / targets.std()).float()[:, None]
    return Task(inputs, targets, model, torch.nn.functional.mse_loss)


def train(task: Task, optimizer: torch.optim.Optimizer, batch: int, seed: int, *, decay: bool, epochs: int) -> Found:
    """Train, and return the mean loss of each epoch's batches."""
    generator = torch.Generator().manual_seed(seed)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    starts = [param.detach().clone() for param in params]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0 if decay else 1.0, total_iters=epochs)
    found = Found([], [], 0.0)
    for _ in range(epochs):
        total, order = 0.0, torch.randperm(len(task.inputs), generator=generator)
        for rows in order.split(batch):
            optimizer.zero_grad()
            loss = task.loss(task.model(task.inputs[rows]), task.targets[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        found.losses.append(total / len(order))
        if isinstance(optimizer, INNApropLRFree):
            found.distances.append(optimizer.distance)
        schedule.step()
    found.moved = max(float((param.detach() - start).abs().max()) for param, start in zip(params, starts, strict=True))
    return found


def batches(seeds: int) -> None:
    """Print the losses by the size of the batch."""
    print(
        "| task | batch | optimizer | last loss | worst | d, first epoch | d, last | largest distance from the start |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for name in ("digits", "breast cancer", "diabetes"):
        for batch in BATCHES:
            for kind, decay in (("lr_free", False), ("lr_free, linear to 0", True), ("Adam", False)):
                runs = []
                for seed in range(seeds):
                    task = make(name, seed)
                    params = list(task.model.parameters())
                    optimizer = torch.optim.Adam(params) if kind == "Adam" else INNAprop.lr_free(params)
                    runs.append(train(task, optimizer, batch, seed, decay=decay, epochs=EPOCHS))
                last = statistics.mean(run.losses[-1] for run in runs)
                worst = max(max(run.losses) / run.losses[0] for run in runs)
                row = [name, batch, kind, f"{last:.4f}", f"{worst:.2f}"]
                if kind == "Adam":
                    row += ["", ""]
                else:
                    row += [f"{statistics.mean(run.distances[i] for run in runs):.4f}" for i in (0, -1)]
                print(
                    "|",
                    " | ".join([*map(str, row), f"{statistics.mean(run.moved for run in runs):.3f}"]),
                    "|",
                    flush=True,
                )


def changes(seeds: int) -> None:
    """Print what becomes of a trained network whose data change."""
    print("\n| change of data after 30 epochs | optimizer | before | first epoch after | 30 epochs after |")
    print("|---|---|---:|---:|---:|")
    for change in ("the classes are permuted", "the inputs are ten times as large"):
        for kind in ("lr_free", "lr_free, made anew", "Adam"):
            before, first, last = [], [], []
            for seed in range(seeds):
                task = make("digits", seed)
                params = list(task.model.parameters())
                optimizer = torch.optim.Adam(params) if kind == "Adam" else INNAprop.lr_free(params)
                before.append(train(task, optimizer, 32, seed, decay=False, epochs=EPOCHS).losses[-1])
                if change.startswith("the classes"):
                    task.targets = (task.targets + 3) % 10
                else:
                    task.inputs = 10 * task.inputs
                if kind.endswith("anew"):
                    optimizer = INNAprop.lr_free(params)
                after = train(task, optimizer, 32, seed + 100, decay=False, epochs=EPOCHS).losses
                first.append(after[0])
                last.append(after[-1])
            means = (statistics.mean(values) for values in (before, first, last))
            print("|", change, "|", kind, "|", *(f"{mean:.4f} |" for mean in means))


def spikes(seeds: int) -> None:
    """Print what one gradient a thousand times as large does to d and to the loss."""
    print(
        "\n| one gradient 1,000 times as large at step | d before | d after | loss of the epoch before | of it | last |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for at in (5, 300):
        rows = []
        for seed in range(seeds):
            task = make("digits", seed)
            params = list(task.model.parameters())
            optimizer = INNAprop.lr_free(params)
            distances: list[float] = []

            def spike(
                each: torch.optim.Optimizer, *_: object, at: int = at, distances: list[float] = distances
            ) -> None:
                distances.append(float(each.param_groups[0]["distance"]))
                for param in each.param_groups[0]["params"] if len(distances) == at else ():
                    param.grad.mul_(1000)

            optimizer.register_step_pre_hook(spike)
            losses = train(task, optimizer, 32, seed, decay=False, epochs=EPOCHS).losses
            epoch = at // 57  # steps of an epoch
            rows.append((distances[at - 1], distances[at], losses[max(0, epoch - 1)], losses[epoch], losses[-1]))
        print("|", at, "|", *(f"{statistics.mean(column):.4g} |" for column in zip(*rows, strict=True)))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of the weights and the order of the data (%(default)s)")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    batches(seeds)
    changes(seeds)
    spikes(seeds)


if __name__ == "__main__":
    main()
