"""The fused step beside autograd, GradScaler, tensors as hyper-parameters and torch.compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fused_steps import needs_kernels, stepper
from inna.torch import INNA, INNAprop

pytestmark = needs_kernels


def test_autograd_notices_that_a_parameter_has_changed():
    x = torch.nn.Parameter(torch.ones(3))
    loss = (x**3).sum()
    loss.backward(retain_graph=True)
    INNA([x], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_learning_rate_of_zero_changes_nothing():
    for lr in (0.0, torch.tensor(0.0)):
        optimizer = stepper(lr=lr, fused=True, initial_speed=1.0, capturable=isinstance(lr, Tensor))
        optimizer.step()
        (param,) = optimizer.param_groups[0]["params"]
        assert torch.equal(param, torch.ones(4, 6))
        assert optimizer.state[param]["step"].item() == 0


def test_tensor_hyperparameters_are_read_at_each_step():
    lr = torch.tensor(0.1)
    ours, theirs = stepper(lr=lr, capturable=True, fused=True), stepper(lr=0.1, fused=False)
    for value in (0.1, 0.2, 0.05):
        lr.fill_(value)
        theirs.param_groups[0]["lr"] = lr.item()
        ours.step()
        theirs.step()
    torch.testing.assert_close(*(side.param_groups[0]["params"][0] for side in (ours, theirs)))


@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_grad_scaler_scales_and_skips_through_the_kernels(cls, monkeypatch):
    def model() -> tuple[torch.nn.Parameter, Any]:
        param = torch.nn.Parameter(torch.linspace(-1, 1, 300))
        return param, cls([param], lr=0.05, initial_speed=1.0, fused=True)

    param, optimizer = model()
    expected, plain = model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert optimizer._step_supports_amp_scaling
    for k in range(4):
        for theta, scale in ((param, scaler.scale), (expected, lambda loss: loss)):
            theta.grad = None
            scale((theta**2).sum() * (torch.inf if k == 2 and theta is param else 1)).backward()
        before = [param.detach().clone(), *(t.clone() for t in optimizer.state[param].values())]
        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "_update", None)
            scaler.step(optimizer)
        scaler.update()
        if k == 2:
            after = [param.detach(), *optimizer.state[param].values()]
            assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        else:
            plain.step()
            torch.testing.assert_close(param.grad, expected.grad)  # as torch's own leave them: divided by the scale
            torch.testing.assert_close(param, expected)
    assert scaler.get_scale() == 512.0
    assert not hasattr(optimizer, "grad_scale")


def operator_arguments(prop: bool, kahan: bool) -> tuple[Any, ...]:
    torch.manual_seed(1)
    sizes = [(3, 4), (5,)]
    params, grads, momentums = ([torch.randn(size) for size in sizes] for _ in range(3))
    squares = [torch.rand(size) for size in sizes] if prop else []
    held = [torch.zeros(size) for size in sizes] if kahan else []
    steps = [torch.zeros(()) for _ in sizes] if prop else []
    lr, alpha, beta = torch.tensor(0.1), torch.tensor(0.5), torch.tensor(0.1)
    rest = (0.01, 1.0 if prop else None, False, False, 0.9 if prop else None, 1e-8)
    return params, grads, momentums, squares, held, steps, lr, alpha, beta, torch.zeros(()), [], *rest


@pytest.mark.parametrize("kahan", [False, True])
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
def test_the_operator_is_registered_as_torch_wants_it(prop, kahan):
    result = torch.library.opcheck(torch.ops.inna.fused_step.default, operator_arguments(prop, kahan))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize(("cls", "kwargs"), [(INNA, {}), (INNA, {"time_step": 0.3}), (INNAprop, {})])
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_steps_are_the_eager_ones_by_the_operator(cls, kwargs):
    # The graph is run as it was captured; what a backend makes of it is torch's to test.
    operators = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        operators.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    sides = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (5,))]
        optimizer = cls(params, lr=torch.tensor(0.05), initial_speed=1.0, **kwargs)
        step = torch.compile(optimizer.step, backend=backend) if compiled else optimizer.step
        for k in range(4):
            optimizer.param_groups[0]["lr"].fill_(0.0 if k == 2 else 0.05)
            for param in params:
                param.grad = torch.cos(param.detach() + k)
            step()
        sides.append(params)
    assert any("fused_step" in name for name in operators)
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs)
