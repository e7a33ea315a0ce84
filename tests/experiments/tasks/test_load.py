"""Tasks: the built-in one, one's own, and the ones that cannot be used."""

from __future__ import annotations

import inspect
import os
import py_compile
import random
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny_task
from inna.experiments import Run, Task, train
from inna.experiments.sweep.workers import decode_task, encode_task
from inna.experiments.tasks import load
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.fingerprint import SCHEME, fingerprint
from inna.experiments.tasks.load import BUILTIN_TASKS, load_task
from inna.experiments.tasks.local_files import file_states
from inna.experiments.tasks.seeds import isolated

HERE = Path(tiny_task.__file__)


class Pair(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)

    def forward(self, inputs):
        return super().forward(inputs), inputs


def test_digits_are_split_once_stratified_and_whole():
    from sklearn.datasets import load_digits

    task, source = load_task("digits")
    assert source == ""
    (images, labels), (test_images, test_labels) = task.train, task.test
    assert len(images) + len(test_images) == 1797
    assert (images.min(), images.max(), images.dtype) == (0.0, 1.0, torch.float32)
    share = torch.bincount(test_labels) / (torch.bincount(labels) + torch.bincount(test_labels))
    assert (share - 0.2).abs().max() < 0.01
    # The two parts together are the bundled images, each once.
    both = torch.cat([images, test_images]).flatten(1).mul(16).round().int().tolist()
    assert sorted(both) == sorted(load_digits().images.reshape(-1, 64).astype(int).tolist())
    assert load_task("digits")[0].train[0].equal(images)


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for name in BUILTIN_TASKS for model in BUILTIN_TASKS[name].models]
)
def test_builtin_tasks_are_tasks_and_fit_together(name, model):
    if not all(state.place for state in file_states(CATALOGUE[name])):
        pytest.skip(f"{name} is not here: set INNA_DATA to a folder that holds it")
    task, _ = load_task(name, model=model)
    assert type(task) is Task
    assert task.model_name == model
    task.check()


def test_a_model_that_a_task_does_not_have_is_refused():
    with pytest.raises(ValueError, match="the networks for digits are small-cnn; got 'lenet5'"):
        load_task("digits", model="lenet5")
    with pytest.raises(ValueError, match=r"has the network .*, not 'lenet5'"):
        load_task("tiny_task.py:make_task", HERE.parent, model="lenet5")


def test_channels_last_changes_the_layout_and_nothing_else():
    x = torch.rand(64, 3, 8, 8)
    y = torch.arange(64) % 10

    def model():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

    results = []
    for channels_last in (False, True):
        task = Task(
            "t", model, (x, y), (x, y), nn.functional.cross_entropy, model_name="m", channels_last=channels_last
        )
        run = Run("t", "m", "sgd", lr=0.1, epochs=3, precision="float64")
        results.append(train(run, task=task)["train_loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-12)


def test_channels_last_needs_images():
    with pytest.raises(ValueError, match=r"channels_last needs inputs of shape \(N, channels, height, width\)"):
        Task(
            "t",
            Pair,
            (torch.rand(4, 3), torch.rand(4)),
            (torch.rand(4, 3), torch.rand(4)),
            nn.MSELoss(),
            channels_last=True,
        )


@pytest.mark.parametrize("function", ["make_task", "make_loader_task", "make_language_task"])
def test_own_tasks_by_file_and_by_module(function):
    by_file, digest = load_task(f"tiny_task.py:{function}", HERE.parent)
    by_module, again = load_task(f"tiny_task:{function}")
    assert digest == again
    assert digest.startswith(SCHEME)
    assert by_file.name == by_module.name
    by_file.check()


def test_another_version_of_a_file_has_another_digest(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(HERE.read_text(encoding="utf-8"))
    name = f"{path}:make_task"
    first, digest = load_task(name)
    path.write_text(HERE.read_text(encoding="utf-8").replace("regression_data(40", "regression_data(44"))
    second, other = load_task(name)
    assert digest != other
    assert (len(first.train[0]), len(second.train[0])) == (40, 44)


def test_data_drawn_by_a_task_are_the_same_in_every_process(tmp_path):
    path = tmp_path / "drawn.py"
    path.write_text(
        "import torch\nfrom torch import nn\nfrom inna.experiments import Task\n"
        "def make():\n    x = torch.randn(4, 1)\n"
        "    return Task('drawn', lambda: nn.Linear(1, 1), (x, x), (x, x), nn.functional.mse_loss)\n"
    )
    torch.manual_seed(1)
    first, _ = load_task(f"{path}:make")
    path.write_text(path.read_text() + "\n")
    torch.manual_seed(2)
    second, _ = load_task(f"{path}:make")
    assert first.train[0].equal(second.train[0])


def test_the_example_in_the_documentation_works(tmp_path):
    lines = inspect.getdoc(Task).splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith("::")) + 2
    code = [line[4:] for line in lines[start : next(i for i in range(start, len(lines)) if lines[i] == "Attributes:")]]
    (tmp_path / "sine.py").write_text("\n".join(code))
    task, _ = load_task("sine.py:make_task", tmp_path)
    task.check()
    assert (task.name, [*task.metrics]) == ("sine", ["worst_error"])
    assert len([line for line in code if line.strip()]) <= 10


def test_fingerprints_tell_tasks_apart():
    task = tiny_task.make_task()
    x, y = task.train
    others = [
        replace(task, train=(x + 1, y)),
        replace(task, loss=nn.functional.l1_loss),
        *(replace(task, loss=lambda o, t, scale=scale: scale * (o - t).abs().mean()) for scale in (1.0, 2.0)),
        replace(task, model=tiny_task.network_with_dropout),
        replace(task, metrics={"error": (lambda o, t: (o - t).abs().mean(), "min")}),
        replace(task, metrics={"error": (lambda o, t: (o - t).abs().sum(), "min")}),
    ]
    prints = [fingerprint(other) for other in (task, *others)]
    assert len(set(prints)) == len(prints)
    assert fingerprint(tiny_task.make_task()) == prints[0]


def test_isolated_gives_every_generator_back():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    def draw_and_fail():
        with isolated(7):
            drawn.append((torch.rand(2).tolist(), np.random.rand(), random.random()))
            raise KeyError

    drawn = []
    for _ in range(2):
        with pytest.raises(KeyError):
            draw_and_fail()
    assert drawn[0] == drawn[1]
    assert states[0].equal(torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nonsense", "dataset must be one of digits"),
        ("nowhere.py:make_task", "no such file"),
        ("no_such_module:make_task", "no module 'no_such_module'"),
        (f"{HERE}:nothing", "has no function 'nothing'; it has .*make_task"),
        (f"{HERE}:make_nothing", "must return an inna.experiments.Task, got builtins.int"),
        (f"{HERE}:make_trouble", r"make_trouble\(\) failed: RuntimeError: no such luck"),
    ],
)
def test_names_that_are_refused(name, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_task(name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder in which modules of one's own are; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        del sys.modules[name]


TASK = """
import torch
from torch import nn
from inna.experiments import Task
from own_helper import SCALE, error
DATA = (torch.ones(4, 3), torch.ones(4, 1))
def loss(o, t):
    return 1 * SCALE * error(o, t)
def make():
    return Task("mine", lambda: nn.Linear(3, 1), DATA, DATA, loss)
"""
HELPER = "SCALE = 1\ndef error(o, t):\n    return (o - t).abs().mean()\n"


def with_stale_cache(path, before, after):
    """Write ``after`` where Python has a cache of ``before`` and cannot notice: as large, and as old."""
    assert len(before) == len(after)
    path.write_text(before)
    os.utime(path, (1e9, 1e9))
    py_compile.compile(str(path))
    path.write_text(after)
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("name", ["own_task.py:make", "own_task:make"])
def test_the_bytes_that_are_hashed_are_the_bytes_that_run(own_folder, name):
    with_stale_cache(own_folder / "own_task.py", TASK, TASK.replace("1 * SCALE", "5 * SCALE"))
    with_stale_cache(own_folder / "own_helper.py", HELPER, HELPER.replace("SCALE = 1", "SCALE = 7"))
    task, _ = load_task(name)
    assert task.loss(torch.ones(2, 1), torch.zeros(2, 1)) == 35
    with pytest.raises(AttributeError) as caught:
        task.loss(1, 1)
    assert "return 1 * SCALE" not in "".join(traceback.format_exception(caught.value))
    assert "return 5 * SCALE" in "".join(traceback.format_exception(caught.value))


def test_tasks_are_pickled_with_the_modules_that_they_use_as_these_are_here(own_folder):
    (own_folder / "own_task.py").write_text(TASK)
    (own_folder / "own_helper.py").write_text(HELPER)
    task, _ = load_task("own_task.py:make")
    parcel = encode_task(task)
    (own_folder / "own_helper.py").write_text(HELPER.replace("SCALE = 1", "SCALE = 7"))
    for module in ("own_helper", next(name for name in sys.modules if name.startswith("inna_task_"))):
        sys.modules.pop(module)
    assert decode_task(*parcel).loss(torch.ones(2, 1), torch.zeros(2, 1)) == 1


def test_a_module_that_changed_since_it_was_imported_is_named(own_folder):
    (own_folder / "own_task.py").write_text(TASK)
    (own_folder / "own_helper.py").write_text(HELPER)
    load_task("own_task.py:make")
    (own_folder / "own_helper.py").write_text(HELPER.replace("SCALE = 1", "SCALE = 7"))
    with pytest.raises(
        ValueError, match=r"own_helper\.py has changed since this process imported it; start Python again"
    ):
        load_task("own_task.py:make")


def test_data_that_a_task_reads_are_part_of_it(own_folder):
    (own_folder / "own_helper.py").write_text(HELPER)
    code = TASK.replace(
        "torch.ones(4, 3)", "torch.full((4, 3), float(__import__('pathlib').Path('number.txt').read_text()))"
    )
    sources = []
    for number in (1, 2):
        (own_folder / "number.txt").write_text(str(number))
        (own_folder / "own_task.py").write_text(code)
        load._own.cache_clear()
        sources.append(load_task("own_task.py:make")[1])
    assert sources[0] != sources[1]


def test_a_file_that_cannot_be_imported_says_why(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named 'nothing_of_this_name'"):
        load_task(f"{path}:make")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": ""}, TypeError, "name must be"),
        ({"model": nn.Linear(3, 1)}, TypeError, "got a network"),
        ({"model": 3}, TypeError, "model must be callable"),
        ({"loss": None}, TypeError, "loss must be callable"),
        ({"train": torch.ones(3)}, TypeError, "pair .* or a DataLoader"),
        ({"test": (torch.ones(3, 3), torch.ones(2))}, ValueError, "one length > 0, got 3 and 2"),
        ({"train": (torch.ones(0, 3), torch.ones(0))}, ValueError, "one length > 0"),
        ({"metrics": {"loss": (tiny_task.worst_error, "min")}}, ValueError, "other than 'loss'"),
        ({"metrics": {"error": tiny_task.worst_error}}, TypeError, "must be .function, 'max' or 'min'."),
        ({"metrics": {"error": (tiny_task.worst_error, "up")}}, ValueError, "'max' or 'min', got 'up'"),
    ],
)
def test_tasks_that_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        replace(tiny_task.make_task(), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": lambda: nn.Linear(5, 1)}, "the network on the train data: RuntimeError"),
        ({"model": lambda: 3}, "must return a torch.nn.Module, got builtins.int"),
        ({"loss": lambda o, t: (o - t) ** 2}, "the loss on the train data: TypeError: it must return a tensor of one"),
        ({"model": Pair, "loss": lambda o, t: (o[0] - t).abs().mean()}, "metrics need a network that returns a tensor"),
        ({"metrics": {"error": (lambda o, t: o, "min")}}, "the metric error: (Runtime|Value)Error"),
    ],
)
def test_parts_that_do_not_fit_are_found_before_training(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(tiny_task.make_task(), **changes).check()
