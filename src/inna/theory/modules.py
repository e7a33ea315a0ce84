"""Torch modules as functions of one float64 vector, and relu'(0).

Vectors concatenate the parameters in the order of ``module.named_parameters()``. Modules are never changed: their
parameters and buffers are copied to float64, since perturbations as small as 1e-8 vanish in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ReluSensitivity", "module_gradient", "relu_sensitivity", "sample_gradients"]

Floats = NDArray[np.float64]
Loss = Callable[[Any, Any], Any]


def module_gradient(
    module: torch.nn.Module, loss: Loss, batch: tuple[Any, Any]
) -> tuple[Floats, Callable[[ArrayLike], Floats], Callable[[ArrayLike], float]]:
    """Return start, gradient and value of J(theta) = loss(module(inputs), targets).

    They are arguments for `inna.theory.flow.solve`.

    Args:
        module: any module; in training mode dropout and batch normalisation are active.
        loss: (outputs, targets) -> a scalar tensor.
        batch: (inputs, targets), tensors; floating-point ones are converted to float64.

    Returns:
        theta0: (P,), the module's parameters.
        gradient: (P,) -> (P,), the result of backpropagation.
        value: (P,) -> J.

    Raises:
        ValueError: the module has no parameters, or the loss is not a scalar.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> data = torch.ones(4, 1), torch.zeros(4, 1)
    >>> theta0, gradient, value = module_gradient(model, torch.nn.functional.mse_loss, data)
    >>> gradient([3.0]), value([3.0])
    (array([6.]), 9.0)
    """
    import torch

    frozen = _FlatModule(module, loss)
    inputs, targets = _double(batch[0]), _double(batch[1])

    def gradient(theta: ArrayLike) -> Floats:
        vector = frozen.vector(theta).requires_grad_()
        (answer,) = torch.autograd.grad(frozen.loss_at(vector, inputs, targets), vector)
        return np.asarray(answer.cpu().numpy())

    def value(theta: ArrayLike) -> float:
        with torch.no_grad():
            return float(frozen.loss_at(frozen.vector(theta), inputs, targets))

    return frozen.start, gradient, value


def sample_gradients(
    module: torch.nn.Module, loss: Loss, batch: tuple[Any, Any]
) -> tuple[Floats, Callable[[ArrayLike], Floats]]:
    """Return start and gradients of each J_n(theta) = loss(module(x_n), y_n).

    They are arguments for `inna.theory.criticality.criticality`.

    Each sample is passed to the module alone, as a batch of one. J = sum_n J_n is the unnormalised sum.

    Args:
        module: a module whose output for a sample does not depend on the rest of the batch. Batch normalisation in
            training mode is refused by torch: call ``module.eval()`` first.
        loss: (outputs, targets) -> a scalar tensor, given batches of one.
        batch: (inputs, targets), tensors with N samples on their first axis.

    Returns:
        theta0: (P,), the module's parameters.
        gradients: (P,) -> (N, P), row n the result of backpropagation for J_n.

    Raises:
        ValueError: the module has no parameters, or inputs and targets differ in length.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> data = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    >>> theta0, gradients = sample_gradients(model, torch.nn.functional.mse_loss, data)
    >>> gradients([3.0])
    array([[ 6.],
           [24.]])
    """
    import torch

    frozen = _FlatModule(module, loss)
    inputs, targets = _double(batch[0]), _double(batch[1])
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise ValueError(
            "inputs and targets must contain the same number of samples, at least one, got "
            f"{len(inputs)} and {len(targets)}"
        )

    def one(vector: Tensor, sample: Tensor, target: Tensor) -> Tensor:
        return frozen.loss_at(vector, sample.unsqueeze(0), target.unsqueeze(0))

    per_sample = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0), randomness="same")

    def gradients(theta: ArrayLike) -> Floats:
        return np.asarray(per_sample(frozen.vector(theta), inputs, targets).detach().cpu().numpy())

    return frozen.start, gradients


class ReluSensitivity(NamedTuple):
    """The effect of the choice of relu'(0) on a backpropagated gradient.

    Attributes:
        zeros: the number of pre-activations that are exactly 0, over all relu calls.
        changes: for each affected parameter the largest change of an entry of its gradient over the choices. Empty
            where the choice does not matter.
    """

    zeros: int
    changes: dict[str, float]


def relu_sensitivity(
    module: torch.nn.Module, loss: Loss, batch: tuple[Any, Any], *, choices: Sequence[float] = (0.5, 1.0)
) -> ReluSensitivity:
    """Find the parameters whose gradients depend on the value of relu'(0).

    torch uses relu'(0) = 0. Any other value in [0, 1] is a subgradient of relu too; where the choice changes the
    gradient, the network is evaluated on a kink. All forms of relu are covered (``torch.nn.ReLU``, ``torch.relu``,
    ``Tensor.relu``, the in-place ones); other functions with kinks keep torch's choice.

    Args:
        module: any module; its dtype is kept, since which pre-activations are exactly 0 depends on it.
        loss: (outputs, targets) -> a scalar tensor.
        batch: (inputs, targets).
        choices: values of relu'(0) to compare with 0, each in [0, 1].

    Raises:
        ValueError: a choice is outside [0, 1], there is none, or the module has no parameters.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.ReLU())
    >>> data = torch.zeros(1, 1), torch.ones(1, 1)
    >>> relu_sensitivity(model, torch.nn.functional.mse_loss, data)
    ReluSensitivity(zeros=1, changes={})
    >>> _ = torch.nn.init.zeros_(model[0].weight)
    >>> data = torch.ones(1, 1), torch.ones(1, 1)
    >>> relu_sensitivity(model, torch.nn.functional.mse_loss, data)
    ReluSensitivity(zeros=1, changes={'0.weight': 2.0})
    """
    import torch

    if not choices:
        raise ValueError("choices must contain at least one value of relu'(0), got none")
    slopes = [check_range("choices", choice, minimum=0.0, maximum=1.0) for choice in choices]
    parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
    if not parameters:
        raise ValueError("module must have parameters that require a gradient, got none")

    def gradients(slope: float) -> tuple[int, dict[str, Tensor]]:
        buffers = {name: value.clone() for name, value in module.named_buffers()}
        devices = sorted({value.device.index for value in parameters.values() if value.device.type == "cuda"})
        with torch.random.fork_rng(devices), _relu_mode(slope) as mode, torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
            outputs = torch.func.functional_call(module, {**buffers, **leaves}, (batch[0],))
            answers = torch.autograd.grad(
                _scalar(loss(outputs, batch[1])), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return mode.zeros, dict(zip(leaves, answers, strict=True))

    zeros, usual = gradients(0.0)
    changes: dict[str, float] = {}
    for slope in slopes:
        for name, gradient in gradients(slope)[1].items():
            change = float((gradient - usual[name]).abs().max()) if gradient.numel() else 0.0
            if change > 0:
                changes[name] = max(change, changes.get(name, 0.0))
    return ReluSensitivity(zeros, {name: changes[name] for name in parameters if name in changes})


def _relu_mode(slope: float) -> Any:
    """Return a context in which relu'(0) = slope.

    Its ``zeros`` counts the pre-activations that are 0.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class ReluAtZero(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (x,) = ctx.saved_tensors
            return grads[0] * torch.where(x == 0, slope, (x > 0).to(x.dtype))

    apply: Any = ReluAtZero.apply
    fresh = {torch.relu, torch.Tensor.relu}
    in_place = {torch.relu_, torch.Tensor.relu_, torch.nn.functional.relu_}

    class Mode(TorchFunctionMode):
        zeros = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is torch.nn.functional.relu:
                x = args[0] if args else kwargs["input"]
                inplace = args[1] if len(args) > 1 else kwargs.get("inplace", False)
            elif func in fresh or func in in_place:
                x, inplace = (args[0] if args else kwargs["input"]), func in in_place
            else:
                return func(*args, **kwargs)
            self.zeros += int((x == 0).sum())
            # The kept input must not be the tensor that is overwritten.
            return x.copy_(apply(x.clone())) if inplace else apply(x)

    return Mode()


class _FlatModule:
    """The loss of a float64 copy of a module as a function of one vector."""

    def __init__(self, module: torch.nn.Module, loss: Loss) -> None:
        import copy

        import torch

        self.module = copy.deepcopy(module).double()
        self.loss = loss
        parameters = dict(self.module.named_parameters())
        if not parameters:
            raise ValueError("module must have parameters, got none")
        self.names, self.shapes = list(parameters), [value.shape for value in parameters.values()]
        self.sizes = [value.numel() for value in parameters.values()]
        first = next(iter(parameters.values()))
        self.device = first.device
        flat = torch.cat([value.detach().reshape(-1) for value in parameters.values()])
        self.start: Floats = flat.cpu().numpy()

    def vector(self, theta: ArrayLike) -> Tensor:
        import torch

        values = np.atleast_1d(np.asarray(theta, dtype=float))
        if values.shape != self.start.shape:
            raise ValueError(f"theta must have the shape {self.start.shape} of the parameters, got {values.shape}")
        return torch.tensor(values, device=self.device)

    def loss_at(self, vector: Tensor, inputs: Any, targets: Any) -> Tensor:
        import torch

        parts = [part.view(shape) for part, shape in zip(torch.split(vector, self.sizes), self.shapes, strict=True)]
        buffers = {name: value.clone() for name, value in self.module.named_buffers()}
        state = {**buffers, **dict(zip(self.names, parts, strict=True))}
        return _scalar(self.loss(torch.func.functional_call(self.module, state, (inputs,)), targets))


def _double(data: Any) -> Any:
    return data.double() if hasattr(data, "is_floating_point") and data.is_floating_point() else data


def _scalar(value: Any) -> Tensor:
    if value.numel() != 1:
        raise ValueError(f"loss must return a scalar, got the shape {tuple(value.shape)}")
    scalar: Tensor = value.reshape(())
    return scalar
