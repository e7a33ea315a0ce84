"""How a verified checkpoint is read: all of it or nothing, into tensors of the same dtypes, and only plain objects."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem

__all__ = ["StrictLoadPlanner", "difference"]

STATE = "optimizer.state."
GROUPS = "optimizer.param_groups."


class StrictLoadPlanner(DefaultLoadPlanner):
    """A load planner that refuses what does not fit before anything is read, and loads no objects but plain ones."""

    def __init__(self) -> None:
        super().__init__(allow_partial_load=True)

    def create_local_plan(self) -> LoadPlan:
        """The plan for this process.

        Raises:
            ValueError: `difference` has found one.
        """
        assert self.metadata is not None
        if why := difference(self.metadata.state_dict_metadata, self.state_dict):
            raise ValueError(why)
        return super().create_local_plan()

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a value that is no tensor in its place."""
        plain = io.BytesIO()
        # The base class unpickles anything: it gets what has passed the restricted unpickler.
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


def difference(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where a checkpoint does not fit what it is to be loaded into; empty where it does.

    A parameter may have no state in the checkpoint, if it was never stepped, and settings of a group may be missing or
    additional.

    Args:
        saved: the metadata of the checkpoint, by flat name.
        wanted: the tensors and values to be loaded, by flat name.
    """
    stepped = {name.rpartition(".")[0] for name in saved if name.startswith(STATE)}
    for name, value in wanted.items():
        if name not in saved:
            of_a_setting = name.startswith(GROUPS) and not name.endswith(".params")
            never_stepped = name.startswith(STATE) and name.rpartition(".")[0] not in stepped
            if of_a_setting or never_stepped:
                continue
            return f"the checkpoint has no {name}"
        stored = saved[name]
        if isinstance(value, torch.Tensor) is not isinstance(stored, TensorStorageMetadata):
            kinds = ("a tensor", "no tensor") if isinstance(value, torch.Tensor) else ("no tensor", "a tensor")
            return f"{name} is {kinds[1]} in the checkpoint and {kinds[0]} here"
        if isinstance(value, torch.Tensor):
            if tuple(stored.size) != tuple(value.shape):
                return f"{name} has shape {tuple(stored.size)} in the checkpoint and {tuple(value.shape)} here"
            if stored.properties.dtype != value.dtype:
                return f"{name} is {stored.properties.dtype} in the checkpoint and {value.dtype} here"
    for name in saved:
        if name not in wanted and not (name.startswith(GROUPS) and not name.endswith(".params")):
            return f"the checkpoint has {name}, for which there is no place here"
    return ""
