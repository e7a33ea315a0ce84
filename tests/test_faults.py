"""The short version of `make faults`: a few trials of each kind of fault, none of which may lose anything."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest

from faults.account import Account
from faults.clock import set_back_often, unavailable
from faults.cluster import Target, kill_in_clusters
from faults.commands import Command, short_sweep, sweep_in_one_process, training
from faults.corruption import damage, damage_files
from faults.full_disk import fill_the_disk
from faults.kills import kill_often
from faults.races import delete_often, start_twice_often

short_training = functools.partial(training, epochs=6)


@pytest.mark.parametrize(
    "command", [pytest.param(short_training, id="training"), pytest.param(sweep_in_one_process, marks=pytest.mark.slow)]
)
def test_kills_lose_nothing(command: Callable[[], Command]) -> None:
    account = kill_often(command(), kills=2, seed=1, attempts=1)
    assert account.losses == []
    assert account.trials == 2
    assert sum(account.extra["moments"]) == 2
    assert account.outcomes["write: a write was cut off"] == 1


def test_sigterm_ends_a_command_in_one_line_and_loses_nothing() -> None:
    account = kill_often(short_training(("terminate",)), kills=2, seed=1, attempts=1)
    assert account.losses == []
    assert account.trials == 2


@pytest.mark.slow
def test_sigterm_and_killed_workers_lose_nothing_of_a_sweep() -> None:
    for kinds in (("terminate", "terminate all"), ("worker",)):
        assert kill_often(short_sweep(2, kinds), kills=4, seed=1, attempts=1).losses == []


def test_two_sweeps_at_once_do_not_meet() -> None:
    account = start_twice_often(1)
    assert account.losses == []
    assert account.trials == 1


@pytest.mark.slow
def test_a_deleted_folder_is_named() -> None:
    account = delete_often(2, seed=1)
    assert account.losses == []
    assert account.trials == 2


@pytest.mark.slow
@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "no reason")
def test_a_clock_that_jumps_back_changes_no_row() -> None:
    assert set_back_often(2, seed=1).losses == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["worker", "scheduler"])
def test_a_cluster_that_dies_loses_nothing(target: Target) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    assert kill_in_clusters(target, 2, seed=1).losses == []


def test_a_full_disk_loses_nothing() -> None:
    account = fill_the_disk("limit", short=True)
    assert account.losses == []
    assert account.outcomes == {"refused in one line": 2}


def test_damaged_files_are_noticed() -> None:
    account = damage_files(100, seed=1)
    assert account.losses == []
    assert account.trials == 100
    assert account.outcomes["noticed"] > 80


def test_damage_is_damage() -> None:
    random_numbers, content = random.Random(0), b"0123456789" * 5
    kinds = set()
    for _ in range(100):
        kind, changed = damage(content, random_numbers)
        assert changed != content
        kinds.add(kind)
    assert len(kinds) == 5


def test_an_account_is_plain_json() -> None:
    account = Account("fault", "nothing")
    account.outcomes["noticed"] += 2
    assert account.row()["outcomes"] == {"noticed": 2}
    assert account.row()["trials"] == 2
