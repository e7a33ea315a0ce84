"""Who rolls: INNA, and the methods beside it, each with a step size of its own or the one that goes with INNA's gamma.

With no step size of its own a method takes the same step of time gamma: gradient descent is the gradient flow in steps
of gamma; the heavy ball and Nesterov's method are INNA's ball without its Newtonian damping, SGD(gamma², momentum
1 - alpha gamma); Adam, which moves by about its step size, moves by about gamma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inna.checks import check_range
from inna.dynamics import Hyperparameters, from_sgd
from inna.specifications import parse_settings

__all__ = ["KINDS", "Contender", "adam_step", "distinct", "make_contender", "parse_contender"]

# What each kind of contender may be given, beside its step size.
KINDS: Mapping[str, tuple[str, ...]] = {
    "inna": ("alpha", "beta", "initial_speed"),
    "gd": (),
    "heavy-ball": ("momentum",),
    "nesterov": ("momentum",),
    "adam": ("beta1", "beta2", "eps"),
}
LABELS = {"gd": "gradient descent", "heavy-ball": "heavy ball", "nesterov": "Nesterov", "adam": "Adam"}
ADAM_DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
# Settings in [minimum, below); nothing is named here that has no upper bound.
BELOW = {"beta1": 1.0, "beta2": 1.0}


@dataclass(frozen=True)
class Contender:
    """A method with its settings; ``lr`` is INNA's gamma, or the other methods' own step size.

    Attributes:
        kind: a name of `KINDS`.
        lr: gamma_0, the step size at iteration 0, > 0.
        settings: what belongs to the kind: alpha, beta and initial_speed; momentum; beta1, beta2 and eps.
        label: for legends and tables.
    """

    kind: str
    lr: float
    settings: Mapping[str, float | None]
    label: str

    @property
    def described(self) -> str:
        """The settings that the label does not name.

        >>> Contender("heavy-ball", 0.01, {"momentum": 0.9}, "heavy ball").described
        'lr 0.01, momentum 0.9'
        """
        shown = {"initial_speed": "initial speed", "beta1": "β1", "beta2": "β2", "eps": "ε"}
        words = [f"γ0 {self.lr:.3g}" if self.kind == "inna" else f"lr {self.lr:.3g}"]
        for name, value in self.settings.items():
            if value is not None and not (self.kind == "inna" and name in ("alpha", "beta")):
                words.append(f"{shown.get(name, name)} {value:.6g}")
        return ", ".join(words)

    @property
    def rolls(self) -> bool:
        """Whether `inna.dynamics.step` is its rule, so that it has a momentum and an energy."""
        return self.kind != "adam"

    @property
    def speed(self) -> float:
        """s of the initial velocity -s g_0; without one it is beta, which is no momentum."""
        speed = self.settings.get("initial_speed")
        return self.at(1.0).beta if speed is None else speed

    @property
    def adam_settings(self) -> tuple[float, ...]:
        """What `adam_step` takes last: lr, beta1, beta2, eps."""
        return self.lr, self._given("beta1"), self._given("beta2"), self._given("eps")

    def at(self, factor: float) -> Hyperparameters:
        """The step size, alpha and beta of `inna.dynamics.step` where the schedule multiplies the step size by
        ``factor``.

        Raises:
            ValueError: the settings are out of range.
        """
        if self.kind == "inna":
            return Hyperparameters(self.lr * factor, self._given("alpha"), self._given("beta"))
        momentum = 0.0 if self.kind == "gd" else self._given("momentum")
        return from_sgd(self.lr * factor, momentum, nesterov=self.kind == "nesterov")

    def _given(self, name: str) -> float:
        value = self.settings[name]
        assert value is not None  # initial_speed alone may be left open
        return value


def adam_step(
    theta: Any, first: Any, second: Any, grad: Any, count: int, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Any, Any, Any]:
    """One iteration of Adam (Kingma and Ba 2015) as ``torch.optim.Adam`` has it:

        m' = beta1 m + (1 - beta1) g        v' = beta2 v + (1 - beta2) g²
        theta' = theta - lr m'/(1 - beta1^count) / (sqrt(v'/(1 - beta2^count)) + eps)

    Args:
        theta, first, second, grad: theta, m, v and g, arrays of one shape, or floats.
        count: number of this step, counted from 1.
        lr, beta1, beta2, eps: step size, the two memories, the guard of the division.

    Returns:
        The next (theta, m, v).

    >>> adam_step(1.0, 0.0, 0.0, 2.0, 1, lr=0.1, beta1=0.9, beta2=0.999, eps=0.0)[0]
    0.9
    """
    first = beta1 * first + (1 - beta1) * grad
    second = beta2 * second + (1 - beta2) * grad * grad
    size = (second / (1 - beta2**count)) ** 0.5 + eps
    return theta - lr * (first / (1 - beta1**count)) / size, first, second


def make_contender(kind: str, gamma: float, alpha: float, given: Mapping[str, float | None]) -> Contender:
    """A contender of a kind beside an INNA of step size ``gamma`` and viscous damping ``alpha``.

    Raises:
        ValueError: there is no such kind, it has no such setting, or a setting is out of range.
    """
    if kind not in KINDS:
        raise ValueError(f"a contender must be one of {', '.join(KINDS)}; got {kind!r}")
    unknown = [name for name in given if name not in (*KINDS[kind], "lr")]
    if unknown:
        raise ValueError(f"{kind} has no setting {unknown[0]!r}; it has {', '.join(('lr', *KINDS[kind]))}")
    gamma = check_range("lr", gamma, minimum=0.0, exclusive=True)
    # A ball so heavily damped that it forgets everything in one step has no momentum left.
    momentum = max(0.0, 1 - check_range("alpha", alpha, minimum=0.0) * gamma)
    defaults: Mapping[str, Mapping[str, float | None]] = {
        "inna": {"lr": gamma, "alpha": alpha, "beta": None, "initial_speed": None},
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
        if value is not None and name != "momentum":
            check_range(name, value, minimum=0.0, below=BELOW.get(name, float("inf")))
    label = f"INNA ({settings['alpha']:g}, {settings['beta']:g})" if kind == "inna" else LABELS[kind]
    made = Contender(kind, lr, settings, label)
    if made.rolls:
        made.at(1.0)  # from_sgd refuses a momentum out of range, and Nesterov without one
    return made


def parse_contender(text: str, inna: Contender) -> Contender:
    """``name`` or ``name:setting=number,setting=number`` as a contender beside ``inna``, whose settings it takes over.

    Raises:
        ValueError: as `make_contender`, or a setting is not written so.

    >>> inna = make_contender("inna", 0.1, 0.5, {"beta": 0.1})
    >>> parse_contender("heavy-ball:momentum=.9", inna).settings
    {'momentum': 0.9}
    >>> parse_contender("inna:alpha=2", inna).label
    'INNA (2, 0.1)'
    """
    kind, _, written = text.strip().partition(":")
    given: dict[str, float | None] = dict(inna.settings) if kind == "inna" else {}
    for name, value in parse_settings(text, written).items():
        try:
            given[name] = float(value)
        except ValueError:
            raise ValueError(f"{text}: {name} must be a number, got {value!r}") from None
    return make_contender(kind, inna.lr, inna.at(1.0).alpha, given)


def distinct(contenders: Sequence[Contender]) -> list[Contender]:
    """The contenders with labels that tell them apart: with all settings where two have the same label.

    Raises:
        ValueError: two are the same.

    >>> inna = make_contender("inna", 0.1, 0.5, {"beta": 0.1})
    >>> [each.label for each in distinct([parse_contender(f"adam:lr={lr}", inna) for lr in (0.1, 0.2)])][1]
    'Adam, lr 0.2, β1 0.9, β2 0.999, ε 1e-08'
    """
    labels = [each.label for each in contenders]
    told = [
        replace(each, label=f"{each.label}, {each.described}") if labels.count(each.label) > 1 else each
        for each in contenders
    ]
    for position, each in enumerate(told):
        if each.label in [other.label for other in told[:position]]:
            raise ValueError(f"{each.label} is there twice")
    return told
