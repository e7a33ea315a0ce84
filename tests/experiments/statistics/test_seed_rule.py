"""Seeds that are added until the winner is established: error rate, power, and sweeps."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
from rich.console import Console

import tiny_task
from inna.cli.options import folder_for
from inna.experiments.comparison import make_study
from inna.experiments.rows.row_files import read_rows, row_path
from inna.experiments.rows.run import Run
from inna.experiments.statistics.seed_rule import is_settled, seeds_sentence, with_needed_seeds
from inna.experiments.statistics.summary import Entry, Summary, summarize
from inna.experiments.study.seed_looks import looks, parse_seeds, share
from inna.experiments.study.study import Contender, Study
from inna.experiments.sweep.forecast import forecast, print_forecast
from inna.experiments.sweep.status import read_status
from inna.experiments.sweep.sweep import sweep
from timeless import without_times

RUN = Run("d", "m", "sgd", 0.1)


def made_up(losses, seeds, cap):
    """The summary of optimizers with these losses, a row each, on the first ``seeds`` seeds."""
    contenders = tuple(Contender(f"optimizer {place}", "sgd", grid=(0.1,), qs=(0.0,)) for place in range(len(losses)))
    study = Study(
        dataset="d",
        model="m",
        contenders=contenders,
        reference=contenders[0].label,
        tuning_epochs=1,
        epochs=1,
        seeds=tuple(range(1, seeds + 1)),
        seed_cap=cap,
    )
    finals = [
        {seed: (RUN, {"status": "done", "train_loss": float(loss)}) for seed, loss in enumerate(row[:seeds], start=1)}
        for row in losses
    ]
    return Summary(
        study, tuple(Entry(each, None, (), runs, (), {}) for each, runs in zip(contenders, finals, strict=True))
    )


def settled_at(losses, cap):
    """The seeds after which the winner is established; None if it never is."""
    return next((look for look in looks(cap) if is_settled(made_up(losses, look, cap))), None)


@pytest.mark.parametrize("cap", [4, 5, 7, 8, 20, 33, 100])
def test_the_looks_spend_the_error_rate_once(cap):
    assert looks(cap)[0] == 3
    assert looks(cap)[-1] == cap
    assert list(looks(cap)) == sorted(set(looks(cap)))
    assert math.fsum(share(look, cap) for look in looks(cap)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("optimizers", "cap", "studies"),
    [
        (2, 8, 300),
        pytest.param(2, 20, 2000, marks=pytest.mark.slow),
        pytest.param(5, 20, 2000, marks=pytest.mark.slow),
    ],
)
def test_equal_optimizers_have_an_established_winner_in_at_most_one_study_of_twenty(optimizers, cap, studies):
    generator = np.random.default_rng(3)
    alarms = repeated = 0
    for _ in range(studies):
        losses = 10 ** generator.normal(-3, 0.3, (optimizers, cap))
        alarms += settled_at(losses, cap) is not None
        # The same looks, each at the whole rate.
        repeated += any(is_settled(made_up(losses[:, :look], look, 0)) for look in looks(cap))
    assert alarms / studies <= 0.05
    if optimizers == 2:
        assert repeated / studies > 0.07


def test_a_clear_winner_needs_few_seeds_and_a_close_one_more():
    generator = np.random.default_rng(4)
    noise = 10 ** generator.normal(0, 0.05, (3, 20))
    assert settled_at(np.array([[1e-3], [1e-2], [1e-1]]) * noise, 20) == 3
    assert 3 < settled_at(np.array([[1e-3], [1.3e-3], [1.4e-3]]) * noise, 20) <= 20


def test_optimizers_that_fail_need_no_more_seeds():
    summary = made_up([[1.0] * 3, [2.0] * 3], 3, 20)
    none = dataclasses.replace(
        summary, entries=tuple(dataclasses.replace(each, finals={1: each.finals[1]}) for each in summary.entries)
    )
    assert is_settled(none)
    assert seeds_sentence(none).endswith("They stopped because no optimizer trained on every seed.")


@pytest.mark.parametrize("text", ["auto:3", "auto:", "auto:x", "automatic", "1,2"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"seeds"):
        parse_seeds(text)


def test_a_tuning_seed_must_be_beyond_the_cap():
    with pytest.raises(ValueError, match="the tuning seed must not be a final seed: 7"):
        make_study(tiny_task.PATH, ["sgd"], seeds="auto:8", tuning_seed=7)
    assert make_study(tiny_task.PATH, ["sgd"], seeds="auto:8", tuning_seed=9).seeds == (1, 2, 3)


OPTIONS = {"epochs": 2, "tuning_epochs": 1, "schedules": (0.0,), "seeds": "auto:6", "tuning": "grid"}
EQUAL = ["sgd:lr=.1", "sgd:lr=.1,momentum=0"]
CLEAR = ["sgd:lr=.1", "sgd:lr=1e-6"]


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("equal")
    study = make_study(tiny_task.PATH, EQUAL, **OPTIONS)
    rows, failures = sweep(study, folder)
    assert failures == []
    return study, folder, rows


def test_a_sweep_adds_seeds_up_to_the_cap_where_nobody_leads(equal):
    study, folder, rows = equal
    assert study.seeds == (1, 2, 3)
    assert Study.load(folder).seeds == (1, 2, 3, 4, 5, 6)
    assert with_needed_seeds(study, rows) == dataclasses.replace(study, seeds=(1, 2, 3, 4, 5, 6))
    assert len(rows) == 2 * (1 + 6)
    sentence = "6 of at most 6 are used. They stopped at this cap; the winner on training loss is not established."
    assert read_status(folder).seeds.endswith(sentence)


def test_a_sweep_stops_where_the_winner_is_established(tmp_path):
    study = make_study(tiny_task.PATH, CLEAR, **OPTIONS)
    rows, _ = sweep(study, tmp_path)
    needed = with_needed_seeds(study, rows)
    assert len(needed.seeds) < 6
    assert len(rows) == 2 * (1 + len(needed.seeds))
    assert Study.load(tmp_path) == needed
    assert "They stopped because the lead of SGD" in seeds_sentence(summarize(needed, rows))


def test_a_resumed_sweep_gives_the_same_rows_in_the_same_folder(equal, tmp_path):
    study, folder, rows = equal
    usual = tmp_path / "runs"
    usual.mkdir()
    dataclasses.replace(study, seeds=(1, 2, 3, 4, 5)).save(usual)
    for run in sorted(rows, key=lambda run: run.key)[::2]:
        row_path(usual, run).write_bytes(row_path(folder, run).read_bytes())
    assert folder_for(study, usual, console=None) == usual
    assert study.digest == Study.load(folder).digest
    again, _ = sweep(study, usual)
    assert {run: without_times(row) for run, row in again.items()} == {
        run: without_times(row) for run, row in rows.items()
    }
    assert read_rows(usual).keys() == rows.keys()
    assert list(usual.glob("study-*.json")) == []


def test_a_dry_run_gives_the_range(equal):
    study, folder, _ = equal
    console = Console(file=io.StringIO(), width=200)
    print_forecast(forecast(study, {}, None, jobs=1), study, folder, 1, console)
    assert "with 6 seeds up to 6 runs more, 12 epochs." in console.file.getvalue()
