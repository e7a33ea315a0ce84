"""Load tasks by name: the built-in ones, and functions of a file or module."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from inna.checks import did_you_mean
from inna.experiments.rows.run import Run
from inna.experiments.tasks import datasets, networks
from inna.experiments.tasks.catalogue import (
    DatasetEntry,
    builtin_model,
    check_images,
    check_network,
    entry,
    split_subset,
    split_width,
)
from inna.experiments.tasks.data_file import data_path, is_data_file, read_data_file
from inna.experiments.tasks.exits import ExitGuard
from inna.experiments.tasks.fingerprint.digests import fingerprint_and_modules
from inna.experiments.tasks.own_code import (
    changed_file,
    find_module,
    import_file,
    import_module,
    source_digest,
    task_file,
)
from inna.experiments.tasks.seeds import THREADS, derive, isolated, threads
from inna.experiments.tasks.task import Task, accuracy, describe_error, describe_type

__all__ = [
    "BUILTIN_TASKS",
    "BuiltinTask",
    "check_model",
    "load_task",
    "task_of",
]


# The networks of the catalogue, made for a data set.
_NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": lambda described: networks.mlp(described.shape, described.classes),
    "small-cnn": lambda described: networks.small_cnn(described.classes),
    "lenet5": lambda described: networks.lenet5(described.classes),
    "nin": lambda described, width=1.0: networks.network_in_network(
        described.classes, described.shape[0], (described.shape[1], described.shape[2]), width
    ),
}
CHANNELS_LAST = ("lenet5", "nin")


class BuiltinTask(NamedTuple):
    """A built-in data set: the function that loads it, and its networks.

    The default network comes first.
    """

    data: Callable[[], datasets.Split]
    models: Mapping[str, Callable[[], nn.Module]]


BUILTIN_TASKS: Mapping[str, BuiltinTask] = {
    name: BuiltinTask(data, {network: partial(_NETWORKS[network], entry(name)) for network in entry(name).networks})
    for name, data in (
        ("digits", datasets.digits),
        ("mnist", datasets.mnist),
        ("fashion-mnist", datasets.fashion_mnist),
        ("cifar10", datasets.cifar10),
        ("cifar100", datasets.cifar100),
    )
}


def load_task(name: str, folder: Path | None = None, *, model: str = "") -> tuple[Task, str]:
    """Load a task by its name; return it with its fingerprint.

    Args:
        name: a built-in task, or an ``.npz`` file that `read_data_file` accepts; with ``[:N]`` only its first N
            training images and test images in proportion. Or a function as ``file.py:function`` or
            ``package.module:function``: it takes no arguments and returns a `Task`. It is called under a fixed seed, so
            that random data are the same in every process.
        folder: folder of a relative file; by default the working directory.
        model: which of the networks for a built-in task or a file; "" for its first. Your own task has one network
            only.

    Returns:
        The task, and its `fingerprint`, of which the bytes of the file that defines it are a part ("" for a built-in
        task). For an ``.npz`` file it is ``sha256:`` and the file's SHA-256.

    Raises:
        ValueError: the task, network, file or function does not exist; an array of the file cannot be used; the
            function raises, or returns no `Task`; a part of the task has no fingerprint; a module that it uses has
            changed since this process imported it.
        DataError: a built-in task's data are missing and cannot be downloaded.
    """
    if is_data_file(name):
        path = data_path(name, folder).resolve()
        source = read_data_file(path).source
        return _file_task(name, path, source, model), source
    if ":" not in split_subset(name)[0]:
        return _builtin(name, builtin_model(name, model)), ""
    place, _, function = name.rpartition(":")
    path = task_file(name, folder) if place.endswith(".py") else _module_file(place)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"task {name}: {path} cannot be read: {error.strerror}") from error
    own = _own(name, place, path.resolve(), content, function)
    for module in own.modules:
        if changed := changed_file(module):
            raise ValueError(f"task {name}: {changed} has changed since this process imported it; start Python again")
    check_model(own.task, model)
    return own.task, own.source


def task_of(run: Run, folder: Path | None = None) -> Task:
    """Load the task of ``run``, as `load_task` does.

    Raises:
        ValueError: the task is another one than the run's; or as in `load_task`.
    """
    task, source = load_task(run.dataset, folder, model=run.model)
    if source != run.source:
        if is_data_file(run.dataset):
            raise ValueError(
                f"{run.dataset} is not the file of the run: its SHA-256 is {source}, the run's {run.source}"
            )
        raise ValueError(
            f"{run.dataset} is not the task of the run: it was changed, or is made differently in each process, as "
            "random data without a seed or a dictionary built from a set are"
        )
    return task


def check_model(task: Task, model: str) -> None:
    """Check that a task has the network ``model``.

    Raises:
        ValueError: ``model`` is neither "" nor the name of the task's network.
    """
    if model not in ("", task.model_name):
        raise ValueError(f"task {task.name} has the network {task.model_name}, not {model!r}")


@cache
def _builtin(name: str, model: str) -> Task:
    whole, _ = split_subset(name)
    return _classification(name, model, entry(whole), _builtin_data(whole))


@lru_cache(maxsize=2)
def _file_task(name: str, path: Path, source: str, model: str) -> Task:
    data = read_data_file(path)
    if data.source != source:
        raise ValueError(f"{path} changed while it was read")
    model = check_network(name, data.entry.networks, model)
    (train, labels), (test, test_labels) = data.train, data.test
    split = (
        (torch.from_numpy(train), torch.from_numpy(labels)),
        (torch.from_numpy(test), torch.from_numpy(test_labels)),
    )
    return _classification(name, model, data.entry, split)


@cache
def _builtin_data(name: str) -> datasets.Split:
    return BUILTIN_TASKS[name].data()


def _classification(name: str, model: str, described: DatasetEntry, data: datasets.Split) -> Task:
    """Return the task of classifying ``data``, or its first images."""
    network, width = split_width(model)
    _, images = split_subset(name)
    train, test = data
    if images is not None:
        check_images(name, images, len(train[0]))
        tested = max(1, images * len(test[0]) // len(train[0]))
        train, test = (train[0][:images], train[1][:images]), (test[0][:tested], test[1][:tested])
    return Task(
        name,
        partial(_NETWORKS[network], described, **({} if width == 1 else {"width": width})),
        train,
        test,
        functional.cross_entropy,
        {"accuracy": (accuracy, "max")},
        model_name=model,
        channels_last=network in CHANNELS_LAST,
    )


class _Own(NamedTuple):
    """A task of one's own, its fingerprint, and the modules of one's own in it."""

    task: Task
    source: str
    modules: list[ModuleType]


@lru_cache(maxsize=8)
def _own(name: str, place: str, path: Path, content: bytes, function: str) -> _Own:
    digest = hashlib.sha256(content).hexdigest()
    try:
        with ExitGuard():
            module = import_file(path, content, digest) if place.endswith(".py") else import_module(place)
    except Exception as error:
        raise ValueError(f"task {name}: importing {path} failed: {describe_error(error)}") from error
    make = getattr(module, function, None)
    if not callable(make):
        own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        near = did_you_mean(function, own)
        raise ValueError(f"task {name}: {path} has no function {function!r}; it has {', '.join(own) or 'none'}{near}")
    try:
        with ExitGuard(), threads(THREADS), isolated(derive(0, "task")):
            task = make()
    except Exception as error:
        raise ValueError(f"task {name}: {function}() failed: {describe_error(error)}") from error
    if not isinstance(task, Task):
        raise ValueError(f"task {name}: {function}() must return an inna.experiments.Task, got {describe_type(task)}")
    source, modules = fingerprint_and_modules(task, source_digest(module))
    return _Own(task, source, modules)


def _module_file(module: str) -> Path:
    try:
        with ExitGuard():
            path = find_module(module)
    except Exception as error:
        raise ValueError(f"task module {module!r} cannot be imported: {describe_error(error)}") from None
    if path is None:
        raise ValueError(f"there is no module {module!r} for the task; a file needs its ending .py")
    return path
