"""The sums over all parameters that give INNAprop its distance.

From the distance to the solution it finds the length of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.kernels.plan import Plan
from inna.torch.measures.sums import add_up, by_mesh, empty_sums, norm, one_order, pieces, real, total
from inna.torch.shards import to_local
from inna.torch.tensor_lists import TensorLists

__all__ = ["Share", "measure", "sliced", "take_start"]


class Share(NamedTuple):
    """The part of a parameter group in the estimate."""

    lists: TensorLists
    """The tensors with gradients, without their shards taken apart."""
    starts: list[Tensor]
    """theta_0 of each, sliced."""
    grad_sums: list[Tensor]
    """s of each, sliced."""
    resting: list[Tensor]
    """s of the parameters that have no gradient now."""
    slice_every: int
    sigma: Any
    weight: Any
    """w of this step; 0 with a sigma of 1 if the group does not move."""
    maximize: bool
    plan: Plan | None = None
    """Of a fused step whose kernels add up the sums."""
    params: Sequence[Tensor] = ()
    """All parameters of the group, with or without gradients."""


def sliced(tensor: Tensor, every: int) -> Tensor:
    """Every ``every``-th entry in the order of rows, (ceil(n / every),).

    The tensor itself if that is 1.

    >>> sliced(torch.arange(6).reshape(2, 3), 4)
    tensor([0, 4])
    """
    return tensor if every == 1 else tensor.reshape(-1)[::every]


def take_start(
    begun: MutableMapping[Tensor, bool], param: Tensor, start: Tensor, steps: Any, lr: Any, slice_every: int = 1
) -> None:
    """Copy theta into theta_0 at the first step that moves it.

    A step with lr = 0 does not: torch.distributed.checkpoint creates the state by one, before it loads the weights.

    Args:
        begun: the parameters whose theta_0 is known to be that of their first step; the parameter is added.
        param: theta.
        start: theta_0, sliced.
        steps: the steps taken before this one, a number or a tensor of one element; read if the parameter is new.
        lr: of this step, a number or a tensor of one element.
        slice_every: as for `sliced`.

    >>> theta, start, begun = torch.ones(2), torch.zeros(2), {}
    >>> take_start(begun, theta, start, 0, 0.0)
    >>> start.tolist(), len(begun)
    ([0.0, 0.0], 0)
    >>> take_start(begun, theta, start, 0, 0.1)
    >>> start.tolist(), len(begun)
    ([1.0, 1.0], 1)
    """
    if param in begun or bool(lr == 0):
        return
    if float(steps) == 0:
        start.copy_(sliced(param.detach(), slice_every))
    begun[param] = True


def measure(shares: Sequence[Share], device: torch.device, *, sum_over_ranks: bool) -> Tensor:
    """The sums of a step: <g, theta_0 - theta> by group, and the norm of s'.

    Shards of DTensors are added over their mesh, see `inna.torch.measures.sums.add_up`. What each rank has a copy of
    counts once.

    Args:
        shares: of all groups.
        device: of the result.
        sum_over_ranks: whether each rank of the default process group holds other parameters, as with
            `torch.distributed.optim.ZeroRedundancyOptimizer`.

    Returns:
        (number of groups + 1,), in float64.
    """
    totals = empty_sums((share.params for share in shares), len(shares) + 1)
    for position, share in enumerate(shares):
        if share.plan is not None:
            found = share.plan.measure_distance(share.lists.grads, share.weight, share.sigma)
            moved, length = (torch.tensor(number, dtype=torch.float64) for number in found)
            totals[None][position].append(-moved if share.maximize else moved)
            totals[None][-1].append(length)
        for mesh, copies, indices in by_mesh(share.lists.params) if share.plan is None else ():
            for moved, length in _sums(share, indices):
                totals[mesh][position].append(moved / copies)
                totals[mesh][-1].append(length / copies)
        for mesh, copies, indices in by_mesh(share.resting):
            totals[mesh][-1] += [norm(to_local(share.resting[i])) / copies for i in indices]
    return add_up(totals, device, sum_over_ranks=sum_over_ranks)


def _sums(share: Share, indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield <g, theta_0 - theta> and |s'|_1 of pieces of these tensors."""
    sign = -1.0 if share.maximize else 1.0
    for start, grad_sum, theta, grad, compensation in pieces(_rows(share, indices)):
        grad = grad.to(grad_sum.dtype)
        apart = start.to(grad_sum.dtype) - theta.to(grad_sum.dtype)
        if compensation is not None:
            apart -= compensation.to(grad_sum.dtype)  # what rounding has kept back of theta
        new_sum = dynamics.accumulate(grad_sum, grad, share.weight, share.sigma)
        yield sign * total(apart.mul_(grad)), norm(new_sum)


def _rows(share: Share, indices: list[int]) -> Iterator[list[Any]]:
    """Yield theta_0, s, theta, g and theta's rounding error of each parameter, flat."""
    for i in indices:
        lists = share.lists
        whole = (lists.params[i], lists.grads[i], lists.compensations[i] if lists.compensations else None)
        parts = [None if each is None else sliced(to_local(each), share.slice_every) for each in whole]
        state = (to_local(share.starts[i]), to_local(share.grad_sums[i]))
        yield one_order([None if each is None else real(each) for each in (*state, *parts)])
