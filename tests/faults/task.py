"""The tasks that are disturbed: small, so that many trials fit, but with checkpoints that take time to write."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inna.experiments import Task


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 4, generator=generator)
    return inputs, (3 * inputs).sin().sum(1, keepdim=True)


def narrow() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 400), nn.Tanh(), nn.Linear(400, 400), nn.Tanh(), nn.Linear(400, 1))


def make_sweep_task() -> Task:
    """Of which `inna compare` makes a few dozen short runs."""
    return Task("faults-sweep", narrow, waves(512, seed=1), waves(128, seed=2), nn.functional.mse_loss)


def make_training_task() -> Task:
    """Which `inna train` trains, a checkpoint of 1 MB after each short epoch."""
    return Task("faults-training", wide, waves(256, seed=1), waves(64, seed=2), nn.functional.mse_loss)
