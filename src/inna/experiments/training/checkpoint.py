"""Checkpoints of runs: checksummed, replaced atomically, loaded without code."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from inna.files import DamagedFileError, read_file, write_whole

__all__ = ["DamagedCheckpointError", "load_checkpoint", "own_attributes", "save_checkpoint"]


class DamagedCheckpointError(DamagedFileError):
    """A checkpoint that is cut short, altered, or not a checkpoint at all."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain values) to ``path`` atomically.

    The first line is the SHA-256 digest of the rest, which ``torch.load`` reads.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the file that was at ``path`` is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_whole(path, hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def own_attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the numbers and tensors that an optimizer keeps as attributes.

    Its state dict lacks them. MoMo, for instance, has its average loss and its step count there.

    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    >>> optimizer.average_loss = 0.5
    >>> own_attributes(optimizer)["average_loss"]
    0.5
    """
    kept = (bool, int, float, torch.Tensor)
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, kept)}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that `save_checkpoint` wrote, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: it is cut short, altered, or contains more than tensors and plain values.
    """
    try:
        digest, newline, payload = read_file(path).partition(b"\n")
    except DamagedFileError as error:
        raise DamagedCheckpointError(str(error)) from None
    if not newline or hashlib.sha256(payload).hexdigest().encode() != digest:
        raise DamagedCheckpointError(f"{path}: the checksum does not match; the file was altered or damaged")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DamagedCheckpointError(f"{path}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{path}: not a checkpoint")
    return state
