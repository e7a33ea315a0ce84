"""The defaults in a signature beside those of `inna.dynamics`."""

from __future__ import annotations

import inspect
from typing import Any

from inna.dynamics import Hyperparameters, PropHyperparameters


def assert_defaults(front_end: Any, expected: Hyperparameters | PropHyperparameters) -> None:
    """Assert that ``front_end`` has the ``expected`` defaults, and no weight decay unless they say so."""
    parameters = inspect.signature(front_end).parameters
    names = {"learning_rate": "lr", "epsilon": "eps"}
    found = {names.get(name, name): parameter.default for name, parameter in parameters.items()}
    assert {name: found[name] for name in expected._fields} == expected._asdict()
    if "weight_decay" not in expected._fields:
        assert not found["weight_decay"]
