"""The networks: sizes, shapes, and where their weights come from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from inna.experiments import Run, Task
from inna.experiments.tasks.catalogue import builtin_model, split_width, with_width
from inna.experiments.tasks.load import BUILTIN_TASKS
from inna.experiments.tasks.networks import lenet5, network_in_network, small_cnn
from inna.experiments.tasks.seeds import isolated
from inna.experiments.training.train import measure

# dataset, network, channels and pixels of an image, classes, parameters (2021's and 1998's, counted by hand below).
NETWORKS = [
    ("digits", "small-cnn", 1, 8, 10, 8_714),
    ("mnist", "lenet5", 1, 28, 10, 61_706),
    ("mnist", "nin", 1, 28, 10, 957_496),
    ("fashion-mnist", "lenet5", 1, 28, 10, 61_706),
    ("fashion-mnist", "nin", 1, 28, 10, 957_496),
    ("cifar10", "nin", 3, 32, 10, 967_096),
    ("cifar100", "nin", 3, 32, 100, 994_456),
]


def test_every_network_of_every_task_is_tested_here():
    offered = {(name, model) for name, builtin in BUILTIN_TASKS.items() for model in builtin.models}
    assert offered == {(name, model) for name, model, *_ in NETWORKS}


@pytest.mark.parametrize(("name", "model", "channels", "pixels", "classes", "parameters"), NETWORKS)
def test_parameters_and_shapes(name, model, channels, pixels, classes, parameters):
    network = BUILTIN_TASKS[name].models[model]().eval()
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.no_grad():
        assert network(torch.zeros(2, channels, pixels, pixels)).shape == (2, classes)


def layers(*sizes):
    return sum(outputs * (inputs + 1) for inputs, outputs in sizes)


def test_the_counts_follow_from_the_layers():
    def nin(channels, classes):
        first = layers((channels * 25, 192), (192, 160), (160, 96))
        rest = layers((96 * 25, 192), (192, 192), (192, 192), (192 * 9, 192), (192, 192))
        return first + rest + layers((192, classes), (classes, classes))

    assert (nin(3, 10), nin(3, 100), nin(1, 10)) == (967_096, 994_456, 957_496)
    assert layers((25, 6), (150, 16), (400, 120), (120, 84), (84, 10)) == 61_706


@pytest.mark.parametrize("make", [small_cnn, lenet5, network_in_network])
def test_weights_follow_the_normal_law_of_their_layer_and_biases_are_zero(make):
    with isolated(5):
        network = make()
    standardised = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weights = module.weight.detach().flatten(1)
            standardised.append((weights / math.sqrt(2 / weights.shape[1])).flatten())
            assert not module.bias.any()
            # Mean and variance of each layer, within five standard errors of them.
            count = weights.numel()
            assert abs(standardised[-1].mean()) < 5 / math.sqrt(count)
            assert abs(standardised[-1].var() - 1) < 5 * math.sqrt(2 / count)
    together = torch.cat(standardised).double().numpy()
    assert stats.kstest(together, "norm").pvalue > 0.01
    assert abs(stats.kurtosis(together)) < 5 * math.sqrt(24 / len(together))


@pytest.mark.parametrize(("name", "model", "channels", "pixels", "classes", "parameters"), NETWORKS)
def test_every_optimizer_starts_from_the_same_weights_at_a_seed(name, model, channels, pixels, classes, parameters):
    with isolated(1):
        images = torch.rand(4, channels, pixels, pixels)
    data = (images, torch.arange(4) % classes)
    task = Task(name, BUILTIN_TASKS[name].models[model], data, data, nn.functional.cross_entropy, model_name=model)

    def first_loss(optimizer, seed):
        return measure(Run(name, model, optimizer, 1e-3, epochs=1, seed=seed), task)["history"][0]["train_loss"]

    first = first_loss("sgd", seed=0)
    assert [first_loss(optimizer, seed=0) for optimizer in ("inna", "adam", "innaprop")] == [first] * 3
    assert first_loss("sgd", seed=1) != first


@pytest.mark.parametrize("padding", [0, 2])
def test_the_padding_of_the_network_for_28_pixels_gives_the_rest_what_32_pixels_give(padding):
    with isolated(2):
        padded, plain = network_in_network(channels=1, size=(32 - 2 * padding,) * 2), network_in_network(channels=1)
        images = torch.rand(2, 1, 32 - 2 * padding, 32 - 2 * padding)
    with torch.no_grad():
        for from_one, to_other in zip(plain.parameters(), padded.parameters(), strict=True):
            from_one.copy_(to_other)
        around = nn.functional.pad(images, (padding,) * 4)
        assert plain.eval()(around).equal(padded.eval()(images))


def test_in_lenet_pooling_first_gives_the_bits_of_relu_first():
    with isolated(3):
        images, classes = torch.rand(96, 1, 28, 28), torch.arange(96) % 10
    task = Task("t", lenet5, (images, classes), (images, classes), nn.functional.cross_entropy, channels_last=True)

    def relu_first():
        made = list(lenet5())
        return nn.Sequential(*(made[i] for i in (0, 2, 1, 3, 5, 4, *range(6, len(made)))))

    assert isinstance(relu_first()[1], nn.ReLU)
    other = Task("t", relu_first, task.train, task.test, task.loss, channels_last=True)
    run = Run("t", "lenet5", "inna", 0.3, 0.5, 0.1, epochs=4)

    def losses(result):
        return [(entry["train_loss"], entry["test_loss"]) for entry in result["history"]]

    assert losses(measure(run, task)) == losses(measure(run, other))


@settings(max_examples=20, deadline=None)
@given(width=st.floats(0.01, 1), classes=st.integers(2, 20))
def test_a_width_scales_the_channels_and_leaves_the_layers(width, classes):
    full = list(network_in_network(classes, width=1.0).modules())
    scaled = list(network_in_network(classes, width=width).modules())
    assert [type(layer) for layer in full] == [type(layer) for layer in scaled]
    hidden = [pair for pair in zip(full, scaled, strict=True) if isinstance(pair[0], nn.Conv2d)][:-1]
    for before, after in hidden:
        assert after.kernel_size == before.kernel_size
        assert after.out_channels % 16 == 0
        assert abs(after.out_channels - max(16, width * before.out_channels)) <= 8
        # The normal law of the full width: N(0, 2 / fan_in).
        fan_in = after.weight[0].numel()
        share = after.weight.square().mean().item() * fan_in / 2
        assert abs(share - 1) < 6 * math.sqrt(2 / after.weight.numel())


@given(width=st.floats(0.01, 1).map(lambda width: float(f"{width:.3g}")))
def test_the_name_of_a_width_is_read_as_it_is_written(width):
    name = with_width("nin", width)
    assert split_width(name) == ("nin", width)
    assert builtin_model("cifar10", name) == name
    assert Run("cifar10", name, "sgd", 0.1).key != Run("cifar10", "nin", "sgd", 0.1).key or width == 1


@pytest.mark.parametrize(
    ("model", "width", "words"),
    [
        ("lenet5", 0.5, "width is for the network nin, got 'lenet5' with width 0.5"),
        ("nin", 0.001, "width must be"),
        ("nin", 2.0, "width must be a number from 0.01 to 1, got 2"),
        ("nin", math.nan, "width must be"),
    ],
)
def test_other_widths_are_refused(model, width, words):
    with pytest.raises(ValueError, match=words):
        with_width(model, width)
    for name in ("nin-w0.50", "nin-w2", "nin-w", "lenet5-w0.5", "nin-w0.001"):
        with pytest.raises(ValueError, match="the networks for mnist are lenet5, nin; got"):
            builtin_model("mnist", name)
