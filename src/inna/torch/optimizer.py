"""The base class of INNA and INNAprop.

Parameter groups, flags, state, state dicts, and the way of a step.
"""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
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
from inna.dynamics import RANGES, Ranges, momentum_from_phase
from inna.torch.kernels.plan import Plan, can_plan
from inna.torch.kernels.step import step as step_fused
from inna.torch.kernels.support import mark_constants, refusal
from inna.torch.paths import Path, choose_path
from inna.torch.scaling import apply_scaling, divide_gradients
from inna.torch.settings import LOW_PRECISION, check_settings, plain_flags, read_setting, undo_rounding
from inna.torch.shards import place_like, to_local, to_local_lists
from inna.torch.state_dict import check_layout, check_state, move_to, split_state
from inna.torch.steps.companding import MOMENTUM, dequantized, fits, scales_like
from inna.torch.steps.rounding import ROUNDED, stream
from inna.torch.tensor_lists import Settings, TensorLists, run_together

__all__ = ["InertialOptimizer", "check_capture", "momentum_dtype", "zeros_like"]

STATE_DICT_VERSION = 1


class InertialOptimizer(Optimizer):
    """Base class of INNA and INNAprop.

    A subclass names its hyper-parameters, fills its state and updates.

    The way of a gradient: `_prepare` checks that a group's plan still holds, or gathers the tensors, chooses the path
    and reads the settings. Once all groups are prepared, `step` launches them.
    """

    # the entries of a group that the rule reads, named as the fields of `Settings`
    settings: ClassVar[tuple[str, ...]]
    # the range of each setting: keyword arguments of `check_range`
    ranges: ClassVar[Ranges] = {name: RANGES[name] for name in ("lr", "alpha", "beta", "weight_decay")}
    # The state of a parameter; psi only between loading a checkpoint of the authors and the first step.
    state_names: ClassVar[frozenset[str]] = frozenset({"momentum", "momentum_scale", "step", "compensation", "psi"})

    # Whether GradScaler passes its scale to `step` instead of dividing the gradients itself. As torch's, it may be set.
    _step_supports_amp_scaling: bool = False

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        defaults = {**defaults, **plain_flags(defaults)}
        # Checked before torch reads the groups: a bad default is reported even if every group overrides it.
        self._check(defaults)
        self._plans: dict[int, Plan] = {}
        super().__init__(params, defaults)
        mark_constants()
        if defaults["fused"]:
            self._step_supports_amp_scaling = True

    @classmethod
    def _signature_defaults(cls) -> dict[str, Any]:
        """The defaults of INNA or INNAprop; a subclass may have another signature."""
        owner = next(base for base in cls.__mro__ if "settings" in vars(base))
        parameters = inspect.signature(owner).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def _check(self, group: dict[str, Any]) -> None:
        check_settings(group, self.ranges)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings.

        Missing settings are those of the constructor.

        Raises:
            ValueError: a setting is out of its range, or a parameter is already in another group.
            RuntimeError: ``fused`` is True and a parameter has no kernel.
        """
        if isinstance(param_group, dict):
            param_group.update(plain_flags(param_group))
            self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["fused"] and (why := refusal(TensorLists(params=group["params"]))):
            self.param_groups.pop()
            raise RuntimeError(f"fused=True: {why}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        mark_constants()
        self._plans = {}
        # An older state dict lacks settings, and an older pickle some of the defaults too.
        defaults = {**self._signature_defaults(), **self.defaults}
        for group in self.param_groups:
            for name, value in defaults.items():
                group.setdefault(name, value)
        for param, values in self.state.items():
            if isinstance(param, Tensor) and "step" in values:
                values["step"] = as_count(values["step"])

    def state_dict(self) -> dict[str, Any]:
        """The state, the groups and the version of their format, as plain containers."""
        return {**super().state_dict(), "version": STATE_DICT_VERSION}

    # torch.optim.Optimizer casts all state to the parameter's dtype, and calls the caster statically (pytorch#43706).
    # A hook after all others sees what will be loaded; another, before all others, restores the dtypes.
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the result of `state_dict`.

        Tensors keep the dtype with which they were saved.

        What wrappers and hooks keep in the state is loaded too. Settings that are missing are those of the constructor.

        Checkpoints of the authors' code load too. Their phase variable ``psi`` is kept until the first step and turned
        into momentum there, with the weights of that moment. Their ``weight_decay`` becomes ``weight_decay/beta``.

        Raises:
            ValueError: the groups or the state do not match the parameters or are another optimizer's, a setting is out
                of its range, the format has a later version, or the authors' ``decaypower`` is on. Nothing has changed
                then.
        """
        loaded: dict[str, Any] = {}
        extra: dict[Any, dict[str, Any]] = {}

        def adapt(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
            loaded.update(self._adapt(state_dict))
            loaded["state"], others = split_state(loaded, self._params_by_group(), self.state_names)
            extra.update(others)
            return loaded

        def restore(optimizer: Optimizer) -> None:
            ids = (key for group in loaded["param_groups"] for key in group["params"])
            params = (param for group in self.param_groups for param in group["params"])
            for key, param in zip(ids, params, strict=True):
                for name, value in loaded["state"].get(key, {}).items():
                    if name != "step" and isinstance(value, Tensor) and self.state[param][name].dtype != value.dtype:
                        self.state[param][name] = value.to(device=param.device, copy=True)
                for name, value in extra.get(key, {}).items():
                    self.state[param][name] = move_to(value, param.device)

        handles = (
            self.register_load_state_dict_pre_hook(adapt),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _params_by_group(self) -> list[list[Tensor]]:
        return [group["params"] for group in self.param_groups]

    def _adapt(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        check_layout(state_dict)
        version = state_dict.get("version")
        if version is not None and not (isinstance(version, int) and 1 <= version <= STATE_DICT_VERSION):
            raise ValueError(
                f"the state dict has format version {version!r}; this inna reads up to version {STATE_DICT_VERSION}"
            )
        groups = [{**group, **plain_flags(group)} for group in state_dict["param_groups"]]
        of_the_authors = version is None and (
            any(isinstance(values, Mapping) and "psi" in values for values in state_dict["state"].values())
            or any("decaypower" in group for group in groups)
        )
        for group, params in zip(groups, self._params_by_group(), strict=False):
            whole = {**self.defaults, **group}
            self._check({**whole, **{name: undo_rounding(name, whole, self.defaults) for name in self.ranges}})
            if whole["fused"] and (why := refusal(TensorLists(params=params))):
                raise ValueError(f"fused=True in the state dict: {why}; save with fused=None")
        for group in groups if of_the_authors else []:
            if group.pop("decaypower", 0):
                raise ValueError(
                    "the checkpoint's decaypower has no counterpart here: load it with decaypower=0 and use "
                    "torch.optim.lr_scheduler.LambdaLR(optimizer, inna.schedules.power_decay(q))"
                )
            if group.get("weight_decay"):
                beta = check_range("beta", {**self.defaults, **group}["beta"], minimum=0.0, exclusive=True)
                group["weight_decay"] = check_range("weight_decay/beta", group["weight_decay"] / beta)
        check_state(state_dict, self._params_by_group(), self.state_names)
        return {**state_dict, "param_groups": groups}

    # torch wraps `step` in this. Its label for the profiler costs 6 µs, a quarter of a small model's step, and is
    # skipped if no profiler and no hook sees the step.
    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``func`` as torch does if there are hooks or a profiler.

        Else call it directly.
        """
        watched = Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self = args[0]
            compiling = torch.compiler.is_compiling()
            call = func
            if (
                (not compiling and _profiler_enabled())
                or self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks
                or _global_optimizer_post_hooks
            ):
                call = watched
            if compiling:
                return call(*args, **kwargs)
            grad_enabled = torch.is_grad_enabled()
            try:
                return call(*args, **kwargs)
            except BaseException:
                # An interrupt may have come before torch did this.
                torch.set_grad_enabled(grad_enabled)
                # GradScaler removes these after a step. Left behind, they would scale the next one again.
                vars(self).pop("grad_scale", None)
                vars(self).pop("found_inf", None)
                raise

        return wrapper

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step with the current gradients.

        Parameters without a gradient do not change.

        A step with lr = 0 changes nothing at all, counters included.

        Args:
            closure: reevaluates the model and returns the loss. It is called once, with gradients enabled.

        Returns:
            The result of ``closure``, or None.

        Raises:
            RuntimeError: a gradient is sparse, a CUDA graph is captured without ``capturable``, or ``fused`` is True
                and a tensor has no kernel.
            ValueError: a setting was changed to a value out of its range.

        All of these are raised before anything has changed. A fused step on the CPU is whole or not at all, whatever
        interrupts it; see docs/reliability.md for the other implementations.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_groups()
        return loss

    def _step_groups(self) -> None:
        # All groups are checked before the first one changes.
        launches = [self._prepare(i, group) for i, group in enumerate(self.param_groups)]
        run_together([launch for launch, fused in launches if fused])
        for launch, fused in launches:
            if not fused:
                launch()

    def _scaling(self) -> tuple[Tensor | None, Tensor | None]:
        """GradScaler's ``grad_scale`` and ``found_inf``, which it sets on the optimizer."""
        return getattr(self, "grad_scale", None), getattr(self, "found_inf", None)

    def _prepare(self, index: int, group: dict[str, Any]) -> tuple[Callable[[], Any], bool]:
        """Check a group and gather its tensors.

        Return its step, and whether it is a fused one.
        """
        check_capture(group["capturable"])
        plan = None if torch.compiler.is_compiling() else self._plans.get(index)
        tensors = None if plan is None else plan.tensors(group, self.state)
        if plan is None or tensors is None:
            return self._prepare_unplanned(index, group)
        settings = self._settings(group)
        if _is_zero(settings.lr, path="fused"):
            return functools.partial(divide_gradients, tensors[1], *self._scaling()), False
        return plan.prepare(*tensors, settings, *self._scaling()), True

    def _prepare_unplanned(self, index: int, group: dict[str, Any]) -> tuple[Callable[[], Any], bool]:
        lists = TensorLists()
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
        )
        if not lists.params:
            return _nothing, False
        settings = self._settings(group)
        if _is_zero(settings.lr, path):
            return functools.partial(divide_gradients, [*map(to_local, lists.grads)], *self._scaling()), False
        if path == "fused":
            if not can_plan(lists):
                return functools.partial(step_fused, lists, settings, *self._scaling()), False
            plan = self._plans[index] = Plan(group, self.state, lists)
            return plan.prepare(lists.params, lists.grads, settings, *self._scaling()), True
        return functools.partial(self._step_unfused, group, path, lists, settings), False

    def _step_unfused(self, group: dict[str, Any], path: Path, lists: TensorLists, settings: Settings) -> None:
        if not group["differentiable"]:
            # Plain shards are faster than DTensors, and foreach takes them together with plain parameters.
            lists = to_local_lists(lists)
        scaling = self._scaling()
        if any(value is not None for value in scaling):
            host = not self._keeps_tensors(group)
            scaled = apply_scaling(lists, settings, *scaling, host=host, in_place=not group["differentiable"])
            if scaled is None:
                return
            settings = scaled
        flags = {"foreach": path == "foreach", **{name: group[name] for name in ("capturable", "differentiable")}}
        self._update(lists, **{name: getattr(settings, name) for name in self.settings}, **flags)

    # torch.compile runs a method of this name instead of tracing it. So state is created and the path is chosen outside
    # the graph, and the first step needs no graph of its own. torch.compile can only fill lists, hence the signature.
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
    ) -> Path:
        """Append the group's tensors to lists, and return the path.

        The lists are those of a `TensorLists`. Missing state is created.
        """
        rounds = rounds_stochastically(group)
        coded = group["momentum_bits"] is not None
        index = next((i for i, other in enumerate(self.param_groups) if other is group), 0) if rounds else 0
        for position, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} needs dense gradients, got layout {grad.layout}: its momentum moves every "
                    "entry at every step. Use sparse=False in the embedding, or another optimizer for it"
                )
            if param.is_conj():
                raise RuntimeError(
                    f"a parameter of shape {tuple(param.shape)} is a conjugated view, which no step can write to; make "
                    "the parameter from tensor.resolve_conj()"
                )
            state = self.state[param]
            if "psi" in state:
                if bool(group["lr"] == 0):
                    continue
                self._take_over_phase(param, state, group)
            self._fill_state(param, state, group)
            params.append(param)
            grads.append(place_like(param, grad))
            momentums.append(state["momentum"])
            compensations.append(state.get("compensation"))
            if "exp_avg_sq" in self.state_names:
                exp_avg_sqs.append(state["exp_avg_sq"])
            if self._counts(group):
                steps.append(state["step"])
            if rounds:
                streams.append(stream(group["rounding_seed"], index, position))
            if coded:
                momentum_scales.append(state.get("momentum_scale"))
                exp_avg_sq_scales.append(state.get("exp_avg_sq_scale"))
        lists = TensorLists(params, grads, momentums, exp_avg_sqs, compensations, steps, streams)
        lists.momentum_scales, lists.exp_avg_sq_scales = momentum_scales, exp_avg_sq_scales
        return self._choose_path(group, lists)

    def _choose_path(self, group: dict[str, Any], lists: TensorLists) -> Path:
        return choose_path(group, lists)

    def _fill_state(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Add missing entries to the state of ``param``.

        At its first step, and after a setting has changed.
        """
        if self._counts(group) and "step" not in state:
            # With a momentum already there, it is too late for the initial velocity.
            state["step"] = _step_count(1.0 if "momentum" in state else 0.0, param, group)
        elif self._counts(group):
            state["step"] = as_count(state["step"])
            if group["capturable"] and state["step"].device != param.device:
                # A count on the host, from before capturable was set, would not advance while a graph is replayed.
                state["step"] = state["step"].to(param.device)
        self._fill(param, state, group, "momentum", MOMENTUM)
        kahan = group["kahan"]
        if kahan is None:
            kahan = param.dtype in LOW_PRECISION and not group["differentiable"]
        if kahan and "compensation" not in state:
            state["compensation"] = zeros_like(param, None)
        elif not kahan:
            state.pop("compensation", None)

    @staticmethod
    def _fill(param: Tensor, state: dict[str, Any], group: dict[str, Any], name: str, codes: torch.dtype) -> None:
        """Add an entry to the state, in codes of one byte where the group has them."""
        if group["momentum_bits"] is None:
            if f"{name}_scale" in state:  # the setting has changed
                wide = dequantized(state[name], state.pop(f"{name}_scale"))
                state[name] = wide.to(momentum_dtype(param, group))
        elif param.is_complex():
            raise ValueError(
                f"momentum_bits=8 needs real parameters, got one of shape {tuple(param.shape)} in {param.dtype}; "
                "give its group momentum_bits=None"
            )
        if name not in state and group["momentum_bits"] is not None and fits(param):
            entry = zeros_like(param, codes)
            state[f"{name}_scale"] = scales_like(entry)
            state[name] = entry
        elif name not in state:
            state[name] = zeros_like(param, momentum_dtype(param, group))

    def _take_over_phase(self, param: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        psi = state.pop("psi")
        state.pop("step", None)
        state["momentum"] = zeros_like(param, momentum_dtype(param, group))
        with torch.no_grad():
            state["momentum"].copy_(momentum_from_phase(param, psi, group["alpha"], group["beta"]))

    def _counts(self, group: dict[str, Any]) -> bool:
        """Return whether the optimizer needs the number of steps taken."""
        return group["initial_speed"] is not None or rounds_stochastically(group)

    def _settings(self, group: dict[str, Any]) -> Settings:
        """Read the group's hyper-parameters.

        Those that may be tensors are numbers, unless tensors must stay tensors: lr, alpha and beta.
        """
        keep_tensors = self._keeps_tensors(group)
        values = {name: group[name] for name in self.settings}
        for name, bounds in self.ranges.items():
            keep = keep_tensors and name in ("lr", "alpha", "beta")
            values[name] = read_setting(name, group, bounds, self.defaults, keep_tensor=keep)
        return Settings(**values)

    @staticmethod
    def _keeps_tensors(group: dict[str, Any]) -> bool:
        """Return whether tensors must not be read on the host."""
        return bool(group["capturable"] or group["differentiable"] or torch.compiler.is_compiling())

    def momentum_of(self, param: Tensor) -> Tensor | None:
        """Return the momentum of a parameter as numbers, whatever its form.

        None if it has none yet. With ``momentum_bits`` it is a copy in float32.
        """
        state = self.state.get(param, {})
        if "momentum_scale" in state:
            return dequantized(state["momentum"], state["momentum_scale"])
        momentum: Tensor | None = state.get("momentum")
        return momentum

    @abstractmethod
    def _update(self, lists: TensorLists, **settings: Any) -> None:
        """Step the parameters in ``lists`` by the single or the foreach path.

        The learning rate is not the number 0.
        """


def momentum_dtype(param: Tensor, group: dict[str, Any]) -> torch.dtype:
    """The dtype of the momentum.

    ``momentum_dtype``, else that of ``param`` with float32 for bfloat16 and float16.
    """
    dtype: torch.dtype | None = group["momentum_dtype"]
    if dtype is None:
        return torch.float32 if param.dtype in LOW_PRECISION else param.dtype
    return dtype


def rounds_stochastically(group: dict[str, Any]) -> bool:
    """Return whether the momentums of a group are rounded stochastically."""
    return group["momentum_dtype"] is ROUNDED or group["momentum_bits"] is not None


def zeros_like(param: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Zeros laid out as ``param``, complex where it is.

    ``dtype`` is the real one.
    """
    if dtype is not None and param.is_complex():
        dtype = dtype.to_complex()
    return torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)


def as_count(step: Any) -> Tensor:
    """``step`` as every path can count.

    A 0-dimensional float32 tensor with memory of its own, itself if it is one.
    """
    if not isinstance(step, Tensor):
        return torch.tensor(float(step), dtype=torch.float32)
    plain = step.dtype is torch.float32 and step.dim() == 0 and step.layout is torch.strided
    if plain and not (step.is_neg() or step._is_zerotensor() or step.is_inference() or step.requires_grad):
        return step
    dense = step.detach() if step.layout is torch.strided else step.detach().to_dense()
    return torch.zeros((), dtype=torch.float32, device=step.device).copy_(dense.reshape(()))


def _step_count(count: float, param: Tensor, group: dict[str, Any]) -> Tensor:
    # Counting on the host is free and never synchronises. A captured graph can count on the device only.
    device = param.device if group["capturable"] else torch.device("cpu")
    return torch.tensor(count, dtype=torch.float32, device=device)


def _is_zero(lr: float | Tensor, path: Path) -> bool:
    """Return whether a step has nothing to change, as far as the host knows lr.

    The other paths leave an lr in a tensor to the step, which may be compiled, captured or differentiated.
    """
    if isinstance(lr, Tensor) and (path != "fused" or lr.device.type != "cpu" or torch.compiler.is_compiling()):
        return False
    return float(lr) == 0


def _nothing() -> None:
    """Step of a group without gradients."""


def check_capture(capturable: bool) -> None:
    """Check that a step may be captured in a CUDA graph, if one is being captured.

    Raises:
        RuntimeError: it may not.
    """
    if (
        not capturable
        and torch.backends.cuda.is_built()
        and torch.cuda.is_available()
        and torch.cuda.is_current_stream_capturing()
    ):
        raise RuntimeError("a CUDA graph is being captured: construct the optimizer with capturable=True")
