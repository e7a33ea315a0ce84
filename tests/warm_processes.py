"""Processes forked from one that has imported torch and inna already. A process has one such server, for all tests."""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from multiprocessing.context import BaseContext

__all__ = ["warm_context"]

# By the names of installed packages: the server does not look where the tests are.
PRELOADED = [
    "inna.__main__",
    "inna.experiments",
    "inna.experiments.training.train",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
]


@cache
def warm_context() -> BaseContext:
    """The context whose processes start warm at once; elsewhere than on POSIX systems they start anew."""
    if os.name != "posix":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process()
    first.start()
    first.join()  # the server has imported everything
    return context
