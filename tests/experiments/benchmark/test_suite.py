"""Suites: files, checks, what a folder keeps; the tracks; the targets that were fixed."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from importlib import resources
from pathlib import Path

import pytest

import tiny_task
from inna.experiments.benchmark.read import open_benchmark
from inna.experiments.benchmark.suite import DEFAULT_SUITE, QUICK_SUITE, Suite, SuiteTask, read_suite_file
from inna.experiments.benchmark.targets import BASELINES, RULE, fixed_targets, set_targets, targets_of
from inna.experiments.benchmark.tracks import TUNED, UNTUNED, make_track
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.study.optimizer_names import NAMED
from inna.experiments.study.tuning import state

TARGETS_WERE_SET_FROM = Path(__file__).parents[3] / "results" / "benchmark-targets"
TINY = SuiteTask("tiny", tiny_task.PATH, 4, targets={"train_loss": 0.5})


def test_the_suite_of_five_seeds_is_the_default_one_with_more_seeds():
    found = read_suite_file(Path(__file__).parents[3] / "benchmarks" / "five_seeds.toml")
    assert found == dataclasses.replace(DEFAULT_SUITE, seeds=(1, 2, 3, 4, 5))


def test_a_suite_file_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(
        'seeds = [4, 5]\ntrials = 4\n[[tasks]]\nname = "sine"\ntask = "my.py:make"\nepochs = 20\nbatch_size = 8\n'
        'targets = { train_loss = 0.01 }\n[[tasks]]\nname = "digits"\ntask = "digits"\nepochs = 3\n'
    )
    sine = SuiteTask("sine", "my.py:make", 20, batch_size=8, targets={"train_loss": 0.01})
    assert read_suite_file(path) == Suite((sine, SuiteTask("digits", "digits", 3)), seeds=(4, 5), trials=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "no TOML"),
        ("", "the suite needs tasks"),
        ("tasks = []", "at least one task"),
        ("sees = [1]", r"the suite has no 'sees'; .* Did you mean 'seeds'"),
        ("tasks = 3", r"each beginning with \[\[tasks\]\]"),
        ('[[tasks]]\nname = "a"\nepochs = 1', "a task needs task"),
        ('[[tasks]]\nname = "a"\ntask = "digits"\nepochs = 0', "epochs must be a whole number >= 1, got 0"),
        ('[[tasks]]\nname = "a/b"\ntask = "digits"\nepochs = 1', "a task's name must consist of"),
        ('[[tasks]]\nname = "a"\ntask = "digits"\nepochs = 1\ntargets = { loss = 1.0 }', "must be for train_loss"),
        ('seeds = [1, 1]\n[[tasks]]\nname = "a"\ntask = "digits"\nepochs = 1', "at least one seed, none twice"),
    ],
)
def test_suite_files_that_are_refused(tmp_path, text, words):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_suite_file(path)
    with pytest.raises(ValueError, match="No such file"):
        read_suite_file(tmp_path / "none.toml")


@pytest.mark.parametrize("suite", [DEFAULT_SUITE, QUICK_SUITE, Suite((TINY,), seeds=(7,))])
def test_a_folder_keeps_its_suite(tmp_path, suite):
    suite.save(tmp_path)
    assert Suite.load(tmp_path) == suite
    path = tmp_path / "benchmark.json"
    path.write_text(path.read_text().replace('"trials"', '"trails"'))
    with pytest.raises(DamagedRowError):
        Suite.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="`inna benchmark` writes one"):
        Suite.load(tmp_path / "nowhere")


def test_every_optimizer_has_the_same_trials_and_the_same_budget():
    suite = Suite((TINY,), seeds=(1, 2), trials=4, tuning=5)
    study = make_track(suite, TINY, "tuned")
    assert [each.optimizer for each in study.contenders] == list(TUNED)
    assert (study.trials, study.tuning_limit) == (4, 5)
    assert {each.qs for each in study.contenders if each.optimizer != "schedule-free-adamw"} == {("linear",)}
    fewer = make_track(suite, TINY, "tuned", ("sgd", "adam"))
    assert fewer.tuning_limit == study.tuning_limit


def test_untuned_optimizers_have_their_librarys_settings_on_every_task():
    study = make_track(Suite((TINY,)), TINY, "untuned")
    runs = {each.optimizer: state(study, each, {}).plan for each in study.contenders}
    assert list(runs) == list(UNTUNED)
    rates = {name: run.lr for name, (run,) in runs.items()}
    assert {
        name: rates[name] for name in ("adam", "sgd", "schedule-free-adamw", "prodigy", "inna-lr-free", "inna")
    } == {
        "adam": 1e-3,
        "sgd": 1e-3,
        "schedule-free-adamw": 0.0025,
        "prodigy": 1.0,
        "inna-lr-free": 1.0,
        "inna": 0.1,
    }
    assert {run.decay for (run,) in runs.values()} == {0.0}
    assert all(each.label == NAMED[each.optimizer].label for each in study.contenders)


def test_targets_are_those_of_the_task_or_of_the_embedded_one_with_its_budget():
    assert targets_of(TINY) == {"train_loss": 0.5}
    embedded = DEFAULT_SUITE.tasks[0]
    assert targets_of(embedded) == fixed_targets()[embedded.name]
    assert targets_of(dataclasses.replace(embedded, epochs=embedded.epochs + 1)) == {}
    assert targets_of(dataclasses.replace(embedded, name="other")) == {}
    assert set(fixed_targets()) == {task.name for task in DEFAULT_SUITE.tasks}


def test_the_fixed_targets_are_those_of_the_rule_and_of_the_rows_they_were_set_from():
    document = json.loads(resources.files("inna.experiments.benchmark").joinpath("targets.json").read_text("utf-8"))
    assert document["rule"] == RULE
    complete = open_benchmark(TARGETS_WERE_SET_FROM).complete("tuned")
    assert {task.name: set_targets(summary) for task, summary in complete.items()} == document["tasks"]
    # By hand, for one: the median of seven geometric means over three seeds after three quarters of the epochs.
    task, summary = next(iter(complete.items()))
    epoch = math.ceil(0.75 * task.epochs)
    means = [
        statistics.geometric_mean(result["history"][epoch]["train_loss"] for _, result in entry.finals.values())
        for entry in summary.entries
        if entry.contender.optimizer in BASELINES
    ]
    assert len(means) == 7
    assert document["tasks"][task.name]["train_loss"] == pytest.approx(statistics.median(means), rel=0.005)
    assert not [name for name in BASELINES if name.startswith("inna")]
