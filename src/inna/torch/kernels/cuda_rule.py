"""The rule on blocks of numbers, in Triton.

`inna.dynamics` has the equations. A program steps, or measures, one block of one tensor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from inna.torch.steps import companding
from inna.torch.steps.rounding import MIX

__all__ = ["measure", "step"]

# Numbers in a row of the table: the addresses of theta, momentum, mean square and compensation; the size, the index of
# the parameter, the address of its step count, where its random bits come from, the address of theta_0, and the
# addresses of the scales of the momentum and of the mean square.
ROW = tl.constexpr(11)
# Numbers with one scale, the smallest scale, and the rule of codes.
CODED = tl.constexpr(companding.BLOCK)
TINY = tl.constexpr(companding.TINY)
BITS_OF_TWO = tl.constexpr(companding.BITS_OF_TWO)
CODE_SHIFT, SQUARE_SHIFT = map(tl.constexpr, companding.SHIFT.values())
CODE_SHARE, SQUARE_SHARE = (tl.constexpr(1 / largest) for largest in companding.LARGEST.values())
SHIFT, FACTOR, SECOND_SHIFT, SECOND_FACTOR, LAST_SHIFT = map(tl.constexpr, MIX)


@triton.jit
def step(
    rows,
    grads,
    counts,
    unbiases,
    numbers,
    lr_at,
    alpha_at,
    beta_at,
    h_at,
    rate_at,
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
    TIME_STEP_ON_DEVICE: tl.constexpr,
    DECAY_LR_ON_DEVICE: tl.constexpr,
    TIME_STEP: tl.constexpr,
    DECAY_LR: tl.constexpr,
    SCALED: tl.constexpr,
    CHECKED: tl.constexpr,
    PROP: tl.constexpr,
    SPEED: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Step a block, unless lr is 0 or GradScaler forbids it."""
    program = tl.program_id(0)
    row = tl.load(owners + program)
    start = tl.load(blocks + program).to(tl.int64) * BLOCK
    at = rows + row * ROW
    size = tl.load(at + 4)
    index = tl.load(at + 5)
    # Coefficients in float64: there are few, and 1 - alpha lr cancels.
    lr = tl.load(lr_at).to(tl.float64) if LR_ON_DEVICE else tl.load(numbers)
    alpha = tl.load(alpha_at).to(tl.float64) if ALPHA_ON_DEVICE else tl.load(numbers + 1)
    beta = tl.load(beta_at).to(tl.float64) if BETA_ON_DEVICE else tl.load(numbers + 2)
    h, rate = lr, lr
    if TIME_STEP:
        h = tl.load(h_at) if TIME_STEP_ON_DEVICE else tl.load(numbers + 7)
    if DECAY_LR:
        rate = tl.load(rate_at) if DECAY_LR_ON_DEVICE else tl.load(numbers + 8)
    # The guard's lr may be 0 where the memory moves. If both are numbers, the host has decided.
    moves = True
    if TIME_STEP_ON_DEVICE:
        moves = h != 0
    elif LR_ON_DEVICE or not TIME_STEP:
        moves = lr != 0
    finite = tl.load(inf_at) == 0 if CHECKED else True
    if SCALED:  # noqa: SIM102 - a constant, decided while compiling
        if (not moves) & finite:
            grad = tl.load(grads + index).to(tl.pointer_type(THETA))
            offsets = start + tl.arange(0, BLOCK)
            g = tl.load(grad + offsets, mask=offsets < size).to(REAL)
            g = g * (1 / tl.load(scale_at).to(tl.float64)).to(REAL)
            tl.store(grad + offsets, g.to(THETA), mask=offsets < size)
    if moves & finite:
        theta = tl.load(at).to(tl.pointer_type(THETA))
        momentum = tl.load(at + 1).to(tl.pointer_type(MOMENTUM))
        square = tl.load(at + 2).to(tl.pointer_type(tl.uint8 if tl.int8 == MOMENTUM else MOMENTUM))
        scales = tl.load(at + 9).to(tl.pointer_type(tl.float32))
        square_scales = tl.load(at + 10).to(tl.pointer_type(tl.float32))
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
        count = tl.load(counts + index) if SPEED or STOCHASTIC else lr
        first = count == 1 if SPEED else False
        key = _mix((tl.load(at + 7) + count.to(tl.int64)).to(tl.uint32)) if STOCHASTIC else index
        unbias = tl.load(unbiases + index) if PROP else lr
        sigma = tl.load(numbers + 5)
        eps = tl.load(numbers + 6)
        scale = tl.load(scale_at).to(tl.float64) if SCALED else lr
        # Whole blocks need no mask; without one, loads are as wide as the device allows.
        if start + BLOCK <= size:
            _block(
                theta, grad, momentum, square, scales, square_scales, held, offsets, start, size, lr, h, rate, alpha,
                beta, decay, speed_up, first, unbias, sigma, eps, scale, key, THETA, MOMENTUM, REAL, KAHAN, SCALED,
                PROP, SPEED, DECAY, DECOUPLED, DECAY_LR, MAXIMIZE, STOCHASTIC, False, BLOCK,
            )  # fmt: skip
        else:
            _block(
                theta, grad, momentum, square, scales, square_scales, held, offsets, start, size, lr, h, rate, alpha,
                beta, decay, speed_up, first, unbias, sigma, eps, scale, key, THETA, MOMENTUM, REAL, KAHAN, SCALED,
                PROP, SPEED, DECAY, DECOUPLED, DECAY_LR, MAXIMIZE, STOCHASTIC, True, BLOCK,
            )  # fmt: skip


@triton.jit
def _block(
    theta,
    grad,
    momentum,
    square,
    scales,
    square_scales,
    held,
    offsets,
    start,
    size,
    lr,
    h,
    rate,
    alpha,
    beta,
    decay,
    speed_up,
    first,
    unbias,
    sigma,
    eps,
    scale,
    key,
    THETA: tl.constexpr,
    MOMENTUM: tl.constexpr,
    REAL: tl.constexpr,
    KAHAN: tl.constexpr,
    SCALED: tl.constexpr,
    PROP: tl.constexpr,
    SPEED: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
    DECAY_LR: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    mask = offsets < size if MASKED else None
    x = tl.load(theta + offsets, mask=mask).to(REAL)
    g = tl.load(grad + offsets, mask=mask).to(REAL)
    m = _numbers(momentum, scales, offsets, mask, MOMENTUM, False).to(REAL)
    if SCALED:
        g = (g * (1 / scale).to(REAL)).to(THETA)
        tl.store(grad + offsets, g, mask=mask)
        g = g.to(REAL)
    if MAXIMIZE:
        g = -g
    random = _random(offsets, key) if STOCHASTIC else offsets
    if PROP:
        v = _numbers(square, square_scales, offsets, mask, MOMENTUM, True).to(REAL)
        v = sigma.to(REAL) * v + (1 - sigma).to(REAL) * (g * g)
        if tl.int8 == MOMENTUM:
            _encode(v, random, square, square_scales, offsets, start, size, mask, True, MASKED, BLOCK)
        else:
            tl.store(square + offsets, _rounded(v, random, MOMENTUM, STOCHASTIC), mask=mask)
        if DECAY and not DECAY_LR:  # with it, the decay does not change the momentum
            m = m + (lr * decay * (1 / beta - alpha)).to(REAL) * x
        g = g / (tl.sqrt(unbias.to(REAL) * v) + eps.to(REAL))
    elif DECAY and not DECOUPLED:
        g = g + decay.to(REAL) * x
    if SPEED:
        m = tl.where(first, m + speed_up.to(REAL) * g, m)
    new = (1 - alpha * h).to(REAL) * m + (h * (1 - alpha * beta)).to(REAL) * g
    if tl.int8 == MOMENTUM:
        _encode(new, random, momentum, scales, offsets, start, size, mask, False, MASKED, BLOCK)
    else:
        tl.store(momentum + offsets, _rounded(new, random, MOMENTUM, STOCHASTIC), mask=mask)
    move = lr.to(REAL) * (m + beta.to(REAL) * g)
    if DECAY and (PROP or DECOUPLED):
        move = move + (rate * decay).to(REAL) * x
    if KAHAN:
        # The rounding error of this step is added to the next one.
        change = tl.load(held + offsets, mask=mask).to(REAL) - move
        total = (x + change).to(THETA)
        tl.store(theta + offsets, total, mask=mask)
        tl.store(held + offsets, (change + (x - total.to(REAL))).to(THETA), mask=mask)
    else:
        tl.store(theta + offsets, (x - move).to(THETA), mask=mask)


@triton.jit
def _mix(x):
    """`inna.torch.steps.rounding.mix` of uint32."""
    x = (x ^ (x >> SHIFT)) * FACTOR
    x = (x ^ (x >> SECOND_SHIFT)) * SECOND_FACTOR
    return x ^ (x >> LAST_SHIFT)


@triton.jit
def _random(offsets, key):
    """The random bits of numbers, 16 each.

    Those of `inna.torch.steps.rounding.random_bits`.
    """
    hashes = _mix(((offsets >> 5) * 16 + (offsets & 15)).to(tl.uint32) + key)
    return tl.where((offsets & 16) != 0, hashes & 0xFFFF, hashes >> 16)


@triton.jit
def _level(code, SQUARE: tl.constexpr):
    """The number of a code in units of its scale."""
    code = code.to(tl.int32)
    bits = (tl.abs(code) << (SQUARE_SHIFT if SQUARE else CODE_SHIFT)) + BITS_OF_TWO
    level = bits.to(tl.float32, bitcast=True) - 2.0
    return tl.where(code < 0, -level, level)


@triton.jit
def _numbers(state, scales, offsets, mask, MOMENTUM: tl.constexpr, SQUARE: tl.constexpr):
    """Load a momentum or a mean square."""
    x = tl.load(state + offsets, mask=mask)
    if tl.int8 == MOMENTUM:
        x = _level(x, SQUARE) * tl.load(scales + offsets // CODED, mask=mask)
    return x


@triton.jit
def _encode(
    x,
    random,
    codes,
    scales,
    offsets,
    start,
    size,
    mask,
    SQUARE: tl.constexpr,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Round numbers to codes of one byte and their scales.

    As `inna.torch.steps.companding.narrow`.
    """
    n_rows: tl.constexpr = BLOCK // CODED
    shift: tl.constexpr = SQUARE_SHIFT if SQUARE else CODE_SHIFT
    share: tl.constexpr = SQUARE_SHARE if SQUARE else CODE_SHARE
    bits = x.to(tl.float32).to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    if MASKED:
        magnitude = tl.where(mask, magnitude, 0)
    rows = tl.reshape(magnitude, [n_rows, CODED])
    peak = tl.max(rows, 1)
    finite = peak < 0x7F800000
    scale = tl.maximum(peak.to(tl.float32, bitcast=True) * share, TINY)
    inverse = tl.div_rn(tl.full([n_rows], 1.0, tl.float32), tl.where(finite, scale, 1.0))
    blocks = tl.arange(0, n_rows)
    tl.store(
        scales + start // CODED + blocks, tl.where(finite, scale, float("nan")), mask=start + blocks * CODED < size
    )
    units = rows.to(tl.float32, bitcast=True) * inverse[:, None]
    units = tl.reshape(tl.where(finite[:, None], units, 0.0), [BLOCK])
    up = ((random.to(tl.int32) << 1) + 1) << (shift - 17)
    code = ((units + 2.0).to(tl.int32, bitcast=True) + up - BITS_OF_TWO) >> shift
    code = tl.where(bits < 0, -code, code)
    tl.store(codes + offsets, code.to(tl.uint8 if SQUARE else tl.int8), mask=mask)


@triton.jit
def _rounded(x, random, MOMENTUM: tl.constexpr, STOCHASTIC: tl.constexpr):
    """Round to the dtype of the momentum, by 16 random bits or to nearest."""
    if STOCHASTIC:
        x = x.to(tl.float32)
        bits = (x.to(tl.uint32, bitcast=True) + random) & 0xFFFF0000
        x = tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    return x.to(MOMENTUM)


@triton.jit
def measure(
    rows,
    grads,
    numbers,
    beta_at,
    scale_at,
    owners,
    blocks,
    parts,
    columns,
    first_column,
    THETA: tl.constexpr,
    MOMENTUM: tl.constexpr,
    REAL: tl.constexpr,
    KAHAN: tl.constexpr,
    FAR: tl.constexpr,
    BETA_ON_DEVICE: tl.constexpr,
    SCALED: tl.constexpr,
    SPEED: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
    MAXIMIZE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write a block's part of `inna.torch.measures.guard.Products`.

    With ``FAR`` those of the distance, too.
    """
    program = tl.program_id(0)
    row = tl.load(owners + program)
    offsets = tl.load(blocks + program).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at = rows + row * ROW
    size = tl.load(at + 4)
    index = tl.load(at + 5)
    beta = tl.load(beta_at).to(tl.float64) if BETA_ON_DEVICE else tl.load(numbers + 2)
    theta = tl.load(at).to(tl.pointer_type(THETA))
    momentum = tl.load(at + 1).to(tl.pointer_type(MOMENTUM))
    held = tl.load(at + 3).to(tl.pointer_type(THETA))
    grad = tl.load(grads + index).to(tl.pointer_type(THETA))
    start = tl.load(at + 8).to(tl.pointer_type(THETA))
    if ALIGNED:
        theta = tl.multiple_of(theta, 16)
        momentum = tl.multiple_of(momentum, 16)
        held = tl.multiple_of(held, 16)
        grad = tl.multiple_of(grad, 16)
        start = tl.multiple_of(start, 16)
    mask = offsets < size
    g = tl.load(grad + offsets, mask=mask, other=0.0).to(REAL)
    m = tl.load(momentum + offsets, mask=mask, other=0)
    if tl.int8 == MOMENTUM:
        scales = tl.load(at + 9).to(tl.pointer_type(tl.float32))
        m = _level(m, False) * tl.load(scales + offsets // CODED, mask=mask, other=0.0)
    m = m.to(REAL)
    if SCALED:
        g = (g * (1 / tl.load(scale_at).to(tl.float64)).to(REAL)).to(THETA).to(REAL)
    if MAXIMIZE:
        g = -g
    x = g
    if DECAY or FAR:
        x = tl.load(theta + offsets, mask=mask, other=0.0).to(REAL)
        if KAHAN:
            x = x + tl.load(held + offsets, mask=mask, other=0.0).to(REAL)
    if DECAY and not DECOUPLED:
        g = g + tl.load(numbers + 3).to(REAL) * x
    if SPEED:
        first = tl.load(tl.load(at + 6).to(tl.pointer_type(tl.float32))) == 0
        m = tl.where(first, m + (tl.load(numbers + 4) - beta).to(REAL) * g, m)
    u = m + beta.to(REAL) * g
    wide_u = u.to(tl.float64)
    wide_g = g.to(tl.float64)
    to = parts + first_column + program
    tl.store(to, tl.sum(wide_u * wide_u))
    tl.store(to + columns, tl.sum(wide_g * wide_u))
    if DECAY:
        wide_x = x.to(tl.float64)
        tl.store(to + 2 * columns, tl.sum(wide_u * wide_x))
        tl.store(to + 3 * columns, tl.sum(wide_g * wide_x))
        tl.store(to + 4 * columns, tl.sum(wide_x * wide_x))
    if FAR:
        apart = (x - tl.load(start + offsets, mask=mask, other=0.0).to(REAL)).to(tl.float64)
        tl.store(to + 5 * columns, tl.sum(wide_g * wide_g))
        tl.store(to + 6 * columns, tl.sum(apart * apart))
