"""Settings for the whole suite: examples are the same in every run, and no test has a deadline. One browser for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("browsing")  # its checks then show what they compared, as those of a test do
# That data are made slowly says something of the machine, not of the test.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from browsing import launched

    with launched() as running:
        yield running
