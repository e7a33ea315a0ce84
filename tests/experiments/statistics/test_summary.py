"""The numbers of a report against closed forms, scipy, and what must not change them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inna.experiments.rows.results import Cost
from inna.experiments.rows.run import Metric, Run
from inna.experiments.statistics.intervals import Spread, holm, paired_difference, spread
from inna.experiments.statistics.summary import Entry, Reach, Summary, summarize
from inna.experiments.study.study import Contender, Study
from synthetic_study import classification_study, rows_of

quick = settings(derandomize=True, deadline=None, max_examples=60)
numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 6))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9)
ACCURACY = Metric("test_accuracy", "max")
LOSS = Metric("train_loss", "min")


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


@quick
@given(pairs, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_that_of_scipys_paired_t_test(drawn: list[tuple[float, float]], confidence: float) -> None:
    ours, theirs = zip(*drawn, strict=True)
    found = paired_difference(by_seed(list(ours)), by_seed(list(theirs)), confidence)
    differences = [a - b for a, b in drawn]
    assert found is not None
    assert found.n == len(drawn)
    assert found.mean == pytest.approx(sum(differences) / len(drawn), abs=1e-9)
    if len(set(differences)) == 1:
        assert found[:3] == pytest.approx((differences[0],) * 3, rel=1e-12)
        return
    interval = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
    scale = max(abs(value) for value in differences)
    assert found.low == pytest.approx(interval.low, rel=1e-7, abs=1e-7 * scale)
    assert found.high == pytest.approx(interval.high, rel=1e-7, abs=1e-7 * scale)


anything = st.floats(allow_nan=False, allow_infinity=False)
extreme = st.sampled_from([1.7e308, -1.7e308, 1e308, 5e-324, -5e-324, 0.0, 1.0, 1e-200, 2.2e-308]) | anything


@quick
@given(st.lists(st.tuples(extreme, extreme), min_size=1, max_size=9))
def test_differences_of_any_numbers_are_numbers(drawn: list[tuple[float, float]]) -> None:
    ours, theirs = (by_seed(list(each)) for each in zip(*drawn, strict=True))
    found = paired_difference(ours, theirs)
    assert found is not None
    assert not math.isnan(found.mean)
    back = paired_difference(theirs, ours)
    assert back is not None
    assert back.mean == -found.mean
    if found.low is None or found.high is None or found.p is None:
        assert len(drawn) == 1
        return
    assert found.low <= found.mean <= found.high
    assert 0 <= found.p <= 1
    assert (back.low, back.high, back.p) == (-found.high, -found.low, found.p)
    smallest, largest = min(a - b for a, b in drawn), max(a - b for a, b in drawn)
    slack = 1e-12 * max(abs(number) for pair in drawn for number in pair)
    assert smallest - slack <= found.mean <= largest + slack


@quick
@given(pairs, st.integers(-900, 900))
def test_the_verdict_does_not_depend_on_the_unit(drawn: list[tuple[float, float]], power: int) -> None:
    """Powers of two change no digit, so that p is the same, up to where a squared deviation over- or underflows."""

    def in_unit(factor: float) -> Any:
        ours, theirs = zip(*drawn, strict=True)
        return paired_difference(
            by_seed([factor * value for value in ours]), by_seed([factor * value for value in theirs])
        )

    assert in_unit(2.0**power).p == in_unit(1.0).p


@quick
@given(st.lists(extreme, min_size=1, max_size=9), st.sampled_from(["min", "max"]), st.booleans())
def test_spreads_of_any_numbers_are_numbers(drawn: list[float], goal: Any, geometric: bool) -> None:
    if geometric:
        drawn = [abs(value) or 1.0 for value in drawn]
    found = spread(drawn, goal, geometric=geometric)
    assert found is not None
    assert min(drawn) <= found.mean <= max(drawn)


@quick
@given(st.lists(extreme.map(lambda value: abs(value) or 1.0), min_size=2, max_size=9), st.randoms())
def test_ratios_of_any_positive_numbers_are_numbers(drawn: list[float], random_numbers: Any) -> None:
    ours, theirs = by_seed(drawn), by_seed(random_numbers.sample(drawn, len(drawn)))
    found = paired_difference(ours, theirs, ratio=True)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low <= found.mean <= found.high


def test_two_seeds_have_the_cauchy_quantile() -> None:
    # With one degree of freedom Student's t is Cauchy's law, whose 97.5 % quantile is tan(0.475 pi).
    found = paired_difference({1: 1.0, 2: 3.0}, {1: 0.0, 2: 0.0})
    assert found is not None
    assert found.mean == 2.0
    assert found.high == pytest.approx(2 + math.tan(0.475 * math.pi), rel=1e-12)
    assert found.low == pytest.approx(2 - math.tan(0.475 * math.pi), rel=1e-12)
    assert not found.significant


def test_fewer_than_two_pairs_have_no_interval() -> None:
    assert paired_difference({1: 1.0}, {2: 1.0}) is None
    found = paired_difference({1: 1.0, 2: 5.0}, {1: 3.0, 9: 0.0})
    assert found[:5] == (-2.0, None, None, 1, None)
    assert found is not None
    assert not found.significant


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, math.nan])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must be in"):
        paired_difference({}, {}, confidence)


@quick
@given(pairs, numbers)
def test_differences_turn_sign_with_their_order_and_ignore_a_common_shift(
    drawn: list[tuple[float, float]], shift: float
) -> None:
    ours, theirs = (by_seed(list(side)) for side in zip(*drawn, strict=True))
    found, turned = paired_difference(ours, theirs), paired_difference(theirs, ours)
    shifted = paired_difference(
        {seed: value + shift for seed, value in ours.items()}, {seed: value + shift for seed, value in theirs.items()}
    )
    assert found is not None
    assert turned is not None
    assert shifted is not None
    assert found.low is not None
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-9)
    assert (shifted.mean, shifted.low, shifted.high) == pytest.approx((found.mean, found.low, found.high), abs=1e-6)


@quick
@given(pairs, st.sampled_from([(0.5, 0.9), (0.9, 0.99)]))
def test_more_confidence_never_gives_a_narrower_interval(
    drawn: list[tuple[float, float]], levels: tuple[float, float]
) -> None:
    ours, theirs = (by_seed(list(side)) for side in zip(*drawn, strict=True))
    narrow, wide = (paired_difference(ours, theirs, level) for level in levels)
    assert narrow is not None
    assert wide is not None
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@quick
@given(st.lists(numbers, min_size=1, max_size=9), st.sampled_from(["min", "max"]), st.randoms(use_true_random=False))
def test_a_spread_holds_its_mean_and_ignores_order(values: list[float], goal: Any, random: Any) -> None:
    found = spread(values, goal)
    assert found is not None
    low, high = sorted((found.best, found.worst))
    assert low <= found.mean <= high
    assert (found.best, found.worst) == (
        (max if goal == "max" else min)(values),
        (min if goal == "max" else max)(values),
    )
    shuffled = list(values)
    random.shuffle(shuffled)
    assert spread(shuffled, goal) == found
    assert spread((-value for value in values), "min" if goal == "max" else "max") == pytest.approx(
        Spread(-found.mean, -found.best, -found.worst, found.n)
    )


def test_a_spread_of_nothing_is_none() -> None:
    assert spread([], "min") is None


@quick
@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)), min_size=2, max_size=9))
def test_ratios_are_differences_of_logarithms(drawn: list[tuple[float, float]]) -> None:
    ours, theirs = (by_seed(list(side)) for side in zip(*drawn, strict=True))
    found = paired_difference(ours, theirs, ratio=True)
    logs = [{seed: math.log10(value) for seed, value in side.items()} for side in (ours, theirs)]
    assert found is not None
    assert found == paired_difference(*logs)._replace(ratio=True)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="ratios need numbers > 0"):
        paired_difference(ours, {**theirs, 0: 0.0}, ratio=True)


@quick
@given(pairs)
def test_a_difference_is_significant_where_its_interval_excludes_zero(drawn: list[tuple[float, float]]) -> None:
    ours, theirs = (by_seed(list(side)) for side in zip(*drawn, strict=True))
    found = paired_difference(ours, theirs)
    assert found is not None
    assert found.p is not None
    if found.low == found.high:
        assert found.p == (2.0 ** (1 - found.n) if found.mean else 1.0)
        return
    test = stats.ttest_rel(*zip(*drawn, strict=True))
    assert found.p == pytest.approx(float(test.pvalue), rel=1e-6, abs=1e-9)
    if abs(found.p - 0.05) > 1e-9:
        assert found.significant == (found.low > 0 or found.high < 0)


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_step_by_step(p_values: list[float]) -> None:
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for level in (0.01, 0.05, 0.2):
        # Holm's own description: from the smallest on, reject while p <= level/(comparisons that remain).
        rejected = []
        for rank, place in enumerate(order):
            if p_values[place] * (len(p_values) - rank) > level:
                break
            rejected.append(place)
        assert sorted(rejected) == [place for place, p in enumerate(corrected) if p <= level]


RUN = Run("digits", "small-cnn", "sgd", lr=0.1)

# A study small enough to compute by hand: two contenders, three step sizes, two seeds, three epochs.
GRID = (0.01, 0.1, 1.0)
HAND = Study(
    dataset="digits",
    model="small-cnn",
    contenders=(
        Contender("INNA", "inna", 0.5, 0.1, grid=GRID, qs=(0.0,)),
        Contender("SGD", "sgd", grid=GRID, qs=(0.0,)),
    ),
    reference="SGD",
    tuning_epochs=1,
    epochs=3,
    seeds=(1, 2),
)


def row(losses: list[float], accuracy: float = 0.5, seconds: float = 2.0, status: str = "done") -> dict[str, Any]:
    return {
        "status": status,
        "train_loss": losses[-1] if status == "done" else math.nan,
        "test_accuracy": accuracy,
        "seconds_per_epoch": seconds,
        "seconds": 3.0,
        "state_bytes_per_parameter": 4.0,
        "history": [{"epoch": epoch, "train_loss": loss, "seconds": seconds} for epoch, loss in enumerate(losses)],
    }


def hand_rows() -> dict[Run, dict[str, Any]]:
    inna, sgd = HAND.contenders
    rows = {
        HAND.tuning_run(inna, 0.01, 0.0): row([2.0, 1.0]),
        HAND.tuning_run(inna, 0.1, 0.0): row([2.0, 1.1]),
        HAND.tuning_run(inna, 1.0, 0.0): row([2.0], status="diverged"),
        HAND.tuning_run(sgd, 0.01, 0.0): row([2.0, 1.9]),
        HAND.tuning_run(sgd, 0.1, 0.0): row([2.0, 0.9]),
        HAND.tuning_run(sgd, 1.0, 0.0): row([2.0, 1.5]),
    }
    for seed, inna_losses, sgd_losses in (
        (1, [2, 0.5, 0.4, 0.1], [2, 1, 0.5, 0.6]),
        (2, [2, 1, 0.9, 0.8], [2, 1, 0.7, 0.7]),
    ):
        rows[HAND.run(inna, 0.01, 0.0, seed=seed, epochs=3)] = row([float(x) for x in inna_losses], 0.8 + seed / 100)
        rows[HAND.run(sgd, 0.1, 0.0, seed=seed, epochs=3)] = row([float(x) for x in sgd_losses], 0.9 + seed / 100)
    return rows


def entries(rows: dict[Run, dict[str, Any]]) -> tuple[Summary, Entry, Entry]:
    summary = summarize(HAND, rows)
    return summary, *summary.entries


def test_a_study_by_hand() -> None:
    summary, inna, sgd = entries(hand_rows())
    assert inna.choice is not None
    assert (inna.choice.lr, inna.choice.edge) == (0.01, -1)
    assert sgd.choice is not None
    assert (sgd.choice.lr, sgd.choice.edge) == (0.1, 0)
    assert spread(inna.values("train_loss").values(), "min") == (pytest.approx(0.45), 0.1, 0.8, 2)
    # Within 10 % of 1.0 are 1.0 and 1.1; the diverged run counts in the grid.
    assert (inna.near_best, inna.sensitivity) == (2, pytest.approx(2 / 3))
    assert (sgd.near_best, sgd.sensitivity) == (1, pytest.approx(1 / 3))
    # INNA's 1.1 at 0.1 is within twice 1.0, and 1.0 diverged. SGD reaches twice 0.9 between 0.01 (1.9) and 0.1.
    assert inna.lr_width == pytest.approx(1.0)
    assert inna.good_lrs == pytest.approx((0.01, 0.1))
    assert sgd.lr_width == pytest.approx(1.0 + math.log(2) / math.log(1.9 / 0.9))
    # A run at chance is within twice a loss near chance, but its learning rate is no good one.
    rows = hand_rows() | {HAND.tuning_run(HAND.contenders[0], 0.1, 0.0): row([1.5, 1.5])}
    assert entries(rows)[1].lr_width == 0
    # SGD's best losses are .5 on seed 1 (epoch 2, before it rises) and .7 on seed 2 (epoch 2).
    assert inna.reach == {1: Reach(1, 2.0), 2: Reach(None, None)}
    assert sgd.reach == {1: Reach(2, 4.0), 2: Reach(2, 4.0)}
    # Two tuning epochs and one begun, then two final runs of three epochs; three seconds a run.
    assert inna.cost == Cost(5, 9, 15.0)
    # Losses are compared as ratios: log10 of the geometric mean of 1/6 and 8/7.
    difference = summary.differences(LOSS)["INNA"]
    assert difference.ratio
    assert difference.mean == pytest.approx(math.log10(0.1 / 0.6 * 0.8 / 0.7) / 2)
    assert summary.spread(inna, LOSS) == (pytest.approx(math.sqrt(0.1 * 0.8)), 0.1, 0.8, 2)
    assert summary.winners(LOSS) == [inna]
    assert summary.winners(ACCURACY) == [sgd]
    # The accuracies differ by .1 on both seeds: the interval has no width, and two seeds cannot establish a sign.
    assert summary.differences(ACCURACY)["INNA"].p == 0.5
    assert summary.rivals(ACCURACY) == [inna]
    assert summary.rivals(LOSS) == [sgd]
    assert inna.survivors(0.0) == [0.01, 0.1]


def test_a_diverged_final_run_keeps_its_optimizer_from_winning() -> None:
    rows = hand_rows()
    run = HAND.run(HAND.contenders[0], 0.01, 0.0, seed=2, epochs=3)
    rows[run] = row([2.0, 0.2], status="diverged")
    summary, inna, sgd = entries(rows)
    assert inna.diverged == (2,)
    assert inna.values("train_loss") == {1: 0.1}
    assert summary.winners(LOSS) == [sgd]
    assert inna.reach[2] == Reach(1, 2.0)
    assert inna.cost.epochs == 3 + 3 + 2


def test_a_diverged_reference_leaves_its_seed_without_target() -> None:
    rows = hand_rows()
    rows[HAND.run(HAND.contenders[1], 0.1, 0.0, seed=1, epochs=3)] = row([2.0], status="diverged")
    _, inna, _ = entries(rows)
    assert set(inna.reach) == {2}


def test_equal_means_are_a_tie() -> None:
    rows = hand_rows()
    for contender, lr in zip(HAND.contenders, (0.01, 0.1), strict=True):
        for seed in HAND.seeds:
            rows[HAND.run(contender, lr, 0.0, seed=seed, epochs=3)]["test_accuracy"] = 0.9 + seed / 100
    summary, inna, sgd = entries(rows)
    assert summary.winners(ACCURACY) == [inna, sgd]
    assert summary.rivals(ACCURACY) == []
    assert summary.differences(ACCURACY)["INNA"].p == 1.0


def test_a_seed_that_did_not_train_is_left_out_and_counted() -> None:
    rows = hand_rows()
    run = HAND.run(HAND.contenders[1], 0.1, 0.0, seed=2, epochs=3)
    rows[run] = row([2.9, 2.31, 2.301, 2.302], 0.1) | {"constant_loss": math.log(10)}
    summary, inna, sgd = entries(rows)
    assert (sgd.untrained, sgd.diverged) == ((2,), ())
    assert sgd.values("train_loss") == {1: 0.6}
    assert summary.winners(ACCURACY) == [inna]
    # Without the loss of a constant output, the loss before training decides: here it is well above chance.
    del rows[run]["constant_loss"]
    assert entries(rows)[2].untrained == ()
    rows[run]["history"][0]["train_loss"] = 2.303
    assert entries(rows)[2].untrained == (2,)


def test_seconds_are_a_median_and_uneven_seeds_are_marked() -> None:
    rows = hand_rows()
    _, inna, sgd = entries(rows)
    assert (inna.seconds_per_epoch, inna.uneven_seconds) == (2.0, None)
    rows[HAND.run(HAND.contenders[0], 0.01, 0.0, seed=1, epochs=3)]["seconds_per_epoch"] = 3.1
    _, inna, sgd = entries(rows)
    assert inna.seconds_per_epoch == pytest.approx(2.55)
    assert inna.uneven_seconds is not None
    assert (inna.uneven_seconds.best, inna.uneven_seconds.worst) == (2.0, 3.1)
    assert sgd.uneven_seconds is None


LAWS = {
    "loss": lambda generator, n: 10 ** generator.normal(-3, 0.3, n),
    "accuracy of 360 images": lambda generator, n: generator.binomial(360, 0.97, n) / 360,
}


@pytest.mark.parametrize(
    ("law", "seeds", "studies"),
    [
        ("loss", 5, 150),
        ("accuracy of 360 images", 3, 150),
        *(pytest.param(law, seeds, 2000, marks=pytest.mark.slow) for law in LAWS for seeds in (3, 5, 10)),
    ],
)
def test_equal_optimizers_differ_significantly_in_at_most_one_study_of_twenty(
    law: str, seeds: int, studies: int
) -> None:
    contenders = tuple(Contender(name, "sgd", grid=(0.1,), qs=(0.0,)) for name in "abcde")
    measure = LOSS if law == "loss" else ACCURACY
    generator = np.random.default_rng(1)
    alarms = dict.fromkeys(("reference", "winner", "another reference"), 0)
    for _ in range(studies):
        study = dataclasses.replace(HAND, contenders=contenders, reference="a", seeds=tuple(range(1, seeds + 1)))
        values = {name: LAWS[law](generator, seeds) for name in "abcde"}
        summary = Summary(
            study,
            tuple(
                Entry(
                    contender,
                    None,
                    (),
                    {
                        seed: (RUN, {"status": "done", "train_loss": 0.0, measure.name: float(value)})
                        for seed, value in enumerate(values[contender.label], start=1)
                    },
                    (),
                    {},
                )
                for contender in contenders
            ),
        )
        winners = summary.winners(measure)
        beaten = len(contenders) - 1 - len(summary.rivals(measure)) if len(winners) == 1 else 0
        alarms["winner"] += beaten > 0
        alarms["reference"] += any(each.significant for each in summary.differences(measure).values())
        worst = min(summary.entries, key=lambda entry: sum(entry.values(measure.name).values()))
        chosen = summary.differences(measure, worst) if worst is not summary.reference else {}
        alarms["another reference"] += any(each.significant for each in chosen.values())
    # The true rate is at most 5 %; three standard errors of its estimate are allowed beyond.
    assert max(alarms.values()) <= studies * 0.05 + 3 * math.sqrt(studies * 0.05 * 0.95), alarms


def test_missing_runs_are_missing() -> None:
    rows = hand_rows()
    del rows[HAND.run(HAND.contenders[0], 0.01, 0.0, seed=1, epochs=3)]
    summary, inna, sgd = entries(rows)
    assert inna.missing == (1,)
    assert inna.pending
    assert not sgd.pending
    assert not summary.winners(LOSS)
    summary, inna, sgd = entries({})
    assert inna.choice is None
    assert not summary.winners(LOSS)
    assert math.isnan(inna.sensitivity)
    assert summary.rows() == []


def test_an_optimizer_that_always_diverges_does_not_keep_others_from_winning() -> None:
    inna = HAND.contenders[0]
    rows = {run: result for run, result in hand_rows().items() if run.optimizer != "inna"}
    rows |= {HAND.tuning_run(inna, lr, 0.0): row([2.0], status="diverged") for lr in GRID}
    summary, lost, sgd = entries(rows)
    assert lost.choice is None
    assert not lost.pending
    assert summary.winners(LOSS) == [sgd]
    assert (lost.near_best, lost.sensitivity) == (0, 0.0)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    rows = hand_rows()
    rows[HAND.run(HAND.contenders[1], 0.1, 0.0, seed=1, epochs=3)]["test_accuracy"] = math.nan
    summary, _, sgd = entries(rows)
    assert sgd.values("test_accuracy") == {2: 0.92}
    assert summary.winners(ACCURACY) == [summary.entries[0]]


def test_rows_of_other_studies_are_left_out() -> None:
    rows = hand_rows()
    strangers = rows_of(classification_study(batch_size=64, epochs=2, tuning_epochs=1))
    assert summarize(HAND, rows | strangers) == summarize(HAND, rows)


def test_every_row_is_counted_once() -> None:
    study = classification_study()
    rows = rows_of(study)
    summary = summarize(study, rows)
    assert dict(summary.rows()) == rows
    assert sum(entry.cost.runs for entry in summary.entries) == len(rows)
