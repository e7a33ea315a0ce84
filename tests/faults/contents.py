"""What a command leaves in its folder, and what two commands leave differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from inna.experiments.rows.row_files import DamagedRowError, read_row
from inna.experiments.training.checkpoint import DamagedCheckpointError, load_checkpoint
from inna.experiments.training.train import checkpoint_path
from timeless import without_times

__all__ = ["contents", "differences", "lost"]


def contents(folder: Path) -> dict[str, Any]:
    """File name -> what it holds, timings aside, None where it is damaged; pages are left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("**/*")) if folder.exists() else ():
        if path.is_dir() or path.suffix == ".html" or path.parent.name == ".running":
            continue
        if path.name.endswith(".row.json"):
            found[path.name] = _row(path)
        elif path.suffix == ".checkpoint":
            found[path.name] = _checkpoint(path)
        else:
            found[path.name] = "present"
    return found


def _row(path: Path) -> Any:
    try:
        run, result = read_row(path)
    except DamagedRowError:
        return None
    return run, json.dumps(without_times(result))  # as text, in which NaN equals NaN


def _checkpoint(path: Path) -> Any:
    try:
        state = load_checkpoint(path)
    except DamagedCheckpointError:
        return None
    return json.dumps(without_times(state), default=_bits, sort_keys=True)


def _bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [
            str(value.dtype),
            list(value.shape),
            value.contiguous().flatten().view(torch.uint8).numpy().tobytes().hex(),
        ]
    raise TypeError(type(value).__name__)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each file that is missing, damaged, different, or should not be there."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} was left behind" for name in found.keys() - expected.keys()]
    lines += [
        f"{name} is damaged" if found[name] is None else f"{name} differs"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    return sorted(lines)


def lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Rows and checkpoints that were whole before a kill and are gone or damaged after it.

    A checkpoint goes when the row of its run has been written.
    """
    rows = [content for name, content in after.items() if name.endswith(".row.json") and content is not None]
    finished = {checkpoint_path(Path(), run).name for run, _ in rows}
    return [
        name
        for name, content in before.items()
        if content is not None
        and after.get(name) is None
        and (name.endswith(".row.json") or (name.endswith(".checkpoint") and name not in finished))
    ]
