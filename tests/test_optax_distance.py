"""INNAprop that finds its length, for Optax: the rule, Prodigy's estimate, composition and precision."""

from __future__ import annotations

import functools

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from guarded_reference import FreeGroup, free_steps  # noqa: E402
from inna import dynamics  # noqa: E402
from inna.optax import DistanceState, innaprop_lr_free  # noqa: E402
from inna.schedules import power_decay  # noqa: E402

SHAPES = {"bias": (3,), "weight": (2, 4)}
SIZE = 11
STEPS = 50


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def split(vector):
    return {"bias": vector[:3], "weight": vector[3:].reshape(2, 4)}


def flat(tree):
    return jnp.concatenate([jnp.ravel(tree[name]) for name in SHAPES])


def problem(seed, steps=STEPS):
    """Start, and mini-batches of mean |A theta - b|: inputs (steps, 4, 11) and targets."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(16, SIZE))
    targets = inputs @ rng.normal(size=SIZE)
    rows = np.stack([rng.choice(16, size=4, replace=False) for _ in range(steps)])
    return split(rng.normal(size=SIZE)), inputs[rows], targets[rows]


def gradient(params, inputs, targets):
    return split(inputs.T @ jnp.sign(inputs @ flat(params) - targets) / targets.shape[0])


def train(optimizer, params, inputs, targets):
    """(params, state, distances), one batch per step, scanned."""

    def step(carry, batch):
        params, state = carry
        updates, state = optimizer.update(gradient(params, *batch), state, params)
        return (optax.apply_updates(params, updates), state), optax.tree.get(state, "distance")

    params = jax.tree.map(jnp.asarray, params)
    (params, state), distances = jax.jit(functools.partial(jax.lax.scan, step))(
        (params, optimizer.init(params)), (inputs, targets)
    )
    return params, state, distances


def by_the_rule(params, inputs, targets, schedule=lambda k: 1.0, decay=0.0, initial_distance=1e-6, **options):
    """The same run by dynamics.py in NumPy, a group per array; the decay is of the weight alone."""
    bias, weight = (np.ravel(params[name]) for name in SHAPES)
    groups = [FreeGroup(bias, **options), FreeGroup(weight, weight_decay=decay, **options)]

    def evaluate(k, thetas):
        for group in groups:
            group.lr = schedule(k)
        sign = np.sign(inputs[k] @ np.concatenate(thetas) - targets[k])
        return np.split(inputs[k].T @ sign / len(sign), [3])

    return groups, free_steps(groups, evaluate, len(inputs), initial_distance)


def whole(groups, name):
    return np.concatenate([getattr(group, name) for group in groups])


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.05, 1.0),
    beta=st.floats(0.1, 1.0),
    sigma=st.sampled_from([0.9, 0.999]),
    initial_distance=st.sampled_from([1e-6, 1e-3]),
    time_step=st.sampled_from([None, 0.5]),
    decay=st.sampled_from([0.0, 0.1]),
    scheduled=st.booleans(),
    slice_every=st.sampled_from([1, 3]),
)
def test_it_is_the_rule(seed, alpha, beta, sigma, initial_distance, time_step, decay, scheduled, slice_every):
    schedule = power_decay(0.1)
    start, *batches = problem(seed)
    shared = {"sigma": sigma, "initial_distance": initial_distance, "slice_every": slice_every}
    with jax.enable_x64(True):
        optimizer = innaprop_lr_free(
            schedule if scheduled else 1.0,
            alpha,
            beta,
            time_step=time_step,
            weight_decay=decay,
            mask={"bias": False, "weight": True},
            **shared,
        )
        params, state, distances = train(optimizer, start, *batches)
    options = {"alpha": alpha, "beta": beta, "time_step": time_step or 0.1 / alpha, "decay": decay, **shared}
    groups, expected = by_the_rule(start, *batches, **options, **({"schedule": schedule} if scheduled else {}))
    np.testing.assert_allclose(distances, expected, rtol=1e-9)
    scale = np.abs(whole(groups, "theta")).max()
    np.testing.assert_allclose(flat(params), whole(groups, "theta"), rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(flat(state.momentum), whole(groups, "momentum"), rtol=0, atol=1e-9)
    np.testing.assert_allclose(state.average_weight, groups[0].weight, rtol=1e-12)
    for group, name in zip(groups, SHAPES, strict=True):
        np.testing.assert_array_equal(jnp.ravel(state.start[name]), np.ravel(start[name])[::slice_every])
        sums = group.grad_sum[::slice_every]
        np.testing.assert_allclose(jnp.ravel(state.grad_sum[name]), sums, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("initial_distance", [1e-6, 1e-2])
def test_the_distance_is_that_of_optax_prodigy_on_the_same_gradients(x64, initial_distance):
    """Prodigy's steps differ: they average (d g)² where INNAprop averages g², and have a bias correction on d's weight.

    The schedule here takes that correction back.
    """
    start, *batches = problem(0)
    ours = innaprop_lr_free(initial_distance=initial_distance)
    no_correction = lambda k: (1 - 0.999 ** (k + 1.0)) ** -0.5  # noqa: E731
    prodigy = optax.contrib.prodigy(no_correction, betas=(0.0, 0.999), estim_lr0=initial_distance)
    params = jax.tree.map(jnp.asarray, start)

    def step(carry, batch):
        params, state, their_state = carry
        grads = gradient(params, *batch)
        updates, state = ours.update(grads, state, params)
        _, their_state = prodigy.update(grads, their_state, params)
        carry = optax.apply_updates(params, updates), state, their_state
        return carry, (state.distance, their_state.estim_lr)

    scan = jax.jit(functools.partial(jax.lax.scan, step))
    _, (distances, theirs) = scan((params, ours.init(params), prodigy.init(params)), tuple(batches))
    np.testing.assert_allclose(distances, theirs, rtol=1e-9)
    assert distances[-1] > 100 * initial_distance or initial_distance > 1e-3


def test_without_inertia_the_step_is_rmsprop_with_the_distance(x64):
    """alpha = beta = 1: no memory, and optax.rmsprop with bias correction takes the same steps per distance."""
    start, *batches = problem(1)
    params, state, distances = train(innaprop_lr_free(1.0, 1.0, 1.0, eps=0.0), start, *batches)
    plain = optax.scale_by_rms(0.999, eps=0.0, bias_correction=True)
    theirs = jax.tree.map(jnp.asarray, start)
    their_state, update = plain.init(theirs), jax.jit(plain.update)
    for distance, batch in zip(distances, zip(*batches, strict=True), strict=True):
        updates, their_state = update(gradient(theirs, *batch), their_state)
        theirs = jax.tree.map(lambda p, u, d=distance: p - d * u, theirs, updates)
    np.testing.assert_allclose(flat(params), flat(theirs), rtol=1e-9)
    assert state.average_weight == 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda optimizer: optax.chain(optax.clip_by_global_norm(1e9), optimizer),
        pytest.param(lambda optimizer: optax.masked(optimizer, True), marks=pytest.mark.slow),
        pytest.param(lambda optimizer: optax.apply_if_finite(optimizer, 3), marks=pytest.mark.slow),
        pytest.param(
            lambda optimizer: optax.MultiSteps(optimizer, 1, accumulator_dtype=jnp.float64).gradient_transformation(),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["chain", "masked", "apply_if_finite", "MultiSteps"],
)
def test_wrappers_take_the_same_steps(x64, wrap):
    start, *batches = problem(2)
    plain, wrapped = (train(optimizer, start, *batches) for optimizer in (innaprop_lr_free(), wrap(innaprop_lr_free())))
    np.testing.assert_allclose(flat(wrapped[0]), flat(plain[0]), rtol=0, atol=1e-7)
    np.testing.assert_allclose(wrapped[2], plain[2], rtol=1e-7)


@pytest.mark.slow
def test_injected_hyperparameters_and_vmap(x64):
    """The factor of the schedule can be set in the state, and many runs can be one."""
    start, *batches = problem(3)
    params = jax.tree.map(jnp.asarray, start)
    tunable = optax.inject_hyperparams(innaprop_lr_free, static_args=("slice_every",))(0.5)
    state = tunable.init(params)
    grads = gradient(params, *(x[0] for x in batches))
    update = jax.jit(tunable.update)
    updates, after = update(grads, state, params)
    half = innaprop_lr_free(0.5)
    expected, _ = half.update(grads, half.init(params), params)
    np.testing.assert_allclose(flat(updates), flat(expected), rtol=1e-12)
    after.hyperparams["schedule"] = jnp.zeros([])
    still, _ = update(grads, after, params)
    assert not flat(still).any()

    def final(distance):
        return flat(train(innaprop_lr_free(initial_distance=distance), start, *batches)[0])

    lengths = jnp.array([1e-6, 1e-2])
    expected = jnp.stack([final(float(length)) for length in lengths])
    np.testing.assert_allclose(jax.vmap(final)(lengths), expected, rtol=0, atol=1e-7)


def test_an_injected_slice_names_static_args():
    with pytest.raises(ValueError, match=r"slice_every must be a number of Python, .*static_args"):
        optax.inject_hyperparams(innaprop_lr_free)(0.5).init(jnp.ones(3))


@pytest.mark.parametrize("slice_every", [1, 2])
def test_a_sum_that_is_not_finite_changes_nothing(slice_every):
    optimizer = innaprop_lr_free(slice_every=slice_every, weight_decay=0.1)
    params = {"w": jnp.array([1.0, -2.0]), "v": jnp.array(3.0)}
    update = jax.jit(optimizer.update)
    before = optimizer.init(params)
    for _ in range(2):
        for worst in (jnp.nan, jnp.inf):
            grads = {"w": jnp.array([worst, 1.0]), "v": jnp.array(1.0)}
            updates, after = update(grads, before, params)
            jax.tree.map(lambda x: np.testing.assert_array_equal(x, np.zeros_like(x)), updates)
            jax.tree.map(np.testing.assert_array_equal, after._replace(count=before.count), before)
            assert after.count == before.count + 1
        _, before = update(params, before, params)
    assert before.steps == 2


def test_a_step_with_factor_zero_changes_nothing():
    params = jnp.array([1.0, -2.0])
    first = innaprop_lr_free()
    _, state = first.update(params, first.init(params), params)
    for still in (innaprop_lr_free(0.0), innaprop_lr_free(lambda k: 0.0 * k)):
        updates, after = jax.jit(still.update)(params, state, params)
        np.testing.assert_array_equal(updates, [0.0, 0.0])
        jax.tree.map(np.testing.assert_array_equal, after._replace(count=state.count), state)


def test_single_precision_finds_the_distance_of_double_over_2000_steps():
    """Sums of 2,000 steps with weights from 1e-12 to 1: the estimate agrees to 1e-5, on the float32 run's gradients."""
    start, *batches = problem(4, steps=2000)
    optimizer = innaprop_lr_free(lambda k: 1.0 - k / 2000)

    def step(carry, batch):
        params, state = carry
        grads = gradient(params, *batch)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), (flat(params), flat(grads), state.distance)

    params, *batches = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (start, *batches))
    scan = jax.jit(functools.partial(jax.lax.scan, step))
    (params, _), (thetas, grads, made) = scan((params, optimizer.init(params)), tuple(batches))
    thetas, grads = (np.asarray(x, np.float64) for x in (thetas, grads))
    group, exact = FreeGroup(thetas[0].copy()), []
    distance = 1e-6
    for k, (theta, grad) in enumerate(zip(thetas, grads, strict=True)):
        group.theta, group.lr = theta, 1.0 - k / 2000
        weight = dynamics.distance_weight(distance, 1e-6, group.lr)
        group.correlation = dynamics.accumulate(group.correlation, grad @ (group.start - theta), weight, 0.999)
        group.grad_sum = dynamics.accumulate(group.grad_sum, grad, weight, 0.999)
        distance = dynamics.grow_distance(distance, group.correlation, np.abs(group.grad_sum).sum())
        exact.append(distance)
    np.testing.assert_allclose(made, exact, rtol=1e-5)
    assert exact[-1] > 1e-2


def test_parameters_and_state_may_be_donated():
    """Also where init is compiled: theta_0 is a copy."""
    optimizer = innaprop_lr_free()
    params = {"w": jnp.ones(4), "v": jnp.ones(2)}

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = optimizer.update(params, state, params)
        return optax.apply_updates(params, updates), state

    for init in (optimizer.init, jax.jit(optimizer.init)):
        held = jax.tree.map(jnp.copy, params)
        state = init(held)
        for _ in range(2):
            held, state = step(held, state)
        jax.tree.map(np.testing.assert_array_equal, state.start, params)


def test_a_complex_parameter_is_its_two_parts(x64):
    rng = np.random.default_rng(0)
    parts, grads = rng.normal(size=(2, 5)), rng.normal(size=(9, 2, 5))
    optimizer = innaprop_lr_free(initial_distance=1e-2, weight_decay=0.1)
    z, x, update = jnp.asarray(parts[0] + 1j * parts[1]), jnp.asarray(parts), jax.jit(optimizer.update)
    z_state, x_state = optimizer.init(z), optimizer.init(x)
    for g in grads:
        updates, z_state = update(jnp.asarray(g[0] + 1j * g[1]), z_state, z)
        z = z + updates
        updates, x_state = update(jnp.asarray(g), x_state, x)
        x = x + updates
        np.testing.assert_allclose(jnp.stack([z.real, z.imag]), x, rtol=1e-12)
        np.testing.assert_allclose(z_state.distance, x_state.distance, rtol=1e-12)


def test_types_of_the_state_stay(x64):
    for params in ({"w": jnp.ones(2, jnp.float32)}, {"w": 2.0, "v": np.float32(1.0)}, {"w": jnp.ones(2, complex)}):
        for options in ({}, {"momentum_dtype": "bfloat16", "slice_every": 2, "weight_decay": 0.1}):
            if options and jnp.iscomplexobj(params["w"]):
                continue
            optimizer = innaprop_lr_free(lambda k: 1 / (k + 1), **options)
            state = optimizer.init(params)
            assert isinstance(state, DistanceState)
            _, after = jax.jit(optimizer.update)(params, state, params)
            assert jax.tree.map(lambda x: x.aval, after) == jax.tree.map(lambda x: x.aval, state)


def test_numbers_as_leaves_and_a_missing_one():
    optimizer = innaprop_lr_free(optax.linear_schedule(1.0, 0.0, 200))
    params = {"w": 3.0, "v": -1.0}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(200):
        updates, state = update(params, state, params)
        params = optax.apply_updates(params, updates)
    assert max(abs(params["w"]), abs(params["v"])) < 0.05
    with pytest.raises(ValueError, match=r"^grads\['w'\] must be an array, got none"):
        optimizer.update({"w": None, "v": 1.0}, state, params)


def test_bad_input():
    params = jnp.ones(2)
    optimizer = innaprop_lr_free()
    with pytest.raises(ValueError, match="innaprop_lr_free needs the parameters: call update"):
        optimizer.update(params, optimizer.init(params))
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(ValueError, match=rf"needs parameters of at least 32 bits, got {dtype} at params\['w'\]"):
            optimizer.init({"v": params, "w": params.astype(dtype)})
    with pytest.raises(TypeError, match=r"got int32 at params"):
        optimizer.init({"w": jnp.arange(2)})
    with pytest.raises(ValueError, match=r"alpha \* beta must be <= 1 here, got 2\.0 \* 0\.9: .*negative weights"):
        innaprop_lr_free(1.0, 2.0)
    with pytest.raises(ValueError, match=r"alpha \* time_step must be <= 1 here, got 0\.1 \* 11\.0"):
        innaprop_lr_free(time_step=11.0)
    for name, value, allowed in (
        ("alpha", 0.0, "> 0"),
        ("beta", -1.0, ">= 0"),
        ("schedule", -1.0, ">= 0"),
        ("sigma", 1.0, "< 1"),
        ("eps", -1.0, ">= 0"),
        ("initial_distance", 0.0, "> 0"),
        ("weight_decay", -1.0, ">= 0"),
        ("slice_every", 0, ">= 1"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} must be .*{allowed}, got"):
            innaprop_lr_free(**{name: value})
