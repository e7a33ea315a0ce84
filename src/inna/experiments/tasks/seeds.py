"""Derive every random choice of a run from its seed, in one thread.

The caller's state does not change.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["THREADS", "derive", "isolated", "reseed", "threads"]

THREADS = 1  # of every run and of the making of tasks: how sums round depends on it


def derive(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2^63) for one purpose.

    It is unrelated to those of other purposes and seeds.

    >>> derive(0, "weights") == derive(0, "weights"), derive(0, "order", 1) == derive(0, "order", 2)
    (True, False)
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def reseed(seed: int) -> None:
    """Seed the global generators of torch (every device), NumPy and Python.

    Call it inside `isolated`.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def isolated(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with the global generators seeded, then restore their state.

    Args:
        seed: in [0, 2^63).
        device: a device whose generator is restored too, besides the CPU's.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            reseed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` threads of torch, then restore their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
