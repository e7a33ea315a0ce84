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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from inna.torch.kernels import cuda_rule as rule
from inna.torch.steps.rounding import ROUNDED
from inna.torch.tensor_lists import Settings, SumLists, TensorLists

__all__ = ["OPTIONS", "PRODUCTS", "Numbers", "Sent", "Table", "device_context", "unavailable"]

BLOCK = 2048
PRODUCTS = 7
"""The number of inner products that `Table.measure` returns."""
OPTIONS: dict[str, Any] = {
    "num_warps": 8,
    # As on the CPU. Triton 3.9 warns if this is not given: its default will change.
    "enable_fp_fusion": False,
}
"""Triton's options of every launch."""

_TYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.int8: tl.int8,  # codes
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
        sums: what finds the distance, without a learning rate.
    """

    decides = True
    """Whether the device can decide on a guarded step."""

    def __init__(self, lists: TensorLists, sums: SumLists | None = None) -> None:
        # Torch adds up what finds INNAprop's.
        self.measures_distance = sums is not None and not sums.grad_sums
        starts = sums.starts if sums is not None and self.measures_distance else []
        self._device = lists.params[0].device
        self._steps = lists.steps
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for i, (param, momentum) in enumerate(zip(lists.params, lists.momentums, strict=True)):
            if param.numel():
                kahan = bool(lists.compensations) and lists.compensations[i] is not None
                alike[param.dtype.to_real(), momentum.dtype.to_real(), kahan].append(i)
        self._launches = [_Launch(lists, starts, indices, *key) for key, indices in alike.items()]
        self._numbers = Numbers(3 * len(lists.params) + _SETTINGS, self._device)

    @property
    def steps(self) -> list[Tensor]:
        """The step counts, () each; empty if nothing counts."""
        return self._steps

    @property
    def programs(self) -> int:
        """The number of programs that `measure_into` launches."""
        return sum(launch.programs for launch in self._launches)

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
        settings = self.placed(settings)
        lr, h = settings.lr, settings.time_step
        if not isinstance(lr, Tensor) and lr == 0 and not isinstance(h, Tensor) and not h:
            return
        counts: Tensor | None = None
        host_counts: list[float] = []
        moves = h if isinstance(h, Tensor) else lr
        if not self._steps:
            pass
        elif self._steps[0].device.type == "cpu" and self._device.type != "cpu":
            if (found_inf is not None and found_inf.item() != 0) or (isinstance(moves, Tensor) and moves.item() == 0):
                return
            host_counts = [step.item() + 1 for step in self._steps]
        else:
            counts = self._count_on_device(moves, found_inf)
        sent = self.send(grads, settings, host_counts)
        if host_counts:
            torch._foreach_add_(self._steps, 1.0)
        scaling = [
            None if each is None else each.to(self._device, non_blocking=True) for each in (grad_scale, found_inf)
        ]
        self.run(sent, settings, scaling, counts)

    def send(self, grads: list[int], settings: Settings, counts: Sequence[float] = ()) -> Sent:
        """Copy what a step reads to the device, if it has changed.

        Args:
            grads: the addresses of the gradients.
            settings: from `placed`. Tensors among them are not sent.
            counts: of the steps, this one included, if the host counts them.
        """
        n, sigma, padding = len(grads), settings.sigma, [0.0] * len(grads)
        lifts = [1 / (-math.expm1(t * math.log(sigma)) if sigma else 1.0) for t in counts] if sigma is not None else []
        given = (*settings[:5], sigma, settings.eps, settings.time_step, settings.decay_lr)
        numbers = [0.0 if value is None or isinstance(value, Tensor) else value for value in given]
        tables = [tensor for launch in self._launches for tensor in launch.tables]
        sent = self._numbers.send(grads, [*(counts or padding), *(lifts or padding), *numbers], tables)
        floats = sent.view(torch.float64)
        aligned = all(address % 16 == 0 for address in grads)
        return Sent(sent[:n], floats[n : 2 * n], floats[2 * n : 3 * n], floats[3 * n :], aligned)

    def run(
        self,
        sent: Sent,
        settings: Settings,
        scaling: Sequence[Tensor | None],  # () each
        counts: Tensor | None = None,  # (parameters,)
    ) -> None:
        """Launch the step with what `send` has copied.

        Args:
            sent: the result of `send`.
            settings: from `placed`.
            scaling: GradScaler's scale and verdict, on the device.
            counts: of the steps, this one included, if the device counts them.
        """
        if counts is not None:
            sent = sent._replace(counts=counts)
            if settings.sigma is not None:
                sent = sent._replace(unbiases=1 / _bias_correction(counts, settings.sigma))
        for launch in self._launches:
            launch.run(sent, settings, scaling)

    def measure(self, grads: list[int], settings: Settings) -> Tensor:
        """The inner products of `inna.torch.measures.guard.Products`.

        (number of products,), in float64, on the device. Those with theta are 0 without weight decay, those of the
        distance without theta_0. Their parts are always added in the same order.

        Args:
            grads: the addresses of the gradients.
            settings: hyper-parameters; tensors among them are read on the device. With an initial speed, the steps must
                be counted there, too.
        """
        settings = self.placed(settings)
        parts = torch.zeros(PRODUCTS, self.programs, dtype=torch.float64, device=self._device)
        self.measure_into(parts, 0, self.send(grads, settings), settings, None)
        return parts.sum(1)

    def measure_into(
        self,
        parts: Tensor,  # (number of products, programs)
        first: int,
        sent: Sent,
        settings: Settings,
        grad_scale: Tensor | None,  # ()
    ) -> None:
        """Write each program's part of the inner products of a guarded step.

        Args:
            parts: takes them, in float64.
            first: the column of the first program.
            sent: the result of `send`.
            settings: from `placed`.
            grad_scale: GradScaler's scale, on the device. The gradients stay as they are.
        """
        for launch in self._launches:
            launch.measure(parts, first, sent, settings, grad_scale)
            first += launch.programs

    def placed(self, settings: Settings) -> Settings:
        """The settings with tensors on this device only; others are read."""
        return Settings(*map(self._device_or_host, settings))

    def _device_or_host(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value if value.device == self._device else value.item()

    def _count_on_device(self, moves: float | Tensor, found_inf: Tensor | None) -> Tensor:
        """Count one step unless ``moves`` is 0 or found_inf is not.

        Return the counts in float64.
        """
        more = (moves != 0).float() if isinstance(moves, Tensor) else torch.ones((), device=self._device)
        if found_inf is not None:
            more = more * (found_inf.to(self._device, non_blocking=True) == 0).float().reshape(())
        # Without alpha, the tensor would be taken for a number, and read on the host.
        torch._foreach_add_(self._steps, more, alpha=1.0)
        return torch.stack([step.reshape(()) for step in self._steps]).double()


class Sent(NamedTuple):
    """The inputs of one step on the device, beside the tables."""

    grads: Tensor  # (parameters,)
    """Addresses of the gradients."""
    counts: Tensor  # (parameters,)
    """The numbers of this step, if the host counts."""
    unbiases: Tensor  # (parameters,)
    """The bias corrections, if the host counts."""
    numbers: Tensor  # (_SETTINGS,)
    """The settings that are numbers."""
    aligned: bool
    """Whether all gradients begin at multiples of 16 bytes."""


class Numbers:
    """A row of integers and floats that are sent to the device.

    Only if they have changed. A captured graph gets memory of its own, allocated before the capture.

    Args:
        size: how many there are.
        device: where they are sent.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        self._sent: list[float | int] = []
        self._on_device: Tensor | None = None
        self._for_capture: tuple[Tensor, Tensor] | None = self._buffers()

    def _buffers(self) -> tuple[Tensor, Tensor]:
        """Memory of one transfer, on the host and on the device."""
        return _host_buffer(self._size, self._device), torch.empty(self._size, dtype=torch.int64, device=self._device)

    def send(self, integers: list[int], floats: list[float], read: Iterable[Tensor]) -> Tensor:
        """Return integers and floats on the device, 64 bits each.

        Args:
            integers, floats: all of them, the integers first.
            read: tensors that the kernels read too. A captured graph keeps them.
        """
        values: list[float | int] = [*integers, *floats]
        capturing = _capturing(self._device)
        if self._on_device is not None and values == self._sent and not capturing:
            return self._on_device
        if capturing:
            host, target = self._for_capture or self._buffers()
            self._for_capture = None
            # The graph reads these and the tables at each replay, also after this object is gone.
            _captured.extend((host, target, *read))
        else:
            if self._for_capture is None:
                self._for_capture = self._buffers()
            # The allocator of pinned memory gives no buffer that an earlier copy may still read.
            host = _host_buffer(self._size, self._device)
            if self._on_device is None:
                self._on_device = torch.empty(self._size, dtype=torch.int64, device=self._device)
            # An interrupt on the way must not leave values that seem to be there.
            target, self._sent = self._on_device, []
        host[: len(integers)] = torch.tensor(integers, dtype=torch.int64)
        host[len(integers) :].view(torch.float64).copy_(torch.tensor(floats, dtype=torch.float64))
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
        starts: list[Tensor],
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
            start = starts[i].data_ptr() if starts else 0
            aligned = aligned and all(address % 16 == 0 for address in (*addresses, start))
            step = lists.steps[i].data_ptr() if lists.steps else 0
            scales = [each[i] if each else None for each in (lists.momentum_scales, lists.exp_avg_sq_scales)]
            scale_addresses = [0 if scale is None else scale.data_ptr() for scale in scales]
            rows.append([*addresses, size, i, step, lists.streams[i] if lists.streams else 0, start, *scale_addresses])
            count = triton.cdiv(size, BLOCK)
            owners.append(torch.full((count,), row, dtype=torch.int32))
            blocks.append(torch.arange(count, dtype=torch.int32))
        self._rows = _upload(torch.tensor(rows, dtype=torch.int64), device)
        self._owners, self._blocks = _upload(torch.cat(owners), device), _upload(torch.cat(blocks), device)
        self.tables = (self._rows, self._owners, self._blocks)
        self._aligned = aligned
        wide = torch.float64 in (dtype, momentum_dtype)
        self._kinds = {
            "THETA": _TYPES[dtype],
            "MOMENTUM": _TYPES[momentum_dtype],
            "REAL": tl.float64 if wide else tl.float32,
            "KAHAN": kahan,
        }
        self._stochastic = bool(lists.streams) and momentum_dtype in (ROUNDED, torch.int8)
        self._far = bool(starts)

    @property
    def programs(self) -> int:
        """The number of programs, one for each block."""
        return self._owners.numel()

    def run(
        self,
        sent: Sent,
        settings: Settings,
        scaling: Sequence[Tensor | None],  # () each
    ) -> None:
        """Step the tensors."""
        numbers = sent.numbers
        names = ("lr", "alpha", "beta", "time_step", "decay_lr")
        on_device = {name: value for name in names if isinstance(value := getattr(settings, name), Tensor)}
        with device_context(self._rows.device):
            rule.step[(self.programs,)](
                self._rows,
                sent.grads,
                sent.counts,
                sent.unbiases,
                numbers,
                *(on_device.get(name, numbers) for name in names),
                *(numbers if value is None else value for value in scaling),
                self._owners,
                self._blocks,
                **self._kinds,
                **{f"{name.upper()}_ON_DEVICE": name in on_device for name in names},
                TIME_STEP=settings.time_step is not None,
                DECAY_LR=settings.decay_lr is not None,
                SCALED=scaling[0] is not None,
                CHECKED=scaling[1] is not None,
                PROP=settings.sigma is not None,
                STOCHASTIC=self._stochastic,
                **self._flags(settings, sent),
            )

    def measure(
        self,
        parts: Tensor,  # (number of products, programs of all launches)
        first: int,
        sent: Sent,
        settings: Settings,
        grad_scale: Tensor | None,  # ()
    ) -> None:
        """Write the parts of this launch, as `Table.measure_into` describes."""
        numbers = sent.numbers
        with device_context(self._rows.device):
            rule.measure[(self.programs,)](
                self._rows,
                sent.grads,
                numbers,
                settings.beta if isinstance(settings.beta, Tensor) else numbers,
                numbers if grad_scale is None else grad_scale,
                self._owners,
                self._blocks,
                parts,
                parts.shape[1],
                first,
                **self._kinds,
                FAR=self._far,
                BETA_ON_DEVICE=isinstance(settings.beta, Tensor),
                SCALED=grad_scale is not None,
                **self._flags(settings, sent),
            )

    def _flags(self, settings: Settings, sent: Sent) -> dict[str, Any]:
        return {
            "SPEED": settings.initial_speed is not None,
            "DECAY": settings.weight_decay != 0,
            "DECOUPLED": settings.decoupled_weight_decay,
            "MAXIMIZE": settings.maximize,
            "ALIGNED": self._aligned and sent.aligned,
            "BLOCK": BLOCK,
            **OPTIONS,
        }


_SETTINGS = 9  # lr, alpha, beta, weight decay, initial speed, sigma, eps, time step, learning rate of weight decay


def device_context(device: torch.device) -> Any:
    """Return the context in which Triton launches on a device."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


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
