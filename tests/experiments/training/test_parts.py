"""What optimizers ask of the training loop: modes, the loss of the batch, and several for parts of a network."""

from __future__ import annotations

import copy
import math
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import tiny_task
from inna.experiments import Run
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.training.batches import Batches
from inna.experiments.training.cuda_graph import graph_settings
from inna.experiments.training.optimizers import build, lr_shares
from inna.experiments.training.parts.joint import JointOptimizer, takes_network
from inna.experiments.training.parts.muon import MuonAdamW, hidden_matrices
from inna.experiments.training.train import measure

TINY = tiny_task.make_task()
CPU = torch.device("cpu")


def a_run(optimizer, lr=0.1, **changes):
    return Run(
        "tiny", "network", optimizer, lr, **{"batch_size": 16, "epochs": 3, "seed": 5, "precision": "float64"} | changes
    )


class TwoRates(JointOptimizer):
    """Gradient descent for the first layer, a tenth of its rate for the rest."""

    def __init__(self, network: nn.Module, lr: float = 0.1) -> None:
        first, *rest = network.children()
        others = [parameter for module in rest for parameter in module.parameters()]
        super().__init__([torch.optim.SGD(first.parameters(), lr=lr), torch.optim.SGD(others, lr=lr / 10)])


class Witness(torch.optim.SGD):
    """Remembers the losses that its step was given."""

    seen: list[float] = []  # noqa: RUF012

    def step(self, closure=None, *, loss=None):
        assert not getattr(loss, "requires_grad", False)
        self.seen.append(float(loss))
        super().step()


@pytest.fixture
def own_module(monkeypatch):
    module = ModuleType("own_parts")
    module.TwoRates, module.Witness = TwoRates, Witness
    monkeypatch.setitem(sys.modules, "own_parts", module)
    monkeypatch.setattr(Witness, "seen", [])


def by_hand(run, step, begin=lambda network: None):
    """The tiny network after the epochs of ``run``, with ``step(network, iteration, loss)`` after each gradient."""
    with isolated(derive(run.seed, "weights")):
        network = tiny_task.network().double()
    begin(network)
    data, iteration = Batches(TINY.train, CPU, torch.float64), 0
    for epoch in range(1, run.epochs + 1):
        for inputs, targets in data.shuffled(run.seed, epoch, run.batch_size):
            network.zero_grad()
            loss = TINY.loss(network(inputs), targets)
            loss.backward()
            step(network, iteration, loss)
            iteration += 1
    return network


def final_loss(network):
    inputs, targets = (part.double() for part in TINY.train)
    with torch.no_grad():
        return TINY.loss(network(inputs), targets).item()


def test_the_loss_of_each_batch_reaches_the_step(own_module):
    run = a_run("own_parts:Witness")
    expected = []

    def step(network, iteration, loss):
        expected.append(loss.item())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.1 * parameter.grad

    network = by_hand(run, step)
    result = measure(run, TINY)
    assert Witness.seen == pytest.approx(expected, rel=1e-12)
    assert result["train_loss"] == pytest.approx(final_loss(network), rel=1e-12)


def test_schedule_free_weights_are_averages_at_evaluation_and_gradients_are_taken_between():
    """y = (1 - β)z + βx, z -= γg(y), x the mean of z: A. Defazio et al., arXiv 2405.15682, with equal weights."""
    pytest.importorskip("schedulefree")
    run = a_run("schedulefree:SGDScheduleFree", settings=(("momentum", 0.8),), lr=0.3)
    state = {}

    def begin(network):
        state["z"] = [p.detach().clone() for p in network.parameters()]
        state["x"] = [p.detach().clone() for p in network.parameters()]

    def step(network, iteration, loss):
        with torch.no_grad():
            for y, z, x in zip(network.parameters(), state["z"], state["x"], strict=True):
                z -= 0.3 * y.grad
                x += (z - x) / (iteration + 1)
                y.copy_(0.2 * z + 0.8 * x)

    network = by_hand(run, step, begin)
    with torch.no_grad():
        for parameter, x in zip(network.parameters(), state["x"], strict=True):
            parameter.copy_(x)
    assert measure(run, TINY)["train_loss"] == pytest.approx(final_loss(network), rel=1e-9)


@pytest.mark.parametrize("schedule", ["power", "linear"])
def test_each_part_keeps_its_share_of_the_learning_rate(own_module, schedule):
    run = a_run("own_parts:TwoRates", lr=0.2, schedule=schedule)
    count = 3 * math.ceil(40 / 16)

    def step(network, iteration, loss):
        rate = 0.2 * (1 - iteration / count if schedule == "linear" else 1)
        with torch.no_grad():
            for position, parameter in enumerate(network.parameters()):
                parameter -= (rate if position < 2 else rate / 10) * parameter.grad

    assert measure(run, TINY)["train_loss"] == pytest.approx(final_loss(by_hand(run, step)), rel=1e-12)
    optimizer = build(run, tiny_task.network())
    assert lr_shares(run, optimizer) == pytest.approx([1.0, 0.1])
    assert lr_shares(a_run("sgd"), torch.optim.SGD(tiny_task.network().parameters(), lr=7.0)) == [1.0]
    # A recorded iteration has one learning rate for all groups.
    assert graph_settings(TwoRates) is None
    assert takes_network(TwoRates)


def test_a_joint_optimizer_is_its_parts_also_after_loading():
    torch.manual_seed(0)
    inputs, targets = torch.randn(12, 3), torch.randn(12, 1)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    other = copy.deepcopy(network)

    def made(module):
        return JointOptimizer(
            [
                torch.optim.Adam(module[0].parameters(), lr=0.1),
                torch.optim.SGD(module[2].parameters(), lr=0.1, momentum=0.9),
            ]
        )

    def descend(module, optimizers):
        for each in optimizers:
            each.zero_grad()
        (module(inputs) - targets).square().mean().backward()
        for each in optimizers:
            each.step()

    joint, separate = made(network), made(other).parts
    for iteration in range(6):
        if iteration == 3:
            saved = copy.deepcopy(joint.state_dict())
            joint = made(network)
            joint.load_state_dict(saved)
        descend(network, [joint])
        descend(other, separate)
    assert all(torch.equal(mine, yours) for mine, yours in zip(network.parameters(), other.parameters(), strict=True))
    assert [
        group is own
        for group, own in zip(joint.param_groups, (g for p in joint.parts for g in p.param_groups), strict=True)
    ]
    assert len(joint.state) == 4
    with pytest.raises(ValueError, match="zip"):
        joint.load_state_dict({"parts": saved["parts"][:1]})


def test_a_joint_optimizer_hands_on_closures_losses_and_modes():
    calls = []

    class Moody(Witness):
        def train(self):
            calls.append("train")

        def eval(self):
            calls.append("eval")

    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    Moody.seen = []
    joint = JointOptimizer([Moody([first], lr=0.5), torch.optim.SGD([second], lr=0.5)])

    def closure():
        joint.zero_grad()
        loss = (first + 3 * second).sum()
        loss.backward()
        return loss

    joint.train()
    assert joint.step(closure).item() == 4.0
    joint.step(loss=7.0)
    joint.eval()
    assert (Moody.seen, calls) == ([4.0, 7.0], ["train", "eval"])
    assert (first.item(), second.item()) == (0.0, -2.0)


def test_parts_that_cannot_be_joined():
    shared = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="at least one part"):
        JointOptimizer([])
    with pytest.raises(ValueError, match="needs a closure"):
        JointOptimizer([torch.optim.LBFGS([shared])])
    with pytest.raises(ValueError, match="more than one parameter group"):
        JointOptimizer([torch.optim.SGD([shared], lr=1.0), torch.optim.SGD([shared], lr=1.0)])
    with pytest.raises(ValueError, match="a network with a hidden matrix"):
        MuonAdamW(nn.Linear(2, 2))


def test_muon_has_the_hidden_matrices_and_adamw_all_the_rest():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.Linear(5, 3)
    )
    muon, adamw = MuonAdamW(network, lr=0.25, momentum=0.5, betas=(0.5, 0.75), weight_decay=0.125).parts
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(6, 8), (5, 6)]
    handled = [p for part in (muon, adamw) for group in part.param_groups for p in group["params"]]
    assert {id(p) for p in handled} == {id(p) for p in network.parameters()}
    assert len(handled) == len(list(network.parameters()))
    wanted = {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.125, "adjust_lr_fn": "match_rms_adamw"}
    assert {name: muon.param_groups[0][name] for name in wanted} == wanted
    assert [adamw.param_groups[0][name] for name in ("lr", "betas", "weight_decay")] == [0.25, (0.5, 0.75), 0.125]
    # An output layer that shares the embedding's weight is neither.
    tied = nn.Sequential(nn.Embedding(9, 3), nn.Linear(3, 3), nn.Linear(3, 9))
    tied[2].weight = tied[0].weight
    assert [id(p) for p in hidden_matrices(tied)] == [id(tied[1].weight)]


@pytest.mark.parametrize(
    ("optimizer", "package", "tensors", "scalars"),
    # Scalars are float64 or float32: DoG's step for each of four tensors; the steps of AdamW's three.
    [("dog", "dog", 1, 4 * 8), ("prodigy", "prodigyopt", 4, 0), ("schedule-free-adamw", "schedulefree", 2, 0)],
)
def test_state_is_counted_wherever_an_optimizer_keeps_it(optimizer, package, tensors, scalars):
    pytest.importorskip(package)
    result = measure(a_run(optimizer, lr=1.0 if tensors != 2 else 0.01, epochs=1), TINY)
    assert result["parameters"] == 21
    assert 21 * result["state_bytes_per_parameter"] == pytest.approx(8 * 21 * tensors + scalars)


def test_the_state_of_parts_is_that_of_all():
    # A float64 for each of 12 numbers that Muon has, two for each of AdamW's nine, and three float32 steps.
    result = measure(a_run("muon-adamw", lr=0.01, epochs=1), TINY)
    assert 21 * result["state_bytes_per_parameter"] == pytest.approx(8 * 12 + 2 * 8 * 9 + 3 * 4)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(
        ValueError, match=r"optimizer schedulefree:AdamWScheduleFree: .*; pip install 'inna\[contenders\]'"
    ):
        build(a_run("schedule-free-adamw"), tiny_task.network())
