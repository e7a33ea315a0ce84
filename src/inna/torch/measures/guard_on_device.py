"""The guarded step of groups whose kernels decide on the device.

Nothing is read on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inna.torch.measures.guarded_group import GatheredGroup
from inna.torch.measures.guarded_step import DECISION
from inna.torch.measures.sums import world_size

if TYPE_CHECKING:
    from inna.torch.kernels.cuda_guard import Guard

__all__ = ["can_decide", "take_step"]


def can_decide(groups: Sequence[GatheredGroup], *, sum_over_ranks: bool) -> bool:
    """Return whether the device can decide on the step of these groups.

    All have a plan for kernels on one device and a learning rate, and no other process takes part.

    Args:
        groups: those with gradients.
        sum_over_ranks: as for `inna.torch.measures.sums.add_up`.
    """
    if not groups or sum_over_ranks or world_size() > 1:
        return False
    device = groups[0].lists.params[0].device
    return all(
        group.plan is not None
        and group.starts is None
        and group.plan.table.decides
        and group.lists.params[0].device == device
        and all(group.entries[name].device == device for name in DECISION)
        for group in groups
    )


def take_step(
    groups: Sequence[GatheredGroup],
    loss: float | Tensor,
    loss_bound: float,
    *,
    maximize: bool,
    scaling: tuple[Tensor | None, Tensor | None],  # () each
    earlier: Guard | None,
) -> Guard:
    """Step all groups.

    Args:
        groups: those with gradients, for which `can_decide` is true.
        loss: of the mini-batch, ().
        loss_bound: f*, of the loss as it is given.
        maximize: whether the loss is to become large.
        scaling: GradScaler's scale and verdict.
        earlier: what this returned at the last step.

    Returns:
        The step's memory on the device, to be reused.
    """
    from inna.torch.kernels.cuda_guard import Guard, GuardPart

    tables = [group.plan.table for group in groups if group.plan is not None]
    guard = earlier
    if guard is None or guard.tables != tables:
        guard = Guard(tables, groups[0].lists.params[0].device)
    parts = [
        GuardPart(
            list(map(Tensor.data_ptr, group.lists.grads)), group.settings, [group.entries[name] for name in DECISION]
        )
        for group in groups
    ]
    changed = [param for group in groups for param in group.lists.params]
    if scaling[0] is not None:
        changed += [grad for group in groups for grad in group.lists.grads]
    # Autograd does not see the kernels write to tensors that it may have saved.
    torch.autograd.graph.increment_version(changed)
    guard.step(parts, loss, loss_bound, maximize=maximize, scaling=scaling)
    return guard
