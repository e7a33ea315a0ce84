"""Muon for the matrices of a network, AdamW for the rest."""

from __future__ import annotations

import torch
from torch import nn

from inna.experiments.training.parts.joint import JointOptimizer

__all__ = ["MuonAdamW", "hidden_matrices"]


class MuonAdamW(JointOptimizer):
    """torch's Muon for the hidden matrices of a network, AdamW for the rest.

    The matrices are those of `hidden_matrices`. Muon's step is scaled to the root mean square of AdamW's
    (``adjust_lr_fn="match_rms_adamw"``), so that one learning rate suits both.

    Args:
        network: the network, all of whose parameters are optimized.
        lr: learning rate (γ) of both, >= 0.
        momentum: Muon's, in [0, 1).
        betas: AdamW's.
        weight_decay: decoupled, of both, >= 0.

    Raises:
        ValueError: the network has no hidden matrix, or a setting is out of range.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; J. Liu et al., "Muon is
    scalable for LLM training", arXiv 2502.16982, for the scale.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [type(part).__name__ for part in MuonAdamW(network, lr=0.01).parts]
    ['Muon', 'AdamW']
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
    ) -> None:
        matrices = hidden_matrices(network)
        if not matrices:
            raise ValueError("Muon needs a network with a hidden matrix: a two-dimensional weight before the last one")
        chosen = {id(matrix) for matrix in matrices}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
        muon = torch.optim.Muon(
            matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        super().__init__([muon, torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay)])


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Return the two-dimensional weights but embeddings and the output layer's.

    The output layer is the last module with such a weight, in the order in which the network lists its modules.

    >>> network = nn.Sequential(nn.Embedding(9, 3), nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 9))
    >>> [tuple(matrix.shape) for matrix in hidden_matrices(network)]
    [(4, 3)]
    """
    layers = [
        [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 2]
        for module in network.modules()
        if not isinstance(module, nn.Embedding)
    ]
    layers = [layer for layer in layers if layer]
    embedded = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    last = {id(parameter) for layer in layers[-1:] for parameter in layer}
    matrices = [parameter for layer in layers[:-1] for parameter in layer if id(parameter) not in embedded | last]
    return list(dict.fromkeys(matrices))
