"""Process groups that start once for all tests of the PyTorch optimizers."""

from __future__ import annotations

import pytest
import torch

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


@pytest.fixture
def mesh():
    """A mesh of this process alone; test_distributed.py trains on several."""
    distributed = torch.distributed
    if not distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.device_mesh.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()
