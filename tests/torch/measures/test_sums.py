"""Sums over ranks: what a wrong setting would count twice is refused."""

from __future__ import annotations

import pytest
import torch

from inna.torch import INNA, INNAprop


@pytest.mark.parametrize(
    "build",
    [
        lambda params: INNA(params, lr=0.1, loss_bound=0.0, sum_over_ranks=True),
        lambda params: INNA.lr_free(params, sum_over_ranks=True),
        lambda params: INNAprop.lr_free(params, sum_over_ranks=True),
    ],
    ids=["guard", "INNA.lr_free", "INNAprop.lr_free"],
)
def test_shards_are_not_added_once_more_over_the_ranks(build, mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    param = torch.nn.Parameter(distribute_tensor(torch.ones(4, 6), mesh, [Shard(0)]))
    optimizer = build([param])
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match=r"sum_over_ranks=True is for plain tensors"):
        optimizer.step(**({"loss": 1.0} if isinstance(optimizer, INNA) else {}))
    assert param.full_tensor().eq(1).all()
