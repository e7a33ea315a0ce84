"""The path of a step: which implementation it takes.

Fused, foreach or single-tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from inna.torch.kernels.support import refusal
from inna.torch.shards import to_local
from inna.torch.tensor_lists import TensorLists, is_transformed

__all__ = ["PATH_FLAGS", "Path", "choose_path", "use_foreach", "wants_kernels"]

Path = Literal["fused", "foreach", "single"]
# The entries of a group that choose its path.
PATH_FLAGS = ("fused", "foreach", "differentiable")


def choose_path(group: dict[str, Any], lists: TensorLists) -> Path:
    """Choose the path of a group's step.

    ``fused`` or ``foreach`` that is True insists. With both None, the step is fused if there is a kernel for every
    tensor, else foreach if all tensors are plain. Autograd, for ``differentiable``, needs the single path.

    Args:
        group: a parameter group; its flags decide.
        lists: the tensors of the group that have gradients. State may be missing: it will be laid out as the
            parameters.

    Raises:
        RuntimeError: ``fused`` is True and a tensor has no kernel; the message names it and the reason.
    """
    fused, foreach, differentiable = (group[flag] for flag in PATH_FLAGS)
    if wants_kernels(group):
        why = refusal(lists, group["params"])
        if not why:
            return "fused"
        if fused:
            raise RuntimeError(f"fused=True: {why}")
    plain = map(to_local, lists.params)
    return "foreach" if use_foreach(foreach, plain, differentiable=differentiable) else "single"


def wants_kernels(group: dict[str, Any]) -> bool:
    """Return whether a group is stepped by kernels where there are any."""
    fused, foreach, differentiable = (group[flag] for flag in PATH_FLAGS)
    return bool(fused or (fused is None and foreach is None and not differentiable))


def use_foreach(foreach: bool | None, params: Iterable[Tensor], *, differentiable: bool) -> bool:
    """Return whether to take the foreach path.

    As asked, else if all tensors are plain and autograd does not see the step.

    Foreach calls cannot write to views with a pending sign.
    """
    params = list(params)
    if not torch.compiler.is_compiling() and any(param.is_neg() for param in params):
        return False
    if foreach is not None:
        return foreach
    return not differentiable and all(
        type(param) in (Tensor, torch.nn.Parameter) and not is_transformed(param) for param in params
    )
