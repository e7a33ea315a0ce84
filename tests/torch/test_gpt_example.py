"""examples/gpt.py: resumed runs equal undisturbed ones, whole checkpoints survive, and its page shows its rows."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("cyclopts", reason="the example needs the extra 'experiments'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import small_gpt
from sharded_checkpoints import same_bits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "large-models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("optimizer", ["innaprop", pytest.param("adamw", marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_resumed_is_the_undisturbed_one(two, tmp_path, optimizer):
    straight, _ = two.run(small_gpt.run, tmp_path / "straight", optimizer)
    stopped, _ = two.run(small_gpt.run, tmp_path / "stopped", optimizer, stops=(1, 4))
    assert [step for step, *_ in straight] == [2, 4, 6, 8]
    assert stopped == straight
    for ours, theirs in zip(straight, small_gpt.run(tmp_path / "alone", optimizer), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_run_of_one_process_is_resumed_by_two(two, tmp_path):
    gpt = small_gpt.module()
    row = gpt.describe("innaprop", 0.01, 8, 1, "float32")
    gpt.train_run(row, tmp_path, every=3, stop_after=5)
    resumed, _ = two.run(small_gpt.run, tmp_path, "innaprop")
    for ours, theirs in zip(resumed, small_gpt.run(tmp_path / "alone", "innaprop"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_run_of_two_processes_is_resumed_by_one(two, tmp_path):
    gpt = small_gpt.module()
    straight, _ = two.run(small_gpt.run, tmp_path / "straight", "innaprop")
    two.run(small_gpt.stop, tmp_path / "moved", "innaprop", 5)
    row = gpt.describe("innaprop", 0.01, 8, 1, "float32")
    gpt.train_run(row, tmp_path / "moved", every=3)
    resumed = small_gpt.losses(tmp_path / "moved", row)
    for ours, theirs in zip(resumed, straight, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints of one process, and what they hold."""
    return tmp_path, small_gpt.train_and_save(tmp_path, (1, 2))


def damages(content, generator):
    """Cut short and altered, at the ends and in between."""
    places = {0, len(content) - 1, *(generator.randrange(len(content)) for _ in range(6))}
    for place in sorted(places):
        yield content[:place]
        yield content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]
    yield content + b"\0"


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_loaded(saved, capsys):
    folder, (expected, newest) = saved
    generator = random.Random(0)
    for file in sorted((folder / "step-00000002").iterdir()):
        intact = file.read_bytes()
        for damaged in [*damages(intact, generator), None]:
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            if file.name == "progress.json" and damaged and json.loads(intact) == as_json(damaged):
                continue  # white space around the same JSON
            progress, found = small_gpt.load(folder)
            assert progress == {"step": 1, "history": [{"train_loss": 0.1}]}
            same_bits(found, expected)
            (line,) = capsys.readouterr().out.splitlines()
            assert str(file) in line
            assert line.endswith("; loading step-00000001 instead")
        file.write_bytes(intact)
    progress, found = small_gpt.load(folder)
    assert progress["step"] == 2
    same_bits(found, newest)


def as_json(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_nothing_is_unpickled_before_its_checksum_is_verified(saved, monkeypatch):
    folder, _ = saved
    for path in folder.iterdir():
        (path / ".metadata").write_bytes(b"cos\nabort\n(tR.")
    monkeypatch.setattr(torch.distributed.checkpoint, "load", None)
    with pytest.raises(ValueError, match=r"step-00000002.\.metadata is damaged; .*step-00000001.\.metadata is damaged"):
        small_gpt.load(folder)


def test_where_all_checkpoints_are_damaged_the_command_ends_with_one_line(tmp_path):
    gpt = small_gpt.module()
    row = gpt.describe("innaprop", 0.01, 8, 1, "float32")
    gpt.train_run(row, tmp_path, every=3, stop_after=5)
    for path in tmp_path.rglob("*.distcp"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"step-00000005.*damaged; .*step-00000003.*; remove .* to start from step 0"):
        gpt.train_run(row, tmp_path, every=3)


def test_a_writer_that_is_killed_leaves_the_checkpoints_before(saved):
    folder, (_, newest) = saved
    code = (
        "import os, signal, sys, small_gpt; gpt = small_gpt.module()\n"
        "gpt.write_document = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "small_gpt.train_and_save(sys.argv[1], (3,))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert small_gpt.names(folder) == ["partial", "step-00000001", "step-00000002"]
    progress, found = small_gpt.load(folder)
    assert progress["step"] == 2
    same_bits(found, newest)
    small_gpt.train_and_save(folder, (3,))
    assert small_gpt.names(folder) == ["step-00000002", "step-00000003"]


def test_a_damaged_shard_is_noticed_by_all_processes(two, tmp_path):
    two.run(small_gpt.damaged_shard, tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(two, tmp_path):
    two.run(small_gpt.full_disk, tmp_path / "shard")
    two.run(small_gpt.unpublished, tmp_path / "progress")


def test_the_newest_checkpoints_are_kept_and_damaged_ones_replaced(saved):
    folder, _ = saved
    gpt = small_gpt.module()
    small_gpt.train_and_save(folder, (3, 4))
    assert small_gpt.names(folder) == ["step-00000003", "step-00000004"]
    (folder / "step-00000004" / ".metadata").unlink()
    model, optimizer = small_gpt.make()
    assert gpt.load_checkpoint(folder, model, optimizer)["step"] == 3
    gpt.save_checkpoint(folder, model, optimizer, {"step": 4})
    assert small_gpt.names(folder) == ["step-00000003", "step-00000004"]
    assert gpt.load_checkpoint(folder, model, optimizer)["step"] == 4


def test_a_checkpoint_of_another_model_is_one_line(saved, monkeypatch):
    folder, _ = saved
    monkeypatch.setattr(small_gpt.module(), "WIDTH", 12)
    with pytest.raises(ValueError, match=r"step-00000002 does not fit this model: rank 0: ValueError: Size mismatch"):
        small_gpt.load(folder)


def test_offloading_and_bfloat16(two, tmp_path):
    plain, _ = two.run(small_gpt.run, tmp_path / "plain", "innaprop")
    offloaded, _ = two.run(small_gpt.run, tmp_path / "offloaded", "innaprop", offload=True)
    half, _ = two.run(small_gpt.run, tmp_path / "half", "innaprop", precision="bfloat16")
    assert offloaded == plain
    assert half != plain
    for ours, theirs in zip(half, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)


def test_a_comparison_skips_what_is_done(two, tmp_path):
    first, _ = two.run(small_gpt.compare, tmp_path)
    assert len(first) == 2 * (2 + 2)
    again, _ = two.run(small_gpt.compare, tmp_path)
    assert again == first


def test_divergence_is_a_row(two, tmp_path):
    two.run(small_gpt.diverge, tmp_path)


def test_the_page_shows_the_rows(tmp_path, capsys):
    gpt = small_gpt.module()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt, "GRID", (0.001, 0.00316, 0.01, 0.0316))
        gpt.report(folder=ROOT / "results" / "gpt", picture=tmp_path / "loss.png")
    shown = capsys.readouterr().out.partition(f"\n\n{tmp_path}")[0]
    assert shown.strip() == PAGE.partition("<!-- gpt: begin -->")[2].partition("<!-- gpt: end -->")[0].strip()
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_wrong_usage_is_one_line():
    done = subprocess.run(
        [sys.executable, small_gpt.FILE, "train", "--lr", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "gpt.py: lr must be a finite number > 0, got 0.0"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number >= 1, got 0"),
        ({"stop_after": 0}, "stop_after must be a whole number >= 1, got 0"),
        ({"offload": True}, "start with torchrun"),
        ({"precision": "bfloat16"}, "start with torchrun"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        small_gpt.module().train(**arguments, folder=tmp_path)


def examples_of_the_page(folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        names = {}
        for example in re.finditer(r"```python\n(.*?)```", PAGE, re.DOTALL):
            line = PAGE[: example.start(1)].count("\n")
            exec(compile("\n" * line + example[1], "large-models.md", "exec"), names)
    finally:
        os.chdir(before)


def test_the_examples_of_the_page_run_in_their_order(two, tmp_path):
    two.run(examples_of_the_page, tmp_path)


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    block = PAGE.partition("## Try it")[2].partition("```")[2].partition("```")[0]
    commands = block.replace("\\\n", "").split("\n")[1:-1]
    assert len(commands) == 3
    outputs = []
    for command in commands:
        program, *arguments = command.split()
        assert program == "torchrun"
        arguments = [str(small_gpt.FILE) if word == "examples/gpt.py" else word for word in arguments]
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "stopped after step 20; run the same command to resume" in outputs[0]
    assert "resuming from step 20" in outputs[1]
    assert "step 40: loss" in outputs[1]
    assert "step 20: loss" in outputs[2]
