"""examples/gpt.py: resumed runs are undisturbed ones, on two processes as on one; its rows are what its page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("cyclopts", reason="the example needs the extra 'experiments'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import small_gpt

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "large-models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("optimizer", ["innaprop", pytest.param("adamw", marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_gone_on_with_is_the_undisturbed_one(two, tmp_path, optimizer):
    straight, _ = two.run(small_gpt.run, tmp_path / "straight", optimizer)
    stopped, _ = two.run(small_gpt.run, tmp_path / "stopped", optimizer, stops=(1, 4))
    assert [step for step, *_ in straight] == [2, 4, 6, 8]
    assert stopped == straight
    for ours, theirs in zip(straight, small_gpt.run(tmp_path / "alone", optimizer), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_what_one_process_has_begun_two_go_on_with(two, tmp_path):
    gpt = small_gpt.module()
    row = gpt.describe("innaprop", 0.01, 8, 1, "float32")
    gpt.train_run(row, tmp_path, every=3, stop_after=5)
    resumed, _ = two.run(small_gpt.run, tmp_path, "innaprop")
    for ours, theirs in zip(resumed, small_gpt.run(tmp_path / "alone", "innaprop"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


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
    commands = block.split("\n")[1:-1]
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
    assert "stopped after step 20" in outputs[0]
    assert "going on from step 20" in outputs[1]
    assert "step 40: loss" in outputs[1]
    assert "step 20: loss" in outputs[2]
