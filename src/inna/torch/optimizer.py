"""What INNA and INNAprop share: groups, flags, state, checkpoints, the choice of a path. The rules are elsewhere."""

from __future__ import annotations

import functools
import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
    _use_grad_for_differentiable,
)

from inna.checks import check_range
from inna.dynamics import momentum_from_phase
from inna.torch.kernels.plan import Plan
from inna.torch.kernels.step import step as fused_step
from inna.torch.kernels.support import choose
from inna.torch.shards import localized, placed_like
from inna.torch.state_dict import check_layout, check_state
from inna.torch.tensor_lists import Settings, TensorLists

__all__ = ["InertialOptimizer"]

STATE_DICT_VERSION = 1
# Flags that leave the choice to the optimizer where they are None, and flags that are on or off.
CHOICES = ("foreach", "fused", "kahan")
SWITCHES = ("maximize", "capturable", "differentiable", "decoupled_weight_decay")
LOW_PRECISION = (torch.bfloat16, torch.float16)


class InertialOptimizer(Optimizer):
    """The plumbing of both optimizers; a subclass names its hyper-parameters, fills its state and updates."""

    # what the rule reads of a group: the fields of `Settings`, in their order
    settings: ClassVar[tuple[str, ...]]
    # name -> keyword arguments of `check_range`
    ranges: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"minimum": 0.0},
        "alpha": {"minimum": 0.0},
        "beta": {"minimum": 0.0},
        "weight_decay": {"minimum": 0.0},
    }
    # What the state of a parameter may hold; psi only between loading a checkpoint of the authors' and the first step.
    state_names: ClassVar[frozenset[str]] = frozenset({"momentum", "step", "compensation", "psi"})

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        # Checked before torch reads the groups: a bad default is reported even where every group overrides it.
        self._check(defaults)
        self._plans: dict[int, Plan] = {}
        super().__init__(params, defaults)

    @classmethod
    def _signature_defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def _check(self, group: dict[str, Any]) -> None:
        for name, bounds in self.ranges.items():
            value = group[name]
            # float() of a tensor that is differentiated with respect to warns.
            check_range(name, value.detach() if isinstance(value, Tensor) else value, **bounds)
        if group["initial_speed"] is not None:
            check_range("initial_speed", group["initial_speed"])
        dtype = group["momentum_dtype"]
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"momentum_dtype must be a real floating-point torch.dtype or None, got {dtype!r}")
        for flag in (*CHOICES, *SWITCHES):
            value = group.get(flag, False)
            if not isinstance(value, (bool, int)) and not (value is None and flag in CHOICES):
                allowed = "True, False or None" if flag in CHOICES else "True or False"
                raise ValueError(f"{flag} must be {allowed}, got {value!r}")
        if group["differentiable"]:
            for flag in ("foreach", "fused", "kahan"):
                if group[flag]:
                    raise ValueError(f"{flag}=True cannot be differentiated through; leave it None or False")
        if group["fused"] and group["foreach"]:
            raise ValueError("foreach=True and fused=True exclude each other; choose one, or leave both None")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; settings that are left out are those of the constructor.

        Raises:
            ValueError: a setting is out of its range, or a parameter is already in another group.
            RuntimeError: ``fused=True``, and no kernel takes one of the parameters.
        """
        if isinstance(param_group, dict):
            self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["fused"]:
            try:
                choose(True, None, TensorLists(params=group["params"]))
            except RuntimeError:
                self.param_groups.pop()
                raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plans = {}
        for group in self.param_groups:
            for name, value in self._signature_defaults().items():
                group.setdefault(name, value)
        for values in self.state.values():
            if "step" in values and not isinstance(values["step"], Tensor):
                values["step"] = torch.tensor(float(values["step"]), dtype=torch.float32)

    def state_dict(self) -> dict[str, Any]:
        """The state, the groups, and the version of their format, as plain containers and tensors."""
        return {**super().state_dict(), "version": STATE_DICT_VERSION}

    # torch.optim.Optimizer casts all state to the parameter's dtype, and calls the caster statically (pytorch#43706).
    # A hook after all others sees what will be loaded; another, before all others, puts the dtypes back.
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; tensors keep the dtype they were saved with.

        Also takes checkpoints of the authors' code: their phase variable ``psi`` is kept until the first step and
        becomes momentum there, with the weights that are then loaded; their ``weight_decay`` becomes
        ``weight_decay/beta``.

        Raises:
            ValueError: the groups or the state do not match the parameters, or are another optimizer's; a setting is
                out of its range; the format is of a later version; or the authors' ``decaypower`` is on. Nothing is
                changed then.
        """
        loaded: dict[str, Any] = {}

        def adapt(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
            loaded.update(self._adapt(state_dict))
            return loaded

        def restore_dtypes(optimizer: Optimizer) -> None:
            ids = (key for group in loaded["param_groups"] for key in group["params"])
            params = (param for group in self.param_groups for param in group["params"])
            for key, param in zip(ids, params, strict=True):
                for name, value in loaded["state"].get(key, {}).items():
                    if name != "step" and isinstance(value, Tensor) and self.state[param][name].dtype != value.dtype:
                        self.state[param][name] = value.to(device=param.device, copy=True)

        handles = (
            self.register_load_state_dict_pre_hook(adapt),
            self.register_load_state_dict_post_hook(restore_dtypes, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        check_layout(state_dict)
        version = state_dict.get("version")
        if version is not None and not (isinstance(version, int) and 1 <= version <= STATE_DICT_VERSION):
            raise ValueError(
                f"the state dict has format version {version!r}; this inna reads up to version {STATE_DICT_VERSION}"
            )
        groups = [dict(group) for group in state_dict["param_groups"]]
        of_the_authors = version is None and (
            any("psi" in values for values in state_dict["state"].values())
            or any("decaypower" in group for group in groups)
        )
        for group in groups:
            self._check({**self.defaults, **group})
        for group in groups if of_the_authors else []:
            if group.pop("decaypower", 0):
                raise ValueError(
                    "the checkpoint's decaypower has no counterpart here: load it with decaypower=0 and use "
                    "torch.optim.lr_scheduler.LambdaLR(optimizer, inna.schedules.power_decay(q))"
                )
            if group.get("weight_decay"):
                beta = check_range("beta", {**self.defaults, **group}["beta"], minimum=0.0, exclusive=True)
                group["weight_decay"] = check_range("weight_decay/beta", group["weight_decay"] / beta)
        check_state(state_dict, [group["params"] for group in self.param_groups], self.state_names)
        return {**state_dict, "param_groups": groups}

    # torch wraps `step` in this. Its label for the profiler costs 6 µs, a quarter of a small model's step: it is left
    # out where no profiler and no hook sees the step.
    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """``func`` as torch wraps it, with hooks and a label; without either where nobody would notice."""
        watched = Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self = args[0]
            if (
                (not torch.compiler.is_compiling() and _profiler_enabled())
                or self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks
                or _global_optimizer_post_hooks
            ):
                return watched(*args, **kwargs)
            return func(*args, **kwargs)

        return wrapper

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether the fused path, which honours GradScaler's ``grad_scale`` and ``found_inf``, will be taken."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            # What state there is; the rest will be laid out as the parameters are.
            states = [self.state.get(param, {}) for param in params]
            lists = TensorLists(
                params=params,
                grads=[param.grad for param in params if param.grad is not None],
                momentums=[state.get("momentum") for state in states],
                exp_avg_sqs=[state.get("exp_avg_sq") for state in states],
                compensations=[state.get("compensation") for state in states],
            )
            if not self._fuses(group, lists):
                return False
        return True

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step with the gradients at hand; parameters without a gradient are left alone.

        A step with lr = 0 changes nothing at all, counters included.

        Args:
            closure: reevaluates the model and returns the loss; called once, with gradients enabled.

        Returns:
            What ``closure`` returned, else None.

        Raises:
            RuntimeError: a gradient is sparse, a CUDA graph is captured without ``capturable``, or ``fused=True`` and a
                tensor has no kernel.
            ValueError: a setting has been changed to a value out of its range; nothing is changed then in its group.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _refuse_capture(group["capturable"])
            plan = None if torch.compiler.is_compiling() else self._plans.get(id(group))
            grads = None if plan is None else plan.grads(group, self.state)
            if plan is None or grads is None:
                self._step_group(group)
                continue
            settings = self._settings(group)
            if isinstance(settings.lr, Tensor) or settings.lr != 0:
                plan.step(grads, settings, *self._scaling())
        return loss

    def _scaling(self) -> tuple[Tensor | None, Tensor | None]:
        """What GradScaler asks for: ``grad_scale`` and ``found_inf``."""
        return getattr(self, "grad_scale", None), getattr(self, "found_inf", None)

    def _step_group(self, group: dict[str, Any]) -> None:
        lists = TensorLists()
        fuses = self._init_group(
            group,
            lists.params,
            lists.grads,
            lists.momentums,
            lists.exp_avg_sqs,
            lists.compensations,
            lists.steps,
        )
        if not lists.params:
            return
        settings = self._settings(group)
        if not isinstance(settings.lr, Tensor) and settings.lr == 0:
            return
        if not fuses:
            # Shards are stepped as the plain tensors they are: faster, and foreach takes them together with plain
            # parameters. Only autograd has to see the DTensors themselves.
            flags = {name: group[name] for name in ("foreach", "capturable", "differentiable")}
            lists = lists if group["differentiable"] else localized(lists)
            self._update(lists, **{name: getattr(settings, name) for name in self.settings}, **flags)
        elif Plan.possible(lists):
            plan = self._plans[id(group)] = Plan(group, self.state, lists)
            plan.step(lists.grads, settings, *self._scaling())
        else:
            fused_step(lists, settings, *self._scaling())

    def _fuses(self, group: dict[str, Any], lists: TensorLists) -> bool:
        differentiable, among = group["differentiable"], group["params"]
        return choose(group["fused"], group["foreach"], lists, differentiable=differentiable, among=among)

    # torch.compile knows this name: it runs the method instead of tracing it, so state is made and the path is chosen
    # outside the graph, and the first step needs no graph of its own. It can fill lists only, hence the long signature.
    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentums: list[Tensor],
        exp_avg_sqs: list[Tensor],
        compensations: list[Tensor | None],
        steps: list[Tensor],
    ) -> bool:
        """Append the tensors of one step of ``group`` to the lists of a `TensorLists`, making state that is missing.

        Returns:
            Whether the fused path takes them.
        """
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} needs dense gradients, got layout {grad.layout}: its momentum moves every "
                    "entry at every step. Use sparse=False in the embedding, or another optimizer for it"
                )
            state = self.state[param]
            if "psi" in state:
                if bool(group["lr"] == 0):
                    continue
                self._take_over_phase(param, state, group)
            self._fill_state(param, state, group)
            params.append(param)
            grads.append(placed_like(param, grad))
            momentums.append(state["momentum"])
            compensations.append(state.get("compensation"))
            if "exp_avg_sq" in state:
                exp_avg_sqs.append(state["exp_avg_sq"])
            if self._counts(group):
                steps.append(state["step"])
        return self._fuses(group, TensorLists(params, grads, momentums, exp_avg_sqs, compensations, steps))

    def _fill_state(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Add what the state of ``param`` lacks: all of it at first, later what a changed setting asks for."""
        if self._counts(group) and "step" not in state:
            # Where a momentum exists already, the initial velocity has had its time.
            state["step"] = _step_count(1.0 if "momentum" in state else 0.0, param, group)
        elif self._counts(group) and group["capturable"] and state["step"].device != param.device:
            # Counted on the host, as before capturable was asked for, it would stand still while a graph is replayed.
            state["step"] = state["step"].to(param.device)
        if "momentum" not in state:
            state["momentum"] = zeros_like(param, momentum_dtype(param, group))
        kahan = group["kahan"]
        if kahan is None:
            kahan = param.dtype in LOW_PRECISION and not group["differentiable"]
        if kahan and "compensation" not in state:
            state["compensation"] = zeros_like(param, None)
        elif not kahan:
            state.pop("compensation", None)

    def _take_over_phase(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        psi = state.pop("psi")
        state.pop("step", None)
        state["momentum"] = zeros_like(param, momentum_dtype(param, group))
        with torch.no_grad():
            state["momentum"].copy_(momentum_from_phase(param, psi, group["alpha"], group["beta"]))

    def _counts(self, group: dict[str, Any]) -> bool:
        """Whether the optimizer needs the number of steps taken."""
        return group["initial_speed"] is not None

    def _settings(self, group: dict[str, Any]) -> Settings:
        """The group's hyper-parameters, lr, alpha and beta as numbers unless tensors must stay tensors."""
        keep_tensors = group["capturable"] or group["differentiable"] or torch.compiler.is_compiling()
        values = {name: group[name] for name in self.settings}
        for name, bounds in self.ranges.items():
            values[name] = _hyperparameter(name, values[name], bounds, keep_tensors and name in ("lr", "alpha", "beta"))
        return Settings(**values)

    @abstractmethod
    def _update(self, lists: TensorLists, **settings: Any) -> None:
        """Step the parameters in ``lists`` by the rule, single or foreach; lr is not the number 0."""


def _hyperparameter(name: str, value: float | Tensor, bounds: dict[str, Any], keep_tensor: bool) -> float | Tensor:
    if isinstance(value, Tensor):
        if keep_tensor:
            return value.reshape(())
        value = value.item()
    # All of them are >= 0; this is a tenth of the time that the check takes.
    if not (isinstance(value, (int, float)) and 0.0 <= value < bounds.get("below", math.inf)):
        value = check_range(name, value, **bounds)
    if name == "lr" and torch.compiler.is_compiling():
        # As a number it would be a constant of the graph, and every step of a scheduler would compile anew.
        return value * torch.ones((), dtype=torch.float64)
    return value


def momentum_dtype(param: Tensor, group: dict[str, Any]) -> torch.dtype:
    """The dtype asked for; else that of ``param``, but float32 for bfloat16 and float16."""
    dtype: torch.dtype | None = group["momentum_dtype"]
    if dtype is None:
        return torch.float32 if param.dtype in LOW_PRECISION else param.dtype
    return dtype


def zeros_like(param: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is not None and param.is_complex():
        dtype = dtype.to_complex()
    return torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)


def _step_count(count: float, param: Tensor, group: dict[str, Any]) -> Tensor:
    # On the host counting is free and needs no synchronisation; a captured graph can count only on the device.
    device = param.device if group["capturable"] else torch.device("cpu")
    return torch.tensor(count, dtype=torch.float32, device=device)


def _refuse_capture(capturable: bool) -> None:
    if (
        not capturable
        and torch.backends.cuda.is_built()
        and torch.cuda.is_available()
        and torch.cuda.is_current_stream_capturing()
    ):
        raise RuntimeError("a CUDA graph is being captured: construct the optimizer with capturable=True")
