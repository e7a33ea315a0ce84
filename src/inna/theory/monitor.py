"""Log the energy E while a torch model trains, and warn where it rises.

E = 2 (1 + alpha beta) J + |m|² falls along the flow that INNA follows. At a learning rate that is too large it rises,
which shows earlier than in the loss, since the loss may oscillate anyway.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from inna.checks import check_range
from inna.dynamics import initial_momentum
from inna.theory.stability import StepSizeWarning

if TYPE_CHECKING:
    import torch

__all__ = ["EnergyMonitor", "EnergyRecord"]


class EnergyRecord(NamedTuple):
    """One iteration: its number from 0, the loss, the kinetic part and E.

    The kinetic part is |m|² where there is one group.
    """

    iteration: int
    loss: float
    kinetic: float
    energy: float


class EnergyMonitor:
    """Log E during training with INNA.

    This costs one norm of the momentum and no gradient.

    Call it with the loss of the step, after ``backward`` and before ``optimizer.step()``, so that the loss and the
    momentum belong to the same iteration. The flow only loses energy; if the mean of E over a window rises above
    ``factor`` times its first value or the lowest mean of an earlier window, it warns once that the learning rate is
    too large.

    With different (alpha_i, beta_i) in parameter groups, the kinetic energy of each is weighted so that the sum falls:
    E = (1 + alpha_0 beta_0) (2 J + sum_i |m_i|²/(1 + alpha_i beta_i)), which is the paper's E for one group. J is the
    loss plus the penalty lambda/2 |theta|² of a ``weight_decay``; a decoupled one has no J and is ignored.

    Args:
        optimizer: an optimizer with "alpha" and "beta" in its groups and a "momentum" per parameter in its state:
            `inna.torch.INNA`. INNAprop and ``maximize`` are refused, since E does not fall along their flow.
        window: iterations per window, >= 1. Use those of a whole epoch where batches differ much.
        factor: the largest rise without a warning, > 1.
        lower_bound: a lower bound of the loss, from which E is counted.

    Attributes:
        records: every `EnergyRecord` so far.
        warned: whether the warning was given.

    Raises:
        ValueError: an argument is out of range, or the optimizer's groups lack alpha or beta.

    Source: paper, section 3.4, the Lyapunov function E.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, window: int = 20, factor: float = 2.0, lower_bound: float = 0.0
    ) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ValueError(f"window must be an integer >= 1, got {window!r}")
        self.factor = check_range("factor", factor, minimum=1.0, exclusive=True)
        self.lower_bound = check_range("lower_bound", lower_bound)
        for group in optimizer.param_groups:
            if "alpha" not in group or "beta" not in group or "sigma" in group:
                raise ValueError(
                    "optimizer must follow INNA's flow, with alpha and beta in each parameter group "
                    f"(inna.torch.INNA), got {type(optimizer).__name__}"
                )
            if group.get("maximize"):
                raise ValueError("optimizer must minimise: E does not fall with maximize=True")
        self.optimizer = optimizer
        self.window = window
        self.records: list[EnergyRecord] = []
        self.warned = False
        self._lowest = math.inf
        self._floor = 0.0

    def __call__(self, loss: Any) -> EnergyRecord:
        """Record E of this iteration.

        Args:
            loss: the loss at the current parameters, a number or a one-element tensor.

        Returns:
            The new record.

        Raises:
            ValueError: the loss is below ``lower_bound``.

        Warns:
            StepSizeWarning: E rises, or is no longer finite; once.
        """
        value = float(loss.detach() if hasattr(loss, "detach") else loss)
        if value < self.lower_bound:
            raise ValueError(f"the loss must be >= lower_bound={self.lower_bound:g}, got {value!r}; set lower_bound")
        groups = self.optimizer.param_groups
        couplings = [1 + float(group["alpha"]) * float(group["beta"]) for group in groups]
        potential = value + sum(
            0.5 * _penalty(group) * _squared_norm(group["params"]) for group in groups if _penalty(group)
        )
        kinetic = couplings[0] * sum(
            _squared_norm(self._momenta(group)) / coupling for group, coupling in zip(groups, couplings, strict=True)
        )
        record = EnergyRecord(len(self.records), value, kinetic, 2 * couplings[0] * potential + kinetic)
        self.records.append(record)
        self._watch(2 * couplings[0] * self.lower_bound)
        return record

    def _momenta(self, group: dict[str, Any]) -> list[torch.Tensor]:
        """Return m of a group.

        Before the first step this is the initial value (s - beta) g, or nothing where that is 0.
        """
        momenta = []
        for parameter in group["params"]:
            state = self.optimizer.state.get(parameter, {})
            # With an initial speed the first step sets m; before it m is filled with zeros.
            if "momentum" in state and ("step" not in state or float(state["step"]) > 0):
                coded = "momentum_scale" in state
                optimizer: Any = self.optimizer
                momenta.append(optimizer.momentum_of(parameter) if coded else state["momentum"])
            elif group.get("initial_speed") is not None and parameter.grad is not None:
                grad = parameter.grad + _penalty(group) * parameter.detach()
                momenta.append(initial_momentum(grad, group["beta"], group["initial_speed"]))
        return momenta

    def _watch(self, base: float) -> None:
        newest = self.records[-1].energy
        if not math.isfinite(newest):
            self._warn(f"the energy is {newest} at iteration {len(self.records) - 1}")
            return
        if len(self.records) == 1:
            self._lowest = newest - base
            self._floor = 1e-9 * abs(newest - base)  # below this, rounding decides
        if len(self.records) % self.window:
            return
        mean = math.fsum(record.energy for record in self.records[-self.window :]) / self.window - base
        if mean > self.factor * self._lowest + self._floor:
            self._warn(
                f"the mean energy over {self.window} iterations rose from {self._lowest + base:.3g} to "
                f"{mean + base:.3g} at iteration {len(self.records) - 1}"
            )
        self._lowest = min(self._lowest, mean)

    def _warn(self, finding: str) -> None:
        if not self.warned:
            self.warned = True
            steps = ", ".join(f"{float(group['lr']):.3g}" for group in self.optimizer.param_groups)
            warnings.warn(
                f"{finding}, although the flow only loses energy: the learning rate (now {steps}) is likely too large",
                StepSizeWarning,
                stacklevel=4,
            )


def _penalty(group: dict[str, Any]) -> float:
    """Return lambda of the L2 penalty that is part of J."""
    return 0.0 if group.get("decoupled_weight_decay") else float(group.get("weight_decay", 0.0))


def _squared_norm(tensors: list[torch.Tensor]) -> float:
    """Return the sum of all |entries|² with one device synchronisation.

    Half precision is summed in float32.
    """
    import torch

    norms: list[torch.Tensor] = []
    for tensor in tensors:
        entries = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
        norm = torch.linalg.vector_norm(entries, dtype=torch.promote_types(entries.dtype, torch.float32))
        norms.append(norm.to(norms[0].device) if norms else norm)
    return float(torch.linalg.vector_norm(torch.stack(norms))) ** 2 if norms else 0.0
