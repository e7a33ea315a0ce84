"""The Triton kernels under the interpreter, where a test's path is theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from triton_kernels import interpret


@pytest.fixture(autouse=True)
def interpreted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Triton kernels in tests with this name."""
    if "Triton" not in request.node.name:
        yield
        return
    interpret(monkeypatch)
    with np.errstate(invalid="ignore", over="ignore"):  # a GPU does not warn either
        yield
