"""Optimizers on a landscape: INNA and those beside it.

Without a learning rate of its own an optimizer takes the one that matches INNA's learning rate γ. Gradient descent and
Adam take γ. The heavy ball and Nesterov's method take γ² and momentum 1 - αγ: the heavy ball is then INNA without its
Newtonian damping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inna.checks import check_range, did_you_mean
from inna.dynamics import Hyperparameters, check_weights, from_sgd
from inna.specifications import parse_settings

__all__ = ["KINDS", "Optimizer", "adam_step", "distinguish", "make_optimizer", "parse_optimizer"]

# The settings of each kind, besides its learning rate.
KINDS: Mapping[str, tuple[str, ...]] = {
    "inna": ("alpha", "beta", "initial_speed", "loss_bound"),
    "gd": (),
    "heavy-ball": ("momentum",),
    "nesterov": ("momentum",),
    "adam": ("beta1", "beta2", "eps"),
}
LABELS = {"gd": "gradient descent", "heavy-ball": "heavy ball", "nesterov": "Nesterov", "adam": "Adam"}
ADAM_DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
# Settings with an upper bound, which they do not reach.
BELOW = {"beta1": 1.0, "beta2": 1.0}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its settings.

    Attributes:
        kind: a name of `KINDS`.
        lr: the learning rate at iteration 0, > 0.
        settings: those of the kind: alpha, beta, initial_speed and loss_bound, the f* of the guard (None: no guard);
            momentum; beta1, beta2 and eps.
        label: for legends and tables.
    """

    kind: str
    lr: float
    settings: Mapping[str, float | None]
    label: str

    @property
    def description(self) -> str:
        """The settings that are not part of the label.

        >>> Optimizer("heavy-ball", 0.01, {"momentum": 0.9}, "heavy ball").description
        'lr 0.01, momentum 0.9'
        """
        shown = {"initial_speed": "initial speed", "loss_bound": "guard at", "beta1": "β1", "beta2": "β2", "eps": "ε"}
        words = [f"{'γ' if self.kind == 'inna' else 'lr'} {self.lr:.3g}"]
        for name, value in self.settings.items():
            if value is not None and not (self.kind == "inna" and name in ("alpha", "beta")):
                words.append(f"{shown.get(name, name)} {value:.6g}")
        return ", ".join(words)

    @property
    def uses_step(self) -> bool:
        """Return whether its rule is `inna.dynamics.step`.

        Such an optimizer has a momentum and an energy.
        """
        return self.kind != "adam"

    @property
    def speed(self) -> float:
        """The s of the initial velocity -s g_0; beta by default, which is no momentum."""
        speed = self.settings.get("initial_speed")
        return self.at(1.0).beta if speed is None else speed

    @property
    def loss_bound(self) -> float | None:
        """The bound f* of a guarded INNA; None without a guard."""
        return self.settings.get("loss_bound")

    @property
    def adam_settings(self) -> tuple[float, ...]:
        """The last arguments of `adam_step`: lr, beta1, beta2, eps."""
        return self.lr, self._given("beta1"), self._given("beta2"), self._given("eps")

    def at(self, factor: float) -> Hyperparameters:
        """Return the settings of `inna.dynamics.step` at ``factor`` times lr.

        Raises:
            ValueError: the settings are out of range.
        """
        if self.kind == "inna":
            return Hyperparameters(self.lr * factor, self._given("alpha"), self._given("beta"))
        momentum = 0.0 if self.kind == "gd" else self._given("momentum")
        return from_sgd(self.lr * factor, momentum, nesterov=self.kind == "nesterov")

    def _given(self, name: str) -> float:
        value = self.settings[name]
        assert value is not None  # only initial_speed may be None
        return value


def adam_step(
    theta: Any, first: Any, second: Any, grad: Any, count: int, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Any, Any, Any]:
    """Make one iteration of Adam (Kingma and Ba 2015) as ``torch.optim.Adam`` does.

        m' = beta1 m + (1 - beta1) g        v' = beta2 v + (1 - beta2) g²
        theta' = theta - lr m'/(1 - beta1^count) / (sqrt(v'/(1 - beta2^count)) + eps)

    Args:
        theta: iterate, an array of any shape or a float.
        first: m, of the shape of theta.
        second: v, of the shape of theta.
        grad: g, of the shape of theta.
        count: number of this step, counted from 1.
        lr: learning rate.
        beta1: decay rate of m.
        beta2: decay rate of v.
        eps: constant added to the denominator.

    Returns:
        The next (theta, m, v).

    >>> adam_step(1.0, 0.0, 0.0, 2.0, 1, lr=0.1, beta1=0.9, beta2=0.999, eps=0.0)[0]
    0.9
    """
    first = beta1 * first + (1 - beta1) * grad
    second = beta2 * second + (1 - beta2) * grad * grad
    size = (second / (1 - beta2**count)) ** 0.5 + eps
    return theta - lr * (first / (1 - beta1**count)) / size, first, second


def make_optimizer(kind: str, gamma: float, alpha: float, given: Mapping[str, float | None]) -> Optimizer:
    """Return an optimizer of a kind beside an INNA with these settings.

    The settings are its learning rate ``gamma`` and viscous damping ``alpha``.

    Raises:
        ValueError: there is no such kind, it has no such setting, or a setting is out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"an optimizer must be one of {', '.join(KINDS)}; got {kind!r}{did_you_mean(kind, KINDS)}")
    unknown = [name for name in given if name not in (*KINDS[kind], "lr")]
    if unknown:
        raise ValueError(f"{kind} has no setting {unknown[0]!r}; it has {', '.join(('lr', *KINDS[kind]))}")
    gamma = check_range("lr", gamma, minimum=0.0, exclusive=True)
    # With alpha gamma > 1 the damping removes the momentum within one step.
    momentum = max(0.0, 1 - check_range("alpha", alpha, minimum=0.0) * gamma)
    defaults: Mapping[str, Mapping[str, float | None]] = {
        "inna": {"lr": gamma, "alpha": alpha, "beta": None, "initial_speed": None, "loss_bound": None},
        "gd": {"lr": gamma},
        "heavy-ball": {"lr": gamma**2, "momentum": momentum},
        "nesterov": {"lr": gamma**2, "momentum": momentum},
        "adam": {"lr": gamma, **ADAM_DEFAULTS},
    }
    settings = {**defaults[kind], **given}
    if kind == "inna" and settings["beta"] is None:
        raise ValueError("inna needs a beta")
    lr = check_range("lr", settings.pop("lr"), minimum=0.0, exclusive=True)
    for name, value in settings.items():
        if value is not None and name == "loss_bound":
            check_range(name, value)
        elif value is not None and name != "momentum":
            check_range(name, value, minimum=0.0, below=BELOW.get(name, float("inf")))
    label = f"INNA ({settings['alpha']:g}, {settings['beta']:g})" if kind == "inna" else LABELS[kind]
    made = Optimizer(kind, lr, settings, label)
    if made.uses_step:
        made.at(1.0)  # from_sgd checks the momentum
    if made.loss_bound is not None:
        _check_guard(made)
    return made


def _check_guard(optimizer: Optimizer) -> None:
    lr, alpha, beta = optimizer.at(1.0)
    check_weights(alpha, beta=beta, lr=lr)
    if optimizer.speed < beta:
        raise ValueError(
            f"initial_speed must be at least beta with a loss_bound, got {optimizer.speed:g} and beta {beta:g}"
        )


def parse_optimizer(text: str, inna: Optimizer) -> Optimizer:
    """Parse ``name`` or ``name:setting=number,setting=number``.

    Another INNA takes the settings of ``inna``.

    Raises:
        ValueError: as `make_optimizer`, or a setting is not written in this form.

    >>> inna = make_optimizer("inna", 0.1, 0.5, {"beta": 0.1})
    >>> parse_optimizer("heavy-ball:momentum=.9", inna).settings
    {'momentum': 0.9}
    >>> parse_optimizer("inna:alpha=2", inna).label
    'INNA (2, 0.1)'
    """
    kind, _, written = text.strip().partition(":")
    given: dict[str, float | None] = dict(inna.settings) if kind == "inna" else {}
    for name, value in parse_settings(text, written).items():
        try:
            given[name] = float(value)
        except ValueError:
            raise ValueError(f"{text}: {name} must be a number, got {value!r}") from None
    return make_optimizer(kind, inna.lr, inna.at(1.0).alpha, given)


def distinguish(optimizers: Sequence[Optimizer]) -> list[Optimizer]:
    """Return the optimizers with distinct labels.

    All settings are part of labels that would repeat.

    Raises:
        ValueError: two are the same.

    >>> inna = make_optimizer("inna", 0.1, 0.5, {"beta": 0.1})
    >>> [each.label for each in distinguish([parse_optimizer(f"adam:lr={lr}", inna) for lr in (0.1, 0.2)])][1]
    'Adam, lr 0.2, β1 0.9, β2 0.999, ε 1e-08'
    """
    labels = [each.label for each in optimizers]
    distinct = [
        replace(each, label=f"{each.label}, {each.description}") if labels.count(each.label) > 1 else each
        for each in optimizers
    ]
    for position, each in enumerate(distinct):
        if each.label in [other.label for other in distinct[:position]]:
            raise ValueError(f"{each.label} is given twice")
    return distinct
