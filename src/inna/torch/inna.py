"""INNA for PyTorch: the optimizer, the function, and its two unfused paths."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from inna import dynamics
from inna.docstrings import insert
from inna.torch.optimizer import InertialOptimizer
from inna.torch.settings import FLAGS
from inna.torch.steps.inertial import inna
from inna.torch.tensor_lists import (
    TensorLists,
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
            ``OneCycleLR`` and ``CyclicLR`` need ``cycle_momentum=False``.
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
        """Make the INNA with the iterates of ``torch.optim.SGD``.

        ``weight_decay`` and ``maximize`` mean the same in both. The iterates agree while ``lr`` is constant. A
        scheduler that scales INNA's lr alone leaves the heavy ball, since the discount 1 - alpha lr of the momentum and
        its weight change too. To follow a scheduled SGD exactly, set lr, alpha and beta from `inna.dynamics.from_sgd`
        again only where SGD itself restarts.

        Args:
            params: as for the constructor. A group may have its own ``lr``, ``momentum`` and ``nesterov``, of SGD.
            lr: SGD's learning rate, > 0. The lr of INNA is its square root.
            momentum: SGD's momentum, in [0, 1].
            nesterov: SGD's flag; needs a momentum > 0.
            **kwargs: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range, or a group sets ``dampening``, ``alpha`` or ``beta``.

        >>> INNA.from_sgd([torch.zeros(1, requires_grad=True)], lr=0.01, momentum=0.95).defaults["lr"]
        0.1
        """
        top: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        entries: Any = params
        if not isinstance(params, (Tensor, dict)):
            entries = [_from_sgd_group(entry, top) if isinstance(entry, dict) else entry for entry in params]
        return cls(entries, *dynamics.from_sgd(**top), **kwargs)

    def _update(self, lists: TensorLists, **settings: Any) -> None:
        inna(lists, **settings)


def _from_sgd_group(group: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Replace SGD's settings of a parameter group by INNA's.

    Those that it lacks are ``top``'s.
    """
    for name in ("alpha", "beta"):
        if name in group:
            raise ValueError(
                f"a parameter group sets {name}, which follows from SGD's lr, momentum and nesterov: drop it"
            )
    if group.get("dampening"):
        raise ValueError(
            f"a parameter group sets dampening={group['dampening']!r}; INNA has the iterates without it only"
        )
    own = {name: value for name, value in group.items() if name not in {*top, "dampening"}}
    if top.keys().isdisjoint(group):
        return own
    sgd = {name: group.get(name, value) for name, value in top.items()}
    return {**own, **dynamics.from_sgd(**sgd)._asdict()}
