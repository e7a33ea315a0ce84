"""Network in Network at a third of its width on CIFAR-10's first 10,000 images, with one cause of its plateau changed.

    inna compare --task benchmarks/plateau_tasks.py:without_dropout --optimizer inna:lr=.1 \
        --tuning grid --schedules 0 --epochs 3 --tuning-epochs 3 --seeds 1,2

The network often stays for epochs at the loss of a constant output, ln 10. The paper leaves open from which law the
weights are drawn and how the images are scaled. The results are in `results/plateau`, the table in
`docs/reproduction.md`; results/guard-sensitivity/nin has the network unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from inna.experiments import Task
from inna.experiments.tasks.load import load_task

DATASET = "cifar10[:10000]"
MODEL = "nin-w0.333"
KERAS_DEVIATION = 0.05  # of Keras' initializer "random_normal"


def without_dropout() -> Task:
    """Return the task with a network that has no dropout."""
    return _changed("without-dropout", _remove_dropout)


def torch_weights() -> Task:
    """Return the task with weights as torch draws them, uniform with variance 1 / (3 fan_in)."""
    return _changed("torch-weights", _reset)


def keras_weights() -> Task:
    """Return the task with all weights from N(0, 0.05^2)."""
    return _changed("keras-weights", _draw_from_one_law)


def linear_output() -> Task:
    """Return the task without the ReLU after the last convolution, whose ten channels feed the dense layer."""
    return _changed("linear-output", _remove_last_relu)


def standardised() -> Task:
    """Return the task with images of mean 0 and variance 1 in each colour."""
    task = _task()
    (train, labels), (test, test_labels) = task.train, task.test
    mean, deviation = (measure(train, dim=(0, 2, 3), keepdim=True) for measure in (torch.mean, torch.std))
    scaled = ((images - mean) / deviation for images in (train, test))
    return dataclasses.replace(
        task, name="standardised", train=(next(scaled), labels), test=(next(scaled), test_labels)
    )


def _task() -> Task:
    task, _ = load_task(DATASET, model=MODEL)
    return task


def _changed(name: str, change: Callable[[nn.Module], None]) -> Task:
    task = _task()
    return dataclasses.replace(task, name=name, model=partial(_build, task.model, change))


def _build(model: Callable[[], nn.Module], change: Callable[[nn.Module], None]) -> nn.Module:
    network = model()
    change(network)
    return network


def _remove_dropout(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.reset_parameters()


def _draw_from_one_law(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=KERAS_DEVIATION)


def _remove_last_relu(network: nn.Module) -> None:
    last = max(int(name) for name, module in network.named_children() if isinstance(module, nn.ReLU))
    network[last] = nn.Identity()  # type: ignore[operator]
