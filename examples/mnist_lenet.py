"""MNIST with LeNet-5 as a custom task, in a few minutes.

    inna compare --task examples/mnist_lenet.py:make_task \\
        --optimizer sgd --optimizer heavy-ball --optimizer adam --optimizer inna:alpha=.5,beta=.1 \\
        --schedules 0.5 --tuning-epochs 1 --epochs 3 --out runs/mnist-lenet

Differences from the built-in task (`inna compare --dataset mnist`): training uses all 60,000 images instead of the
paper's 50,000, and the weights have torch's default initialisation. The files are downloaded, or read from INNA_DATA.
"""

from __future__ import annotations

from torch import nn

from inna.experiments import Task
from inna.experiments.tasks.datasets import published
from inna.experiments.tasks.task import accuracy


def make_task() -> Task:
    train, test = published("mnist")
    return Task("mnist", lenet5, train, test, nn.functional.cross_entropy, {"accuracy": (accuracy, "max")})


def lenet5() -> nn.Module:
    """(N, 1, 28, 28) -> (N, 10) logits; LeNet-5 with ReLU and max-pooling, 61,706 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
