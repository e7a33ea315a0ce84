"""INNA for PyTorch: the class, the function, and its two portable implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from inna import dynamics
from inna.dynamics import INNA_DEFAULTS
from inna.torch.blocks import blocks
from inna.torch.optimizer import LOW_PRECISION, InertialOptimizer
from inna.torch.tensor_lists import (
    TensorLists,
    coefficient_dtype,
    count_step,
    group_alike,
    host_may_look,
    on_device,
    use_foreach,
)

__all__ = ["INNA", "inna"]


class INNA(InertialOptimizer):
    r"""The inertial Newton algorithm: second-order-like steps from gradients alone, one state tensor per parameter.

    .. math::
        \theta_{k+1} &= \theta_k - \gamma_k (m_k + \beta g_k) \\
        m_{k+1} &= (1 - \alpha \gamma_k) m_k + \gamma_k (1 - \alpha \beta) g_k

    These are the iterates of the paper's eq. (12), with :math:`m = (\alpha - 1/\beta)\theta + \psi/\beta` in the place
    of its phase variable :math:`\psi`. There is no train and eval mode, and nothing depends on the weights' values, so
    weights may be loaded and settings changed at any time.

    Args:
        params: tensors, named tensors or parameter groups, as for any ``torch.optim`` optimizer; real or complex.
        lr: step size gamma, >= 0. A float, or a tensor of one element. The step that acts in the long run is
            lr/alpha, since the momentum adds up past gradients.
        alpha: viscous damping, >= 0; the friction on the velocity. A float, or a tensor of one element.
        beta: Newtonian damping, >= 0; the friction along the curvature, which damps transverse oscillation.
            alpha * beta = 1 is plain gradient descent with step lr * beta. A float, or a tensor of one element.
        weight_decay: lambda >= 0; lambda * theta is added to the gradient (the L2 penalty lambda/2 |theta|^2).
        initial_speed: s sets the initial velocity -s g_0. None is s = beta, m_0 = 0, as in the authors' PyTorch
            code; the paper's experiments use 1.
        decoupled_weight_decay: theta shrinks by (1 - lr * weight_decay) before the step, and the momentum is left
            alone. The fixed point is that of an L2 penalty alpha * weight_decay.
        momentum_dtype: dtype of the momentum. None is the parameter's, but float32 for bfloat16 and float16 parameters:
            where alpha * lr is below half their rounding, their own dtype would lose the momentum's decay.
        kahan: carry the rounding error of the parameters along in a tensor ``compensation``, so that updates smaller
            than their rounding add up. None turns it on for bfloat16 and float16 parameters.
        maximize: ascend instead.
        foreach: handle all tensors of a group in a few calls (True), or one by one (False). None is foreach for plain
            tensors and parameters.
        capturable: no synchronisation with the host, as CUDA graphs need; give ``lr`` as a tensor on the device to
            change it between replays.
        differentiable: let autograd see the step (with respect to parameters, gradients, lr, alpha and beta).
        fused: step all tensors of a group by one compiled kernel, in one pass over memory. None takes it where there
            is one for every tensor and neither ``foreach`` nor ``differentiable`` asks for another path; True insists.

    State per parameter: ``momentum``, shaped like it; ``step`` where ``initial_speed`` is given; ``compensation``
    where Kahan summation is on.

    Raises:
        ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.
        RuntimeError: ``fused=True`` where there is no kernel; at `step`, a sparse gradient.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = INNA(model.parameters(), lr=0.1, alpha=0.5, beta=0.1)
        >>> model(torch.ones(2, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[model.weight])
        ['momentum']

    References:
        Castera, Bolte, Févotte, Pauwels. An Inertial Newton Algorithm for Deep Learning. JMLR 22(134), 2021, eq. (12).
    """

    settings = ("lr", "alpha", "beta", "weight_decay", "initial_speed", "decoupled_weight_decay", "maximize")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = INNA_DEFAULTS.lr,
        alpha: float | Tensor = INNA_DEFAULTS.alpha,
        beta: float | Tensor = INNA_DEFAULTS.beta,
        weight_decay: float = 0.0,
        *,
        initial_speed: float | None = None,
        decoupled_weight_decay: bool = False,
        momentum_dtype: torch.dtype | None = None,
        kahan: bool | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "beta": beta,
            "weight_decay": weight_decay,
            "initial_speed": initial_speed,
            "decoupled_weight_decay": decoupled_weight_decay,
            "momentum_dtype": momentum_dtype,
            "kahan": kahan,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    @classmethod
    def from_sgd(cls, params: ParamsT, lr: float, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any) -> Self:
        """The INNA that makes the same iterates as ``torch.optim.SGD(params, lr, momentum, nesterov=nesterov)``.

        ``weight_decay`` and ``maximize`` mean the same in both. The iterates agree as long as ``lr`` stays constant:
        a scheduler that scales INNA's lr alone leaves the heavy ball, since the discount 1 - alpha lr of the momentum
        and its weight change with it. To follow a scheduled SGD exactly, set lr, alpha and beta anew from
        `inna.dynamics.from_sgd` only where SGD itself restarts.

        Args:
            params: as for the constructor.
            lr: SGD's step size, > 0. The INNA that is made has lr = sqrt(SGD's lr).
            momentum: SGD's momentum, in [0, 1].
            nesterov: SGD's flag; needs a momentum > 0.
            **kwargs: further arguments of the constructor, by name.

        Raises:
            ValueError: an argument is out of its range.

        >>> INNA.from_sgd([torch.zeros(1, requires_grad=True)], lr=0.01, momentum=0.95).defaults["lr"]
        0.1
        """
        return cls(params, *dynamics.from_sgd(lr, momentum, nesterov), **kwargs)

    def _update(self, lists: TensorLists, **settings: Any) -> None:
        inna(lists, **settings)


def inna(
    lists: TensorLists,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float = 0.0,
    initial_speed: float | None = None,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
) -> None:
    """One step of INNA on lists of tensors, in place; see `INNA` for the rule and the arguments.

    Args:
        lists: parameters, gradients and state; ``steps`` is needed with ``initial_speed``.
        lr, alpha, beta: floats >= 0, or 0-dimensional tensors, which are not read on the host.

    >>> theta, g, m = torch.ones(1), torch.ones(1), torch.zeros(1)
    >>> inna(TensorLists([theta], [g], [m], compensations=[None]), lr=0.1, alpha=0.5, beta=0.1)
    >>> theta, m
    (tensor([0.9900]), tensor([0.0950]))
    """
    first: list[bool] | list[Tensor] | None = None
    if initial_speed is not None:
        first = count_step(lists.steps, lr, host=host_may_look(lr, capturable))
    move(
        lists,
        first,
        lr=lr,
        alpha=alpha,
        beta=beta,
        weight_decay=weight_decay,
        initial_speed=initial_speed,
        decoupled_weight_decay=decoupled_weight_decay,
        maximize=maximize,
        foreach=foreach,
        differentiable=differentiable,
    )


def move(
    lists: TensorLists,
    first: list[bool] | list[Tensor] | None,
    *,
    foreach: bool | None,
    differentiable: bool,
    **settings: Any,
) -> None:
    """The step itself, by foreach or tensor by tensor; ``first`` says where the initial velocity is still to be set.

    With ``temporary_grads`` the gradients are dropped from their list after their last use.
    """
    update: Callable[..., None] = _single_tensor_inna
    parts: Iterable[tuple[TensorLists, Any]] = [(lists, first)]
    if use_foreach(foreach, lists.params, differentiable=differentiable):
        update, parts = _multi_tensor_inna, blocks(lists, first)
    for part, start in parts:
        update(
            part.params,
            part.grads,
            part.momentums,
            part.compensations,
            start,
            differentiable=differentiable,
            **settings,
        )


def _single_tensor_inna(
    params: list[Tensor],
    grads: list[Tensor],
    momentums: list[Tensor],
    compensations: list[Tensor | None],
    first: list[bool] | list[Tensor] | None,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    differentiable: bool,
    temporary_grads: bool = False,
) -> None:
    sign = -1.0 if maximize else 1.0
    shrinkage, penalty = (weight_decay, 0.0) if decoupled_weight_decay else (0.0, weight_decay)
    for i, param in enumerate(params):
        # zip would hold on to a gradient that is dropped below.
        grad, momentum, compensation = grads[i], momentums[i], compensations[i]
        gamma, a, b = (on_device(param.device, value) for value in (lr, alpha, beta))
        if differentiable:
            # Out of place, since autograd needs the old values.
            theta, m, g = param.clone(), momentum.clone(), -grad if maximize else grad
            if penalty:
                g = g + penalty * theta
            if first is not None and initial_speed is not None:
                m = m + first[i] * dynamics.initial_momentum(g, b, initial_speed)
            theta, m = dynamics.step((1 - gamma * shrinkage) * theta, m, g, gamma, a, b)
            param.copy_(theta)
            momentum.copy_(m)
            continue
        if penalty:
            grad = grad.add(param, alpha=sign * penalty)
        if first is not None and initial_speed is not None:
            _start(momentum, grad, first[i], sign * (initial_speed - b))
        # Kahan: the step is added to what rounding has held back so far, and their sum to the parameter.
        target = param if compensation is None else compensation
        if shrinkage:
            add_scaled(target, param, -gamma * shrinkage)
        add_scaled(target, momentum, -gamma)
        add_scaled(target, grad, -sign * gamma * b)
        # Not a factor 1 - alpha gamma: rounded to low precision, that would be another alpha.
        add_scaled(momentum, momentum, -a * gamma)
        add_scaled(momentum, grad, sign * gamma * (1 - a * b))
        if temporary_grads:
            grads[i] = param
        if compensation is not None:
            del grad
            total = rounded(param + compensation)
            compensation.add_(param.sub_(total))
            param.copy_(total)
            del total


def _multi_tensor_inna(
    params: list[Tensor],
    grads: list[Tensor],
    momentums: list[Tensor],
    compensations: list[Tensor | None],
    first: list[bool] | list[Tensor] | None,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    differentiable: bool,
    temporary_grads: bool = False,
) -> None:
    sign = -1.0 if maximize else 1.0
    shrinkage, penalty = (weight_decay, 0.0) if decoupled_weight_decay else (0.0, weight_decay)
    for (device, *_), indices in group_alike(params, momentums, compensations).items():
        gamma, a, b = (on_device(device, value) for value in (lr, alpha, beta))
        theta, g, m = ([tensors[i] for i in indices] for tensors in (params, grads, momentums))
        held_back = [tensor for tensor in (compensations[i] for i in indices) if tensor is not None]
        if penalty:
            # The one temporary: the sign of maximize goes into the coefficients instead of a second one.
            g = list(torch._foreach_add(g, theta, alpha=sign * penalty))
        if first is not None and initial_speed is not None:
            for i, momentum, grad in zip(indices, m, g, strict=True):
                _start(momentum, grad, first[i], sign * (initial_speed - b))
        target = held_back or theta
        if shrinkage:
            foreach_add_scaled(target, theta, -gamma * shrinkage)
        foreach_add_scaled(target, m, -gamma)
        foreach_add_scaled(target, g, -sign * gamma * b)
        foreach_add_scaled(m, m, -a * gamma)
        foreach_add_scaled(m, g, sign * gamma * (1 - a * b))
        if temporary_grads:
            for i in indices:
                grads[i] = params[i]
        if held_back:
            del g
            total = [rounded(tensor) for tensor in torch._foreach_add(theta, held_back)]
            torch._foreach_sub_(theta, total)
            torch._foreach_add_(held_back, theta)
            torch._foreach_copy_(theta, total)


def _start(momentum: Tensor, grad: Tensor, first: bool | Tensor, scale: float | Tensor) -> None:
    """Set m_0 = scale * g where this is the first step; the momentum is zero until then."""
    if isinstance(first, Tensor) or isinstance(scale, Tensor):
        mask = torch.as_tensor(first, dtype=coefficient_dtype(momentum), device=momentum.device)
        momentum.addcmul_(grad, mask * scale)
    elif first:
        momentum.add_(grad, alpha=scale)


def rounded(tensor: Tensor) -> Tensor:
    """``tensor`` itself. Its bits are looked at, since compilers keep low precision in float32 until it is stored.

    Kahan summation needs the rounding error, which would be zero then.
    """
    if torch.compiler.is_compiling() and tensor.dtype in LOW_PRECISION:
        return (tensor.view(torch.int16) & -1).view(tensor.dtype)
    return tensor


def add_scaled(target: Tensor, tensor: Tensor, scale: float | Tensor) -> None:
    if isinstance(scale, Tensor):
        target.addcmul_(tensor, scale)
    else:
        target.add_(tensor, alpha=scale)


def foreach_add_scaled(targets: list[Tensor], tensors: list[Tensor], scale: float | Tensor) -> None:
    if isinstance(scale, Tensor):
        # A foreach product with a tensor would be a temporary of the group's size; this is none.
        for target, tensor in zip(targets, tensors, strict=True):
            target.addcmul_(tensor, scale)
    else:
        torch._foreach_add_(targets, tensors, alpha=scale)
