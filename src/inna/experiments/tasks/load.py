"""What is trained: a network, its data, its loss and its metrics in one `Task`. Built-in tasks are written with it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from inna.experiments.tasks import datasets
from inna.experiments.tasks import networks as models
from inna.experiments.tasks.own_code import _import_file, find_module, import_module
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.subsets import split_subset
from inna.experiments.tasks.task import Task, _kind, _summary, accuracy

__all__ = [
    "BUILTIN_TASKS",
    "BuiltinTask",
    "builtin_model",
    "check_model",
    "load_task",
]


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


def _module_file(module: str) -> Path:
    try:
        path = find_module(module)
    except ImportError as error:
        raise ValueError(f"task module {module!r} cannot be imported: {_summary(error)}") from None
    if path is None:
        raise ValueError(f"there is no module {module!r} for the task; a file is named with its ending .py")
    return path
