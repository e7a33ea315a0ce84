"""The short version of `make faults`: a few kills, a full disk, and damaged files, none of which may lose anything."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from faults.account import Account
from faults.corruption import damage, damage_files
from faults.full_disk import fill_the_disk
from faults.kills import Command, kill_often, sweep_in_one_process, training


@pytest.mark.parametrize("command", [training, pytest.param(sweep_in_one_process, marks=pytest.mark.slow)])
def test_kills_lose_nothing(command: Callable[[], Command]) -> None:
    account = kill_often(command(), kills=4, seed=1, attempts=1)
    assert account.losses == []
    assert account.trials == 4
    assert sum(account.extra["moments"]) == 4
    assert account.outcomes["write: a write was cut off"] == 2


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
