"""A whole benchmark on tiny tasks: the command, its page, and rows of others."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import tiny_task
from inna.cli import run
from inna.experiments.benchmark.judged import judge
from inna.experiments.benchmark.read import open_benchmark
from inna.experiments.benchmark.report.page import build_page
from inna.experiments.benchmark.report.words import inna_sentence, task_table, verdict_sentence
from inna.experiments.benchmark.suite import TRACKS, Suite, SuiteTask
from inna.experiments.rows.row_files import read_row, write_row
from inna.experiments.study.search_space import learning_rate
from inna.experiments.study.study import Study

OPTIMIZERS = ["--optimizer", "inna", "--optimizer", "sgd", "--optimizer", "adam"]


def suite_file(folder: Path, epochs: int = 4) -> Path:
    path = folder / "suite.toml"
    tasks = [("tiny", tiny_task.PATH), ("language", tiny_task.PATH.replace("make_task", "make_language_task"))]
    text = "seeds = [1, 2]\ntrials = 2\ntuning = 3\n"
    for name, task in tasks:
        text += f'[[tasks]]\nname = "{name}"\ntask = "{task}"\nepochs = {epochs}\ntargets = {{ train_loss = 1.0 }}\n'
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    out = folder / "results"
    arguments = ["benchmark", "--suite", str(suite_file(folder)), "--out", str(out), "--jobs", "1", *OPTIMIZERS]
    assert run(arguments) == 0
    return out, arguments


def copy_of(done, tmp_path, name="theirs"):
    return Path(shutil.copytree(done[0], tmp_path / name))


def test_the_command_does_all_runs_and_again_none(done, capsys):
    out, arguments = done
    benchmark = open_benchmark(out)
    assert benchmark.missing(TRACKS) == []
    assert {task.name for task in benchmark.complete("tuned")} == {"tiny", "language"}
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.row.json")}
    assert run(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.row.json")} == before
    printed = capsys.readouterr().out
    assert "Tuned: mean ratio to the best of each task" in printed
    assert "benchmark.html" in printed
    assert run(["report", str(out), "--figures", "svg"]) == 0
    assert sorted(path.stem for path in (out / "figures").iterdir()) == [
        "mean-ratios-loss",
        "mean-ratios-steps",
        "profiles-tuned",
        "profiles-untuned",
    ]
    capsys.readouterr()
    assert run(["report", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    judged = judge(benchmark)
    assert {(each["track"], each["measure"]) for each in document["verdicts"]} == set(judged.verdicts)
    for each in document["verdicts"]:
        places = [(place["optimizer"], place["mean_ratio"]) for place in each["optimizers"]]
        assert places == [
            (place.label, place.ratio) for place in judged.verdicts[each["track"], each["measure"]].standings
        ]
    # Each of its folders is one of inna compare.
    assert run(["report", str(out / "tiny-tuned")]) == 0


def test_the_page_shows_the_verdicts_numbers(done):
    judged = judge(open_benchmark(done[0]), resamples=50)
    page = build_page(judged)
    assert verdict_sentence(judged, "tuned", "loss").split(":")[0] in page
    for track in ("tuned", "untuned"):
        verdict = judged.verdicts[track, "loss"]
        table = task_table(judged, track, "loss")
        assert table is not None
        assert [label for label, _ in table.lines] == [each.label for each in verdict.standings]
        for _, (mean, *_) in table.lines:
            assert mean.text in page
        if verdict.standings[0].label == "INNA":
            assert inna_sentence(judged, track, "loss") == ""
        else:
            assert f"number {verdict.rank('INNA')} of 3" in inna_sentence(judged, track, "loss")
    specifications = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    names = {name.rsplit("-", 1)[0] for name in specifications["panels"]}
    assert {
        "chart-mean-ratios-steps",
        "chart-mean-ratios-loss",
        "chart-profiles-tuned",
        "chart-profiles-untuned",
    } <= names


def test_rows_of_others_are_copied_and_shown_beside(done, tmp_path, capsys):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 0
    assert "added" in capsys.readouterr().out
    added = open_benchmark(mine).added
    assert [each.name for each in added] == ["theirs"]
    assert added[0].complete("tuned").keys() == open_benchmark(theirs).complete("tuned").keys()
    assert "Results of others" in (mine / "benchmark.html").read_text(encoding="utf-8")
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 2
    assert "exists; rename" in capsys.readouterr().err


def test_its_status_counts_the_runs_of_every_study(done, tmp_path, capsys):
    folder = copy_of(done, tmp_path)
    shutil.rmtree(folder / "language-untuned")
    lost = next(path for path in (folder / "tiny-untuned").glob("*.row.json") if read_row(path)[0].seed == 2)
    lost.unlink()
    assert run(["status", str(folder)]) == 0
    printed = capsys.readouterr().out
    lines = {tuple(line.split()[:2]): line.split()[2:] for line in printed.splitlines() if line.strip()}
    for task, track in (("tiny", "tuned"), ("tiny", "untuned"), ("language", "tuned")):
        rows = len(list((folder / f"{task}-{track}").glob("*.row.json")))
        assert lines[task, track] == [str(rows), "0", "1" if track == "untuned" else "0"]
    assert lines["language", "untuned"] == ["not", "begun"]
    assert max(map(len, printed.splitlines())) <= 80 or str(folder) in printed
    assert run(["status", str(folder), "--json"]) == 0
    studies = {(each["task"], each["track"]): each["status"] for each in json.loads(capsys.readouterr().out)["studies"]}
    assert studies["language", "untuned"] is None
    assert studies["tiny", "untuned"]["left"] == 1


def damage(folder):
    path = next((folder / "tiny-tuned").glob("*.row.json"))
    path.write_text(path.read_text().replace('"epochs"', '"epoch"', 1))


def other_suite(folder):
    Suite((SuiteTask("tiny", tiny_task.PATH, 9),)).save(folder)


def other_task(folder):
    shutil.copyfile(folder / "language-tuned" / "study.json", folder / "tiny-tuned" / "study.json")


def changed_study(place, **fields):
    def change(folder):
        dataclasses.replace(Study.load(folder / place), **fields).save(folder / place)

    return change


def changed_contender(place, **fields):
    def change(folder):
        study = Study.load(folder / place)
        others = tuple(
            dataclasses.replace(each, **fields) if each.label == "SGD" else each for each in study.contenders
        )
        dataclasses.replace(study, contenders=others).save(folder / place)

    return change


def changed_result(change):
    """Write the first row of Adam's final runs again, with its checksum."""

    def changed(folder):
        path = sorted((folder / "tiny-tuned").glob("*adam-seed1-*.row.json"))[0]
        run, result = read_row(path)
        write_row(path.parent, run, {**result, **change(result)})

    return changed


def row_of_another_task(folder):
    path = next((folder / "language-tuned").glob("*.row.json"))
    shutil.copyfile(path, folder / "tiny-tuned" / path.name)


def without_history(result):
    return {"history": []}


def smaller_loss(result):
    return {"train_loss": result["train_loss"] / 2}


def higher_accuracy(result):
    return {"test_accuracy": 1.0, "test_loss": 1e-9}


def one_epoch_less(result):
    return {"history": [entry for entry in result["history"] if entry["epoch"] != 2]}


def epochs_from_zero_on(result):
    return {"history": [{**entry, "epoch": 0} for entry in result["history"]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damage, "1 damaged row"),
        (other_suite, "another suite"),
        (other_task, "another protocol .*: other dataset"),
        (changed_study("tiny-tuned", budget="999epochs"), "another protocol .*: other budget"),
        (changed_study("tiny-tuned", precision="float64"), "another protocol .*: other precision"),
        (changed_contender("tiny-tuned", space=(learning_rate(1e-9, 1e9),)), "other settings of SGD"),
        (changed_contender("tiny-untuned", grid=(0.25,)), "other settings of SGD"),
        (changed_contender("tiny-tuned", optimizer="os:system"), "other settings of SGD"),
        (changed_result(without_history), "seed 1: its history does not have the epochs 0 to 4"),
        (changed_result(one_epoch_less), "does not have the epochs 0 to 4"),
        (changed_result(epochs_from_zero_on), "does not have the epochs 0 to 4"),
        (changed_result(smaller_loss), "its train_loss is not that of its last epoch"),
        (changed_result(higher_accuracy), "its test_loss is not that of its last epoch"),
        (row_of_another_task, "a run of another task"),
    ],
)
def test_rows_of_others_that_are_refused(done, tmp_path, capsys, change, words):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    change(theirs)
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (mine / "added" / "theirs").exists()


def test_the_protocol_is_checked_where_one_has_no_rows_of_a_task(done, tmp_path, capsys):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    shutil.rmtree(mine / "tiny-tuned")
    changed_study("tiny-tuned", trials=7)(theirs)
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 2
    assert "another protocol" in capsys.readouterr().err


def test_missing_runs_and_given_settings_of_others_are_said(done, tmp_path, capsys):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    for path in (theirs / "language-untuned").glob("*seed2-*.row.json"):
        path.unlink()
    study = Study.load(theirs / "tiny-tuned")
    given = tuple(dataclasses.replace(each, space=(), grid=(0.1,)) for each in study.contenders if each.label != "INNA")
    dataclasses.replace(study, contenders=given, reference="SGD", trials=0, budget="").save(theirs / "tiny-tuned")
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "tiny: the tuned settings there are given; their search is not among the rows" in printed
    assert "do not count: tiny (tuned) and language (untuned)" in printed


def test_ones_own_benchmark_is_not_added(done, tmp_path, capsys):
    mine = copy_of(done, tmp_path, "mine")
    assert run(["benchmark", "--out", str(mine), "--add", str(mine)]) == 2
    assert "is your own benchmark" in capsys.readouterr().err


def test_labels_of_others_are_text_on_the_page(done, tmp_path):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    attack = "</script><script>alert(1)</script>"
    for place in ("tiny-tuned", "language-tuned"):
        changed_contender(place, label=attack)(theirs)
        changed_study(place, command=attack)(theirs)
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 0
    page = (mine / "benchmark.html").read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert "<script>alert(1)" not in page


def test_wrong_usage_is_refused_before_anything_runs(done, tmp_path, capsys):
    suite = suite_file(tmp_path, epochs=5)
    for arguments, words in (
        (["--quick", "--suite", str(suite)], "give --quick or --suite"),
        (["--optimizer", "sdg"], "Did you mean 'sgd'"),
        (["--suite", str(tmp_path / "none.toml")], "No such file"),
        (["--suite", str(suite), "--out", str(done[0]), *OPTIMIZERS], "another suite"),
        (["--add", str(tmp_path), "--out", str(done[0])], "no benchmark.json"),
    ):
        assert run(["benchmark", *arguments]) == 2, arguments
        assert words in capsys.readouterr().err


def test_images_of_ones_own_are_a_task(tmp_path, capsys):
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "shapes.npz",
        x_train=draw.integers(0, 256, (40, 8, 8), dtype=np.uint8),
        y_train=np.arange(40) % 3,
        x_test=draw.integers(0, 256, (10, 8, 8), dtype=np.uint8),
        y_test=np.arange(10) % 3,
    )
    suite = tmp_path / "suite.toml"
    suite.write_text(f'seeds = [1]\n[[tasks]]\nname = "shapes"\ntask = "{tmp_path / "shapes.npz"}"\nepochs = 2\n')
    arguments = ["--suite", str(suite), "--track", "untuned", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert run(["benchmark", *arguments, "--optimizer", "inna", "--optimizer", "muon-adamw"]) == 0
    assert "Not complete" not in capsys.readouterr().out, "the tuned track was not asked for"
    (summary,) = open_benchmark(tmp_path / "out").complete("untuned").values()
    assert [entry.label for entry in summary.entries] == ["INNA", "Muon + AdamW"]
    assert [len(entry.finals) for entry in summary.entries] == [1, 1]
    assert "Final training loss" in (tmp_path / "out" / "benchmark.html").read_text(encoding="utf-8")


def test_an_unfinished_task_does_not_count_and_is_named(done, tmp_path):
    mine = copy_of(done, tmp_path, "mine")
    for path in (mine / "language-tuned").glob("*seed2-*.row.json"):
        path.unlink()
    benchmark = open_benchmark(mine)
    assert benchmark.missing(benchmark.begun) == ["language (tuned)"]
    assert judge(benchmark, resamples=10).verdicts["tuned", "loss"].scores.tasks == ("tiny",)
    assert "Runs are missing, so these do not count: language (tuned)." in build_page(judge(benchmark, resamples=10))
