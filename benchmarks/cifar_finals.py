"""The paper's protocol on CIFAR-10 and CIFAR-100 with a third of the network's width, as far as two cores take it.

    python benchmarks/cifar_finals.py cifar10 --minutes 60         continues results/cifar10-nin-w0.333-bfloat16
    python benchmarks/cifar_finals.py cifar100 --minutes 60        continues results/cifar100-nin-w0.333-bfloat16
    python benchmarks/cifar_finals.py cifar10 --initial-speed 0.1  continues ...-bfloat16-speed0.1
    inna report results/cifar10-nin-w0.333-bfloat16                its pages

CIFAR-10: 20 epochs on all 50,000 images, three seeds. The learning rates have the lowest training loss after three
epochs on seed 0 in results/cifar10-nin-w0.333-h100, where the grid of `inna reproduce` was trained. For q = 1/4 the two
best differ by 1 %; the smaller one is taken, since the larger stayed at chance in its final run.

CIFAR-100: 50 epochs, two seeds; the paper's claim shows only after epoch 20. The learning rate of each is the best of
CIFAR-10's and its two neighbours on the grid, after three epochs on the tuning seed.

With `--initial-speed 0.1` INNA starts at the velocity of its authors' code, -beta grad, in place of the paper's, -grad,
and its learning rate is tuned as for CIFAR-100. The other optimizers' rows are those without this option.

INNAprop.lr_free has no learning rate to tune and decays to zero. Each epoch's training loss is that of the first 10,000
images, at the end that of all. In bfloat16, the layers alone are, and training takes half of the time of float32
(`--precision float32`, results/cifar10-nin-w0.333-finals): 14 minutes of a core for 20 epochs.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from inna.experiments.study.study import Study
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.progress import make_progress
from inna.experiments.sweep.sweep import sweep
from inna.paper.protocol import ADAPTIVE_GRID, INITIAL_SPEED, LR_FREE, NON_ADAPTIVE_GRID, contenders, protocol_study

MODEL = "nin-w0.333"
HALF_DECADES = tuple(sorted({*ADAPTIVE_GRID, *NON_ADAPTIVE_GRID}))
CIFAR10 = {
    "INNA (0.5, 0.1), q = 1/4": 0.1,
    "INNA (0.5, 0.1)": 0.316,
    "Adam": 0.001,
    "heavy ball": 0.1,
    "SGD": 0.316,
    "AdaGrad": 0.01,
    "INNA (0.1, 0.1)": 0.1,
}
CIFAR100 = [label for label in CIFAR10 if label not in ("heavy ball", "INNA (0.1, 0.1)")]


class Protocol(NamedTuple):
    """What is trained on one data set: the learning rates of each optimizer, and the lengths."""

    grids: dict[str, tuple[float, ...]]
    tuning_epochs: int
    epochs: int
    seeds: tuple[int, ...]


def protocol(dataset: str) -> Protocol:
    """Return the protocol of a data set, cifar10 or cifar100."""
    if dataset == "cifar10":
        return Protocol({label: (lr,) for label, lr in CIFAR10.items()}, tuning_epochs=1, epochs=20, seeds=(1, 2, 3))
    return Protocol(
        {label: _neighbours(CIFAR10[label]) for label in CIFAR100}, tuning_epochs=3, epochs=50, seeds=(1, 2)
    )


def study(
    dataset: str,
    precision: str,
    seeds: tuple[int, ...] = (),
    speed: float = INITIAL_SPEED,
    optimizers: tuple[str, ...] = (),
) -> Study:
    """Return the study of a data set; in float32 without INNAprop.lr_free, whose runs are elsewhere."""
    chosen = protocol(dataset)
    given = [] if precision == "bfloat16" else [f"--precision {precision}"]
    if speed != INITIAL_SPEED:
        chosen = chosen._replace(tuning_epochs=3)
        given.append(f"--initial-speed {speed:g}")
    each = {contender.label: contender for contender in contenders(initial_speed=speed)}
    taking_part = []
    for label, grid in chosen.grids.items():
        retuned = each[label].optimizer == "inna" and speed != INITIAL_SPEED
        taking_part.append(dataclasses.replace(each[label], grid=_neighbours(CIFAR10[label]) if retuned else grid))
    if precision == "bfloat16":
        taking_part.append(LR_FREE)
    taking_part = [contender for contender in taking_part if not optimizers or contender.label in optimizers]
    labels = [contender.label for contender in taking_part]
    if not labels:
        raise SystemExit(f"none of {', '.join(optimizers)} is in the study of {dataset} in {precision}")
    return dataclasses.replace(
        protocol_study(dataset, MODEL, "medium", precision=precision),
        contenders=tuple(taking_part),
        reference="SGD" if "SGD" in labels else labels[-1],
        tuning_epochs=chosen.tuning_epochs,
        epochs=chosen.epochs,
        seeds=seeds or chosen.seeds,
        loss_samples=10_000,
        command=" ".join(["python benchmarks/cifar_finals.py", dataset, *given]),
    )


def _neighbours(lr: float) -> tuple[float, ...]:
    place = HALF_DECADES.index(lr)
    return HALF_DECADES[place - 1 : place + 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("cifar10", "cifar100"))
    parser.add_argument("--initial-speed", type=float, default=INITIAL_SPEED, help="of INNA (default: %(default)s)")
    parser.add_argument("--optimizers", nargs="+", default=[], choices=[*CIFAR10, LR_FREE.label], metavar="LABEL")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/DATASET-nin-w0.333-...)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="default: three, two for CIFAR-100")
    parser.add_argument("--jobs", type=int, default=None, help="runs at once (default: one per core)")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so many; the next start resumes")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets (default: the variable INNA_DATA)")
    options = parser.parse_args()
    if options.data_dir is not None:
        os.environ["INNA_DATA"] = str(options.data_dir)
    ending = "finals" if options.precision == "float32" else options.precision
    if options.initial_speed != INITIAL_SPEED:
        ending += f"-speed{options.initial_speed:g}"
    out = options.out or Path(f"results/{options.dataset}-{MODEL}-{ending}")
    chosen = SweepOptions(jobs=options.jobs, minutes=options.minutes)
    seeds, optimizers = tuple(options.seeds), tuple(options.optimizers)
    planned = study(options.dataset, options.precision, seeds, options.initial_speed, optimizers)
    _, failures = sweep(planned, out, chosen, progress=make_progress(Console()))
    for failure in failures:
        print(failure)


if __name__ == "__main__":
    main()
