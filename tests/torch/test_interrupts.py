"""What an exception or Ctrl-C in the middle of a step leaves behind, at instructions all over the step."""

from __future__ import annotations

import copy
import sys
from contextlib import contextmanager, suppress

import pytest
import torch

from inna.torch import INNA, INNAprop, blocks
from inna.torch.kernels import cpu

CLASSES = [INNA, INNAprop]
SETTINGS = [
    {},
    {"weight_decay": 0.1, "initial_speed": 1.0},
    {"kahan": True, "weight_decay": 0.1},
    {"lr": torch.tensor(0.1), "capturable": True, "initial_speed": 1.0},
]
PATHS = {"single": {"foreach": False}, "foreach": {"foreach": True}}
if not cpu.unavailable():
    PATHS["fused"] = {"fused": True}


# Only the fused path keeps a plan from one step to the next.
CASES = [(path, planned) for path in PATHS for planned in (False, True) if path == "fused" or not planned]


class Interrupt(BaseException):
    pass


@contextmanager
def interrupted_at(moment):
    """Raise `Interrupt` at one of the bytecode instructions, of this package and of torch, inside the block."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode" and "torch" in frame.f_code.co_filename:  # not a callback of the garbage collector
            count += 1
            if count == moment:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def prepare(cls, flags):
    """Two groups of tensors, after a step."""
    torch.manual_seed(0)
    sizes = [[(5, 8), (3,)], [(7,)]]
    groups = [{"params": [torch.nn.Parameter(torch.randn(size)) for size in group]} for group in sizes]
    optimizer = cls(groups, **{"lr": 0.1, **flags})
    for group in groups:
        for param in group["params"]:
            param.grad = torch.randn_like(param)
    optimizer.step()
    return optimizer


def snapshot(optimizer):
    """Per parameter, everything that a step writes."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    return [
        torch.cat([t.detach().flatten().clone() for t in (param, *optimizer.state[param].values())]) for param in params
    ]


def twin(optimizer):
    """A copy with the same gradients."""
    copied = copy.deepcopy(optimizer)
    for theirs, ours in zip(optimizer.param_groups, copied.param_groups, strict=True):
        for param, other in zip(theirs["params"], ours["params"], strict=True):
            other.grad = param.grad.clone()
    return copied


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "speed", "kahan", "capturable"])
@pytest.mark.parametrize(("path", "planned"), CASES)
def test_no_parameter_is_torn_from_its_state(cls, settings, path, planned):
    start = prepare(cls, {**settings, **PATHS[path]})
    before, whole = snapshot(start), twin(start)
    whole.step()
    after = snapshot(whole)
    outcomes = set()
    for moment in range(1, 100_000, 17):
        optimizer = twin(start)
        if planned:
            with torch.no_grad():
                optimizer.step()  # makes the plan
                for state, theirs in zip(optimizer.state.values(), start.state.values(), strict=True):
                    for name, value in theirs.items():
                        state[name].copy_(value)
                for ours, theirs in zip(optimizer.param_groups, start.param_groups, strict=True):
                    for param, other in zip(ours["params"], theirs["params"], strict=True):
                        param.copy_(other)
        interrupted = False
        try:
            with interrupted_at(moment):
                optimizer.step()
        except Interrupt:
            interrupted = True
        assert torch.is_grad_enabled()
        moved = []
        for ours, old, new in zip(snapshot(optimizer), before, after, strict=True):
            assert torch.equal(ours, old) or torch.equal(ours, new), moment
            moved.append(torch.equal(ours, new))
        if path == "fused":
            assert len(set(moved)) == 1, moment
        outcomes.add(tuple(moved))
        if not interrupted:
            break
    assert moment > 50
    assert {(False,) * 3, (True,) * 3} <= outcomes


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "speed", "kahan", "capturable"])
def test_each_number_of_a_tensor_in_several_pieces_is_stepped_whole_or_not(cls, settings, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 10)
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.randn(50))
    start = cls([param], **{"lr": 0.1, "foreach": True, **settings})
    param.grad = torch.randn(50)
    start.step()

    def numbers(optimizer):
        ((param, state),) = optimizer.state.items()
        return torch.stack([param.detach(), *(value for value in state.values() if value.dim())])

    before, whole = numbers(start).clone(), twin(start)
    whole.step()
    after = numbers(whole)
    shares = set()
    for moment in range(1, 100_000, 17):
        optimizer = twin(start)
        with suppress(Interrupt), interrupted_at(moment):
            optimizer.step()
            break
        now = numbers(optimizer)
        assert ((now == before).all(0) | (now == after).all(0)).all(), moment
        shares.add(int((now == after).all(0).sum()))
        step = optimizer.state[optimizer.param_groups[0]["params"][0]].get("step")
        if step is not None:
            assert step == (2 if (now == after).all() else 1)
    assert len(shares) > 2


@pytest.mark.parametrize("path", PATHS)
def test_an_interrupt_leaves_nothing_for_the_next_step(path):
    """Settings half written, for example."""
    start = prepare(INNA, PATHS[path])
    start.step()
    expected = twin(start)
    expected.step()
    for moment in range(1, 2_000, 7):
        optimizer = twin(start)
        optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(optimizer.state, start.state, strict=True):
                ours.copy_(theirs)
                optimizer.state[ours]["momentum"].copy_(start.state[theirs]["momentum"])
        optimizer.param_groups[0]["lr"] = 0.7
        before = snapshot(optimizer)
        with suppress(Interrupt), interrupted_at(moment):
            optimizer.step()
        if any(torch.equal(old, new) is False for old, new in zip(before, snapshot(optimizer), strict=True)):
            break
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        for ours, theirs in zip(snapshot(optimizer), snapshot(expected), strict=True):
            assert torch.equal(ours, theirs), moment
    assert moment > 50
