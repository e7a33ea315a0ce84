"""Which tensors have a kernel, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from inna.torch.shards import is_dtensor, misplacement, to_local
from inna.torch.tensor_lists import TensorLists, beside, is_dense, same_layout

__all__ = ["available", "choose", "describe", "refusal"]

DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    *(torch.complex64, torch.complex128, torch.complex32),
)


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


def _refusal(param: Tensor, others: list[tuple[str, Tensor]], steps: Tensor | None) -> str:
    for name, tensor in [("it", param), *others]:
        if why := misplacement(name, tensor, param):
            return why
        plain = is_dtensor(tensor) or type(tensor) in (Tensor, torch.nn.Parameter)
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
        from inna.torch.kernels import cpu

        return str(cpu.missing())
    if device_type == "cuda":
        from importlib.util import find_spec

        if not find_spec("triton"):
            return "Triton is not installed"
        if not torch.cuda.is_available() or torch.cuda.is_current_stream_capturing():
            return ""
        from inna.torch.kernels import cuda

        return str(cuda.missing(torch.device("cuda", torch.cuda.current_device())))
    return f"there are no kernels for {device_type}"


def describe() -> list[str]:
    """What is available here, a line each, for ``inna info``."""
    lines = []
    why = available("cpu")
    if why:
        lines.append(f"CPU kernels: none ({why})")
    else:
        from inna.torch.kernels import cpu

        threads = "OpenMP" if cpu.library().inna_uses_openmp() else "one thread, no OpenMP"
        lines.append(f"CPU kernels: {cpu.instruction_sets()[-1]}, {threads}")
    why = available("cuda") or ("" if torch.cuda.is_available() else "no CUDA device")
    if why:
        lines.append(f"CUDA kernels: none ({why})")
    else:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        lines.append(f"CUDA kernels: Triton, on {names}")
    return lines
