"""Tasks whose smallest loss is not zero, or whose inputs are badly scaled, for `inna compare --task`.

    inna compare --task benchmarks/sensitivity_tasks.py:label_smoothing --optimizer inna:lr=1,loss_bound=0.5

Each trains in a second or less. Where the smallest loss is known, the docstring gives it: the guarded step asks for a
lower bound of the loss. The results are in `results/guard-sensitivity`, the tables in `docs/comparisons.md`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from inna.experiments import Task
from inna.experiments.tasks import datasets
from inna.experiments.tasks.networks import normal_weights
from inna.experiments.tasks.task import Data, accuracy

SMOOTHING = 0.1
WRONG_SHARE = 0.1
NOISE = 0.5


def raw_pixels() -> Task:
    """Return digits with pixels from 0 to 16, as scikit-learn has them."""
    (train, labels), (test, test_labels) = _flat_digits()
    return _classification("digits-raw", (16 * train, labels), (16 * test, test_labels))


def label_smoothing() -> Task:
    """Return digits with smoothed labels.

    The smallest loss is the entropy of (0.91, 0.01, ..., 0.01), 0.5003.
    """
    return _classification("digits-smoothing", *_flat_digits(), smoothing=SMOOTHING)


def wrong_labels() -> Task:
    """Return digits, of whose training labels one in ten is wrong."""
    (train, labels), test = _flat_digits()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(labels), generator=generator)[: round(WRONG_SHARE * len(labels))]
    labels = labels.clone()
    labels[chosen] = (labels[chosen] + torch.randint(1, 10, chosen.shape, generator=generator)) % 10
    return _classification("digits-wrong-labels", (train, labels), test)


def noisy_regression() -> Task:
    """Return a regression whose targets have noise of variance 0.25, the test set's too.

    2,000 samples of sin(x_1 + x_2) + x_3 / 2 for a network of 97 parameters, which cannot learn the noise.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3000, 4, generator=generator)
    targets = torch.sin(inputs[:, 0] + inputs[:, 1]) + inputs[:, 2] / 2
    targets = (targets + NOISE * torch.randn(3000, generator=generator)).unsqueeze(1)
    return Task(
        "noisy-regression",
        _small_regressor,
        (inputs[:2000], targets[:2000]),
        (inputs[2000:], targets[2000:]),
        functional.mse_loss,
        model_name="mlp",
    )


def _flat_digits() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    (train, labels), (test, test_labels) = datasets.digits()
    return (train.flatten(1), labels), (test.flatten(1), test_labels)


def _classification(name: str, train: Data, test: Data, smoothing: float = 0.0) -> Task:
    loss = partial(functional.cross_entropy, label_smoothing=smoothing)
    return Task(name, _classifier, train, test, loss, {"accuracy": (accuracy, "max")}, model_name="mlp")


def _classifier() -> nn.Module:
    return normal_weights(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))


def _small_regressor() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
