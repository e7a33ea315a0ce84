"""Searches by successive halving: what they plan and choose, from made-up losses and from small sweeps."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_task
from inna.experiments.comparison import contender, make_study
from inna.experiments.rows.results import cost, epochs_added
from inna.experiments.rows.row_files import read_rows, row_path
from inna.experiments.rows.run import NAMED_SCHEDULES
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.halving import FINALISTS, MAX_MOVES, rungs, trials_of
from inna.experiments.study.optimizer_names import NAMED, check_specification, parse_tuned
from inna.experiments.study.remaining import outlook
from inna.experiments.study.search_space import MOST_DIMENSIONS, Dimension, points
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import state
from inna.experiments.sweep.forecast import forecast
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import sweep
from inna.experiments.training.loop import Training
from timeless import without_times

SCHEDULES = (0.0, "linear", "cosine")
SGD = contender("sgd", schedules=SCHEDULES, search=True)
ALL = [contender(name, schedules=SCHEDULES, search=True) for name in NAMED]


def study(*contenders, **changes):
    values = {"dataset": "d", "model": "m", "tuning_epochs": 15, "epochs": 30, "seeds": (1, 2), "trials": 24}
    contenders = contenders or (SGD,)
    return Study(contenders=contenders, reference=contenders[0].label, **values | changes)


def bowl(best, schedule="linear", steepness=1.0):
    """Least at the learning rate ``best`` under one schedule, wherever the other settings are."""

    def loss(run):
        distance = math.log10(run.lr / best) ** 2
        return math.exp(steepness * distance - run.epochs / 10) * (1.0 if run.decay == schedule else 3.0)

    return loss


def carry_out(plan, entry, loss, order=None):
    """Rows of every run that the plan asks for, all that are due at once or in any order; a loss of NaN diverges."""
    rows = {}
    while due := [run for run in state(plan, entry, rows).plan if run not in rows]:
        for run in due if order is None else order.sample(due, min(len(due), order.randrange(1, 6))):
            value = loss(run)
            rows[run] = {"status": "done" if math.isfinite(value) else "diverged", "train_loss": value}
            rows[run]["constant_loss"] = 100.0
    return rows


@given(st.floats(-2.9, 0.9), st.sampled_from(SCHEDULES), st.floats(0.3, 5))
@settings(max_examples=12, deadline=None)
def test_a_smooth_landscape_gives_the_best_schedule_and_learning_rate(exponent, schedule, steepness):
    best = 10**exponent
    plan = study()
    choice = state(plan, SGD, carry_out(plan, SGD, bowl(best, schedule, steepness))).choice
    assert choice.decay == schedule
    assert abs(math.log10(choice.lr / best)) < 0.5 / 8 + 0.01
    assert choice.edge == 0
    assert [run.epochs for run in plan.final_runs(choice)] == [30, 30]
    assert {run.decay for run in plan.final_runs(choice)} == {schedule}


def test_a_best_beyond_the_range_is_approached_and_reported():
    plan = study()
    near = state(plan, SGD, carry_out(plan, SGD, bowl(30.0))).choice
    assert near.lr == pytest.approx(30.0, rel=0.16)
    far = state(plan, SGD, carry_out(plan, SGD, bowl(1e9))).choice
    assert far.edge == 1


@given(st.integers(0, 10**6), st.floats(-2, 0), st.sampled_from(ALL))
@settings(max_examples=12, deadline=None)
def test_the_order_of_the_runs_does_not_matter(seed, exponent, entry):
    noise = lambda run: random.Random(run.key).gauss(0, 0.5)  # noqa: E731
    loss = lambda run: bowl(10**exponent)(run) * math.exp(noise(run)) if run.lr < 1 else math.nan  # noqa: E731
    plan = study(entry)
    rows = carry_out(plan, entry, loss)
    shuffled = carry_out(plan, entry, loss, random.Random(seed))
    assert rows == shuffled
    assert state(plan, entry, rows) == state(plan, entry, shuffled)
    # Rows of other runs do not count.
    strangers = {dataclasses.replace(run, lr=run.lr * 1.001): {"status": "done", "train_loss": -1.0} for run in rows}
    assert state(plan, entry, rows | strangers) == state(plan, entry, rows)


@given(st.integers(3, 40), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=6, deadline=None)
def test_every_optimizer_gets_the_same_trials_and_rungs(trials, epochs, schedules):
    entries = [contender(name, schedules=SCHEDULES[:schedules], search=True) for name in ("inna:beta=1..2", "sgd")]
    entries[0] = dataclasses.replace(entries[0], space=entries[0].space[:2])  # no setting with a usual value
    plan = study(*entries, trials=trials, tuning_epochs=epochs, epochs=epochs)
    rungs_of = []
    for entry in entries:
        assert len(trials_of(entry, trials)) == trials
        tuning = state(plan, entry, carry_out(plan, entry, lambda run: 1.0))
        runs = Counter((run.epochs, run.seed) for run in tuning.plan)
        assert {length for length, _ in runs} == set(rungs(epochs))
        half = max([length for length in rungs(epochs) if length < epochs], default=0)
        rungs_of.append(sorted(item for item in runs.items() if item[0][0] < half))
    assert rungs_of[0] == rungs_of[1]


def test_a_search_costs_at_most_so_many_runs():
    plan = study()
    for loss in (bowl(1e-9), bowl(1e9), lambda run: random.Random(run.key).random() + 0.1):
        tuning = state(plan, SGD, carry_out(plan, SGD, loss))
        halving = sum(24 // 2**rung for rung in range(4))
        climbs = len(SGD.qs) * (2 * MAX_MOVES + 1 + 2 * MAX_MOVES)
        assert len(tuning.plan) <= halving + climbs + 2 * max(FINALISTS, len(SGD.qs))


@pytest.mark.parametrize("seed", [0, 1000])
@given(st.floats(-2.5, 0.5), st.booleans())
@settings(max_examples=8, deadline=None)
def test_a_learning_rate_that_fails_on_either_seed_is_not_chosen(seed, exponent, diverges):
    limit, failed = 10**exponent, math.nan if diverges else 99.9

    def loss(run):
        fails = run.lr > limit and run.seed == seed and run.epochs >= 15
        return failed if fails else 1e-3 / run.lr  # the larger, the better

    plan = study()
    choice = state(plan, SGD, carry_out(plan, SGD, loss)).choice
    assert limit / 10 < choice.lr <= limit


@pytest.mark.parametrize("spares", [(), (2000,), (3000,)])
def test_beside_a_failing_learning_rate_two_further_seeds_decide(spares):
    def loss(run):
        # 0.562 trains on both tuning seeds, 0.75 on neither; below, all train.
        fails = run.lr > 0.7 or (run.lr > 0.5 and run.seed in spares)
        return 99.9 if fails and run.epochs >= 4 else 1e-3 / run.lr

    plan = study()
    rows = carry_out(plan, SGD, loss)
    assert {run.lr for run in rows if run.seed in plan.spare_seeds} == {0.562}
    assert state(plan, SGD, rows).choice.lr == (0.422 if spares else 0.562)


def test_where_the_loss_rises_at_the_end_the_next_smaller_rate_takes_its_place():
    def loss(run):
        place = round(8 * math.log10(run.lr / 0.1))
        best = 0 if run.decay == 0.0 else -2
        value = math.exp(abs(place - best) / 4 - run.epochs / 10) * (1 if run.decay == 0.0 else 3)
        return value * 20 if place >= 0 and run.decay == 0.0 and run.epochs == 15 else value

    both = contender("sgd", schedules=(0.0, 0.5), search=True)
    plan = study(both)
    rows = carry_out(plan, both, loss)
    choice = state(plan, both, rows).choice
    # At 0.1 the loss after 15 epochs is higher than after 8, and higher than with the other schedule.
    assert (choice.lr, choice.decay) == (0.075, 0.0)


def scattering(losses):
    """Losses of long runs by eighth-decade and seed, of which others are worse the farther they are from 0.075."""

    def loss(run):
        place = round(8 * math.log10(run.lr / 0.075))
        if run.epochs == 30 and (place, run.seed) in losses:
            return losses[place, run.seed]
        return math.exp(abs(place)) * (10 if run.epochs < 30 else 1)

    return loss


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        # The seeds differ by a factor of nine: the worse one counts, and the next smaller rate has a better worst.
        ({(0, 0): 0.1, (0, 1000): 0.9, (-1, 0): 0.35, (-1, 1000): 0.4}, 0.0562),
        # They differ, but the next smaller rate is worse still.
        ({(0, 0): 0.1, (0, 1000): 0.9, (-1, 0): 0.95, (-1, 1000): 0.95}, 0.075),
        # They agree, so the mean decides.
        ({(0, 0): 0.3, (0, 1000): 0.5, (-1, 0): 0.4, (-1, 1000): 0.4}, 0.075),
    ],
)
def test_where_the_seeds_differ_clearly_the_worse_one_counts(losses, chosen):
    constant = contender("sgd", schedules=(0.0,), search=True)
    plan = study(constant)
    rows = carry_out(plan, constant, scattering(losses))
    assert state(plan, constant, rows).choice.lr == chosen
    beside = [run for run in rows if (run.lr, run.seed, run.epochs) == (0.0562, 1000, 30)]
    assert beside or max(losses[0, 0], losses[0, 1000]) <= 2 * min(losses[0, 0], losses[0, 1000])


def test_the_usual_settings_are_refined_and_compared_over_all_seeds():
    momentum = contender("heavy-ball", schedules=(0.0,), search=True)
    plan = study(momentum)

    def loss(run):
        usual = dict(run.settings)["momentum"] == 0.9
        distance = math.log10(run.lr / (0.03 if usual else 0.3)) ** 2
        # Other momenta are far ahead on the first seed, and far behind on the next.
        lead = 1 if usual else 1e-2 if run.seed == 0 else 1e4
        return math.exp(distance) * lead

    rows = carry_out(plan, momentum, loss)
    choice = state(plan, momentum, rows).choice
    assert (choice.lr, choice.run.settings) == (0.0316, (("momentum", 0.9),))
    assert {run.epochs for run in rows} == {*rungs(15), 30}


@pytest.mark.parametrize(
    ("tuning", "final", "longest"), [(15, 30, 30), (15, 20, 20), (15, 300, 30), (15, 5, 15), (15, 15, 15)]
)
def test_the_last_rung_is_as_long_as_the_final_runs_at_most_twice_the_tuning(tuning, final, longest):
    plan = study(tuning_epochs=tuning, epochs=final)
    rows = carry_out(plan, SGD, bowl(0.1))
    assert max(run.epochs for run in rows) == plan.longest == longest
    assert {run.horizon for run in rows if run.decay == "linear"} <= {0, tuning}
    assert {run.seed for run in rows if run.epochs == longest} == {0, 1000}


@pytest.mark.parametrize("place", range(-12, 0, 2))
def test_a_choice_has_tried_neighbours_on_both_sides(place):
    def loss(run):
        # Long runs prefer a learning rate that is half a decade larger.
        return math.exp(abs(math.log10(run.lr) - (place + 4 * (run.epochs == 30)) / 8))

    constant = contender("sgd", schedules=(0.0,), search=True)
    plan = study(constant)
    rows = carry_out(plan, constant, loss)
    choice = state(plan, constant, rows).choice
    whole = {run.lr for run in rows if (run.epochs, run.seed) == (15, 0)}
    chosen = round(8 * math.log10(choice.lr))
    assert chosen > place
    assert choice.edge == 0
    assert {float(f"{10 ** ((chosen + side) / 8):.3g}") for side in (-1, 1)} <= whole


def test_learning_rates_are_eighths_of_decades():
    ladder = {float(f"{10 ** (place / 8):.3g}") for place in range(-80, 40)}
    for entry in ALL:
        if any(each.name == "lr" for each in entry.space):
            rows = carry_out(study(entry), entry, bowl(0.1))
            assert {run.lr for run in rows} <= ladder
    narrow = contender("sgd:lr=.11...13", search=True)
    assert all(0.11 <= trial.lr <= 0.13 for trial in trials_of(narrow, 24))


def test_where_nothing_trains_a_finished_run_is_enough_and_where_all_diverge_none_is_chosen():
    plan = study()
    assert state(plan, SGD, carry_out(plan, SGD, lambda run: 200 + abs(math.log(run.lr)))).choice.lr < 10
    hopeless = state(plan, SGD, carry_out(plan, SGD, lambda run: math.nan))
    assert (hopeless.choice, len(hopeless.plan)) == (None, 24)


def test_given_settings_are_fixed_and_ranges_searched():
    fixed = contender("sgd:lr=.1,momentum=.5", search=True)
    assert (fixed.label, fixed.grid, fixed.space) == ("SGD (momentum=0.5, lr=0.1)", (0.1,), ())
    plan = study(fixed)
    rows = carry_out(plan, fixed, bowl(1.0))
    assert {run.lr for run in rows} == {0.1}
    assert state(plan, fixed, rows).choice.lr == 0.1
    names = {
        "inna": ("INNA", ["lr", "alpha", "beta"]),
        "inna:alpha=.5": ("INNA (α=0.5)", ["lr", "beta"]),
        "inna:alpha=.5,beta=.1": ("INNA (0.5, 0.1)", ["lr"]),
        "heavy-ball:momentum=.9": ("heavy ball", ["lr"]),
        "adamw:weight_decay=1e-4..1": ("AdamW (weight_decay=0.0001..1)", ["weight_decay", "lr", "betas"]),
        "sgd:lr=.01..1": ("SGD (lr=0.01..1)", ["lr"]),
        "rmsprop": ("RMSprop", ["lr"]),
    }
    for text, (label, space) in names.items():
        check_specification(text, tuned=True)
        entry = contender(text, search=True)
        assert (entry.label, [each.name for each in entry.space]) == (label, space)
    decaying = contender("adamw:weight_decay=1e-4..1", search=True)
    decays = {dict(trial.settings)["weight_decay"] for trial in trials_of(decaying, 24)}
    assert len(decays) == 24
    assert 1e-4 <= min(decays) < 1e-3 < 0.1 < max(decays) <= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sgd:lr=1..0.1", "the range of lr must be written low..high, got 1..0.1"),
        ("sgd:lr=a..b", "lr must be a number or a range low..high, got 'a'"),
        ("sgd:lr=0", "lr must be a finite number > 0, got 0"),
        ("heavy-ball:momentum=.5..1", "the range momentum=0.5..1 does not suit the scale near one"),
        ("sgd:speed=1..2", "sgd has no setting 'speed'"),
    ],
)
def test_bad_ranges_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        check_specification(text, tuned=True)


def test_a_class_declares_its_own_space():
    entry = contender("own_optimizer_spaces:Spaced", search=True)
    assert [each.text for each in entry.space] == ["lr=0.01..1", "momentum=0.1..0.9"]
    with pytest.raises(ValueError, match=r"Misspaced\.search_space must be name -> "):
        contender("own_optimizer_spaces:Misspaced", search=True)
    with pytest.raises(ValueError, match=r"momentum=0\.1\.\.0\.9 needs --tuning halving"):
        contender("sgd:momentum=.1...9")


@pytest.mark.parametrize("count", [1, 24, 256, 257, 1000])
def test_points_are_those_of_scipy_bit_for_bit(count):
    from scipy.stats.qmc import Sobol

    points.cache_clear()
    assert points(count) == tuple(map(tuple, Sobol(MOST_DIMENSIONS, rng=0).random_base2(10)[:count].tolist()))


def test_points_are_made_once_since_scipy_takes_longer_to_import_than_a_report(tmp_path):
    code = (
        "import sys; from inna.experiments.study.search_space import points; "
        "print(len(points(24)), 'scipy' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    printed = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for _ in range(2)
    ]
    assert printed == ["24 True\n", "24 False\n"]


def test_points_are_the_same_for_all_and_fill_every_coordinate():
    for start in range(0, 64, 8):
        for coordinate in zip(*points(64)[start : start + 8], strict=True):
            assert sorted(int(8 * share) for share in coordinate) == list(range(8))
    assert points(24) == points(64)[:24]
    # Another sequence would be other trials: results of before could not be continued.
    assert points(2)[0][:2] == pytest.approx((0.40995, 0.96412), abs=1e-5)
    grid = [trial.lr for trial in trials_of(SGD, 24)]
    assert grid == [trial.lr for trial in trials_of(dataclasses.replace(SGD, label="other"), 24)]


def test_half_of_the_trials_keep_the_usual_settings():
    momenta = [dict(trial.settings)["momentum"] for trial in trials_of(contender("heavy-ball", search=True), 24)]
    assert momenta.count(0.9) >= 12
    assert momenta[:6] == momenta[12:18] == [0.9] * 6
    assert len(set(momenta)) == 13


@given(st.floats(0, 1), st.sampled_from(["log", "linear", "near one"]))
def test_values_lie_in_their_range(share, scale):
    dimension = Dimension("x", 0.05, 0.995, scale)
    value = dimension.value(share)
    assert 0.0499 <= value <= 0.9951
    assert dimension.value(0) == 0.05
    assert dimension.value(1) == 0.995


def test_the_remaining_runs_are_known_as_far_as_they_are_certain():
    plan, rows, before = study(), {}, []
    loss = bowl(0.1)
    while due := [run for run in state(plan, SGD, rows).plan if run not in rows]:
        before.append(outlook(plan, rows))
        rows[due[0]] = {"status": "done", "train_loss": loss(due[0]), "constant_loss": 100.0}
    end = outlook(plan, rows)
    ends = [each.done + each.left for each in before]
    assert ends == sorted(ends)  # nothing that was foreseen is dropped
    assert ends[-1] == end.done + end.left
    assert [each.epochs_done + each.epochs_left for each in before][-1] == end.epochs_done + 60
    assert ends[0] >= 0.8 * ends[-1]
    foreseen = forecast(plan, {}, None, jobs=1)
    assert (foreseen.runs, foreseen.epochs) == (before[0].left, before[0].epochs_left)


@pytest.mark.parametrize(
    ("budget", "runs", "epochs"), [("12runs", 10, None), ("100epochs", None, 40), ("1h", None, None)]
)
def test_a_budget_ends_the_search(budget, runs, epochs):
    plan = study(budget=budget)
    rows = carry_out(plan, SGD, bowl(0.1))
    tuning = state(plan, SGD, rows)
    if runs:
        assert len(rows) == runs
    if epochs:
        assert epochs - 15 < sum(epochs_added(tuning.plan)) <= epochs
    assert tuning.choice is not None
    assert len(tuning.finals) == 2
    assert outlook(plan, rows).left == 2


def test_a_study_of_searches_survives_its_file(tmp_path):
    plan = study(*ALL)
    plan.save(tmp_path)
    assert Study.load(tmp_path) == plan
    assert plan.tuning_seeds == (0, 1000)
    with pytest.raises(ValueError, match="the tuning seed must not be a final seed: 1000"):
        study(seeds=(1, 1000))
    with pytest.raises(ValueError, match="trials must be at least the number of schedules, 3; got 2"):
        study(trials=2)


@pytest.mark.parametrize(
    ("reference", "label"),
    [
        ("inna:alpha=.5", "INNA (α=0.5)"),
        ("INNA (α=0.5)", "INNA (α=0.5)"),
        ("adamw:weight_decay=1e-4..1", "AdamW (weight_decay=0.0001..1)"),
        ("sgd:lr=.1", "SGD (lr=0.1)"),
        (None, "INNA (α=0.5)"),
    ],
)
def test_the_reference_of_a_search_is_named_as_it_was_given(reference, label):
    optimizers = ["inna:alpha=.5", "adamw:weight_decay=1e-4..1", "sgd:lr=.1"]
    assert make_study(tiny_task.PATH, optimizers, reference=reference).reference == label


SMALL = {"epochs": 4, "tuning_epochs": 6, "seeds": (1,), "tuning": "halving", "trials": 6}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A study, its folder after a whole sweep, its rows, and the epochs that were trained."""
    plan = make_study(tiny_task.PATH, ["heavy-ball", "adam"], schedules=(0.0, *NAMED_SCHEDULES), **SMALL)
    folder, trained = tmp_path_factory.mktemp("small"), []
    epoch = Training._epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_epoch", lambda self, number: (trained.append(number), epoch(self, number))[1])
        rows, failures = sweep(plan, folder)
    assert failures == []
    return plan, folder, rows, sum(number > 0 for number in trained)


def test_a_sweep_trains_no_epoch_twice_and_leaves_no_checkpoint(small):
    plan, folder, rows, trained = small
    tunings = [state(plan, entry, rows) for entry in plan.contenders]
    assert rows.keys() == {run for tuning in tunings for run in (*tuning.plan, *tuning.finals)}
    assert trained == sum(cost(tuning.done(rows)).epochs for tuning in tunings) == outlook(plan, rows).epochs_done
    assert list(folder.glob("*.checkpoint")) == []
    summary = summarize(plan, rows)
    for entry in summary.entries:
        assert 1 <= entry.near_best <= len(entry.comparable) < len(entry.tuning)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_sweep_that_lost_rows_gives_the_same_ones(small, jobs, tmp_path):
    plan, folder, rows, _ = small
    plan.save(tmp_path)
    kept = random.Random(jobs).sample(sorted(rows, key=lambda run: run.key), len(rows) // 2)
    for run in kept:
        row_path(tmp_path, run).write_bytes(row_path(folder, run).read_bytes())
    again, failures = sweep(plan, tmp_path, SweepOptions(jobs=jobs))
    assert failures == []
    assert {run: without_times(row) for run, row in read_rows(tmp_path).items()} == {
        run: without_times(row) for run, row in rows.items()
    }
    assert again.keys() == rows.keys()


def test_ranges_parse_beside_settings():
    tuned = parse_tuned("adam:betas=(.9,.99),lr=1e-3..1e-1")
    assert tuned.fixed == "adam:betas=(.9,.99)"
    assert tuned.ranges[0].text == "lr=0.001..0.1"
