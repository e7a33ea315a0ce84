"""DTensors as the plain shards they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from inna.torch.tensor_lists import TensorLists

__all__ = ["is_dtensor", "misplacement", "place_like", "to_local", "to_local_lists"]


def is_dtensor(tensor: Tensor) -> bool:
    """Return whether the tensor is a DTensor."""
    # Importing torch.distributed would take longer than many a first step.
    return hasattr(tensor, "placements")


def to_local(tensor: Tensor) -> Tensor:
    """A DTensor's own shard, once it has arrived; any other tensor itself."""
    if not is_dtensor(tensor):
        return tensor
    local: Any = tensor._local_tensor  # type: ignore[attr-defined]
    return local.wait() if hasattr(local, "wait") else local  # type: ignore[no-any-return]


def to_local_lists(lists: TensorLists) -> TensorLists:
    """Replace each DTensor of the lists by its own shard.

    A step is elementwise, so shards can be stepped apart.

    Raises:
        RuntimeError: a parameter and its gradient or state are placed differently.
    """
    if not any(map(is_dtensor, lists.params)):
        return lists
    for i, param in enumerate(lists.params):
        for name, tensor in lists.companions(i):
            if why := misplacement(name, tensor, param):
                raise RuntimeError(f"parameter {i}, of shape {tuple(param.shape)}: {why}")
    return lists.map(to_local)


def misplacement(name: str, tensor: Tensor, param: Tensor) -> str:
    """The reason why the shards of ``tensor`` do not match those of ``param``.

    Empty if they do, or there are none.
    """
    if is_dtensor(tensor) is not is_dtensor(param):
        return f"{name} is a {type(tensor).__name__} beside a parameter that is a {type(param).__name__}"
    if is_dtensor(tensor):
        ours: Any = tensor
        theirs: Any = param
        if ours.placements != theirs.placements or ours.device_mesh != theirs.device_mesh:
            return f"{name} is placed as {ours.placements}, the parameter as {theirs.placements}"
        if any(placement.is_partial() for placement in ours.placements):
            return f"{name} is a partial sum"
    return ""


def place_like(param: Tensor, grad: Tensor) -> Tensor:
    """Return ``grad`` with the placements of ``param`` if both are DTensors.

    Sum partial sums over all ranks.

    In tensor-parallel normalisation layers, backward leaves the gradient of a replicated parameter as partial sums.
    """
    theirs: Any = param
    ours: Any = grad
    if is_dtensor(param) and is_dtensor(grad) and ours.placements != theirs.placements:
        grad = ours.redistribute(theirs.device_mesh, theirs.placements)
    return grad
