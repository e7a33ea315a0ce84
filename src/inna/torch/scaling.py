"""GradScaler's scale and verdict on the foreach and the single path.

The kernels apply both themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from inna.torch.tensor_lists import Settings, TensorLists, on_device, on_device_of

__all__ = ["apply_scaling", "divide_gradients"]


def apply_scaling(
    lists: TensorLists,
    settings: Settings,
    grad_scale: Tensor | None,  # ()
    found_inf: Tensor | None,  # ()
    *,
    host: bool,
    in_place: bool,
) -> Settings | None:
    """Divide the gradients by ``grad_scale``.

    Return the settings of the step, or None if it is to be skipped.

    Args:
        lists: the tensors of one group; the list of gradients may be changed.
        settings: the group's settings.
        grad_scale: GradScaler's scale; None if the gradients are unscaled already.
        found_inf: GradScaler's verdict. If it is not 0, the step changes nothing.
        host: read both on the host. Otherwise a step to be skipped becomes one with lr = 0 and zero gradients.
        in_place: the gradients stay divided, as in torch's fused optimizers.

    >>> lists = TensorLists(grads=[torch.tensor([8.0])])
    >>> apply_scaling(lists, Settings(0.1, 0.5, 0.1), torch.tensor(4.0), torch.tensor(0.0), host=True, in_place=True)
    Settings(lr=0.1, alpha=0.5, beta=0.1, weight_decay=0.0, initial_speed=None, decoupled_weight_decay=False, \
maximize=False, sigma=None, eps=0.0, time_step=None, decay_lr=None)
    >>> lists.grads
    [tensor([2.])]
    """
    if host and found_inf is not None and found_inf.item() != 0:
        return None
    if grad_scale is not None:
        # A power of two, so dividing by it is multiplying by its reciprocal.
        factor = 1 / grad_scale.item() if host else grad_scale.reciprocal().reshape(())
        for i, grad in enumerate(lists.grads):
            value = on_device(grad.device, factor)
            lists.grads[i] = grad.mul_(value) if in_place else grad * value
    if host or found_inf is None:
        return settings
    skipped = found_inf.reshape(()) != 0
    lists.grads[:] = [torch.where(on_device(grad.device, skipped), on_device_of(0, grad), grad) for grad in lists.grads]
    lr = settings.lr if isinstance(settings.lr, Tensor) else torch.full_like(found_inf, settings.lr).reshape(())
    return settings._replace(lr=torch.where(on_device(lr.device, skipped), on_device_of(0, lr), lr))


def divide_gradients(
    grads: Iterable[Tensor],  # any shapes
    grad_scale: Tensor | None,  # ()
    found_inf: Tensor | None,  # ()
) -> None:
    """Divide the gradients by ``grad_scale``, unless ``found_inf`` is not 0.

    All that remains of a scaled step with lr = 0.

    >>> grad = torch.tensor([8.0])
    >>> divide_gradients([grad], torch.tensor(4.0), torch.tensor(0.0))
    >>> grad
    tensor([2.])
    """
    if grad_scale is None:
        return
    factor = grad_scale.reciprocal().reshape(())
    if found_inf is not None:
        factor = torch.where(on_device(factor.device, found_inf.reshape(())) != 0, on_device_of(1, factor), factor)
    for grad in grads:
        grad.mul_(on_device(grad.device, factor))
