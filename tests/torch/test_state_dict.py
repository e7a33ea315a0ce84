"""State: round trips, other versions' and the authors' checkpoints, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from inna import dynamics
from inna.torch import INNA, INNAprop
from recorded import INNA_CASES, gradient, step_size, theta0

SETTINGS = [
    pytest.param(INNA, {}, id="INNA"),
    pytest.param(INNA, {"initial_speed": 1.0, "weight_decay": 0.1}, id="INNA-speed-decay"),
    pytest.param(INNA, {"kahan": True, "momentum_dtype": torch.float64}, id="INNA-kahan-float64"),
    pytest.param(INNA, {"lr": torch.tensor(0.05), "capturable": True}, id="INNA-capturable"),
    pytest.param(INNAprop, {}, id="INNAprop"),
    pytest.param(INNAprop, {"initial_speed": 1.0, "capturable": True}, id="INNAprop-capturable"),
]


def model():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).requires_grad_()


def make(kind, settings):
    torch.manual_seed(0)
    network = model()
    return network, kind(network.parameters(), **settings)


def train(network, optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        optimizer.zero_grad()
        network(torch.randn(5, 3, generator=generator)).square().sum().backward()
        optimizer.step()
    return [param.detach().clone() for param in network.parameters()]


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_training_goes_on_bit_for_bit_after_a_round_trip(kind, settings):
    network, optimizer = make(kind, settings)
    train(network, optimizer, range(5))
    saved_weights, saved_state = through_a_file(network.state_dict()), through_a_file(optimizer.state_dict())
    straight = train(network, optimizer, range(5, 10))

    resumed_network, resumed = make(kind, settings)
    resumed_network.load_state_dict(saved_weights)
    resumed.load_state_dict(saved_state)
    for param, old in zip(resumed_network.parameters(), network.parameters(), strict=True):
        for name, value in optimizer.state[old].items():
            assert resumed.state[param][name].dtype == value.dtype
    for ours, theirs in zip(train(resumed_network, resumed, range(5, 10)), straight, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_train_alike_and_apart(kind, settings, clone):
    network, optimizer = make(kind, settings)
    train(network, optimizer, range(3))
    network_copy, optimizer_copy = clone((network, optimizer))
    originals = train(network, optimizer, range(3, 6))
    for ours, theirs in zip(train(network_copy, optimizer_copy, range(3, 6)), originals, strict=True):
        assert torch.equal(ours, theirs)


def test_the_state_holds_what_the_docstring_says():
    for kind, settings, names in [
        (INNA, {}, {"momentum"}),
        (INNA, {"initial_speed": 1.0}, {"momentum", "step"}),
        (INNA, {"kahan": True}, {"momentum", "compensation"}),
        (INNAprop, {}, {"momentum", "step", "exp_avg_sq"}),
    ]:
        network, optimizer = make(kind, settings)
        train(network, optimizer, range(2))
        for param in network.parameters():
            assert optimizer.state[param].keys() == names
        assert optimizer.state_dict()["version"] == 1


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_state_dicts_that_lack_flags_get_the_defaults(kind):
    network, optimizer = make(kind, {})
    train(network, optimizer, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    del state["version"]  # as after torch.distributed.checkpoint, which keeps state and groups only
    for group in state["param_groups"]:
        for flag in ("initial_speed", "momentum_dtype", "kahan", "maximize", "foreach", "capturable", "fused"):
            del group[flag]
    straight = train(network, optimizer, range(2, 4))
    other, loaded = make(kind, {})
    train(other, loaded, range(2))
    loaded.load_state_dict(state)
    for ours, theirs in zip(train(other, loaded, range(2, 4)), straight, strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_step_count_that_is_a_number_becomes_a_tensor():
    network, optimizer = make(INNAprop, {})
    train(network, optimizer, range(3))
    state = copy.deepcopy(optimizer.state_dict())
    for values in state["state"].values():
        values["step"] = values["step"].item()
    straight = train(network, optimizer, range(3, 5))
    other, loaded = make(INNAprop, {})
    train(other, loaded, range(3))
    loaded.load_state_dict(state)
    for ours, theirs in zip(train(other, loaded, range(3, 5)), straight, strict=True):
        assert torch.equal(ours, theirs)


def test_a_later_format_is_refused():
    _, optimizer = make(INNA, {})
    with pytest.raises(ValueError, match=r"format version 2; this inna reads up to version 1"):
        optimizer.load_state_dict({**optimizer.state_dict(), "version": 2})


def checkpoint_of_the_authors(case, k, **group):
    theta, psi = case.iterates[k]
    return torch.tensor(theta), {
        "state": {0: {"step": k, "psi": torch.tensor(psi)}},
        "param_groups": [
            {
                "lr": case.gamma0,
                "alpha": case.alpha,
                "beta": case.beta,
                "weight_decay": case.weight_decay,
                "params": [0],
                **group,
            }
        ],
    }


@pytest.mark.parametrize("case", INNA_CASES, ids=str)
@pytest.mark.parametrize("weights_first", [True, False])
def test_the_authors_checkpoints_go_on_as_recorded(case, weights_first):
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = INNA([theta])
    weights, state = checkpoint_of_the_authors(case, 20, **({"decaypower": 0.0} if weights_first else {}))
    if weights_first:
        theta.data.copy_(weights)
    optimizer.load_state_dict(through_a_file(state))
    theta.data.copy_(weights)
    # Saved again before its first step, the checkpoint is the same: no decay is divided by beta twice.
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = 0.0
    theta.grad = torch.ones_like(theta)
    optimizer.step()  # changes nothing, so psi waits
    assert optimizer.state[theta].keys() >= {"psi"}
    assert torch.equal(theta.detach(), weights)
    for k in range(20, 100):
        optimizer.param_groups[0]["lr"] = step_size(case, k)
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        optimizer.step()
    recorded_theta, recorded_psi = (torch.tensor(x) for x in case.iterates[100])
    scale = torch.tensor(theta0()).abs().max()
    assert (theta.detach() - recorded_theta).abs().max() <= 1e-12 * scale
    psi = dynamics.phase_from_momentum(theta.detach(), optimizer.state[theta]["momentum"], case.alpha, case.beta)
    assert (psi - recorded_psi).abs().max() <= 1e-12 * scale
    assert "psi" not in optimizer.state[theta]


def test_the_authors_checkpoint_gets_no_second_initial_velocity():
    case = INNA_CASES[0]
    weights, state = checkpoint_of_the_authors(case, 20, initial_speed=1.0)
    theta = weights.clone().requires_grad_()
    optimizer = INNA([theta])
    optimizer.load_state_dict(state)
    theta.grad = torch.tensor(gradient(weights.numpy()))
    optimizer.step()
    momentum = dynamics.momentum_from_phase(weights, state["state"][0]["psi"], case.alpha, case.beta)
    expected, _ = dynamics.step(weights, momentum, theta.grad, case.gamma0, case.alpha, case.beta)
    torch.testing.assert_close(theta.detach(), expected, rtol=1e-13, atol=1e-13)


def test_the_authors_decay_of_the_step_size_is_refused_by_name():
    theta, state = checkpoint_of_the_authors(INNA_CASES[0], 20, decaypower=0.5)
    optimizer = INNA([theta.requires_grad_()])
    with pytest.raises(ValueError, match=r"power_decay"):
        optimizer.load_state_dict(state)
    assert not optimizer.state


def test_repr_shows_the_settings():
    text = repr(INNA([torch.zeros(1, requires_grad=True)], 0.2, initial_speed=1.0))
    for line in ("INNA (", "lr: 0.2", "alpha: 0.5", "beta: 0.1", "initial_speed: 1.0", "weight_decay: 0.0"):
        assert line in text


def test_hooks_of_the_user_see_and_change_what_is_loaded():
    network, optimizer = make(INNA, {"momentum_dtype": torch.float64})
    train(network, optimizer, range(2))
    state = optimizer.state_dict()
    other, loaded = make(INNA, {"momentum_dtype": torch.float64})
    seen = []

    def double_lr(optimizer, state_dict):
        groups = [{**group, "lr": 2 * group["lr"]} for group in state_dict["param_groups"]]
        return {**state_dict, "param_groups": groups}

    loaded.register_load_state_dict_pre_hook(double_lr)
    loaded.register_load_state_dict_post_hook(
        lambda optimizer: seen.extend(values["momentum"].dtype for values in optimizer.state.values())
    )
    loaded.load_state_dict(state)
    assert loaded.param_groups[0]["lr"] == 0.2
    assert seen == [torch.float64] * 4
    # The loaded tensors are copies.
    train(other, loaded, [0])
    for param, values in zip(network.parameters(), state["state"].values(), strict=True):
        assert optimizer.state[param]["momentum"] is values["momentum"]
