"""The tensors that have a kernel, and the reasons why others have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from inna.torch.shards import is_dtensor, misplacement, to_local
from inna.torch.steps.companding import BLOCK, MEAN_SQUARE, MOMENTUM
from inna.torch.tensor_lists import SumLists, TensorLists, coefficient_dtype, is_dense, is_transformed, same_layout

__all__ = ["can_measure", "describe", "mark_constants", "refusal", "unavailable"]

DTYPES = (
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
    *(torch.complex64, torch.complex128, torch.complex32),
)

# The dtypes of state in codes.
CODES = {"momentum": MOMENTUM, "exp_avg_sq": MEAN_SQUARE}


def refusal(lists: TensorLists, among: Sequence[Tensor] | None = None) -> str:
    """The first tensor without a kernel, and the reason.

    Empty if every tensor has a kernel.

    Args:
        lists: parameters with gradients and state, or parameters alone.
        among: the parameters among which the message numbers that tensor; by default those of ``lists``.
    """

    def named(i: int) -> str:
        return f"parameter {next(k for k, param in enumerate(among or lists.params) if param is lists.params[i])}"

    for i, param in enumerate(lists.params):
        if is_transformed(param):
            return f"{named(i)} is inside a transform of torch.func"
        state = lists.companions(i)
        steps = lists.steps[i] if lists.steps else None
        why = _refusal(param, state, steps) if not lists.momentum_scales else _coded_refusal(lists, i, state, steps)
        if why:
            return f"{named(i)}, of shape {tuple(param.shape)} and dtype {param.dtype}: {why}"
    for i, j in _overlapping(lists):
        return f"{named(i)} shares memory with {named(j)}, or their state does, and kernels write to both at once"
    return ""


def can_measure(lists: TensorLists, sums: SumLists) -> bool:
    """Return whether a kernel adds up what finds the distance.

    It does where the entries lie as those of the parameters. Otherwise torch adds it up.

    Args:
        lists: tensors that have kernels.
        sums: of the same parameters.
    """

    def fits(tensor: Tensor, param: Tensor, dtype: torch.dtype) -> bool:
        dtype = dtype.to_complex() if param.is_complex() and not dtype.is_complex else dtype
        pending = tensor.is_conj() or tensor.is_neg() or tensor._is_zerotensor()
        if type(tensor) is not Tensor or tensor.dtype is not dtype or tensor.device != param.device or pending:
            return False
        if sums.slice_every == 1:
            return tensor.shape == param.shape and is_dense(tensor) and same_layout(tensor, param)
        return tensor.is_contiguous() and param.is_contiguous() and not param.is_complex()

    return all(fits(start, param, param.dtype) for param, start in zip(lists.params, sums.starts, strict=True)) and all(
        fits(grad_sum, param, coefficient_dtype(param))
        for param, grad_sum in zip(lists.params, sums.grad_sums, strict=False)
    )


def _overlapping(lists: TensorLists) -> Iterator[tuple[int, int]]:
    """Pairs of parameters whose tensors share memory that the step writes to.

    Among neighbours in memory.
    """
    stretches = []
    for i, param in enumerate(lists.params):
        for name, tensor in [("it", param), *lists.companions(i)]:
            local = to_local(tensor)
            # Under torch.compile there may be no memory yet.
            if name != "gradient" and local.numel() and type(local) in (Tensor, torch.nn.Parameter):
                begin = local.data_ptr()
                stretches.append((str(local.device), begin, begin + local.numel() * local.element_size(), i))
    stretches.sort()
    for (device, _, end, i), (next_device, begin, _, j) in pairwise(stretches):
        if device == next_device and begin < end:
            yield max(i, j), min(i, j)


def _coded_refusal(lists: TensorLists, i: int, others: list[tuple[str, Tensor]], steps: Tensor | None) -> str:
    """The same where state may be in codes of one byte: all of it, or none."""
    param = lists.params[i]
    scales = [lists.momentum_scales[i], *([lists.exp_avg_sq_scales[i]] if lists.exp_avg_sqs else [])]
    if all(scale is None for scale in scales):
        return _refusal(param, others, steps)
    if torch.compiler.is_compiling():
        return "momentum_bits=8 has no kernel under torch.compile"
    local = to_local(param)
    for (name, codes), scale in zip([(n, t) for n, t in others if n in CODES], scales, strict=True):
        if scale is None or codes.dtype is not CODES[name]:
            return f"{name} has dtype {codes.dtype} beside state in codes of one byte"
        whole = to_local(scale)
        if whole.device != local.device or not whole.is_contiguous() or whole.numel() != -(-local.numel() // BLOCK):
            return f"{name}_scale has shape {tuple(whole.shape)} on {whole.device}"
        # As another tensor of the parameter: where and how it is laid out.
        if why := _refusal(param, [("momentum", codes.view(torch.uint8))], None, codes=True):
            return why.replace("momentum", name, 1)
    return _refusal(param, [(n, t) for n, t in others if n not in CODES], steps)


def _refusal(param: Tensor, others: list[tuple[str, Tensor]], steps: Tensor | None, *, codes: bool = False) -> str:
    for name, tensor in [("it", param), *others]:
        if why := misplacement(name, tensor, param):
            return why
        plain = is_dtensor(tensor) or type(tensor) in (Tensor, torch.nn.Parameter)
        if not plain and not torch.compiler.is_compiling():
            return f"{name} is a {type(tensor).__name__}, and only plain tensors and DTensors have kernels"
        if tensor.layout is not torch.strided:
            return f"{name} has layout {tensor.layout}"
    local = to_local(param)
    if why := _unsupported(local):
        return why
    for name, tensor in others:
        tensor = to_local(tensor)
        if tensor.device != local.device:
            return f"{name} is on {tensor.device}, the parameter on {local.device}"
        if tensor.shape != local.shape:
            return f"{name} has shape {tuple(tensor.shape)}"
        in_own_precision = name in ("momentum", "exp_avg_sq")
        if not codes and (tensor.dtype not in DTYPES or tensor.is_complex() != local.is_complex()):
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


def _unsupported(param: Tensor) -> str:
    """The reason why no kernel takes such a parameter; empty if one does.

    Whatever its gradient and state.
    """
    if param.dtype not in DTYPES:
        return f"there is no kernel for {param.dtype}"
    if param.is_complex() and torch.compiler.is_compiling():
        return "Inductor cannot compile a kernel's call with complex numbers"
    if not is_dense(param):
        return f"its strides {param.stride()} leave gaps or overlap"
    if param.is_conj() or param.is_neg():
        return "it is a view with a pending conjugation or sign"
    return str(unavailable(param.device.type))


def unavailable(device_type: str) -> str:
    """The reason why there are no kernels for a type of device ("cpu", "cuda").

    Empty if there are.

    For CUDA, a step is tried on the current device. Without a visible device, or while a graph is captured, only the
    installation of Triton counts.
    """
    if device_type == "cpu":
        from inna.torch.kernels import cpu

        return str(cpu.unavailable())
    if device_type == "cuda":
        from importlib.util import find_spec

        if not find_spec("triton"):
            return "Triton is not installed"
        if not torch.cuda.is_available() or torch.cuda.is_current_stream_capturing():
            return ""
        from inna.torch.kernels import cuda

        return str(cuda.unavailable(torch.device("cuda", torch.cuda.current_device())))
    return f"there are no kernels for {device_type}"


def mark_constants() -> None:
    """Tell torch.compile that what is available does not change.

    Not where this module is imported: it imports ``torch._dynamo``, which takes seconds, as making an optimizer does.
    """
    torch.compiler.assume_constant_result(unavailable)


def describe() -> list[str]:
    """Describe the kernels of this machine, a line per type of device.

    For ``inna info``.
    """
    lines = []
    why = unavailable("cpu")
    if why:
        lines.append(f"CPU kernels: none ({why})")
    else:
        from inna.torch.kernels import cpu

        threads = "OpenMP" if cpu.library().inna_uses_openmp() else "one thread, no OpenMP"
        lines.append(f"CPU kernels: {cpu.instruction_sets()[-1]}, {threads}")
    why = unavailable("cuda") or ("" if torch.cuda.is_available() else "no CUDA device")
    if why:
        lines.append(f"CUDA kernels: none ({why})")
    else:
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        lines.append(f"CUDA kernels: Triton, on {names}")
    return lines
