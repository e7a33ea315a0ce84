"""INNA and INNAprop as Optax transformations: the rule, exact limits, composition, precision and bad input."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from inna import dynamics  # noqa: E402
from inna.optax import inna, inna_lr_free, innaprop, innaprop_lr_free  # noqa: E402
from inna.schedules import power_decay  # noqa: E402
from waiting import PATIENCE  # noqa: E402

PARAMS = {"weight": np.linspace(-1.5, 2.0, 6).reshape(2, 3), "bias": np.array([0.3, -0.2])}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def bowl(tree):
    """The gradient of a quadratic with curvatures 1, 2, 3, ... in every array."""
    return jax.tree.map(lambda x: (1 + jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape) * x - 0.5, tree)


def run(optimizer, params, steps, grad=bowl, jit=True):
    """(params, state) after ``steps``, from ``params``."""
    params = jax.tree.map(jnp.asarray, params)

    def step(params, state):
        updates, state = optimizer.update(grad(params), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_close(actual, expected, tolerance=1e-12):
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        scale = max(np.abs(np.asarray(theirs)).max(), 1e-3)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


def by_the_rule(params, steps, lrs, alphas, betas, decays, *, prop=None, initial_speed=None, decoupled=False):
    """The same run by dynamics.py on NumPy arrays; ``decays`` maps names to weight decays, ``prop`` is (sigma, eps)."""
    theta = {name: np.array(x) for name, x in params.items()}
    momentum = {name: np.zeros_like(x) for name, x in theta.items()}
    square = {name: np.zeros_like(x) for name, x in theta.items()}
    for k in range(steps):
        for name, x in theta.items():
            lr, alpha, beta, decay = lrs(k), alphas(k), betas(k), decays[name]
            g = (1 + np.arange(x.size)).reshape(x.shape) * x - 0.5
            m = momentum[name]
            if prop:
                g, square[name] = dynamics.rescale(g, square[name], k + 1, *prop)
            elif not decoupled:
                g = g + decay * x
            if k == 0:
                m = dynamics.initial_momentum(g, beta, initial_speed)
            if prop and decay:
                x, m = dynamics.decay_innaprop(x, m, lr, alpha, beta, decay)
            elif decoupled:
                x = (1 - lr * decay) * x
            theta[name], momentum[name] = dynamics.step(x, m, g, lr, alpha, beta)
    return theta, momentum


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    lr=st.floats(1e-3, 0.3),
    alpha=st.floats(0.0, 8.0),
    beta=st.floats(0.05, 1.0),
    decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.booleans(),
    initial_speed=st.sampled_from([None, 0.0, 1.0]),
    scheduled=st.booleans(),
    bounded=st.booleans(),
)
def test_inna_is_the_rule(lr, alpha, beta, decay, decoupled, initial_speed, scheduled, bounded):
    def rate(k):
        return lr * power_decay(0.5)(k) if scheduled else lr

    with jax.enable_x64(True):
        optimizer = inna(
            rate if scheduled else lr,
            alpha,
            beta,
            initial_speed=initial_speed,
            weight_decay=decay,
            mask={"weight": True, "bias": False},
            decoupled_weight_decay=decoupled,
            max_learning_rate=lr if bounded else None,
        )
        params, state = run(optimizer, PARAMS, 12)
        expected = by_the_rule(
            PARAMS,
            12,
            rate,
            lambda k: alpha,
            lambda k: beta,
            {"weight": decay, "bias": 0.0},
            initial_speed=initial_speed,
            decoupled=decoupled,
        )
        assert_close((params, state.momentum), expected)
        assert state.count == state.steps == 12


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    lr=st.floats(1e-3, 0.3),
    alpha=st.floats(0.0, 8.0),
    beta=st.floats(0.05, 1.0),
    decay=st.sampled_from([0.0, 0.1]),
    initial_speed=st.sampled_from([None, 1.0]),
    scheduled=st.booleans(),
)
def test_innaprop_is_the_rule(lr, alpha, beta, decay, initial_speed, scheduled):
    def rate(k):
        return lr * power_decay(0.25)(k) if scheduled else lr

    with jax.enable_x64(True):
        optimizer = innaprop(
            rate if scheduled else lr,
            alpha,
            beta,
            0.9,
            1e-6,
            decay,
            initial_speed=initial_speed,
            mask=lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree),
        )
        params, state = run(optimizer, PARAMS, 12)
        expected = by_the_rule(
            PARAMS,
            12,
            rate,
            lambda k: alpha,
            lambda k: beta,
            {"weight": decay, "bias": 0.0},
            prop=(0.9, 1e-6),
            initial_speed=initial_speed,
        )
        assert_close((params, state.momentum), expected)


@pytest.mark.parametrize("make", [inna, functools.partial(innaprop, sigma=0.9, eps=1e-8, weight_decay=0.0)])
def test_alpha_and_beta_may_be_schedules(x64, make):
    lr, alpha, beta = (lambda k: 0.1 / (k + 1)), (lambda k: 0.5 + 0.1 * k), (lambda k: 0.2 / (k + 1))
    prop = None if make is inna else (0.9, 1e-8)
    expected = by_the_rule(PARAMS, 10, lr, alpha, beta, {"weight": 0.0, "bias": 0.0}, prop=prop)
    params, state = run(make(lr, alpha, beta), PARAMS, 10)
    assert_close((params, state.momentum), expected)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.95, False), (0.9, True)])
def test_from_sgd_makes_the_iterates_of_optax_sgd(x64, momentum, nesterov):
    ours, _ = run(inna(*dynamics.from_sgd(0.01, momentum, nesterov)), PARAMS, 60)
    theirs, _ = run(optax.sgd(0.01, momentum=momentum, nesterov=nesterov), PARAMS, 60)
    assert_close(ours, theirs)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("distance", [0.0, 2.0**-50, -1e-12, 1e-9, 1e-6, -1e-3, 0.4, -0.4, 0.6])
def test_nothing_is_lost_where_alpha_gamma_is_near_one(x64, distance, known):
    """The update contains the old momentum in full, however little of it the new one keeps."""
    lr, beta = 0.125, 0.3
    alpha = (1 - distance) / lr
    grads = jnp.array([1.0, -3.0, 1e-3])
    state = inna(lr, alpha, beta).init(grads)._replace(momentum=jnp.array([1e3, 1.0, -1e-3]))

    def update(lr, grads, state):
        return inna(lr, alpha, beta).update(grads, state)

    jitted = jax.jit(functools.partial(update, lr)) if known else functools.partial(jax.jit(update), lr)
    updates, after = jitted(grads, state)
    expected = dynamics.step(0.0, np.array(state.momentum), np.array(grads), lr, alpha, beta)
    np.testing.assert_allclose(updates, expected[0], rtol=1e-14)
    np.testing.assert_allclose(after.momentum, expected[1], rtol=1e-14)


def scheduled(k):
    return 0.1 * power_decay(0.5)(k)


@pytest.mark.parametrize(
    ("make", "copies"),
    [
        (lambda: inna(0.1, 0.5, 0.1), False),
        (lambda: inna(0.1, 0.5, 0.1, weight_decay=0.1, decoupled_weight_decay=True), False),
        (innaprop, False),
        (lambda: inna(*dynamics.from_sgd(0.01)), False),
        (lambda: inna(scheduled, 0.5, 0.1), False),
        (lambda: inna(scheduled, lambda k: 0.5, 0.1, weight_decay=0.1, decoupled_weight_decay=True), False),
        (lambda: inna(scheduled, weight_decay=0.1, max_learning_rate=0.1), False),
        (lambda: inna(scheduled, weight_decay=0.1), True),
        (lambda: innaprop(scheduled, weight_decay=0.0), False),
        (lambda: innaprop(scheduled, max_learning_rate=0.1), False),
        (lambda: innaprop(scheduled), False),
        (lambda: innaprop(scheduled, initial_speed=1.0), True),
        (lambda: inna(scheduled, loss_bound=0.0), False),
        (inna_lr_free, False),
        (innaprop_lr_free, False),
    ],
    ids=[
        "constant",
        "decay",
        "prop",
        "alpha-gamma-is-1",
        "schedule",
        "schedules-and-decay",
        "bounded-schedule-with-penalty",
        "schedule-with-penalty",
        "prop-schedule",
        "prop-bounded-schedule-with-decay",
        "prop-schedule-with-decay",
        "prop-schedule-with-decay-and-speed",
        "guard",
        "lr-free",
        "prop-lr-free",
    ],
)
def test_at_most_the_old_parameter_or_the_first_gradient_is_stored(make, copies):
    """XLA's temporary memory on the CPU, with donated buffers: at most one array, which is the cost."""
    if jax.default_backend() != "cpu":
        pytest.skip("a property of XLA's CPU backend")
    optimizer, params = make(), jnp.ones((100, 1000))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    grads = jnp.ones_like(params)
    compiled = step.lower(params, state, grads).compile()
    arrays = compiled.memory_analysis().temp_size_in_bytes / params.nbytes
    compiled(params, state, grads)  # nothing in the state is donated twice
    assert arrays < 0.1 or (copies and 1 <= arrays < 1.1)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    make=st.sampled_from([inna, functools.partial(innaprop, weight_decay=0.0)]),
    dtype=st.sampled_from(["float32", "bfloat16", "complex64"]),
)
def test_the_order_that_saves_the_copy_changes_no_operation(seed, make, dtype):
    """Without parameters there is no sum to wait for. Compiled, either may be rounded otherwise."""
    optimizer = make(scheduled)
    rng = np.random.default_rng(seed)
    params, grads = (jnp.asarray(rng.normal(size=50), dtype) for _ in range(2))
    state = optimizer.init(params)
    compiled = jax.jit(optimizer.update)
    rounding = 4 * float(jnp.finfo(dtype).eps)
    for _ in range(3):
        close = compiled(grads, state), compiled(grads, state, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=rounding * np.abs(a).max(), rtol=0), *close)
        plain, (updates, state) = optimizer.update(grads, state), optimizer.update(grads, state, params)
        jax.tree.map(np.testing.assert_array_equal, plain, (updates, state))
        grads = -grads


def test_a_parameter_that_is_not_finite_does_not_reach_the_momentum():
    """The momentum waits for the new parameter without reading it."""
    optimizer = inna(scheduled)
    params, grads = jnp.array([jnp.nan, jnp.inf]), jnp.ones(2)
    _, state = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    assert np.isfinite(state.momentum).all()


@pytest.mark.parametrize("make", [inna, innaprop])
@pytest.mark.parametrize("known", [True, False])
def test_a_step_with_lr_zero_changes_nothing(make, known):
    params = {"w": jnp.array([1.0, -2.0])}
    optimizer = make(0.1, initial_speed=1.0)
    updates, state = optimizer.update(params, optimizer.init(params), params)
    still = make(0.0 if known else (lambda k: 0.0 * k), initial_speed=1.0)
    for at in (still.init(params), state):
        updates, after = jax.jit(still.update)({"w": jnp.array([jnp.nan, jnp.inf])}, at, params)
        np.testing.assert_array_equal(updates["w"], [0.0, 0.0])
        assert after.count == at.count + 1
        jax.tree.map(np.testing.assert_array_equal, after._replace(count=at.count), at)


def test_the_initial_velocity_waits_for_the_first_step_of_a_warm_up(x64):
    warm_up = optax.linear_schedule(0.0, 0.1, 5)
    params = {"w": jnp.array([1.0, -2.0])}
    ours, _ = run(inna(warm_up, 0.5, 0.1, initial_speed=1.0), params, 4)
    theirs, _ = run(inna(lambda k: warm_up(k + 1), 0.5, 0.1, initial_speed=1.0), params, 3)
    assert_close(ours, theirs)


def test_innaprop_of_a_complex_array_is_that_of_its_parts(x64):
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, 5))
    grads = rng.normal(size=(20, 2, 5))
    for optimizer in (inna(0.1, 0.5, 0.2, initial_speed=1.0), innaprop(0.01, weight_decay=0.1, initial_speed=1.0)):
        z, x, update = jnp.asarray(parts[0] + 1j * parts[1]), jnp.asarray(parts), jax.jit(optimizer.update)
        z_state, x_state = optimizer.init(z), optimizer.init(x)
        for g in grads:
            updates, z_state = update(jnp.asarray(g[0] + 1j * g[1]), z_state, z)
            z = z + updates
            updates, x_state = update(jnp.asarray(g), x_state, x)
            x = x + updates
        assert_close(jnp.stack([z.real, z.imag]), x)


@pytest.mark.parametrize("make", [inna, innaprop])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("momentum_dtype", [None, "bfloat16", "float32"])
def test_dtypes_of_updates_and_state(make, dtype, momentum_dtype):
    params = jnp.ones(3, dtype)
    optimizer = make(momentum_dtype=momentum_dtype)
    state = optimizer.init(params)
    assert state.momentum.dtype == (momentum_dtype or dtype)
    updates, after = jax.jit(optimizer.update)(params, state, params)
    assert updates.dtype == params.dtype
    assert jax.tree.map(lambda x: x.aval, after) == jax.tree.map(lambda x: x.aval, state)


def test_a_float32_momentum_keeps_what_bfloat16_would_lose():
    """One gradient, then none: the momentum decays by 1 - alpha gamma = 0.999, less than half a bfloat16 digit."""
    params = jnp.ones(1, jnp.bfloat16)

    def momentum_after(dtype):
        optimizer = inna(0.01, 0.1, 0.1, momentum_dtype=dtype)
        state, update = optimizer.init(params), jax.jit(optimizer.update)
        for k in range(300):
            _, state = update(params if k == 0 else 0 * params, state, params)
        return float(state.momentum[0])

    expected = 0.01 * (1 - 0.1 * 0.1) * (1 - 0.01 * 0.1) ** 299
    assert momentum_after("float32") == pytest.approx(expected, rel=1e-5)
    assert momentum_after(None) > 1.2 * expected


def test_multi_steps_is_one_step_on_the_sum_of_gradients(x64):
    rng = np.random.default_rng(1)
    grads = jnp.asarray(rng.normal(size=(6, 3, 4)))

    def rate(k):
        return 0.1 * power_decay(0.5)(k)

    accumulating = optax.MultiSteps(
        inna(rate, initial_speed=1.0), every_k_schedule=3, use_grad_mean=False, accumulator_dtype=jnp.float64
    )
    plain = inna(rate, initial_speed=1.0)
    params = expected = jnp.ones(4)
    state, plain_state = accumulating.init(params), plain.init(params)
    small, large = jax.jit(accumulating.update), jax.jit(plain.update)
    for group in grads:
        for g in group:
            updates, state = small(g, state, params)
            params = optax.apply_updates(params, updates)
        updates, plain_state = large(group.sum(0), plain_state, expected)
        expected = optax.apply_updates(expected, updates)
    assert_close(params, expected)


@pytest.mark.parametrize("make", [inna, innaprop])
def test_injected_hyperparameters_change_without_a_recompile(x64, make):
    optimizer = optax.inject_hyperparams(make)(learning_rate=0.1, alpha=0.5, beta=0.1, weight_decay=0.01)
    traces = 0

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        updates, state = optimizer.update(params, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.array([1.0, -2.0])
    plain = make(0.1, alpha=0.5, beta=0.1, weight_decay=0.01)
    expected, plain_state = params, plain.init(params)
    state = optimizer.init(params)
    for lr in (0.1, 0.05, 0.0, 2.0):  # alpha gamma = 1 at the last
        state.hyperparams["learning_rate"] = jnp.asarray(lr)
        params, state = step(params, state)
        updates, plain_state = make(lr, alpha=0.5, beta=0.1, weight_decay=0.01).update(expected, plain_state, expected)
        expected = optax.apply_updates(expected, updates)
        assert_close(params, expected)
    assert traces == 1


def test_a_schedule_does_not_recompile():
    optimizer = inna(lambda k: 0.1 * power_decay(0.5)(k))
    params = jnp.ones(2)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    for _ in range(3):
        _, state = update(params, state)
    assert update._cache_size() == 1


def test_vmap_over_learning_rates_is_a_loop_over_them(x64):
    lrs = jnp.array([0.01, 0.1, 2.0])
    start = jnp.array([1.0, -2.0])

    def train(lr, alpha):
        optimizer = inna(lr, alpha, 0.1, initial_speed=1.0)
        params, state = start, optimizer.init(start)
        for _ in range(5):
            updates, state = optimizer.update(0.3 * params, state)
            params = params + updates
        return params

    batched = jax.jit(jax.vmap(train, in_axes=(0, None)))(lrs, jnp.asarray(0.5))
    assert_close(batched, jnp.stack([train(float(lr), 0.5) for lr in lrs]))


def test_parts_of_a_tree_by_masked_and_multi_transform(x64):
    labels = {"weight": "inna", "bias": "sgd"}
    both, _ = run(optax.multi_transform({"inna": inna(weight_decay=0.1), "sgd": optax.sgd(0.1)}, labels), PARAMS, 9)
    only = run(inna(weight_decay=0.1), {"weight": PARAMS["weight"]}, 9)[0]["weight"]
    assert_close(both["weight"], only)
    assert_close(both["bias"], run(optax.sgd(0.1), {"bias": PARAMS["bias"]}, 9)[0]["bias"])
    masked = optax.masked(inna(weight_decay=0.1), {"weight": True, "bias": False})
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = masked.init(params)
    update = jax.jit(masked.update)
    for _ in range(9):
        updates, state = update(bowl(params), state, params)
        params = {"weight": params["weight"] + updates["weight"], "bias": params["bias"]}
    assert_close(params["weight"], only)


def test_apply_if_finite_leaves_the_state_of_a_bad_step(x64):
    optimizer = optax.apply_if_finite(innaprop(0.1), 3)
    params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    _, state = optimizer.update(params, state, params)
    updates, after = optimizer.update(jnp.array([jnp.nan, 1.0]), state, params)
    np.testing.assert_array_equal(updates, [0.0, 0.0])
    jax.tree.map(np.testing.assert_array_equal, after.inner_state, state.inner_state)


def test_to_maximise_scale_the_gradients_by_minus_one(x64):
    up, _ = run(
        optax.chain(optax.scale(-1.0), inna()), PARAMS, 7, grad=lambda tree: jax.tree.map(jnp.negative, bowl(tree))
    )
    assert_close(up, run(inna(), PARAMS, 7)[0])


@pytest.mark.parametrize("make", [inna, functools.partial(innaprop, weight_decay=0.1)])
def test_derivatives_through_the_update(x64, make):
    """Of the parameters after three steps, with respect to lr, alpha, beta and the start."""
    start = jnp.array([1.0, -2.0])

    def after_three_steps(lr, alpha, beta, start):
        optimizer = make(lr, alpha, beta, initial_speed=1.0)
        params, state = start, optimizer.init(start)
        for _ in range(3):
            updates, state = optimizer.update(jnp.cos(params) + params, state, params)
            params = params + updates
        return params

    check_grads(jax.jit(after_three_steps), (0.1, 0.5, 0.2, start), order=1, modes=["fwd", "rev"], rtol=1e-6)
    if make is inna:
        of_the_rate = jax.jit(functools.partial(after_three_steps, alpha=0.5, beta=0.2, start=start))
        check_grads(of_the_rate, (0.1,), order=2, modes=["rev"], rtol=1e-5)


@pytest.mark.parametrize("make", [inna, innaprop])
def test_derivatives_through_a_warm_up_from_zero(x64, make):
    """The first step changes nothing, the mean of g² stays 0, and no derivative becomes NaN for it."""
    start = jnp.array([1.0, -2.0])

    def after_two_steps(slope):
        optimizer = make(lambda k: slope * k)
        params, state = start, optimizer.init(start)
        for _ in range(2):
            updates, state = optimizer.update(jnp.cos(params) + params, state, params)
            params = params + updates
        return params

    check_grads(after_two_steps, (0.1,), order=1, modes=["fwd", "rev"], rtol=1e-6)


def test_state_and_updates_take_the_sharding_of_the_parameters():
    code = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec
from inna.optax import inna, inna_lr_free, innaprop, innaprop_lr_free
mesh = jax.make_mesh((4,), ("data",))
sharding = NamedSharding(mesh, PartitionSpec("data"))
automatic = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
whole = jnp.arange(8.0)
for optimizer in (
    inna(),
    innaprop(),
    inna(lambda k: 0.1 / (k + 1), weight_decay=0.1, initial_speed=1.0),
    inna(2.0, loss_bound=0.0, initial_speed=1.0),
    inna_lr_free(weight_decay=0.1),
    innaprop_lr_free(weight_decay=0.1, initial_distance=0.1),
    slicing := innaprop_lr_free(slice_every=3, initial_distance=0.1),
):
    def step(params, state):
        grads, loss = jnp.sin(params), jnp.sum(1 - jnp.cos(params))
        updates, state = optimizer.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state
    if optimizer is slicing:  # JAX slices no array that is sharded over an explicit axis
        sharding = NamedSharding(automatic, PartitionSpec("data"))
    split = jax.device_put(whole, sharding)
    state = optimizer.init(split)
    assert state.momentum.sharding == sharding, state.momentum.sharding
    for _ in range(3):
        split, state = jax.jit(step)(split, state)
    expected, plain = whole, optimizer.init(whole)
    for _ in range(3):
        expected, plain = jax.jit(step)(expected, plain)
    assert split.sharding.is_equivalent_to(sharding, 1) and state.momentum.sharding.is_equivalent_to(sharding, 1)
    np.testing.assert_allclose(split, expected, rtol=1e-6)
print("equal")
"""
    source = Path(__file__).parents[1] / "src"
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), env.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("make", [inna, innaprop])
@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", -0.1, ">= 0"),
        ("learning_rate", float("nan"), ">= 0"),
        ("learning_rate", "0.1", ">= 0"),
        ("learning_rate", np.ones(2), ">= 0"),
        ("alpha", -1.0, ">= 0"),
        ("beta", float("inf"), ">= 0"),
        ("weight_decay", -1e-4, ">= 0"),
        ("weight_decay", lambda k: 0.1, ">= 0"),
        ("initial_speed", float("nan"), "a finite number"),
        ("max_learning_rate", -1.0, ">= 0"),
    ],
)
def test_arguments_out_of_range(make, name, value, allowed):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number.*got") as error:
        make(**{name: value})
    assert allowed in str(error.value)


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"sigma must be a finite number >= 0 and < 1, got 1\.0"):
        innaprop(sigma=1.0)
    with pytest.raises(ValueError, match="eps must be a finite number >= 0, got -1"):
        innaprop(eps=-1)
    with pytest.raises(ValueError, match=r"beta must be > 0 with weight_decay .* got 0\.0"):
        innaprop(beta=0.0)
    innaprop(beta=0.0, weight_decay=0.0)
    with pytest.raises(ValueError, match="momentum_dtype must be a floating or complex dtype or None, got int32"):
        inna(momentum_dtype="int32")
    with pytest.raises(TypeError, match="inna moves floating or complex parameters, got int32"):
        inna().init({"w": jnp.arange(3)})
    params = jnp.ones(2)
    decaying = inna(weight_decay=0.1)
    with pytest.raises(ValueError, match="inna with weight decay needs the parameters"):
        decaying.update(params, decaying.init(params))
    wrong_mask = inna(weight_decay=0.1, mask={"v": True})
    with pytest.raises(ValueError, match="v"):
        wrong_mask.update({"w": params}, wrong_mask.init({"w": params}), {"w": params})
