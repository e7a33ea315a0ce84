"""A row as JSON: ``run``, which decides everything, and ``result``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inna.checks import check_text
from inna.experiments.rows.check_result import check_result
from inna.experiments.rows.history import History, by_column
from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run, as_json, encode

__all__ = ["row_document", "row_from_document", "row_from_json", "row_to_json"]


def row_document(run: Run, result: Result) -> dict[str, Any]:
    """Return a row as plain JSON.

    Numbers that are not finite become {"float": "nan"}.
    """
    return {"run": as_json(run), "result": encode(result)}


def row_from_document(document: Mapping[str, Any]) -> tuple[Run, Result]:
    """Return the row that `row_document` made a document of.

    Raises:
        ValueError: it is none, or was written by another version of inna.
    """
    try:
        return _row(_decode(document))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def row_to_json(run: Run, result: Result) -> bytes:
    """Return a row as JSON on one line.

    Its document, but the history by column, which takes half the space.
    """
    document = row_document(run, result)
    history = by_column(result.get("history"))
    if isinstance(history, History):
        document["result"]["history"] = encode(history.columns)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def row_from_json(text: bytes) -> tuple[Run, Result]:
    """Return the row that `row_to_json` wrote.

    Raises:
        ValueError: it is none, or was written by another version of inna.
    """
    # Few rows contain numbers that are not finite; the hook costs time in all.
    return _row(json.loads(text, object_hook=_number_or_object if b'"float"' in text else None))


def _row(document: Mapping[str, Any]) -> tuple[Run, Result]:
    try:
        run, result = Run(**document["run"]), document["result"]
        if "history" in result:
            history = result["history"]
            result["history"] = History(history) if isinstance(history, dict) else by_column(history)
        check_result(result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"written by another version of inna ({error})") from None
    return run, result


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return _number_or_object({name: _decode(item) for name, item in value.items()})
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _number_or_object(value: dict[str, Any]) -> Any:
    if value.keys() != {"float"}:
        return value
    return float(check_text("float", value["float"]))
