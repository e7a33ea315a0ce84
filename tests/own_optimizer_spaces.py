"""Optimizers of one's own that declare a search space."""

from __future__ import annotations

from typing import ClassVar

import torch


class Spaced(torch.optim.SGD):
    search_space: ClassVar = {"lr": (0.01, 1.0), "momentum": (0.1, 0.9)}


class Misspaced(torch.optim.SGD):
    search_space: ClassVar = {"lr": 0.1}


class Capped(torch.optim.SGD):
    search_space: ClassVar = {"lr": (0.001, 10.0)}

    def __init__(self, params, lr=0.01):
        if lr > 0.05:
            raise ValueError(f"lr must be at most 0.05, got {lr}")
        super().__init__(params, lr=lr)


class Switched(torch.optim.SGD):
    def __init__(self, params, lr=0.01, momentum=0.9, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov)

    def train(self):
        pass

    def eval(self):
        pass
