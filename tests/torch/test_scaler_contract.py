"""Who divides the gradients by GradScaler's scale, when, and on which path: as with torch's AdamW of the same flags."""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu

SCALE = 2.0**16
CLASSES = [INNA, INNAprop]
FUSED = [None, False, pytest.param(True, marks=pytest.mark.skipif(bool(cpu.unavailable()), reason="no kernels"))]


def make_scaler():
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    scaler.scale(torch.ones(()))  # creates the scale
    return scaler


def parameter(shape=(2, 3), dtype=torch.float32):
    return torch.nn.Parameter(torch.linspace(-1, 1, 6, dtype=dtype).reshape(shape))


def observe(optimizer, param, fill):
    """What hooks see and what a scaled step leaves behind."""
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(("before", param.grad.clone())))
    optimizer.register_step_post_hook(lambda *_: seen.append(("after", param.grad.clone())))
    before = param.detach().clone()
    param.grad = torch.full_like(param, fill) * SCALE
    scaler = make_scaler()
    scaler.step(optimizer)
    scaler.update()
    seen.append(("moved", not torch.equal(before, param)))
    seen.append(("scale", scaler.get_scale()))
    seen.append(("left", hasattr(optimizer, "grad_scale"), hasattr(optimizer, "found_inf")))
    return seen


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("fill", [0.5, torch.inf])
@pytest.mark.parametrize("lr", [1e-3, 0.0])
def test_the_same_flags_mean_what_they_mean_for_adamw(cls, fused, foreach, fill, lr):
    if fused and foreach:
        return
    sides = []
    for kind in (cls, torch.optim.AdamW):
        param = parameter()
        optimizer = kind([param], lr=lr, weight_decay=0.0, fused=fused, foreach=foreach)
        assert getattr(optimizer, "_step_supports_amp_scaling", False) is bool(fused)
        sides.append(observe(optimizer, param, fill))
    assert str(sides[0]) == str(sides[1])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_a_step_of_length_zero_in_a_tensor_divides_the_gradients_only(cls, fused, compiled):
    param = parameter()
    optimizer = cls([param], lr=torch.tensor(0.1), fused=fused)
    scaler = make_scaler()
    if compiled:
        optimizer.step = torch.compile(optimizer.step)
    for lr in (0.1, 0.0, 0.0):  # the first makes the plan
        optimizer.param_groups[0]["lr"].fill_(lr)
        before = param.detach().clone(), copy.deepcopy(optimizer.state_dict()["state"])
        param.grad = torch.full_like(param, 0.5 * SCALE)
        scaler.step(optimizer)
        scaler.update()
        assert (param.grad == 0.5).all()
        if lr == 0:
            assert str(before) == str((param.detach(), optimizer.state_dict()["state"]))


@pytest.mark.parametrize("cls", CLASSES)
def test_the_flag_can_be_set_as_torchs_can(cls):
    for flag in (True, False):
        param = parameter()
        optimizer = cls([param])
        optimizer._step_supports_amp_scaling = flag
        assert dict(observe(optimizer, param, 0.5)[:1])["before"][0, 0] == (0.5 * SCALE if flag else 0.5)
        assert (param.grad == 0.5).all()


def another_layout(optimizer):
    for param in every_parameter(optimizer):
        param.grad = param.grad.t().contiguous().t()


def another_group(optimizer):
    added = parameter(dtype=torch.float64)
    # The scaler has not seen this gradient, but the step divides all gradients.
    added.grad = torch.full_like(added, 0.25) * getattr(optimizer, "grad_scale", 1)
    optimizer.add_param_group({"params": [added], "lr": 0.3, "fused": None})


def setting(**values):
    def change(optimizer):
        optimizer.param_groups[0].update(values)

    return change


def state_in(name, dtype):
    def change(optimizer):
        for values in optimizer.state.values():
            if name in values:
                values[name] = values[name].to(dtype)

    return change


def forget(optimizer):
    optimizer.state.clear()


def failure(optimizer):
    raise InterruptedError


CHANGES = {
    "layout": another_layout,
    "group": another_group,
    "single": setting(fused=False, foreach=False),
    "foreach": setting(fused=False, foreach=True),
    "fused": setting(fused=None, foreach=None),
    "kahan": setting(kahan=True),
    "speed": setting(initial_speed=1.0),
    "capturable": setting(capturable=True),
    "lr": setting(lr=0.0),
    "step float64": state_in("step", torch.float64),
    "step bfloat16": state_in("step", torch.bfloat16),
    "step int64": state_in("step", torch.int64),
    "momentum float64": state_in("momentum", torch.float64),
    "forget": forget,
    "failure": failure,
}


def every_parameter(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


@contextmanager
def hooked(optimizer, change):
    handle = optimizer.register_step_pre_hook(lambda *_: change(optimizer))
    try:
        yield
    finally:
        handle.remove()


def numbers(optimizer):
    """Parameters, gradients and state; a state of zeros is as none."""
    return [
        (param.detach(), param.grad, {name: value for name, value in optimizer.state[param].items() if value.any()})
        for param in every_parameter(optimizer)
    ]


@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=60)
@given(st.data())
def test_every_change_of_path_between_asking_and_stepping(cls, data):
    """A scaled step, announced or not, ends where the step without a scaler ends; a skipped one changes nothing."""
    flags = data.draw(
        st.fixed_dictionaries(
            {
                "fused": st.sampled_from([None, False, True] if not cpu.unavailable() else [None, False]),
                "capturable": st.booleans(),
                "initial_speed": st.sampled_from([None, 1.0]),
                "weight_decay": st.sampled_from([0.0, 0.1]),
            }
        )
    )
    announced = data.draw(st.sampled_from([None, True, False]), label="announced")
    with_scaler, without = (cls([parameter(), parameter((3, 2))], lr=0.1, **flags) for _ in range(2))
    if announced is not None:
        with_scaler._step_supports_amp_scaling = announced
    announced = getattr(with_scaler, "_step_supports_amp_scaling", False)
    scaler = make_scaler()
    for k in range(data.draw(st.integers(1, 4), label="steps")):
        change = CHANGES[data.draw(st.sampled_from(list(CHANGES)), label="change")]
        spoiled = data.draw(st.booleans(), label="spoiled")
        scale = scaler.get_scale()
        for optimizer, factor in ((with_scaler, scale), (without, 1.0)):
            for i, param in enumerate(every_parameter(optimizer)):
                param.grad = torch.full_like(param, 0.5 + i + k) * factor
        if spoiled:
            with_scaler.param_groups[0]["params"][1].grad[0, 1] = torch.inf
        before = copy.deepcopy(numbers(with_scaler))
        errors = []
        try:
            with hooked(with_scaler, change):
                scaler.step(with_scaler)
        except (InterruptedError, RuntimeError) as error:
            errors.append(type(error))
        scaler.update()
        assert not {"grad_scale", "found_inf"} & vars(with_scaler).keys()
        if spoiled:
            assert scaler.get_scale() == scale / 2
            if not errors and change is not forget and change is not another_group:
                after = numbers(with_scaler)
                for (ours, _, state), (theirs, _, earlier) in zip(after, before, strict=True):
                    assert torch.equal(ours, theirs)
                    momentum = state.get("momentum", torch.zeros(1)), earlier.get("momentum", torch.zeros(1))
                    assert torch.equal(*(value.double() for value in momentum))
                    assert state.get("step", 0) == earlier.get("step", 0)
            if announced:  # the hook has run
                with suppress(InterruptedError):
                    change(without)
            continue
        if errors and errors[0] is RuntimeError:
            with pytest.raises(RuntimeError), hooked(without, change):
                without.step()
            return  # fused=True insists
        try:
            with hooked(without, change):
                without.step()
        except InterruptedError:
            assert errors == [InterruptedError]
            continue
        assert not errors
        for (ours, grad, state), (theirs, plain, other) in zip(numbers(with_scaler), numbers(without), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
            if with_scaler.param_groups[0]["lr"]:
                torch.testing.assert_close(grad, plain)
            torch.testing.assert_close(state, other, rtol=1e-5, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flags", [{"fused": False, "foreach": False}, {"foreach": True}, {}])
def test_a_capturable_step_is_skipped_on_the_device(cls, flags):
    param = parameter()
    optimizer = cls([param], lr=torch.tensor(0.1), capturable=True, **flags)
    optimizer._step_supports_amp_scaling = True
    for fill, moves in ((0.5, True), (torch.inf, False), (0.5, True)):
        before, state = param.detach().clone(), copy.deepcopy(dict(optimizer.state[param]))
        assert ("moved", moves) in observe(optimizer, param, fill)
        if not moves:
            assert torch.equal(before, param)
            torch.testing.assert_close(dict(optimizer.state[param]), state, rtol=0, atol=0)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(0.1)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("where", ["pre-hook", "post-hook", "step"])
def test_an_exception_leaves_no_scale_for_the_next_step(cls, where):
    def fail(*_):
        raise InterruptedError

    param = parameter()
    optimizer = cls([param])
    optimizer._step_supports_amp_scaling = True
    if where == "step":
        optimizer._prepare = fail
    else:
        register = {"pre-hook": optimizer.register_step_pre_hook, "post-hook": optimizer.register_step_post_hook}
        register[where](fail)
    scaler = make_scaler()
    param.grad = torch.full_like(param, SCALE)
    with pytest.raises(InterruptedError):
        scaler.step(optimizer)
    assert not {"grad_scale", "found_inf"} & vars(optimizer).keys()
