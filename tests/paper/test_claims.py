"""Verdicts: every claim can hold, fail and lack runs; the rules on the paper's own curves."""

from __future__ import annotations

import math

import pytest

from inna.experiments.rows.run import Metric
from inna.experiments.statistics.summary import summarize
from inna.paper import claims
from inna.paper.claims import ACCURACY_MARGIN, CHANCE, CLAIMS, LOSS_MARGIN, MIN_SEEDS, compare
from inna.paper.curves import PAPER_DATASETS
from inna.paper.evidence import ACCURACY, BEST, LOSS, Value, best_damping
from inna.paper.reproduction import judge
from inna.paper.verdicts import Comparison, Verdict, outcome
from inna.paper.words import numbers_of
from protocol_rows import FINE, rows_of, study_of

NAMES = [claim.name for claim in CLAIMS]
FOUR = list(FINE)[:4]
AT_CHANCE = (2.3, 0.1, 1.0)


def verdicts(study=None, **options) -> dict[str, Verdict]:
    study = study or study_of()
    return {verdict.name: verdict for verdict in judge(summarize(study, rows_of(study, **options)))}


# What has to change in FINE, where every claim but the one about chance holds, for each to turn over.
TURNED = {
    "dampings-not-crucial": {"changes": {"INNA (0.5, 1)": (0.02 * 10**0.52, 0.982, 1.0)}},
    "good-default": {"changes": {"INNA (0.5, 0.1)": (0.02 * 10**0.22, 0.984, 1.0)}},
    "some-seeds-at-chance": {"by_seed": {("INNA (0.5, 1)", 2): AT_CHANCE}},
    "inna-trains-lower": {"changes": {"SGD": (0.0201, 0.970, 1.0)}},
    "adam-trains-lower": {"changes": {"AdaGrad": (0.0099, 0.972, 0.7)}},
    "adam-faster-early": {"changes": {"Adam": (0.010, 0.981, 1.6)}},
    "inna-best-accuracy": {"changes": {"Adam": (0.010, 0.9845, 0.4)}},
    "quarter-beats-adam": {"changes": {"Adam": (0.005, 0.981, 0.4)}},
    "sixteenth-fails": {"changes": {"INNA (0.5, 0.1), q = 1/16": (0.5, 0.8, 0.5)}},
    "lower-loss-than-heavy-ball": {"changes": {"heavy ball": (0.0195, 0.980, 1.0)}},
    "higher-accuracy-than-heavy-ball": {"changes": {"heavy ball": (0.025, 0.9845, 1.0)}},
}


def test_every_claim_is_tested():
    assert list(TURNED) == NAMES
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_claim_can_hold_and_not_hold(name):
    as_it_is, turned = verdicts()[name], verdicts(**TURNED[name])[name]
    expected = ["holds", "does not hold"]
    if name == "some-seeds-at-chance":
        expected.reverse()
    assert [as_it_is.outcome, turned.outcome] == expected
    assert as_it_is.sentence != turned.sentence
    for verdict in (as_it_is, turned):
        assert verdict.when == f"epoch {5 if name in ('some-seeds-at-chance', 'adam-faster-early') else 20}"
        assert all(figure.ours and figure.paper for figure in verdict.numbers)


def test_dampings_at_chance_are_neither_alike_nor_good():
    found = verdicts(changes=dict.fromkeys(FOUR, AT_CHANCE))
    for name in ("dampings-not-crucial", "good-default"):
        assert found[name].outcome == "does not hold"
        assert found[name].sentence.endswith("All four are at chance.")


@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_each_claim_lacks_runs_if_an_optimizer_has_two_seeds(claim):
    for label in claim.labels:
        verdict = verdicts(without=[(label, 1)])[claim.name]
        assert verdict.outcome == "not enough runs"
        assert f"there are 2 of {label}." in verdict.sentence


def test_without_an_optimizer_only_its_claims_lack_runs():
    found = verdicts(without=["heavy ball"])
    lacking = [name for name, verdict in found.items() if verdict.outcome == "not enough runs"]
    assert lacking == ["lower-loss-than-heavy-ball", "higher-accuracy-than-heavy-ball"]
    study = study_of(contenders=[each for each in study_of().contenders if each.label in ("SGD", "AdaGrad", "Adam")])
    found = {verdict.name: verdict for verdict in judge(summarize(study, rows_of(study)))}
    assert [name for name, verdict in found.items() if verdict.outcome == "holds"] == ["adam-trains-lower"]
    assert (
        "Needs 3 final seeds of each optimizer; there are 0 of INNA (0.1, 0.1), 0 of" in found["good-default"].sentence
    )


def test_seeds_must_be_common():
    study = study_of(seeds=(1, 2, 3, 4, 5))
    found = verdicts(study, without=[("Adam", 1), ("Adam", 2), ("SGD", 4), ("SGD", 5)])
    assert found["adam-trains-lower"].outcome == "not enough runs"
    assert found["adam-trains-lower"].sentence == "Needs 3 final seeds that all optimizers have; they have 1 in common."
    assert found["quarter-beats-adam"].outcome == "holds"
    assert "of 3 seeds" in found["quarter-beats-adam"].sentence


def test_short_runs_have_no_early_epoch():
    found = verdicts(study_of(epochs=4))
    assert found["adam-faster-early"].outcome == "not enough runs"
    assert found["adam-faster-early"].sentence == "Judged after epoch 5; these runs take 4 epochs."
    assert found["adam-trains-lower"].when == "epoch 4"


def ratio(gap: float) -> float:
    return 10**gap


@pytest.mark.parametrize(("gap", "outcome"), [(LOSS_MARGIN + 0.002, "holds"), (LOSS_MARGIN - 0.002, "does not hold")])
def test_the_margin_of_a_loss(gap, outcome):
    changes = {"heavy ball": (0.020 * ratio(gap), 0.98, 1.0)}
    assert verdicts(changes=changes)["lower-loss-than-heavy-ball"].outcome == outcome


@pytest.mark.parametrize(("gap", "outcome"), [(1.1, "holds"), (0.9, "does not hold"), (-3, "does not hold")])
def test_the_margin_of_an_accuracy(gap, outcome):
    changes = {"heavy ball": (0.025, 0.985 - gap * ACCURACY_MARGIN, 1.0)}
    assert verdicts(changes=changes)["higher-accuracy-than-heavy-ball"].outcome == outcome


def test_a_lead_on_one_seed_is_not_enough():
    # Heavy ball is worse on the mean by one seed at chance, better on the other two.
    better = (0.019, 0.98, 1.0)
    by_seed = {("heavy ball", 1): better, ("heavy ball", 2): better, ("heavy ball", 3): AT_CHANCE}
    verdict = verdicts(by_seed=by_seed)["lower-loss-than-heavy-ball"]
    assert verdict.outcome == "does not hold"
    assert "lower on 1 of 3 seeds" in verdict.sentence


def test_a_diverged_run_counts_as_untrained_after_it_diverged():
    found = verdicts(diverging={("Adam", 2): 8})
    assert found["adam-faster-early"].outcome == "holds"
    assert found["adam-trains-lower"].outcome == "does not hold"
    mean = math.log10((math.log(10) + 0.010 * (1.03 + 1 / 1.03)) / 3)
    assert found["adam-trains-lower"].numbers[0].ours.startswith(f"−{abs(mean):.3f} [0.362, −2.013]")
    assert verdicts(diverging={("INNA (0.5, 0.1), q = 1/16", 1): 15})["sixteenth-fails"].outcome == "holds"


def test_the_numbers_and_the_sentence():
    verdict = verdicts()["inna-trains-lower"]
    assert [figure.what for figure in verdict.numbers] == [
        "INNA, best damping, log₁₀ loss",
        "SGD, log₁₀ loss",
        "AdaGrad, log₁₀ loss",
    ]
    assert verdict.numbers[0].ours == "INNA (0.1, 0.1): −1.699 [−1.686, −1.712]"
    assert verdict.numbers[0].paper == "INNA (0.1, 0.1): −1.447 [−1.348, −1.807]"
    assert verdict.numbers[1].paper == "−1.200 [−0.910, −1.318]"
    assert verdict.sentence.startswith(
        "INNA (0.1, 0.1) against SGD: −0.699 in log₁₀ of the mean training loss, lower on 3 of 3 seeds (by seed −0.699"
    )
    assert (verdict.paper, verdict.paper_end) == ("holds", "holds")


def test_inna_is_the_damping_with_the_lowest_training_loss():
    study = study_of()
    changes = {"INNA (0.5, 1)": (0.019, 0.5, 1.0)}
    summary = summarize(study, rows_of(study, changes=changes))
    assert best_damping(summary) == "INNA (0.5, 1)"
    assert best_damping(summarize(study, rows_of(study, without=FOUR))) is None
    assert best_damping(summarize(study, rows_of(study, without=FOUR[:2]))) == "INNA (0.5, 0.5)"
    verdict = {each.name: each for each in judge(summary)}["adam-faster-early"]
    assert verdict.numbers[1].what == "INNA, best damping, log₁₀ loss"
    assert verdict.numbers[1].ours.startswith("INNA (0.5, 1): ")


# What the rules say of the paper's own curves at its last epoch. They do not bear its text out everywhere: INNA's
# accuracy is below Adam's on CIFAR-10 and MNIST, and q = 1/16 is slow on CIFAR-100, but does not fail. None: a line is
# outside the figure's axes.
PAPER_END = {
    "dampings-not-crucial": {"cifar10": "holds", "cifar100": "holds", "mnist": None},
    "good-default": {"cifar10": "holds", "cifar100": "holds", "mnist": None},
    "some-seeds-at-chance": dict.fromkeys(PAPER_DATASETS),
    "inna-trains-lower": dict.fromkeys(PAPER_DATASETS, "holds"),
    "adam-trains-lower": dict.fromkeys(PAPER_DATASETS, "holds"),
    "adam-faster-early": dict.fromkeys(PAPER_DATASETS),
    "inna-best-accuracy": {"cifar10": "does not hold", "cifar100": "holds", "mnist": "does not hold"},
    "quarter-beats-adam": dict.fromkeys(PAPER_DATASETS, "holds"),
    "sixteenth-fails": {"cifar10": "holds", "cifar100": "does not hold", "mnist": "holds"},
    "lower-loss-than-heavy-ball": dict.fromkeys(PAPER_DATASETS),
    "higher-accuracy-than-heavy-ball": dict.fromkeys(PAPER_DATASETS),
}


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_the_rules_on_the_papers_own_curves(dataset):
    found = verdicts(study_of(dataset, "nin"))
    assert {name: verdict.paper_end for name, verdict in found.items()} == {
        name: outcomes[dataset] for name, outcomes in PAPER_END.items()
    }
    assert found["adam-faster-early"].paper == "holds"
    assert found["some-seeds-at-chance"].paper == "holds"
    assert found["lower-loss-than-heavy-ball"].paper is None


@pytest.mark.parametrize("dataset", ["digits", "mnist[:5000]"])
def test_other_data_sets_have_no_numbers_of_the_paper(dataset):
    found = verdicts(study_of(dataset, "small-cnn"))
    assert all(verdict.paper is None and verdict.paper_end is None for verdict in found.values())
    assert all(figure.paper == "–" for verdict in found.values() for figure in verdict.numbers)
    assert [name for name, verdict in found.items() if verdict.outcome != "holds"] == ["some-seeds-at-chance"]


def test_runs_longer_than_the_paper_s_are_not_compared():
    found = verdicts(study_of(epochs=201))["adam-trains-lower"]
    assert (found.outcome, found.paper, found.paper_end) == ("holds", None, "holds")


def test_chance_depends_on_the_number_of_classes():
    stuck = {("INNA (0.5, 1)", seed): (0.97 * math.log(100), 0.01, 1.0) for seed in (1, 2, 3)}
    assert verdicts(study_of("cifar100", "nin"), by_seed=stuck)["some-seeds-at-chance"].outcome == "holds"
    moving = {key: (0.5 * math.log(100), 0.3, 0.1) for key in stuck}
    assert verdicts(study_of("cifar100", "nin"), by_seed=moving)["some-seeds-at-chance"].outcome == "does not hold"


def test_other_tasks_are_refused():
    study = study_of()
    other = summarize(study, rows_of(study))
    for changes, message in [
        ({"dataset": "my_task.py:make"}, "verdicts are about digits, mnist"),
        ({"metrics": (Metric("rmse", "min"),)}, "need the metric accuracy"),
    ]:
        with pytest.raises(ValueError, match=message):
            judge(summarize(study_of(**changes), {}))
    assert len(judge(other)) == len(CLAIMS)
    assert claims.MIN_SEEDS == MIN_SEEDS == 3


def test_a_loss_of_zero_has_a_logarithm():
    study = study_of("digits", "small-cnn")
    rows = rows_of(study)
    for run, row in rows.items():
        if run.optimizer == "adam" and run.seed:
            row["history"][-1]["train_loss"] = 0.0
    found = {verdict.name: verdict for verdict in judge(summarize(study, rows))}
    assert found["adam-trains-lower"].outcome == "holds"
    assert found["adam-trains-lower"].numbers[0].ours == "−12.000 [−12.000, −12.000]"


def value(mean: float, *seeds: float, label: str = "") -> Value:
    return Value(label, mean, mean, mean, dict(enumerate(seeds, start=1)))


def claim_named(name: str) -> claims.Claim:
    return next(claim for claim in CLAIMS if claim.name == name)


def test_better_is_a_comparison_with_each_rival():
    claim = claim_named("inna-trains-lower")
    values = {
        (BEST, LOSS): value(-1.0, -1.0, -1.1, -0.9),
        ("SGD", LOSS): value(-0.9, -1.2, -0.9, -0.8),
        ("AdaGrad", LOSS): value(-1.01, -1.0, -1.2, -1.0),
    }
    sgd, adagrad = compare(claim, values, chance=0.3)
    assert sgd == Comparison(LOSS, BEST, "SGD", pytest.approx(0.1), (2, 3), True)
    assert adagrad == Comparison(LOSS, BEST, "AdaGrad", pytest.approx(-0.01), (), False)
    assert outcome([sgd, adagrad]) == "does not hold"
    assert outcome([sgd]) == "holds"
    # The paper's curves have no seeds: the margin decides.
    paper = {key: value(each.mean) for key, each in values.items()}
    assert [comparison.holds for comparison in compare(claim, paper, chance=0.3)] == [True, False]
    del paper["SGD", LOSS]
    sgd, adagrad = compare(claim, paper, chance=0.3)
    assert sgd.holds is None
    assert outcome([sgd, adagrad]) == "does not hold"
    assert outcome([sgd]) is None


def test_a_range_compares_the_worst_with_the_best():
    claim = claim_named("dampings-not-crucial")
    means = dict(zip(FOUR, (-1.0, -0.9, -0.5, -0.8), strict=True))
    values = {(label, LOSS): value(mean) for label, mean in means.items()}
    values |= {(label, ACCURACY): value(0.9 + mean / 100) for label, mean in means.items()}
    loss, accuracy, trained = compare(claim, values, chance=0.3)
    assert loss == Comparison(LOSS, FOUR[2], FOUR[0], pytest.approx(-0.5), holds=True)
    assert accuracy == Comparison(ACCURACY, FOUR[0], FOUR[2], pytest.approx(-0.005), holds=True)
    assert trained == Comparison(LOSS, FOUR[0], CHANCE, pytest.approx(1.3), holds=True)
    assert compare(claim, values, chance=-1.0)[2].holds is False
    # With a number missing, a range that is small so far decides nothing; one that is too wide does.
    del values[FOUR[3], LOSS]
    assert [comparison.holds for comparison in compare(claim, values, chance=0.3)] == [None, True]
    values[FOUR[1], LOSS] = value(-0.4)
    assert [comparison.holds for comparison in compare(claim, values, chance=0.3)] == [False, True]


def test_one_seed_at_chance_suffices_where_the_claim_says_so():
    claim = claim_named("some-seeds-at-chance")
    values = {(label, LOSS): Value(label, -1.0, -0.5, -1.5, {1: -1.5, 2: -0.5}) for label in FOUR}
    comparisons = compare(claim, values, chance=0.3)
    assert [comparison.wins for comparison in comparisons] == [()] * 4
    assert outcome(comparisons, one_suffices=True) == "does not hold"
    values[FOUR[2], LOSS] = Value(FOUR[2], 0.1, 0.35, -1.5, {1: 0.35, 2: -1.5})
    comparisons = compare(claim, values, chance=0.3)
    assert [comparison.wins for comparison in comparisons] == [(), (), (1,), ()]
    assert outcome(comparisons, one_suffices=True) == "holds"
    assert outcome(comparisons) == "does not hold"


def test_our_numbers_and_the_papers_are_joined_by_key():
    keys = [(BEST, LOSS), ("SGD", LOSS), ("SGD", ACCURACY)]
    ours = {("SGD", LOSS): value(-1.0), (BEST, LOSS): value(-2.0, label="INNA (0.5, 1)"), ("SGD", ACCURACY): value(0.5)}
    theirs = {("SGD", LOSS): value(-0.5)}
    assert numbers_of(keys, ours, theirs) == (
        ("INNA, best damping, log₁₀ loss", "INNA (0.5, 1): −2.000 [−2.000, −2.000]", "–"),
        ("SGD, log₁₀ loss", "−1.000 [−1.000, −1.000]", "−0.500 [−0.500, −0.500]"),
        ("SGD, accuracy", "0.5000 [0.5000, 0.5000]", "–"),
    )
    assert [number.ours for number in numbers_of(keys, {}, theirs)] == ["", "", ""]
