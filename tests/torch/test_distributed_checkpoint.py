"""INNA's and INNAprop's state goes through torch.distributed.checkpoint bit for bit, on any number of processes."""

from __future__ import annotations

import pytest
import torch

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import sharded_checkpoints as ranks

FEW = (
    "INNA",
    "INNA without a step count",
    "INNA rounded",
    "INNA of one byte",
    "INNAprop bfloat16",
    "INNAprop of one byte",
    "INNAprop without a learning rate",
)
every_case = pytest.mark.parametrize(
    "cases", [FEW, pytest.param(tuple(ranks.CASES), marks=pytest.mark.slow)], ids=["few", "all"]
)


@every_case
def test_from_two_processes_to_one_and_resumed_on_two(two, tmp_path, cases):
    two.run(ranks.save_cases, tmp_path, cases)
    ranks.load_cases(tmp_path, cases)
    two.run(ranks.load_cases, tmp_path, cases, resume=True)


@pytest.mark.slow
@every_case
def test_from_one_process_to_four_and_from_four_to_two(two, four, tmp_path, cases):
    ranks.save_cases(tmp_path / "one", cases)
    ranks.load_cases(tmp_path / "one", cases, resume=True)
    four.run(ranks.load_cases, tmp_path / "one", cases)
    four.run(ranks.save_cases, tmp_path / "four", cases, in_background=True)
    two.run(ranks.load_cases, tmp_path / "four", cases)


@every_case
def test_a_background_save_has_the_state_of_its_start(two, four, tmp_path, cases):
    two.run(ranks.save_cases, tmp_path, cases, in_background=True)
    two.run(ranks.load_cases, tmp_path, cases, resume=True)
    four.run(ranks.load_cases, tmp_path, cases)


@every_case
def test_state_before_the_first_step_changes_nothing(two, tmp_path, cases):
    ranks.state_before_the_first_step(tmp_path / "one", cases)
    two.run(ranks.state_before_the_first_step, tmp_path / "two", cases)


def test_shards_that_cut_blocks_are_refused_on_all_ranks(two):
    two.run(ranks.refuse_cut_blocks)


def test_shards_of_whole_blocks_are_sharded_in_every_dimension(two, four):
    two.run(ranks.sharded_scales)
    four.run(ranks.sharded_scales)
