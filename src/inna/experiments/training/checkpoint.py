"""Training states on disk: one file with a checksum of its own, replaced atomically, loaded without running code."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from inna.files import DamagedFileError, write_whole

__all__ = ["DamagedCheckpointError", "load_checkpoint", "save_checkpoint"]


class DamagedCheckpointError(DamagedFileError):
    """A checkpoint that is cut short, altered, or not a checkpoint at all."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, texts, lists, dictionaries) to ``path``: a temporary file, then renamed.

    The first line is the SHA-256 digest of the rest, which ``torch.load`` reads.

    Raises:
        OSError: the folder cannot be written, or the disk is full; what lay at ``path`` is untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_whole(path, hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: it is cut short, altered, or holds more than tensors and plain values.
    """
    digest, newline, payload = path.read_bytes().partition(b"\n")
    if not newline or hashlib.sha256(payload).hexdigest().encode() != digest:
        raise DamagedCheckpointError(f"{path}: the checksum does not match; the file was altered or damaged")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DamagedCheckpointError(f"{path}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{path}: not a checkpoint")
    return state
