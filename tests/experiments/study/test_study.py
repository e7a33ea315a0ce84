"""What a study plans, chooses and counts, from made-up rows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inna.experiments.rows.results import cost
from inna.experiments.rows.run import Metric
from inna.experiments.study.budget import parse_budget
from inna.experiments.study.study import HALF_DECADES, Contender, Study
from inna.experiments.study.tuning import MAX_EXTENSIONS, state

SGD = Contender("SGD", "sgd")


def study(*contenders, **changes):
    values = {"dataset": "d", "model": "m", "reference": "SGD", "tuning_epochs": 4, "epochs": 6, "seeds": (1, 2)}
    return Study(contenders=contenders or (SGD,), **values | changes)


def carry_out(plan_study, contender, loss):
    """Rows after every run that the plan asks for was done; loss(lr, q) is the training loss, NaN where it diverges."""
    rows = {}
    while due := [run for run in state(plan_study, contender, rows).plan if run not in rows]:
        value = loss(due[0].lr, due[0].q)
        rows[due[0]] = {"status": "done" if math.isfinite(value) else "diverged", "train_loss": value}
    return rows


def chosen(tuning):
    choice = tuning.choice
    return choice.lr, choice.decay, choice.train_loss, choice.edge


def bowl(best):
    """A loss that is least at gamma_0 = best on a logarithmic axis, whatever the schedule."""
    return lambda lr, q: math.log(lr / best) ** 2 + q


def test_an_interior_best_takes_the_grid_and_nothing_else():
    rows = carry_out(study(), SGD, bowl(0.01))
    assert {(run.lr, run.q) for run in rows} == {(lr, q) for lr in HALF_DECADES for q in (0.0, 0.5)}
    assert chosen(state(study(), SGD, rows)) == (0.01, 0.0, 0.0, 0)


def test_a_best_on_the_edge_extends_the_grid_by_half_decades_until_it_is_interior():
    up = carry_out(study(), SGD, bowl(3.16))
    assert sorted({run.lr for run in up} - set(HALF_DECADES)) == [3.16, 10.0]
    assert chosen(state(study(), SGD, up))[:2] == (3.16, 0.0)
    down = carry_out(study(), SGD, bowl(1e-5))
    assert sorted({run.lr for run in down} - set(HALF_DECADES)) == [3.16e-6, 1e-5, 3.16e-5]


def test_each_schedule_is_extended_by_itself():
    rows = carry_out(study(), SGD, lambda lr, q: bowl(0.01 if q == 0 else 3.16)(lr, q))
    assert {run.lr for run in rows if run.q == 0} == set(HALF_DECADES)
    assert {run.lr for run in rows if run.q == 0.5} == {*HALF_DECADES, 3.16, 10.0}


def test_the_extension_ends():
    rows = carry_out(study(), SGD, lambda lr, q: -lr)
    assert len(rows) == 2 * (len(HALF_DECADES) + MAX_EXTENSIONS)
    assert state(study(), SGD, rows).choice.edge == 1


def test_where_everything_diverges_smaller_steps_are_tried():
    rows = carry_out(study(), SGD, lambda lr, q: math.nan if lr > 5e-5 else lr)
    assert state(study(), SGD, rows).choice.lr < 5e-5
    hopeless = carry_out(study(), SGD, lambda lr, q: math.nan)
    assert min(run.lr for run in hopeless) == 1e-6
    assert state(study(), SGD, hopeless).choice is None


@pytest.mark.parametrize(
    ("refinement", "best", "added"),
    [
        (4, 0.01, {0.00562, 0.0178}),
        (8, 0.01, {0.00562, 0.0178, 0.0075, 0.0133}),
        (8, 0.018, {0.0178, 0.0562, 0.0133, 0.0237}),  # a quarter is best, and its neighbours are eighths
        (8, 3.5, {3.16, 10.0, 1.78, 5.62, 2.37, 4.22}),  # beyond the edge, which is extended first
    ],
)
def test_a_refinement_adds_neighbours_of_the_best_until_both_are_worse(refinement, best, added):
    plan = study(refinement=refinement)
    rows = carry_out(plan, SGD, bowl(best))
    assert {run.lr for run in rows if run.q == 0} - set(HALF_DECADES) == added
    lr, q, loss, edge = chosen(state(plan, SGD, rows))
    assert (q, edge) == (0.0, 0)
    assert abs(math.log10(lr / best)) <= 0.5 / refinement + 0.002
    assert loss == min(result["train_loss"] for result in rows.values())


def test_a_refinement_keeps_the_runs_of_the_grid():
    grid = carry_out(study(), SGD, bowl(0.01))
    assert set(grid) < set(carry_out(study(refinement=8), SGD, bowl(0.01)))
    hopeless = carry_out(study(refinement=8), SGD, lambda lr, q: math.nan)
    assert hopeless.keys() == carry_out(study(), SGD, lambda lr, q: math.nan).keys()
    alone = Contender("SGD", "sgd", grid=(0.1,), qs=(0.0,))
    assert len(carry_out(study(alone, refinement=8), alone, bowl(1.0))) == 1


def test_a_refinement_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"refinement must be 0 or one of \[4, 8\], got 3"):
        study(refinement=3)
    with pytest.raises(ValueError, match="refinement must be 0 in a search"):
        study(refinement=4, trials=8)


def test_a_single_step_size_is_not_extended():
    alone = Contender("SGD", "sgd", grid=(0.1,), qs=(0.0,))
    rows = carry_out(study(alone), alone, bowl(1.0))
    assert len(rows) == 1
    assert state(study(alone), alone, rows).choice.edge == 0  # no other was to be tried


@given(
    st.lists(st.sampled_from(HALF_DECADES), min_size=1, max_size=9, unique=True),
    st.integers(-12, 4),
    st.integers(1, 60),
)
def test_the_choice_is_the_least_loss_of_what_was_tried_whatever_else_lies_in_the_folder(lrs, peak, limit):
    contender = Contender("SGD", "sgd", grid=tuple(sorted(lrs)))
    plan = study(contender, budget=f"{limit + 2}runs")
    rows = carry_out(plan, contender, bowl(10 ** (peak / 2)))
    choice = state(plan, contender, rows).choice
    assert len(rows) <= limit
    assert choice.train_loss == min(result["train_loss"] for result in rows.values())
    strangers = {plan.tuning_run(contender, 0.0123, 0.0): {"status": "done", "train_loss": -1.0}}
    assert state(plan, contender, rows | strangers).choice == choice


def test_tuning_begins_with_the_middle_of_the_grid_under_every_schedule():
    first = state(study(), SGD, {}).plan[:6]
    assert [(run.lr, run.q) for run in first] == [(lr, q) for lr in (0.01, 0.001, 0.316) for q in (0.0, 0.5)]


def test_test_data_and_ties_do_not_choose():
    contender = Contender("SGD", "sgd", grid=(0.1, 1.0))
    plan = study(contender)
    rows = {
        run: {"status": "done", "train_loss": 1.0, "test_accuracy": run.lr + run.q}
        for run in state(plan, contender, {}).plan
    }
    assert chosen(state(plan, contender, rows))[:2] == (0.1, 0.0)


def test_diverged_runs_lose_even_with_a_finite_loss():
    contender = Contender("SGD", "sgd", grid=(0.1, 1.0), qs=(0.0,))
    low, high = state(study(contender), contender, {}).plan[::-1]
    rows = {low: {"status": "done", "train_loss": 2.0}, high: {"status": "diverged", "train_loss": 1.0}}
    assert state(study(contender), contender, rows).choice.lr == 0.1


@pytest.mark.parametrize(("budget", "limit"), [("8runs", 2), ("48epochs", 3), ("20m", None), ("", None)])
def test_a_budget_is_shared_equally(budget, limit):
    both = study(SGD, Contender("Adam", "adam"), budget=budget)
    # 8 runs for two are 4 each, 2 of them final; 48 epochs are 24 each, 12 of them in final runs of 6.
    assert both.tuning_limit == limit
    for contender in both.contenders:
        assert len(carry_out(both, contender, bowl(0.01))) == (limit or 2 * len(HALF_DECADES))


def test_what_was_spent_counts_tuning_and_final_runs():
    plan = study()
    rows = carry_out(plan, SGD, bowl(0.01))
    rows |= {run: {"status": "done", "train_loss": 0.0} for run in state(plan, SGD, rows).finals}
    for run in rows:
        rows[run] = rows[run] | {"seconds": 0.25, "history": [{"epoch": epoch} for epoch in range(run.epochs + 1)]}
    assert cost(state(plan, SGD, rows).done(rows)) == (20, 18 * 4 + 2 * 6, 5.0)
    stopped = state(plan, SGD, rows).plan[-1]
    rows[stopped] = {"status": "diverged", "seconds": 0.25, "divergence": {"epoch": 1}, "history": [{"epoch": 0}]}
    assert cost(state(plan, SGD, rows).done(rows)).epochs == 18 * 4 + 2 * 6 - 3


def test_a_study_survives_its_file(tmp_path):
    inna = Contender("INNA", "inna", 0.5, 0.1, (("betas", (0.9, 0.99)), ("name", "x")), (0.1, 1.0), (0.0,))
    whole = study(SGD, inna, metrics=(Metric("error", "min"),), budget="20m", command="inna compare")
    whole.save(tmp_path)
    assert Study.load(tmp_path) == whole


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (0, 1)}, "the tuning seed must not be a final seed: 0 is in"),
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"seeds": (-1,)}, "seed must be a whole number >= 0, got -1"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"tuning_epochs": -3}, "tuning_epochs must be a whole number >= 1, got -3"),
        ({"reference": "Adam"}, "reference must be one of"),
        ({"contenders": (SGD, SGD)}, "is given twice"),
        ({"budget": "2runs"}, "does not pay"),
        ({"budget": "15epochs"}, "does not pay"),
        ({"budget": "soon"}, "budget must be written like"),
    ],
)
def test_bad_studies_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        study(*changes.pop("contenders", ()), **changes)


@pytest.mark.parametrize("grid", [(), (0.1, 0.1), (1.0, 0.1), (0.0, 0.1), (math.nan,), (-1.0,)])
def test_bad_grids_are_refused(grid):
    with pytest.raises(ValueError, match="grid must"):
        Contender("SGD", "sgd", grid=grid)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", (90.0, "seconds")),
        ("20m", (1200.0, "seconds")),
        ("1.5h", (5400.0, "seconds")),
        ("200 runs", (200.0, "runs")),
        ("3000Epochs", (3000.0, "epochs")),
    ],
)
def test_budgets_are_read(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "20", "m", "-3m", "0runs", "1e3runs", "20 parsecs"])
def test_bad_budgets_are_refused(text):
    with pytest.raises(ValueError, match="budget must"):
        parse_budget(text)


def test_a_study_with_added_seeds_contains_only_those_with_the_same_cap():
    added = study(seeds=(1, 2, 3), seed_cap=9)
    assert added.with_seeds(5).contains(added)
    assert not added.contains(added.with_seeds(5))
    assert not added.contains(study(seeds=(1, 2)))
    assert not study(seeds=(1, 2, 3), seed_cap=5).contains(added.with_seeds(8))


def test_a_smaller_budget_is_compared_with_a_study_that_it_would_not_pay_for():
    two = study(Contender("Adam", "adam"), SGD, budget="16runs")
    assert not study(budget="5runs").contains(two)
