"""find_lr for Keras, on the backend that KERAS_BACKEND names; tests/test_keras_backends.py runs this on each."""

from __future__ import annotations

import random

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from inna.keras import INNA, INNAprop, PowerDecay, find_lr  # noqa: E402

# Keras's variables predate NumPy 2's __array__.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the best learning rate"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def data(samples=96, batch=16):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(samples, 4)).astype("float32")
    targets = inputs @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")
    return [(inputs[i : i + batch], targets[i : i + batch]) for i in range(0, samples, batch)]


def network(dropout=0.0):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dropout(dropout), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def test_the_losses_are_those_of_training_at_each_learning_rate():
    model, batches = network(), data()
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.weights]
    random.seed(3), np.random.seed(3)
    states = random.getstate(), np.random.get_state()[1].copy()
    found = find_lr(INNA, model, "mean_squared_error", data(), grid=[0.01, 0.1], steps=48, seed=2)
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    now = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    assert all((weight == old).all() for weight, old in zip(now, before, strict=True))
    order = [batch for epoch in range(20) for batch in random.Random(2 + epoch).sample(batches, len(batches))]
    lr = found.lr
    model.compile(optimizer=INNA(lr), loss="mean_squared_error")
    for expected, batch in zip(found.losses[lr], order, strict=False):
        model.reset_metrics()
        assert model.train_on_batch(*batch, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_function_makes_the_optimizers_and_dropout_is_repeated():
    def decayed(lr):
        return INNAprop(PowerDecay(lr, 0.5))

    results = [find_lr(decayed, network(0.5), "mse", data(), grid=[0.01, 0.1], steps=24, chance=14.0) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].chance <= 14


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return data()[index]


def test_data_may_be_a_pydataset():
    found = find_lr(keras.optimizers.SGD, network(), "mse", Batches(), grid=[0.01, 0.1], steps=24)
    assert found.status[0.1] == "trained"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [0.1]}, "grid must have at least two learning rates"),
        ({"batches": []}, "batches is empty"),
        ({"batches": [1, 2]}, r"batches must yield pairs \(inputs, targets\), got int"),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, "model must be built"),
        ({"optimizer": lambda lr: INNA(-lr)}, "learning_rate must be"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments_are_refused(changes, message):
    given = {"optimizer": INNA, "model": network(), "batches": data(), "grid": [0.01, 0.1], "steps": 24} | changes
    with pytest.raises(ValueError, match=message):
        find_lr(loss="mse", **given)
