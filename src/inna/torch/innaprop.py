"""INNAprop for PyTorch: INNA on gradients rescaled as by RMSprop."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.utils.weak import WeakTensorKeyDictionary

from inna import dynamics
from inna.checks import check_range, check_whole
from inna.docstrings import insert
from inna.torch.kernels.plan import Plan, can_plan
from inna.torch.kernels.support import can_measure
from inna.torch.measures.distance import Share, sliced, take_start
from inna.torch.measures.free_step import LONGEST, SCALARS, FreeGroup, GatheredGroup, take_step
from inna.torch.measures.scalars import as_number, as_scalar
from inna.torch.optimizer import InertialOptimizer, check_capture, zeros_like
from inna.torch.paths import Path
from inna.torch.scaling import apply_scaling
from inna.torch.settings import FLAGS, LOW_PRECISION
from inna.torch.shards import is_dtensor
from inna.torch.steps.companding import MEAN_SQUARE
from inna.torch.steps.rescaled import innaprop
from inna.torch.tensor_lists import Settings, SumLists, TensorLists, coefficient_dtype, on_device_of

__all__ = ["INNAprop", "INNApropLRFree", "innaprop"]


@insert(flags=FLAGS)
class INNAprop(InertialOptimizer):
    r"""INNA with RMSprop's rescaling of the gradient.

    It has two state tensors per parameter, as AdamW.

    .. math::
        v_{k+1} &= \sigma v_k + (1 - \sigma) g_k^2, \qquad
        \hat g_k = g_k / \bigl(\sqrt{v_{k+1}/(1 - \sigma^{k+1})} + \varepsilon\bigr) \\
        \theta_{k+1} &= \theta_k - \gamma_k (m_k + \beta \hat g_k) \\
        m_{k+1} &= (1 - \alpha \gamma_k) m_k + \gamma_k (1 - \alpha \beta) \hat g_k

    The published formula divides by beta - gamma. This form does not, so lr = beta is allowed. Weight decay is as
    published, before the step: :math:`m \leftarrow m + \gamma\lambda(1/\beta - \alpha)\theta`, then
    :math:`\theta \leftarrow (1 - \gamma\lambda)\theta`.

    Args:
        params: tensors, named tensors or parameter groups. The real and imaginary parts of complex tensors are rescaled
            separately, as in torch's Adam.
        lr: learning rate (gamma), >= 0. A float, or a tensor of one element.
            ``OneCycleLR`` and ``CyclicLR`` need ``cycle_momentum=False``.
        alpha: viscous damping, >= 0. A float, or a tensor of one element.
        beta: Newtonian damping, >= 0, and > 0 with weight decay. A float, or a tensor of one element.
        sigma: decay rate of the mean square v, in [0, 1).
        eps: added to the root, >= 0.
        weight_decay: lambda >= 0, as published: not rescaled.
        initial_speed: s, for the initial velocity -s ghat_0. None is s = beta and m_0 = 0.
        momentum_dtype: dtype of the momentum and of the mean square. None is the parameter's, but float32 for bfloat16
            and float16 parameters. bfloat16 is rounded stochastically. float16 is refused: squares of gradients vanish
            in it.
        momentum_bits: 8 keeps both, of parameters with at least 4096 numbers, in one byte a number each, with a scale
            for 256 numbers, rounded stochastically. None is ``momentum_dtype``. Needs real parameters, and excludes
            ``momentum_dtype`` and ``differentiable``. Shards of DTensors must be whole blocks of 256.
        rounding_seed: seed of stochastic rounding, an integer >= 0 and < 2^32.
        {flags}

    State per parameter: ``step``, ``exp_avg_sq``, ``momentum``; ``exp_avg_sq_scale`` and ``momentum_scale`` with
    ``momentum_bits``; ``compensation`` if Kahan summation is on.

    Raises:
        ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.
        RuntimeError: ``fused`` is True and a parameter has no kernel; at `step`, a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = INNAprop(model.parameters(), lr=1e-3)
        >>> model(torch.ones(2, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[model.weight])
        ['exp_avg_sq', 'momentum', 'step']

    References:
        Bolte, Boustany, Pauwels, Purica. A second-order-like optimizer with adaptive gradient scaling for deep
        learning. arXiv 2410.05871, 2024.
    """

    settings = ("lr", "alpha", "beta", "weight_decay", "initial_speed", "maximize", "sigma", "eps")
    ranges = dynamics.RANGES
    state_names = InertialOptimizer.state_names | {"exp_avg_sq", "exp_avg_sq_scale"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        alpha: float | Tensor = 0.1,
        beta: float | Tensor = 0.9,
        sigma: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        initial_speed: float | None = None,
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
            "sigma": sigma,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_speed": initial_speed,
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
        super().__init__(params, defaults)

    @classmethod
    def lr_free(
        cls,
        params: ParamsT,
        alpha: float | Tensor = dynamics.INNAPROP_DEFAULTS.alpha,
        beta: float | Tensor = dynamics.INNAPROP_DEFAULTS.beta,
        *,
        initial_distance: float = dynamics.LR_FREE_DISTANCE,
        slice_every: int = 1,
        **kwargs: Any,
    ) -> INNApropLRFree:
        """Make the INNAprop that finds the length of its steps.

        No learning rate has to be tuned.

        Args:
            params: tensors, named tensors or parameter groups.
            alpha: viscous damping, > 0.
            beta: Newtonian damping, with 0 <= beta <= 1/alpha.
            initial_distance: d_0 > 0, smaller than any weight's distance to a solution; it grows.
            slice_every: keep the two further tensors for every so many entries of each parameter only.
            **kwargs: other arguments of `INNApropLRFree`, which documents the rule.

        Raises:
            ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.

        Example:
            >>> model = torch.nn.Linear(3, 1)
            >>> optimizer = INNAprop.lr_free(model.parameters())
            >>> schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)
        """
        return INNApropLRFree(
            params, alpha=alpha, beta=beta, initial_distance=initial_distance, slice_every=slice_every, **kwargs
        )

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        adapted = super()._adapt(state_dict)
        free = "distance" in self.param_groups[0]
        if any(("distance" in group) is not free for group in adapted["param_groups"]):
            raise ValueError(
                "the state dict is of an INNAprop with a learning rate, and this one has none"
                if free
                else "the state dict is of INNAprop.lr_free, whose lr is a factor; load it into INNAprop.lr_free"
            )
        return adapted

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._check_decay(group["weight_decay"], group["beta"])
        if group["momentum_dtype"] is torch.float16:
            raise ValueError(
                "momentum_dtype must not be torch.float16 here: mean squares below 6e-8 would become 0 and the step "
                "infinite; use torch.float32 or torch.bfloat16"
            )

    @staticmethod
    def _check_decay(weight_decay: float, beta: float | Tensor) -> None:
        if weight_decay and beta == 0:
            raise ValueError(f"weight_decay={weight_decay!r} needs beta > 0, got beta={beta!r}")

    def _fill_state(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        super()._fill_state(param, state, group)
        self._fill(param, state, group, "exp_avg_sq", MEAN_SQUARE)

    def _counts(self, group: dict[str, Any]) -> bool:
        return True

    def _settings(self, group: dict[str, Any]) -> Settings:
        settings = super()._settings(group)
        if not isinstance(settings.beta, Tensor):
            self._check_decay(settings.weight_decay, settings.beta)
        return settings

    def _update(self, lists: TensorLists, **settings: Any) -> None:
        innaprop(lists, **settings)


@insert(flags=FLAGS)
class INNApropLRFree(INNAprop):
    r"""INNAprop that finds the length of its steps from an estimated distance.

    .. math::
        w &= (d/d_0)\, d\, \ell, \qquad
        r' = \sqrt\sigma\, r + w \langle g, \theta_0 - \theta\rangle, \qquad
        s' = \sqrt\sigma\, s + w g, \qquad d' = \max(d,\ r'/\|s'\|_1) \\
        \theta' &= \theta - \frac{d' \ell}{M + \beta} (m + \beta \hat g) \\
        m' &= (1 - \alpha h) m + h (1 - \alpha\beta) \hat g, \qquad
        M' = (1 - \alpha h) M + h (1 - \alpha\beta)

    with the rescaled gradient :math:`\hat g` of `INNAprop`. The distance d estimates how far the farthest weight is
    from its value at a solution. It starts at :math:`d_0`, never shrinks, and is one for all groups. M is the total
    weight of the gradients in m, so a step moves each weight by about d. A step that finds a sum that is not finite
    changes nothing.

    Args:
        params: tensors, named tensors or parameter groups. A complex tensor counts as its real and imaginary parts.
        lr: factor l >= 0 of the step, on which schedules act. A decay to 0 helps. A float, or a tensor of one element.
        alpha: viscous damping, > 0. A float, or a tensor of one element.
        beta: Newtonian damping, with 0 <= beta <= 1/alpha. A float, or a tensor of one element.
        sigma: decay rate of the mean square v, in [0, 1).
        eps: added to the root, >= 0.
        weight_decay: lambda >= 0; theta is multiplied by (1 - d' l lambda), and the momentum does not change.
        initial_distance: d_0 > 0, smaller than any weight's distance to a solution; it grows. The same in all groups.
        slice_every: keep ``start`` and ``grad_sum`` for every so many entries of each parameter only. With 11 they take
            an eleventh of the memory. Sharded parameters (DTensors) need 1.
        time_step: h of the momentum, with 0 < h <= 1/alpha. None is 0.1/alpha.
        sum_over_ranks: add the sums over the default process group, each rank of which has other parameters, as in
            ``ZeroRedundancyOptimizer``. The shards of DTensors are added without it.
        momentum_dtype: dtype of the momentum and of the mean square, as for `INNAprop`.
        momentum_bits: as for `INNAprop`.
        rounding_seed: as for `INNAprop`.
        {flags}

    It cannot be differentiated through. For bfloat16 and float16 parameters ``kahan`` must not be False: the first
    steps would be lost in rounding. With ``fused``, kernels on the CPU add up the sums, too; on CUDA devices torch
    does, and a kernel takes the step.

    State per parameter: that of `INNAprop`, ``start`` (theta_0) and ``grad_sum`` (s). Each group has tensors of shape
    (1,) in float64: ``distance``, ``correlation`` (the group's part of r) and ``average_weight`` (M).

    Raises:
        ValueError: an argument is out of its range, there are no parameters, or flags exclude each other.
        RuntimeError: at `step`, a gradient is sparse.

    Example:
        >>> weight = torch.tensor([3.0, -2.0], requires_grad=True)
        >>> optimizer = INNApropLRFree([weight])
        >>> schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=200)
        >>> for _ in range(200):
        ...     weight.grad = weight.detach().sign()  # of |theta|, with the solution 0
        ...     optimizer.step()
        ...     schedule.step()
        >>> bool(weight.abs().max() < 0.1), 0.1 < optimizer.distance <= 3
        (True, True)

    References:
        The estimate is Prodigy's (Mishchenko and Defazio, arXiv 2306.06101), on INNAprop's average of rescaled
        gradients: :doc:`/algorithm`.
    """

    settings = INNAprop.settings
    ranges: ClassVar[dynamics.Ranges] = {**dynamics.RANGES, "alpha": {"minimum": 0.0, "exclusive": True}}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        alpha: float | Tensor = dynamics.INNAPROP_DEFAULTS.alpha,
        beta: float | Tensor = dynamics.INNAPROP_DEFAULTS.beta,
        sigma: float = dynamics.INNAPROP_DEFAULTS.sigma,
        eps: float = dynamics.INNAPROP_DEFAULTS.eps,
        weight_decay: float = 0.0,
        *,
        initial_distance: float = dynamics.LR_FREE_DISTANCE,
        slice_every: int = 1,
        time_step: float | None = None,
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
            "sigma": sigma,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_speed": None,
            "initial_distance": initial_distance,
            "slice_every": slice_every,
            "time_step": time_step,
            "sum_over_ranks": sum_over_ranks,
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
        # The parameters whose theta_0 is known to be that of their first step.
        self._begun = WeakTensorKeyDictionary()
        super(INNAprop, self).__init__(params, defaults)

    @property
    def distance(self) -> float:
        """The distance d that it has found; reading it waits for the device."""
        return float(self.param_groups[0]["distance"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Missing settings are those of the constructor.

        Raises:
            ValueError: a setting is out of its range or ``initial_distance`` is another group's, or a parameter is
                already in another group.
        """
        for group in self.param_groups[:1]:
            first = {**self.defaults, **param_group}["initial_distance"]
            if first != group["initial_distance"]:
                raise ValueError(
                    f"initial_distance must be the same in all groups, got {first!r} beside "
                    f"{group['initial_distance']!r}"
                )
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self._make_plain(group)
        del group["sum_over_ranks"]  # of the optimizer, not of a group: a state dict must not bring it along
        found = self.param_groups[0].get("distance", group["initial_distance"])
        group["distance"] = as_scalar(found, torch.device("cpu")).clone()
        for name in ("correlation", "average_weight"):
            group[name] = torch.zeros_like(group["distance"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begun = WeakTensorKeyDictionary()
        for group in self.param_groups:
            group.pop("sum_over_ranks", None)

    @staticmethod
    def _make_plain(group: dict[str, Any]) -> None:
        """Turn the checked numbers of a group into Python's or scalar tensors."""
        for name, kind in (("initial_distance", float), ("time_step", float), ("slice_every", int)):
            if group.get(name) is not None:
                group[name] = kind(group[name])
        for name in SCALARS.keys() & group.keys():
            group[name] = as_scalar(float(group[name]), torch.device("cpu"))

    @staticmethod
    def _check_decay(weight_decay: float, beta: float | Tensor) -> None:
        """Any pair is allowed: the momentum does not change."""

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        adapted = super()._adapt(state_dict)
        for group in adapted["param_groups"]:
            self._make_plain(group)
            if missing := sorted(SCALARS.keys() - group.keys()):
                raise ValueError(f"a group of the state dict lacks {missing[0]!r}")
        members = [(group, key) for group in adapted["param_groups"] for key in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for i, ((group, key), param) in enumerate(zip(members, params, strict=False)):
            values = adapted["state"].get(key, {})
            every = {**self.defaults, **group}["slice_every"]
            expected = param.shape if every == 1 else (-(-param.numel() // every),)
            for name in ("start", "grad_sum"):
                value = values.get(name)
                fits = (
                    isinstance(value, Tensor)
                    and value.shape == expected
                    and value.is_complex() == param.is_complex() != value.is_floating_point()
                )
                if values and not fits:
                    raise ValueError(
                        f"the state dict's state of parameter {i}, of shape {tuple(param.shape)}: {name} must be a "
                        f"tensor of numbers of shape {tuple(expected)}"
                    )
        return adapted

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        dampings = (group["alpha"], group["beta"])
        self._check_average(group, *(float(x.detach() if isinstance(x, Tensor) else x) for x in dampings))
        if group["initial_speed"] is not None:
            raise ValueError(f"initial_speed={group['initial_speed']!r} needs a learning rate; use INNAprop")
        if group["differentiable"]:
            raise ValueError("differentiable=True needs a learning rate; use INNAprop")
        for name, bounds in SCALARS.items():
            if name in group:
                check_range(name, group[name].detach() if isinstance(group[name], Tensor) else group[name], **bounds)

    @staticmethod
    def _check_average(group: dict[str, Any], alpha: float, beta: float) -> None:
        """Check what estimate and average of gradients need of a group's settings."""
        check_range("initial_distance", group["initial_distance"], **dynamics.LENGTH_RANGES["initial_distance"])
        check_whole("slice_every", group["slice_every"], 1)
        h = group["time_step"]
        if h is not None:
            check_range("time_step", h, **dynamics.LENGTH_RANGES["time_step"])
        elif dynamics.LR_FREE_TIME_STEP / alpha > LONGEST:
            raise ValueError(f"alpha={alpha!r} is too small for the time step 0.1/alpha; give time_step")
        dynamics.check_weights(alpha, beta=beta, time_step=h)

    def _settings(self, group: dict[str, Any]) -> Settings:
        settings = super()._settings(group)
        if not isinstance(settings.alpha, Tensor) and not isinstance(settings.beta, Tensor):
            self._check_average(group, settings.alpha, settings.beta)
        return settings

    def _fill_state(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if param.dtype in LOW_PRECISION and group["kahan"] is not None and not group["kahan"]:
            raise ValueError(
                f"kahan must not be False for a parameter in {param.dtype}: the first steps would be lost in rounding"
            )
        if group["slice_every"] > 1 and is_dtensor(param):
            raise ValueError(f"slice_every must be 1 for sharded parameters (DTensors), got {group['slice_every']}")
        super()._fill_state(param, state, group)
        if "start" not in state:
            start = sliced(param.detach(), group["slice_every"])
            state["start"] = start.clone()
            state["grad_sum"] = zeros_like(start, coefficient_dtype(param))
        elif state["grad_sum"].numel() != -(-param.numel() // group["slice_every"]):
            raise ValueError(
                f"slice_every={group['slice_every']!r} does not fit the state of a parameter of {param.numel()} "
                f"numbers, which keeps {state['grad_sum'].numel()}; it cannot be changed after the first step"
            )

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
        grad_sums: list[Tensor] | None = None,
        resting: list[Tensor] | None = None,
    ) -> Path:
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
        device = self.param_groups[0]["params"][0].device  # one for all groups, so that they can be added there
        for name in SCALARS:
            group[name] = as_scalar(group[name], device)
        for param in params:
            state = self.state[param]
            take_start(self._begun, param, state["start"], state["step"], group["lr"], group["slice_every"])
        for param in group["params"]:
            state = self.state[param]
            if param.grad is None:
                if resting is not None and "grad_sum" in state:
                    resting.append(state["grad_sum"])
            elif starts is not None and grad_sums is not None:
                starts.append(state["start"])
                grad_sums.append(state["grad_sum"])
        return path

    def _step_groups(self) -> None:
        host = not any(map(self._keeps_tensors, self.param_groups))
        # All groups are checked before the gradients of the first are unscaled.
        gathered = [self._gather(i, group) for i, group in enumerate(self.param_groups)]
        groups = [self._unscaled(group, host=host) for group in gathered]
        take_step(groups, host=host, sum_over_ranks=self.defaults["sum_over_ranks"])

    def _tensors(
        self, index: int, group: dict[str, Any], lists: TensorLists, sums: SumLists, resting: list[Tensor]
    ) -> tuple[Path, Plan | None]:
        """Fill the lists of a group, and return the path and the plan of a fused step."""
        check_capture(group["capturable"])
        plan = None if torch.compiler.is_compiling() else self._plans.get(index)
        tensors = None if plan is None else plan.tensors(group, self.state)
        if plan is not None and tensors is not None:
            lists.params, lists.grads = tensors
            for param in group["params"]:
                state = self.state[param]
                if param.grad is not None:
                    sums.starts.append(state["start"])
                    sums.grad_sums.append(state["grad_sum"])
                elif "grad_sum" in state:
                    resting.append(state["grad_sum"])
            return "fused", plan
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
            sums.starts,
            sums.grad_sums,
            resting,
        )
        if path != "fused" or not lists.params or not can_plan(lists):
            return path, None
        plan = Plan(group, self.state, lists, sums if can_measure(lists, sums) else None)
        if all(param in self._begun for param in lists.params):  # else theta_0 may still have to be taken
            self._plans[index] = plan
        return path, plan

    def _gather(self, index: int, group: dict[str, Any]) -> GatheredGroup:
        """Gather the tensors of a group, and its checked settings."""
        settings = self._settings(group)
        lists = TensorLists()
        sums = SumLists([], [], group["slice_every"])
        resting: list[Tensor] = []
        path, plan = self._tensors(index, group, lists, sums, resting)
        return GatheredGroup(group, lists, sums, resting, settings, path, plan)

    def _unscaled(self, gathered: GatheredGroup, *, host: bool) -> FreeGroup:
        """Unscale the gradients of a group, and return its part in the step."""
        group, lists, sums, resting, settings, path, plan = gathered
        scaling = self._scaling()
        if any(value is not None for value in scaling):
            scaled = apply_scaling(lists, settings, *scaling, host=host, in_place=True)
            settings = settings._replace(lr=0.0) if scaled is None else scaled
        lr: Any = settings.lr
        if not host:
            lr = on_device_of(lr, group["distance"])
            settings = settings._replace(lr=lr)
        moves = lr != 0
        sigma: Any = settings.sigma
        # A group that does not move keeps its part of the sums.
        if isinstance(moves, Tensor):
            sigma = torch.where(moves, on_device_of(sigma, lr), on_device_of(1, lr))
        elif not moves:
            sigma = 1.0
        distance = as_number(group["distance"], host=host)
        h = group["time_step"]
        share = Share(
            lists,
            sums.starts,
            sums.grad_sums,
            resting,
            sums.slice_every,
            sigma,
            dynamics.distance_weight(distance, group["initial_distance"], lr),
            bool(group["maximize"]),
            plan if plan is not None and plan.measures_distance else None,
            group["params"],
        )
        time_step = dynamics.LR_FREE_TIME_STEP / settings.alpha if h is None else h
        return FreeGroup(group, share, settings, path, plan, time_step, moves)
