"""Stochastic rounding of the momentum to bfloat16, or to codes of one byte.

A float32 number becomes one of its two neighbours in bfloat16, the nearer one more often, so that its mean is the
number itself. Decays and updates below half a rounding are then kept in the mean, where rounding to nearest loses them.
For codes, see `inna.torch.steps.companding`.

The random bits are a hash of the seed, the parameter, the number of the step and the index of the entry in memory. So
they depend neither on threads nor on the implementation, and a resumed run has the bits of an uninterrupted one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from inna.torch.steps.companding import narrow, widen
from inna.torch.tensor_lists import Operations, TensorLists, coefficient_dtype, is_dense, is_transformed

__all__ = ["MIX", "ROUNDED", "SEEDS", "Widened", "mix", "random_bits", "stream"]

ROUNDED = torch.bfloat16
"""The dtype of the momentum that is rounded stochastically."""
SEEDS = 2**32
"""The number of seeds."""
INFINITY = 0x7F800000
"""The bits of infinity in float32. A larger magnitude is a NaN."""
LINE = 32
"""Entries that share 16 hashes."""
MIX = (16, 0x7FEB352D, 15, 0x846CA68B, 16)
"""Shift, factor, shift, factor, shift of `mix`."""


def mix(x: int) -> int:
    """Hash 32 bits to 32 bits, one to one.

    >>> hex(mix(1))
    '0x688990c0'

    References:
        Wellons, Hash function prospector, ``lowbias32``.
    """
    first, factor, second, other, last = MIX
    x %= 2**32
    x = ((x ^ (x >> first)) * factor) % 2**32
    x = ((x ^ (x >> second)) * other) % 2**32
    return x ^ (x >> last)


def stream(seed: int, group: int, position: int) -> int:
    """The number from which a parameter's random bits derive.

    Args:
        seed: of the group, 0 <= seed < 2^32.
        group: the group's index in the optimizer.
        position: the parameter's index in the group.
    """
    return mix(mix(mix(seed) + group) + position)


def random_bits(
    streams: Sequence[int],
    counts: Sequence[float | Tensor],  # () each
    offsets: Sequence[int],
    sizes: Sequence[int],
    device: torch.device,
) -> Tensor:
    """The random bits of parameters at one step, 16 for each entry, as int32.

    They are end to end. Two entries share a hash: entries i and i + 16 of a line of 32 have the upper and the lower
    half of mix(mix(stream + count) + 16 line + i).

    Args:
        streams: of the parameters.
        counts: the numbers of their steps, from 1; floats, or tensors that are not read on the host.
        offsets: the indices of the first entries, multiples of 32.
        sizes: the numbers of entries.
        device: of the result.
    """
    keys: list[int | Tensor] = []
    for number, count, offset in zip(streams, counts, offsets, strict=True):
        if isinstance(count, Tensor):
            keys.append(_mix_(count.to(device=device, dtype=torch.int32).add(_signed(number))) + _signed(offset // 2))
        else:
            keys.append(_signed(mix(number + int(count)) + offset // 2))
    lines = [-(-size // LINE) for size in sizes]
    half = LINE // 2
    total = half * sum(lines)
    # int32 holds 2^31 numbers. Beyond it, the lower half of int64 does.
    hashes = torch.arange(total, dtype=torch.int32 if total < 2**31 else torch.int64, device=device).to(torch.int32)
    if len(keys) == 1:
        hashes.add_(keys[0])
    else:
        begin = 0
        for i, each in enumerate(lines):
            keys[i] = keys[i] - begin if isinstance(keys[i], Tensor) else _signed(int(keys[i]) - begin)
            begin += half * each
        if any(isinstance(key, Tensor) for key in keys):
            first = torch.stack([torch.as_tensor(key, dtype=torch.int32, device=device) for key in keys])
        else:
            first = torch.tensor(keys, dtype=torch.int32, device=device)
        numbers = torch.tensor([half * each for each in lines], device=device)
        hashes.add_(first.repeat_interleave(numbers, output_size=total))
    hashes = _mix_(hashes).view(-1, half)
    bits = torch.stack([hashes >> 16, hashes], 1).bitwise_and_(0xFFFF).view(-1)
    if len(sizes) == 1:
        return bits[: sizes[0]]
    parts = bits.split([LINE * each for each in lines])
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _mix_(x: Tensor) -> Tensor:
    """`mix` of each number of an int32 tensor, in place."""
    first, factor, second, other, last = MIX
    for shift, multiplier in ((first, factor), (second, other), (last, 1)):
        # A shift of int32 repeats the sign.
        x.bitwise_xor_((x >> shift).bitwise_and_((1 << (32 - shift)) - 1))
        if multiplier != 1:
            x.mul_(_signed(multiplier))
    return x


def _signed(x: int) -> int:
    """32 bits as the int32 that has them."""
    return (x + 2**31) % 2**32 - 2**31


class Widened:
    """The momentums and mean squares of a step, widened to float32.

    Those in bfloat16 or of one byte are, others stay. The step is taken on ``lists``, and `store` rounds the results
    into the state.
    Mean square and momentum of an entry are rounded by the same bits: neither's error multiplies the other's.

    Args:
        lists: the tensors of the step. Without streams they stay as they are.
        counts: the numbers of this step, from 1, () each.
        differentiable: autograd sees the step. The derivative of rounding is 1.
    """

    def __init__(
        self,
        lists: TensorLists,
        counts: Sequence[float | Tensor],  # () each
        *,
        differentiable: bool = False,
    ) -> None:
        self.lists = lists
        self._differentiable = differentiable
        # (the state, its number in float32 or float64, all of these end to end, random bits)
        self._units: list[tuple[list[Tensor], list[Tensor], Tensor, Tensor]] = []
        # (codes, scales, their numbers, random bits)
        self._coded: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        chosen = [i for i, momentum in enumerate(lists.momentums) if momentum.dtype is ROUNDED] if lists.streams else []
        coded = [i for i, scale in enumerate(lists.momentum_scales) if scale is not None]
        if not chosen and not coded:
            return
        self.lists = replace(lists, momentums=list(lists.momentums), exp_avg_sqs=list(lists.exp_avg_sqs))
        for i in coded:
            offset = lists.offsets[i] if lists.offsets else 0
            state = lists.momentums[i]
            bits = random_bits([lists.streams[i]], [counts[i]], [offset], [state.numel()], state.device)
            self._decode(lists.momentums[i], lists.momentum_scales[i], self.lists.momentums, i, bits)
            if lists.exp_avg_sqs:
                self._decode(lists.exp_avg_sqs[i], lists.exp_avg_sq_scales[i], self.lists.exp_avg_sqs, i, bits)
        for indices in self._together(chosen):
            states = [lists.momentums[i] for i in indices]
            bits = random_bits(
                [lists.streams[i] for i in indices],
                [counts[i] for i in indices],
                [lists.offsets[i] if lists.offsets else 0 for i in indices],
                [state.numel() for state in states],
                states[0].device,
            )
            self._widen(indices, lists.momentums, self.lists.momentums, bits)
            if lists.exp_avg_sqs:
                self._widen(indices, lists.exp_avg_sqs, self.lists.exp_avg_sqs, bits)

    def _decode(self, codes: Tensor, scales: Tensor | None, wide: list[Tensor], i: int, bits: Tensor) -> None:
        assert scales is not None
        wide[i] = widen(codes, scales).to(coefficient_dtype(self.lists.params[i]))
        self._coded.append((codes, scales, wide[i], bits))

    def _together(self, chosen: list[int]) -> list[list[int]]:
        """Divide tensors into those that are rounded in one go."""
        alike: dict[object, list[int]] = defaultdict(list)
        for i in chosen:
            state = self.lists.momentums[i]
            plain = state.device.type == "cpu" and not (
                self._differentiable or torch.compiler.is_compiling() or is_transformed(state)
            )
            alike[coefficient_dtype(self.lists.params[i]) if plain else i].append(i)
        return list(alike.values())

    def _widen(self, indices: list[int], states: list[Tensor], wide: list[Tensor], bits: Tensor) -> None:
        chosen = [states[i] for i in indices]
        dtype = coefficient_dtype(self.lists.params[indices[0]])
        if len(indices) == 1:
            whole = chosen[0].to(dtype)
            wide[indices[0]] = whole
            self._units.append((chosen, [whole], whole, _laid_out(bits, whole)))
            return
        together = torch.empty(bits.numel(), dtype=dtype, device=bits.device)
        parts = [
            _laid_out(part, state)
            for part, state in zip(together.split([state.numel() for state in chosen]), chosen, strict=True)
        ]
        torch._foreach_copy_(parts, chosen)
        for i, part in zip(indices, parts, strict=True):
            wide[i] = part
        self._units.append((chosen, parts, together, bits))

    def store(self, operations: Operations) -> None:
        """Collect the operations that round the results into the state."""
        for codes, scales, numbers, bits in self._coded:
            narrow(operations, numbers, bits, codes, scales)
        for states, parts, whole, bits in self._units:
            if self._differentiable:
                operations(states[0].copy_, whole)  # the values follow; this is for autograd
                whole = whole.detach()
            single = whole
            if whole.dtype is not torch.float32:
                single = torch.empty_like(whole, dtype=torch.float32)
                operations(single.copy_, whole)
            exact, random = single.view(torch.int32), bits.clone()
            number = torch.empty_like(random)
            operations(number.copy_, exact)
            operations(number.bitwise_and_, 0x7FFFFFFF)
            operations(number.le_, INFINITY)
            operations(random.mul_, number)
            # Adding 16 random bits carries into the upper 16 as often as the lower 16 require. Infinities have none. A
            # NaN from arithmetic has a bit among the upper 16.
            operations(random.add_, exact)
            operations(random.bitwise_and_, -0x10000)
            rounded = random.view(torch.float32)
            if len(states) == 1:
                with torch.no_grad():
                    operations(states[0].detach().copy_, rounded)
            else:
                operations(whole.copy_, rounded)
                operations(torch._foreach_copy_, states, parts)


def _laid_out(
    flat: Tensor,  # (n,)
    like: Tensor,  # n entries
) -> Tensor:
    """Entries in the order of memory of ``like``, in its shape."""
    return flat.as_strided(like.shape, like.stride()) if is_dense(like) else flat.view(like.shape)
