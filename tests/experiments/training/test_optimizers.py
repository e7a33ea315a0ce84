"""Optimizers by name: what a specification means, and what is refused."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch
from torch import nn

from inna.dynamics import INNA_DEFAULTS
from inna.experiments import Run
from inna.experiments.comparison import contender
from inna.experiments.study.optimizer_names import NAMED
from inna.experiments.tasks.fingerprint import SCHEME
from inna.experiments.training.optimizers import build, default_lr, names, parse
from inna.torch import INNA, INNAprop, INNApropLRFree


def built(text, lr=0.25):
    spec = parse(text)
    run = Run("d", "m", spec.name, lr, spec.alpha, spec.beta, settings=spec.settings)
    return build(run, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("inna", INNA, {"alpha": INNA_DEFAULTS.alpha, "beta": INNA_DEFAULTS.beta}),
        ("INNA:alpha=.1,beta=2,initial_speed=1", INNA, {"alpha": 0.1, "beta": 2.0, "initial_speed": 1.0}),
        ("innaprop:sigma=.9", INNAprop, {"sigma": 0.9, "alpha": 0.1, "beta": 0.9}),
        ("innaprop-lr-free:slice_every=11", INNApropLRFree, {"slice_every": 11, "alpha": 0.1, "beta": 0.9}),
        ("sgd", torch.optim.SGD, {"momentum": 0}),
        ("heavy-ball", torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        ("heavy-ball:momentum=.95", torch.optim.SGD, {"momentum": 0.95}),
        ("nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (
            "adamw:weight_decay=.01,betas=(.8,.9),amsgrad=true",
            torch.optim.AdamW,
            {"betas": (0.8, 0.9), "amsgrad": True},
        ),
        (
            "inna-guarded:alpha=.1",
            INNA,
            {"alpha": 0.1, "beta": INNA_DEFAULTS.beta, "loss_bound": 0.0, "time_step": 1.0, "initial_distance": None},
        ),
        ("prodigy:d_coef=2", None, {"d_coef": 2.0, "weight_decay": 0}),
        ("dog:reps_rel=1e-4", None, {"reps_rel": 1e-4}),
        ("momo:weight_decay=1e-3", None, {"weight_decay": 1e-3}),
        ("schedule-free-adamw:warmup_steps=7", None, {"warmup_steps": 7, "betas": (0.9, 0.999)}),
        ("RMSprop:alpha=.9", torch.optim.RMSprop, {"alpha": 0.9}),
        ("torch.optim:NAdam:weight_decay=1e-3", torch.optim.NAdam, {"weight_decay": 1e-3}),
        ("tiny_task:Fragile", None, {"momentum": 0}),
    ],
)
def test_specifications(text, kind, values):
    optimizer = built(text)
    assert kind is None or type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.25
    assert {name: group[name] for name in values} == values


def test_the_code_of_an_optimizer_of_ones_own_is_part_of_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "own_optimizers.py"
    path.write_text("import torch\nclass Mine(torch.optim.SGD):\n    factor = 1\n")
    first = contender("own_optimizers:Mine")
    assert first.source.startswith(SCHEME)
    assert contender("sgd").source == contender("torch.optim:SGD").source == contender("inna.torch:INNA").source == ""
    path.write_text(path.read_text().replace("factor = 1", "factor = 2"))
    with pytest.raises(ValueError, match=r"own_optimizers\.py has changed since this process imported it"):
        parse("own_optimizers:Mine")
    del sys.modules["own_optimizers"]
    assert contender("own_optimizers:Mine").source != first.source
    run = Run("d", "m", "own_optimizers:Mine", 0.1, optimizer_source=first.source)
    with pytest.raises(ValueError, match="its code was changed"):
        build(run, nn.Linear(2, 2))
    del sys.modules["own_optimizers"]


def test_every_name_of_torch_is_a_name():
    classes = [v for v in vars(torch.optim).values() if inspect.isclass(v) and issubclass(v, torch.optim.Optimizer)]
    assert {c.__name__.lower() for c in classes} - {"optimizer"} <= set(names())
    assert list(NAMED) == names()[: len(NAMED)]


def test_labels_and_rows_name_what_deviates_only():
    assert contender("heavy-ball:momentum=.9") == contender("heavy-ball")
    assert contender("inna:alpha=.5,beta=1").label == "INNA (0.5, 1)"
    assert contender("adamw:weight_decay=0").label == "AdamW (weight_decay=0)"
    assert contender("adamw:weight_decay=0") == contender("adamw:weight_decay=0.0")
    # Only INNA's alpha is a damping; that of RMSprop is a setting like others.
    rmsprop = contender("rmsprop:alpha=.9")
    assert (rmsprop.alpha, rmsprop.settings) == (None, (("alpha", 0.9),))


def test_default_step_sizes_are_the_classes_own():
    assert default_lr(parse("inna")) == INNA_DEFAULTS.lr
    assert default_lr(parse("adam")) == 1e-3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "there is no optimizer 'nonsense'; there are inna, inna-lr-free, innaprop, innaprop-lr-free, sgd"),
        ("inna:gamma=1", "inna has no setting 'gamma'; it has alpha, beta"),
        ("inna:alpha", "settings are written name=value"),
        ("inna:alpha=", "name=value"),
        ("inna:alpha=much", "alpha must be a finite number, got 'much'"),
        ("adamw:weight_decay=nan", "weight_decay must be a finite number, got nan"),
        ("sgd:momentum=-inf", "momentum must be a finite number, got -inf"),
        ("adam:eps=x", "eps must be a finite number, got 'x'"),
        ("adam:amsgrad=3", "amsgrad must be true or false, got 3"),
        ("adam:betas=3", r"betas must be 2 numbers such as \(0.9, 0.999\), got 3"),
        ("adam:betas=(nan,.9)", r"betas must be 2 numbers .*, got '\(nan,.9\)'"),
        ("sgd:lr=.1", "lr is not a setting"),
        ("no_such_module:Thing", "No module named"),
        ("torch.optim:Nothing", "has no torch optimizer 'Nothing'"),
        ("torch.nn:Linear", "has no torch optimizer 'Linear'"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
