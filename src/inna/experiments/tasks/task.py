"""The task: a network, its data, its loss and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inna.experiments.rows.run import Metric
from inna.experiments.tasks.exits import ExitError, ExitGuard
from inna.experiments.tasks.seeds import derive, isolated

__all__ = ["Data", "Metrics", "Task", "accuracy", "describe_error", "describe_type"]

Data = tuple[Tensor, Tensor] | DataLoader[Any]
Metrics = Mapping[str, tuple[Callable[[Tensor, Tensor], Any], Literal["max", "min"]]]


@dataclass(frozen=True, eq=False)
class Task:
    """A learning problem: all of a run but optimizer, seed and epochs.

    In a file of your own, for ``inna compare --task sine.py:make_task``::

        import torch
        from torch import nn
        from inna.experiments import Task

        def make_task():
            x = torch.linspace(-3, 3, 400).unsqueeze(1)
            train, test = (x[::2], x[::2].sin()), (x[1::2], x[1::2].sin())
            model = lambda: nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
            metrics = {"worst_error": (lambda y, t: (y - t).abs().max(), "min")}
            return Task("sine", model, train, test, nn.functional.mse_loss, metrics)

    Attributes:
        name: the task's name in tables and results.
        model: a function without arguments that returns the network. It is called under the run's seed, which therefore
            decides the weights.
        train, test: a pair (inputs, targets) of tensors of one length, or a DataLoader of such pairs of batches.
            Tensors are kept on the device and shuffled there in each epoch under the run's seed. A DataLoader keeps its
            own batch size and shuffling, seeded by the run; the training loss is measured over it as it is.
        loss: (outputs, targets) -> the mean over the batch, a tensor of one element.
        metrics: name -> (function, "max" or "min"): measures on the test set with the better direction, the main one
            first. A function takes the outputs and targets of the whole test set and returns a number. The loss on the
            test set is always measured; without metrics it is the main measure.
        model_name: the network's name in results; by default the name of the function ``model``, if it has one.
        channels_last: whether the network and its inputs use torch's channels-last memory layout, in which convolutions
            over images are faster. It rounds differently, so it is one of the settings of a run.
        version: any text. It is part of the task's fingerprint, and takes the place of the parts that have none, such
            as an open file; without it they are refused. Change it whenever such a part changes.

    Raises:
        TypeError: an attribute is of the wrong type.
        ValueError: inputs and targets differ in length, or are empty; a metric's name or direction is invalid.
    """

    name: str
    model: Callable[[], nn.Module]
    train: Data
    test: Data
    loss: Callable[[Any, Any], Tensor]
    metrics: Metrics = field(default_factory=dict)
    model_name: str = ""
    channels_last: bool = False
    version: str = ""

    def __post_init__(self) -> None:
        for attribute, least in (("name", 1), ("model_name", 0), ("version", 0)):
            text = getattr(self, attribute)
            if not isinstance(text, str) or len(text) < least or not text.isprintable():
                given = repr(text) if isinstance(text, str) else describe_type(text)
                raise TypeError(f"Task.{attribute} must be a {'non-empty ' * least}string of one line, got {given}")
        for attribute in ("model", "loss"):
            if not callable(getattr(self, attribute)):
                raise TypeError(f"Task.{attribute} must be callable, got {describe_type(getattr(self, attribute))}")
        if isinstance(self.model, nn.Module):
            raise TypeError(
                "Task.model must be a function that makes the network, got a network; each run needs new weights"
            )
        for attribute in ("train", "test"):
            _check_data(attribute, getattr(self, attribute), self.channels_last)
        if not isinstance(self.metrics, Mapping):
            raise TypeError(f"Task.metrics must map names to (function, direction), got {describe_type(self.metrics)}")
        for name, metric in self.metrics.items():
            if not isinstance(name, str) or not name.isidentifier() or name == "loss":
                raise ValueError(f"a metric's name must be an identifier other than 'loss', got {name!r}")
            if not isinstance(metric, tuple) or len(metric) != 2 or not callable(metric[0]):
                raise TypeError(
                    f"Task.metrics[{name!r}] must be (function, 'max' or 'min'), got {describe_type(metric)}"
                )
            if metric[1] not in ("max", "min"):
                raise ValueError(f"Task.metrics[{name!r}] must say 'max' or 'min', got {metric[1]!r}")
        if not self.model_name:
            name = getattr(self.model, "__name__", type(self.model).__name__)
            object.__setattr__(self, "model_name", "network" if name == "<lambda>" else name.replace("_", "-"))

    @property
    def measures(self) -> tuple[Metric, ...]:
        """The metrics as a `Study` lists them; the loss if there are none."""
        stated = tuple(Metric(name, goal) for name, (_, goal) in self.metrics.items())
        return stated or (Metric("loss", "min"),)

    @property
    def loader_batch_size(self) -> int | None:
        """The batch size of the training DataLoader (0 if it has none); None for tensors."""
        if not isinstance(self.train, DataLoader):
            return None
        size = self.train.batch_size or getattr(self.train.batch_sampler, "batch_size", None)
        return size if isinstance(size, int) else 0

    def check(self) -> None:
        """Try the network, the loss and the metrics together on a few samples.

        Raises:
            ValueError: they do not fit together; the message names the part and its error.
        """
        guard = ExitGuard("its model")
        try:
            with guard, isolated(derive(0, "check")):
                network = self.model()
                if not isinstance(network, nn.Module):
                    raise TypeError(f"it must return a torch.nn.Module, got {describe_type(network)}")
                network.eval()
                for attribute in ("train", "test"):
                    self._try(network, attribute, guard)
        except ExitError as error:
            raise ValueError(f"task {self.name}: {error}") from error
        except Exception as error:
            raise ValueError(f"task {self.name}: {guard.part}: {describe_error(error)}") from error

    def _try(self, network: nn.Module, attribute: str, guard: ExitGuard) -> None:
        data = getattr(self, attribute)
        guard.part = f"the {attribute} data"
        if isinstance(data, DataLoader):
            inputs, targets = next(iter(data))
        else:
            inputs, targets = data[0][:8], data[1][:8]
        guard.part = f"the network on the {attribute} data"
        with torch.no_grad():
            outputs = network(inputs)
            guard.part = f"the loss on the {attribute} data"
            loss = self.loss(outputs, targets)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise TypeError(f"it must return a tensor of one element, got {describe_type(loss)}")
            if attribute == "test":
                if self.metrics and not isinstance(outputs, Tensor):
                    raise TypeError(f"metrics need a network that returns a tensor, got {describe_type(outputs)}")
                for name, (function, _) in self.metrics.items():
                    guard.part = f"the metric {name}"
                    float(function(outputs, targets))


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of samples whose largest logit is the target's class.

    >>> accuracy(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1])).item()
    0.5
    """
    return (outputs.argmax(1) == targets).double().mean()


def _check_data(name: str, data: Any, channels_last: bool) -> None:
    if isinstance(data, DataLoader):
        return
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(
            f"Task.{name} must be a pair (inputs, targets) of tensors or a DataLoader, got {describe_type(data)}"
        )
    lengths = [len(part) if part.ndim else 0 for part in data]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise ValueError(f"Task.{name}: inputs and targets must have one length > 0, got {lengths[0]} and {lengths[1]}")
    if channels_last and data[0].ndim != 4:
        raise ValueError(
            f"Task.channels_last needs inputs of shape (N, channels, height, width); Task.{name} has "
            f"{tuple(data[0].shape)}"
        )


def describe_type(value: Any) -> str:
    """Return the type of ``value`` for a message, with the shape of a tensor.

    >>> describe_type(torch.ones(2, 3)), describe_type(1)
    ('a tensor of shape (2, 3)', 'builtins.int')
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return value.__name__ if isinstance(value, type) else f"{type(value).__module__}.{type(value).__qualname__}"


def describe_error(error: BaseException) -> str:
    """Return the type of an error and the first line of its message.

    >>> describe_error(ValueError("no such file"))
    'ValueError: no such file'
    """
    first = next(iter(str(error).splitlines()), "")
    if isinstance(error, ExitError):
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
