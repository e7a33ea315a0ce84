"""A regression task: scikit-learn's diabetes data, 442 patients, ten measurements.

inna compare --task examples/diabetes.py:make_task --out runs/diabetes
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from inna.experiments import Task


def make_task() -> Task:
    x, y = load_diabetes(return_X_y=True)
    split = train_test_split(x, y, test_size=0.25, random_state=0)
    tensors = [torch.as_tensor(part, dtype=torch.float32) for part in split]
    x_train, x_test, y_train, y_test = tensors
    # Inputs and targets are standardised with the statistics of the training set.
    centre, scale = y_train.mean(), y_train.std()
    x_centre, x_scale = x_train.mean(0), x_train.std(0)
    train, test = (
        ((inputs - x_centre) / x_scale, ((targets - centre) / scale).unsqueeze(1))
        for inputs, targets in ((x_train, y_train), (x_test, y_test))
    )
    return Task(
        "diabetes",
        two_layers,
        train,
        test,
        loss=nn.functional.mse_loss,
        metrics={"rmse": (rmse, "min")},
    )


def two_layers() -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, 32),
        nn.Tanh(),
        nn.Linear(32, 32),
        nn.Tanh(),
        nn.Linear(32, 1),
    )


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the root mean square error in standard deviations of the target."""
    return (outputs - targets).square().mean().sqrt()
