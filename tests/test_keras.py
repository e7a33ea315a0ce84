"""inna.keras on the backend that KERAS_BACKEND names; tests/test_keras_backends.py runs this on each."""

import inspect
import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from front_end_defaults import assert_defaults
from guarded_reference import FreeGroup, free_steps
from inna import dynamics
from inna.keras import INNA, INNAprop, INNApropLRFree, PowerDecay
from inna.schedules import power_decay

# Keras's variables predate NumPy 2's __array__.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
BACKEND = keras.backend.backend()
START = np.linspace(-1.5, 2.0, 6)
BOTH = pytest.mark.parametrize("make", [INNA, INNAprop])


@pytest.fixture
def double():
    """Keras in float64."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    if BACKEND == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield
    keras.config.set_floatx(before)


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(7)


def bowl(theta):
    return np.arange(1.0, 1.0 + theta.size).reshape(theta.shape) * theta - 0.5


def as_array(x):
    return np.array(ops.convert_to_numpy(x))


def run(optimizer, starts, steps, grad=bowl):
    variables = [keras.Variable(x, name=name) for name, x in starts.items()]
    optimizer.build(variables)
    for _ in range(steps):
        optimizer.apply([ops.convert_to_tensor(grad(as_array(v)).astype(str(v.dtype))) for v in variables])
    return {v.name: as_array(v) for v in variables}


def small_model(optimizer, **compile_options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", **compile_options)
    return model


def data(n=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype("float32")
    return x, np.sin(x.sum(1, keepdims=True))


@pytest.mark.parametrize("initial_speed", [None, 1.0])
@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("sigma", [None, 0.9])
def test_the_rule_with_decay_and_exclusions(double, sigma, decay, initial_speed):
    starts = {"kernel": START.reshape(2, 3), "bias": START[:2]}
    rate = PowerDecay(0.1, 0.5)
    shared = {"initial_speed": initial_speed, "weight_decay": decay}
    optimizer = INNAprop(rate, 0.5, 0.2, sigma, 1e-7, **shared) if sigma else INNA(rate, 0.5, 0.2, **shared)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    made = run(optimizer, starts, 12)
    for name, theta in starts.items():
        m, v = np.zeros_like(theta), np.zeros_like(theta)
        weight_decay = (decay or 0.0) if name == "kernel" else 0.0
        for k in range(12):
            lr, g = 0.1 * power_decay(0.5)(k), bowl(theta)
            if sigma:
                g, v = dynamics.rescale(g, v, k + 1, sigma, 1e-7)
            if k == 0:
                m = dynamics.initial_momentum(g, 0.2, initial_speed)
            if sigma:
                theta, m = dynamics.decay_innaprop(theta, m, lr, 0.5, 0.2, weight_decay)
            else:
                theta = (1 - lr * weight_decay) * theta
            theta, m = dynamics.step(theta, m, g, lr, 0.5, 0.2)
        np.testing.assert_allclose(made[name], theta, rtol=0, atol=1e-13)


@BOTH
def test_all_weights_may_be_excluded_from_decay(double, make):
    optimizer = make(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["weight"])
    made = run(optimizer, {"weight": START}, 3)["weight"]
    np.testing.assert_array_equal(made, run(make(0.1, weight_decay=None), {"weight": START}, 3)["weight"])


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.875, False), (0.875, True)])
def test_from_sgd_makes_the_iterates_of_keras_sgd(double, momentum, nesterov):
    """With numbers that are exact in float32: on TensorFlow, Keras's SGD rounds its settings to it."""
    ours = run(INNA(*dynamics.from_sgd(1 / 64, momentum, nesterov)), {"w": START}, 40)["w"]
    theirs = run(keras.optimizers.SGD(1 / 64, momentum=momentum, nesterov=nesterov), {"w": START}, 40)["w"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("time_step", [None, 2.0])
def test_the_lr_free_rule_with_decay_and_exclusions(double, decay, time_step):
    starts = {"kernel": START.reshape(2, 3), "bias": START[:2]}
    # An earlier estimate of the distance than 1e-6 reaches its end in few steps.
    optimizer = INNApropLRFree(PowerDecay(1.0, 0.1), 0.2, 0.8, 0.9, 1e-7, decay, 1e-2, time_step)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    made = run(optimizer, starts, 40)
    options = {"alpha": 0.2, "beta": 0.8, "sigma": 0.9, "eps": 1e-7, "time_step": time_step or 0.5}
    groups = [
        FreeGroup(START.copy(), weight_decay=decay or 0.0, **options),
        FreeGroup(START[:2].copy(), **options),
    ]

    def evaluate(k, thetas):
        for group in groups:
            group.lr = power_decay(0.1)(k)
        return [bowl(theta) for theta in thetas]

    distances = free_steps(groups, evaluate, 40, 1e-2)
    np.testing.assert_allclose(as_array(optimizer.distance), distances[-1], rtol=1e-11)
    assert distances[-1] > 0.1
    for group, theta in zip(groups, made.values(), strict=True):
        np.testing.assert_allclose(theta.ravel(), group.theta, rtol=0, atol=1e-11)


def test_an_lr_free_step_that_is_not_finite_or_has_factor_zero_changes_nothing():
    weight = keras.Variable(START.astype("float32"))
    optimizer = INNApropLRFree(weight_decay=0.1)
    optimizer.build([weight])
    for rate, g in [(0.0, 1.0), (1.0, np.nan), (1.0, 1.0), (1.0, np.inf), (0.0, 1.0)]:
        optimizer.learning_rate = rate
        before = {v.path: as_array(v) for v in (weight, *optimizer.variables)}
        optimizer.apply([ops.convert_to_tensor(np.full(6, g, "float32"))])
        after = {v.path: as_array(v) for v in (weight, *optimizer.variables)}
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        if rate == 0 or not np.isfinite(g):
            assert changed == {path for path in before if "iteration" in path}
        else:
            assert weight.path in changed


def test_lr_free_training_is_saved_resumed_and_accumulated(tmp_path):
    x, y = data()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}

    def optimizer(**more):
        return INNApropLRFree(PowerDecay(1.0, 0.1, more.get("gradient_accumulation_steps", 1)), **more)

    whole = small_model(optimizer())
    before = whole.evaluate(x, y, verbose=0)
    whole.fit(x, y, epochs=20, **options)
    assert whole.evaluate(x, y, verbose=0) < before / 2
    first = small_model(optimizer())
    first.fit(x, y, epochs=10, **options)
    first.save(tmp_path / "half.keras")
    second = keras.models.load_model(tmp_path / "half.keras")
    assert type(second.optimizer) is INNApropLRFree
    second.fit(x, y, epochs=10, **options)
    for ours, theirs in zip(
        [*second.weights, *second.optimizer.variables], [*whole.weights, *whole.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(as_array(ours), as_array(theirs))
    in_parts = small_model(optimizer(gradient_accumulation_steps=2))
    in_parts.fit(x, y, epochs=2, **options | {"batch_size": 4})
    at_once = small_model(optimizer())
    at_once.fit(x, y, epochs=2, **options)
    for ours, theirs in zip(in_parts.weights, at_once.weights, strict=True):
        np.testing.assert_allclose(as_array(ours), as_array(theirs), rtol=1e-3, atol=1e-6)


def test_lr_free_input_that_is_refused():
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(ValueError, match=rf"needs variables of at least 32 bits, got {dtype} in .*thin"):
            INNApropLRFree().build([keras.Variable(START, dtype=dtype, name="thin")])
    with pytest.raises(ValueError, match=r"alpha \* beta must be <= 1 here, got 2\.0 \* 0\.9: .*negative weights"):
        INNApropLRFree(1.0, 2.0)
    with pytest.raises(ValueError, match=r"alpha \* time_step must be <= 1 here, got 0\.1 \* 11\.0"):
        INNApropLRFree(time_step=11.0)
    for name in ("alpha", "initial_distance", "time_step"):
        with pytest.raises(ValueError, match=rf"^{name} must be a finite number > 0, got 0"):
            INNApropLRFree(**{name: 0})
    with pytest.raises(NotImplementedError, match="steps all variables together"):
        INNApropLRFree().update_step(None, None, None)
    assert INNApropLRFree(beta=0.0, weight_decay=0.1).beta == 0


def test_power_decay_is_the_schedule_of_the_paper(double):
    rate = PowerDecay(0.3, 0.25)
    for k in (0, 1, 10, 12345):
        assert float(rate(k)) == pytest.approx(0.3 * (k + 1) ** -0.25, rel=1e-14)
        assert float(rate(ops.convert_to_tensor(k))) == pytest.approx(0.3 * (k + 1) ** -0.25, rel=1e-14)


@BOTH
def test_accumulated_gradients_are_one_large_batch(double, make):
    """Keras passes micro-steps to the schedule; PowerDecay counts updates, given their number."""
    grads = np.random.default_rng(1).normal(size=(5, 3, 6))
    options = {"initial_speed": 1.0, "weight_decay": 0.1}
    small = make(PowerDecay(0.1, 0.5, gradient_accumulation_steps=3), gradient_accumulation_steps=3, **options)
    large = make(PowerDecay(0.1, 0.5), **options)
    micro, whole = keras.Variable(START), keras.Variable(START)
    for group in grads:
        before = as_array(micro)
        for i, g in enumerate(group):
            np.testing.assert_array_equal(as_array(micro), before, err_msg=f"micro-step {i}")
            small.apply([ops.convert_to_tensor(g)], [micro])
        large.apply([ops.convert_to_tensor(group.mean(0))], [whole])
        np.testing.assert_allclose(as_array(micro), as_array(whole), rtol=0, atol=1e-13)


@pytest.mark.parametrize("clipping", [{"clipnorm": 0.5}, {"clipvalue": 0.3}, {"global_clipnorm": 0.7}])
def test_clipping_is_a_step_with_the_clipped_gradient(double, clipping):
    g = {"a": np.array([3.0, -0.1]), "b": np.array([[0.2, -4.0]])}
    name, most = next(iter(clipping.items()))
    whole = np.sqrt(sum((x**2).sum() for x in g.values()))
    clipped = {
        "clipnorm": lambda x: x * min(1.0, most / np.linalg.norm(x)),
        "clipvalue": lambda x: np.clip(x, -most, most),
        "global_clipnorm": lambda x: x * min(1.0, most / whole),
    }[name]
    variables = [keras.Variable(np.zeros_like(x)) for x in g.values()]
    INNA(0.1, 0.5, 0.2, **clipping).apply([ops.convert_to_tensor(x) for x in g.values()], variables)
    for variable, x in zip(variables, g.values(), strict=True):
        np.testing.assert_allclose(as_array(variable), -0.1 * 0.2 * clipped(x), rtol=1e-6)


def test_ema_averages_the_iterates(double):
    weight = keras.Variable(START)
    optimizer = INNA(0.1, use_ema=True, ema_momentum=0.5)
    average = None
    for _ in range(4):
        optimizer.apply([ops.convert_to_tensor(bowl(as_array(weight)))], [weight])
        now = as_array(weight)
        average = now if average is None else 0.5 * average + 0.5 * now
    optimizer.finalize_variable_values([weight])
    np.testing.assert_allclose(as_array(weight), average, rtol=1e-12)


@BOTH
def test_loss_scaling_changes_no_iterate_and_skips_overflow(double, make):
    plain = run(make(0.1, initial_speed=1.0), {"w": START}, 3)["w"]
    scaled = keras.optimizers.LossScaleOptimizer(make(0.1, initial_speed=1.0), initial_scale=1024.0)
    weight = keras.Variable(START)
    scaled.build([weight])

    def apply(g):
        if BACKEND != "jax":
            scaled.apply([ops.convert_to_tensor(g)])
            return
        # Keras's loss scaling is for jitted steps there.
        values = [v.value for v in scaled.variables]
        (theta,), values = scaled.stateless_apply(values, [ops.convert_to_tensor(g)], [weight.value])
        weight.assign(theta)
        for variable, value in zip(scaled.variables, values, strict=True):
            variable.assign(value)

    for k in range(4):
        before = [as_array(v) for v in (weight, *scaled.inner_optimizer.variables)]
        scale = float(scaled.scale_loss(1.0))
        if k == 1:
            apply(np.full(6, np.inf))
            for old, new in zip(before, (weight, *scaled.inner_optimizer.variables), strict=True):
                np.testing.assert_array_equal(old, as_array(new))
        else:
            apply(scale * bowl(as_array(weight)))
    np.testing.assert_allclose(as_array(weight), plain, rtol=0, atol=1e-13)
    fixed = run(make(0.1, initial_speed=1.0, loss_scale_factor=8.0), {"w": START}, 3, grad=lambda x: 8 * bowl(x))["w"]
    np.testing.assert_allclose(fixed, plain, rtol=0, atol=1e-13)


@BOTH
def test_a_step_with_lr_zero_changes_nothing(make):
    weight = keras.Variable(START.astype("float32"))
    optimizer = make(0.1, initial_speed=1.0, weight_decay=0.1)
    optimizer.build([weight])
    for rate in (0.0, 0.1, 0.0):
        optimizer.learning_rate = rate
        before = {v.path: as_array(v) for v in (weight, *optimizer.variables)}
        g = np.full(6, np.nan if rate == 0 else 1.0, "float32")
        optimizer.apply([ops.convert_to_tensor(g)])
        after = {v.path: as_array(v) for v in (weight, *optimizer.variables)}
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        if rate == 0:
            assert changed == {path for path in before if "iteration" in path}
    # the initial velocity has waited for the first step that moves: theta_1 = theta_0 - gamma s g_0
    if make is INNA:
        expected = START * (1 - 0.1 * 0.1) - 0.1 * 1.0
        np.testing.assert_allclose(as_array(weight), expected, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_16_bit_weight_is_stepped_in_single_precision(make, dtype):
    """One step from equal values is that of float32, rounded once."""
    coarse = keras.Variable(START, dtype=dtype)
    fine = keras.Variable(ops.cast(coarse.value, "float32"), dtype="float32")
    for weight in (coarse, fine):
        g = ops.cast(ops.convert_to_tensor(bowl(START).astype("float32")), dtype)
        make(0.1, initial_speed=1.0).apply([ops.cast(g, weight.dtype)], [weight])
    rounded = ops.cast(fine.value, dtype)
    np.testing.assert_array_equal(*(as_array(ops.cast(x, "float32")) for x in (coarse.value, rounded)))


@BOTH
def test_saved_in_mid_training_and_resumed(tmp_path, make):
    x, y = data()

    def optimizer():
        return make(PowerDecay(0.05, 0.5), initial_speed=1.0, weight_decay=0.01, clipnorm=1.0)

    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole = small_model(optimizer())
    whole.fit(x, y, epochs=4, **options)
    first = small_model(optimizer())
    first.fit(x, y, epochs=2, **options)
    first.save(tmp_path / "half.keras")
    second = keras.models.load_model(tmp_path / "half.keras")
    assert type(second.optimizer) is make
    assert second.optimizer.get_config() == first.optimizer.get_config()
    second.fit(x, y, epochs=2, **options)
    for ours, theirs in zip(
        [*second.weights, *second.optimizer.variables], [*whole.weights, *whole.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(as_array(ours), as_array(theirs))


@BOTH
def test_fit_is_the_loop_over_apply(make):
    """Compiled by the backend (jit_compile where it is XLA) or not, the weights are those of the rule."""
    x, y = data()
    compiled = small_model(make(PowerDecay(0.05, 0.5), initial_speed=1.0), jit_compile=BACKEND != "torch")
    compiled.fit(x, y, epochs=5, batch_size=32, shuffle=False, verbose=0)
    model = small_model(make(PowerDecay(0.05, 0.5), initial_speed=1.0), run_eagerly=True, jit_compile=False)
    model.fit(x, y, epochs=5, batch_size=32, shuffle=False, verbose=0)
    for ours, theirs in zip(compiled.weights, model.weights, strict=True):
        np.testing.assert_allclose(as_array(ours), as_array(theirs), rtol=1e-4, atol=1e-6)


def test_rows_of_an_embedding_that_no_example_names_keep_moving(double):
    """TensorFlow passes sparse gradients there; the momentum moves every row all the same."""
    layer = keras.layers.Embedding(4, 2, dtype="float64")
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer, keras.layers.Flatten(dtype="float64")])
    model.compile(optimizer=INNA(0.1, 0.5, 0.1), loss="mse", run_eagerly=BACKEND == "tensorflow", jit_compile=False)
    x, y = np.array([[1]]), np.array([[3.0, 3.0]])
    theta, m = as_array(layer.embeddings), np.zeros((4, 2))
    for name in (1, 2, 1):
        model.fit(x * name, y, epochs=1, verbose=0)
        g = np.zeros((4, 2))
        g[name] = theta[name] - 3.0
        theta, m = dynamics.step(theta, m, g, 0.1, 0.5, 0.1)
    np.testing.assert_allclose(as_array(layer.embeddings), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "thing",
    [
        PowerDecay(0.3, 0.25, gradient_accumulation_steps=4),
        INNA(0.3, 2.0, 0.5, initial_speed=1.0, weight_decay=0.1, clipnorm=1.0, name="mine"),
        INNA(PowerDecay(0.3, 0.25)),
        INNAprop(0.3, 2.0, 0.5, 0.9, 1e-6, 0.1, initial_speed=0.5, use_ema=True),
        INNAprop(keras.optimizers.schedules.CosineDecay(0.1, 100), weight_decay=None),
        INNApropLRFree(0.5, 0.2, 0.3, 0.9, 1e-6, 0.1, 1e-4, 2.0, clipnorm=1.0, name="mine"),
        INNApropLRFree(PowerDecay(1.0, 0.25)),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_configurations_survive_json(thing):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    assert config["registered_name"] == f"inna>{type(thing).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(thing)
    assert json.dumps(again.get_config()) == json.dumps(thing.get_config())


@pytest.mark.parametrize("make", [INNA, INNAprop])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("alpha", -1.0),
        ("beta", float("inf")),
        ("initial_speed", "1"),
        ("weight_decay", -1e-3),
    ],
)
def test_arguments_out_of_range(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number.*, got "):
        make(**{name: value})


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"^sigma must be a finite number >= 0 and < 1, got 1\.0"):
        INNAprop(sigma=1.0)
    with pytest.raises(ValueError, match=r"^epsilon must be a finite number >= 0, got -1"):
        INNAprop(epsilon=-1)
    with pytest.raises(ValueError, match=r"^beta must be > 0 with weight_decay .* got 0\.0"):
        INNAprop(beta=0.0)
    INNAprop(beta=0.0, weight_decay=None)
    with pytest.raises(ValueError, match="not recognized"):
        INNA(momentum=0.9)
    with pytest.raises(ValueError, match=r"^power must be a finite number >= 0, got -1"):
        PowerDecay(0.1, -1)
    with pytest.raises(ValueError, match=r"^gradient_accumulation_steps must be an integer, got 1.5"):
        PowerDecay(0.1, 0.5, 1.5)


@pytest.mark.parametrize("make", [INNA, INNAprop, PowerDecay])
@pytest.mark.parametrize("hold", [keras.Variable, ops.convert_to_tensor, np.array], ids=["variable", "tensor", "array"])
def test_what_may_change_later_is_refused_as_a_number(make, hold):
    """Keras's AdamW refuses such a learning rate too."""
    with pytest.raises(ValueError, match="learning_rate"):
        keras.optimizers.AdamW(hold(0.5))
    settings = {*inspect.signature(make).parameters} - {"name", "kwargs"}
    for name in settings:
        with pytest.raises(ValueError, match=rf"^{name} must be a number.* got .*pass float\({name}\)"):
            make(**{name: hold(0.5)})
        make(**{name: np.int64(1) if name == "gradient_accumulation_steps" else np.float32(0.5)})


@BOTH
@pytest.mark.parametrize("by_function", [False, True])
def test_a_learning_rate_that_is_assigned_is_that_of_the_next_step(make, by_function):
    rate = keras.Variable(0.1)
    optimizer = make((lambda: rate) if by_function else 0.1)
    weight = keras.Variable(START.astype("float32"))
    optimizer.build([weight])
    rate = rate if by_function else optimizer.learning_rate
    for value in (0.1, 0.0, 0.2):
        rate.assign(value)
        before = as_array(weight)
        optimizer.apply([ops.ones(6)])
        assert np.array_equal(as_array(weight), before) == (value == 0)


@BOTH
def test_a_learning_rate_that_is_assigned_between_fits_is_followed(make):
    x, y = data()
    model = small_model(make(0.1))
    for value in (0.1, 0.0, 0.2):
        model.optimizer.learning_rate.assign(value)
        before = [as_array(w) for w in model.weights]
        model.fit(x, y, verbose=0)
        same = all(np.array_equal(old, as_array(new)) for old, new in zip(before, model.weights, strict=True))
        assert same == (value == 0)


def test_names_of_the_optimizers():
    class Ours(INNAprop):
        pass

    keras.utils.clear_session()
    names = [(INNA, "inna"), (INNAprop, "innaprop"), (INNApropLRFree, "innaprop_lr_free"), (Ours, "ours")]
    for make, name in names:
        assert [make().name for _ in range(3)] == [name, f"{name}_1", f"{name}_2"]
        assert make(name="mine").name == "mine"
    assert INNAprop(name=None).iterations.path == "innaprop_3/iteration"


def test_eps_is_the_deprecated_name_of_epsilon():
    with pytest.warns(DeprecationWarning, match=r"write epsilon=") as caught:
        optimizer = INNAprop(eps=1e-5)
    assert caught[0].filename == __file__
    assert optimizer.epsilon == 1e-5
    with pytest.raises(ValueError, match="not recognized"):
        INNA(eps=1e-5)


def test_a_config_with_the_old_names_still_loads():
    new = keras.saving.serialize_keras_object(INNAprop(0.3, epsilon=1e-5))
    old = json.loads(json.dumps(new))
    old["config"]["eps"] = old["config"].pop("epsilon")
    old["config"]["name"] = "inn_aprop"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = keras.saving.deserialize_keras_object(old)
    assert again.get_config() == new["config"] | {"name": "inn_aprop"}


def test_the_defaults_are_those_of_the_rule():
    assert_defaults(INNA, dynamics.INNA_DEFAULTS)
    assert_defaults(INNAprop, dynamics.INNAPROP_DEFAULTS)
    assert PowerDecay().initial_learning_rate == dynamics.INNA_DEFAULTS.lr
