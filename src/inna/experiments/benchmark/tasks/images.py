"""Colour images: a small convolutional network on a part of CIFAR-10."""

from __future__ import annotations

from torch import nn
from torch.nn import functional

from inna.experiments.tasks import datasets
from inna.experiments.tasks.networks import normal_weights
from inna.experiments.tasks.task import Task, accuracy

__all__ = ["cifar10"]

_TRAIN, _TEST = 5000, 1000


def cifar10() -> Task:
    """Return the classification of CIFAR-10's first 5,000 images.

    By three convolutions and two layers, tested on the first 1,000 test images. Unlike Network in Network it has a
    hidden matrix, which Muon needs.
    """
    train, test = datasets.cifar10()
    return Task(
        "cifar10",
        _three_convolutions,
        (train[0][:_TRAIN], train[1][:_TRAIN]),
        (test[0][:_TEST], test[1][:_TEST]),
        functional.cross_entropy,
        {"accuracy": (accuracy, "max")},
        model_name="cnn",
    )


def _three_convolutions() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, more in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels, more, kernel_size=3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
    return normal_weights(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10)))
