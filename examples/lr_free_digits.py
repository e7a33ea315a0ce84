"""Train on scikit-learn's digits without choosing a learning rate: both lr-free optimizers beside Adam at its default.

    pip install scikit-learn
    python examples/lr_free_digits.py [EPOCHS]

`INNAprop.lr_free` with a linear decay is the usual choice. `INNA.lr_free` keeps less state and needs a lower bound of
the loss. Here the labels are smoothed, and the bound is the smallest loss possible.
"""

from __future__ import annotations

import math
import sys

import torch
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import LambdaLR

from inna.schedules import hold_decay, linear_decay
from inna.torch import INNA, INNAprop

CLASSES, SMOOTHING, BATCH = 10, 0.1, 32


def floor(smoothing: float, classes: int) -> float:
    """Return the smallest cross-entropy with smoothed labels: the entropy of a smoothed label.

    >>> floor(0.0, 10), round(floor(0.1, 10), 4)
    (0.0, 0.5003)
    """
    shares = [1 - smoothing + smoothing / classes, *[smoothing / classes] * (classes - 1)]
    return -sum(share * math.log(share) for share in shares if share > 0)


def train(name: str, epochs: int) -> float:
    """Train one optimizer, and return the loss on all digits."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    x, y = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    total = epochs * math.ceil(len(inputs) / BATCH)
    if name == "INNAprop.lr_free":
        optimizer = INNAprop.lr_free(model.parameters())
        schedule = LambdaLR(optimizer, linear_decay(total))
    elif name == "INNA.lr_free":
        optimizer = INNA.lr_free(model.parameters(), loss_bound=floor(SMOOTHING, CLASSES))
        schedule = LambdaLR(optimizer, hold_decay(total, total * 4 // 5))
    else:
        optimizer = torch.optim.Adam(model.parameters())
        schedule = LambdaLR(optimizer, linear_decay(total))
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            loss = loss_function(model(inputs[rows]), targets[rows])
            loss.backward()
            if isinstance(optimizer, INNA):
                optimizer.step(loss=loss)  # the guard needs it
            else:
                optimizer.step()
            schedule.step()
    with torch.no_grad():
        return loss_function(model(inputs), targets).item()


def main(epochs: int) -> None:
    for name in ("INNAprop.lr_free", "INNA.lr_free", "Adam"):
        print(f"{name:16} {train(name, epochs):.4f}  ({floor(SMOOTHING, CLASSES):.4f} is the smallest loss possible)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
