"""Handwritten digits: a convolutional classifier and a deep autoencoder."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn import functional

from inna.experiments.tasks import datasets
from inna.experiments.tasks.networks import normal_weights
from inna.experiments.tasks.task import Task, accuracy

__all__ = ["autoencoder", "cnn"]


def cnn() -> Task:
    """Return the classification of 8 x 8 digits by two convolutions and two layers.

    The data are those of `inna.experiments.tasks.datasets.digits`.

    >>> sum(p.numel() for p in cnn().model().parameters())
    9802
    """
    train, test = datasets.digits()
    return Task(
        "digits-cnn",
        _two_convolutions,
        train,
        test,
        functional.cross_entropy,
        {"accuracy": (accuracy, "max")},
        model_name="cnn",
    )


def autoencoder() -> Task:
    """Return the compression of 64 pixels to eight numbers and back, by eight layers.

    The loss is the mean squared error of a pixel in [0, 1].

    Source: G. Hinton and R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313,
    2006, made smaller.

    >>> sum(p.numel() for p in autoencoder().model().parameters())
    10760
    """
    (train, _), (test, _) = datasets.digits()
    train, test = train.flatten(1), test.flatten(1)
    return Task(
        "digits-autoencoder", _narrow_tanh, (train, train), (test, test), functional.mse_loss, model_name="autoencoder"
    )


def _two_convolutions() -> nn.Module:
    return normal_weights(
        nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
    )


def _narrow_tanh() -> nn.Module:
    widths = (64, 48, 32, 16, 8, 16, 32, 48, 64)
    layers = [layer for fan_in, fan_out in pairwise(widths) for layer in (nn.Linear(fan_in, fan_out), nn.Tanh())]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())
