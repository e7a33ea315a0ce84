"""What is trained: a network, its data, its loss and its metrics in one `Task`. Built-in tasks are written with it."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from inna.experiments.study.study import Metric
from inna.experiments.tasks import datasets
from inna.experiments.tasks import networks as models
from inna.experiments.tasks.own_code import find_module, import_module
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.subsets import split_subset

__all__ = [
    "BUILTIN_TASKS",
    "BuiltinTask",
    "Data",
    "Task",
    "accuracy",
    "builtin_model",
    "check_model",
    "fingerprint",
    "load_task",
]

Data = tuple[Tensor, Tensor] | DataLoader[Any]


@dataclass(frozen=True, eq=False)
class Task:
    """A learning problem: everything of a run but the optimizer, the seed and the length.

    In a file of one's own, for ``inna compare --task sine.py:make_task``::

        import torch
        from torch import nn
        from inna.experiments import Task

        def make_task():
            x = torch.linspace(-3, 3, 400).unsqueeze(1)
            model = lambda: nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
            return Task("sine", model, train=(x[::2], x[::2].sin()), test=(x[1::2], x[1::2].sin()),
                        loss=nn.functional.mse_loss, metrics={"worst_error": (lambda y, t: (y - t).abs().max(), "min")})

    Attributes:
        name: for tables and rows.
        model: makes the network, without arguments; it is called under the run's seed, which so decides the weights.
        train, test: a pair (inputs, targets) of tensors with one length, or a DataLoader of such pairs of batches.
            Tensors are kept on the device and shuffled there each epoch under the run's seed. A DataLoader keeps its
            own batch size and order of shuffling, seeded by the run; the training loss is measured over it as it is.
        loss: (outputs, targets) -> the mean over the batch, a tensor of one element.
        metrics: name -> (function, "max" or "min"): figures of merit on the test set and which direction is good,
            the main one first. A function takes the outputs and targets of the whole test set and returns a number.
            The loss on the test set is always measured; without metrics it is the main one.
        model_name: the network's name in rows; by default the name of the factory, where it has one.
        channels_last: whether network and inputs take torch's channels-last memory layout, which convolutions over
            images run faster in. It rounds differently, so it is part of what decides a run.

    Raises:
        TypeError: an attribute is of the wrong type.
        ValueError: inputs and targets differ in length, or are empty; a metric's name or direction is not usable.
    """

    name: str
    model: Callable[[], nn.Module]
    train: Data
    test: Data
    loss: Callable[[Any, Any], Tensor]
    metrics: Mapping[str, tuple[Callable[[Tensor, Tensor], Any], Literal["max", "min"]]] = field(default_factory=dict)
    model_name: str = ""
    channels_last: bool = False

    def __post_init__(self) -> None:
        for attribute, least in (("name", 1), ("model_name", 0)):
            text = getattr(self, attribute)
            if not isinstance(text, str) or len(text) < least or not text.isprintable():
                given = repr(text) if isinstance(text, str) else _kind(text)
                raise TypeError(f"Task.{attribute} must be a {'non-empty ' * least}string of one line, got {given}")
        for attribute in ("model", "loss"):
            if not callable(getattr(self, attribute)):
                raise TypeError(f"Task.{attribute} must be callable, got {_kind(getattr(self, attribute))}")
        if isinstance(self.model, nn.Module):
            raise TypeError(
                "Task.model must be a function that makes the network, got a network; each run needs new weights"
            )
        for attribute in ("train", "test"):
            _check_data(attribute, getattr(self, attribute), self.channels_last)
        if not isinstance(self.metrics, Mapping):
            raise TypeError(f"Task.metrics must map names to (function, direction), got {_kind(self.metrics)}")
        for name, metric in self.metrics.items():
            if not isinstance(name, str) or not name.isidentifier() or name == "loss":
                raise ValueError(f"a metric's name must be an identifier other than 'loss', got {name!r}")
            if not isinstance(metric, tuple) or len(metric) != 2 or not callable(metric[0]):
                raise TypeError(f"Task.metrics[{name!r}] must be (function, 'max' or 'min'), got {_kind(metric)}")
            if metric[1] not in ("max", "min"):
                raise ValueError(f"Task.metrics[{name!r}] must say 'max' or 'min', got {metric[1]!r}")
        if not self.model_name:
            name = getattr(self.model, "__name__", type(self.model).__name__)
            object.__setattr__(self, "model_name", "network" if name == "<lambda>" else name.replace("_", "-"))

    @property
    def measures(self) -> tuple[Metric, ...]:
        """The metrics as a `Study` states them; the loss where there are none."""
        stated = tuple(Metric(name, goal) for name, (_, goal) in self.metrics.items())
        return stated or (Metric("loss", "min"),)

    @property
    def loader_batch_size(self) -> int | None:
        """The batch size that a DataLoader for training brings along (0 if it does not say); None for tensors."""
        if not isinstance(self.train, DataLoader):
            return None
        size = self.train.batch_size or getattr(self.train.batch_sampler, "batch_size", None)
        return size if isinstance(size, int) else 0

    def check(self) -> None:
        """Try the parts together on a few samples: the network takes the inputs, the loss and metrics the outputs.

        Raises:
            ValueError: they do not fit together; the message says which part raised what.
        """
        with isolated(derive(0, "check")):
            try:
                network = self.model()
            except Exception as error:
                raise ValueError(f"task {self.name}: its model cannot be made: {_summary(error)}") from error
            if not isinstance(network, nn.Module):
                raise ValueError(f"task {self.name}: model() must return a torch.nn.Module, got {_kind(network)}")
            network.eval()
            for attribute in ("train", "test"):
                self._try(network, attribute)

    def _try(self, network: nn.Module, attribute: str) -> None:
        data = getattr(self, attribute)
        doing = f"the {attribute} data"
        try:
            if isinstance(data, DataLoader):
                inputs, targets = next(iter(data))
            else:
                inputs, targets = data[0][:8], data[1][:8]
            doing = f"the network on the {attribute} data"
            with torch.no_grad():
                outputs = network(inputs)
                doing = f"the loss on the {attribute} data"
                loss = self.loss(outputs, targets)
                if not isinstance(loss, Tensor) or loss.numel() != 1:
                    raise TypeError(f"it must return a tensor of one element, got {_kind(loss)}")
                if attribute == "test":
                    if self.metrics and not isinstance(outputs, Tensor):
                        raise TypeError(f"metrics need a network that returns a tensor, got {_kind(outputs)}")
                    for name, (function, _) in self.metrics.items():
                        doing = f"the metric {name}"
                        float(function(outputs, targets))
        except Exception as error:
            raise ValueError(f"task {self.name}: {doing}: {_summary(error)}") from error


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose largest logit is the target's class, in [0, 1].

    >>> accuracy(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1])).item()
    0.5
    """
    return (outputs.argmax(1) == targets).double().mean()


class BuiltinTask(NamedTuple):
    """A built-in data set: what loads it, and the networks that can be trained on it, the default one first."""

    data: Callable[[], tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]
    models: Mapping[str, Callable[[], nn.Module]]
    channels_last: bool = True


_GREY_28: Mapping[str, Callable[[], nn.Module]] = {
    "lenet5": models.lenet5,
    "nin": partial(models.network_in_network, channels=1, padding=2),
}
BUILTIN_TASKS: Mapping[str, BuiltinTask] = {
    "digits": BuiltinTask(datasets.digits, {"small-cnn": models.small_cnn}, channels_last=False),
    "mnist": BuiltinTask(datasets.mnist, _GREY_28),
    "fashion-mnist": BuiltinTask(datasets.fashion_mnist, _GREY_28),
    "cifar10": BuiltinTask(datasets.cifar10, {"nin": models.network_in_network}),
    "cifar100": BuiltinTask(datasets.cifar100, {"nin": partial(models.network_in_network, classes=100)}),
}


def load_task(name: str, folder: Path | None = None, *, model: str = "") -> tuple[Task, str]:
    """The task that ``name`` stands for, and the digest of its source.

    Args:
        name: a built-in task's name, also followed by ``[:N]`` for its first N training images and the first test
            images in the same proportion; or ``file.py:function``, or ``package.module:function``; the function takes
            no arguments and returns a `Task`. It is called under a fixed seed, so data that it draws are the same in
            every process.
        folder: where a relative file lies; by default the working directory.
        model: which of a built-in task's networks; empty for its first. A task of one's own has one network, and no
            other may be asked for.

    Returns:
        The task, and the SHA-256 digest of the bytes of the file that defines it (empty for a built-in task). Other
        files that this one imports are not part of the digest.

    Raises:
        ValueError: there is no such task, network, file or function, or it raises, or returns something else.
        DataError: a built-in task's data are not here and could not be fetched.
    """
    if ":" not in split_subset(name)[0]:
        return _builtin(name, builtin_model(name, model)), ""
    place, _, function = name.rpartition(":")
    path = (folder or Path.cwd()) / Path(place).expanduser() if place.endswith(".py") else _module_file(place)
    if not path.is_file():
        raise ValueError(f"task {name}: no such file: {path}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    task = _own(name, place, path.resolve(), digest, function)
    check_model(task, model)
    return task, digest


def builtin_model(name: str, model: str = "") -> str:
    """The name of a built-in task's network: ``model``, or where that is empty its first. No data are looked at.

    Raises:
        ValueError: there is no such task or network.

    >>> builtin_model("mnist"), builtin_model("mnist[:100]", "nin")
    ('lenet5', 'nin')
    """
    whole, _ = split_subset(name)
    if whole not in BUILTIN_TASKS:
        known = ", ".join(BUILTIN_TASKS)
        raise ValueError(f"dataset must be one of {known}, or a task of one's own as file.py:function; got {name!r}")
    models = BUILTIN_TASKS[whole].models
    if model not in ("", *models):
        raise ValueError(f"the networks for {whole} are {', '.join(models)}; got {model!r}")
    return model or next(iter(models))


def check_model(task: Task, model: str) -> None:
    """Refuse a network that a task of one's own does not have.

    Raises:
        ValueError: ``model`` is neither empty nor the name of the task's network.
    """
    if model not in ("", task.model_name):
        raise ValueError(f"task {task.name} has the network {task.model_name}, not {model!r}")


def fingerprint(task: Task) -> str:
    """A digest of a task that has no file: its data, the layout of its network, the code of its functions.

    The same in every process of one Python version. A DataLoader enters with its kind and length only, and of what
    functions refer to elsewhere only the names.
    """
    digest = hashlib.sha256(repr((task.name, task.model_name, task.measures, task.channels_last)).encode())
    with isolated(derive(0, "fingerprint")):
        network = task.model()
    digest.update(repr(network).encode())
    for function in (task.model, task.loss, *(function for function, _ in task.metrics.values())):
        digest.update(_written(function).encode())
    for data in (task.train, task.test):
        if isinstance(data, DataLoader):
            digest.update(repr((_kind(data.dataset), len(data))).encode())
        else:
            for tensor in data:
                digest.update(repr((tensor.dtype, tensor.shape)).encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _written(part: Any) -> str:
    """A function, or a part of its code, as a text without addresses."""
    if isinstance(part, CodeType):
        constants = [_written(constant) for constant in part.co_consts]
        return repr((part.co_name, part.co_code, part.co_names, part.co_varnames, constants))
    if isinstance(part, FunctionType):
        cells = [cell.cell_contents for cell in part.__closure__ or ()]
        values = [_written(value) for value in (*cells, *(part.__defaults__ or ()))]
        return repr((_written(part.__code__), values))
    if isinstance(part, (nn.Module, int, float, complex, str, bytes, tuple, frozenset, type(None), type(...))):
        return repr(part)
    return _kind(part)


@cache
def _builtin(name: str, model: str) -> Task:
    whole, images = split_subset(name)
    builtin = BUILTIN_TASKS[whole]
    train, test = _builtin_data(whole)
    if images is not None:
        if not 0 < images <= len(train[0]):
            raise ValueError(f"{whole} has {len(train[0])} training images, so {name} does not exist")
        tested = max(1, images * len(test[0]) // len(train[0]))
        train, test = (train[0][:images], train[1][:images]), (test[0][:tested], test[1][:tested])
    return Task(
        name,
        builtin.models[model],
        train,
        test,
        functional.cross_entropy,
        {"accuracy": (accuracy, "max")},
        model_name=model,
        channels_last=builtin.channels_last,
    )


@cache
def _builtin_data(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return BUILTIN_TASKS[name].data()


@lru_cache(maxsize=8)
def _own(name: str, place: str, path: Path, digest: str, function: str) -> Task:
    try:
        module = _import_file(path, digest) if place.endswith(".py") else import_module(place)
    except (Exception, SystemExit) as error:
        raise ValueError(f"task {name}: importing {path} failed: {_summary(error)}") from error
    make = getattr(module, function, None)
    if not callable(make):
        own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise ValueError(f"task {name}: {path} has no function {function!r}; it has {', '.join(own) or 'none'}")
    try:
        with isolated(derive(0, "task")):
            task = make()
    except (Exception, SystemExit) as error:
        raise ValueError(f"task {name}: {function}() failed: {_summary(error)}") from error
    if not isinstance(task, Task):
        raise ValueError(f"task {name}: {function}() must return an inna.experiments.Task, got {_kind(task)}")
    return task


def _import_file(path: Path, digest: str) -> ModuleType:
    name = f"inna_task_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Its neighbours can be imported, as when Python runs the file itself.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_file(module: str) -> Path:
    try:
        path = find_module(module)
    except ImportError as error:
        raise ValueError(f"task module {module!r} cannot be imported: {_summary(error)}") from None
    if path is None:
        raise ValueError(f"there is no module {module!r} for the task; a file is named with its ending .py")
    return path


def _check_data(name: str, data: Any, channels_last: bool) -> None:
    if isinstance(data, DataLoader):
        return
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"Task.{name} must be a pair (inputs, targets) of tensors or a DataLoader, got {_kind(data)}")
    lengths = [len(part) if part.ndim else 0 for part in data]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise ValueError(f"Task.{name}: inputs and targets must have one length > 0, got {lengths[0]} and {lengths[1]}")
    if channels_last and data[0].ndim != 4:
        raise ValueError(
            f"Task.channels_last needs inputs of shape (N, channels, height, width); Task.{name} has "
            f"{tuple(data[0].shape)}"
        )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return value.__name__ if isinstance(value, type) else f"{type(value).__module__}.{type(value).__qualname__}"


def _summary(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
