"""The command line: exit statuses, one-line errors, and that what --help names works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inna
import tiny_task
from inna.cli import app, run
from inna.cli.options import BuiltinTaskOptions
from inna.experiments.rows.row_files import load_rows, read_row, write_row
from inna.experiments.tasks.load import BUILTIN_TASKS
from timeless import without_times

FEW = [
    "--epochs",
    "2",
    "--tuning-epochs",
    "1",
    "--seeds",
    "1,2",
    "--grid",
    "0.01,0.1",
    "--schedules",
    "0",
    "--jobs",
    "1",
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", str(Path(inna.__file__).parents[1]))


def test_compare_ends_with_the_table_and_the_report_which_needs_no_torch_to_be_made_again(capsys, tmp_path):
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", "--optimizer", "inna:alpha=.5,beta=1", *FEW]
    assert run(arguments) == 0
    folder = tmp_path / "runs" / "tiny_task-make_task"
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("report: runs/tiny_task-make_task/report.html")
    assert "INNA (0.5, 1)" in shown.out
    assert "worst" in shown.out
    assert shown.err == ""
    assert (folder / "report.html").stat().st_size > 0
    frame = load_rows(folder)
    assert set(frame["status"]) == {"done"}
    assert {"test_loss", "test_worst_error", "seconds_per_epoch", "history", "versions", "hardware"} <= set(frame)

    check = (
        "import sys; from inna.cli import run; status = run(sys.argv[1:]); exit(status or 3 * ('torch' in sys.modules))"
    )
    (folder / "report.html").unlink()
    alone = subprocess.run(
        [sys.executable, "-c", check, "report", str(folder), "--figures", "svg"], capture_output=True, text=True
    )
    assert (alone.returncode, alone.stderr) == (0, "")
    assert "SGD" in alone.stdout
    assert (folder / "report.html").exists()
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg"}
    assert run(["report", str(folder), "--figures", "gif"]) == 2
    assert "formats must be of png and svg" in capsys.readouterr().err


@pytest.fixture
def quick_report(monkeypatch):
    """Drawing figures takes seconds, and the tests with this fixture are not about them."""
    monkeypatch.setattr("inna.experiments.report.write.write_report", lambda folder: folder / "report.html")


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_the_page_is_written_before_the_table(capsys, tmp_path, monkeypatch):
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", *FEW, "--out", "here"]
    page = tmp_path / "here" / "report.html"
    with monkeypatch.context() as patch:
        patch.setattr("inna.experiments.report.write.build_page", interrupted)
        assert run(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "Writing report.html."
    assert shown.err == "inna: Stopped. Finished runs are saved; run the same command to resume.\n"
    assert not [path.name for path in page.parent.iterdir() if path.name.endswith((".tmp", ".html"))]
    with monkeypatch.context() as patch:
        patch.setattr("inna.experiments.report.write.print_summary", interrupted)
        assert run(arguments) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "Writing report.html."
    assert page.read_text(encoding="utf-8").endswith("</html>")


@pytest.mark.usefixtures("quick_report")
def test_a_second_compare_runs_nothing_again(capsys, tmp_path):
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", *FEW, "--out", "here"]
    assert run(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").glob("*.row.json")}
    capsys.readouterr()
    assert run(arguments) == 0
    assert f"{len(before)} runs done, 0 to do, results in here" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "here").glob("*.row.json")} == before


@pytest.mark.usefixtures("quick_report")
def test_compare_reports_runs_that_raise_with_status_1(capsys):
    few = [argument.replace("0.01,0.1", "0.1,0.5") for argument in FEW]
    arguments = ["compare", "--task", tiny_task.PATH, "--optimizer", "tiny_task:Fragile", *few]
    assert run(arguments) == 1
    shown = capsys.readouterr()
    assert "one half is too much" in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert "report:" in shown.out
    assert run([*arguments, "--debug"]) == 1
    assert "in step" in capsys.readouterr().err


def test_landscape_draws_and_says_what_became_of_each(capsys, tmp_path):
    arguments = ["landscape", "--objective", "quadratic:1,25", "--lr", ".1", "--steps", "50", "--beside", "gd:lr=.1"]
    assert run([*arguments, "--beside", "adam", "--formats", "html,svg", "png"]) == 0
    shown = capsys.readouterr().out
    assert "INNA (0.5, 0.1), γ 0.1: J = " in shown
    # 1 - 0.1 * 25 = -1.5: gradient descent grows by half in every step.
    assert "gradient descent, lr 0.1: J = " in shown
    assert "; left the frame at iteration" in shown
    folder = tmp_path / "runs" / "landscape-quadratic-1-25"
    assert [line.split(": ")[1] for line in shown.splitlines()[-3:]] == [
        f"runs/{folder.name}/landscape.{ending}" for ending in ("html", "svg", "png")
    ]
    assert (folder / "landscape.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "landscape.svg").read_text(encoding="utf-8").startswith("<svg")


def test_landscape_writes_the_interactive_page_and_opens_it(capsys, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert run(["landscape", "--interactive", "--objective", "beale", "--beta", "0.3", "--out", "there", "--show"]) == 0
    page = tmp_path / "there" / "playground.html"
    assert capsys.readouterr().out == "html: there/playground.html\n"
    assert opened == [page.as_uri()]
    assert '"scene":"beale","alpha":0.5,"beta":0.3' in page.read_text(encoding="utf-8")
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert run(["landscape", "--interactive", "--show"]) == 1
    assert "no browser could be started" in capsys.readouterr().err


def test_train_writes_row_and_checkpoint_and_does_not_train_twice(capsys, tmp_path):
    arguments = ["train", "inna:alpha=.1,beta=.1", "--task", tiny_task.PATH, "--lr", "0.1", "--epochs", "3"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert "bytes of optimizer state per parameter" in out
    (row,) = tmp_path.rglob("*.row.json")
    (checkpoint,) = tmp_path.rglob("*.checkpoint")
    assert str(row.relative_to(tmp_path)) in out
    assert str(checkpoint.relative_to(tmp_path)) in out
    assert run(arguments) == 0
    assert "This run is finished." in capsys.readouterr().out
    # A shorter run shares the checkpoint and does not replace it.
    assert run([*arguments[:-1], "2"]) == 0
    assert f"{checkpoint.relative_to(tmp_path)}, after 3 epochs" in capsys.readouterr().out


def test_train_believes_no_file_name(capsys, tmp_path):
    arguments = ["train", "sgd", "--task", tiny_task.PATH, "--epochs", "1", "--out", "there"]
    assert run([*arguments, "--lr", "0.1"]) == 0
    (first,) = tmp_path.glob("there/*.row.json")
    assert run([*arguments, "--lr", "0.01"]) == 0
    (second,) = {*tmp_path.glob("there/*.row.json")} - {first}
    wanted = read_row(second)
    shutil.copy(first, second)
    capsys.readouterr()
    assert run([*arguments, "--lr", "0.01"]) == 0
    assert "This run is finished." not in capsys.readouterr().out
    assert read_row(second)[0] == wanted[0]
    assert without_times(read_row(second)[1]) == without_times(wanted[1])
    # A packed row and a row of an older version count, and the version is named.
    _, result = read_row(second)
    write_row(second.parent, wanted[0], {**result, "versions": {"inna": "0.0.1"}})
    assert run(["pack", "there"]) == 0
    assert run([*arguments, "--lr", "0.01"]) == 0
    assert "1 result is from inna 0.0.1" in capsys.readouterr().out


def test_train_explains_divergence(capsys):
    assert run(["train", "sgd", "--task", tiny_task.PATH, "--lr", "1e20", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert "diverged. First bad step at iteration" in out
    assert "γ was" in out


def test_info_names_what_there_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("INNA_DATA", str(tmp_path / "elsewhere"))
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    for words in (
        "torch",
        "python",
        "cores",
        "single-tensor on cpu",
        "foreach on cpu",
        "fused on cpu",
        "elsewhere",
    ):
        assert words in out


@pytest.mark.parametrize("command", [[], *([name] for name in app if not name.startswith("-"))])
def test_help_and_version(capsys, command):
    assert run([*command, "--help"]) == 0
    assert "Usage: inna" in capsys.readouterr().out
    assert run(["--version"]) == 0


# Wrong arguments that need an import of torch to be noticed, and others.
SLOWLY_REFUSED = [
    (["compare", "--task", tiny_task.PATH.replace("make_task", "make_trouble")], "no such luck"),
    (["compare", "--task", tiny_task.PATH.replace("make_task", "make_nothing")], "must return"),
]
INTO_FOLDERS = [
    ["train", "--out"],
    ["train", "--tensorboard"],
    ["landscape", "--out"],
    ["reproduce", "fig1", "--out"],
]
QUICKLY_REFUSED = [
    (["compare", "--dataset", "nonsense"], "dataset must be one of digits"),
    (["compare", "--device", "abacus"], "device 'abacus' is unknown; give cpu, cuda, cuda:1, ..., or auto"),
    (["train", "--device", "cdua"], "Did you mean 'cuda'"),
    (["train", "--device", "gpu"], "Did you mean 'cuda'"),
    (["reproduce", "fig2", "--device", "cuda:x"], "device 'cuda:x' is unknown"),
    (["find-lr", "--device", "abacus"], "device 'abacus' is unknown"),
    (["find-lr", "--optimizer", "sgd:lr=.1"], "the learning rate is to be found"),
    (["compare", "--schedules", "liner"], "got 'liner'. Did you mean 'linear'"),
    (["landscape", "--formats", "pgn"], "Did you mean 'png'"),
    (["new-task", "task.txt"], "must end in .py"),
    (["compare", "--dataset", "digits", "--task", "a.py:b"], "not both"),
    (["compare", "--task", "a.py"], "no such file"),
    (["compare", "--task", "package.module"], "my_task.py:function"),
    (["compare", "--task", "nowhere.py:make"], "no such file"),
    (["compare", "--optimizer", "nonsense"], "there are inna, inna-lr-free, innaprop, innaprop-lr-free, sgd"),
    (["compare", "--optimizer", "inna:gamma=1"], "it has alpha, beta"),
    (["compare", "--optimizer", "adamw:weight_decay=x"], "weight_decay must be a finite number, got 'x'"),
    (["compare", "--optimizer", "adam:amsgrad=3"], "amsgrad must be true or false, got 3"),
    (["compare", "--optimizer", "inna:beta=-1"], "beta must be a finite number >= 0, got -1.0"),
    (["train", "innaprop:sigma=1"], "sigma must be a finite number >= 0 and < 1, got 1.0"),
    (["train", "nowhere.optim:Foo"], "No module named 'nowhere'"),
    (["compare", "--optimizer", "torch.optim:Addam"], "torch.optim has no torch optimizer 'Addam'. Did you mean"),
    (
        ["compare", "--dataset", "digits[:99999]"],
        r"digits has 1437 training images, so digits\[:99999\] does not exist",
    ),
    (["find-lr", "--dataset", "mnist[:0]"], r"mnist has 50000 training images, so mnist\[:0\] does not exist"),
    (["compare", "--epochs", "-1"], "epochs must be a whole number >= 1, got -1"),
    (["compare", "--epochs", "many"], "--epochs"),
    (["compare", "--trials", "3", "--grid", ".1"], "trials: a grid has none; leave the grid out"),
    (["compare", "--tuning", "halving", "--grid", ".1"], "grid: a search has no grid"),
    (["compare", "--epochs", "1.5"], "--epochs must be a whole number, got '1.5'"),
    (["compare", "--jobs", "1.5"], "--jobs must be a whole number, got '1.5'"),
    (["train", "--seed", "0.6"], "--seed must be a whole number, got '0.6'"),
    (["landscape", "--steps", "2.5"], "--steps must be a whole number, got '2.5'"),
    (["compare", "--seeds", "0,1"], "the tuning seed must not be a final seed: 0 is in"),
    (["compare", "--seeds", "1.5"], "whole numbers"),
    (["compare", "--grid", ""], "--grid"),
    (["compare", "--grid", "-1"], "--grid|grid must"),
    (["compare", "--budget", "soon"], "budget must be written like"),
    (["compare", "--budget", "3runs"], "does not pay"),
    (["compare", "--minutes", "0"], "minutes must be a finite number > 0"),
    (["status", "nowhere"], "nowhere: no such folder"),
    (["status", str(Path(__file__).parent)], "cli: no study.json here; `inna compare` writes one"),
    (["pack", "."], "no results here to pack"),
    (["compare", "--optimizer", "inna:alpha=.5,alpha=.1"], "inna:alpha=.5,alpha=.1: alpha is given twice"),
    (["compare", "--out", f"{__file__}/rows"], "for --out. .*test_cli.py is not a folder"),
    *(([*line, __file__], "test_cli.py is not a folder") for line in INTO_FOLDERS),
    (["compare", "--jobs", "0"], "jobs must be a whole number >= 1, got 0"),
    (["compare", "--bogus"], "--bogus"),
    (["train", "adam", "--lr", "-1"], "lr must be a finite number > 0"),
    (["train", "nonsense"], "there is no optimizer"),
    (["report", "nowhere"], "nowhere"),
    (["report"], "folder|FOLDER"),
    (["landscape", "--objective", "nonsense"], "one of rosenbrock-v, rosenbrock"),
    (["landscape", "--objective", "quadratic:1"], "two eigenvalues"),
    (["landscape", "--alpha", "-1"], "alpha must be a finite number >= 0, got -1.0"),
    (["landscape", "--lr", "0"], "lr must be a finite number > 0, got 0.0"),
    (["landscape", "--steps", "0"], "steps must be a whole number >= 1, got 0"),
    (["landscape", "--steps", "3000000"], "at most 2000000"),
    (["landscape", "--q", "-1"], "q must be a finite number >= 0, got -1.0"),
    (["landscape", "--start", "nan", "1"], "start must be a finite number"),
    (["landscape", "--frame", "1", "-1", "0", "1"], "left < right"),
    (["landscape", "--beside", "lion"], "one of inna, gd, heavy-ball, nesterov, adam; got 'lion'"),
    (["landscape", "--beside", "adam:mu=1"], "it has lr, beta1, beta2, eps"),
    (["landscape", "--beside", "adam:lr=fast"], "lr must be a number, got 'fast'"),
    (["landscape", "--beside", "heavy-ball:momentum=2"], "momentum must be a finite number >= 0 and <= 1"),
    (["landscape", "--beside", "adam", "--beside", "adam"], "is given twice"),
    (["landscape", "--formats", "gif"], "of html, png and svg, got gif"),
    (["landscape", "--interactive", "--formats", "png"], "--interactive writes html alone"),
    (["landscape", "--interactive", "--beside", "adam:lr=1"], "the interactive page runs gd, heavy-ball, neste"),
    (["landscape", "--interactive", "--steps", "900000"], "takes 1 to 200000 steps"),
    (["nonsense"], "nonsense"),
    (["compare", "--dataset", "mnits"], "got 'mnits'. Did you mean 'mnist'"),
    (["compare", "--dataset", "mnist", "--model", "lenet"], "got 'lenet'. Did you mean 'lenet5'"),
    (["compare", "--optimizer", "inan"], "there is no optimizer 'inan'; .* Did you mean 'inna'"),
    (["compare", "--optimizer", "adam:beta=.9"], "adam has no setting 'beta'; .* Did you mean 'betas'"),
    (["compare", "--optimizer", "nadam:lr=0"], "nadam:lr=0: lr must be a finite number > 0, got 0"),
    (["compare", "--optimizer", "sgd", "--reference", "adam"], "the optimizers compared, sgd; got 'adam'"),
    (["compare", "--batch-size", "0"], "batch_size must be a whole number >= 1, got 0"),
    (["compare", "--optimzer", "inna"], "Did you mean --optimizer"),
    (["train", "--seed", "-1"], "seed must be a whole number >= 0, got -1"),
    (["reproduce", "fig9"], "Did you mean"),
    (["reproduce", "--dataset", "cifar"], "got 'cifar'. Did you mean 'cifar10'"),
    (["datasets", "digit"], "got 'digit'. Did you mean 'digits'"),
    (["theory-check", "--only", "rate"], "no demonstration 'rate'; .* Did you mean 'rates'"),
    (["landscape", "--objective", "rosenbrok"], "got 'rosenbrok'. Did you mean 'rosenbrock'"),
    (["comparre"], 'Did you mean "compare"'),
]


@pytest.mark.parametrize(("arguments", "words"), SLOWLY_REFUSED + QUICKLY_REFUSED)
def test_wrong_usage_is_one_line_and_status_2(capsys, arguments, words, tmp_path):
    import re

    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("inna: ")
    assert shown.err.count("\n") == 1
    assert re.search(words, shown.err)
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_and_help_import_no_framework():
    lines = [[*command, "--help"] for command in ([], *([name] for name in app if not name.startswith("-")))]
    lines += [arguments for arguments, _ in QUICKLY_REFUSED]
    code = """if True:
        import contextlib, io, json, sys
        from inna.cli import run

        heavy = {"torch", "pandas", "altair", "scipy", "sklearn", "joblib", "distributed", "vl_convert"}
        for line in json.load(sys.stdin):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                status = run(line)
            if heavy & sys.modules.keys():
                sys.exit(f"{line} imports {heavy & sys.modules.keys()}")
            if status != (0 if "--help" in line else 2):
                sys.exit(f"{line} ended with {status}")
    """
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_debug_shows_the_traceback(capsys):
    assert run(["--debug", "compare", "--dataset", "nonsense"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_interruption_and_failure_are_status_1_and_one_line(capsys, monkeypatch):
    def failed(*arguments, **options):
        raise OSError(28, "No space left on device")

    for fault, words in ((interrupted, "Stopped. Finished runs are saved"), (failed, "No space left")):
        monkeypatch.setattr("inna.experiments.sweep.sweep.sweep", fault)
        assert run(["compare", "--task", tiny_task.PATH, "--optimizer", "sgd", *FEW]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_a_reader_who_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "inna", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_the_help_names_every_built_in_task_and_network():
    described = BuiltinTaskOptions.__doc__
    assert [name for name in BUILTIN_TASKS if name not in described] == []
    assert [model for task in BUILTIN_TASKS.values() for model in task.models if model not in described] == []


def test_commands_are_those_that_work():
    assert {name for name in app if not name.startswith("-")} == {
        "benchmark",
        "compare",
        "find-lr",
        "new-task",
        "train",
        "reproduce",
        "status",
        "datasets",
        "info",
        "report",
        "pack",
        "landscape",
        "theory-check",
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compare --nosuch 3", "Unknown option: --nosuch. (see inna compare --help)"),
        ("compare --epoch 3", "Unknown option: --epoch. Did you mean --epochs? (see inna compare --help)"),
        ("train sgd more", "Unexpected argument: more. (see inna train --help)"),
        ("compar", "(see inna --help)"),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_help_of_its_command(capsys, line, words):
    assert run(line.split()) == 2
    assert words in capsys.readouterr().err
