"""State that wrappers and hooks keep, older state dicts, subclasses, and state that no step could write to."""

from __future__ import annotations

import collections
import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inna.torch import INNA, INNAprop

CLASSES = [INNA, INNAprop]
NAMES = st.one_of(
    st.text(min_size=1, max_size=8), st.sampled_from(["exp_avg", "momentum_buffer", "slow", "params", "prev_grad"])
).filter(lambda name: name not in {"momentum", "step", "compensation", "psi", "exp_avg_sq"})
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.builds(
        lambda shape, dtype: torch.ones(shape, dtype=dtype),
        st.sampled_from([(), (3,), (2, 2), (0,)]),
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=4,
)


def made(cls, dtype=torch.float32, **flags):
    params = [torch.nn.Parameter(torch.ones(3, dtype=dtype)), torch.nn.Parameter(torch.ones(2, 2, dtype=dtype))]
    optimizer = cls(params, lr=0.1, **flags)
    with_gradients(optimizer)
    return optimizer


def with_gradients(optimizer):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.full_like(param, 0.5)


def same(a, b):
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=60)
@given(
    extra=st.dictionaries(NAMES, VALUES, max_size=3),
    beside=st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=2),
    steps=st.integers(0, 2),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    through_a_file=st.booleans(),
)
def test_an_optimizer_takes_the_checkpoint_that_it_has_saved(cls, extra, beside, steps, dtype, through_a_file):
    source, target = made(cls, dtype), made(cls, dtype)
    for _ in range(steps):
        source.step()
    source.state[source.param_groups[0]["params"][0]].update(copy.deepcopy(extra))
    source.state.update(copy.deepcopy(beside))  # keys that are no parameters
    saved = copy.deepcopy(source.state_dict())
    if through_a_file:
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
    target.load_state_dict(saved)
    assert same(target.state_dict()["state"], source.state_dict()["state"])
    for optimizer in (source, target):
        with torch.no_grad():
            for param in optimizer.param_groups[0]["params"]:
                param.fill_(1)
        with_gradients(optimizer)
        optimizer.step()
        optimizer.step()
    assert same(target.state_dict()["state"], source.state_dict()["state"])
    for ours, theirs in zip(target.param_groups[0]["params"], source.param_groups[0]["params"], strict=True):
        assert torch.equal(ours, theirs)


def test_containers_of_a_wrapper_keep_their_types():
    Pair = collections.namedtuple("Pair", "a b")
    source, target = made(INNA), made(INNA)
    source.step()
    kept = {
        "pair": Pair(torch.ones(1), "text"),
        "queue": [torch.ones(2, dtype=torch.float64)],
        "ordered": collections.OrderedDict(x=1),
    }
    source.state[source.param_groups[0]["params"][0]].update(kept)
    target.load_state_dict(source.state_dict())
    state = target.state[target.param_groups[0]["params"][0]]
    assert all(same(state[name], value) for name, value in kept.items())


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("kind", ["AdamW", "SGD", "RMSprop", "Adagrad", "RAdam", "ASGD", "Rprop", "other"])
def test_the_state_of_another_optimizer_is_refused_by_name(cls, kind):
    if kind == "other":
        other = made(INNAprop if cls is INNA else INNA)
    else:
        extra = {"momentum": 0.9} if kind == "SGD" else {}
        other = getattr(torch.optim, kind)([torch.nn.Parameter(torch.ones(n)) for n in ((3,), (2, 2))], **extra)
        with_gradients(other)
    other.step()
    optimizer = made(cls)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"parameter 0, .*is it (another optimizer's|INNAprop's|INNA's)\?"):
        optimizer.load_state_dict(other.state_dict())
    assert same(optimizer.state_dict(), before)


class NarrowINNA(INNA):
    def __init__(self, params, lr=0.1):
        super().__init__(params, lr, alpha=0.9, maximize=True)


class NarrowINNAprop(INNAprop):
    def __init__(self, params, lr=0.1, **kwargs):
        super().__init__(params, lr, alpha=0.9, maximize=True, **kwargs)


@pytest.mark.parametrize(
    "make", [NarrowINNA, NarrowINNAprop, *(lambda p, c=c: c(p, 0.1, alpha=0.9, maximize=True) for c in CLASSES)]
)
@given(data=st.data())
def test_settings_that_a_state_dict_lacks_are_those_of_the_constructor(make, data):
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = make([param])
    param.grad = torch.ones(3)
    optimizer.step()
    older = copy.deepcopy(optimizer.state_dict())
    (group,) = older["param_groups"]
    for name in data.draw(st.sets(st.sampled_from(sorted(group.keys() - {"params"})))):
        del group[name]
    if data.draw(st.booleans(), label="no version"):
        del older["version"]
    twin = make([torch.nn.Parameter(param.detach().clone())])
    twin.load_state_dict(older)
    assert {name: twin.param_groups[0][name] for name in twin.defaults} == twin.defaults
    (other,) = twin.param_groups[0]["params"]
    other.grad = torch.ones(3)
    optimizer.step()
    twin.step()
    assert torch.equal(param, other)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"foreach": False}, {"capturable": True}])
@given(data=st.data())
def test_what_a_state_dict_is_loaded_with_a_step_can_write(cls, flags, data):
    """Step counts and state of other dtypes and layouts: converted, or refused by name at once."""
    flags = {"initial_speed": 1.0, "kahan": True, **flags}
    source, target = made(cls, **flags), made(cls, **flags)
    source.step()
    saved = copy.deepcopy(source.state_dict())
    conversions = {
        "int": lambda t: int(t) if t.numel() == 1 else t,
        "int64": lambda t: t.long() if t.numel() == 1 else t,
        "float64": torch.Tensor.double,
        "bfloat16": torch.Tensor.bfloat16,
        "float16": torch.Tensor.half,
        "float8": lambda t: t.to(torch.float8_e4m3fn),
        "shape": lambda t: t.reshape(1, 1) if t.numel() == 1 else t,
        "expanded": lambda t: t[:1].expand_as(t) if t.dim() else t,
        "transposed": lambda t: t.t().contiguous().t() if t.dim() == 2 else t,
        "negative": torch._neg_view,
        "zero": lambda t: torch._efficientzerotensor(t.shape),
        "sparse": torch.Tensor.to_sparse,
        "meta": lambda t: t.to("meta"),
        "gradient": lambda t: t.clone().requires_grad_(),
    }
    with torch.inference_mode():
        inference = torch.zeros(2, 2)
    conversions["inference"] = lambda t: inference if t.shape == (2, 2) else t
    for values in saved["state"].values():
        for name in values:
            values[name] = conversions[data.draw(st.sampled_from(list(conversions)), label=name)](values[name])
    before = copy.deepcopy(target.state_dict())
    error = None
    try:
        target.load_state_dict(saved)
    except ValueError as refusal:
        error = refusal
    if error is not None:
        assert str(error).startswith("the state dict's state of parameter")
        assert same(target.state_dict(), before)
        return
    target.step()
    for param, values in target.state.items():
        assert param.isfinite().all()
        assert values["step"] in (1.0, 2.0)
        assert values["momentum"].dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float4_e2m1fn_x2, torch.complex64, torch.int32]
)
def test_a_momentum_dtype_that_no_step_can_use_is_refused_by_the_constructor(cls, dtype):
    with pytest.raises(ValueError, match="momentum_dtype must be a real floating-point"):
        cls([torch.nn.Parameter(torch.ones(3))], momentum_dtype=dtype)


def test_a_kernel_that_a_checkpoint_insists_on_is_looked_for_at_once():
    saved = made(INNA).state_dict()
    saved["param_groups"][0]["fused"] = True
    with pytest.raises(ValueError, match=r"fused=True in the state dict: parameter 0, .* leave gaps"):
        INNA([torch.nn.Parameter(torch.ones(3, 2)[:, 0]), torch.nn.Parameter(torch.ones(2, 2))]).load_state_dict(saved)
