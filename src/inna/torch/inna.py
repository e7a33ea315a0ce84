"""INNA for PyTorch: the optimizer, the function, and its two unfused paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, _use_grad_for_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from inna import dynamics
from inna.checks import check_range
from inna.docstrings import insert
from inna.torch.kernels.plan import Plan, can_plan
from inna.torch.kernels.support import can_measure
from inna.torch.measures.distance import take_start
from inna.torch.measures.guard_on_device import can_decide
from inna.torch.measures.guard_on_device import take_step as take_step_on_device
from inna.torch.measures.guarded_group import (
    GatheredGroup,
    add_memory,
    check_guard,
    check_memory,
    check_momentum,
    check_time_step,
    forget,
    join,
    make_plain,
    one_bound,
    read_loss,
)
from inna.torch.measures.guarded_step import MEMORY, GuardedGroup, take_step
from inna.torch.optimizer import InertialOptimizer, check_capture
from inna.torch.paths import Path, wants_kernels
from inna.torch.scaling import apply_scaling
from inna.torch.settings import FLAGS, LOW_PRECISION
from inna.torch.steps.inertial import inna
from inna.torch.tensor_lists import Settings, SumLists, TensorLists

if TYPE_CHECKING:
    from inna.torch.kernels.cuda_guard import Guard

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

    With a ``loss_bound`` the step is guarded: it is shortened where it would take the average of the past batches'
    linear models of the loss below the bound. Too large a learning rate then does no harm where the loss comes near its
    bound. `step` needs the loss of the batch. See "The guarded step" in :doc:`/algorithm`.

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
            code. The paper's experiments use 1, which in the long run adds a step of length (1 - beta)/alpha along the
            first gradient, whatever lr is.
        loss_bound: f*, a lower bound of the loss of every batch (an upper one with ``maximize``); 0 for cross-entropy
            and squared errors. None is no guard. The guard needs alpha * beta <= 1, alpha * h <= 1 and s >= beta. The
            same in all groups.
        time_step: h > 0, the time step of the momentum. None is lr, which is INNA. With a number, lr is the length of
            the step only, and with a guard its cap.
        initial_distance: r_0 > 0, smaller than the distance |theta_0 - theta*| of all weights to a solution. With it,
            lr is a factor: the cap of a guarded step is lr r / sqrt(G), with r the largest distance |theta_i - theta_0|
            so far, at least r_0, and G the sum of all squared gradients |g_i|^2. Needs ``loss_bound`` and
            ``time_step``. The same in all groups.
        sum_over_ranks: add the guard's inner products over the default process group, each rank of which has other
            parameters, as in ``ZeroRedundancyOptimizer``. The shards of DTensors are added without it.
        decoupled_weight_decay: multiply theta by (1 - lr * weight_decay) before the step instead, without changing the
            momentum. The fixed point is that of an L2 penalty alpha * weight_decay.
        momentum_dtype: dtype of the momentum. None is the parameter's, but float32 for bfloat16 and float16 parameters:
            if alpha * lr is below half their rounding, rounding to nearest would lose the momentum's decay. bfloat16
            is rounded stochastically, which keeps it in the mean; float16 to nearest.
        momentum_bits: 8 keeps the momentum of parameters with at least 4096 numbers in one byte a number, with a scale
            for 256 numbers, rounded stochastically. None is ``momentum_dtype``. Needs real parameters, and excludes
            ``momentum_dtype`` and ``differentiable``. Shards of DTensors must be whole blocks of 256.
        rounding_seed: seed of stochastic rounding, an integer >= 0 and < 2^32.
        {flags}

    State per parameter: ``momentum``, shaped like it, and ``momentum_scale`` with ``momentum_bits``; ``step`` if
    ``initial_speed`` or ``momentum_bits`` is given or ``momentum_dtype`` is bfloat16; ``compensation`` if Kahan
    summation is on; ``start`` (theta_0) with ``initial_distance``. With a ``loss_bound``, each group has tensors of
    shape (1,) in float64: ``guard_weight``, ``guard_loss``, ``guard_slope`` (the memory of past batches),
    ``guard_steps``, ``guard_cuts``, ``guard_lr``, ``guard_distance`` (r) and ``guard_squares`` (G).

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

    state_names = InertialOptimizer.state_names | {"start"}
    settings = (
        "lr",
        "alpha",
        "beta",
        "weight_decay",
        "initial_speed",
        "decoupled_weight_decay",
        "maximize",
        "time_step",
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        alpha: float | Tensor = 0.5,
        beta: float | Tensor = 0.1,
        weight_decay: float = 0.0,
        *,
        loss_bound: float | None = None,
        time_step: float | None = None,
        initial_distance: float | None = None,
        initial_speed: float | None = None,
        decoupled_weight_decay: bool = False,
        sum_over_ranks: bool = False,
        momentum_dtype: torch.dtype | None = None,
        momentum_bits: int | None = None,
        rounding_seed: int = 0,
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
            "loss_bound": loss_bound,
            "time_step": time_step,
            "initial_distance": initial_distance,
            "sum_over_ranks": sum_over_ranks,
            "initial_speed": initial_speed,
            "decoupled_weight_decay": decoupled_weight_decay,
            "momentum_dtype": momentum_dtype,
            "momentum_bits": momentum_bits,
            "rounding_seed": rounding_seed,
            "kahan": kahan,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._guard: Guard | None = None
        # The parameters whose theta_0 is known to be that of their first step.
        self._begun = WeakTensorKeyDictionary()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._guard = None
        self._begun = WeakTensorKeyDictionary()

    @classmethod
    def from_sgd(cls, params: ParamsT, lr: float, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any) -> Self:
        """Make the INNA with the iterates of ``torch.optim.SGD``.

        ``weight_decay`` and ``maximize`` mean the same in both. The iterates agree while ``lr`` is constant. A
        scheduler that scales INNA's lr alone leaves the heavy ball, since the discount 1 - alpha lr of the momentum and
        its weight change too. To follow a scheduled SGD exactly, set lr, alpha and beta from `inna.dynamics.from_sgd`
        at each change, and multiply the momentum by the ratio of INNA's new lr to the old.

        Args:
            params: as for the constructor. A group may have its own ``lr``, ``momentum`` and ``nesterov``, of SGD.
            lr: SGD's learning rate, > 0. The lr of INNA is its square root.
            momentum: SGD's momentum, in [0, 1].
            nesterov: SGD's flag; needs a momentum > 0.
            **kwargs: further arguments of the constructor.

        Raises:
            ValueError: an argument is out of its range, or a group sets ``dampening``, ``alpha`` or ``beta``.

        >>> params = [torch.zeros(1, requires_grad=True)]
        >>> INNA.from_sgd(params, lr=0.01, momentum=0.95).defaults["lr"]
        0.1
        """
        top: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        entries: Any = params
        if not isinstance(params, (Tensor, dict)):
            entries = [_from_sgd_group(entry, top) if isinstance(entry, dict) else entry for entry in params]
        return cls(entries, *dynamics.from_sgd(**top), **kwargs)

    @classmethod
    def lr_free(
        cls,
        params: ParamsT,
        alpha: float = dynamics.INNA_LR_FREE_DEFAULTS.alpha,
        beta: float = dynamics.INNA_LR_FREE_DEFAULTS.beta,
        *,
        loss_bound: float = 0.0,
        **kwargs: Any,
    ) -> Self:
        """Make the guarded INNA with no learning rate to tune.

        The guard finds the length of each step where the loss comes near its bound. Elsewhere the distance from the
        start does: see "The guarded step" in :doc:`/algorithm`. The time step is 0.1/alpha.

        Args:
            params: tensors, named tensors or parameter groups. A group with its own ``alpha`` gets its own time step
                from it.
            alpha: viscous damping, > 0.
            beta: Newtonian damping, with 0 <= beta <= 1/alpha.
            loss_bound: f*, a lower bound of the loss of every batch.
            **kwargs: other arguments of the constructor. ``lr`` is a factor, 1 by default, on which schedules act.

        Raises:
            ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.

        Example:
            >>> model = torch.nn.Linear(3, 1)
            >>> optimizer = INNA.lr_free(model.parameters())
            >>> for _ in range(200):
            ...     optimizer.zero_grad()
            ...     loss = (model(torch.eye(3)) - 1).square().mean()
            ...     loss.backward()
            ...     optimizer.step(loss=loss)
            >>> bool(loss < 1e-3)
            True

        References:
            The cap is that of DoG (Ivgi, Hinder and Carmon, arXiv 2302.12022), the guard Polyak's.
        """
        entries: Any = params
        if not isinstance(params, (Tensor, dict)):
            entries = [_lr_free_group(entry) if isinstance(entry, dict) else entry for entry in params]
        free = {
            "lr": dynamics.INNA_LR_FREE_DEFAULTS.lr,
            "initial_distance": dynamics.LR_FREE_DISTANCE,
            "time_step": _free_time_step(alpha),
        }
        return cls(entries, alpha=alpha, beta=beta, loss_bound=loss_bound, **{**free, **kwargs})

    @property
    def guarded_share(self) -> float:
        """The share of the steps that the guard has shortened.

        Reading it waits for the device.
        """
        group = self.param_groups[0]
        steps = float(group.get("guard_steps", 0.0))
        return float(group["guard_cuts"]) / steps if steps else 0.0

    @property
    def last_lr(self) -> float:
        """The learning rate of the last step, after the guard.

        That of the first group; reading it waits for the device. Without a guard, its current lr.
        """
        group = self.param_groups[0]
        lr = group["lr"] if group["loss_bound"] is None else group.get("guard_lr", 0.0)
        return float(lr.detach() if isinstance(lr, Tensor) else lr)

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None, *, loss: float | Tensor | None = None) -> Any:
        """Take one step with the current gradients.

        Parameters without a gradient do not change.

        A step with lr = 0 changes nothing at all, counters included. Neither does a guarded step with a loss or an
        inner product that is not finite.

        Args:
            closure: reevaluates the model and returns the loss. It is called once, with gradients enabled.
            loss: the loss of the batch whose gradients these are, not scaled; a number or a tensor of one element. The
                guard needs it, and takes the closure's result if it is None. It is averaged over the processes of
                ``torch.distributed``. Without a ``loss_bound`` it is not used.

        Returns:
            The result of ``closure``, or None.

        Raises:
            RuntimeError: a gradient is sparse, a CUDA graph is captured without ``capturable``, or ``fused`` is True
                and a tensor has no kernel.
            ValueError: a setting was changed to a value out of its range, or there is a ``loss_bound`` and no loss.

        All of these are raised before anything has changed. A fused step on the CPU is whole or not at all, whatever
        interrupts it, if it is not guarded; see docs/reliability.md for the others.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        if all(group["loss_bound"] is None for group in self.param_groups):
            for group in self.param_groups:
                if MEMORY[0] in group:  # it would not know of this step
                    forget(group)
            self._step_groups()
        else:
            self._step_guarded(value if loss is None else loss)
        return value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Missing settings are those of the constructor.

        Raises:
            ValueError: a setting is out of its range or ``loss_bound`` is another group's, or a parameter is already in
                another group.
            RuntimeError: ``fused`` is True and a parameter has no kernel.
        """
        if isinstance(param_group, dict):
            self._check_one_bound([*self.param_groups[:1], {**self.defaults, **param_group}])
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        make_plain(group)
        if group["loss_bound"] is not None:
            add_memory(group, self._device(), older=False)

    def _device(self) -> torch.device:
        """Return where the guard decides.

        On a rank of ZeroRedundancyOptimizer, groups may be empty.
        """
        params = (param for group in self.param_groups for param in group["params"])
        return next((param.device for param in params), torch.device("cpu"))

    @staticmethod
    def _check_one_bound(groups: list[dict[str, Any]]) -> None:
        if any(group["loss_bound"] is not None for group in groups):
            one_bound(groups)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_guard(group)
        check_memory(group)

    def _settings(self, group: dict[str, Any]) -> Settings:
        settings = super()._settings(group)
        h = settings.time_step
        if h is not None and not (isinstance(h, float) and 0 < h < math.inf):
            settings = settings._replace(time_step=check_time_step(h))
        return settings

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        adapted = super()._adapt(state_dict)
        groups = adapted["param_groups"]
        self._check_one_bound([{**self.defaults, **group} for group in groups])
        for index, group in enumerate(groups):
            if not self.defaults["sum_over_ranks"]:  # other ranks may have all of a group's gradients
                check_momentum(index, group, adapted["state"])
            make_plain(group)
        return adapted

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentums: list[Tensor],
        exp_avg_sqs: list[Tensor],
        compensations: list[Tensor | None],
        steps: list[Tensor],
        streams: list[int],
        momentum_scales: list[Tensor | None],
        exp_avg_sq_scales: list[Tensor | None],
        starts: list[Tensor] | None = None,
    ) -> Path:
        if group["loss_bound"] is not None:
            older = any(not {"momentum", "psi"}.isdisjoint(self.state.get(param, ())) for param in group["params"])
            add_memory(group, self._device(), older=older)
        path = super()._init_group(
            group,
            params,
            grads,
            momentums,
            exp_avg_sqs,
            compensations,
            steps,
            streams,
            momentum_scales,
            exp_avg_sq_scales,
        )
        if group["initial_distance"] is not None and starts is not None:
            self._add_starts(group, params, starts)
        return path

    def _add_starts(self, group: dict[str, Any], params: list[Tensor], starts: list[Tensor]) -> None:
        """Append theta_0 of each parameter."""
        for param in params:
            starts.append(self.state[param]["start"])
            take_start(self._begun, param, starts[-1], group["guard_steps"], group["lr"])

    def _fill_state(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["loss_bound"] is not None and param.dtype in LOW_PRECISION and group["kahan"] in (False, 0):
            raise ValueError(
                f"kahan must not be False with a loss_bound and a parameter in {param.dtype}: the guard would not see "
                "what rounding takes from the steps"
            )
        super()._fill_state(param, state, group)
        if group["loss_bound"] is not None and "step" in state and wants_kernels(group):
            # The device decides whether the step is taken.
            state["step"] = state["step"].to(param.device)
        if group["initial_distance"] is None:
            state.pop("start", None)
        elif "start" not in state:
            state["start"] = param.detach().clone()

    def _step_guarded(self, loss: Any) -> None:
        bound = one_bound(self.param_groups)
        host = not any(map(self._keeps_tensors, self.param_groups))
        # torch.distributed.checkpoint creates the state by a step with lr = 0 and without a loss.
        idle = loss is None and all(bool(group["lr"] == 0) for group in self.param_groups)
        given = None if idle else read_loss(loss, differentiable=self.param_groups[0]["differentiable"])
        # All groups are checked before the gradients of the first are unscaled.
        gathered = [self._gather(i, group, host=host) for i, group in enumerate(self.param_groups)]
        maximize = bool(self.param_groups[0]["maximize"])
        # Not the group's: a state dict would bring that along.
        sum_over_ranks = self.defaults["sum_over_ranks"]
        moving = [group for group in gathered if group.lists.params]
        if given is not None and can_decide(moving, sum_over_ranks=sum_over_ranks):
            scaling = self._scaling()
            self._guard = take_step_on_device(
                moving, given, bound, maximize=maximize, scaling=scaling, earlier=self._guard
            )
            return
        groups = [self._unscaled(group, host=host) for group in gathered]
        if given is None:
            return
        sign = -1.0 if maximize else 1.0
        take_step(groups, sign * given, sign * bound, host=host, sum_over_ranks=sum_over_ranks)

    def _gather(self, index: int, group: dict[str, Any], *, host: bool) -> GatheredGroup:
        """Gather the tensors of a group, and its checked settings."""
        check_capture(group["capturable"])
        settings = self._settings(group)
        check_guard({**group, **settings._asdict()} if host else group, host=host)
        lists = TensorLists()
        starts: list[Tensor] = []
        free = group["initial_distance"] is not None
        plan = None if torch.compiler.is_compiling() else self._plans.get(index)
        tensors = None if plan is None else plan.tensors(group, self.state)
        if plan is not None and tensors is not None:
            add_memory(group, self._device(), older=True)
            lists.params, lists.grads = tensors
            if free and not (plan.started and plan.measures_distance):
                self._add_starts(group, lists.params, starts)
                plan.started = all(param in self._begun for param in lists.params)
            return GatheredGroup(group, lists, settings, "fused", plan, starts if free else None)
        path = self._init_group(
            group,
            lists.params,
            lists.grads,
            lists.momentums,
            lists.exp_avg_sqs,
            lists.compensations,
            lists.steps,
            lists.streams,
            lists.momentum_scales,
            lists.exp_avg_sq_scales,
            starts,
        )
        plan = None
        if path == "fused" and lists.params and can_plan(lists):
            sums = SumLists(starts, [])
            plan = Plan(group, self.state, lists, sums if free and can_measure(lists, sums) else None)
            self._plans[index] = plan
        return GatheredGroup(group, lists, settings, path, plan, starts if free else None)

    def _unscaled(self, group: GatheredGroup, *, host: bool) -> GuardedGroup:
        """Unscale the gradients of a group, and return its part in the step."""
        scaling = self._scaling()
        if any(value is not None for value in scaling):
            scaled = apply_scaling(group.lists, group.settings, *scaling, host=host, in_place=True)
            group = group._replace(settings=group.settings._replace(lr=0.0) if scaled is None else scaled)
        return join(group, host=host)

    def _update(self, lists: TensorLists, **settings: Any) -> None:
        lr, h = settings["lr"], settings["time_step"]
        if h is not None and isinstance(lr, Tensor):
            settings["time_step"] = h * (lr != 0).double()  # with lr = 0 nothing may change
        inna(lists, **settings)


def _free_time_step(alpha: float) -> float:
    """The time step that belongs to ``alpha`` without a learning rate."""
    return dynamics.LR_FREE_TIME_STEP / float(check_range("alpha", alpha, minimum=0.0, exclusive=True))


def _lr_free_group(group: dict[str, Any]) -> dict[str, Any]:
    return {**({"time_step": _free_time_step(group["alpha"])} if "alpha" in group else {}), **group}


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
