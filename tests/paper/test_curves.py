"""The digitised curves of the paper: all are stored, and agree with its text and figures."""

from __future__ import annotations

import math

import pytest

from inna.paper.curves import BEST_IN_FIGURE_3, PAPER_DATASETS, PAPER_EPOCHS, PaperCurve, paper_curve
from inna.paper.protocol import contenders

LABELS = [contender.label for contender in contenders()]
DAMPINGS, SLOW = LABELS[:4], LABELS[-3:]
CLASSES = {"cifar10": 10, "cifar100": 100, "mnist": 10}


def members(figure: int, dataset: str) -> list[str]:
    return {
        2: DAMPINGS,
        3: [BEST_IN_FIGURE_3[dataset], "SGD", "AdaGrad", "Adam"],
        4: ["INNA (0.5, 0.1)", *SLOW],
    }[figure]


def found(figure: int, dataset: str, quantity: str, label: str) -> PaperCurve:
    curve = paper_curve(figure, dataset, quantity, label)
    assert curve is not None
    return curve


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
@pytest.mark.parametrize("figure", [2, 3, 4])
def test_every_curve_of_a_figure_is_stored(figure, dataset):
    for label in LABELS:
        curve = paper_curve(figure, dataset, "log10_train_loss", label)
        assert (curve is not None) == (label in members(figure, dataset))
        if curve is None:
            continue
        assert curve.epochs == tuple(range(0, PAPER_EPOCHS + 1, 5))
        # Before training the loss is the logarithm of the number of classes; bands hold their lines.
        assert curve.mean[0] == pytest.approx(math.log10(math.log(CLASSES[dataset])), abs=0.006)
        assert all(
            low - 2e-3 <= mean <= high + 2e-3
            for low, mean, high in zip(curve.low, curve.mean, curve.high, strict=True)
            if low is not None and mean is not None and high is not None
        )
        assert (paper_curve(figure, dataset, "test_accuracy", label) is None) == (figure == 4)


@pytest.mark.parametrize(
    ("dataset", "quantity", "label", "value"),
    [
        ("cifar10", "log10_train_loss", "INNA (0.1, 0.1)", -0.507),
        ("cifar10", "test_accuracy", "AdaGrad", 0.732),
        ("cifar100", "test_accuracy", "INNA (0.5, 0.1)", 0.513),
        ("cifar100", "log10_train_loss", "Adam", -0.290),
        ("mnist", "log10_train_loss", "SGD", -1.78),
        ("mnist", "test_accuracy", "Adam", 0.9957),
    ],
)
def test_the_last_epoch_of_figure_3(dataset, quantity, label, value):
    assert found(3, dataset, quantity, label).at(PAPER_EPOCHS).mean == pytest.approx(value, abs=6e-3 * abs(value))


def test_figure_4_has_its_own_curve_of_the_half_power():
    of_2, of_4 = (found(figure, "cifar10", "log10_train_loss", "INNA (0.5, 0.1)") for figure in (2, 4))
    assert of_2.at(200).mean == -0.3868
    assert of_4.at(200).mean == -0.4633


def test_between_the_digitised_epochs_a_curve_is_linear():
    curve = PaperCurve((0, 5, 10), (1.0, 2.0, None), (0.0, 1.0, 1.0), (2.0, 3.0, 4.0))
    assert curve.at(5).mean == 2.0
    assert curve.at(2).mean == pytest.approx(1.4)
    assert curve.at(7).mean is None
    assert curve.at(7.5).high == pytest.approx(3.5)
    for epoch in (-1, 10.5):
        with pytest.raises(ValueError, match="epoch must be between 0 and 10"):
            curve.at(epoch)


def test_other_data_sets_and_optimizers_have_no_curve():
    assert paper_curve(2, "digits", "test_accuracy", "INNA (0.5, 0.1)") is None
    assert paper_curve(3, "mnist", "test_accuracy", "heavy ball") is None
    assert paper_curve(3, "mnist", "test_accuracy", "INNA (0.5, 0.5)") is None
