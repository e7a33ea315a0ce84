"""Check that a result read from a file has the types that others rely on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from inna.checks import LARGEST, check_text, check_whole
from inna.experiments.rows.history import History

__all__ = ["check_result"]

# What counts the entries of a history: epochs, or iterations where there are none, as in a language model's training.
INDICES = ("epoch", "step")
DEEPEST = 8  # levels of lists and objects within a member that is not known here


def check_result(result: Any) -> None:
    """Check the types of the members of ``result``.

    Members may be missing, and unknown ones are any shallow JSON.

    Args:
        result: as `inna.experiments.training.train.train` describes it, its history a `History` where its entries have
            the same names.

    Raises:
        ValueError: a member is of the wrong type, or too large; the message names it.
    """
    if not isinstance(result, dict):
        raise ValueError(f"the result must be an object, got {type(result).__name__}")
    for name, value in result.items():
        check = _MEMBERS.get(name)
        if check is None:
            check = _number if name.startswith(("train_", "test_")) else _shallow
        check(name, value)


def _number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, int) and _huge(value)):
        raise ValueError(f"{name} must be a number")


def _number_or_none(name: str, value: Any) -> None:
    if value is not None:
        _number(name, value)


def _huge(value: int) -> bool:
    return not -LARGEST <= value <= LARGEST


def _count(name: str, value: Any) -> None:
    check_whole(name, value, minimum=0)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")


def _facts(name: str, value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(fact, (str, int, float)) for fact in value.values()):
        raise ValueError(f"{name} must be an object of texts and numbers")


def _history(name: str, value: Any) -> None:
    if isinstance(value, History):
        columns = value.columns_as_stored
        if columns:
            _check_index(name, columns)
        for column, values in columns.items():
            for entry in values if isinstance(values, list) else ():  # others are arrays of floats
                (_count if column in INDICES else _number)(column, entry)
            if column in INDICES and not isinstance(values, list):
                raise ValueError(f"{column} must be a whole number")
        return
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    for entry in value:
        _check_index(name, entry if isinstance(entry, Mapping) else ())
        for column, number in entry.items():
            (_count if column in INDICES else _number)(column, number)


def _check_index(name: str, columns: Collection[str]) -> None:
    if not any(index in columns for index in INDICES):
        raise ValueError(f"{name} must have {' or '.join(INDICES)} in each entry")


def _divergence(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")
    for key, fact in value.items():
        check = _DIVERGENCE.get(key)
        if check is not None and fact is not None:
            check(f"{name}.{key}", fact)


def _shallow(name: str, value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        nested = [part for part in level if isinstance(part, (dict, list))]
        if not nested:
            return
        level = [item for part in nested for item in (part.values() if isinstance(part, dict) else part)]
    raise ValueError(f"{name} must be nested less than {DEEPEST} levels deep")


_Check = Callable[[str, Any], object]
_DIVERGENCE: dict[str, _Check] = {
    "iteration": _count,
    "epoch": _count,
    "parameter": check_text,
    "lr": _number,
    "last_finite_loss": _number,
    "reason": check_text,
}
_MEMBERS: dict[str, _Check] = {
    "status": check_text,
    "seconds_per_epoch": _number,
    "seconds": _number,
    "history": _history,
    "state_bytes_per_parameter": _number,
    "parameters": _count,
    "iterations": _count,
    "constant_loss": _number_or_none,
    "threads": _count,
    "cuda_graph": _flag,
    "versions": _facts,
    "hardware": _facts,
    "finished": check_text,
    "divergence": _divergence,
}
