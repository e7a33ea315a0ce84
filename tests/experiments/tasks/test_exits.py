"""Code of a task or an optimizer that ends the program: one line that names it, and the other runs go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import tiny_task
from inna.cli import run as run_command
from inna.experiments.comparison import make_run, make_study
from inna.experiments.rows.row_files import read_rows
from inna.experiments.study.remaining import outlook
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import sweep
from inna.experiments.tasks.exits import ExitError, ExitGuard
from inna.experiments.training.train import measure
from inna.interrupts import Interrupt, raising_interrupts

# Of Quitter's step sizes, what is said.
SAID = {
    0.01: "optimizer tiny_task:Quitter called sys.exit(0)",
    0.02: "optimizer tiny_task:Quitter called sys.exit('no more')",
    0.03: "optimizer tiny_task:Quitter called os._exit(0)",
    0.04: "optimizer tiny_task:Quitter raised KeyboardInterrupt",
    0.05: "optimizer tiny_task:Quitter raised BaseException: odd",
}


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_optimizer_that_ends_the_program_fails_its_runs_and_no_others(tmp_path, jobs):
    study = make_study(
        tiny_task.PATH,
        ("tiny_task:Quitter", "sgd"),
        epochs=2,
        tuning_epochs=1,
        seeds=(1,),
        grid=(*SAID, 0.1),
        schedules=(0.0,),
    )
    rows, failures = sweep(study, tmp_path, SweepOptions(jobs=jobs))
    assert {failure.run.lr: failure.error for failure in failures} == SAID
    assert outlook(study, rows, [failure.run for failure in failures]).left == 0
    assert {run.lr for run in rows if run.optimizer == "sgd"} >= {*SAID, 0.1}
    assert read_rows(tmp_path).keys() == rows.keys()


def test_the_command_line_says_so_with_status_1_or_2(tmp_path, capsys):
    few = ["--epochs", "1", "--tuning-epochs", "1", "--seeds", "1", "--schedules", "0", "--out", str(tmp_path)]
    compare = ["compare", "--task", tiny_task.PATH, "--optimizer", "tiny_task:Quitter", *few, "--jobs", "1"]
    assert run_command([*compare, "--grid", "0.01"]) == 1
    assert f"inna: 1 run failed; the first: {SAID[0.01]}  [tiny_task:Quitter, γ 0.01" in capsys.readouterr().err
    assert run_command(["train", "tiny_task:Quitter", "--task", tiny_task.PATH, "--lr", "0.03", *few[-2:]]) == 1
    assert capsys.readouterr().err == f"inna: {SAID[0.03]}\n"


def ending(part, seen):
    """The tiny task, whose ``part`` calls sys.exit when it is used the third time."""
    task = tiny_task.make_task()
    uses = []

    def used(name):
        uses.append(name)
        if name == part and uses.count(name) == seen:
            sys.exit(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny_task.network()

        def forward(self, inputs):
            used("forward")
            outputs = self.inner(inputs)
            if outputs.requires_grad:
                outputs.register_hook(lambda grad: used("backward"))
            return outputs

        def state_dict(self, *args, **kwargs):
            used("state_dict")
            return super().state_dict(*args, **kwargs)

    def model():
        used("model")
        return Net()

    def loss(outputs, targets):
        used("loss")
        return task.loss(outputs, targets)

    def metric(outputs, targets):
        used("metric")
        return (outputs - targets).abs().max()

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, place):
            used("data")
            return torch.ones(3), torch.ones(1)

    return replace(task, model=model, loss=loss, metrics={"m": (metric, "min")}, train=DataLoader(Data(), batch_size=2))


@pytest.mark.parametrize(
    ("part", "seen", "named"),
    [
        ("model", 1, "model"),
        ("forward", 3, "model"),
        ("backward", 2, "model"),
        ("state_dict", 1, "model"),
        ("loss", 5, "loss"),
        ("metric", 2, "metric m"),
        ("data", 7, "data"),
    ],
)
def test_each_part_of_a_task_is_named(tmp_path, part, seen, named):
    run = replace(make_run("sgd", tiny_task.PATH, lr=0.1, epochs=2), source="")
    with pytest.raises(ExitError, match=rf"^task tiny: its {named} called sys.exit\(0\)$"):
        measure(run, ending(part, seen), checkpoint=tmp_path / "x.checkpoint")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("model", "its model"),
        ("forward", "the network on the train data"),
        ("loss", "the loss on the train data"),
        ("metric", "the metric m"),
        ("data", "the train data"),
    ],
)
def test_each_part_is_named_when_the_task_is_checked(part, named):
    with pytest.raises(ValueError, match=rf"^task tiny: {named} called sys.exit\(0\)$"):
        ending(part, 1).check()


def test_modules_that_end_the_program_are_named_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, line in (("quitting", "import sys; sys.exit(0)"), ("gone", "import os; os._exit(0)"), ("bad", "1 / 0")):
        (tmp_path / f"{name}.py").write_text(line, encoding="utf-8")
    for module, said in (
        ("quitting", "it called sys.exit(0)"),
        ("gone", "it called os._exit(0)"),
        ("bad", "ZeroDivisionError: division by zero"),
    ):
        assert run_command(["train", f"{module}:Optimizer", "--task", tiny_task.PATH]) == 2
        assert capsys.readouterr().err == f"inna: optimizer {module}:Optimizer: importing {module} failed: {said}\n"
        assert run_command(["train", "--task", f"{module}.py:make"]) == 2
        assert capsys.readouterr().err.endswith(f"{module}.py failed: {said}\n")
        assert run_command(["train", "--task", f"{module}.inner:make"]) == 2  # its parent is imported to find it
        assert capsys.readouterr().err.endswith(f"cannot be imported: {said}\n")
    assert not (tmp_path / "runs").exists()


def test_an_exit_that_no_guard_saw_is_no_success(capsys, monkeypatch):
    monkeypatch.setattr("inna.experiments.training.hardware.report", lambda: sys.exit(0))
    assert run_command(["info"]) == 1
    assert capsys.readouterr().err == "inna: some code called sys.exit(0)\n"


def test_what_passes_a_guard(monkeypatch):
    before = os._exit
    with pytest.raises(ArithmeticError), ExitGuard():
        raise ArithmeticError
    with pytest.raises(Interrupt), ExitGuard():
        raise Interrupt(signal.SIGTERM)
    # Python's own handler raises the same exception as code that imitates Ctrl-C.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ExitGuard():
            signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, raising_interrupts(lambda signum, frame: None))
        with pytest.raises(ExitError, match="the loss raised KeyboardInterrupt"), ExitGuard("the loss"):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, previous)
    assert os._exit is before


# JAX warns of forks once it is imported, as other tests of the process may do.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it may have threads
def test_children_and_other_threads_end_as_they_wish():
    with ExitGuard():
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with ExitGuard("inner"), pytest.raises(SystemExit):
            os._exit(1)
        raised = []

        def end():
            try:
                os._exit(1)
            except BaseException as error:
                raised.append(error)

        # In another thread a guard of its own decides.
        def guarded():
            with ExitGuard():
                end()

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join()
        assert [type(error).__mro__[1] for error in raised] == [SystemExit]
