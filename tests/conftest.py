"""Settings for the whole suite: examples are the same in every run, and no test has a deadline. One browser for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from process_group import ProcessGroup

pytest.register_assert_rewrite("browsing")  # its checks then show what they compared, as those of a test do
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from browsing import launched

    with launched() as running:
        yield running


@pytest.fixture(scope="session")
def two():
    """Two processes with a gloo process group."""
    group = ProcessGroup(2)
    yield group
    group.close()


@pytest.fixture(scope="session")
def four():
    """Four of them."""
    group = ProcessGroup(4)
    yield group
    group.close()
