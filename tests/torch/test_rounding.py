"""Stochastic rounding of the momentum: no bias, exact numbers stay, the same bits on every path and when resumed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu
from inna.torch.steps.rounding import Widened, mix, random_bits, stream
from inna.torch.tensor_lists import Operations, Settings, TensorLists
from saving import MEANS, made_again

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(bool(cpu.unavailable()), reason=cpu.unavailable())
LARGEST = torch.finfo(torch.bfloat16).max


def rounded(x: Tensor, counts: list[float], number: int = 5) -> Tensor:
    """``x`` rounded at each of these steps, (steps, n)."""
    momentums = [torch.zeros_like(x, dtype=torch.bfloat16) for _ in counts]
    every = [x] * len(counts)
    widened = Widened(TensorLists(every, every, momentums, streams=[number] * len(counts)), counts)
    for wide in widened.lists.momentums:
        wide.copy_(x)
    operations = Operations()
    widened.store(operations)
    operations.run()
    return torch.stack(momentums)


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest bfloat16 number towards zero, and the next one away from it, in float64."""
    bits = x.view(torch.int32) & -0x10000
    return bits.view(torch.float32).double(), (bits + 0x10000).view(torch.float32).double()


def test_the_random_bits_are_those_of_the_hash():
    def expected(key: int, begin: int, size: int) -> list[int]:
        made = []
        for i in range(begin, begin + size):
            hashed = mix(key + i // 32 * 16 + i % 16)
            made.append(hashed % 2**16 if i % 32 >= 16 else hashed >> 16)
        return made

    every = expected(mix(5 + 3), 0, 40) + expected(mix(7 + 2**24), 2**33 - 32, 70) + expected(mix(9), 0, 1)
    for counts in ([3.0, 2.0**24, 0.0], [torch.tensor(3.0), torch.tensor(2.0**24), torch.tensor(0.0)]):
        bits = random_bits([5, 7, 9], counts, [0, 2**33 - 32, 0], [40, 70, 1], CPU)
        assert bits.tolist() == every
        assert random_bits([7], counts[1:2], [2**33 - 32], [70], CPU).tolist() == every[40:110]
    assert len({mix(x) for x in range(2**16)}) == 2**16


def test_the_random_bits_are_uniform_and_uncorrelated():
    n, steps = 4096, 256
    bits = random_bits([stream(0, 0, 0)] * steps, [float(k + 1) for k in range(steps)], [0] * steps, [n] * steps, CPU)
    u = (bits.double() / 2**16 - 0.5).view(steps, n) * math.sqrt(12)
    total = n * steps
    assert abs(u.mean()) < 5 / math.sqrt(total)
    assert abs(u.square().mean() - 1) < 5 * math.sqrt(0.8 / total)
    lines = u.view(steps, n // 32, 2, 16)  # both halves of a hash
    for a, b in ((u[:, 1:], u[:, :-1]), (u[1:], u[:-1]), (u[1:, 1:], u[:-1, :-1]), (lines[:, :, 0], lines[:, :, 1])):
        assert abs((a * b).mean()) < 5 / math.sqrt(a.numel())


@given(
    seed=st.integers(0, 2**31),
    exponent=st.integers(-140, 126),
    number=st.integers(0, 2**32 - 1),
    first=st.integers(0, 2**23),
)
def test_rounding_has_no_bias(seed, exponent, number, first):
    # Of N steps, the mean of an entry has a standard deviation of at most half a gap / sqrt(N): seven of them here.
    generator = torch.Generator().manual_seed(seed)
    x = (
        torch.randn(64, generator=generator)
        .mul(math.ldexp(1, exponent // 2))
        .mul(math.ldexp(1, exponent - exponent // 2))
    )
    steps = 512
    made = rounded(x, [float(first + k + 1) for k in range(steps)], number).double()
    below, above = neighbours(x)
    assert ((made == below) | (made == above) | (made == x.double())).all()
    gap = (above - below).abs()
    finite = above.isfinite()
    assert ((made.mean(0) - x.double()).abs() <= 7 * gap / 2 / math.sqrt(steps))[finite].all()


def test_numbers_of_bfloat16_and_special_values_stay():
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    made = rounded(every.float(), [1.0, 2.0, 77.0])
    for row in made:
        assert torch.equal(row.isnan(), every.isnan())
        assert torch.equal(row.view(torch.int16)[~every.isnan()], every.view(torch.int16)[~every.isnan()])
    # A carry would turn the second into -0, the third into 0.
    nans = torch.tensor([0x7FC00000, 0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    assert rounded(nans, [1.0, 2.0]).isnan().all()


def test_numbers_beyond_the_largest_become_it_or_infinite_as_often_as_they_are_near():
    top = torch.tensor([0x7F7FC000], dtype=torch.int32).view(torch.float32)  # 3/4 of the way to 2^128
    made = rounded(torch.cat([top, -top]), [float(k) for k in range(1, 4097)])
    assert set(made.abs().flatten().tolist()) == {LARGEST, math.inf}
    assert (made.isinf().double().mean(0) - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 4096)


def test_numbers_in_float64_are_rounded_too():
    x = torch.linspace(-3, 3, 1001, dtype=torch.float64)
    made = rounded(x, [float(k) for k in range(1, 513)]).double()
    gap = 2.0 ** (torch.frexp(x.abs().clamp(min=1e-9))[1].double() - 8)
    assert ((made.mean(0) - x).abs() <= 7 * gap / 2 / math.sqrt(512)).all()


PATHS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "single capturable": {"foreach": False, "capturable": True},
    "foreach capturable": {"foreach": True, "capturable": True},
    "differentiable": {"differentiable": True},
    "fused": {"fused": True},
    "compiled": {"foreach": True, "lr": torch.tensor(0.125)},
    "compiled fused": {"lr": torch.tensor(0.125)},
}
SHAPES = [(3, 4), (), (65,), (2, 3, 5), (300_000,)]


def stepped(
    cls: Any, path: str, dtype: torch.dtype = torch.float32, steps: int = 3, **settings: Any
) -> list[dict[str, Tensor]]:
    """The state after steps with gradients that are multiples of 1/8, so that float32 holds every number exactly."""
    generator = torch.Generator().manual_seed(0)
    flags = {"lr": 0.125, "alpha": 0.5, "beta": 0.5, "weight_decay": 0.0, **PATHS[path], **settings}
    params = [torch.zeros(shape, dtype=dtype) for shape in SHAPES]
    params.append(torch.zeros(4, 6, dtype=dtype).T)
    params = [param.requires_grad_(path != "differentiable") for param in params]
    half = len(params) // 2
    groups = [{"params": params[:half]}, {"params": params[half:], "rounding_seed": 2**32 - 1}]
    optimizer = cls(groups, momentum_dtype=torch.bfloat16, **flags)
    step = optimizer.step
    if path.startswith("compiled"):
        torch._dynamo.reset()
        step = torch.compile(step, backend="aot_eager")
    for _ in range(steps):
        for param in params:
            g = torch.randint(-20, 20, param.shape, generator=generator).to(dtype) / 8
            param.grad = torch.empty_like(param).copy_(g)
        step()
    return [optimizer.state[param] for param in params]


@needs_kernels
@pytest.mark.parametrize("path", list(PATHS)[1:])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_all_paths_round_alike_bit_for_bit(path):
    for ours, theirs in zip(stepped(INNA, path), stepped(INNA, "single"), strict=True):
        assert ours["momentum"].dtype == torch.bfloat16
        assert torch.equal(ours["momentum"], theirs["momentum"])
        assert ours["step"].item() == theirs["step"].item() == 3
    # sigma = 1/2: the mean square is exact, the rescaled gradient is not.
    for ours, theirs in zip(stepped(INNAprop, path, sigma=0.5), stepped(INNAprop, "single", sigma=0.5), strict=True):
        assert torch.equal(ours["exp_avg_sq"], theirs["exp_avg_sq"])
        assert (ours["momentum"] != theirs["momentum"]).double().mean() < 0.01


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_kernels_round_alike_whatever_the_dtype_of_the_parameters(dtype):
    for kahan in (False, True):
        pair = (stepped(INNA, path, dtype, kahan=kahan) for path in ("single", "fused"))
        for ours, theirs in zip(*pair, strict=True):
            assert torch.equal(ours["momentum"], theirs["momentum"])


@needs_kernels
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_threads_and_instruction_sets_do_not_show(dtype, prop):
    def run(size: int, threads: int, level: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(size)
        theta, g = (torch.randn(size).to(dtype) for _ in range(2))
        m, v = torch.randn(size).bfloat16(), torch.rand(size).bfloat16()
        lists = TensorLists([theta], [g], [m], [v] if prop else [], [None], [torch.zeros(())], [stream(3, 1, 4)])
        table = cpu.Table(lists)
        table._level = level
        for _ in range(2):
            table.launch([g.data_ptr()], Settings(0.1, 0.5, 0.3, 0.01, sigma=0.9 if prop else None, eps=1e-3))
        return [theta, m, v]

    before = torch.get_num_threads()
    try:
        for size in (0, 1, 15, 31, 33, 511, 513, 70_001):
            expected = run(size, 1, 0)
            for level in range(len(cpu.instruction_sets())):
                for threads in (1, 2, 3):
                    for ours, theirs in zip(run(size, threads, level), expected, strict=True):
                        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_infinities_and_nans_in_gradients_reach_the_state(cls):
    for path in ("single", "foreach", "fused"):
        theta = torch.nn.Parameter(torch.zeros(4))
        optimizer = cls([theta], momentum_dtype=torch.bfloat16, **PATHS[path])
        theta.grad = torch.tensor([math.inf, -math.inf, math.nan, 1.0])
        optimizer.step()
        momentum = optimizer.state[theta]["momentum"]
        if cls is INNA:
            assert momentum[:2].tolist() == [math.inf, -math.inf]
        assert momentum[2].isnan()
        assert momentum[3].isfinite()


def trained(optimizer: Any, seeds: range) -> list[Tensor]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()
    return [
        *(param.detach() for param in params),
        *(value for param in params for value in optimizer.state[param].values()),
    ]


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("path", ["single", "foreach", "fused"])
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_training_resumes_bit_for_bit(cls, path, means):
    def make(params: Any) -> Any:
        # The seed comes with the state dict.
        return cls(params, lr=0.01, momentum_dtype=torch.bfloat16, rounding_seed=0, **PATHS[path])

    params = [torch.ones(shape).requires_grad_() for shape in ((3, 5), (7,))]
    optimizer = cls(params, lr=0.01, momentum_dtype=torch.bfloat16, rounding_seed=11, **PATHS[path])
    trained(optimizer, range(3))
    again = made_again(optimizer, means, make)
    assert all(torch.equal(a, b) for a, b in zip(*(trained(o, range(3, 6)) for o in (optimizer, again)), strict=True))


def test_seeds_groups_and_parameters_have_bits_of_their_own():
    made = []
    for seed, groups in ((0, 1), (1, 1), (0, 2)):
        params = [torch.zeros(1000, requires_grad=True) for _ in range(2)]
        split = [{"params": params}] if groups == 1 else [{"params": [param]} for param in params]
        optimizer = INNA(split, momentum_dtype=torch.bfloat16, rounding_seed=seed)
        for _ in range(2):
            for param in params:
                param.grad = torch.full_like(param, 1 / 3)
            optimizer.step()
        made.append([optimizer.state[param]["momentum"] for param in params])
    (first, second), (other_seed, _), (_, other_group) = made
    assert not torch.equal(first, second)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(second, other_group)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "0"])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="rounding_seed must be a whole number"):
        INNA([torch.zeros(1, requires_grad=True)], rounding_seed=seed)


def test_a_checkpoint_from_before_stochastic_rounding_loads():
    params = [torch.ones(5, requires_grad=True)]
    saved = INNA(params, momentum_dtype=torch.bfloat16)
    trained(saved, range(2))
    older = saved.state_dict()
    del older["state"][0]["step"]
    del older["param_groups"][0]["rounding_seed"]
    loaded = INNA([torch.ones(5, requires_grad=True)], momentum_dtype=torch.bfloat16, rounding_seed=3)
    loaded.load_state_dict(older)
    (theta,) = loaded.param_groups[0]["params"]
    assert torch.equal(loaded.state[theta]["momentum"], saved.state[params[0]]["momentum"])
    trained(loaded, range(2, 3))
    assert loaded.state[theta]["step"].item() == 2  # counted from 1, since there is a momentum
    assert loaded.param_groups[0]["rounding_seed"] == 3


def test_the_derivative_of_rounding_is_one():
    grad = torch.tensor([0.3, -0.7], requires_grad=True)
    theta = torch.zeros(2)
    optimizer = INNA([theta], lr=0.125, alpha=0.5, beta=0.5, momentum_dtype=torch.bfloat16, differentiable=True)
    for _ in range(2):
        theta.grad = grad
        optimizer.step()
    # theta_2 = -lr (2 beta + lr (1 - alpha beta)) g, but for the rounding of m_1
    (slope,) = torch.autograd.grad(theta.sum(), grad)
    torch.testing.assert_close(slope, torch.full((2,), -0.125 * (2 * 0.5 + 0.125 * 0.75)))


@pytest.mark.parametrize("name", ["momentum", "exp_avg_sq"])
def test_decays_below_half_a_rounding_are_kept_in_the_mean(name):
    # 1 - alpha lr and sigma are 0.999: nearest rounding would leave the state at its first value for ever.
    entries, steps = 20_000, 700
    theta = torch.zeros(entries, requires_grad=True)
    settings = {"sigma": 0.999} if name == "exp_avg_sq" else {}
    optimizer = (INNAprop if settings else INNA)(
        [theta], lr=0.01, alpha=0.1, beta=0.1, weight_decay=0.0, momentum_dtype=torch.bfloat16, **settings
    )
    for k in range(steps + 1):
        theta.grad = torch.full_like(theta, float(k == 0))
        optimizer.step()
        if k == 0:
            first = optimizer.state[theta][name].double().mean()
    # Each step adds noise of at most half a gap, 2^-8 of the state, in each entry.
    noise = 2**-8 * math.sqrt(steps / entries)
    assert abs(optimizer.state[theta][name].double().mean() / (first * 0.999**steps) - 1) < 5 * noise


GUARDED = {"alpha": 0.5, "beta": 0.5, "loss_bound": 0.0}


@needs_kernels
@pytest.mark.parametrize("path", ["foreach", "foreach capturable", "fused"])
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (INNA, GUARDED),
        (INNA, {**GUARDED, "initial_speed": 1.0}),
        (INNA, {**GUARDED, "lr": 1.0, "time_step": 0.2, "initial_distance": 1e-3}),
        (INNAprop.lr_free, {}),
    ],
    ids=["guarded", "initial speed", "INNA.lr_free", "INNAprop.lr_free"],
)
def test_steps_that_find_their_own_length_round_alike(make, settings, path):
    def run(flags: dict[str, Any]) -> list[Tensor]:
        torch.manual_seed(0)
        params = [torch.randn(shape).requires_grad_() for shape in ((30, 7), (5,))]
        optimizer = make(params, momentum_dtype=torch.bfloat16, **settings, **flags)
        for _ in range(4):
            optimizer.zero_grad()
            loss = torch.stack([param.square().sum() for param in params]).sum()
            loss.backward()
            optimizer.step(**({"loss": loss} if make is INNA else {}))
        return [*(param.detach() for param in params), *(optimizer.state[param]["momentum"] for param in params)]

    *ours, m, n = run(PATHS[path])
    *theirs, other_m, other_n = run(PATHS["single"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (torch.cat([m.flatten() != other_m.flatten(), n != other_n])).double().mean() < 0.03
