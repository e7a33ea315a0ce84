"""DTensors as the plain shards they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from inna.torch.tensor_lists import TensorLists, beside

__all__ = [
    "is_dtensor",
    "localized",
    "misplacement",
    "placed_like",
    "to_local",
]


def to_local(tensor: Tensor) -> Tensor:
    """A DTensor's own shard, once it has arrived; any other tensor itself."""
    if not is_dtensor(tensor):
        return tensor
    local: Any = tensor._local_tensor  # type: ignore[attr-defined]
    return local.wait() if hasattr(local, "wait") else local  # type: ignore[no-any-return]


def localized(lists: TensorLists) -> TensorLists:
    """The lists with each DTensor's own shard in its place. What one step does to an entry concerns that entry only.

    Raises:
        RuntimeError: a parameter and its gradient or state are placed differently.
    """
    if not any(map(is_dtensor, lists.params)):
        return lists
    for i, param in enumerate(lists.params):
        for name, tensor in beside(lists, i):
            if why := misplacement(name, tensor, param):
                raise RuntimeError(f"parameter {i}, of shape {tuple(param.shape)}: {why}")
    return lists.map(to_local)


def misplacement(name: str, tensor: Tensor, param: Tensor) -> str:
    """Why the shards of ``tensor`` do not lie beside those of ``param``; empty where they do, or neither has any."""
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


def placed_like(param: Tensor, grad: Tensor) -> Tensor:
    """``grad`` with the placements of ``param``, where both are DTensors; partial sums are summed, over all ranks.

    Backward leaves the gradient of a replicated parameter as partial sums, in tensor-parallel normalisation layers.
    """
    theirs: Any = param
    ours: Any = grad
    if is_dtensor(param) and is_dtensor(grad) and ours.placements != theirs.placements:
        grad = ours.redistribute(theirs.device_mesh, theirs.placements)
    return grad


def is_dtensor(tensor: Tensor) -> bool:
    # Without an import of torch.distributed, which takes longer than many a first step.
    return hasattr(tensor, "placements")
