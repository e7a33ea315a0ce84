"""find_lr: what it finds, that it touches nothing, and what it says."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from inna.learning_rate_race import GRID, _projected
from inna.torch import INNA, INNApropLRFree, find_lr
from inna.torch.measures.constant_loss import constant_loss

pytestmark = pytest.mark.filterwarnings("ignore:the best learning rate")


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(96, 4, generator=generator)
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])


def loader(**settings):
    return DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True, **settings)


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1))


def quadratic(curvature=10.0):
    """Gradient descent converges iff lr < 2/curvature."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    inputs = torch.tensor([[1.0], [-1.0]]) * math.sqrt(curvature)
    return model, [(inputs, inputs)], lambda outputs, targets: (outputs - targets).square().mean() / 2


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, INNA, torch.optim.LBFGS, INNApropLRFree])
def test_any_optimizer_races(kind):
    found = find_lr(kind, network(), nn.functional.mse_loss, loader(), grid=[1e-3, 1e-2, 0.1], steps=90)
    assert found.lr in (1e-3, 1e-2, 0.1, 0.00316, 0.0316)
    assert found.steps == sum(found.table.steps)
    assert found.steps <= 95 or kind is INNApropLRFree  # which begins with tiny steps, and races again


def test_a_function_makes_optimizers_that_need_the_loss():
    made = []

    def guarded(params, lr):
        made.append(INNA(params, lr, loss_bound=0.0))
        return made[-1]

    find_lr(guarded, network(), nn.functional.mse_loss, loader(), grid=[0.01, 0.1, 1.0], steps=60)
    assert len(made) == 4  # and the one above the winner
    assert all(optimizer.param_groups[0]["guard_steps"] > 0 for optimizer in made)


@pytest.mark.parametrize("curvature", [0.5, 10.0, 1000.0])
def test_of_gradient_descent_on_a_quadratic_it_stays_below_the_edge_and_near_it(curvature):
    model, batches, loss = quadratic(curvature)
    found = find_lr(torch.optim.SGD, model, loss, batches)
    assert 0.05 / curvature < found.lr < 2 / curvature
    table = found.table.set_index("lr")
    for lr in GRID:
        assert (table.status[lr] == "trained") or lr > 2 / curvature or lr < 0.1 / curvature
    assert (table.status[[lr for lr in GRID if lr > 2.5 / curvature]] != "trained").all()


def test_all_candidates_see_the_same_batches_and_the_result_is_repeated():
    kept = []

    def loss(outputs, targets):
        kept.append(float(targets.sum()))
        return nn.functional.mse_loss(outputs, targets)

    results = [find_lr(torch.optim.SGD, network(0.5), loss, loader(), grid=[1e-3, 1e-2], steps=32) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0] != find_lr(torch.optim.SGD, network(0.5), loss, loader(), grid=[1e-3, 1e-2], steps=32, seed=1)
    assert kept[0:24:3] == kept[1:24:3] == kept[2:24:3]  # two candidates, and the untrained model


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_touched(fails):
    model = network(0.5)
    model[3].eval()
    model(data()[0]).sum().backward()
    batches = loader(generator=torch.Generator().manual_seed(3))
    before = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()], model[3].training
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state(), batches.generator.get_state()

    def loss(outputs, targets):
        random.random(), np.random.rand()
        if fails and outputs.requires_grad and random.random() < 0.2:
            raise ArithmeticError("the loss failed")
        return nn.functional.mse_loss(outputs, targets)

    if fails:
        with pytest.raises(ArithmeticError, match="the loss failed"):
            find_lr(INNA, model, loss, batches, steps=120)
    else:
        find_lr(INNA, model, loss, batches, steps=120)
    now = model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in before[0].items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), before[1], strict=True))
    assert model[3].training is before[2]
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.equal(batches.generator.get_state(), states[3])


class Sleeper(torch.optim.SGD):
    """Moves from its 60th step on."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count > 60:
            super().step()


def test_where_nothing_trains_yet_the_race_gets_longer():
    found = find_lr(Sleeper, network(), nn.functional.mse_loss, loader(), grid=[1e-3, 1e-2, 0.1], steps=60)
    assert found.steps > 120
    assert max(map(len, found.losses.values())) > 60
    assert (found.table.status == "trained").any()


def test_a_pair_that_stops_training_gives_way_to_the_next():
    class Relapsing(torch.optim.SGD):
        """Diverges after twelve steps, at the larger learning rates."""

        def step(self, closure=None):
            self.count = getattr(self, "count", 0) + 1
            if self.count > 12 and self.param_groups[0]["lr"] > 0.004:
                self.param_groups[0]["lr"] = 1e9
            super().step()

    found = find_lr(Relapsing, network(), nn.functional.mse_loss, loader(), grid=[1e-3, 3e-3, 0.01, 0.03], steps=120)
    assert found.lr == 3e-3
    assert list(found.table.status) == ["trained", "trained", "diverged", "diverged", "diverged"]


class Lucky(torch.optim.SGD):
    """In the second race it trains only at learning rates that are at most ``sure``."""

    races, sure = 0, math.inf

    def __init__(self, params, lr):
        super().__init__(params, lr)
        if lr == 0.01:  # the winner of the first race, and the first to enter the second one
            type(self).races += 1
        self.frozen = self.races > 1 and lr > self.sure

    def step(self, closure=None):
        if not self.frozen:
            super().step()


@pytest.mark.parametrize("sure", [0.01, 0.003, 0.001])
def test_where_training_has_only_just_begun_it_must_begin_with_another_order_too(sure):
    orders = {1: set(), 2: set()}
    kind = type("Kind", (Lucky,), {"sure": sure})

    def loss(outputs, targets):
        orders[max(1, kind.races)].add(float(targets.sum()))
        return nn.functional.mse_loss(outputs, targets) + 60  # training takes away less than a quarter

    found = find_lr(kind, network(), loss, loader(), grid=[0.001, 0.003, 0.01], steps=150)
    assert set(found.second) == {0.01, 0.003, 0.001}
    assert found.lr == sure
    assert [found.status[lr] for lr in (0.01, 0.003)] == [
        "trained" if lr <= sure else "trained once" for lr in (0.01, 0.003)
    ]
    assert found.steps == sum(found.table.steps)
    assert not orders[1] & orders[2]  # other batches


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([8.0, 8.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0], 0.25),  # a quarter in the second half, and again
        ([1.0] * 8, 1.0),
        ([1.0] * 4 + [3.0] * 4, 3.0),  # a loss that rises is not projected
        ([2.0] * 4 + [0.0] * 4, 0.0),
        ([-1.0] * 4 + [-2.0] * 4, -2.0),
        ([2.0] * 4 + [math.inf], math.inf),
    ],
)
def test_the_projected_loss_goes_on_falling_by_the_same_factor(losses, expected):
    assert _projected(losses) == expected


def test_losses_may_be_negative():
    def likelihood(outputs, targets):
        return 10 * nn.functional.mse_loss(outputs, targets) - 200

    found = find_lr(torch.optim.SGD, network(), likelihood, loader(), grid=[1e-4, 1e-3, 1e-2], steps=90)
    assert found.table.set_index("lr").status[found.lr] == "trained"


def test_where_nothing_trains_at_all_it_warns():
    frozen = nn.Sequential(nn.Linear(4, 1))
    nn.init.zeros_(frozen[0].weight), nn.init.zeros_(frozen[0].bias)
    with pytest.warns(UserWarning, match="no learning rate of the grid gets the loss below chance"):
        found = find_lr(torch.optim.SGD, frozen, nn.functional.mse_loss, loader(), grid=[1e-9, 1e-8], steps=24)
    assert set(found.table.status) == {"did not train"}
    with pytest.warns(UserWarning, match="gets the loss below chance"):
        found = find_lr(torch.optim.SGD, frozen, nn.functional.mse_loss, loader(), grid=[1e8, 1e9], steps=300)
    assert set(found.table.status) == {"diverged"}


def test_a_best_at_the_edge_of_the_grid_is_said():
    with pytest.warns(UserWarning, match=r"the best learning rate, 0\.01, is at the edge of the grid; extend it"):
        find_lr(torch.optim.SGD, network(), nn.functional.mse_loss, loader(), grid=[1e-4, 1e-3, 1e-2], steps=120)


def test_chance_is_the_loss_of_the_best_constant_output():
    inputs, targets = torch.randn(60, 4), torch.arange(60) % 3
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    found = find_lr(torch.optim.SGD, model, nn.functional.cross_entropy, [(inputs, targets)], grid=[1e-3, 1], steps=60)
    assert found.chance == pytest.approx(math.log(3), abs=1e-3)
    entropy = constant_loss(torch.zeros(1, 3), targets, nn.functional.cross_entropy)
    assert found.chance == pytest.approx(entropy, abs=1e-6)


def test_the_plot_shows_the_choice():
    found = find_lr(torch.optim.SGD, network(), nn.functional.mse_loss, loader(), grid=[1e-3, 1e-2, 0.1], steps=60)
    layers = found.plot().to_dict()["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["line", "rule"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [0.1]}, "grid must have at least two learning rates"),
        ({"grid": [0.1, -1.0]}, "grid must be a finite number > 0"),
        ({"steps": 10, "grid": [0.1, 0.2]}, "steps must be a whole number >= 24"),
        ({"batches": []}, "batches is empty"),
        ({"batches": [1, 2]}, r"batches must yield pairs \(inputs, targets\), got int"),
        ({"batches": iter([data()])}, "each time it is iterated"),
        ({"model": nn.Sequential(nn.Linear(4, 1), nn.Identity())}, "the model cannot be copied"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments_are_refused(changes, message):
    if "model" in changes:
        changes["model"].lock = (number for number in range(3))
    given = {"model": network(), "batches": loader(), "grid": [0.01, 0.1], "steps": 60} | changes
    with pytest.raises(ValueError, match=message):
        find_lr(torch.optim.SGD, loss=nn.functional.mse_loss, **given)


@pytest.mark.parametrize("fails", [False, True])
def test_a_loss_that_uses_the_model_leaves_it_untouched_and_is_reported(fails):
    model = network()
    model(data()[0]).sum().backward()
    model.eval()
    before = copy.deepcopy(model.state_dict()), [each.grad.clone() for each in model.parameters()]
    calls = []

    def loss(outputs, targets):
        calls.append(None)
        if fails and len(calls) > 40:
            raise RuntimeError("in the loss")
        model.train()
        used = model(data()[0]).square().mean()
        model.eval()
        return nn.functional.mse_loss(outputs, targets) + used

    def search():
        find_lr(torch.optim.SGD, model, loss, loader(), grid=[0.001, 0.01, 0.1], steps=60)

    if fails:
        with pytest.raises(RuntimeError, match="in the loss"):
            search()
    else:
        with pytest.warns(UserWarning, match="the loss uses the parameters of the model"):
            search()
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    for parameter, grad in zip(model.parameters(), before[1], strict=True):
        assert torch.equal(parameter.grad, grad)


def test_lazy_buffers_are_refused_as_not_to_be_copied():
    model = nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d(), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="the model cannot be copied"):
        find_lr(torch.optim.SGD, model, nn.functional.mse_loss, loader())


def test_a_function_that_makes_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="optimizer must return an optimizer, got NoneType"):
        find_lr(lambda params, lr: None, network(), nn.functional.mse_loss, loader())


def test_a_generator_that_ends_during_the_race_is_not_called_empty():
    batches = (batch for batch in [data()] * 8)  # as many as the first round takes
    with pytest.raises(ValueError, match="must yield batches each time it is iterated"):
        find_lr(torch.optim.SGD, network(), nn.functional.mse_loss, batches, grid=[0.001, 0.01, 0.1], steps=60)
