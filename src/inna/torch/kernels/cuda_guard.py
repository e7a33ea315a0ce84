"""The guarded step on a CUDA device: the length of the step is found there.

Three launches for a group: its inner products, the guard's decision for all groups, and the step. The host reads
nothing, so a graph can be captured. `inna.dynamics` has the equations of the decision; all of it is in float64.

This module needs Triton and is imported on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from inna.torch.kernels.cuda import OPTIONS, PRODUCTS, Numbers, Table, device_context
from inna.torch.tensor_lists import Settings

__all__ = ["Guard", "GuardPart"]

# The integers that the decision has for each group: the addresses of lr, alpha and beta, or 0; which of them are in
# float64; the addresses of the guard's six numbers; the columns of its inner products and the parameters that it
# counts, each from and to; its flags.
WIDE, MEMORY, FIRST_COLUMN, LAST_COLUMN, FIRST_STEP, LAST_STEP, FLAGS = map(tl.constexpr, (3, 4, 10, 11, 12, 13, 14))
HAS_TIME_STEP, HAS_SPEED, DECOUPLED, DECAY = map(tl.constexpr, (1, 2, 4, 8))
# The numbers: lr, alpha, beta, and these. Three numbers of all groups follow: the loss, its bound, and its sign.
TIME_STEP, WEIGHT_DECAY, SPEED, LOSS = map(tl.constexpr, (3, 4, 5, 6))
# Parts of inner products that are added at once.
CHUNK = 4096


class GuardPart(NamedTuple):
    """The part of a parameter group in a guarded step."""

    grads: list[int]
    """The addresses of its gradients."""
    settings: Settings
    memory: Sequence[Tensor]  # (1,) each
    """The guard's weight, loss, slope, steps, cuts and learning rate, on the device in float64."""


class Guard:
    """The guarded step of several groups on one device.

    Valid as long as their tables.

    Args:
        tables: one for each group, in their order.
        device: of all.
    """

    def __init__(self, tables: Sequence[Table], device: torch.device) -> None:
        self.tables = list(tables)
        self._device = device
        self._lengths = torch.zeros(len(tables), 3, dtype=torch.float64, device=device)
        columns = max(1, sum(table.programs for table in tables))
        self._parts = torch.zeros(PRODUCTS, columns, dtype=torch.float64, device=device)
        addresses = [step.data_ptr() for table in tables for step in table.steps]
        self._steps = torch.tensor(addresses or [0], dtype=torch.int64).to(device)
        self._counts = torch.zeros(len(self._steps), dtype=torch.float64, device=device)
        self._numbers = Numbers((FLAGS.value + 1 + LOSS.value) * len(tables) + 3, device)

    def step(
        self,
        parts: Sequence[GuardPart],
        loss: float | Tensor,  # ()
        loss_bound: float,
        *,
        maximize: bool,
        scaling: tuple[Tensor | None, Tensor | None],  # () each
    ) -> None:
        """Step all groups in place.

        Nothing changes if the loss or an inner product is not finite, or by the verdict of GradScaler.

        Args:
            parts: of the groups, in the order of the tables.
            loss: of the mini-batch; a tensor in floating point on any device.
            loss_bound: f*, of the loss as it is given.
            maximize: whether the loss is to become large.
            scaling: GradScaler's scale and verdict. Gradients are divided by the scale and stay so.
        """
        grad_scale, found_inf = (None if each is None else each.to(self._device, non_blocking=True) for each in scaling)
        parts = [part._replace(settings=_readable(table.placed(part.settings))) for table, part in self._each(parts)]
        sent, first = [], 0
        for table, part in self._each(parts):
            sent.append(table.send(part.grads, part.settings))
            table.measure_into(self._parts, first, sent[-1], part.settings, grad_scale)
            first += table.programs
        self._decide(parts, loss, loss_bound, -1.0 if maximize else 1.0, found_inf)
        first = 0
        for i, (table, part) in enumerate(self._each(parts)):
            lr, h, rate = self._lengths[i].unbind()
            settings = part.settings._replace(lr=lr, time_step=h)
            if settings.decoupled_weight_decay and settings.weight_decay:
                settings = settings._replace(decay_lr=rate)
            counts = self._counts[first : first + len(table.steps)] if table.steps else None
            table.run(sent[i], settings, (grad_scale, found_inf), counts)
            first += len(table.steps)

    def _each(self, parts: Sequence[GuardPart]) -> list[tuple[Table, GuardPart]]:
        return list(zip(self.tables, parts, strict=True))

    def _decide(
        self,
        parts: Sequence[GuardPart],
        loss: float | Tensor,  # ()
        loss_bound: float,
        sign: float,
        found_inf: Tensor | None,  # ()
    ) -> None:
        at: Tensor | None = None
        if isinstance(loss, Tensor):
            if loss.device == self._device and type(loss) is Tensor and not loss.is_neg() and not loss._is_zerotensor():
                at = loss
            elif loss.device.type == "cpu" and self._device.type != "cpu":
                loss = loss.item()
            else:
                at = loss.to(device=self._device, dtype=torch.float64, copy=True)
        integers, floats = self._table(parts)
        general = [0.0 if at is not None else float(loss), sign * loss_bound, sign]
        # A captured graph reads and writes these at each replay.
        kept = [
            self._lengths,
            self._parts,
            self._steps,
            self._counts,
            *(each for part in parts for each in part.memory),
        ]
        table = self._numbers.send(integers, [*floats, *general], kept)
        numbers = table.view(torch.float64)[len(integers) :]
        groups = len(parts)
        with device_context(self._device):
            decide[(1,)](
                table,
                numbers,
                self._parts,
                numbers if at is None else at,
                numbers if found_inf is None else found_inf,
                self._lengths,
                self._steps,
                self._counts,
                self._parts.shape[1],
                groups,
                LOSS_ON_DEVICE=at is not None,
                CHECKED=found_inf is not None,
                GROUPS=triton.next_power_of_2(groups),
                CHUNK=CHUNK,
                **OPTIONS,
            )

    def _table(self, parts: Sequence[GuardPart]) -> tuple[list[int], list[float]]:
        """The integers and the numbers of all groups, field by field."""
        rows, numbers = [], []
        column = parameter = 0
        for table, part in self._each(parts):
            settings = part.settings
            tensors = [value if isinstance(value, Tensor) else None for value in settings[:3]]
            counted = parameter + len(table.steps)
            conditions = [
                (HAS_TIME_STEP, settings.time_step is not None),
                (HAS_SPEED, settings.initial_speed is not None),
                (DECOUPLED, settings.decoupled_weight_decay),
                (DECAY, settings.weight_decay != 0),
            ]
            flags = sum(flag.value for flag, holds in conditions if holds)
            rows.append(
                [
                    *(0 if value is None else value.data_ptr() for value in tensors),
                    sum(1 << i for i, each in enumerate(tensors) if each is not None and each.dtype is torch.float64),
                    *(value.data_ptr() for value in part.memory),
                    *(column, column + table.programs, parameter, counted, flags),
                ]
            )
            given = (*settings[:3], settings.time_step, settings.weight_decay, settings.initial_speed)
            numbers.append([0.0 if value is None or isinstance(value, Tensor) else value for value in given])
            column, parameter = column + table.programs, parameter + len(table.steps)
        return [*chain(*zip(*rows, strict=True))], [*chain(*zip(*numbers, strict=True))]


def _readable(settings: Settings) -> Settings:
    """The settings with tensors in float32 or float64, as the decision reads them."""
    changed: dict[str, Any] = {}
    for name in ("lr", "alpha", "beta"):
        value = getattr(settings, name)
        if isinstance(value, Tensor) and value.dtype not in (torch.float32, torch.float64):
            changed[name] = value.double()
    return settings._replace(**changed)


@triton.jit
def _setting(table, numbers, field, groups, each, here):
    """A hyper-parameter of each group: a number, or a tensor on the device."""
    at = tl.load(table + field * groups + each, mask=here, other=0)
    wide = ((tl.load(table + WIDE * groups + each, mask=here, other=0) >> field) & 1) != 0
    given = at != 0
    number = tl.load(numbers + field * groups + each, mask=here, other=0.0)
    double = tl.load(at.to(tl.pointer_type(tl.float64)), mask=given & wide, other=0.0)
    single = tl.load(at.to(tl.pointer_type(tl.float32)), mask=given & (wide == 0), other=0.0)
    return tl.where(given, tl.where(wide, double, single.to(tl.float64)), number)


@triton.jit
def _memory(table, index, groups, each, here):
    """The addresses of one of the guard's numbers of each group."""
    return tl.load(table + (MEMORY + index) * groups + each, mask=here, other=0).to(tl.pointer_type(tl.float64))


@triton.jit
def _total(parts, begin, end, CHUNK: tl.constexpr):
    """The sum of a row's columns, always in the same order."""
    total = tl.zeros([CHUNK], tl.float64)
    for at in range(begin, end, CHUNK):
        columns = at + tl.arange(0, CHUNK)
        total += tl.load(parts + columns, mask=columns < end, other=0.0)
    return tl.sum(total)


@triton.jit
def _finite(value):
    return tl.abs(value) < float("inf")


@triton.jit
def decide(
    table,
    numbers,
    parts,
    loss_at,
    inf_at,
    lengths,
    steps,
    counts,
    columns,
    groups,
    LOSS_ON_DEVICE: tl.constexpr,
    CHECKED: tl.constexpr,
    GROUPS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Decide on the step of all groups, and store the guard's memory.

    One program. A vector has an entry for each group. The step reads its learning rate, the momentum's time step and
    the learning rate of weight decay in ``lengths``; they are 0 where nothing moves.
    """
    each = tl.arange(0, GROUPS)
    here = each < groups
    lr = _setting(table, numbers, 0, groups, each, here)
    alpha = _setting(table, numbers, 1, groups, each, here)
    beta = _setting(table, numbers, 2, groups, each, here)
    flags = tl.load(table + FLAGS * groups + each, mask=here, other=0)
    h = tl.where((flags & HAS_TIME_STEP) != 0, tl.load(numbers + TIME_STEP * groups + each, mask=here, other=0.0), lr)
    decay = tl.load(numbers + WEIGHT_DECAY * groups + each, mask=here, other=0.0)
    speed = tl.load(numbers + SPEED * groups + each, mask=here, other=0.0)
    decoupled = (flags & DECOUPLED) != 0

    norm = tl.zeros([GROUPS], tl.float64)
    grad = norm
    theta = norm
    grad_theta = norm
    square = norm
    for group in range(groups):
        begin = tl.load(table + FIRST_COLUMN * groups + group).to(tl.int32)
        end = tl.load(table + LAST_COLUMN * groups + group).to(tl.int32)
        decays = (tl.load(table + FLAGS * groups + group) & DECAY) != 0
        end_decay = tl.where(decays, end, begin)
        this = each == group
        norm = tl.where(this, _total(parts, begin, end, CHUNK), norm)
        grad = tl.where(this, _total(parts + columns, begin, end, CHUNK), grad)
        theta = tl.where(this, _total(parts + 2 * columns, begin, end_decay, CHUNK), theta)
        grad_theta = tl.where(this, _total(parts + 3 * columns, begin, end_decay, CHUNK), grad_theta)
        square = tl.where(this, _total(parts + 4 * columns, begin, end_decay, CHUNK), square)

    loss = tl.load(loss_at).to(tl.float64) if LOSS_ON_DEVICE else tl.load(numbers + LOSS * groups)
    bound = tl.load(numbers + LOSS * groups + 1)
    f = tl.load(numbers + LOSS * groups + 2) * loss
    sums = _finite(norm) & _finite(grad) & _finite(theta) & _finite(grad_theta) & _finite(square)
    finite = (tl.sum(tl.where(sums, 0, 1)) == 0) & _finite(f)
    if CHECKED:
        finite = finite & (tl.load(inf_at) == 0)
    f = f + tl.sum(tl.where(decoupled, 0.0, decay / 2 * square))
    lr = tl.where(finite, lr, 0.0)
    moves = here & (lr != 0)

    weight_at = _memory(table, 0, groups, each, here)
    loss_sum_at = _memory(table, 1, groups, each, here)
    slope_at = _memory(table, 2, groups, each, here)
    taken_at = _memory(table, 3, groups, each, here)
    cuts_at = _memory(table, 4, groups, each, here)
    last_at = _memory(table, 5, groups, each, here)
    weight = tl.load(weight_at, mask=here, other=0.0)
    loss_sum = tl.load(loss_sum_at, mask=here, other=0.0)
    slope = tl.load(slope_at, mask=here, other=0.0)
    taken = tl.load(taken_at, mask=here, other=0.0)
    cuts = tl.load(cuts_at, mask=here, other=0.0)
    # Before the guard's first step: past losses are taken to be the present one; without a past, the initial velocity.
    fresh = taken == 0
    loss_sum = tl.where(fresh, weight * f, loss_sum)
    starts = fresh & (weight == 0) & ((flags & HAS_SPEED) != 0)
    weight = tl.where(starts, speed - beta, weight)
    loss_sum = tl.where(starts, (speed - beta) * f, loss_sum)
    slope = tl.where(starts, 0.0, slope)

    total = weight + beta
    total = tl.where(total == 0, 1.0, total)
    decreases = tl.where(moves, lr * norm / total, 0.0)
    decrease = tl.sum(decreases)
    divisor = tl.where(decrease > 0, decrease, 1.0)
    average = tl.sum(tl.where(moves, decreases * ((loss_sum + beta * f) / total), 0.0)) / divisor
    gap = average + tl.sum(tl.where(moves, slope / total, 0.0)) - bound
    cut = (decrease > 0) & (gap < decrease)
    factor = tl.where(cut, tl.where(gap > 0, gap / divisor, 0.0), 1.0)

    length = lr * factor
    keep = 1 - alpha * h
    gain = h * (1 - alpha * beta)
    moved = -length * (keep * norm + (h - beta) * grad)
    moved = tl.where(decoupled, moved - lr * decay * (keep * theta + (h - beta) * grad_theta), moved)
    # Other warps may still have to read what is written now.
    tl.debug_barrier()
    tl.store(weight_at, keep * weight + gain, mask=moves)
    tl.store(loss_sum_at, keep * loss_sum + gain * f, mask=moves)
    tl.store(slope_at, keep * slope + moved, mask=moves)
    tl.store(taken_at, taken + 1, mask=moves)
    tl.store(cuts_at, cuts + tl.where(factor < 1, 1.0, 0.0), mask=moves)
    tl.store(last_at, length, mask=moves)
    tl.store(lengths + 3 * each, tl.where(moves, length, 0.0), mask=here)
    tl.store(lengths + 3 * each + 1, tl.where(moves, h, 0.0), mask=here)
    tl.store(lengths + 3 * each + 2, tl.where(moves, lr, 0.0), mask=here)

    for group in range(groups):
        more = tl.sum(tl.where(moves & (each == group), 1.0, 0.0))
        begin = tl.load(table + FIRST_STEP * groups + group).to(tl.int32)
        end = tl.load(table + LAST_STEP * groups + group).to(tl.int32)
        for at in range(begin, end, CHUNK):
            indices = at + tl.arange(0, CHUNK)
            counted = indices < end
            step_at = tl.load(steps + indices, mask=counted, other=0).to(tl.pointer_type(tl.float32))
            count = tl.load(step_at, mask=counted, other=0.0) + more
            tl.store(step_at, count, mask=counted)
            tl.store(counts + indices, count.to(tl.float64), mask=counted)
