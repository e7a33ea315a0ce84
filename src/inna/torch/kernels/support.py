"""Picks a fused kernel for a group of tensors, or says which tensor has none and why.

A fused step reads theta, m and g and writes theta and m, once, and needs no temporary. Eager code calls the kernels
directly; under ``torch.compile`` they are the operator ``inna::fused_step``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter, is_, itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna.torch.tensor_lists import TensorLists

__all__ = [
    "Plan",
    "Settings",
    "available",
    "beside",
    "choose",
    "is_dense",
    "localized",
    "placed_like",
    "refusal",
    "same_layout",
    "step",
]

DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    *(torch.complex64, torch.complex128, torch.complex32),
)


class Settings(NamedTuple):
    """The hyper-parameters of one step, as `inna.torch.INNA` and `INNAprop` (where ``sigma`` is given) define them."""

    lr: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    weight_decay: float = 0.0
    initial_speed: float | None = None
    decoupled_weight_decay: bool = False
    maximize: bool = False
    sigma: float | None = None
    eps: float = 0.0


def choose(
    fused: bool | None,
    foreach: bool | None,
    lists: TensorLists,
    *,
    differentiable: bool = False,
    among: Sequence[Tensor] | None = None,
) -> bool:
    """Whether the fused path is taken.

    Args:
        fused: True insists; None takes it where there is a kernel for every tensor and nothing else was asked for.
        foreach: True or False is a wish for another path, where ``fused`` is None.
        lists: the tensors of the group that have gradients. Their state may be missing: it will be as the parameters.
        differentiable: autograd sees the step; no kernel can do that.
        among: the parameters that a message counts along; None are those of ``lists``.

    Raises:
        RuntimeError: ``fused`` is True and a tensor has no kernel; the message names it and says why.
    """
    if fused is False or (fused is None and (foreach is not None or differentiable)):
        return False
    why = refusal(lists, among)
    if why and fused:
        raise RuntimeError(f"fused=True: {why}")
    return not why


def refusal(lists: TensorLists, among: Sequence[Tensor] | None = None) -> str:
    """The first tensor that no kernel takes, and why; empty where there is a kernel for all of them.

    Its number is that in ``among``, or in the lists themselves.
    """

    def named(i: int) -> str:
        return f"parameter {next(k for k, param in enumerate(among or lists.params) if param is lists.params[i])}"

    for i, param in enumerate(lists.params):
        state = beside(lists, i)
        steps = lists.steps[i] if lists.steps else None
        why = _refusal(param, state, steps)
        if why:
            return f"{named(i)}, of shape {tuple(param.shape)} and dtype {param.dtype}: {why}"
    for i, j in _overlapping(lists):
        return f"{named(i)} shares memory with {named(j)}, or their state does, and kernels write to both at once"
    return ""


def _overlapping(lists: TensorLists) -> Iterator[tuple[int, int]]:
    """Pairs of parameters of which the step would write to the same memory; all pairs that are adjacent in it."""
    stretches = []
    for i, param in enumerate(lists.params):
        for name, tensor in [("it", param), *beside(lists, i)]:
            local = to_local(tensor)
            # Where torch.compile traces, there may be no memory yet.
            if name != "gradient" and local.numel() and type(local) in (Tensor, torch.nn.Parameter):
                begin = local.data_ptr()
                stretches.append((str(local.device), begin, begin + local.numel() * local.element_size(), i))
    stretches.sort()
    for (device, _, end, i), (next_device, begin, _, j) in pairwise(stretches):
        if device == next_device and begin < end:
            yield max(i, j), min(i, j)


def beside(lists: TensorLists, i: int) -> list[tuple[str, Tensor]]:
    """What there is of the same shape as parameter i, by name."""
    kinds: tuple[tuple[str, Sequence[Tensor | None]], ...] = (
        ("gradient", lists.grads),
        ("momentum", lists.momentums),
        ("exp_avg_sq", lists.exp_avg_sqs),
        ("compensation", lists.compensations),
    )
    beside = [(name, tensors[i]) for name, tensors in kinds if tensors]
    return [(name, tensor) for name, tensor in beside if tensor is not None]


def _refusal(param: Tensor, others: list[tuple[str, Tensor]], steps: Tensor | None) -> str:
    for name, tensor in [("it", param), *others]:
        if why := _misplaced(name, tensor, param):
            return why
        plain = _is_dtensor(tensor) or type(tensor) in (Tensor, torch.nn.Parameter)
        if not plain and not torch.compiler.is_compiling():
            return f"{name} is a {type(tensor).__name__}, and only plain tensors and DTensors have kernels"
        if tensor.layout is not torch.strided:
            return f"{name} has layout {tensor.layout}"
    local = to_local(param)
    if why := unsupported(local):
        return why
    for name, tensor in others:
        tensor = to_local(tensor)
        if tensor.device != local.device:
            return f"{name} is on {tensor.device}, the parameter on {local.device}"
        if tensor.shape != local.shape:
            return f"{name} has shape {tuple(tensor.shape)}"
        in_own_precision = name in ("momentum", "exp_avg_sq")
        if tensor.dtype not in DTYPES or tensor.is_complex() != local.is_complex():
            return f"{name} has dtype {tensor.dtype}"
        if not in_own_precision and tensor.dtype != local.dtype:
            return f"{name} has dtype {tensor.dtype}, the parameter {local.dtype}"
        if name == "exp_avg_sq" and any(tensor.dtype != other.dtype for kind, other in others if kind == "momentum"):
            return "exp_avg_sq and momentum have different dtypes"
        if not same_layout(tensor, local):
            return f"{name} is laid out with strides {tensor.stride()}, the parameter with {local.stride()}"
        if tensor.is_conj() or tensor.is_neg():
            return f"{name} is a view with a pending conjugation or sign"
        if tensor._is_zerotensor():
            return f"{name} is a zero without memory"
    if steps is not None:
        count = to_local(steps)
        on_host = count.device.type == "cpu" or count.device == local.device
        if count.dtype is not torch.float32 or count.numel() != 1 or not on_host:
            return f"its step count is {count.numel()} numbers of {count.dtype} on {count.device}"
        if local.device.type == "cpu" and count.device.type != "cpu":
            return f"its step count is on {count.device}"
    return ""


def unsupported(param: Tensor) -> str:
    """Why no kernel takes a parameter like this one, whatever its gradient and state; empty where one does."""
    if param.dtype not in DTYPES:
        return f"there is no kernel for {param.dtype}"
    if not is_dense(param):
        return f"its strides {param.stride()} leave gaps or overlap"
    if param.is_conj() or param.is_neg():
        return "it is a view with a pending conjugation or sign"
    return str(available(param.device.type))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available(device_type: str) -> str:
    """Why there are no kernels for a type of device ("cpu", "cuda"); empty where there are.

    On CUDA devices it is tried out on the current one. Where none is to be seen, or a graph is being captured, only the
    installation of Triton counts.
    """
    if device_type == "cpu":
        from inna.torch.kernels import cpu as cpu_kernels

        return str(cpu_kernels.missing())
    if device_type == "cuda":
        from importlib.util import find_spec

        if not find_spec("triton"):
            return "Triton is not installed"
        if not torch.cuda.is_available() or torch.cuda.is_current_stream_capturing():
            return ""
        from inna.torch.kernels import cuda as cuda_kernels

        return str(cuda_kernels.missing(torch.device("cuda", torch.cuda.current_device())))
    return f"there are no kernels for {device_type}"


def step(
    lists: TensorLists,
    settings: Settings,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """One fused step on tensors that `choose` has said yes to, in place.

    Args:
        lists: the tensors of one group.
        settings: lr, alpha and beta as floats, or as 0-dimensional tensors.
        grad_scale: GradScaler's scale: gradients are divided by it, and left so.
        found_inf: GradScaler's verdict: where it is not 0, nothing changes at all.
    """
    told = [*lists.params, *(lists.grads if grad_scale is not None else [])]
    lists = localized(lists)
    if torch.compiler.is_compiling():
        _step_compiled(lists, settings, grad_scale, found_inf)
        return
    by_device: dict[torch.device, list[int]] = defaultdict(list)
    for i, param in enumerate(lists.params):
        by_device[param.device].append(i)
    for device, indices in by_device.items():
        part = lists if len(by_device) == 1 else lists.subset(indices)
        addresses = [grad.data_ptr() for grad in part.grads]
        _table(device, part).launch(addresses, settings, grad_scale, found_inf)
    # What autograd may have saved of these has changed, behind its back.
    torch.autograd.graph.increment_version(told)


def _table(device: torch.device, lists: TensorLists) -> Any:
    """The launcher for tensors on one device."""
    if device.type == "cpu":
        from inna.torch.kernels import cpu as cpu_kernels

        return cpu_kernels.Table(lists)
    from inna.torch.kernels import cuda as cuda_kernels

    return cuda_kernels.Table(lists)


class Plan:
    """What a group's last fused step found out, for the next one to use while nothing has moved.

    Looking anew at every tensor costs more than stepping a small model. `holds` looks only at what may have changed, by
    a few calls for all tensors together.

    Args:
        group: the group, its settings as they are.
        states: the optimizer's state.
        lists: the tensors with gradients, accepted by `choose`.
    """

    def __init__(self, group: dict[str, Any], states: dict[Tensor, Any], lists: TensorLists) -> None:
        self._group = group
        self._params = list(group["params"])
        self._flags = _FLAGS(group)
        self._moving = lists.params
        moving = {id(param) for param in lists.params}
        self._idle = [param for param in self._params if id(param) not in moving]
        values = [states[param] for param in lists.params]
        self._entries = sum(map(len, values))
        # The state's tensors are looked up at every step: kept here, they would stay in memory when their owner drops
        # them or moves them to another device.
        kept = [(i, name) for i in range(len(values)) for name in values[i] if isinstance(values[i][name], Tensor)]
        self._owners, self._names = ([pair[i] for pair in kept] for i in (0, 1))
        still = [*lists.params, *(values[i][name] for i, name in kept)]
        self._places = list(map(Tensor.data_ptr, still))
        self._look_alike = _watch([*still, *lists.grads])
        self._table = _table(lists.params[0].device, lists)

    @staticmethod
    def possible(lists: TensorLists) -> bool:
        """Whether a plan can see all that may change of the tensors: they are plain and on one device."""
        device = lists.params[0].device
        return not torch.compiler.is_compiling() and all(
            type(param) in (Tensor, torch.nn.Parameter) and param.device == device for param in lists.params
        )

    def grads(self, group: dict[str, Any], states: dict[Tensor, Any]) -> list[Tensor] | None:
        """The gradients to step with, or None where something has moved that the plan relies on."""
        params = group["params"]
        grads = list(map(_GRAD, self._moving))
        if not (
            group is self._group
            and _FLAGS(group) == self._flags
            and len(params) == len(self._params)
            and all(map(is_, params, self._params))
            and all(param.grad is None for param in self._idle)
        ):
            return None
        values: list[Any] = list(map(states.get, self._moving))
        if not all(values) or sum(map(len, values)) != self._entries:
            return None
        state: list[Any] = list(map(dict.get, [values[i] for i in self._owners], self._names))
        still = [*self._moving, *state]
        holds = self._look_alike(*still, *grads) and list(map(Tensor.data_ptr, still)) == self._places
        return grads if holds else None

    def step(
        self, grads: list[Tensor], settings: Settings, grad_scale: Tensor | None, found_inf: Tensor | None
    ) -> None:
        """Step with gradients that `grads` has just found, or that the plan has just been made with."""
        self._table.launch(list(map(Tensor.data_ptr, grads)), settings, grad_scale, found_inf)
        torch.autograd.graph.increment_version(self._moving if grad_scale is None else [*self._moving, *grads])


_GRAD = attrgetter("grad")
# What decides the path and the state; a change of it makes a plan void.
_FLAGS = itemgetter("fused", "foreach", "differentiable", "kahan", "momentum_dtype", "capturable", "initial_speed")


def _watch(tensors: list[Tensor]) -> Callable[..., bool]:
    """A test whether other tensors have the types, dtypes, devices, shapes and strides of these, which are not kept."""
    try:
        # What torch.compile guards its graphs with: a tenth of the time, but no public name.
        from torch._C._dynamo.guards import TensorGuards

        alike: Callable[..., bool] = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
    except (ImportError, TypeError):
        facts = list(map(_facts, tensors))
        return lambda *others: list(map(_facts, others)) == facts
    return alike


def _facts(tensor: Tensor | None) -> tuple[Any, ...]:
    if tensor is None or tensor.layout is not torch.strided:
        return ()
    pending = tensor.is_conj(), tensor.is_neg(), tensor._is_zerotensor()
    return type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.stride(), pending


def to_local(tensor: Tensor) -> Tensor:
    """A DTensor's own shard, once it has arrived; any other tensor itself."""
    if not _is_dtensor(tensor):
        return tensor
    local: Any = tensor._local_tensor  # type: ignore[attr-defined]
    return local.wait() if hasattr(local, "wait") else local  # type: ignore[no-any-return]


def localized(lists: TensorLists) -> TensorLists:
    """The lists with each DTensor's own shard in its place. What one step does to an entry concerns that entry only.

    Raises:
        RuntimeError: a parameter and its gradient or state are placed differently.
    """
    if not any(map(_is_dtensor, lists.params)):
        return lists
    for i, param in enumerate(lists.params):
        for name, tensor in beside(lists, i):
            if why := _misplaced(name, tensor, param):
                raise RuntimeError(f"parameter {i}, of shape {tuple(param.shape)}: {why}")
    return lists.map(to_local)


def _misplaced(name: str, tensor: Tensor, param: Tensor) -> str:
    """Why the shards of ``tensor`` do not lie beside those of ``param``; empty where they do, or neither has any."""
    if _is_dtensor(tensor) is not _is_dtensor(param):
        return f"{name} is a {type(tensor).__name__} beside a parameter that is a {type(param).__name__}"
    if _is_dtensor(tensor):
        ours: Any = tensor
        theirs: Any = param
        if ours.placements != theirs.placements or ours.device_mesh != theirs.device_mesh:
            return f"{name} is placed as {ours.placements}, the parameter as {theirs.placements}"
        if any(placement.is_partial() for placement in ours.placements):
            return f"{name} is a partial sum"
    return ""


def placed_like(param: Tensor, grad: Tensor) -> Tensor:
    """``grad`` with the placements of ``param``, where both are DTensors; partial sums are summed, over all ranks.

    Backward leaves the gradient of a replicated parameter as partial sums, in tensor-parallel normalisation layers.
    """
    theirs: Any = param
    ours: Any = grad
    if _is_dtensor(param) and _is_dtensor(grad) and ours.placements != theirs.placements:
        grad = ours.redistribute(theirs.device_mesh, theirs.placements)
    return grad


def _is_dtensor(tensor: Tensor) -> bool:
    # Without an import of torch.distributed, which takes longer than many a first step.
    return hasattr(tensor, "placements")


def is_dense(tensor: Tensor) -> bool:
    """Whether the tensor fills a stretch of memory without gaps or overlaps, in whatever order of its dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def same_layout(tensor: Tensor, other: Tensor) -> bool:
    """Whether entries lie at the same offsets in both; the stride of a dimension of size 1 says nothing."""
    if tensor.numel() == 0:
        return True
    return all(a == b for a, b, size in zip(tensor.stride(), other.stride(), tensor.shape, strict=True) if size != 1)


def _step_compiled(lists: TensorLists, settings: Settings, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    """The same as one operator per kind of state, which the compiler sees as a whole."""
    if grad_scale is not None:
        torch._foreach_mul_(lists.grads, grad_scale.reciprocal())
    lr, alpha, beta = (
        value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.float64) for value in settings[:3]
    )
    compensations = lists.compensations or [None] * len(lists.params)
    for with_kahan in (False, True):
        indices = [i for i, held in enumerate(compensations) if (held is not None) is with_kahan]
        if indices:
            part = lists.subset(indices)
            fused_step(
                part.params,
                part.grads,
                part.momentums,
                part.exp_avg_sqs,
                [held for held in part.compensations if held is not None],
                part.steps,
                lr,
                alpha,
                beta,
                found_inf,
                *settings[3:],
            )


@torch.library.custom_op(
    "inna::fused_step", mutates_args=("params", "momentums", "exp_avg_sqs", "compensations", "steps")
)
def fused_step(
    params: list[Tensor],
    grads: list[Tensor],
    momentums: list[Tensor],
    exp_avg_sqs: list[Tensor],
    compensations: list[Tensor],
    steps: list[Tensor],
    lr: Tensor,
    alpha: Tensor,
    beta: Tensor,
    found_inf: Tensor | None,
    weight_decay: float,
    initial_speed: float | None,
    decoupled_weight_decay: bool,
    maximize: bool,
    sigma: float | None,
    eps: float,
) -> None:
    """One fused step as an operator, for ``torch.compile``; the lists that are not used are empty."""
    lists = TensorLists(params, grads, momentums, exp_avg_sqs, list(compensations), steps)
    settings = Settings(lr, alpha, beta, weight_decay, initial_speed, decoupled_weight_decay, maximize, sigma, eps)
    step(lists, settings, found_inf=found_inf)


@fused_step.register_fake
def _(*args: Any) -> None:
    return None


def describe() -> list[str]:
    """What is available here, a line each, for ``inna info``."""
    lines = []
    why = available("cpu")
    if why:
        lines.append(f"CPU kernels: none ({why})")
    else:
        from inna.torch.kernels import cpu as cpu_kernels

        threads = "OpenMP" if cpu_kernels.library().inna_uses_openmp() else "one thread, no OpenMP"
        lines.append(f"CPU kernels: {cpu_kernels.instruction_sets()[-1]}, {threads}")
    why = available("cuda") or ("" if torch.cuda.is_available() else "no CUDA device")
    if why:
        lines.append(f"CUDA kernels: none ({why})")
    else:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        lines.append(f"CUDA kernels: Triton, on {names}")
    return lines
