"""The largest curvature of a torch model's loss, and a stable learning rate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from inna.checks import check_range
from inna.theory.stability import StepSizeWarning, max_curvature, max_lr

if TYPE_CHECKING:
    import torch

__all__ = ["Suggestion", "suggest_lr", "top_curvature"]


@dataclass(frozen=True)
class Suggestion:
    """A learning rate from curvature.

    Attributes:
        lr: the largest stable learning rate, excluded itself; 0.9 of it is a sensible choice near a minimiser.
        curvature: the largest eigenvalue of the Hessian.
        products: the number of Hessian-vector products used; each costs about two gradients.
    """

    lr: float
    curvature: float
    products: int


def suggest_lr(
    model: torch.nn.Module,
    loss: Callable[[Any, Any], Any],
    batch: tuple[Any, Any],
    alpha: float,
    beta: float,
    *,
    lr: float | None = None,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Suggestion:
    """Return the largest stable constant learning rate at the current weights.

    It is `inna.theory.stability.max_lr` for the spectrum (0, lambda_top], with lambda_top the largest eigenvalue of
    the Hessian of the loss. It is sharp near a minimiser with the full batch. Elsewhere it is a first guess, since
    mini-batches differ and the curvature still changes.

    Args:
        model: a module whose loss can be differentiated twice. It is not changed.
        loss: (outputs, targets) -> a scalar tensor, as in training: a mean for a mean.
        batch: (inputs, targets).
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        lr: the learning rate in use, > 0; a warning is given where it is beyond the largest stable one.
        tolerance: relative accuracy of lambda_top, > 0.
        seed: of Lanczos' random start.

    Raises:
        ValueError: an argument is out of range, the loss is not a finite scalar, alpha = beta = 0 (nothing is stable),
            or no curvature is positive.
        RuntimeError: Lanczos' method did not converge.

    Warns:
        StepSizeWarning: ``lr`` is beyond the largest stable learning rate.

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> data = torch.full((8, 1), 5.0), torch.zeros(8, 1)  # J = 25 w²
    >>> loss = torch.nn.functional.mse_loss
    >>> suggestion = suggest_lr(model, loss, data, alpha=0.5, beta=0.1)
    >>> round(suggestion.curvature, 3), round(suggestion.lr, 4)
    (50.0, 0.11)
    """
    check_range("alpha", alpha, minimum=0.0)
    check_range("beta", beta, minimum=0.0)
    if alpha == 0 and beta == 0:
        raise ValueError("alpha or beta must be > 0: without damping no learning rate is stable")
    current = None if lr is None else check_range("lr", lr, minimum=0.0, exclusive=True)
    curvature, products = top_curvature(model, loss, batch, tolerance=tolerance, seed=seed)
    if curvature <= 0:
        raise ValueError(
            f"the largest curvature on this batch is {curvature:.3g}, not positive: no learning rate is stable here"
        )
    bound = max_lr(alpha, beta, curvature)
    if current is not None and current >= bound:
        warnings.warn(
            f"lr = {current:.3g} is beyond {bound:.3g}, the largest stable learning rate for the curvature "
            f"{curvature:.3g} at alpha = {alpha:g}, beta = {beta:g} (lr = {current:.3g} is stable up to the curvature "
            f"{max_curvature(current, alpha, beta):.3g})",
            StepSizeWarning,
            stacklevel=2,
        )
    return Suggestion(bound, curvature, products)


def top_curvature(
    model: torch.nn.Module,
    loss: Callable[[Any, Any], Any],
    batch: tuple[Any, Any],
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> tuple[float, int]:
    """Return the largest eigenvalue of the Hessian of loss(model(inputs), targets).

    The Hessian is that of the trainable parameters. Products are second derivatives of one graph, so dropout keeps its
    masks between them.

    Args:
        model: as for `suggest_lr`.
        loss: as for `suggest_lr`.
        batch: as for `suggest_lr`.
        tolerance: as for `suggest_lr`.
        seed: as for `suggest_lr`.

    Returns:
        The eigenvalue, and the number of Hessian-vector products used.

    Raises:
        ValueError: there are no trainable parameters, or the loss is not a finite scalar.
        RuntimeError: Lanczos' method did not converge.
    """
    import torch

    check_range("tolerance", tolerance, minimum=0.0, exclusive=True)
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not weights:
        raise ValueError("model must have parameters that require a gradient, got none")
    sizes = [value.numel() for value in weights.values()]
    first = next(iter(weights.values()))
    devices = sorted({value.device.index for value in weights.values() if value.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.enable_grad():
        # Separate leaves: neither the model's gradients nor its buffers (running means) are changed.
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        value = loss(torch.func.functional_call(model, {**buffers, **leaves}, (batch[0],)), batch[1])
        if value.numel() != 1 or not bool(torch.isfinite(value).all()):
            raise ValueError(f"loss must return a finite scalar, got {value.detach().cpu().numpy()!r}")
        grads = torch.autograd.grad(
            value.reshape(()), list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
        )
    products = 0

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal products
        products += 1
        direction = torch.tensor(vector.ravel(), dtype=first.dtype, device=first.device)
        parts = [part.view_as(grad) for part, grad in zip(torch.split(direction, sizes), grads, strict=True)]
        used = [(grad, part) for grad, part in zip(grads, parts, strict=True) if grad.requires_grad]
        if not used:  # a loss that is linear in the weights
            return np.zeros_like(vector)
        answers = torch.autograd.grad(
            [grad for grad, _ in used],
            list(leaves.values()),
            grad_outputs=[part for _, part in used],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        flat = torch.cat([answer.reshape(-1) for answer in answers]).detach()
        return flat.to(device="cpu", dtype=torch.float64).numpy().reshape(vector.shape)

    size = sum(sizes)
    if size <= 2:  # too small for Lanczos' method
        hessian = np.stack([product(row) for row in np.eye(size)])
        return float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]), products
    start = np.random.default_rng(seed).standard_normal(size)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    if not np.any(product(start)):  # the Hessian is 0, where Lanczos' method has nothing to start from
        return 0.0, products
    try:
        top = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise RuntimeError(
            f"Lanczos' method did not find the largest curvature to {tolerance:g} in {products} products: {error}"
        ) from error
    return float(top[0]), products
