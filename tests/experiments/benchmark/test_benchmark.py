"""A whole benchmark on tiny tasks: the command, its page, and rows of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny_task
from inna.cli import run
from inna.experiments.benchmark.judged import judge
from inna.experiments.benchmark.read import open_benchmark
from inna.experiments.benchmark.report.page import build_page
from inna.experiments.benchmark.report.words import inna_sentence, task_table, verdict_sentence
from inna.experiments.benchmark.suite import Suite, SuiteTask

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
    assert benchmark.missing == []
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
    assert run(["report", str(out), "--json"]) == 2
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


def damage(folder):
    path = next((folder / "tiny-tuned").glob("*.row.json"))
    path.write_text(path.read_text().replace('"epochs"', '"epoch"', 1))


def other_suite(folder):
    Suite((SuiteTask("tiny", tiny_task.PATH, 9),)).save(folder)


def other_protocol(folder):
    shutil.copyfile(folder / "language-tuned" / "study.json", folder / "tiny-tuned" / "study.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [(damage, "1 damaged row"), (other_suite, "another suite"), (other_protocol, "another protocol .*: other dataset")],
)
def test_rows_of_others_that_are_refused(done, tmp_path, capsys, change, words):
    mine, theirs = copy_of(done, tmp_path, "mine"), copy_of(done, tmp_path)
    change(theirs)
    assert run(["benchmark", "--out", str(mine), "--add", str(theirs)]) == 2
    import re

    assert re.search(words, capsys.readouterr().err)
    assert not (mine / "added" / "theirs").exists()


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


def test_an_unfinished_task_does_not_count_and_is_named(done, tmp_path):
    mine = copy_of(done, tmp_path, "mine")
    for path in (mine / "language-tuned").glob("*seed2-*.row.json"):
        path.unlink()
    benchmark = open_benchmark(mine)
    assert benchmark.missing == ["language (tuned)"]
    assert judge(benchmark, resamples=10).verdicts["tuned", "loss"].scores.tasks == ("tiny",)
    assert "Runs are missing, so these do not count: language (tuned)." in build_page(judge(benchmark, resamples=10))
