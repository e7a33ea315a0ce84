"""INNA for PyTorch: the optimizer, the function, and its single and foreach implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from inna import dynamics
from inna.docstrings import insert
from inna.torch.blocks import blocks
from inna.torch.optimizer import FLAGS, LOW_PRECISION, InertialOptimizer
from inna.torch.paths import use_foreach
from inna.torch.tensor_lists import (
    TensorLists,
    can_sync,
    coefficient_dtype,
    count_step,
    group_alike,
    on_device,
)

__all__ = ["INNA", "inna"]


@insert(flags=FLAGS)
class INNA(InertialOptimizer):
    r"""INNA, the inertial Newton algorithm, with one state tensor per parameter.

    .. math::
        \theta_{k+1} &= \theta_k - \gamma_k (m_k + \beta g_k) \\
        m_{k+1} &= (1 - \alpha \gamma_k) m_k + \gamma_k (1 - \alpha \beta) g_k

    These are the iterates of the paper's eq. (12), with the momentum :math:`m = (\alpha - 1/\beta)\theta + \psi/\beta`
    instead of its phase variable :math:`\psi`. There is no train or eval mode. The state does not depend on the values
    of the weights, so weights may be loaded and settings changed at any time.

    Args:
        params: tensors, named tensors or parameter groups, as for any ``torch.optim`` optimizer; real or complex.
        lr: learning rate (gamma), >= 0. A float, or a tensor of one element. In the long run the step per gradient is
            lr/alpha, since the momentum adds up past gradients.
        alpha: viscous damping, >= 0; the friction on the velocity. A float, or a tensor of one element.
        beta: Newtonian damping, >= 0; the friction along the curvature, which damps transverse oscillation. With alpha
            * beta = 1, INNA is gradient descent with learning rate lr * beta. A float, or a tensor of one element.
        weight_decay: lambda >= 0; lambda * theta is added to the gradient (the L2 penalty lambda/2 |theta|^2).
        initial_speed: s, for the initial velocity -s g_0. None is s = beta and m_0 = 0, as in the authors' PyTorch
            code. The paper's experiments use 1.
        decoupled_weight_decay: multiply theta by (1 - lr * weight_decay) before the step instead, without changing the
            momentum. The fixed point is that of an L2 penalty alpha * weight_decay.
        momentum_dtype: dtype of the momentum. None is the parameter's, but float32 for bfloat16 and float16 parameters:
            if alpha * lr is below half their rounding, their own dtype would lose the momentum's decay.
        {flags}

    State per parameter: ``momentum``, shaped like it; ``step`` if ``initial_speed`` is given; ``compensation`` if Kahan
    summation is on.

    Raises:
        ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.
        RuntimeError: ``fused`` is True and a parameter has no kernel; at `step`, a gradient is sparse.

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
        lr: float | Tensor = 0.1,
        alpha: float | Tensor = 0.5,
        beta: float | Tensor = 0.1,
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
        """Make the INNA with the iterates of ``torch.optim.SGD(params, lr, momentum, nesterov=nesterov)``.

        ``weight_decay`` and ``maximize`` mean the same in both. The iterates agree while ``lr`` is constant. A
        scheduler that scales INNA's lr alone leaves the heavy ball, since the discount 1 - alpha lr of the momentum and
        its weight change too. To follow a scheduled SGD exactly, set lr, alpha and beta from `inna.dynamics.from_sgd`
        again only where SGD itself restarts.

        Args:
            params: as for the constructor.
            lr: SGD's learning rate, > 0. The lr of INNA is its square root.
            momentum: SGD's momentum, in [0, 1].
            nesterov: SGD's flag; needs a momentum > 0.
            **kwargs: further arguments of the constructor.

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
    """Take one step of INNA on lists of tensors, in place. See `INNA` for the rule and the arguments.

    Args:
        lists: parameters, gradients and state; ``steps`` is needed with ``initial_speed``.
        lr, alpha, beta: floats >= 0, or tensors of shape (), which are not read on the host.

    >>> theta, g, m = torch.ones(1), torch.ones(1), torch.zeros(1)
    >>> inna(TensorLists([theta], [g], [m], compensations=[None]), lr=0.1, alpha=0.5, beta=0.1)
    >>> theta, m
    (tensor([0.9900]), tensor([0.0950]))
    """
    first: list[bool] | list[Tensor] | None = None
    if initial_speed is not None:
        first = count_step(lists.steps, lr, host=can_sync(lr, capturable))
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
        foreach=use_foreach(foreach, lists.params, differentiable=differentiable),
        differentiable=differentiable,
    )


def move(
    lists: TensorLists,
    first: list[bool] | list[Tensor] | None,  # () each
    *,
    foreach: bool,
    **settings: Any,
) -> None:
    """Update parameters and momentums, by foreach or tensor by tensor.

    Args:
        lists: parameters, gradients, momentums and compensations.
        first: whether this is a parameter's first step, which sets the initial velocity; None without one.
        foreach: the path.
        **settings: those of the two implementations. With ``temporary_grads``, gradients are dropped from their list
            after their last use.
    """
    update: Callable[..., None] = _single_tensor_inna
    parts: Iterable[tuple[TensorLists, Any]] = [(lists, first)]
    if foreach:
        update, parts = _multi_tensor_inna, blocks(lists, first)
    for part, start in parts:
        update(
            part.params,
            part.grads,
            part.momentums,
            part.compensations,
            start,
            **settings,
        )


def _single_tensor_inna(
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    compensations: list[Tensor | None],  # as params
    first: list[bool] | list[Tensor] | None,  # () each
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
        # zip would keep a reference to a gradient that is dropped below.
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
        # Kahan: the step is added to the rounding error so far, and their sum to the parameter.
        target = param if compensation is None else compensation
        if shrinkage:
            add_scaled(target, param, -gamma * shrinkage)
        add_scaled(target, momentum, -gamma)
        add_scaled(target, grad, -sign * gamma * b)
        # Not a factor 1 - alpha gamma: rounding it to low precision would change alpha.
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
    params: list[Tensor],  # any shapes
    grads: list[Tensor],  # as params
    momentums: list[Tensor],  # as params
    compensations: list[Tensor | None],  # as params
    first: list[bool] | list[Tensor] | None,  # () each
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


def _start(
    momentum: Tensor,  # any shape
    grad: Tensor,  # as momentum
    first: bool | Tensor,  # ()
    scale: float | Tensor,  # ()
) -> None:
    """Set m_0 = scale * g if this is the first step; the momentum is zero until then."""
    if isinstance(first, Tensor) or isinstance(scale, Tensor):
        mask = torch.as_tensor(first, dtype=coefficient_dtype(momentum), device=momentum.device)
        momentum.addcmul_(grad, mask * scale)
    elif first:
        momentum.add_(grad, alpha=scale)


def rounded(tensor: Tensor) -> Tensor:
    """Return ``tensor`` rounded to its dtype, also under a compiler that computes low precision in float32.

    Without this, the rounding error that Kahan summation needs would be zero. Reading the bits forces the rounding.
    """
    if torch.compiler.is_compiling() and tensor.dtype in LOW_PRECISION:
        return (tensor.view(torch.int16) & -1).view(tensor.dtype)
    return tensor


def add_scaled(
    target: Tensor,  # any shape
    tensor: Tensor,  # as target
    scale: float | Tensor,  # ()
) -> None:
    """Add ``scale * tensor`` to ``target`` in place."""
    if isinstance(scale, Tensor):
        target.addcmul_(tensor, scale)
    else:
        target.add_(tensor, alpha=scale)


def foreach_add_scaled(
    targets: list[Tensor],  # any shapes
    tensors: list[Tensor],  # as targets
    scale: float | Tensor,  # ()
) -> None:
    """Add ``scale * tensor`` to each target in place."""
    if isinstance(scale, Tensor):
        # A foreach product with a tensor would need a temporary of the group's size.
        for target, tensor in zip(targets, tensors, strict=True):
            target.addcmul_(tensor, scale)
    else:
        torch._foreach_add_(targets, tensors, alpha=scale)
