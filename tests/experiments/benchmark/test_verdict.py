"""Profiles, mean ratios and their intervals, against numbers that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inna.experiments.benchmark.scores import PENALTY, SOLVED, Scores, final_loss_scores, steps_scores
from inna.experiments.benchmark.suite import SuiteTask
from inna.experiments.benchmark.verdict import LEVEL, Verdict
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.study import Contender, Study
from inna.experiments.study.tuning import state

LABELS = ("A", "B", "C")


def scores(table, reached=None, seeds=1):
    """``table``: task -> the values of A, B and C, the same for each seed."""
    values = {
        (task, label): [value] * seeds for task, row in table.items() for label, value in zip(LABELS, row, strict=True)
    }
    known = {place: [True] * seeds for place in values} | (reached or {})
    return Scores("steps", tuple(table), LABELS, values, known)


TABLE = {"one": (1.0, 2.0, 4.0), "two": (6.0, 3.0, 3.0), "three": (5.0, 5.0, 20.0)}


def test_ratios_ranks_and_profiles_by_hand():
    verdict = Verdict(scores(TABLE))
    assert verdict.ratios["two"] == pytest.approx({"A": 2.0, "B": 1.0, "C": 1.0})
    assert {each.label: each.ratio for each in verdict.standings} == pytest.approx(
        {"A": 2 ** (1 / 3), "B": 2 ** (1 / 3), "C": 16 ** (1 / 3)}
    )
    assert [verdict.rank(label) for label in LABELS] == [1, 1, 3]
    profile = {label: [point.share for point in points] for label, points in verdict.profile([1, 1.99, 2, 4]).items()}
    assert profile == {
        "A": pytest.approx([2 / 3, 2 / 3, 1, 1]),
        "B": pytest.approx([2 / 3, 2 / 3, 1, 1]),
        "C": pytest.approx([1 / 3, 1 / 3, 1 / 3, 1]),
    }


def test_a_task_that_most_seeds_do_not_solve_counts_at_no_ratio():
    unsolved = {("one", "A"): [False]}
    points = Verdict(scores(TABLE, unsolved)).profile([1, 1e9])["A"]
    assert [point.share for point in points] == pytest.approx([1 / 3, 2 / 3])
    assert Verdict(scores(TABLE, unsolved)).standing("A").reached == 2


def test_scaling_the_scores_of_a_task_changes_nothing():
    scaled = {task: tuple(1000 * value for value in row) if task == "one" else row for task, row in TABLE.items()}
    before, after = Verdict(scores(TABLE)), Verdict(scores(scaled))
    for first, second in zip(before.standings, after.standings, strict=True):
        assert first.label == second.label
        assert first[1:] == pytest.approx(second[1:])


def test_resampling_is_certain_where_every_task_agrees_and_wide_where_tasks_disagree():
    agreed = Verdict(scores({f"t{k}": (1.0, 2.0, 4.0) for k in range(5)}))
    assert [(each.label, each.best) for each in agreed.standings] == [("A", 1.0), ("B", 0.0), ("C", 0.0)]
    for each, ratio in zip(agreed.standings, (1, 2, 4), strict=True):
        assert (each.low, each.ratio, each.high) == pytest.approx((ratio, ratio, ratio))
    # Two of four tasks each: by the binomial distribution A has fewer in 5 of 16 resamples, as many in 6.
    split = Verdict(scores({f"t{k}": (1.0, 2.0, 9.0) if k < 2 else (2.0, 1.0, 9.0) for k in range(4)}), resamples=40000)
    assert split.standing("A").best == pytest.approx(11 / 16, abs=0.01)
    assert (split.standing("A").low, split.standing("A").high) == pytest.approx((1.0, 2.0))


def test_seeds_are_drawn_together_for_all_optimizers():
    """A is always half of B, though both differ tenfold between seeds: paired seeds leave no doubt."""
    values = {("one", "A"): [1.0, 10.0, 100.0], ("one", "B"): [2.0, 20.0, 200.0]}
    verdict = Verdict(Scores("loss", ("one",), ("A", "B"), values, {place: [True] * 3 for place in values}))
    place = verdict.standing("B")
    assert (place.low, place.ratio, place.high, place.best) == pytest.approx((2.0, 2.0, 2.0, 0.0))


def test_leaving_a_task_out_is_the_verdict_on_the_others():
    verdict = Verdict(scores(TABLE))
    without = verdict.leave_one_out()
    rest = Verdict(scores({task: row for task, row in TABLE.items() if task != "two"}))
    assert without["two"] == rest.standings
    assert list(without) == list(TABLE)
    assert Verdict(scores({"one": (1.0, 2.0, 3.0)})).leave_one_out() == {}
    with pytest.raises(ValueError, match="at least one task"):
        Verdict(scores({}))


def lead_p(differences):
    """p of the lead of A over B, whose logarithms differ by ``differences``."""
    values = {(f"t{k}", "A"): [1.0] for k in range(len(differences))}
    values |= {(f"t{k}", "B"): [math.exp(each)] for k, each in enumerate(differences)}
    tasks = tuple(f"t{k}" for k in range(len(differences)))
    lead = Verdict(Scores("loss", tasks, ("A", "B"), values, {place: [True] for place in values})).lead
    assert lead is not None
    assert lead.rival == "B"
    return lead.p


def test_p_of_a_lead_by_hand():
    # Of 2^n choices of signs, only those observed and their opposites have a mean as large.
    for count in range(1, 9):
        assert lead_p([0.1 * (k + 1) for k in range(count)]) == 2 / 2**count
    # A tie on one task of six: its sign does not matter.
    assert lead_p([1, 2, 3, 4, 5, 0]) == 4 / 64
    # The sums are 6, 4, 2, 0, 0, -2, -4, -6; the one observed is 4.
    assert lead_p([3, 2, -1]) == 4 / 8
    assert lead_p([0.0, 0.0]) == 1.0


def test_p_of_many_tasks_is_that_of_random_signs():
    # 16 equal differences of which 12 have one sign: P(|Binomial(16, 1/2) - 8| >= 4).
    exact = 2 * sum(math.comb(16, k) for k in range(5)) / 2**16
    assert lead_p([1.0] * 12 + [-1.0] * 4) == pytest.approx(exact, abs=0.015)


def test_the_rival_is_the_nearest_and_one_optimizer_leads_nobody():
    lead = Verdict(scores({f"t{k}": (1.0, 1.5, 1.1 if k else 0.9) for k in range(6)})).lead
    assert lead is not None
    assert lead.rival == "C"
    assert Verdict(Scores("loss", ("one",), ("A",), {("one", "A"): [1.0]}, {("one", "A"): [True]})).lead is None


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy"])
def test_a_lead_is_rarely_established_between_equal_optimizers(draw):
    """Tasks favour either of two optimizers at random, rarely by very much: 5 % may establish a lead."""
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(300):
        logs = np.clip(getattr(generator, draw)(size=(6, 2, 3)) + getattr(generator, draw)(size=(6, 2, 1)), -300, 300)
        values = {(f"t{p}", label): np.exp(logs[p, s]).tolist() for p in range(6) for s, label in enumerate("AB")}
        reached = {place: [True] * 3 for place in values}
        table = Scores("loss", tuple(f"t{p}" for p in range(6)), ("A", "B"), values, reached)
        lead = Verdict(table, resamples=1).lead
        alarms += lead is not None and lead.p <= LEVEL
    # Three standard deviations of a binomial share above 5 %.
    assert 0 < alarms / 300 < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


def history(losses, accuracies):
    return [
        {"epoch": epoch, "lr": 0.1, "train_loss": loss, "test_loss": loss, "test_accuracy": accuracy, "seconds": 1.0}
        for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


def summary_of(results):
    """A study of two epochs and two seeds with these final results: label -> seed -> (status, losses, accuracies)."""
    contenders = tuple(Contender(label, label.lower(), grid=(0.1,), qs=(0.0,)) for label in results)
    study = Study("d", "m", contenders, "A", 1, 2, (1, 2), metrics=(Metric("accuracy", "max"),))
    rows = {}
    for each in contenders:
        for run in state(study, each, {}).plan:
            rows[run] = {"status": "done", "train_loss": 1.0, "history": history([2.0, 1.0], [0, 0])}
        for run in state(study, each, rows).finals:
            status, losses, accuracies = results[each.label][run.seed]
            rows[run] = {"status": status, "train_loss": losses[-1], "history": history(losses, accuracies)}
    return summarize(study, rows)


def test_steps_count_to_the_first_epoch_at_the_target_and_failures_double():
    summary = summary_of(
        {
            "A": {1: ("done", [2.0, 0.5, 0.7], [0.1, 0.9, 0.9]), 2: ("done", [2.0, 1.5, 0.4], [0.1, 0.2, 0.8])},
            "B": {1: ("done", [2.0, 1.9, 1.8], [0.1, 0.1, 0.1]), 2: ("diverged", [2.0, 0.1], [0.1, 0.9])},
        }
    )
    task = SuiteTask("t", "d", 2, targets={"train_loss": 0.5, "test_accuracy": 0.8})
    found = steps_scores({task: summary})
    assert found.values == {("t", "A"): [1.0, 2.0], ("t", "B"): [2 * PENALTY] * 2}
    assert found.reached == {("t", "A"): [True, True], ("t", "B"): [False, False]}
    assert steps_scores({task: summary}, "metric").values["t", "A"] == [1.0, 2.0]
    assert steps_scores({SuiteTask("t", "d", 2): summary}).tasks == ()
    losses = final_loss_scores({task: summary})
    assert losses.values == {("t", "A"): [0.7, 0.4], ("t", "B"): [1.8, 2.0]}
    assert losses.reached["t", "B"] == [True, False]


def test_solved_losses_are_equal_and_others_cannot_be_compared():
    tiny = ("done", [2.0, 1.0, 1e-9], [0, 0, 0])
    small = ("done", [2.0, 1.0, SOLVED], [0, 0, 0])
    found = final_loss_scores(
        {SuiteTask("t", "d", 2): summary_of({"A": {1: tiny, 2: tiny}, "B": {1: small, 2: small}})}
    )
    assert set(found.values["t", "A"]) == set(found.values["t", "B"]) == {2 * SOLVED}
    zero = ("done", [2.0, 1.0, 0.0], [0, 0, 0])
    solved = final_loss_scores({SuiteTask("t", "d", 2): summary_of({"A": {1: zero, 2: small}})})
    assert solved.values["t", "A"] == pytest.approx([2 * SOLVED, 2 * SOLVED])
    negative = ("done", [2.0, 1.0, -1.0], [0, 0, 0])
    assert final_loss_scores({SuiteTask("t", "d", 2): summary_of({"A": {1: negative, 2: small}})}).tasks == ()
