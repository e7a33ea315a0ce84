"""A plan is reused while nothing moves, and notices every change."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref

import pytest
import torch

from fused_steps import Tagged, needs_kernels, stepper
from inna.torch import INNA, INNAprop
from inna.torch.kernels.plan import _metadata_check

pytestmark = needs_kernels


@pytest.fixture(params=["torch's guards", "own facts"])
def watching(request, monkeypatch):
    if request.param == "own facts":
        monkeypatch.setitem(sys.modules, "torch._C._dynamo.guards", None)  # as in a torch that has none


def test_the_check_notices_other_metadata(watching):
    plain = torch.arange(6.0)
    alike = _metadata_check([plain, torch.ones(2, 3)])
    assert alike(torch.zeros(6), torch.zeros(2, 3))
    assert not alike(None, torch.zeros(2, 3))
    others = (
        torch.zeros(2, 3).t(),
        torch.zeros(6),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(2, 3, device="meta"),
        torch._neg_view(torch.zeros(2, 3)),
        torch._efficientzerotensor(2, 3),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3).as_subclass(Tagged),
        None,
    )
    for other in others:
        assert not alike(plain, other), other
    gone = weakref.ref(plain)
    del plain
    assert gone() is None


def test_a_plan_is_kept_while_gradients_are_new_at_every_step(watching):
    optimizer = stepper()
    optimizer.step()
    (plan,) = optimizer._plans.values()
    (param,) = optimizer.param_groups[0]["params"]
    for closure in (None, lambda: torch.ones(())):
        optimizer.zero_grad()
        param.grad = torch.ones(4, 6)
        optimizer.step(closure)
        assert list(optimizer._plans.values()) == [plan]
    gone = weakref.ref(param.grad)
    param.grad = None
    assert gone() is None


def test_a_plan_keeps_no_state_in_memory():
    optimizer = stepper()
    (param,) = optimizer.param_groups[0]["params"]
    for drop in (optimizer.state.clear, lambda: optimizer.state[param].update(momentum=torch.zeros(4, 6))):
        optimizer.step()
        optimizer.step()
        gone = weakref.ref(optimizer.state[param]["momentum"])
        drop()
        assert gone() is None


@pytest.mark.parametrize("cls", [torch.optim.AdamW, INNA, INNAprop])
@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("how", ["replaced", "removed", "group removed", "cleared"])
def test_parameters_that_leave_are_freed_at_once(cls, flags, how):
    param = torch.nn.Parameter(torch.ones(10))
    others = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = cls([{"params": [param, others[0]]}, {"params": [others[1]]}], **flags)
    for k in range(3):
        for each in (param, *others[k % 2 :]):  # one of them without a gradient now and then
            each.grad = torch.ones_like(each)
        others[0].grad = None if k == 2 else others[0].grad
        optimizer.step()
    gone = weakref.ref(param)
    state = optimizer.state.pop(param)
    if how == "replaced":
        new = torch.nn.Parameter(torch.ones(10))
        optimizer.state[new] = state
        optimizer.param_groups[0]["params"][0] = new
    elif how == "removed":
        del optimizer.param_groups[0]["params"][0]
    elif how == "group removed":
        del optimizer.param_groups[0]
    else:
        optimizer.param_groups.clear()
        optimizer.state.clear()
    del param, each, state
    gc.collect()
    assert gone() is None
    for group in optimizer.param_groups:
        for left in group["params"]:
            left.grad = torch.ones_like(left)
    optimizer.step()


def test_a_plan_sees_everything_that_moves(watching):
    """After any change between steps, the next step is that of a fresh single path."""

    def new_state(optimizer: INNA) -> None:
        for state in optimizer.state.values():
            state["momentum"] = state["momentum"] + 1

    def new_states(optimizer: INNA) -> None:
        for param in list(optimizer.state):
            optimizer.state[param] = {"momentum": optimizer.state[param]["momentum"] * 2}

    def new_data(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            param.data = param.data.clone() * 3

    def transposed(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"][:1]:
            param.data = param.data.t()
            param.grad = param.grad.t()

    def doubles(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            grad, param.grad = param.grad, None
            param.data = param.data.double()
            param.grad = grad.double()

    def no_gradient(optimizer: INNA) -> None:
        optimizer.param_groups[0]["params"][1].grad = None

    def kahan(optimizer: INNA) -> None:
        optimizer.param_groups[0]["kahan"] = True

    def speed(optimizer: INNA) -> None:
        optimizer.param_groups[0]["initial_speed"] = 1.0

    def settings(optimizer: INNA) -> None:
        optimizer.param_groups[0].update(lr=0.3, alpha=0.2, beta=0.0, weight_decay=0.1, maximize=True)

    def pending_sign(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            param.grad = torch._neg_view(param.grad)

    def swapped_gradient(optimizer: INNA) -> None:
        optimizer.param_groups[0]["params"][0].grad.data = torch.ones(4, 4).t() * torch.arange(4)

    def one_gradient(optimizer: INNA) -> None:
        first, *_ = optimizer.param_groups[0]["params"]
        first.data = torch.ones(5)
        optimizer.state[first]["momentum"] = torch.zeros(5)
        first.grad = optimizer.param_groups[0]["params"][1].grad

    def shorter(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"][1:2]:
            param.grad = None
            param.data = param.data[:3]
            param.grad = torch.ones(3)
            optimizer.state[param]["momentum"] = optimizer.state[param]["momentum"][:3]

    def fewer(optimizer: INNA) -> None:
        del optimizer.param_groups[0]["params"][0]

    def reloaded(optimizer: INNA) -> None:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    def another_group(optimizer: INNA) -> None:
        param = torch.nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer.add_param_group({"params": [param], "lr": 0.2})

    changes = (new_state, new_states, new_data, transposed, doubles, no_gradient, kahan, speed, settings, fewer)
    for change in (*changes, pending_sign, swapped_gradient, one_gradient, shorter, reloaded, another_group):
        sides = []
        for flags in ({}, {"fused": False, "foreach": False}):
            torch.manual_seed(3)
            params = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 4), (5,), ())]
            optimizer = INNA(params, **flags)
            for k in range(6):
                for param in params:
                    param.grad = None
                    param.grad = torch.randn(param.shape).to(param.dtype)
                if k == 3:
                    change(optimizer)
                optimizer.step()
            sides.append([param for group in optimizer.param_groups for param in group["params"]])
        for ours, theirs in zip(*sides, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=change.__name__)


def test_copies_and_pickles_step_by_themselves():
    optimizer = stepper()
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (theirs,) = other.param_groups[0]["params"]
        (ours,) = optimizer.param_groups[0]["params"]
        before = ours.detach().clone()
        theirs.grad = torch.full((4, 6), 0.5)
        other.step()
        assert torch.equal(ours, before)
        assert not torch.equal(theirs, before)
