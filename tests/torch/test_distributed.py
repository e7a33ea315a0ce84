"""Training on several real processes equals training on one, however it is distributed, on every path."""

from __future__ import annotations

import pytest
import torch

import sharded_training as ranks
from process_group import ProcessGroup

if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

ALL = tuple(ranks.PATHS)


TASKS = [
    ranks.data_parallel,
    ranks.without_gradients_on_some_ranks,
    ranks.shards_without_gradients_on_some_ranks,
    ranks.fully_sharded,
    ranks.offloaded,
    ranks.ignored_by_fsdp,
    ranks.mixed_precision,
    ranks.half_precision_parameters,
    ranks.tensor_parallel,
    ranks.zero_redundancy,
    ranks.from_the_meta_device,
    ranks.scaled_gradients,
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_two_processes(two, task):
    two.run(task, ALL)


def test_two_processes_clip_as_one_does(two):
    two.run(ranks.fully_sharded, ("default", "single"), None, 0.3)


def test_a_mixture_is_clipped_as_one_process_does(two):
    two.run(ranks.clipped_mixture)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two GPUs")
def test_two_gpus():
    group = ProcessGroup(2, backend="cuda:nccl,cpu:gloo")
    try:
        group.run(ranks.on_gpus)
    finally:
        group.close()


def test_state_with_other_placements_is_refused(two):
    two.run(ranks.misplaced_state)


@pytest.mark.parametrize("shape", [(4,), (2, 2)], ids=["sharded", "replicated and sharded"])
def test_four_processes_some_with_empty_shards(four, shape):
    four.run(ranks.fully_sharded, ("default",), shape)


def test_four_processes_in_two_dimensions(four):
    four.run(ranks.tensor_and_data_parallel, ("default",))


WRAPPINGS = ("DDP", "FSDP2", "mixture", "tensor parallel", "ZeRO")


def test_without_a_learning_rate_two_processes_find_the_distance_of_one(two):
    two.run(ranks.without_a_learning_rate, WRAPPINGS)


def test_without_a_learning_rate_four_processes_find_the_distance_of_one(four):
    four.run(ranks.without_a_learning_rate, ("FSDP2",), (2, 2))


def test_the_guard_of_two_processes_is_that_of_one(two):
    two.run(ranks.guarded, WRAPPINGS)


def test_the_guard_of_four_processes_is_that_of_one(four):
    four.run(ranks.guarded, ("FSDP2",), (2, 2))


def test_shards_of_two_dimensions_count_once(four):
    four.run(ranks.guarded, ("FSDP2 on tensor parallel",))
    four.run(ranks.without_a_learning_rate, ("FSDP2 on tensor parallel",))


def test_the_loss_may_be_a_dtensor(two):
    two.run(ranks.loss_of_dtensors)


def test_ranks_without_gradients_take_part_in_the_sums(two):
    two.run(ranks.sums_with_ranks_without_gradients)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_one_all_reduce_of_a_few_numbers_a_step(two, wrapping):
    two.run(ranks.one_all_reduce, wrapping)


def test_one_all_reduce_of_a_few_numbers_where_shards_are_replicated(four):
    four.run(ranks.one_all_reduce, "FSDP2", (2, 2))


@pytest.mark.slow
def test_the_guard_of_four_processes_is_that_of_one_however_the_model_is_distributed(four):
    four.run(ranks.guarded, WRAPPINGS)


@pytest.mark.slow
def test_without_a_learning_rate_four_processes_find_it_however_the_model_is_distributed(four):
    four.run(ranks.without_a_learning_rate, WRAPPINGS)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_four_processes(four, task):
    four.run(task, ALL)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 1), (8, 16, 4), (5, 33, 9)])
def test_four_processes_with_shards_of_any_size(four, sizes):
    for shape in ((4,), (2, 2)):
        four.run(ranks.fully_sharded, ALL, shape, None, sizes)


@pytest.mark.slow
def test_four_processes_clip_as_one_does(four):
    four.run(ranks.fully_sharded, ALL, None, 0.3)
    four.run(ranks.fully_sharded, ALL, (2, 2), 0.3)


@pytest.mark.slow
def test_four_processes_in_two_dimensions_on_every_path(four):
    four.run(ranks.tensor_and_data_parallel, ALL)
