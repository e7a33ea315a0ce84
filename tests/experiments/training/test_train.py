"""A run computes what it says: exact iterates, exact measures, exact resumption, and divergence explained."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tiny_task
from inna.dynamics import from_sgd, step
from inna.experiments import Run, Task, train
from inna.experiments.rows.row_files import read_row, row_path
from inna.experiments.rows.run import NAMED_SCHEDULES
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.training.batches import EVALUATION_BATCH
from inna.experiments.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from inna.experiments.training.divergence import DIVERGENCE_FACTOR
from inna.experiments.training.train import checkpoint_path, measure
from inna.schedules import cosine_decay, hold_decay, linear_decay, power_decay
from timeless import without_times

TINY = tiny_task.make_task()


def a_run(optimizer="sgd", lr=0.1, **changes):
    values = {"batch_size": 16, "epochs": 3, "seed": 5, "precision": "float64"} | changes
    return Run("tiny", "network", optimizer, lr, **values)


def losses(result):
    return [entry["train_loss"] for entry in result["history"]]


@pytest.mark.parametrize("q", [0.0, 0.5, 0.25])
def test_the_iterates_are_those_of_the_rule_with_a_step_size_per_iteration(q):
    run = a_run("inna", 0.3, alpha=0.5, beta=0.2, q=q)
    inputs, targets = (part.double() for part in TINY.train)
    with isolated(derive(run.seed, "weights")):
        network = tiny_task.network().double()
    theta, momentum = [p.detach() for p in network.parameters()], [torch.zeros_like(p) for p in network.parameters()]
    expected, k = [], 0
    for epoch in range(run.epochs + 1):
        generator = torch.Generator().manual_seed(derive(run.seed, "order", epoch))
        order = torch.randperm(len(inputs), generator=generator) if epoch else torch.zeros(0, dtype=torch.int64)
        for batch in order.split(run.batch_size) if epoch else ():
            loss = nn.functional.mse_loss(network(inputs[batch]), targets[batch])
            grads = torch.autograd.grad(loss, list(network.parameters()))
            moved = [
                step(*state, run.lr * power_decay(q)(k), run.alpha, run.beta)
                for state in zip(theta, momentum, grads, strict=True)
            ]
            theta, momentum = [t for t, _ in moved], [m for _, m in moved]
            with torch.no_grad():
                for parameter, value in zip(network.parameters(), theta, strict=True):
                    parameter.copy_(value)
            k += 1
        expected.append(nn.functional.mse_loss(network(inputs), targets).item())
    result = measure(run, TINY)
    assert losses(result) == pytest.approx(expected, rel=1e-12)
    assert result["iterations"] == k == 9
    assert [entry["lr"] for entry in result["history"]] == pytest.approx(
        [0.3, *(0.3 * last**-q for last in (3, 6, 9))], rel=1e-14
    )


@pytest.mark.parametrize("schedule", NAMED_SCHEDULES)
@pytest.mark.parametrize("batch_size", [16, 40])
def test_a_schedule_ends_at_zero_at_the_horizon(schedule, batch_size):
    run = a_run(schedule=schedule, batch_size=batch_size, epochs=20)
    iterations = 20 * math.ceil(40 / batch_size)
    factor = {
        "linear": linear_decay(iterations),
        "cosine": cosine_decay(iterations, iterations // 20),
        "hold": hold_decay(iterations, iterations * 4 // 5),
    }[schedule]
    lrs = [entry["lr"] for entry in measure(run, TINY)["history"]]
    ends = [0, *range(iterations // 20 - 1, iterations, iterations // 20)]
    assert lrs == pytest.approx([run.lr * factor(k) for k in ends], rel=1e-14)
    assert 0 < lrs[-1] < 5.01 * run.lr / iterations


def test_a_schedule_that_ends_at_zero_needs_a_loader_with_a_length():
    loader = DataLoader(tiny_task.Stream())
    task = Task("t", tiny_task.network, loader, TINY.test, nn.functional.mse_loss)
    assert measure(a_run(), task)["status"] == "done"
    with pytest.raises(ValueError, match="schedule linear needs a DataLoader of known length"):
        measure(a_run(schedule="linear"), task)


def test_heavy_ball_and_inna_are_one_at_constant_steps():
    gamma, alpha, beta = from_sgd(0.04, momentum=0.9)
    ball = measure(a_run("heavy-ball", 0.04), TINY)
    inna = measure(a_run("inna", gamma, alpha=alpha, beta=beta), TINY)
    assert losses(ball) == pytest.approx(losses(inna), rel=1e-11)


def test_every_optimizer_starts_from_the_same_weights_and_seeds_differ():
    starts = {
        optimizer: losses(measure(a_run(optimizer, epochs=1), TINY))[0]
        for optimizer in ("sgd", "adam", "inna", "adagrad")
    }
    assert len(set(starts.values())) == 1
    assert losses(measure(a_run(seed=6, epochs=1), TINY))[0] != starts["sgd"]


def test_the_caller_keeps_random_state_and_threads():
    torch.set_num_threads(2)
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    result = measure(a_run(), tiny_task.make_loader_task())
    assert torch.get_num_threads() == 2
    assert result["threads"] == 1
    assert states[0].equal(torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def test_measures_are_taken_over_whole_sets_in_evaluation_mode():
    data = tiny_task.regression_data(2 * EVALUATION_BATCH + 7, seed=3)
    seen = []

    def record(outputs, targets):
        seen.append((outputs, targets))
        return (outputs - targets).abs().max()

    task = Task("t", tiny_task.network_with_dropout, data, data, nn.functional.mse_loss, {"worst": (record, "min")})
    result = measure(a_run("sgd", 0.01, epochs=1, batch_size=500), task)
    outputs, targets = seen[-1]
    assert targets.equal(data[1].double())
    assert result["test_worst"] == (outputs - targets).abs().max().item()
    # Training and test set are the same here, and dropout is off: so are the losses.
    assert result["train_loss"] == result["test_loss"]
    assert result["train_loss"] == pytest.approx(nn.functional.mse_loss(outputs, targets).item(), rel=1e-12)


def test_with_loss_samples_earlier_epochs_evaluate_the_first_of_them_and_the_last_all():
    data = tiny_task.regression_data(96, seed=3)
    part = data[0][:40], data[1][:40]
    task = Task("t", tiny_task.network, data, data, nn.functional.mse_loss)
    on_part = Task("t", tiny_task.network, data, part, nn.functional.mse_loss)  # its test loss is the part's
    run = a_run("inna", 0.05, epochs=3, batch_size=8)
    result = measure(dataclasses.replace(run, loss_samples=40), task)
    whole, expected = measure(run, task), measure(run, on_part)
    losses = [entry["train_loss"] for entry in result["history"]]
    assert losses == [*[entry["test_loss"] for entry in expected["history"]][:-1], whole["train_loss"]]
    assert [entry["test_loss"] for entry in result["history"]] == [entry["test_loss"] for entry in whole["history"]]
    assert result["train_loss"] == whole["train_loss"] == losses[-1]
    # More samples than there are are all.
    assert without_times(measure(dataclasses.replace(run, loss_samples=1000), task)) == without_times(whole)


def test_a_checkpoint_after_the_last_epoch_gives_the_loss_of_the_whole_set_again(tmp_path):
    run = a_run("inna", 0.05, epochs=2, batch_size=8, loss_samples=9)
    path = checkpoint_path(tmp_path, run)
    first = measure(run, TINY, checkpoint=path, leave_checkpoint=True)
    assert without_times(measure(run, TINY, checkpoint=path)) == without_times(first)
    assert first["train_loss"] == measure(dataclasses.replace(run, loss_samples=0), TINY)["train_loss"]


@pytest.mark.parametrize(
    ("optimizer", "settings", "bytes_each"),
    [("sgd", {}, 0), ("heavy-ball", {}, 8), ("inna", {"alpha": 0.5, "beta": 0.1}, 8), ("adam", {}, 16)],
)
def test_state_is_measured(optimizer, settings, bytes_each):
    result = measure(a_run(optimizer, 0.01, **settings), TINY)
    steps = 4 * 4 / result["parameters"] if optimizer == "adam" else 0  # a float32 for each of four tensors
    assert result["parameters"] == 21
    assert result["state_bytes_per_parameter"] == pytest.approx(bytes_each + steps)


def test_language_tasks_and_optimizers_with_closures():
    task = tiny_task.make_language_task()
    result = measure(a_run("lbfgs", 0.5, epochs=4), task)
    assert result["status"] == "done"
    assert result["test_perplexity"] == pytest.approx(math.exp(result["test_loss"]), rel=1e-12)
    # The next token is decided by the one before, and a bigram can know it: the loss goes to 0.
    assert result["train_loss"] < 1.0 < losses(result)[0]


def test_optimizers_with_modes_of_their_own_are_switched():
    switched = []

    class ScheduleFree(torch.optim.SGD):
        def train(self):
            switched.append("train")

        def eval(self):
            switched.append("eval")

    import sys

    module = type(sys)("with_modes")
    module.ScheduleFree = ScheduleFree
    sys.modules["with_modes"] = module
    try:
        measure(a_run("with_modes:ScheduleFree", epochs=2), TINY)
    finally:
        del sys.modules["with_modes"]
    assert switched == ["train", "eval"] * 3


class Stop(BaseException):
    pass


def interrupt_after(epoch):
    def stop(entry):
        if entry["epoch"] == epoch:
            raise Stop

    return stop


@pytest.mark.parametrize("make", [tiny_task.make_task, tiny_task.make_loader_task])
@pytest.mark.parametrize(
    "optimizer", ["adam", "inna", "inna-guarded", "muon-adamw", "schedule-free-adamw", "prodigy", "dog", "momo"]
)
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, make, optimizer, epoch):
    run = a_run(optimizer, 0.05, precision="float32", epochs=4, q=0.5)
    whole = measure(run, make())
    with pytest.raises(Stop):
        train(run, task=make(), folder=tmp_path, on_epoch=interrupt_after(epoch))
    assert not row_path(tmp_path, run).exists()
    seen = []
    train(run, task=make(), folder=tmp_path, on_epoch=lambda entry: seen.append(entry["epoch"]))
    assert seen == list(range(epoch + 1, 5))
    _, row = read_row(row_path(tmp_path, run))
    assert without_times(row) == without_times(whole)


@pytest.mark.parametrize(
    ("make", "samples"), [(tiny_task.make_task, 0), (tiny_task.make_task, 9), (tiny_task.make_loader_task, 0)]
)
@pytest.mark.parametrize(("optimizer", "schedule"), [("adam", "cosine"), ("inna", "linear"), ("heavy-ball", "power")])
def test_a_longer_run_continues_a_shorter_one_bit_for_bit(tmp_path, make, optimizer, schedule, samples):
    whole = a_run(optimizer, 0.05, precision="float32", epochs=5, schedule=schedule, loss_samples=samples)
    path = checkpoint_path(tmp_path, whole)
    for epochs in (1, 3, 5):
        run, seen = dataclasses.replace(whole, epochs=epochs, horizon=5), []
        result = measure(
            run, make(), checkpoint=path, checkpoint_seconds=math.inf, on_epoch=seen.append, leave_checkpoint=True
        )
        # No epoch is trained twice, and each row is that of a run of its own.
        assert [entry["epoch"] for entry in seen] == list(range({1: 0, 3: 2, 5: 4}[epochs], epochs + 1))
        assert without_times(result) == without_times(measure(run, make()))
    assert without_times(result) == without_times(measure(whole, make()))
    # A shorter run does not use the checkpoint of a longer one, and leaves it alone.
    content = path.read_bytes()
    shorter = dataclasses.replace(whole, epochs=2, horizon=5)
    again = measure(shorter, make(), checkpoint=path, leave_checkpoint=True)
    assert without_times(again) == without_times(measure(shorter, make()))
    assert path.read_bytes() == content


def test_other_schedules_seeds_and_horizons_are_other_trajectories():
    runs = [
        a_run(epochs=8, **changes)
        for changes in ({}, {"schedule": "linear"}, {"seed": 6}, {"schedule": "linear", "horizon": 9}, {"q": 0.5})
    ]
    assert len({run.trajectory for run in runs}) == len(runs)
    assert a_run(epochs=2).trajectory == runs[0].trajectory
    assert a_run(epochs=2, horizon=3) == a_run(epochs=2)
    with pytest.raises(ValueError, match="horizon must be at least epochs, 8; got 3"):
        a_run(epochs=8, schedule="linear", horizon=3)
    with pytest.raises(ValueError, match="schedule must be one of power, linear, cosine, hold, and q is for power"):
        a_run(schedule="linear", q=0.5)


def test_a_damaged_checkpoint_is_told_and_the_run_begins_anew(tmp_path):
    run = a_run("adam", 0.05)
    with pytest.raises(Stop):
        train(run, task=TINY, folder=tmp_path, on_epoch=interrupt_after(2))
    path = checkpoint_path(tmp_path, run)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    notes = []
    row = train(run, task=TINY, folder=tmp_path, on_note=notes.append)
    assert len(notes) == 1
    assert "checksum" in notes[0]
    assert without_times(measure(run, TINY)).items() <= without_times(row).items()


def test_checkpoints_hold_no_code(tmp_path):
    class Anything:
        pass

    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, {"weights": torch.ones(2), "list": [1, None, "a", 2.5]})
    assert load_checkpoint(path)["list"] == [1, None, "a", 2.5]
    with pytest.raises((AttributeError, TypeError)):
        save_checkpoint(path, {"code": Anything()})  # a local class cannot be pickled; what lay there is untouched
    assert load_checkpoint(path)["weights"].equal(torch.ones(2))
    save_checkpoint(path, {"code": random.Random(1)})
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


class Quadratic(nn.Module):
    """theta -> theta/sqrt(2) * input, so that the squared loss against 0 has curvature 1 at input 1."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(3))
        self.theta = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        return self.theta * inputs / math.sqrt(2) + 0 * self.idle.sum()


def quadratic_task():
    ones = torch.ones(8, 1)
    return Task("quadratic", Quadratic, (ones, 0 * ones), (ones, 0 * ones), nn.functional.mse_loss)


def test_overflow_is_found_at_its_iteration_with_the_last_finite_loss():
    # theta_k = (1 - lr)^k, loss theta_k^2/2: with lr = 1e10 it is 1e20^k/2, beyond 3.4e38 from k = 2 on.
    run = a_run(lr=1e10, batch_size=2, precision="float32")
    result = measure(run, quadratic_task())
    assert result["status"] == "diverged"
    divergence = result["divergence"]
    # theta = 1e20 and its gradient are finite still.
    assert (divergence["iteration"], divergence["epoch"], divergence["parameter"]) == (2, 1, None)
    assert divergence["reason"] == "the loss became inf"
    assert divergence["last_finite_loss"] == pytest.approx(0.5e20, rel=1e-5)
    assert divergence["lr"] == 1e10
    assert math.isnan(result["train_loss"])
    assert losses(result) == pytest.approx([0.5])


def test_the_step_that_broke_a_parameter_is_named_with_its_gamma():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = nn.Parameter(torch.ones(1))
            self.root = nn.Parameter(torch.zeros(1))  # d sqrt(root) is infinite at 0, the loss is not

        def forward(self, inputs):
            return inputs * self.fine + self.root.sqrt()

    ones = torch.ones(8, 1)
    task = Task("root", Root, (ones, 0 * ones), (ones, 0 * ones), nn.functional.mse_loss)
    divergence = measure(a_run(lr=0.1, q=0.5, batch_size=2), task)["divergence"]
    assert (divergence["iteration"], divergence["parameter"]) == (0, "root")
    assert divergence["reason"] == "the step made a parameter non-finite"
    assert (divergence["lr"], divergence["last_finite_loss"]) == (0.1, 1.0)


def test_a_parameter_that_the_loss_does_not_see_is_found_at_the_end_of_the_epoch():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = nn.Parameter(torch.ones(1))
            self.bias = nn.Parameter(torch.ones(1))

        def forward(self, inputs):
            return inputs * self.seen + torch.relu(self.bias)

    class ToMinusInfinity(torch.optim.SGD):
        def step(self, closure=None):
            with torch.no_grad():
                self.param_groups[0]["params"][1].fill_(-math.inf)

    import sys

    module = type(sys)("to_infinity")
    module.ToMinusInfinity = ToMinusInfinity
    sys.modules["to_infinity"] = module
    ones = torch.ones(8, 1)
    try:
        task = Task("hidden", Hidden, (ones, ones), (ones, ones), nn.functional.mse_loss)
        divergence = measure(a_run("to_infinity:ToMinusInfinity", batch_size=4), task)["divergence"]
    finally:
        del sys.modules["to_infinity"]
    assert (divergence["parameter"], divergence["epoch"], divergence["iteration"]) == ("bias", 1, 1)


@pytest.mark.parametrize(("growth", "status"), [(1.5, "done"), (2.5, "diverged")])
def test_a_loss_that_grew_beyond_the_factor_is_divergence(growth, status):
    # One iteration an epoch multiplies the loss by growth^2; after five epochs by growth^10.
    result = measure(a_run(lr=1 + growth, batch_size=8, epochs=5), quadratic_task())
    assert result["status"] == status
    assert [loss / 0.5 for loss in losses(result)] == pytest.approx(
        [growth ** (2 * n) for n in range(len(losses(result)))]
    )
    if status == "diverged":
        # 2.5^4 = 39 is kept, 2.5^6 = 244 is over the factor.
        assert growth**4 < DIVERGENCE_FACTOR < growth**6
        assert result["divergence"]["epoch"] == 3
        assert len(losses(result)) == 3


def test_weights_that_are_not_finite_from_the_start():
    class Broken(Quadratic):
        def __init__(self):
            super().__init__()
            self.theta.data.fill_(math.nan)

    task = quadratic_task()
    result = measure(a_run(), Task("broken", Broken, task.train, task.test, task.loss))
    assert result["status"] == "diverged"
    assert result["history"] == []
    assert result["divergence"]["epoch"] == 0


def test_a_loader_without_data_and_a_source_that_changed_are_refused():
    empty = DataLoader(TensorDataset(torch.ones(3, 3), torch.ones(3, 1)), batch_size=8, drop_last=True)
    task = Task("t", tiny_task.network, empty, TINY.test, nn.functional.mse_loss)
    with pytest.raises(ValueError, match="yields no data"):
        measure(a_run(), task)
    with pytest.raises(ValueError, match=r"loss_samples must be 0.*DataLoader; got 5"):
        measure(a_run(loss_samples=5), tiny_task.make_loader_task())
    with pytest.raises(ValueError, match="is not the task of the run"):
        train(Run(tiny_task.PATH, "network", "sgd", 0.1, source="0" * 64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "float8"}, "precision must be one of float32, float64, bfloat16, got 'float8'"),
        ({"device": "abacus"}, "device 'abacus' is not usable"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"optimizer": "nonsense"}, "there is no optimizer"),
    ],
)
def test_runs_that_cannot_start(changes, words):
    with pytest.raises(ValueError, match=words):
        measure(a_run(**changes), TINY)


def test_bfloat16_is_the_layers_arithmetic_and_nothing_elses():
    seen = []

    class Watched(nn.Linear):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            seen.append((self.weight.dtype, inputs.dtype, outputs.dtype))
            return outputs

    def loss(outputs, targets):
        assert outputs.dtype is torch.float32
        return nn.functional.mse_loss(outputs, targets)

    task = Task("t", lambda: Watched(3, 1), TINY.train, TINY.test, loss, {"worst": (tiny_task.worst_error, "min")})
    half, single = (losses(measure(a_run(precision=name), task)) for name in ("bfloat16", "float32"))
    assert set(seen) == {
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.float32, torch.float32, torch.float32),
    }
    assert half != single
    assert half == pytest.approx(single, rel=0.02)


@pytest.mark.parametrize("error", [AssertionError("a loss of one's own"), KeyError("part"), SystemExit(3)])
def test_a_loss_that_refuses_a_constant_output_does_not_lose_the_result(error):
    def loss(outputs, targets):
        if outputs.grad_fn is not None and "Expand" in type(outputs.grad_fn).__name__:
            raise error
        return torch.nn.functional.mse_loss(outputs, targets)

    row = measure(a_run("sgd", epochs=1), replace(TINY, loss=loss))
    assert (row["status"], row["constant_loss"]) == ("done", None)


def test_the_loss_of_a_constant_output_is_the_variance_of_the_targets():
    targets = torch.as_tensor(TINY.train[1])
    row = measure(a_run("sgd", epochs=1), replace(TINY, loss=torch.nn.functional.mse_loss))
    assert row["constant_loss"] == pytest.approx(float(targets.var(dim=0, correction=0).mean()), rel=1e-5)
