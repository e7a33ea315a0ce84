"""Which tensors have a kernel, which path is taken, and which reason a message gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fused_steps import Tagged, needs_kernels, stepper
from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu, support
from inna.torch.tensor_lists import TensorLists

pytestmark = needs_kernels


def used(optimizer: INNA | INNAprop, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the next step goes through the kernels."""
    launches = []
    prepare = cpu.Table.prepare

    def watched(self: Any, *args: Any) -> Any:
        launches.append(1)
        return prepare(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(cpu.Table, "prepare", watched)
        optimizer.step()
    return bool(launches)


def test_none_means_fused_unless_another_path_is_asked_for(monkeypatch):
    assert used(stepper(), monkeypatch)
    assert used(stepper(fused=True), monkeypatch)
    for flags in ({"fused": False}, {"foreach": True}, {"foreach": False}):
        assert not used(stepper(**flags), monkeypatch)
        assert not stepper(**flags)._step_supports_amp_scaling
    assert not stepper(differentiable=True)._step_supports_amp_scaling


def test_what_has_no_kernel_goes_to_foreach_or_is_named(monkeypatch):
    for prepare, words in (
        (lambda p: setattr(p, "grad", torch.ones(6, 4).t()), "gradient is laid out with strides"),
        (lambda p: setattr(p, "grad", torch.ones(1, 1).expand(4, 6)), "gradient is laid out with strides"),
        (lambda p: setattr(p, "data", torch.ones(4, 12)[:, ::2]), "leave gaps or overlap"),
        (lambda p: setattr(p, "grad", torch._efficientzerotensor(4, 6)), "gradient is a zero without memory"),
    ):
        optimizer = stepper()
        (param,) = optimizer.param_groups[0]["params"]
        prepare(param)
        assert not used(optimizer, monkeypatch)
        assert not optimizer._step_supports_amp_scaling
        optimizer.param_groups[0]["fused"] = True
        with pytest.raises(RuntimeError, match=rf"fused=True: parameter 0, of shape \(4, 6\).*{words}"):
            optimizer.step()


def test_parameters_that_share_memory_are_not_stepped_side_by_side(monkeypatch):
    # As `decoder.weight.data = encoder.weight.data` ties them. Two threads would each add to what the other has read.
    numbers = torch.ones(300)
    params = [torch.nn.Parameter(view) for view in (torch.ones(3), numbers[:200], numbers[199:])]
    for param in params:
        param.grad = torch.ones_like(param)
    assert not used(INNA(params), monkeypatch)
    with pytest.raises(RuntimeError, match="fused=True: parameter 2 shares memory with parameter 1"):
        INNA(params, fused=True)
    apart = [numbers[:100], numbers[100:]]
    assert support.refusal(TensorLists(apart, momentums=[torch.zeros(100), torch.zeros(200)])) == ""
    zeros = torch.zeros(200)
    assert "or their state does" in support.refusal(TensorLists(apart, momentums=[zeros[:100], zeros]))


def test_the_message_counts_all_parameters_of_the_group():
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4, 6))]
    params[1].grad = torch.ones(6, 4).t()
    with pytest.raises(RuntimeError, match=r"fused=True: parameter 1, of shape \(4, 6\)"):
        INNA(params, fused=True).step()


def test_the_constructor_names_a_parameter_without_a_kernel():
    gaps = torch.ones(4, 12)[:, ::2].requires_grad_()
    with pytest.raises(RuntimeError, match="parameter 1, of shape"):
        INNA([torch.ones(2, requires_grad=True), gaps], fused=True)
    optimizer = stepper(fused=True)
    with pytest.raises(RuntimeError, match="parameter 0, of shape"):
        optimizer.add_param_group({"params": [gaps]})
    assert len(optimizer.param_groups) == 1
    meta = torch.nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(RuntimeError, match="no kernels for meta"):
        INNA([meta], fused=True)


def test_the_message_names_a_missing_library(monkeypatch):
    monkeypatch.setattr(support, "unavailable", lambda device: "the CPU kernels were not compiled")
    assert not used(stepper(), monkeypatch)
    with pytest.raises(RuntimeError, match=r"fused=True: parameter 0.* the CPU kernels were not compiled"):
        stepper(fused=True)


def test_subclasses_of_tensor_have_no_kernel(monkeypatch):
    param = torch.ones(3).as_subclass(Tagged).requires_grad_()
    param.grad = torch.ones(3).as_subclass(Tagged)
    assert "Tagged" in support.refusal(TensorLists([param], [param.grad]))
    assert not used(INNA([param]), monkeypatch)


@pytest.mark.parametrize("cls", [INNA, INNAprop])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_shards_and_plain_tensors_of_one_group_go_through_the_kernels_together(cls, dtype, mesh, monkeypatch):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    plans = (None, [Shard(0)], [Replicate()], [Shard(1)])
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(4, 6, generator=generator).to(dtype) for _ in plans]
    # The C code is the same for both; their ways to it are not.
    expected = [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    params = [
        torch.nn.Parameter(tensor.clone() if plan is None else distribute_tensor(tensor.clone(), mesh, plan))
        for tensor, plan in zip(tensors, plans, strict=True)
    ]
    sides = [cls(group, initial_speed=1.0, fused=True) for group in (params, expected)]
    for _ in range(3):
        for param, plain, plan in zip(params, expected, plans, strict=True):
            plain.grad = torch.randn(4, 6, generator=generator).to(dtype)
            param.grad = plain.grad.clone() if plan is None else distribute_tensor(plain.grad, mesh, plan)
        assert all(used(side, monkeypatch) for side in sides)
    for param, plain, plan in zip(params, expected, plans, strict=True):
        whole = param if plan is None else param.full_tensor()
        assert torch.equal(whole, plain)
    loss = (params[1] ** 3).sum()
    sides[0].step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
