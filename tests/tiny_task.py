"""Tasks so small that a run takes milliseconds; worker processes find them by the path of this file."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from inna.experiments import Task

PATH = f"{Path(__file__)}:make_task"


def worst_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().max()


def regression_data(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return inputs, inputs.prod(1, keepdim=True)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def network_with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


def make_task() -> Task:
    """Regression: no accuracy, a metric that no batch can tell."""
    return Task(
        name="tiny",
        model=network,
        train=regression_data(40, seed=1),
        test=regression_data(20, seed=2),
        loss=nn.functional.mse_loss,
        metrics={"worst_error": (worst_error, "min")},
    )


def make_loader_task() -> Task:
    """The same from a DataLoader that shuffles, and a network that draws random numbers as it trains."""
    loader = DataLoader(TensorDataset(*regression_data(40, seed=1)), batch_size=16, shuffle=True)
    return Task("loader", network_with_dropout, loader, regression_data(20, seed=2), nn.functional.mse_loss)


class Stream(IterableDataset):
    """The same data without a length."""

    def __iter__(self):
        return iter(TensorDataset(*regression_data(40, seed=1)))


def make_language_task() -> Task:
    """Next-token prediction on a text: logits (N, tokens, classes), targets (N, tokens), perplexity."""
    text = torch.tensor([(3 * i * i + i) % 7 for i in range(200)])
    windows = text.unfold(0, 9, 3)
    inputs, targets = windows[:, :-1], windows[:, 1:]

    def loss(logits: Tensor, tokens: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    return Task(
        name="language",
        model=lambda: nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7)),
        train=(inputs[:40], targets[:40]),
        test=(inputs[40:], targets[40:]),
        loss=loss,
        metrics={"perplexity": (lambda logits, tokens: loss(logits, tokens).exp(), "min")},
        model_name="bigram",
    )


def make_nothing() -> int:
    return 3


def make_trouble() -> Task:
    raise RuntimeError("no such luck")


class Endless(torch.optim.SGD):
    """Takes an hour for each step; for a process that will be killed."""

    def step(self, closure=None):
        time.sleep(3600)


class Counted(torch.optim.SGD):
    """Leaves a file in the folder MARK for each run that begins, and takes its time."""

    begun = False

    def step(self, closure=None):
        if not self.begun:
            self.begun = True
            Path(os.environ["MARK"], secrets.token_hex(8)).touch()
        time.sleep(0.01)
        return super().step(closure)


class Deadly(torch.optim.SGD):
    """Its process is killed, as the system does where memory runs out; once, which the file in MARK remembers."""

    def step(self, closure=None):
        mark = Path(os.environ["MARK"])
        if self.param_groups[0]["lr"] == 0.5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)


class Fragile(torch.optim.SGD):
    """Cannot stand a step size of exactly one half."""

    def step(self, closure=None):
        if self.param_groups[0]["lr"] == 0.5:
            raise ArithmeticError("one half is too much")
        return super().step(closure)


ENDS = {
    0.01: lambda: sys.exit(0),
    0.02: lambda: sys.exit("no more"),
    0.03: lambda: os._exit(0),
    0.04: lambda: raise_(KeyboardInterrupt()),
    0.05: lambda: raise_(BaseException("odd")),
}


def raise_(error: BaseException) -> None:
    raise error


class Quitter(torch.optim.SGD):
    """Ends the program, in a way that the step size decides."""

    def step(self, closure=None):
        ENDS.get(self.param_groups[0]["lr"], lambda: None)()
        return super().step(closure)
