"""Optimizers of one's own that declare a search space."""

from __future__ import annotations

from typing import ClassVar

import torch


class Spaced(torch.optim.SGD):
    search_space: ClassVar = {"lr": (0.01, 1.0), "momentum": (0.1, 0.9)}


class Misspaced(torch.optim.SGD):
    search_space: ClassVar = {"lr": 0.1}
