"""Altered state dicts are refused with nothing changed, or load and are usable."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from inna.torch import INNA, INNAprop, INNApropLRFree

CLASSES = [INNA, INNAprop, INNApropLRFree]


def stepped(cls, **flags):
    """Two parameters and an optimizer that has taken a step."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,))]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    speed = {} if cls is INNApropLRFree else {"initial_speed": 1.0}
    optimizer = cls(params, lr=0.1, **speed, **flags)
    optimizer.step()
    return params, optimizer


def places(value, path=()):
    """Every place in nested dictionaries and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*path, key)
        yield from places(item, (*path, key))


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a.equal(b) if isinstance(a, torch.Tensor) else a == b


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["momentum", "cpu", torch.float16, torch.int8, torch, object()]),
    st.builds(
        lambda shape, dtype: torch.ones(shape, dtype=dtype),
        st.sampled_from([(), (1,), (5,), (4, 3), (3, 4), (1, 3), (0,), (4, 3, 1)]),
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
    ),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["momentum", "params", "x"]), st.integers(0, 3), max_size=2),
)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=120)
@given(st.data())
def test_a_changed_state_dict_is_refused_or_usable(cls, fused, data):
    _, source = stepped(cls)
    hostile = copy.deepcopy(source.state_dict())
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        path = data.draw(st.sampled_from(list(places(hostile))), label="place")
        owner = hostile
        for key in path[:-1]:
            owner = owner[key]
        if data.draw(st.booleans(), label="remove"):
            del owner[path[-1]]
        else:
            owner[path[-1]] = data.draw(JUNK, label="junk")
    params, optimizer = stepped(cls, fused=fused)
    before, weights = copy.deepcopy(optimizer.state_dict()), [param.detach().clone() for param in params]
    try:
        optimizer.load_state_dict(hostile)
    except ValueError:
        assert same(optimizer.state_dict(), before)
        return
    if any(group["fused"] for group in optimizer.param_groups):
        return  # it insists on a kernel, which this machine may lack, or lack for what was loaded
    optimizer.step()
    assert [param.shape for param in params] == [weight.shape for weight in weights]
    assert all(optimizer.state[param]["momentum"].shape == param.shape for param in params if param.grad is not None)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda sd: sd["state"][0].update(momentum=torch.zeros(2)),
            r"parameter 0, of shape \(4, 3\): momentum has shape",
        ),
        (lambda sd: sd["state"][1].update(momentum=None), r"parameter 1, .* momentum must be a tensor, got None"),
        (
            lambda sd: (
                sd["state"][0].update(exp_avg=sd["state"][0].pop("momentum")),
                sd["param_groups"][0].pop("alpha"),
            ),
            "no 'exp_avg' here, .* another optimizer's",
        ),
        (lambda sd: sd["state"][0].update(step=math.nan), "step must be one number >= 0, got nan"),
        (
            lambda sd: sd["state"][0].update(momentum=torch.zeros(4, 3, dtype=torch.int64)),
            "momentum has dtype torch.int64",
        ),
        (lambda sd: sd["param_groups"][0].update(lr=-1.0), "lr must be a finite number >= 0, got -1.0"),
        (lambda sd: sd["param_groups"][0].update(kahan="yes"), "kahan must be True, False or None, got 'yes'"),
        (lambda sd: sd["param_groups"][0].update(kahan=3), "kahan must be True, False or None, got 3"),
        (lambda sd: sd["param_groups"][0].update(maximize=None), "maximize must be True or False, got None"),
        (lambda sd: sd["param_groups"][0].update(params=[0, 0]), "name a parameter twice"),
        (lambda sd: sd["param_groups"][0].update(params=[0, 7]), "state for 1, which none"),
        (lambda sd: sd.pop("state"), "needs the key 'state'"),
        (lambda sd: sd.update(param_groups=3), "needs the key 'param_groups'"),
    ],
)
def test_the_message_names_the_fault(cls, change, words):
    _, optimizer = stepped(cls)
    hostile = copy.deepcopy(optimizer.state_dict())
    before = copy.deepcopy(optimizer.state_dict())
    change(hostile)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(hostile)
    assert same(optimizer.state_dict(), before)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_state_of_another_optimizer_is_refused(cls):
    params, optimizer = stepped(cls)
    other = torch.optim.AdamW(params, lr=0.1)
    other.step()
    with pytest.raises(ValueError, match="another optimizer's"):
        optimizer.load_state_dict(other.state_dict())
