"""Tasks with a dial, for the hypotheses on where INNA wins and where it loses in docs/benchmark.md.

    inna benchmark --suite benchmarks/hypotheses/spread.toml --track tuned --out results/hypotheses/spread \
        --optimizer inna --optimizer innaprop --optimizer sgd --optimizer heavy-ball --optimizer adam \
        --optimizer muon-adamw

The suites are beside this file. Each level of a dial is a task of its suite.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from inna.experiments import Task
from inna.experiments.benchmark.tasks.tables import breast_cancer, diabetes

_ROTATION_SEED = 1


def spread_0() -> Task:
    """Return diabetes with uncorrelated inputs of equal size."""
    return _spread(0, rotated=False)


def spread_1() -> Task:
    """Return it with inputs whose sizes differ by one decade."""
    return _spread(1, rotated=False)


def spread_2() -> Task:
    """Return it with inputs whose sizes differ by two decades."""
    return _spread(2, rotated=False)


def spread_3() -> Task:
    """Return it with inputs whose sizes differ by three decades."""
    return _spread(3, rotated=False)


def rotated_1() -> Task:
    """Return diabetes with principal components that differ by one decade, in no direction of an axis."""
    return _spread(1, rotated=True)


def rotated_2() -> Task:
    """Return it with two decades."""
    return _spread(2, rotated=True)


def rotated_3() -> Task:
    """Return it with three decades."""
    return _spread(3, rotated=True)


def diabetes_batch_8() -> Task:
    """Return diabetes, 42 batches of 8 an epoch."""
    return _copies(diabetes(), 1)


def diabetes_batch_32() -> Task:
    """Return diabetes four times, 42 batches of 32 an epoch."""
    return _copies(diabetes(), 4)


def diabetes_batch_128() -> Task:
    """Return diabetes sixteen times, 42 batches of 128 an epoch."""
    return _copies(diabetes(), 16)


def diabetes_batch_all() -> Task:
    """Return diabetes, 42 times all samples an epoch."""
    return _whole(diabetes(), 42)


def cancer_batch_8() -> Task:
    """Return breast cancer, 54 batches of 8 an epoch."""
    return _copies(breast_cancer(), 1)


def cancer_batch_32() -> Task:
    """Return breast cancer four times, 54 batches of 32 an epoch."""
    return _copies(breast_cancer(), 4)


def cancer_batch_128() -> Task:
    """Return breast cancer sixteen times, 54 batches of 128 an epoch."""
    return _copies(breast_cancer(), 16)


def cancer_batch_all() -> Task:
    """Return breast cancer, 54 times all samples an epoch."""
    return _whole(breast_cancer(), 54)


def _spread(decades: float, rotated: bool) -> Task:
    """Return diabetes with inputs W x, where W whitens and then stretches.

    The sizes of the ten whitened inputs are 10^(-s/2), ..., 10^(s/2) for s decades, times a constant that keeps their
    mean square. So the covariance of the inputs has the condition number 10^(2s). A rotation hides its axes from
    optimizers that rescale each coordinate.
    """
    task = diabetes()
    (inputs, targets), (test, test_targets) = task.train, task.test
    values, vectors = torch.linalg.eigh(torch.cov(inputs.double().T))
    sizes = 10 ** torch.linspace(-decades / 2, decades / 2, len(values), dtype=torch.float64)
    matrix = vectors / values.sqrt() * (sizes / sizes.square().mean().sqrt())
    if rotated:
        generator = torch.Generator().manual_seed(_ROTATION_SEED)
        matrix = matrix @ torch.linalg.qr(torch.randn(*matrix.shape, generator=generator, dtype=torch.float64))[0]

    def stretched(x: Tensor) -> Tensor:
        return (x.double() @ matrix).float()

    return dataclasses.replace(task, train=(stretched(inputs), targets), test=(stretched(test), test_targets))


def _copies(task: Task, copies: int) -> Task:
    """Return ``task`` with its training set repeated, so that an epoch of large batches has as many steps."""
    inputs, targets = task.train
    return dataclasses.replace(
        task, train=(inputs.repeat(copies, 1), targets.repeat(copies, *(targets.dim() - 1) * [1]))
    )


def _whole(task: Task, steps: int) -> Task:
    """Return ``task`` whose every batch is the training set: gradients without noise."""
    return dataclasses.replace(task, train=DataLoader([task.train] * steps, batch_size=None))
