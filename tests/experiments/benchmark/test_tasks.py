"""The embedded tasks: what they consist of, and the derivatives of the physics-informed one."""

from __future__ import annotations

import math
import sysconfig

import pytest
import torch

from inna.experiments.benchmark.images import IMAGES, image_tasks
from inna.experiments.benchmark.suite import DEFAULT_SUITE, QUICK_SUITE
from inna.experiments.benchmark.tasks import physics, text
from inna.experiments.benchmark.tasks.images import cifar10
from inna.experiments.tasks.catalogue import CATALOGUE, builtin_model
from inna.experiments.tasks.load import load_task
from inna.experiments.tasks.networks import lenet5
from inna.experiments.training.parts.muon import hidden_matrices


@pytest.mark.parametrize("task", DEFAULT_SUITE.tasks, ids=lambda task: task.name)
def test_tasks_are_whole_and_their_losses_positive(task):
    found, source = load_task(task.task)
    found.check()
    assert found.name == task.name
    assert source
    torch.manual_seed(0)
    network = found.model()
    with torch.no_grad():
        assert found.loss(network(found.train[0]), found.train[1]).item() > 0
    assert hidden_matrices(network), "Muon needs one"
    assert not {row.tobytes() for row in found.train[0].numpy()} & {row.tobytes() for row in found.test[0].numpy()}


def test_derivatives_of_the_solution_are_those_of_automatic_differentiation():
    torch.manual_seed(0)
    network = physics._Solution().double()
    x = torch.rand(7, 1, dtype=torch.float64, requires_grad=True)
    outputs = network(x)
    (first,) = torch.autograd.grad(outputs[:, 1].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(-second.flatten(), outputs[:, 0], rtol=1e-10, atol=1e-12)
    ends = network(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert ends[:, 1].tolist() == [0.0, 0.0]


def test_the_right_side_is_that_of_the_exact_solution_with_mean_square_one():
    x = torch.linspace(0, 1, 20001, dtype=torch.float64).unsqueeze(1).requires_grad_()
    targets = physics._targets(x)
    (first,) = torch.autograd.grad(targets[:, 1].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(targets[:, 0], -second.flatten(), rtol=1e-9, atol=1e-9)
    # The loss of u = 0 over the whole interval is 1.
    assert physics._residual(torch.zeros_like(targets), targets).item() == pytest.approx(1, rel=1e-3)
    assert physics._error(targets, targets).item() == 0


def test_the_gpt_predicts_the_next_byte_and_does_not_look_ahead():
    task = text.gpt()
    inputs, targets = task.train
    assert torch.equal(inputs[0, 1:], targets[0, :-1])
    assert (inputs.shape[1], int(inputs.max()) < 128) == (32, True)
    torch.manual_seed(0)
    network = task.model().eval()
    changed = inputs[:2].clone()
    changed[:, 20:] = 65
    with torch.no_grad():
        before, after = network(inputs[:2]), network(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])
    # Equal logits for all bytes cost ln 128.
    assert task.loss(torch.zeros(2, 32, 128), targets[:2]).item() == pytest.approx(math.log(128))


def test_a_python_without_sources_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ValueError, match=r"gpt reads the sources of Python's library in .*: No such file"):
        text.library_text()


def test_image_tasks_are_those_whose_data_are_here(monkeypatch):
    for task in IMAGES[:2]:
        assert builtin_model(task.task, task.model) == task.model
    assert {task.name for task in IMAGES} <= CATALOGUE.keys()
    here = {"mnist", "cifar10"}
    monkeypatch.setattr(
        "inna.experiments.benchmark.images.missing_files", lambda name: [] if name in here else ["file"]
    )
    assert [task.name for task in image_tasks()] == ["mnist", "cifar10"]
    here.clear()
    with pytest.raises(ValueError, match="none of mnist, fashion-mnist and cifar10 is in the data folder"):
        image_tasks()


def test_every_optimizer_can_train_on_the_images(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6000, 3, 32, 32, generator=generator), torch.randint(10, (6000,), generator=generator)
    monkeypatch.setattr("inna.experiments.tasks.datasets.cifar10", lambda: (images, images))
    task = cifar10()
    task.check()
    assert (len(task.train[0]), len(task.test[0])) == (5000, 1000)
    assert hidden_matrices(task.model())
    assert hidden_matrices(lenet5())


def test_the_quick_suite_is_a_part_of_the_whole():
    assert set(QUICK_SUITE.tasks) < set(DEFAULT_SUITE.tasks)
    assert (QUICK_SUITE.quick, DEFAULT_SUITE.quick) == (True, False)
