"""Checkpoints come back bit for bit, on any number of processes, or say what is wrong with them."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import sharded_checkpoints as ranks
from inna.torch import INNA, INNAprop
from inna.torch.checkpoints import Checkpoints, DamagedCheckpointError
from sharded_checkpoints import content, make, same_bits, train

FEW = ("INNA", "INNA without a step count", "INNAprop bfloat16")
every_case = pytest.mark.parametrize(
    "cases", [FEW, pytest.param(tuple(ranks.CASES), marks=pytest.mark.slow)], ids=["few", "all"]
)


@every_case
def test_from_two_processes_to_one_and_on_with_two(two, tmp_path, cases):
    two.run(ranks.save_cases, tmp_path, cases)
    ranks.load_cases(tmp_path, cases)
    two.run(ranks.load_cases, tmp_path, cases, go_on=True)


@every_case
def test_from_one_process_to_four_and_from_four_to_two(two, four, tmp_path, cases):
    ranks.save_cases(tmp_path / "one", cases)
    ranks.load_cases(tmp_path / "one", cases, go_on=True)
    four.run(ranks.load_cases, tmp_path / "one", cases)
    four.run(ranks.save_cases, tmp_path / "four", cases, in_background=True)
    two.run(ranks.load_cases, tmp_path / "four", cases)


@every_case
def test_what_is_saved_in_the_background_is_the_state_of_that_moment(two, tmp_path, cases):
    ranks.save_cases(tmp_path / "one", cases, in_background=True)
    ranks.load_cases(tmp_path / "one", cases)
    two.run(ranks.save_cases, tmp_path / "two", cases, in_background=True)
    two.run(ranks.load_cases, tmp_path / "two", cases, go_on=True)


@pytest.mark.parametrize("in_background", [False, True])
def test_torchs_own_checkpoints(two, four, tmp_path, in_background):
    for case in ("INNA", "INNAprop bfloat16"):
        folder = tmp_path / case
        folder.mkdir()
        two.run(ranks.save_plainly, folder, case, in_background=in_background)
        four.run(ranks.load_plainly, folder, case)


@every_case
def test_state_before_the_first_step_changes_nothing(two, tmp_path, cases):
    ranks.state_before_the_first_step(tmp_path / "one", cases)
    two.run(ranks.state_before_the_first_step, tmp_path / "two", cases)


def test_a_damaged_shard_is_refused_by_all(two, tmp_path):
    two.run(ranks.damaged_shard, tmp_path)


def test_a_full_disk_leaves_the_one_before(two, tmp_path):
    two.run(ranks.unwritable, tmp_path)


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints, and what the first one holds."""
    model, optimizer = make("INNAprop")
    checkpoints = Checkpoints(tmp_path / "run")
    train(model, optimizer, range(1))
    expected = content(model, optimizer)
    checkpoints.save(1, model, optimizer, {"tokens": 8})
    train(model, optimizer, range(1, 2))
    newest = checkpoints.save(2, model, optimizer, {"tokens": 16})
    return newest, expected


def damages(content, generator):
    """Cut short and altered, at the ends and in between."""
    places = {0, len(content) - 1, *(generator.randrange(len(content)) for _ in range(6))}
    for place in sorted(places):
        yield content[:place]
        yield content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]
    yield content + b"\0"


def test_damage_is_refused_and_the_one_before_is_loaded(saved):
    newest, expected = saved
    generator = random.Random(0)
    model, optimizer = make("INNAprop", seed=1)
    checkpoints = Checkpoints(newest.parent)
    for file in sorted(newest.iterdir()):
        intact = file.read_bytes()
        for damaged in [*damages(intact, generator), None]:
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            if file.name == "manifest.json" and damaged and json.loads(intact) == as_json(damaged):
                continue  # white space around the same JSON
            with pytest.raises(DamagedCheckpointError, match=file.name):
                checkpoints.load(model, optimizer, step=2)
            with pytest.warns(UserWarning, match=rf"{file.name}.*loading the checkpoint of step 1 instead"):
                assert checkpoints.load(model, optimizer) == (1, {"tokens": 8})
        same_bits(content(model, optimizer), expected)
        file.write_bytes(intact)
    assert checkpoints.load(model, optimizer) == (2, {"tokens": 16})


def as_json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_where_all_are_damaged_nothing_is_loaded(saved):
    newest, _ = saved
    for path in newest.parent.iterdir():
        (path / ".metadata").write_bytes(b"")
    model, optimizer = make("INNAprop", seed=1)
    before = content(model, optimizer)
    with pytest.raises(DamagedCheckpointError, match=r"step-0000000002.*0 bytes.*step-0000000001.*0 bytes"):
        Checkpoints(newest.parent).load(model, optimizer)
    same_bits(content(model, optimizer), before)


def test_a_writer_that_is_killed_leaves_the_ones_before(saved):
    newest, expected = saved
    shutil.rmtree(newest)
    code = (
        "import os, signal, sys; import inna.torch.checkpoints as module; from sharded_checkpoints import make\n"
        "module.write_document = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "model, optimizer = make('INNAprop'); run = module.Checkpoints(sys.argv[1])\n"
        "run.load(model, optimizer); run.save(2, model, optimizer)"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", code, newest.parent], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in newest.parent.iterdir()} == {"step-0000000001", ".step-0000000002.partial"}
    model, optimizer = make("INNAprop", seed=1)
    checkpoints = Checkpoints(newest.parent)
    assert checkpoints.load(model, optimizer).step == 1
    same_bits(content(model, optimizer), expected)
    checkpoints.save(2, model, optimizer)
    assert {path.name for path in newest.parent.iterdir()} == {"step-0000000001", "step-0000000002"}


def test_the_newest_are_kept_and_a_course_that_was_left_is_removed(tmp_path):
    model, optimizer = make("INNA")
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30, 30, 40):
        checkpoints.save(step, model, optimizer)
    assert checkpoints.steps() == [30, 40]
    with pytest.raises(FileExistsError, match="checkpoints of later steps than 5: load one, or choose another folder"):
        Checkpoints(tmp_path).save(5, model, optimizer)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 20; there are \[30, 40\]"):
        checkpoints.load(model, optimizer, step=20)
    checkpoints.load(model, optimizer, step=30)
    checkpoints.save(35, model, optimizer)
    assert checkpoints.steps() == [30, 35]


def other_shape():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    return model, INNA(model.parameters())


def other_names():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    return model, INNA(model.parameters())


def other_dtype():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2)).double()
    return model, INNA(model.parameters())


def other_momentum():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    return model, INNA(model.parameters(), momentum_dtype=torch.float64)


def other_optimizer():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    return model, INNAprop(model.parameters())


def with_compensation():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    return model, INNA(model.parameters(), kahan=True)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (other_shape, r"model.0.weight has shape \(2, 2\) in the checkpoint and \(2, 3\) here"),
        (other_names, "the checkpoint has no model.a.weight"),
        (other_dtype, "model.0.weight is torch.float32 in the checkpoint and torch.float64 here"),
        (other_momentum, "momentum is torch.float32 in the checkpoint and torch.float64 here"),
        (other_optimizer, "the checkpoint has no optimizer.state.0.weight.step"),
        (with_compensation, "the checkpoint has no optimizer.state.0.weight.compensation"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(tmp_path, other, message):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    optimizer = INNA(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    Checkpoints(tmp_path).save(1, model, optimizer)
    wrong, its_optimizer = other()
    for param in wrong.parameters():
        param.grad = torch.ones_like(param)
    its_optimizer.step()
    before = content(wrong, its_optimizer)
    with pytest.raises(ValueError, match=f"does not fit: ValueError: .*{message}"):
        Checkpoints(tmp_path).load(wrong, its_optimizer)
    same_bits(content(wrong, its_optimizer), before, stepped=("0", "a"))


def test_a_checkpoint_with_more_than_there_is_room_for_is_refused(tmp_path):
    model, optimizer = with_compensation()
    Checkpoints(tmp_path).save(1, model, optimizer)
    with pytest.raises(ValueError, match=r"the checkpoint has optimizer.state.0.*compensation, for which there is no"):
        Checkpoints(tmp_path).load(model, INNA(model.parameters()))


@pytest.mark.parametrize(
    ("step", "progress", "message"),
    [
        (-1, {}, "step must be a whole number >= 0, got -1"),
        (1.0, {}, "step must be a whole number >= 0, got 1.0"),
        (1, {"loss": float("nan")}, "progress must be plain JSON, without NaN"),
        (1, {"tensor": torch.ones(1)}, "progress must be plain JSON"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, step, progress, message):
    model, optimizer = make("INNA")
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path).save(step, model, optimizer, progress)
    with pytest.raises(ValueError, match="keep must be a whole number >= 1, got 0"):
        Checkpoints(tmp_path, keep=0)
    assert list(tmp_path.iterdir()) == []


def test_other_optimizers_and_several_of_them(tmp_path):
    def pair(seed):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        return model, [torch.optim.AdamW(model[0].parameters()), INNA(model[1].parameters())]

    model, optimizers = pair(0)
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    Checkpoints(tmp_path).save(2, model, optimizers)
    other, theirs = pair(1)
    Checkpoints(tmp_path).load(other, theirs)
    for ours, loaded in zip(optimizers, theirs, strict=True):
        same_bits(content(other, loaded), content(model, ours))
