"""The fused step on a CUDA device, in Triton.

One launch for all tensors of a group that share their dtypes.

A program handles ``BLOCK`` numbers of one tensor. A map on the device gives its tensor and block, a table on the device
the addresses. The addresses of the gradients, the step counts and the hyper-parameters are copied to the device in one
small transfer when they have changed. Hyper-parameters that are tensors on the device are read there, so a captured
graph follows them.

This module needs Triton and is imported on first use.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from inna.torch.tensor_lists import Settings, TensorLists

__all__ = ["Table", "unavailable"]

BLOCK = 2048
WARPS = 8

_TYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}
# A captured graph reads these at each replay, until the process ends.
_captured: list[Tensor] = []


@functools.cache
def unavailable(device: torch.device) -> str:
    """The reason why Triton does not run on a device; empty if it does.

    A step on one number is tried once.

    Triton needs a recent device and, for its launcher, a C compiler and Python's headers. Images for deployment often
    lack these.
    """
    theta, grad, momentum = (torch.zeros(1, device=device) for _ in range(3))
    try:
        Table(TensorLists([theta], [grad], [momentum])).launch([grad.data_ptr()], Settings(0.1, 0.5, 0.1))
    except Exception as error:  # Compilers, drivers and linkers fail in many ways.
        lines = str(error).strip().splitlines()
        return f"Triton does not run on {device}: {lines[0] if lines else type(error).__name__}"
    return ""


class Table:
    """The addresses of one group's tensors, on the device.

    Valid until a tensor moves.

    Args:
        lists: plain tensors on one device, each with a kernel: `inna.torch.kernels.support.refusal` is empty.
    """

    def __init__(self, lists: TensorLists) -> None:
        self._device = lists.params[0].device
        self._steps = lists.steps
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for i, (param, momentum) in enumerate(zip(lists.params, lists.momentums, strict=True)):
            if param.numel():
                kahan = bool(lists.compensations) and lists.compensations[i] is not None
                alike[param.dtype.to_real(), momentum.dtype.to_real(), kahan].append(i)
        self._launches = [_Launch(lists, indices, *key) for key, indices in alike.items()]
        self._sent: list[float | int] = []
        self._on_device: Tensor | None = None
        # A copy in a captured graph needs memory of its own, allocated before the capture.
        self._size = 3 * len(lists.params) + _SETTINGS
        self._for_capture: tuple[Tensor, Tensor] | None = self._buffers()

    def _buffers(self) -> tuple[Tensor, Tensor]:
        """Memory of one transfer, on the host and on the device."""
        return _host_buffer(self._size, self._device), torch.empty(self._size, dtype=torch.int64, device=self._device)

    def prepare(self, *step: Any) -> Callable[[], None]:
        """Return the call of `launch` with these arguments."""
        return functools.partial(self.launch, *step)

    def launch(
        self,
        grads: list[int],
        settings: Settings,
        grad_scale: Tensor | None = None,  # ()
        found_inf: Tensor | None = None,  # ()
    ) -> None:
        """Step all tensors in place; do nothing if lr is 0 or ``found_inf`` is not 0.

        Args:
            grads: the addresses of the gradients.
            settings: hyper-parameters; tensors among them are read on the device.
            grad_scale: GradScaler's scale. Gradients are divided by it and stay so.
            found_inf: GradScaler's verdict. If steps are counted on the host, the host waits for it.
        """
        lr, alpha, beta = (self._device_or_host(value) for value in settings[:3])
        if not isinstance(lr, Tensor) and lr == 0:
            return
        counts: Tensor | None = None
        if settings.sigma is None and settings.initial_speed is None:
            host_counts = []
        elif self._steps[0].device.type == "cpu" and self._device.type != "cpu":
            if (found_inf is not None and found_inf.item() != 0) or (isinstance(lr, Tensor) and lr.item() == 0):
                return
            host_counts = [step.item() + 1 for step in self._steps]
        else:
            host_counts = []
            counts = self._count_on_device(lr, found_inf)
        scalars = [value if not isinstance(value, Tensor) else 0.0 for value in (lr, alpha, beta)]
        values = [*scalars, settings.weight_decay, settings.initial_speed or 0.0, settings.sigma or 0.0, settings.eps]
        sent = self._send(grads, host_counts, values, settings.sigma)
        aligned = all(address % 16 == 0 for address in grads)
        n = len(grads)
        numbers = sent.view(torch.float64)
        unbiases = numbers[2 * n : 3 * n]
        if counts is None:
            counts = numbers[n : 2 * n]
        elif settings.sigma is not None:
            unbiases = 1 / _bias_correction(counts, settings.sigma)
        amp = [
            None if value is None else value.to(self._device, non_blocking=True) for value in (grad_scale, found_inf)
        ]
        if host_counts:
            torch._foreach_add_(self._steps, 1.0)
        for launch in self._launches:
            launch.run(sent[:n], counts, unbiases, numbers[3 * n :], (lr, alpha, beta), amp, settings, aligned)

    def _device_or_host(self, value: float | Tensor) -> float | Tensor:
        if not isinstance(value, Tensor):
            return value
        return value if value.device == self._device else value.item()

    def _count_on_device(self, lr: float | Tensor, found_inf: Tensor | None) -> Tensor:
        """Count one step unless lr is 0 or found_inf is not.

        Return the counts in float64.
        """
        moves = (lr != 0).float() if isinstance(lr, Tensor) else torch.ones((), device=self._device)
        if found_inf is not None:
            moves = moves * (found_inf.to(self._device, non_blocking=True) == 0).float().reshape(())
        # Without alpha, the tensor would be taken for a number, and read on the host.
        torch._foreach_add_(self._steps, moves, alpha=1.0)
        return torch.stack([step.reshape(()) for step in self._steps]).double()

    def _send(self, grads: list[int], counts: list[float], settings: list[float], sigma: float | None) -> Tensor:
        """Copy addresses, counts and settings to the device if they have changed."""
        lifts = [1 / (-math.expm1(t * math.log(sigma)) if sigma else 1.0) for t in counts] if sigma is not None else []
        padding = [0.0] * len(grads)
        floats = [*(counts or padding), *(lifts or padding), *settings]
        values: list[float | int] = [*grads, *floats]
        capturing = _capturing(self._device)
        if self._on_device is not None and values == self._sent and not capturing:
            return self._on_device
        if capturing:
            host, target = self._for_capture or self._buffers()
            self._for_capture = None
            # The graph reads these and the tables at each replay, also after this object is gone.
            _captured.extend((host, target, *(tensor for launch in self._launches for tensor in launch.tables)))
        else:
            if self._for_capture is None:
                self._for_capture = self._buffers()
            # The allocator of pinned memory gives no buffer that an earlier copy may still read.
            host = _host_buffer(self._size, self._device)
            if self._on_device is None:
                self._on_device = torch.empty(self._size, dtype=torch.int64, device=self._device)
            # An interrupt on the way must not leave values that seem to be there.
            target, self._sent = self._on_device, []
        host[: len(grads)] = torch.tensor(grads, dtype=torch.int64)
        host[len(grads) :].view(torch.float64).copy_(torch.tensor(floats, dtype=torch.float64))
        target.copy_(host, non_blocking=True)
        if not capturing:
            self._sent = values
        return target


class _Launch:
    """The tensors of one launch.

    Of equal dtypes, all with or all without Kahan summation.
    """

    def __init__(
        self,
        lists: TensorLists,
        indices: list[int],
        dtype: torch.dtype,
        momentum_dtype: torch.dtype,
        kahan: bool,
    ) -> None:
        device = lists.params[0].device
        rows, owners, blocks = [], [], []
        aligned = True
        for row, i in enumerate(indices):
            param, momentum = lists.params[i], lists.momentums[i]
            size = param.numel() * (2 if param.is_complex() else 1)
            square = lists.exp_avg_sqs[i].data_ptr() if lists.exp_avg_sqs else 0
            held = lists.compensations[i] if kahan else None
            addresses = [param.data_ptr(), momentum.data_ptr(), square, 0 if held is None else held.data_ptr()]
            aligned = aligned and all(address % 16 == 0 for address in addresses)
            rows.append([*addresses, size, i])
            count = triton.cdiv(size, BLOCK)
            owners.append(torch.full((count,), row, dtype=torch.int32))
            blocks.append(torch.arange(count, dtype=torch.int32))
        self._rows = _upload(torch.tensor(rows, dtype=torch.int64), device)
        self._owners, self._blocks = _upload(torch.cat(owners), device), _upload(torch.cat(blocks), device)
        self.tables = (self._rows, self._owners, self._blocks)
        self._indices = indices
        self._aligned = aligned
        wide = torch.float64 in (dtype, momentum_dtype)
        self._kinds = {
            "THETA": _TYPES[dtype],
            "MOMENTUM": _TYPES[momentum_dtype],
            "REAL": tl.float64 if wide else tl.float32,
            "KAHAN": kahan,
        }

    def run(
        self,
        grads: Tensor,  # (parameters,), addresses
        counts: Tensor,  # (parameters,)
        unbiases: Tensor,  # (parameters,)
        numbers: Tensor,  # (_SETTINGS,)
        hyperparameters: tuple[float | Tensor, ...],  # () each
        amp: list[Tensor | None],  # () each
        settings: Settings,
        aligned: bool,
    ) -> None:
        device = self._rows.device
        lr, alpha, beta = (value if isinstance(value, Tensor) else numbers for value in hyperparameters)
        grad_scale, found_inf = (numbers if value is None else value for value in amp)
        with torch.cuda.device(device if device.type == "cuda" else -1):
            _kernel[(self._owners.numel(),)](
                self._rows,
                grads,
                counts,
                unbiases,
                numbers,
                lr,
                alpha,
                beta,
                grad_scale,
                found_inf,
                self._owners,
                self._blocks,
                **self._kinds,
                LR_ON_DEVICE=isinstance(hyperparameters[0], Tensor),
                ALPHA_ON_DEVICE=isinstance(hyperparameters[1], Tensor),
                BETA_ON_DEVICE=isinstance(hyperparameters[2], Tensor),
                SCALED=amp[0] is not None,
                GUARDED=amp[1] is not None,
                PROP=settings.sigma is not None,
                SPEED=settings.initial_speed is not None,
                DECAY=settings.weight_decay != 0,
                DECOUPLED=settings.decoupled_weight_decay,
                MAXIMIZE=settings.maximize,
                ALIGNED=self._aligned and aligned,
                BLOCK=BLOCK,
                num_warps=WARPS,
                # As on the CPU. Triton 3.9 warns if this is not given: its default will change.
                enable_fp_fusion=False,
            )


_SETTINGS = 7  # lr, alpha, beta, weight decay, initial speed, sigma, eps


def _host_buffer(size: int, device: torch.device) -> Tensor:
    return torch.empty(size, dtype=torch.int64, pin_memory=device.type == "cuda")


def _upload(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor
    pinned = tensor.pin_memory()
    if _capturing(device):
        _captured.append(pinned)
    return pinned.to(device, non_blocking=True)


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _bias_correction(counts: Tensor, sigma: float) -> Tensor:
    """1 - sigma^t, and 1 before the first step."""
    return -torch.expm1(counts.clamp(min=1) * (math.log(sigma) if sigma else -math.inf))


@triton.jit
def _kernel(
    rows,
    grads,
    counts,
    unbiases,
    numbers,
    lr_at,
    alpha_at,
    beta_at,
    scale_at,
    inf_at,
    owners,
    blocks,
    THETA: tl.constexpr,
    MOMENTUM: tl.constexpr,
    REAL: tl.constexpr,
    KAHAN: tl.constexpr,
    LR_ON_DEVICE: tl.constexpr,
    ALPHA_ON_DEVICE: tl.constexpr,
    BETA_ON_DEVICE: tl.constexpr,
    SCALED: tl.constexpr,
    GUARDED: tl.constexpr,
    PROP: tl.constexpr,
    SPEED: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    row = tl.load(owners + program)
    start = tl.load(blocks + program).to(tl.int64) * BLOCK
    at = rows + row * 6
    size = tl.load(at + 4)
    index = tl.load(at + 5)
    # Coefficients in float64: there are few, and 1 - alpha lr cancels.
    lr = tl.load(lr_at).to(tl.float64) if LR_ON_DEVICE else tl.load(numbers)
    alpha = tl.load(alpha_at).to(tl.float64) if ALPHA_ON_DEVICE else tl.load(numbers + 1)
    beta = tl.load(beta_at).to(tl.float64) if BETA_ON_DEVICE else tl.load(numbers + 2)
    finite = tl.load(inf_at) == 0 if GUARDED else True
    if SCALED:  # noqa: SIM102 - a constant, decided while compiling
        if (lr == 0) & finite:
            grad = tl.load(grads + index).to(tl.pointer_type(THETA))
            offsets = start + tl.arange(0, BLOCK)
            g = tl.load(grad + offsets, mask=offsets < size).to(REAL)
            g = g * (1 / tl.load(scale_at).to(tl.float64)).to(REAL)
            tl.store(grad + offsets, g.to(THETA), mask=offsets < size)
    if (lr != 0) & finite:
        theta = tl.load(at).to(tl.pointer_type(THETA))
        momentum = tl.load(at + 1).to(tl.pointer_type(MOMENTUM))
        square = tl.load(at + 2).to(tl.pointer_type(MOMENTUM))
        held = tl.load(at + 3).to(tl.pointer_type(THETA))
        grad = tl.load(grads + index).to(tl.pointer_type(THETA))
        if ALIGNED:
            theta = tl.multiple_of(theta, 16)
            grad = tl.multiple_of(grad, 16)
            momentum = tl.multiple_of(momentum, 16)
            square = tl.multiple_of(square, 16)
            held = tl.multiple_of(held, 16)
        offsets = start + tl.arange(0, BLOCK)
        decay = tl.load(numbers + 3)
        speed_up = tl.load(numbers + 4) - beta
        first = tl.load(counts + index) == 1 if SPEED else False
        unbias = tl.load(unbiases + index) if PROP else lr
        sigma = tl.load(numbers + 5)
        eps = tl.load(numbers + 6)
        scale = tl.load(scale_at).to(tl.float64) if SCALED else lr
        # Whole blocks need no mask; without one, loads are as wide as the device allows.
        if start + BLOCK <= size:
            _block(
                theta, grad, momentum, square, held, offsets, size, lr, alpha, beta, decay, speed_up, first, unbias,
                sigma, eps, scale, THETA, MOMENTUM, REAL, KAHAN, SCALED, PROP, SPEED, DECAY, DECOUPLED, MAXIMIZE, False,
            )  # fmt: skip
        else:
            _block(
                theta, grad, momentum, square, held, offsets, size, lr, alpha, beta, decay, speed_up, first, unbias,
                sigma, eps, scale, THETA, MOMENTUM, REAL, KAHAN, SCALED, PROP, SPEED, DECAY, DECOUPLED, MAXIMIZE, True,
            )  # fmt: skip


@triton.jit
def _block(
    theta,
    grad,
    momentum,
    square,
    held,
    offsets,
    size,
    lr,
    alpha,
    beta,
    decay,
    speed_up,
    first,
    unbias,
    sigma,
    eps,
    scale,
    THETA: tl.constexpr,
    MOMENTUM: tl.constexpr,
    REAL: tl.constexpr,
    KAHAN: tl.constexpr,
    SCALED: tl.constexpr,
    PROP: tl.constexpr,
    SPEED: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    MASKED: tl.constexpr,
):
    mask = offsets < size if MASKED else None
    x = tl.load(theta + offsets, mask=mask).to(REAL)
    g = tl.load(grad + offsets, mask=mask).to(REAL)
    m = tl.load(momentum + offsets, mask=mask).to(REAL)
    if SCALED:
        g = (g * (1 / scale).to(REAL)).to(THETA)
        tl.store(grad + offsets, g, mask=mask)
        g = g.to(REAL)
    if MAXIMIZE:
        g = -g
    if PROP:
        v = sigma.to(REAL) * tl.load(square + offsets, mask=mask).to(REAL) + (1 - sigma).to(REAL) * (g * g)
        tl.store(square + offsets, v.to(MOMENTUM), mask=mask)
        if DECAY:
            m = m + (lr * decay * (1 / beta - alpha)).to(REAL) * x
        g = g / (tl.sqrt(unbias.to(REAL) * v) + eps.to(REAL))
    elif DECAY and not DECOUPLED:
        g = g + decay.to(REAL) * x
    if SPEED:
        m = tl.where(first, m + speed_up.to(REAL) * g, m)
    tl.store(
        momentum + offsets,
        ((1 - alpha * lr).to(REAL) * m + (lr * (1 - alpha * beta)).to(REAL) * g).to(MOMENTUM),
        mask=mask,
    )
    move = lr.to(REAL) * (m + beta.to(REAL) * g)
    if DECAY and (PROP or DECOUPLED):
        move = move + (lr * decay).to(REAL) * x
    if KAHAN:
        # The rounding error of this step is added to the next one.
        change = tl.load(held + offsets, mask=mask).to(REAL) - move
        total = (x + change).to(THETA)
        tl.store(theta + offsets, total, mask=mask)
        tl.store(held + offsets, (change + (x - total.to(REAL))).to(THETA), mask=mask)
    else:
        tl.store(theta + offsets, (x - move).to(THETA), mask=mask)
