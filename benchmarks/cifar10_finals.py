"""The paper's protocol on CIFAR-10 with a third of the network's width, at learning rates that were found on a GPU.

    python benchmarks/cifar10_finals.py --minutes 60         continues results/cifar10-nin-w0.333-finals
    inna report results/cifar10-nin-w0.333-finals            its pages

20 epochs on all 50,000 images, three seeds. The learning rates have the lowest training loss after three epochs on
seed 0 in results/cifar10-nin-w0.333-h100, where the grid of `inna reproduce` was trained. For q = 1/4 the two best
differ by 1 %; the smaller one is taken, since the larger stayed at chance in its final run. Each epoch's training loss
is that of the first 10,000 images, at the end that of all.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

from rich.console import Console

from inna.experiments.study.study import Study
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.progress import make_progress
from inna.experiments.sweep.sweep import sweep
from inna.paper.protocol import contenders, protocol_study

LEARNING_RATES = {
    "INNA (0.5, 0.1), q = 1/4": 0.1,
    "INNA (0.5, 0.1)": 0.316,
    "Adam": 0.001,
    "heavy ball": 0.1,
    "SGD": 0.316,
    "AdaGrad": 0.01,
    "INNA (0.1, 0.1)": 0.1,
}


def study(seeds: tuple[int, ...]) -> Study:
    """Return the protocol at the scale medium with these learning rates; tuning is one epoch of each."""
    each = {contender.label: contender for contender in contenders()}
    return dataclasses.replace(
        protocol_study("cifar10", "nin-w0.333", "medium", command="python benchmarks/cifar10_finals.py"),
        contenders=tuple(dataclasses.replace(each[label], grid=(lr,)) for label, lr in LEARNING_RATES.items()),
        tuning_epochs=1,
        seeds=seeds,
        loss_samples=10_000,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/cifar10-nin-w0.333-finals"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=None, help="runs at once (default: one per core)")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so many; the next start resumes")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets (default: the variable INNA_DATA)")
    options = parser.parse_args()
    if options.data_dir is not None:
        os.environ["INNA_DATA"] = str(options.data_dir)
    chosen = SweepOptions(jobs=options.jobs, minutes=options.minutes)
    progress = make_progress(Console())
    _, failures = sweep(study(tuple(options.seeds)), options.out, chosen, progress=progress)
    for failure in failures:
        print(failure)


if __name__ == "__main__":
    main()
