"""Tables: breast cancer (classification) and diabetes (regression)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from inna.experiments.tasks.task import Task, accuracy

__all__ = ["breast_cancer", "diabetes"]

_TEST_SHARE = 0.25


def breast_cancer() -> Task:
    """Return the diagnosis of 569 tumours from 30 measurements.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, "Breast Cancer Wisconsin (Diagnostic)", UCI repository,
    1993, as in scikit-learn.

    >>> tuple(breast_cancer().train[0].shape), tuple(breast_cancer().test[0].shape)
    ((426, 30), (143, 30))
    """
    from sklearn.datasets import load_breast_cancer

    (train, labels), (test, test_labels) = _split(load_breast_cancer)
    return Task(
        "breast-cancer",
        _classifier,
        (train, labels.long()),
        (test, test_labels.long()),
        functional.cross_entropy,
        {"accuracy": (accuracy, "max")},
        model_name="mlp",
    )


def diabetes() -> Task:
    """Return the progression of the disease of 442 patients from ten measurements.

    The target is standardised, so that an error of 1 is that of the mean.

    Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least angle regression", Annals of Statistics 32, 2004,
    as in scikit-learn.

    >>> tuple(diabetes().train[0].shape), tuple(diabetes().test[1].shape)
    ((331, 10), (111, 1))
    """
    from sklearn.datasets import load_diabetes

    (train, aims), (test, test_aims) = _split(load_diabetes)
    centre, scale = aims.mean(), aims.std()
    return Task(
        "diabetes",
        _regressor,
        (train, ((aims - centre) / scale).unsqueeze(1)),
        (test, ((test_aims - centre) / scale).unsqueeze(1)),
        functional.mse_loss,
        model_name="mlp",
    )


def _split(load: Callable[..., Any]) -> Sequence[tuple[Tensor, Tensor]]:
    """Return training and test set, with inputs standardised by the former."""
    from sklearn.model_selection import train_test_split

    inputs, aims = load(return_X_y=True)
    parts = train_test_split(inputs, aims, test_size=_TEST_SHARE, random_state=0)
    train, test, train_aims, test_aims = (torch.as_tensor(part, dtype=torch.float32) for part in parts)
    centre, scale = train.mean(0), train.std(0)
    return ((train - centre) / scale, train_aims), ((test - centre) / scale, test_aims)


def _classifier() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


def _regressor() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
