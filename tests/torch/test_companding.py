"""Momentums of one byte: levels, no bias, the same bits on every path and when resumed, checkpoints, refusals."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inna.theory.monitor import EnergyMonitor
from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu
from inna.torch.steps.companding import BLOCK, MEAN_SQUARE, MOMENTUM, narrow, scales_like, widen
from inna.torch.steps.rounding import stream
from inna.torch.tensor_lists import Operations, Settings, TensorLists
from saving import MEANS, made_again

CODES = [MOMENTUM, MEAN_SQUARE]
needs_kernels = pytest.mark.skipif(bool(cpu.unavailable()), reason=cpu.unavailable())
INTERVALS = {MOMENTUM: 32, MEAN_SQUARE: 8}
PATHS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "single capturable": {"foreach": False, "capturable": True},
    "foreach capturable": {"foreach": True, "capturable": True},
    "fused": {"fused": True},
    "default": {},
    "compiled": {"foreach": True, "lr": torch.tensor(0.125)},
}


def coded(x: Tensor, dtype: torch.dtype, seed: int = 0, random: Tensor | None = None) -> tuple[Tensor, Tensor]:
    codes = torch.empty_like(x, dtype=dtype)
    scales = scales_like(codes)
    if random is None:
        generator = torch.Generator().manual_seed(seed)
        random = torch.randint(0, 2**16, (x.numel(),), generator=generator, dtype=torch.int32)
    operations = Operations()
    narrow(operations, x, random, codes, scales)
    operations.run()
    return codes, scales


def numbers(seed: int, size: int, exponent: int, spread: float, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator) * 10 ** (spread * torch.randn(size, generator=generator))
    x = x.mul(math.ldexp(1, exponent // 2)).mul(math.ldexp(1, exponent - exponent // 2))
    return x.abs() if dtype is MEAN_SQUARE else x


@pytest.mark.parametrize("dtype", CODES, ids=str)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([1, 5, 255, 256, 257, 600]),
    exponent=st.integers(-80, 80),
    spread=st.floats(0, 2),
)
def test_rounding_has_no_bias_and_takes_a_neighbouring_level(dtype, seed, size, exponent, spread):
    x = numbers(seed, size, exponent, spread, dtype)
    draws = 512
    whole = -(-size // BLOCK) * BLOCK
    padded = torch.zeros(whole)
    padded[:size] = x
    codes, scales = coded(padded.repeat(draws), dtype, seed)
    made = widen(codes, scales).view(draws, whole)[:, :size].double()
    unit = scales[: whole // BLOCK].double().repeat_interleave(BLOCK)[:size]
    # The exact neighbours, in units of the block: a power of two of intervals from 2 + |x| to its double.
    ratio = x.double().abs() / unit
    gap = (2 + ratio).log2().floor().exp2() / INTERVALS[dtype]
    low = ((2 + ratio) / gap).floor() * gap - 2
    low, high = low * unit, (low + gap) * unit
    slack = 1e-6 * x.double().abs() + unit * 2.0**-19  # float32 arithmetic
    assert ((made.abs() >= low - slack) & (made.abs() <= high + slack)).all()
    assert (made * x.double() >= 0).all()
    # Of N draws, the mean has a standard deviation of at most half a gap / sqrt(N).
    assert ((made.mean(0) - x.double()).abs() <= 7 * (high - low) / 2 / math.sqrt(draws) + slack).all()


@pytest.mark.parametrize("dtype", CODES, ids=str)
@given(seed=st.integers(0, 2**31), size=st.integers(0, 700), exponent=st.integers(-30, 30))
def test_the_largest_of_a_block_keeps_its_value_and_levels_stay(dtype, seed, size, exponent):
    x = numbers(seed, size, exponent, 0.5, dtype)
    codes, scales = coded(x, dtype, seed)
    once = widen(codes, scales)
    for part, whole in zip(once.split(BLOCK), x.split(BLOCK), strict=True):
        if part.numel():
            assert part.abs().max().item() == pytest.approx(whole.abs().max().item(), rel=1e-6)
    # Rounded again, levels stay but for float32 arithmetic: 1e-5 of them at most move to a neighbour.
    again, _ = coded(once, dtype, seed + 1)
    assert (again != codes).double().mean() <= 0.01 if size > 200 else (again != codes).sum() <= 1
    assert scales.shape == (-(-size // BLOCK),)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("bits", [0, 1, 2**16 - 1])
def test_the_largest_number_has_the_largest_code_whatever_the_random_bits(dtype, bits):
    generator = torch.Generator().manual_seed(bits)
    x = torch.rand(1000, BLOCK, generator=generator)
    x[:, 7] = 1 + torch.rand(1000, generator=generator)
    for exponent in (-60, 0, 126):
        codes, _ = coded(x * 2.0**exponent, dtype, random=torch.full((x.numel(),), bits, dtype=torch.int32))
        assert (codes[:, 7] == torch.iinfo(dtype).max).all()
        assert codes.min() >= 0


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_every_level_is_kept_whatever_the_random_bits(dtype):
    codes = torch.arange(torch.iinfo(dtype).max + 1).to(dtype)
    levels = widen(codes, torch.ones(1))
    # As far as float32 has them: the distance doubles after so many intervals.
    doubled = 2.0 ** (codes[:-1].int() // INTERVALS[dtype]) * 2 / INTERVALS[dtype]
    torch.testing.assert_close(levels.diff(), doubled, rtol=2e-6, atol=0)
    for bits in (0, 2**16 - 1):
        again, _ = coded(levels, dtype, random=torch.full((levels.numel(),), bits, dtype=torch.int32))
        assert torch.equal(again, codes)


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_zeros_the_smallest_numbers_and_every_shape(dtype):
    for shape in ((0,), (), (1,), (3, 0, 2), (2, 256), (4, 512), (5, 100), (2, 3, 4)):
        codes, scales = coded(torch.zeros(shape), dtype)
        assert codes.shape == shape
        assert not widen(codes, scales).any()
        assert math.prod(scales.shape) == -(-codes.numel() // BLOCK)
    assert scales_like(torch.zeros(6, 512, dtype=dtype)).shape == (6, 2)
    assert scales_like(torch.zeros(512, 6, dtype=dtype).T).shape == (12,)
    assert scales_like(torch.zeros(6, 500, dtype=dtype)).shape == (12,)
    tiny = torch.full((4096,), 2.0**-140)  # below the smallest scale, kept in the mean
    mean = widen(*coded(tiny, dtype)).double().mean().item()
    assert mean == pytest.approx(2.0**-140, rel=0.9)


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_makes_its_block_nan_and_no_other(dtype, bad):
    x = numbers(3, 3 * BLOCK, 0, 1, dtype)
    clean = widen(*coded(x, dtype))
    x[BLOCK + 7] = bad
    codes, scales = coded(x, dtype)
    made = widen(codes, scales)
    assert made[BLOCK : 2 * BLOCK].isnan().all()
    assert not codes[BLOCK : 2 * BLOCK].any()
    assert torch.equal(made[:BLOCK], clean[:BLOCK])
    assert torch.equal(made[2 * BLOCK :], clean[2 * BLOCK :])


SHAPES = [(64, 65), (4096,), (7,), (3, 5, 300), (300_001,), (8, 1024)]


def parameters(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    params = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
    params.append(torch.randn(90, 64, generator=generator).to(dtype).T)
    return [param.requires_grad_() for param in params]


def stepped(cls: Any, path: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    flags = {"lr": 0.125, "alpha": 0.5, "beta": 0.5, "weight_decay": 0.0, **PATHS[path], **settings}
    params = parameters(dtype)
    groups = [{"params": params[:3]}, {"params": params[3:], "rounding_seed": 2**32 - 1}]
    optimizer = cls(groups, momentum_bits=8, **flags)
    step = optimizer.step
    if path == "compiled":
        torch._dynamo.reset()
        step = torch.compile(step, backend="aot_eager")
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for param in params:
            # Multiples of 1/8: the first steps' sums are exact.
            g = torch.randint(-20, 20, param.shape, generator=generator).to(dtype) / 8
            param.grad = torch.empty_like(param).copy_(g)
        step()
    return [optimizer.state[param] for param in params]


def assert_alike(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]], share: float) -> None:
    """At most this share of codes differs, because of float32 arithmetic before it.

    By one when it is rounded, and one level of a number is two of the number half as large in the next step.
    """
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            if a[name].dtype in CODES:
                apart = (a[name].int() - b[name].int()).abs()
                assert apart.max() <= 2
                assert apart.double().mean() <= share, name
            else:
                torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-7)


@needs_kernels
@pytest.mark.parametrize("path", list(PATHS)[1:])
@pytest.mark.parametrize("cls", [INNA, INNAprop])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_all_paths_round_alike(path, cls):
    settings = {} if cls is INNA else {"sigma": 0.5}
    ours, theirs = stepped(cls, path, **settings), stepped(cls, "single", **settings)
    assert_alike(ours, theirs, 1e-3)
    large = [state for state, shape in zip(ours, [*SHAPES, (64, 90)], strict=True) if math.prod(shape) >= 4096]
    assert all(state["momentum"].dtype is MOMENTUM for state in large)
    assert len(large) == len(ours) - 1


@needs_kernels
@pytest.mark.parametrize("kahan", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_kernels_round_alike_whatever_the_dtype_of_the_parameters(dtype, kahan):
    pair = [stepped(INNA, path, dtype, kahan=kahan) for path in ("fused", "single")]
    for ours, theirs in zip(*pair, strict=True):
        if ours["momentum"].dtype is MOMENTUM:
            assert torch.equal(ours["momentum"], theirs["momentum"])
            torch.testing.assert_close(ours["momentum_scale"], theirs["momentum_scale"], rtol=1e-6, atol=0)


@needs_kernels
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_threads_and_instruction_sets_do_not_show(dtype, prop):
    def run(sizes: tuple[int, ...], threads: int, level: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(sum(sizes))
        lists = TensorLists()
        for i, size in enumerate(sizes):
            lists.params.append(torch.randn(size).to(dtype))
            lists.grads.append(torch.randn(size).to(dtype))
            lists.momentums.append(torch.randint(-127, 128, (size,), dtype=MOMENTUM))
            lists.momentum_scales.append(torch.rand(-(-size // BLOCK)) / 2**14)
            if prop:
                lists.exp_avg_sqs.append(torch.randint(0, 256, (size,), dtype=MEAN_SQUARE))
                lists.exp_avg_sq_scales.append(torch.rand(-(-size // BLOCK)) / 2**32)
            lists.steps.append(torch.zeros(()))
            lists.streams.append(stream(3, 1, i))
        table = cpu.Table(lists)
        table._level = level
        settings = Settings(0.1, 0.5, 0.3, 0.01, sigma=0.9 if prop else None, eps=1e-3)
        addresses = [grad.data_ptr() for grad in lists.grads]
        measured = table.measure(addresses, settings)
        for _ in range(2):
            table.launch(addresses, settings)
        state = [lists.params, lists.momentums, lists.momentum_scales, lists.exp_avg_sqs, lists.exp_avg_sq_scales]
        return [torch.tensor(measured), *(tensor for tensors in state for tensor in tensors)]

    before = torch.get_num_threads()
    try:
        for sizes in ((0, 1), (15, 257), (256, 33, 511), (100, 70_001), (513, 65_536, 300)):
            expected = run(sizes, 1, 0)
            for level in range(len(cpu.instruction_sets())):
                for threads in (1, 2, 3):
                    for ours, theirs in zip(run(sizes, threads, level), expected, strict=True):
                        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_infinities_and_nans_in_gradients_reach_the_state(cls):
    for path in ("single", "foreach", "fused"):
        theta = torch.zeros(5000, requires_grad=True)
        optimizer = cls([theta], momentum_bits=8, **PATHS[path])
        theta.grad = torch.ones_like(theta)
        theta.grad[300], theta.grad[4999] = math.inf, math.nan
        optimizer.step()
        bad = optimizer.momentum_of(theta).isnan()
        assert bad[256:512].all()
        assert bad[4864:].all()
        assert bad.sum() == 256 + 5000 - 4864
        assert not optimizer.state[theta]["momentum"][256:512].any()


@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_the_state_takes_one_byte_a_number_and_four_a_block(cls):
    param = torch.zeros(1000, 1000, requires_grad=True)
    optimizer = cls([param], momentum_bits=8)
    param.grad = torch.ones_like(param)
    optimizer.step()
    names = ("momentum", "exp_avg_sq")[: 1 if cls is INNA else 2]
    for name in names:
        taken = sum(optimizer.state_dict()["state"][0][key].nbytes for key in (name, f"{name}_scale"))
        assert taken <= 1.03 * param.numel()


def trained(optimizer: Any, seeds: range, loss: bool = False) -> list[Tensor]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step(**({"loss": 1.0} if loss else {}))
    state = [value for param in params for value in optimizer.state[param].values()]
    return [*(param.detach().clone() for param in params), *(value.clone() for value in state)]


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("path", ["single", "foreach", "fused"])
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_training_resumes_bit_for_bit(cls, path, means):
    def make(params: Any) -> Any:
        # Seed and bits come with the state dict.
        return cls(params, lr=0.01, **PATHS[path])

    params = [torch.ones(shape).requires_grad_() for shape in ((64, 65), (7,), (17, 256))]
    optimizer = cls(params, lr=0.01, momentum_bits=8, rounding_seed=11, **PATHS[path])
    trained(optimizer, range(3))
    again = made_again(optimizer, means, make)
    ours, theirs = (trained(each, range(3, 6)) for each in (optimizer, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_deepcopy_has_codes_of_its_own():
    optimizer = INNA([torch.ones(5000, requires_grad=True)], momentum_bits=8)
    trained(optimizer, range(2))
    twin = copy.deepcopy(optimizer)
    ours, theirs = (trained(each, range(2, 4)) for each in (optimizer, twin))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("seed", [0, 1])
def test_decays_are_kept_in_the_mean(seed):
    # 1 - alpha lr = 0.999: to nearest, every number but the largest of a block would stay for ever.
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros(5120, requires_grad=True)
    optimizer = INNA([theta], lr=0.01, alpha=0.1, beta=0.1, momentum_bits=8, rounding_seed=seed)
    first = torch.randn(theta.shape, generator=generator).abs()
    steps = 200
    for k in range(steps + 1):
        theta.grad = first if k == 0 else torch.zeros_like(theta)
        optimizer.step()
        if k == 0:
            start = optimizer.momentum_of(theta).double().mean()
    mean = optimizer.momentum_of(theta).double().mean()
    # Each step adds noise of at most half a gap, 1/127 of the block's largest number, to each entry.
    noise = math.sqrt(steps / theta.numel()) / 127 * first.max().item() / first.mean().item()
    assert abs(mean / (start * 0.999**steps) - 1) < 5 * noise


GUARDED = {"alpha": 0.5, "beta": 0.5, "loss_bound": 0.0}


@pytest.mark.parametrize("path", ["foreach", "foreach capturable", "default"])
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (INNA, GUARDED),
        (INNA, {**GUARDED, "initial_speed": 1.0, "weight_decay": 0.1, "maximize": True}),
        (INNA, {**GUARDED, "lr": 1.0, "time_step": 0.2, "initial_distance": 1e-3}),
        (INNAprop.lr_free, {}),
        (INNAprop.lr_free, {"slice_every": 11}),
    ],
    ids=["guarded", "initial speed", "INNA.lr_free", "INNAprop.lr_free", "sliced"],
)
def test_steps_that_find_their_own_length_round_alike(make, settings, path):
    def run(flags: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        params = [torch.randn(shape).requires_grad_() for shape in ((70, 64), (5,))]
        optimizer = make(params, momentum_bits=8, **settings, **flags)
        sign = -1 if settings.get("maximize") else 1
        for _ in range(4):
            optimizer.zero_grad()
            loss = sign * torch.stack([param.square().sum() for param in params]).sum()
            loss.backward()
            optimizer.step(**({"loss": loss} if make is INNA else {}))
        return [param.detach() for param in params], [optimizer.state[param] for param in params]

    ours, theirs = run(PATHS[path]), run(PATHS["single"])
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    momentums = [state[0]["momentum"] for _, state in (ours, theirs)]
    assert momentums[0].dtype is MOMENTUM
    assert (momentums[0] != momentums[1]).double().mean() < 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum_bits": 4}, "momentum_bits must be 8 or None, got 4"),
        ({"momentum_bits": 8.0}, "momentum_bits must be 8 or None, got 8.0"),
        ({"momentum_bits": True}, "momentum_bits must be 8 or None, got True"),
        ({"momentum_bits": "8"}, "momentum_bits must be 8 or None, got '8'"),
        ({"momentum_bits": 8, "momentum_dtype": torch.bfloat16}, "momentum_bits=8 and momentum_dtype=torch.bfloat16"),
        ({"momentum_bits": 8, "differentiable": True}, "momentum_bits=8 cannot be differentiated through"),
    ],
)
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_what_cannot_be_is_refused(cls, settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        cls([torch.zeros(1, requires_grad=True)], **settings)


def test_complex_parameters_are_refused_and_a_group_without_bits_takes_them():
    real, both = torch.zeros(4096, requires_grad=True), torch.zeros(4096, dtype=torch.complex64, requires_grad=True)
    for param in (real, both):
        param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match=r"^momentum_bits=8 needs real parameters, got one of shape \(4096,\)"):
        INNA([real, both], momentum_bits=8).step()
    optimizer = INNA([{"params": [real]}, {"params": [both], "momentum_bits": None}], momentum_bits=8)
    optimizer.step()
    assert [optimizer.state[param]["momentum"].dtype for param in (real, both)] == [MOMENTUM, torch.complex64]


def test_turning_it_off_keeps_the_numbers():
    param = torch.ones(5000, requires_grad=True)
    optimizer = INNAprop([param], momentum_bits=8)
    trained(optimizer, range(2))
    before = optimizer.momentum_of(param)
    optimizer.param_groups[0]["momentum_bits"] = None
    optimizer.param_groups[0]["lr"] = 0.0
    trained(optimizer, range(2, 3))
    assert torch.equal(optimizer.state[param]["momentum"], before)
    assert optimizer.state[param].keys() == {"step", "momentum", "exp_avg_sq"}


def test_a_wide_checkpoint_stays_wide_and_damaged_scales_are_refused():
    param = torch.ones(64, 65, requires_grad=True)
    wide = INNA([param])
    trained(wide, range(2))
    loaded = INNA([param], momentum_bits=8)
    loaded.load_state_dict(wide.state_dict())
    trained(loaded, range(2, 3))
    assert loaded.state[param]["momentum"].dtype is torch.float32
    optimizer = INNA([param], momentum_bits=8)
    trained(optimizer, range(2))
    for change, message in (
        ({"momentum_scale": torch.zeros(3)}, "momentum_scale is a tensor of shape"),
        ({"momentum_scale": None}, "momentum_scale must be a tensor"),
        ({"momentum": torch.zeros(64, 65)}, "there is momentum_scale, but momentum is"),
        ({"momentum": torch.zeros(4096, dtype=torch.int8), "momentum_scale": torch.zeros(16)}, "momentum has shape"),
    ):
        damaged = optimizer.state_dict()
        damaged["state"][0] = damaged["state"][0] | change
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(damaged)
    damaged = optimizer.state_dict()
    damaged["state"][0] = {key: value for key, value in damaged["state"][0].items() if key != "momentum_scale"}
    with pytest.raises(ValueError, match=r"momentum has dtype torch\.int8"):
        optimizer.load_state_dict(damaged)


def test_a_checkpoint_loads_into_parameters_laid_out_otherwise():
    param = torch.randn(64, 65).requires_grad_()
    optimizer = INNA([param], momentum_bits=8)
    trained(optimizer, range(2))
    other = torch.empty(65, 64).T.requires_grad_()
    loaded = INNA([other])
    loaded.load_state_dict(optimizer.state_dict())
    assert torch.equal(loaded.momentum_of(other), optimizer.momentum_of(param))
    trained(loaded, range(2, 3))


def test_the_energy_is_taken_of_the_numbers():
    kinetic = []
    for bits in (None, 8):
        torch.manual_seed(0)
        param = torch.randn(80, 64).requires_grad_()
        optimizer = INNA([param], momentum_bits=bits)
        trained(optimizer, range(2))
        kinetic.append(EnergyMonitor(optimizer)(1.0).kinetic)
    assert kinetic[1] == pytest.approx(kinetic[0], rel=1e-2)
