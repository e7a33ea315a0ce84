"""The guarded INNA as an Optax transformation: the rule, composition, precision, and steps that it skips."""

from __future__ import annotations

import functools

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from guarded_reference import GuardedGroup, guarded_steps  # noqa: E402
from inna import dynamics  # noqa: E402
from inna.optax import GuardedState, inna, inna_lr_free  # noqa: E402
from inna.schedules import power_decay  # noqa: E402

SHAPES = {"bias": (3,), "weight": (2, 4)}
SIZES = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def problem(seed, noise=0.3, samples=12, batch=3, steps=40):
    """Start, and mini-batches (inputs, targets) of least squares, in the order of the leaves of the tree."""
    rng = np.random.default_rng(seed)
    size = sum(SIZES.values())
    inputs, solution = rng.normal(size=(samples, size)), rng.normal(size=size)
    targets = inputs @ solution + noise * rng.normal(size=samples)
    rows = np.stack([rng.choice(samples, size=batch, replace=False) for _ in range(steps)])
    return split(rng.normal(size=size)), inputs[rows], targets[rows]


def split(vector):
    return {
        name: part.reshape(SHAPES[name]) for name, part in zip(SHAPES, np.split(vector, [SIZES["bias"]]), strict=True)
    }


def flat(tree):
    return jnp.concatenate([jnp.reshape(tree[name], -1) for name in SHAPES])


def loss_of(params, inputs, targets):
    residual = inputs @ flat(params) - targets
    return residual @ residual / (2 * targets.shape[0])


def train(optimizer, params, inputs, targets, state=None):
    """(params, state, learning rates after the guard), one batch per step, scanned."""

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss_of)(params, *batch)
        updates, state = optimizer.update(grads, state, params, value=value)
        lr = optax.tree.get(state, "last_lr")
        return (optax.apply_updates(params, updates), state), lr

    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params) if state is None else state
    (params, state), lrs = jax.jit(functools.partial(jax.lax.scan, step))((params, state), (inputs, targets))
    return params, state, lrs


def by_the_rule(params, inputs, targets, lrs, alpha, beta, *, decay=0.0, decoupled=False, bound=0.0, **settings):
    """The same run by dynamics.py in NumPy; the decay is of the weight alone, of one group with the bias."""
    theta = np.concatenate([np.ravel(params[name]) for name in SHAPES])
    decays = decay * np.repeat([0.0, 1.0], list(SIZES.values()))
    group = GuardedGroup(theta, 0.0, alpha, beta, **settings)
    made = []
    for k, (batch, target) in enumerate(zip(inputs, targets, strict=True)):
        group.lr = lrs(k)
        residual = batch @ group.theta - target
        loss, grad = residual @ residual / (2 * len(target)), batch.T @ residual / len(target)
        if not decoupled:
            loss, grad = loss + decays @ group.theta**2 / 2, grad + decays * group.theta
        start = group.theta

        def evaluate(_, thetas, loss=loss, grad=grad):
            return loss, [grad]

        if k == 0:
            group.start(loss, grad)
        group.initial_speed = None
        made += [f * group.lr for f in guarded_steps([group], evaluate, 1, bound)]
        if decoupled:
            group.theta = group.theta - lrs(k) * decays * start
    return group, made


unit = st.floats(0.05, 1.0)


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=unit,
    beta=unit,
    lr=st.floats(0.01, 30.0),
    time_step=unit | st.none(),
    scheduled=st.booleans(),
    initial_speed=st.sampled_from([None, 1.5]),
    decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.booleans(),
    bound=st.sampled_from([0.0, 0.02]),
)
def test_it_is_the_rule(seed, alpha, beta, lr, time_step, scheduled, initial_speed, decay, decoupled, bound):
    if time_step is None:
        lr = min(lr, 1 / alpha)
    elif decoupled and decay:
        lr = min(lr, 5.0)

    def rate(k):
        return lr * power_decay(0.5)(k) if scheduled else lr

    start, *batches = problem(seed)
    with jax.enable_x64(True):
        optimizer = inna(
            rate if scheduled else lr,
            alpha,
            beta,
            initial_speed=initial_speed,
            weight_decay=decay,
            decoupled_weight_decay=decoupled,
            mask={"weight": True, "bias": False},
            loss_bound=bound,
            time_step=time_step,
        )
        params, state, made = train(optimizer, start, *batches)
    options = {"initial_speed": initial_speed, "time_step": time_step, "bound": bound}
    group, expected = by_the_rule(start, *batches, rate, alpha, beta, decay=decay, decoupled=decoupled, **options)
    scale = max(1.0, np.abs(group.theta).max())
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-9 * lr)
    np.testing.assert_allclose(flat(params), group.theta, rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(flat(state.momentum), group.momentum, rtol=0, atol=1e-7 * scale)
    # Here theta is measured from the last one, there from 0.
    offset = group.memory.offset + group.momentum @ group.theta
    np.testing.assert_allclose(state.memory, group.memory._replace(offset=offset), rtol=0, atol=1e-7 * scale)
    assert state.count == state.steps == len(made)


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=unit,
    beta=unit,
    scheduled=st.booleans(),
    decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.booleans(),
    bound=st.sampled_from([0.0, -1e9]),
    first=st.sampled_from([1e-6, 0.1]),
)
def test_inna_lr_free_is_the_guarded_inna_with_a_cap_by_the_distance(
    seed, alpha, beta, scheduled, decay, decoupled, bound, first
):
    start, *batches = problem(seed)
    factor = power_decay(0.5) if scheduled else lambda k: 1.0
    with jax.enable_x64(True):
        params, state, made = train(
            inna_lr_free(
                alpha,
                beta,
                schedule=factor,
                loss_bound=bound,
                initial_distance=first,
                weight_decay=decay,
                decoupled_weight_decay=decoupled,
                mask={"bias": False, "weight": True},
            ),
            start,
            *batches,
        )
    theta = np.concatenate([np.ravel(start[name]) for name in SHAPES])
    decays = decay * np.repeat([0.0, 1.0], list(SIZES.values()))
    group, origin, distance, squares = GuardedGroup(theta, 0.0, alpha, beta, 0.1 / alpha), theta, first, 0.0
    for k, (batch, target) in enumerate(zip(*batches, strict=True)):
        theta = group.theta
        residual = batch @ theta - target
        loss, grad = residual @ residual / (2 * len(target)), batch.T @ residual / len(target)
        if not decoupled:
            loss, grad = loss + decays @ theta**2 / 2, grad + decays * theta
        distance = max(distance, np.linalg.norm(theta - origin))
        squares += grad @ grad
        group.lr = dynamics.distance_cap(distance, squares, factor(k))
        kept = dynamics.guard_factor([group.terms(loss, grad)], bound)
        assert made[k] == pytest.approx(kept * group.lr, rel=1e-6, abs=1e-12)
        group.step(loss, grad, kept)
        if decoupled:
            group.theta = group.theta - group.lr * decays * theta
    scale = max(1.0, np.abs(group.theta).max())
    np.testing.assert_allclose(flat(params), group.theta, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose([state.distance, state.squares], [distance, squares], rtol=1e-6)


def test_inna_lr_free_needs_the_parameters_in_32_bits():
    params = jnp.ones(2)
    optimizer = inna_lr_free()
    state = optimizer.init(params)
    with pytest.raises(ValueError, match=r"^inna_lr_free needs the parameters: call update\(.*value=loss\)"):
        optimizer.update(params, state, value=1.0)
    with pytest.raises(ValueError, match=r"^inna_lr_free needs parameters of at least 32 bits, got bfloat16"):
        optimizer.init(jnp.ones(2, jnp.bfloat16))
    with pytest.raises(ValueError, match=r"^initial_distance must be a finite number > 0, got 0"):
        inna_lr_free(initial_distance=0)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), mu=st.floats(0.1, 0.95), lr=st.floats(0.01, 10.0))
def test_with_all_three_lengths_equal_it_is_optax_momo(seed, mu, lr):
    """MoMo's average has total weight 1 from the first step on, which is the initial speed 1/alpha.

    It differs in weight decay (proximal), and it takes no step where |u|^2 is below the spacing of numbers at 1.
    """
    alpha, beta = ((1 - mu) / lr) ** 0.5, (lr * (1 - mu)) ** 0.5
    start, *batches = problem(seed, steps=20)
    with jax.enable_x64(True):
        ours, _, _ = train(inna(beta, alpha, beta, initial_speed=1 / alpha, loss_bound=0.05), start, *batches)
        momo = optax.contrib.momo(learning_rate=lr, beta=mu, lower_bound=0.05)
        theirs = jax.tree.map(jnp.asarray, start)

        def step(carry, batch):
            params, state = carry
            value, grads = jax.value_and_grad(loss_of)(params, *batch)
            updates, state = momo.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), None

        (theirs, _), _ = jax.jit(functools.partial(jax.lax.scan, step))((theirs, momo.init(theirs)), tuple(batches))
        ours, theirs = flat(ours), flat(theirs)
    scale = max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * scale)


def test_where_the_guard_does_not_bind_it_is_inna(x64):
    start, *batches = problem(1)
    with_guard, state, _ = train(inna(0.1, loss_bound=-1e200), start, *batches)
    plain = inna(0.1)
    params = jax.tree.map(jnp.asarray, start)
    plain_state, update = plain.init(params), jax.jit(plain.update)
    for batch in zip(*batches, strict=True):
        updates, plain_state = update(jax.grad(loss_of)(params, *batch), plain_state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(flat(with_guard), flat(params), rtol=1e-14)
    assert state.guarded == 0


FREE = functools.partial(inna_lr_free, loss_bound=0.01)
CAPPED = functools.partial(inna, 0.5, 0.5, 0.5, loss_bound=0.0, time_step=0.2)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda optimizer: optax.chain(optax.clip_by_global_norm(1e9), optimizer),
        pytest.param(lambda optimizer: optax.masked(optimizer, True), marks=pytest.mark.slow),
        pytest.param(lambda optimizer: optax.partition({"all": optimizer}, "all"), marks=pytest.mark.slow),
        pytest.param(lambda optimizer: optax.apply_if_finite(optimizer, 3), marks=pytest.mark.slow),
        pytest.param(
            lambda optimizer: optax.MultiSteps(optimizer, 1).gradient_transformation(), marks=pytest.mark.slow
        ),
    ],
    ids=["chain", "masked", "partition", "apply_if_finite", "MultiSteps"],
)
def test_wrappers_hand_the_loss_on(x64, wrap):
    start, *batches = problem(2)
    plain, wrapped = (train(optimizer, start, *batches) for optimizer in (FREE(), wrap(FREE())))
    np.testing.assert_allclose(flat(wrapped[0]), flat(plain[0]), rtol=1e-9)
    np.testing.assert_allclose(wrapped[2], plain[2], rtol=1e-9)


def test_multi_steps_takes_the_mean_loss_of_its_micro_batches(x64):
    start, inputs, targets = problem(3, batch=4)
    whole, _, _ = train(FREE(), start, inputs, targets)
    multi = optax.MultiSteps(FREE(), 2, accumulator_dtype=jnp.float64)
    params = jax.tree.map(jnp.asarray, start)
    state, update = multi.init(params), jax.jit(multi.update)
    for batch in zip(inputs, targets, strict=True):
        total = 0.0
        for part in (slice(0, 2), slice(2, 4)):
            value, grads = jax.value_and_grad(loss_of)(params, *(x[part] for x in batch))
            total = total + value
            updates, state = update(grads, state, params, value=total / 2)  # the last one counts
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(flat(params), flat(whole), rtol=0, atol=1e-9)


def test_injected_hyperparameters_are_those_of_the_next_step(x64):
    start, *batches = problem(4)
    tunable = optax.inject_hyperparams(inna)(0.5, 0.5, 0.5, loss_bound=0.0, time_step=0.2)
    first, state, _ = train(tunable, start, *batches)
    np.testing.assert_allclose(flat(first), flat(train(CAPPED(), start, *batches)[0]), rtol=1e-9)
    state.hyperparams["learning_rate"] = jnp.zeros([])
    still, after, _ = train(tunable, first, *batches, state=state)
    np.testing.assert_array_equal(flat(still), flat(first))
    jax.tree.map(np.testing.assert_array_equal, after.inner_state.memory, state.inner_state.memory)


@pytest.mark.slow
def test_vmap_over_caps_is_a_loop_over_them(x64):
    start, *batches = problem(5)
    caps = jnp.array([0.01, 0.5, 20.0])

    def final(cap):
        return flat(train(inna(cap, 0.5, 0.5, loss_bound=0.0, time_step=0.2), start, *batches)[0])

    np.testing.assert_allclose(jax.vmap(final)(caps), jnp.stack([final(float(cap)) for cap in caps]), rtol=1e-9)


@pytest.mark.parametrize("bad", ["value", "grads", "overflow"])
@pytest.mark.parametrize("settings", [{}, {"initial_speed": 1.0}, {"weight_decay": 0.1}])
def test_a_loss_or_sum_that_is_not_finite_changes_nothing(bad, settings):
    optimizer = inna(0.5, 0.5, 0.5, loss_bound=0.0, **settings)
    params = {"w": jnp.array([1.0, -2.0]), "v": jnp.array(3.0)}
    update = jax.jit(optimizer.update)
    before = optimizer.init(params)
    for _ in range(2):
        for worst in (jnp.nan, jnp.inf, -jnp.inf):
            grads, value = params, jnp.array(2.0)
            if bad == "value":
                value = worst
            else:
                grads = {"w": jnp.array([worst if bad == "grads" else 1e30, 1.0]), "v": jnp.array(1.0)}
            updates, after = update(grads, before, params, value=value)
            jax.tree.map(lambda x: np.testing.assert_array_equal(x, np.zeros_like(x)), updates)
            jax.tree.map(np.testing.assert_array_equal, after._replace(count=before.count), before)
            assert after.count == before.count + 1
        _, before = update(params, before, params, value=2.0)
    assert before.steps == 2


def test_a_step_with_lr_zero_changes_nothing():
    params = jnp.array([1.0, -2.0])
    first = inna(0.5, loss_bound=0.0)
    _, state = first.update(params, first.init(params), params, value=2.0)
    for still in (inna(0.0, loss_bound=0.0), inna(lambda k: 0.0 * k, loss_bound=0.0, time_step=0.1)):
        updates, after = jax.jit(still.update)(params, state, params, value=2.0)
        np.testing.assert_array_equal(updates, [0.0, 0.0])
        jax.tree.map(np.testing.assert_array_equal, after._replace(count=state.count), state)


def shadow(seed, steps, shift, alpha, beta, lr, time_step):
    """A float32 run, and beside it the exact learning rates of its iterates, in float64; as shares of the cap."""
    start, *batches = problem(seed, noise=0.1, steps=steps)
    optimizer = inna(lr, alpha, beta, loss_bound=0.0, time_step=time_step)

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(lambda p: loss_of(jax.tree.map(lambda x: x - shift, p), *batch))(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), (flat(params), flat(grads), value, state.last_lr)

    params = jax.tree.map(lambda x: jnp.asarray(x + shift, jnp.float32), start)
    batches = [jnp.asarray(x, jnp.float32) for x in batches]
    scan = jax.jit(functools.partial(jax.lax.scan, step))
    _, (thetas, grads, values, made) = scan((params, optimizer.init(params)), batches)
    group, exact = GuardedGroup(np.zeros(sum(SIZES.values())), lr, alpha, beta, time_step), []
    for theta, grad, value in zip(*(np.asarray(x, np.float64) for x in (thetas, grads, values)), strict=True):
        group.theta = theta
        exact += guarded_steps([group], lambda *_, value=value, grad=grad: (value, [grad]), 1)
    return np.asarray(made, np.float64) / lr, np.array(exact)


@pytest.mark.parametrize(("shift", "tolerance"), [(0.0, 1e-4), (100.0, 3e-3)])
def test_single_precision_is_enough_over_2000_steps(shift, tolerance):
    """Also where theta is large beside its steps; then float32 rounds theta itself."""
    made, exact = shadow(6, 2000, shift, 0.5, 0.5, 0.5, 0.2)
    assert (exact < 1).mean() > 0.1
    np.testing.assert_allclose(made, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_memory_follows_parameters_as_they_are_rounded(dtype):
    """offset is the average of <g_i, theta - theta_i>, with the theta that the caller has."""
    start, *batches = problem(7)
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), start)
    optimizer = CAPPED(momentum_dtype="float32")
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    models = []
    for batch in zip(*batches, strict=True):
        value, grads = jax.value_and_grad(loss_of)(jax.tree.map(lambda x: x.astype("float32"), params), *batch)
        grads = jax.tree.map(lambda x: x.astype(dtype), grads)
        models = [(0.9 * weight, *rest) for weight, *rest in models]
        models.append((0.2 * (1 - 0.25), *(np.asarray(flat(x), np.float64) for x in (grads, params))))
        updates, state = update(grads, state, params, value=value)
        assert all(x.dtype == dtype for x in jax.tree.leaves(updates))
        params = optax.apply_updates(params, updates)
        theta = np.asarray(flat(params), np.float64)
        slope = sum(weight * grad @ (theta - at) for weight, grad, at in models)
        size = sum(weight * np.abs(grad) @ np.abs(theta - at) for weight, grad, at in models)
        assert abs(slope - float(state.memory.offset)) <= 1e-5 * size


def test_dtypes_and_weak_types_of_the_state_stay(x64):
    for params in ({"w": jnp.ones(2, jnp.bfloat16)}, {"w": 2.0, "v": np.float32(1.0)}, {"w": jnp.ones(2, complex)}):
        optimizer = inna(lambda k: 0.1 / (k + 1), loss_bound=0.0, weight_decay=0.1, initial_speed=1.0)
        state = optimizer.init(params)
        _, after = jax.jit(optimizer.update)(params, state, params, value=np.float32(2.0))
        assert jax.tree.map(lambda x: x.aval, after) == jax.tree.map(lambda x: x.aval, state)


def test_a_complex_parameter_is_its_two_parts(x64):
    rng = np.random.default_rng(0)
    parts, grads, values = rng.normal(size=(2, 5)), rng.normal(size=(9, 2, 5)), rng.uniform(0.1, 1.0, 9)
    optimizer = inna_lr_free(initial_speed=1.0, weight_decay=0.1)
    z, x, update = jnp.asarray(parts[0] + 1j * parts[1]), jnp.asarray(parts), jax.jit(optimizer.update)
    z_state, x_state = optimizer.init(z), optimizer.init(x)
    for g, value in zip(grads, values, strict=True):
        updates, z_state = update(jnp.asarray(g[0] + 1j * g[1]), z_state, z, value=value)
        z = z + updates
        updates, x_state = update(jnp.asarray(g), x_state, x, value=value)
        x = x + updates
        np.testing.assert_allclose(jnp.stack([z.real, z.imag]), x, rtol=1e-12)


def test_numbers_as_leaves_and_a_missing_one():
    optimizer = inna_lr_free()
    params = {"w": 3.0, "v": -1.0}
    state = optimizer.init(params)
    for _ in range(200):
        value, grads = jax.value_and_grad(lambda p: p["w"] ** 2 + p["v"] ** 2)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
    assert max(abs(params["w"]), abs(params["v"])) < 0.1
    with pytest.raises(ValueError, match=r"^grads\['w'\] must be an array, got none"):
        optimizer.update({"w": None, "v": 1.0}, state, params, value=1.0)


def test_without_parameters_the_step_is_the_same(x64):
    start, *batches = problem(8, steps=5)
    params = jax.tree.map(jnp.asarray, start)
    optimizer = CAPPED()
    state = optimizer.init(params)
    for batch in zip(*batches, strict=True):
        value, grads = jax.value_and_grad(loss_of)(params, *batch)
        ours, after = optimizer.update(grads, state, value=value)
        theirs, state = optimizer.update(grads, state, params, value=value)
        jax.tree.map(np.testing.assert_array_equal, (ours, after), (theirs, state))
        params = optax.apply_updates(params, ours)


def test_bad_input():
    params = jnp.ones(2)
    optimizer = inna(loss_bound=0.0)
    state = optimizer.init(params)
    assert isinstance(state, GuardedState)
    with pytest.raises(ValueError, match=r"needs the loss of the batch: call update\(.*value=loss\)"):
        optimizer.update(params, state, params)
    with pytest.raises(ValueError, match=r"value must be the loss, .* got float32 of shape \(2,\)"):
        optimizer.update(params, state, params, value=params)
    with pytest.raises(ValueError, match=r"value must be the loss, .* got int32 of shape \(\)"):
        optimizer.update(params, state, params, value=jnp.int32(1))
    with pytest.raises(ValueError, match=r"alpha \* beta must be <= 1 here, got 2\.0 \* 1\.0: .*negative weights"):
        inna(0.1, 2.0, 1.0, loss_bound=0.0)
    with pytest.raises(ValueError, match=r"alpha \* learning_rate must be <= 1 here, got 0\.5 \* 3\.0"):
        inna(3.0, loss_bound=0.0)
    with pytest.raises(ValueError, match=r"alpha \* time_step must be <= 1 here, got 0\.5 \* 3\.0"):
        inna(loss_bound=0.0, time_step=3.0)
    with pytest.raises(ValueError, match=r"initial_speed must be >= beta here, got 0\.0 < 0\.1"):
        inna(loss_bound=0.0, initial_speed=0.0)
    with pytest.raises(ValueError, match=r"^time_step must be a finite number > 0, got 0"):
        inna(time_step=0)
    with pytest.raises(ValueError, match=r"^loss_bound must be a finite number, got nan"):
        inna(loss_bound=float("nan"))
    with pytest.raises(ValueError, match=r"^alpha must be a finite number > 0, got 0"):
        inna_lr_free(0)
    with pytest.raises(ValueError, match=r"^schedule must be a finite number >= 0, got -1"):
        inna_lr_free(schedule=-1)
