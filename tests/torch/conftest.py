"""Process groups that start once for all tests of the PyTorch optimizers."""

from __future__ import annotations

import pytest

from process_group import ProcessGroup


@pytest.fixture(scope="session")
def two():
    """Two processes with a gloo process group."""
    group = ProcessGroup(2)
    yield group
    group.close()


@pytest.fixture(scope="session")
def four():
    """Four processes with a gloo process group."""
    group = ProcessGroup(4)
    yield group
    group.close()
