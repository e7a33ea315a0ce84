"""What inna.optax takes: any numbers as leaves, trees with gaps, rounded hyper-parameters; and closures as pytrees."""

import functools
import inspect
import re
import types
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from inna.optax import inna, innaprop  # noqa: E402

BOTH = pytest.mark.parametrize("make", [inna, innaprop])


def walk(value, above=()):
    """Yield the leaves of ``value`` and of all closures, defaults and partials in it; fail at a cycle of functions."""
    for leaf in jax.tree.leaves(value, is_leaf=callable):
        inside = ()
        if isinstance(leaf, types.FunctionType):
            inside = (*inspect.getclosurevars(leaf).nonlocals.values(), leaf.__defaults__, leaf.__kwdefaults__)
        elif isinstance(leaf, functools.partial):
            inside = (leaf.func, leaf.args, leaf.keywords)
        elif isinstance(leaf, types.MethodType):
            inside = (leaf.__func__, leaf.__self__)
        assert not any(leaf is outer for outer in above), f"{leaf} refers to itself"
        yield leaf
        for x in inside:
            yield from walk(x, (*above, leaf))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    make=st.sampled_from([inna, innaprop]),
    traced=st.sets(st.sampled_from(["learning_rate", "alpha", "beta", "weight_decay", "initial_speed"])),
    scheduled=st.sets(st.sampled_from(["learning_rate", "alpha", "beta"])),
    mask=st.sampled_from([None, {"w": True}, lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)]),
)
def test_closures_can_be_made_pytrees(make, traced, scheduled, mask):
    """Optimistix does: no function may refer to itself, and the leaves must include every traced hyper-parameter."""
    schedules = {name: (lambda k: 0.1) for name in scheduled - traced}

    def build(values):
        optimizer = make(**values, **schedules, mask=mask)
        leaves = list(walk(optimizer))
        for given_value in (*values.values(), *schedules.values()):
            assert any(leaf is given_value for leaf in leaves)
        return 0

    jax.make_jaxpr(build)(dict.fromkeys(traced, 0.1))


def leaves(values):
    """Strategy of the ways to write one of the numbers ``values`` as a leaf of a tree."""
    writings = [float, np.float32, np.float64, np.float16, np.array, jnp.asarray, lambda x: np.array(x, np.float32)]
    if all(value == int(value) for value in values):
        writings += [int, np.int64, jnp.int32]
    return st.builds(lambda write, x: write(x), st.sampled_from(writings), st.sampled_from(values))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    make=st.sampled_from([inna, innaprop]),
    param=leaves([0.5, -1.5]) | st.just(2 - 0.5j),
    grads=st.lists(leaves([-2.0, 1.0]), min_size=2, max_size=3),
    with_params=st.booleans(),
    jit=st.booleans(),
    x64=st.booleans(),
)
def test_numbers_as_leaves_take_the_steps_of_arrays(make, param, grads, with_params, jit, x64):
    optimizer = make(0.1, weight_decay=0.1 if with_params else 0.0, initial_speed=1.0)
    update = jax.jit(optimizer.update) if jit else optimizer.update

    def run(convert):
        tree = {"w": convert(param)}
        state, made = optimizer.init(tree), []
        avals = [jax.tree.map(lambda x: x.aval, state)]
        for grad in grads:
            updates, state = update({"w": convert(grad)}, state, tree if with_params else None)
            made.append((updates, state))
            avals.append(jax.tree.map(lambda x: x.aval, state))
        assert all(aval == avals[0] for aval in avals)  # a jitted step is traced once
        return made

    with jax.enable_x64(x64), warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, arrays = run(lambda x: x), run(jnp.asarray)
        for ours, theirs in zip(jax.tree.leaves(plain), jax.tree.leaves(arrays), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        assert all((updates["w"] != 0) and jnp.issubdtype(updates["w"].dtype, jnp.inexact) for updates, _ in plain)


@BOTH
def test_a_parameter_that_is_a_python_number_is_trained(make):
    optimizer = make(0.1, weight_decay=0.0)
    params = {"w": 3.0}
    state = optimizer.init(params)
    for _ in range(100):
        updates, state = optimizer.update(jax.grad(lambda p: p["w"] ** 2)(params), state, params)
        params = optax.apply_updates(params, updates)
    assert abs(params["w"]) < 1


trees = st.recursive(
    st.just("array"),
    lambda below: (
        st.dictionaries(st.sampled_from("abc"), below, min_size=1, max_size=3)
        | st.lists(below, min_size=1, max_size=3)
        | st.tuples(below, below)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    make=st.sampled_from([inna, innaprop]),
    shape=trees,
    gap=st.sampled_from([None, optax.MaskedNode()]),
    inject=st.booleans(),
    with_params=st.booleans(),
    data=st.data(),
)
def test_a_missing_gradient_is_named(make, shape, gap, inject, with_params, data):
    """None or a masked node in place of a leaf or of a whole branch."""
    params = jax.tree.map(lambda _: jnp.ones(2), shape)
    optimizer = (optax.inject_hyperparams(make) if inject else make)(0.1, weight_decay=0.0)
    state = optimizer.init(params)
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    path = data.draw(st.sampled_from(paths))
    depth = data.draw(st.integers(0, len(path)))
    grads = jax.tree_util.tree_map_with_path(
        lambda at, x: gap if at[:depth] == path[:depth] else x,
        params,
        is_leaf=lambda x: x is at_depth(params, path[:depth]),
    )
    first = next(at for at in paths if at[:depth] == path[:depth])
    with pytest.raises(ValueError, match=f"^grads{re.escape(jax.tree_util.keystr(first))} must be an array, got none"):
        optimizer.update(grads, state, params if with_params else None)


def at_depth(tree, path):
    for key in path:
        tree = tree[key.key if isinstance(key, jax.tree_util.DictKey) else key.idx]
    return tree


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    make=st.sampled_from([inna, innaprop]), shape=trees, gap=st.sampled_from([None, optax.MaskedNode()]), data=st.data()
)
def test_gaps_in_parameters_and_gradients_alike_are_kept(make, shape, gap, data):
    """As Equinox's partition and optax.masked make them; adamw keeps them too."""
    params = jax.tree.map(lambda _: gap if data.draw(st.booleans()) else jnp.ones(2), shape)
    for optimizer in (make(), optax.adamw(0.1)):
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


@BOTH
def test_other_gradients_that_do_not_fit_are_named(make):
    optimizer = make(weight_decay=0.0)
    params = {"v": jnp.ones(2), "w": [jnp.ones((2, 3))]}
    state = optimizer.init(params)
    with pytest.raises(ValueError, match=r"^grads\['v'\] must be an array, got none"):
        optimizer.update({"w": params["w"]}, state, params)
    with pytest.raises(ValueError, match=r"^grads\['x'\] belongs to no parameter of the state"):
        optimizer.update(params | {"x": jnp.ones(2)}, state, params)
    with pytest.raises(
        ValueError, match=r"^grads\['w'\]\[0\] must have the shape \(2, 3\) of its parameter, got \(3,\)"
    ):
        optimizer.update(params | {"w": [jnp.ones(3)]}, state, params)
    with pytest.raises(ValueError, match=r"^params\['v'\] must be an array, got none"):
        optimizer.update(params, state, params | {"v": None})
    with pytest.raises(TypeError, match=r"got int32 at params\['w'\]\[0\]"):
        optimizer.init({"v": 1.0, "w": [2]})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sigma=st.floats(0.0, 1.0, exclude_max=True) | st.floats(0.99, 1.0, exclude_max=True),
    dtype=st.sampled_from(["bfloat16", "float16"]),
)
def test_a_sigma_that_rounding_takes_to_one_is_refused_for_that(sigma, dtype):
    params = jnp.ones(2, dtype)
    init = optax.inject_hyperparams(innaprop)(1e-3, sigma=sigma).init
    if jnp.asarray(sigma, dtype) < 1:
        init(params)
    else:
        with pytest.raises(ValueError, match=rf"^sigma must be .* < 1, got .*{dtype} rounds .*hyperparam_dtype"):
            init(params)
    if np.float32(sigma) < 1:
        optax.inject_hyperparams(innaprop, hyperparam_dtype=jnp.float32)(1e-3, sigma=sigma).init(params)


def test_only_rounding_is_blamed_on_rounding():
    with pytest.raises(ValueError, match="rounds"):
        inna(alpha=jnp.asarray(jnp.inf, jnp.float16))  # such as 70000
    for value in (jnp.asarray(-1.0, jnp.bfloat16), jnp.asarray(jnp.nan, jnp.bfloat16), jnp.asarray(-1.0), -1.0):
        with pytest.raises(ValueError, match=r"^alpha must be a finite number >= 0, got (?!.*rounds)"):
            inna(alpha=value)
    with pytest.raises(ValueError, match=r"^sigma must be .*, got (?!.*rounds)"):
        innaprop(sigma=1.0)
