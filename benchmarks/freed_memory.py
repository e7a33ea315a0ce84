"""Time of a run on the CPU that keeps freed memory, over that of one that returns it to the system.

    python benchmarks/freed_memory.py
    python benchmarks/freed_memory.py --widths 0.333 1 --rounds 9

Two processes take turns: one as Python starts it, one after `keep_freed_memory`. Each round both do the same run of
three epochs: Network in Network on random images of CIFAR-10's shape, with a test set of a fifth. The result is the
median of the rounds' ratios and their range, for training alone and for an epoch with its evaluation. The losses must
be equal.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection

import torch
from torch import nn

from inna.experiments import Run, Task
from inna.experiments.tasks.catalogue import with_width
from inna.experiments.tasks.networks import network_in_network
from inna.experiments.training.allocation import keep_freed_memory
from inna.experiments.training.train import measure

EPOCHS = 3


def serve(pipe: Connection, width: float, images: int, kept: bool) -> None:
    """Train whenever asked; send training seconds, the epochs' seconds, CPU seconds, page faults, loss."""
    if kept and not keep_freed_memory():
        raise SystemExit("freed memory cannot be kept here")
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(images, 3, 32, 32, generator=generator), torch.randint(10, (images,), generator=generator)
    name = with_width("nin", width)
    task = Task(
        "random",
        lambda: network_in_network(width=width),
        data,
        (data[0][: images // 5], data[1][: images // 5]),
        nn.functional.cross_entropy,
        model_name=name,
        channels_last=True,
    )
    run = Run("random", name, "inna", 0.01, 0.5, 0.1, epochs=EPOCHS)
    marks: list[tuple[float, float, int]] = []

    def mark(entry: object) -> None:
        marks.append((time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt))

    while pipe.recv():
        marks.clear()
        result = measure(run, task, on_epoch=mark)
        first, last = marks[0], marks[-1]  # after the evaluation before training, and after the last
        pipe.send(
            (result["seconds_per_epoch"], *(b - a for a, b in zip(first, last, strict=True)), result["train_loss"])
        )


def compare(width: float, images: int, rounds: int) -> str:
    """Return a line for one width."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for kept in (False, True):
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, width, images, kept), daemon=True).start()
        pipes.append(here)
    taken = []
    for turn in range(rounds + 1):
        both = {}
        for index in (0, 1) if turn % 2 else (1, 0):
            pipes[index].send(True)
            both[index] = pipes[index].recv()
        taken.append((both[0], both[1]))
    for pipe in pipes:
        pipe.send(False)
    assert len({each[4] for pair in taken for each in pair}) == 1, "the losses differ"

    def ratio(column: int) -> str:
        ratios = sorted(returned[column] / kept[column] for returned, kept in taken[1:])
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"

    faults = [statistics.median(pair[index][3] for pair in taken[1:]) for index in (0, 1)]
    return (
        f"{with_width('nin', width)}: times faster, training {ratio(0)}, epoch {ratio(1)}, its CPU time "
        f"{ratio(2)}; page faults {faults[0]:,.0f} and {faults[1]:,.0f}; losses equal"
    )


def main() -> None:
    """Print a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=float, nargs="+", default=[0.333])
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    for width in chosen.widths:
        print(compare(width, chosen.images, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
