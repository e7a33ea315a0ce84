"""Numbers of one byte: codes with a scale for each block of 256.

Levels are denser towards 0: the distance of neighbours doubles with 2 + |x|/s. The magnitude of a code is that part of
the bits of 2 + |x|/s in float32 that begins with the lower bits of the exponent, 2 in a momentum and 5 in a mean
square, and ends with the fraction's first bits, 5 and 3. So it takes no roots. The scale s of a block is such that its
largest magnitude has the largest code. A number becomes one of the two nearest levels, the nearer one more often, so
that its mean is the number itself, to 2^-17 of their distance.

The step of such a tensor is taken on its numbers in float32, which are then rounded by 16 random bits each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inna.torch.shards import is_dtensor, to_local
from inna.torch.tensor_lists import Operations, is_dense

__all__ = ["BLOCK", "MEAN_SQUARE", "MOMENTUM", "fits", "narrow", "scale_shape", "scales_like", "widen"]

BLOCK = 256
"""Numbers with one scale: those of a tensor in the order of memory."""
SMALLEST = 4096
"""Parameters with fewer numbers keep their state in more bytes, so that their shards need not be whole blocks."""
MOMENTUM, MEAN_SQUARE = torch.int8, torch.uint8
"""The dtypes of the codes."""
# The first bit of float32 that belongs to a code, and the largest level in units of the scale.
SHIFT = {MOMENTUM: 18, MEAN_SQUARE: 20}
LARGEST = {MOMENTUM: 2.0**4 * 63 / 32 - 2, MEAN_SQUARE: 2.0**32 * 15 / 8 - 2}
BITS_OF_TWO = 0x40000000
# The smallest scale: neither 1 over it nor the smallest level, 1/16 of it, is subnormal.
TINY = 2.0**-122


def fits(param: Tensor) -> bool:
    """Return whether the state of a parameter is large enough for codes."""
    return param.numel() >= SMALLEST


def scale_shape(codes: Tensor) -> tuple[int, ...]:
    """The shape of the scales: with rows where rows are whole blocks.

    They are sharded as the codes then.
    """
    size = codes.numel()
    rows = codes.shape[0] if codes.dim() > 1 and codes.is_contiguous() else 0
    if rows and size and size // rows % BLOCK == 0:
        return rows, size // rows // BLOCK
    return (-(-size // BLOCK),)


def scales_like(codes: Tensor) -> Tensor:
    """Scales of 0 for codes; sharded if they are.

    Raises:
        ValueError: a shard of the codes is not in whole blocks.
    """
    shape = scale_shape(codes)
    if not is_dtensor(codes):
        return torch.zeros(shape, dtype=torch.float32, device=codes.device)
    from torch.distributed.tensor import zeros

    sharded: Any = codes
    shards: dict[int, int] = {}  # dimension -> number of parts
    for dimension, placement in enumerate(sharded.placements):
        if not placement.is_replicate():
            at = getattr(placement, "dim", -1) if placement.is_shard() else -1
            shards[at] = shards.get(at, 1) * sharded.device_mesh.size(dimension)
    size, by_rows = codes.numel(), len(shape) == 2
    row = size // codes.shape[0] if codes.dim() else 1
    whole = not shards
    if shards.keys() == {0}:
        whole = by_rows or (codes.shape[0] % shards[0] == 0 and size // shards[0] % BLOCK == 0)
    elif by_rows and codes.shape[1] % shards.get(1, 1) == 0:
        whole = shards.keys() <= {0, 1} and row // shards.get(1, 1) % BLOCK == 0
    if not whole or not codes.is_contiguous():
        raise ValueError(
            f"momentum_bits=8 needs shards of whole blocks of {BLOCK} numbers, got a parameter of shape "
            f"{tuple(codes.shape)} placed as {sharded.placements} on {sharded.device_mesh.size()} processes; give its "
            "group momentum_bits=None"
        )
    scales: Tensor = zeros(*shape, dtype=torch.float32, device_mesh=sharded.device_mesh, placements=sharded.placements)
    return scales


def widen(
    codes: Tensor,  # any shape
    scales: Tensor,
) -> Tensor:
    """The numbers of codes in float32, laid out as they are."""
    flat = _flat(codes).to(torch.int32)
    levels = (flat.abs() * 2 ** SHIFT[codes.dtype] + BITS_OF_TWO).view(torch.float32) - 2.0
    each = scales.reshape(-1, 1).expand(-1, BLOCK).reshape(-1)[: levels.numel()]
    numbers = torch.where(flat < 0, -levels, levels) * each
    return numbers.as_strided(codes.shape, codes.stride()) if is_dense(codes) else numbers.view(codes.shape)


def narrow(
    operations: Operations,
    numbers: Tensor,  # any shape
    random: Tensor,  # (n,)
    codes: Tensor,  # as numbers
    scales: Tensor,
) -> None:
    """Collect the operations that round numbers into codes and scales.

    A block with a number that is not finite becomes NaN as a whole.

    Args:
        operations: takes the operations.
        numbers: in float32 or float64.
        random: from 0 to 2^16 - 1, int32.
        codes, scales: take the result.
    """
    size, shift = codes.numel(), SHIFT[codes.dtype]
    blocks = -(-size // BLOCK)
    units = torch.empty(blocks * BLOCK, dtype=torch.float32, device=codes.device)
    bits = torch.empty_like(units, dtype=torch.int32)
    peak, scale, inverse = (torch.empty(blocks, dtype=torch.float32, device=codes.device) for _ in range(3))
    given = _flat(numbers)
    operations(units[size:].zero_)
    operations(units[:size].copy_, given)
    operations(units.abs_)
    in_blocks = units.view(blocks, BLOCK)
    operations(torch.amax, in_blocks, 1, out=peak)
    operations(torch.mul, peak, 1 / LARGEST[codes.dtype], out=scale)
    operations(scale.clamp_, min=TINY)
    operations(peak.mul_, 0.0)  # an infinity or a NaN becomes NaN
    operations(scale.add_, peak)
    operations(torch.reciprocal, scale, out=inverse)
    operations(inverse.nan_to_num_, 0.0)
    operations(in_blocks.mul_, inverse.view(blocks, 1))
    operations(units.nan_to_num_, 0.0)
    operations(units.add_, 2.0)
    operations(bits.copy_, units.view(torch.int32))
    operations(bits.add_, 2 ** (shift - 17))  # so that errors of float32 move no level
    operations(bits[:size].add_, random, alpha=2 ** (shift - 16))
    operations(bits.bitwise_right_shift_, shift)
    operations(bits.sub_, BITS_OF_TWO >> shift)
    # With the sign of the numbers.
    operations(units.copy_, bits)
    signed = torch.empty_like(units[:size])
    operations(signed.copy_, given)
    operations(torch.copysign, units[:size], signed, out=signed)
    operations(_flat(codes).copy_, signed)
    operations(scales.view(-1).copy_, scale)


def _flat(tensor: Tensor) -> Tensor:
    """The entries in the order of memory, (n,)."""
    return tensor.as_strided((tensor.numel(),), (1,)) if is_dense(tensor) else tensor.reshape(-1)


def dequantized(codes: Tensor, scales: Tensor) -> Tensor:
    """The numbers of codes in float32; a DTensor if the codes are."""
    if not is_dtensor(codes):
        return widen(codes, scales)
    result = torch.zeros_like(codes, dtype=torch.float32)
    to_local(result).copy_(widen(to_local(codes), to_local(scales)))
    return result
