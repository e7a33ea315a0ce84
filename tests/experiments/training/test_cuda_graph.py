"""Iterations without the host: the same iterates as the eager loop, nothing read on the way; replayed on a GPU."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from inna.experiments import Run, Task
from inna.experiments.tasks.seeds import isolated
from inna.experiments.training.cuda_graph import GraphedEpochs, graph_settings
from inna.experiments.training.train import measure
from inna.schedules import power_decay
from inna.torch import INNA, INNAprop
from no_synchronisation import NoSynchronisation
from tiny_task import network, regression_data

COUNT, BATCH, EPOCHS = 22, 4, 3  # five whole batches and one of two


def graphed(optimizer_class, dtype=torch.float64, count=COUNT, **settings):
    with isolated(1):
        model = network().to(dtype)
    inputs, targets = (part.to(dtype) for part in regression_data(count, seed=1))
    optimizer = optimizer_class(model.parameters(), lr=0.1, **graph_settings(optimizer_class), **settings)
    epochs = GraphedEpochs(
        lambda x, y: nn.functional.mse_loss(model(x), y), optimizer, inputs, targets, BATCH, dtype=dtype
    )
    return model, epochs


def orders(count=COUNT):
    return [torch.randperm(count, generator=torch.Generator().manual_seed(epoch)) for epoch in range(EPOCHS)]


@pytest.mark.parametrize(
    ("optimizer_class", "settings"),
    [(INNA, {}), (INNA, {"initial_speed": 1.0, "alpha": 0.1, "beta": 0.3}), (INNAprop, {})],
)
def test_iterates_are_those_of_the_eager_loop(optimizer_class, settings):
    model, epochs = graphed(optimizer_class, **settings)
    with isolated(1):
        plain = network().double()
    optimizer = optimizer_class(plain.parameters(), lr=0.1, **settings)
    decay = power_decay(0.5)
    k = 0
    for order in orders():
        steps = [0.1 * decay(k + i) for i in range(math.ceil(COUNT / BATCH))]
        losses = epochs.epoch(order, steps)
        assert losses.shape == (len(steps),)
        for batch, lr, loss in zip(order.split(BATCH), steps, losses, strict=True):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            expected = nn.functional.mse_loss(plain(epochs.inputs[batch]), epochs.targets[batch])
            expected.backward()
            optimizer.step()
            assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
            k += 1
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer_class", [INNA, INNAprop])
def test_nothing_is_read_on_the_host_between_iterations(optimizer_class):
    # On a CPU the fused kernels take their step size from the host.
    _, epochs = graphed(optimizer_class, foreach=True)
    epochs.epoch(orders()[0], [0.1] * 6)
    epochs.count.zero_()
    with NoSynchronisation():
        for _ in range(epochs.whole):
            epochs._advance()


@pytest.mark.parametrize(("count", "whole", "rest"), [(20, 5, 0), (22, 5, 2), (3, 1, 0)])
def test_every_sample_is_seen_once_whatever_the_last_batch(count, whole, rest):
    _, epochs = graphed(INNA, count=count)
    seen = []
    inner = epochs.loss
    epochs.loss = lambda x, y: (seen.append(x), inner(x, y))[1]
    epochs.epoch(torch.arange(count).flip(0), [0.1] * (whole + bool(rest)))
    assert (epochs.whole, epochs.rest) == (whole, rest)
    assert torch.cat(seen).equal(epochs.inputs.flip(0))


def test_which_optimizers_can_be_recorded():
    assert graph_settings(INNA) == graph_settings(torch.optim.AdamW) == {"capturable": True}
    assert graph_settings(torch.optim.SGD) == {"fused": True}
    assert graph_settings(torch.optim.LBFGS) is None


def test_rows_say_whether_a_graph_was_replayed():
    task = Task("t", network, regression_data(8, 1), regression_data(4, 2), nn.functional.mse_loss)
    assert measure(Run("t", "network", "inna", 0.1, 0.5, 0.1, epochs=1), task)["cuda_graph"] is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["inna", "innaprop", "sgd", "heavy-ball", "adam", "adagrad"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_the_replayed_run_is_the_eager_one(optimizer, precision, monkeypatch):
    data = regression_data(COUNT, 1)
    task = Task("t", network, data, regression_data(4, 2), nn.functional.mse_loss)
    run = Run("t", "network", optimizer, 0.01, batch_size=BATCH, epochs=5, device="cuda", precision=precision)
    replayed = measure(run, task)
    assert replayed["cuda_graph"] is (optimizer != "adagrad")
    monkeypatch.setattr("inna.experiments.training.loop.Training._recordable", lambda self: False)
    eager = measure(run, task)
    assert eager["cuda_graph"] is False
    ours, theirs = ([entry["train_loss"] for entry in result["history"]] for result in (replayed, eager))
    assert ours == pytest.approx(theirs, rel=1e-5 if precision == "float32" else 1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_replayed_run_that_diverges_says_where():
    task = Task("t", network, regression_data(COUNT, 1), regression_data(4, 2), nn.functional.mse_loss)
    result = measure(Run("t", "network", "sgd", 1e20, batch_size=BATCH, epochs=5, device="cuda"), task)
    assert result["status"] == "diverged"
    assert result["divergence"]["epoch"] == 1
    assert 0 < result["divergence"]["iteration"] < 6
    assert result["divergence"]["reason"].startswith("the loss became")
