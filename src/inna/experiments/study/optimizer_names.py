"""Names of optimizers, and checks of specifications that import no framework.

A misspelt name is refused at once: importing torch takes seconds. torch's own optimizers and the settings of every
built-in name are read from the sources. `inna.experiments.training.optimizers` parses a specification in full.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from inna.checks import check_range, did_you_mean
from inna.dynamics import INNA_DEFAULTS, INNA_LR_FREE_DEFAULTS, INNAPROP_DEFAULTS, LENGTH_RANGES, RANGES
from inna.experiments.rows.run import Run
from inna.experiments.study.constructor_checks import refusal
from inna.experiments.study.constructors import UNREAD, constructor_defaults, torch_optimizers
from inna.experiments.study.search_space import LEARNING_RATE, Dimension, learning_rate
from inna.specifications import check_value, is_number, parse_settings, read_value

__all__ = [
    "CONTENDER_PACKAGES",
    "DEFAULT_OPTIMIZERS",
    "HOW_TO_INSTALL",
    "NAMED",
    "UNKNOWN_SPACE",
    "Named",
    "Tuned",
    "check_has_lr",
    "check_reference",
    "check_setting",
    "check_specification",
    "names",
    "parse_tuned",
    "settings_of",
    "split",
    "target_of",
    "unknown_name",
]


@dataclass(frozen=True)
class Named:
    """A built-in optimizer.

    Its class, its label, the settings of its name, and the space that a search tunes.

    ``lr`` is the factor of the step of an optimizer that has no learning rate to tune. ``make`` is the class method
    that makes the optimizer.
    """

    target: str
    label: str
    settings: Mapping[str, Any]
    space: tuple[Dimension, ...]
    dampings: tuple[float, float] | None = None
    lr: float | None = None
    make: str = ""


_MOMENTUM = Dimension("momentum", 0.5, 0.99, "near one", default=0.9)
_BETAS = Dimension("betas", 0.5, 0.99, "near one", (0.999,), default=0.9)  # beta1 is searched


def _dampings(alpha: float, beta: float, most: float = 2.0) -> tuple[Dimension, Dimension]:
    return Dimension("alpha", 0.05, most, default=alpha), Dimension("beta", 0.05, most, default=beta)


NAMED: Mapping[str, Named] = {
    "inna": Named(
        "inna.torch:INNA",
        "INNA",
        {},
        (learning_rate(1e-3, 10.0), *_dampings(INNA_DEFAULTS.alpha, INNA_DEFAULTS.beta)),
        (INNA_DEFAULTS.alpha, INNA_DEFAULTS.beta),
    ),
    "inna-lr-free": Named(
        "inna.torch:INNA",
        "INNA lr-free",
        {},
        (),
        (INNA_LR_FREE_DEFAULTS.alpha, INNA_LR_FREE_DEFAULTS.beta),
        lr=INNA_LR_FREE_DEFAULTS.lr,
        make="lr_free",
    ),
    "innaprop": Named(
        "inna.torch:INNAprop",
        "INNAprop",
        {},
        (learning_rate(1e-5, 0.1), *_dampings(INNAPROP_DEFAULTS.alpha, INNAPROP_DEFAULTS.beta)),
        (INNAPROP_DEFAULTS.alpha, INNAPROP_DEFAULTS.beta),
    ),
    "innaprop-lr-free": Named(
        "inna.torch:INNApropLRFree",
        "INNAprop lr-free",
        {},
        (),
        (INNAPROP_DEFAULTS.alpha, INNAPROP_DEFAULTS.beta),
        lr=1.0,
    ),
    "sgd": Named("torch.optim:SGD", "SGD", {}, (learning_rate(1e-3, 10.0),)),
    "heavy-ball": Named("torch.optim:SGD", "heavy ball", {"momentum": 0.9}, (learning_rate(1e-4, 1.0), _MOMENTUM)),
    "nesterov": Named(
        "torch.optim:SGD",
        "Nesterov",
        {"momentum": 0.9, "nesterov": True},
        (learning_rate(1e-4, 1.0), _MOMENTUM),
    ),
    "adagrad": Named("torch.optim:Adagrad", "AdaGrad", {}, (learning_rate(1e-4, 1.0),)),
    "adam": Named("torch.optim:Adam", "Adam", {}, (learning_rate(1e-5, 0.1), _BETAS)),
    "adamw": Named("torch.optim:AdamW", "AdamW", {}, (learning_rate(1e-5, 0.1), _BETAS)),
    "rmsprop": Named("torch.optim:RMSprop", "RMSprop", {}, (learning_rate(1e-5, 0.1),)),
    # The cap of its step is tuned and not found from the distance; the time step of its memory is fixed, so that every
    # cap is allowed. The guard needs alpha * beta <= 1.
    "inna-guarded": Named(
        "inna.torch:INNA",
        "INNA guarded",
        {"initial_distance": None},
        (learning_rate(1e-3, 10.0), *_dampings(INNA_DEFAULTS.alpha, INNA_DEFAULTS.beta, most=1.0)),
        (INNA_DEFAULTS.alpha, INNA_DEFAULTS.beta),
        make="lr_free",
    ),
    "muon-adamw": Named(
        "inna.experiments.training.parts.muon:MuonAdamW",
        "Muon + AdamW",
        {},
        (learning_rate(1e-5, 0.1), Dimension("momentum", 0.5, 0.99, "near one", default=0.95)),
    ),
    "schedule-free-adamw": Named(
        "schedulefree:AdamWScheduleFree", "schedule-free AdamW", {}, (learning_rate(1e-5, 0.1), _BETAS)
    ),
    "prodigy": Named("prodigyopt:Prodigy", "Prodigy", {}, (), lr=1.0),
    "dog": Named("dog:DoG", "DoG", {}, (), lr=1.0),
    "momo": Named("momo:Momo", "MoMo", {}, (learning_rate(1e-3, 10.0),)),
}
# Of the extra "contenders".
CONTENDER_PACKAGES = ("schedulefree", "prodigyopt", "dog", "momo")
HOW_TO_INSTALL = "pip install 'inna[contenders]'"
# Of optimizers that declare no space.
UNKNOWN_SPACE = (learning_rate(1e-5, 1.0),)
# The paper's four settings of INNA. At a constant γ = β INNA is a heavy ball; no half-decade is 1/2, so (0.5, 0.5)
# never is one, whatever the tuning chooses.
DEFAULT_OPTIMIZERS = (
    "inna:alpha=.1,beta=.1",
    "inna:alpha=.5,beta=.1",
    "inna:alpha=.5,beta=.5",
    "inna:alpha=.5,beta=1",
    "sgd",
    "heavy-ball",
    "adagrad",
    "adam",
)


def names() -> list[str]:
    """Return all names, those of the comparison first.

    Torch's only where its sources can be read.
    """
    return [*NAMED, *(name for name in torch_optimizers() if name not in NAMED)]


def split(text: str) -> tuple[str, dict[str, str]]:
    """Split a specification into name and settings.

    An importable class contains a colon itself.

    Raises:
        ValueError: a setting is not written name=value.

    >>> split("adamw:weight_decay=.01"), split("package.optim:Lion:beta=.9")
    (('adamw', {'weight_decay': '.01'}), ('package.optim:Lion', {'beta': '.9'}))
    """
    head, colon, tail = text.strip().rpartition(":")
    settled = colon and ("=" in tail or head.lower() in names())
    name, written = (head, tail) if settled else (text.strip(), "")
    if ":" not in name:
        name = name.lower()
    return name, parse_settings(text, written)


class Tuned(NamedTuple):
    """A specification whose settings may be ranges.

    Attributes:
        fixed: the specification of the settings that have one value.
        lr: the learning rate (γ), if it has one, or an optimizer's own that is not tuned.
        ranges: the ranges given, which may be of the learning rate, too.
    """

    fixed: str
    lr: float | None
    ranges: tuple[Dimension, ...]


def parse_tuned(text: str) -> Tuned:
    """Parse a specification of which a search tunes the rest.

    Such as ``sgd:lr=.1`` or ``adamw:weight_decay=1e-4..1``.

    A range is searched over its logarithm, or evenly if it begins at 0 or below; a setting that is always searched
    keeps its scale.

    Raises:
        ValueError: a learning rate or a range is out of range.

    >>> parse_tuned("sgd:lr=.1,momentum=.5")
    Tuned(fixed='sgd:momentum=.5', lr=0.1, ranges=())
    >>> parse_tuned("adamw:weight_decay=1e-4..1").ranges[0].text
    'weight_decay=0.0001..1'
    """
    name, given = split(text)
    known = {each.name: each for each in (NAMED[name].space if name in NAMED else UNKNOWN_SPACE)}
    lr, fixed, ranges = NAMED[name].lr if name in NAMED else None, {}, []
    for key, value in given.items():
        low, dots, high = value.partition("..")
        if dots:
            ends = _float(text, key, low), _float(text, key, high)
            if key in known:
                ranges.append(replace(known[key], low=ends[0], high=ends[1], default=None))
            else:
                ranges.append(Dimension(key, *ends, "log" if ends[0] > 0 else "linear"))
        elif key == LEARNING_RATE:
            lr = check_range(f"{text}: lr", _float(text, key, value), minimum=0.0, exclusive=True)
        else:
            fixed[key] = value
    written = ",".join(f"{key}={value}" for key, value in fixed.items())
    return Tuned(f"{name}:{written}" if written else name, lr, tuple(ranges))


def _float(text: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{text}: {key} must be a number or a range low..high, got {value!r}") from None


def check_specification(text: str, *, tuned: bool = False) -> None:
    """Check the name, the settings and their types, without importing anything.

    So far as sources show them. The class itself checks the rest.

    Args:
        text: the specification.
        tuned: whether it may give a learning rate and ranges, as `parse_tuned` reads them.

    Raises:
        ValueError: there is no such optimizer, or it has no such setting, or the setting takes no such value.
    """
    name, given = split(text)
    if tuned:
        parse_tuned(text)
        given.pop(LEARNING_RATE, None)
    if ":" in name:
        _check_package(name)
        if not name.startswith("torch.optim:"):
            return
    elif name not in NAMED and (found := torch_optimizers()) and name not in found:
        raise unknown_name(name, names())
    target = target_of(name)
    accepted = _accepted(target)
    ranges = {**RANGES, **LENGTH_RANGES} if target.startswith("inna.torch:") else {}
    values = dict(NAMED[name].settings) if name in NAMED else {}
    for key, value in given.items():
        check_setting(text, name, key, None if accepted is None else tuple(accepted))
        if tuned and ".." in value:
            values[key] = UNREAD
        elif accepted is not None and accepted[key] is not UNREAD:
            values[key] = check_value(text, key, accepted[key], read_value(value))
            if key in ranges and values[key] is not None:
                check_range(f"{text}: {key}", values[key], **ranges[key])
    if message := refusal(target, values):
        raise ValueError(f"{text}: {message}")


def _check_package(name: str) -> None:
    """Check that the package of ``package.module:Class`` exists.

    Raises:
        ValueError: it does not, or torch.optim has no such class.
    """
    module, _, attribute = name.partition(":")
    top = module.partition(".")[0]
    if top not in sys.modules and find_spec(top) is None and PathFinder.find_spec(top, [str(Path.cwd())]) is None:
        needed = f"; {HOW_TO_INSTALL}" if module in CONTENDER_PACKAGES else ""
        raise ValueError(f"optimizer {name}: No module named {top!r}{needed}")
    found = torch_optimizers().values()
    if module == "torch.optim" and found and attribute not in found:
        raise ValueError(
            f"optimizer {name}: {module} has no torch optimizer {attribute!r}{did_you_mean(attribute, found)}"
        )


def check_has_lr(text: str) -> None:
    """Check a specification without a learning rate, of an optimizer that has one.

    Raises:
        ValueError: as `check_specification`, or there is no learning rate to find.
    """
    name, given = split(text)
    if LEARNING_RATE in given:
        raise ValueError(f"{text}: the learning rate is to be found; do not give lr")
    check_specification(text)
    if name in NAMED and NAMED[name].lr is not None:
        raise ValueError(f"{name} has no learning rate to find; train with it as it is: inna train {name}")


def check_reference(reference: str, optimizers: Sequence[str]) -> None:
    """Check that ``reference`` is one of ``optimizers``, as specifications.

    It is a specification or a label, which begins with the name of its class.

    Raises:
        ValueError: it is neither.
    """
    compared = {split(text)[0] for text in optimizers}
    labels = [NAMED[name].label if name in NAMED else torch_optimizers().get(name, "") for name in compared]
    if any(":" in name for name in compared) or split(reference)[0] in compared:
        return
    if not all(labels) or reference.startswith(tuple(labels)):
        return
    raise ValueError(
        f"reference must be one of the optimizers compared, {', '.join(optimizers)}; got {reference!r}"
        f"{did_you_mean(reference, [*compared, *labels])}"
    )


def unknown_name(name: str, known: Collection[str]) -> ValueError:
    """Return the error about an unknown optimizer."""
    return ValueError(
        f"there is no optimizer {name!r}; there are {', '.join(known)}, and any class as package.module:Class"
        f"{did_you_mean(name, known)}"
    )


def check_setting(text: str, name: str, key: str, accepted: Collection[str] | None) -> None:
    """Check that the optimizer ``name`` has the setting ``key``.

    Args:
        text, name, key: as above.
        accepted: its settings; None if it takes any, or if they are not known.

    Raises:
        ValueError: it has not, or the setting is the learning rate.
    """
    if key == "lr":
        raise ValueError(f"{text}: lr is not a setting here; use --lr")
    if accepted is not None and key not in accepted:
        raise ValueError(
            f"{text}: {name} has no setting {key!r}; it has {', '.join(accepted)}{did_you_mean(key, accepted)}"
        )


def target_of(name: str) -> str:
    """Return the class of an optimizer as module:Class.

    "" if it is one of torch.optim, whose source is not found.
    """
    if name in NAMED or ":" in name:
        return NAMED[name].target if name in NAMED else name
    found = torch_optimizers().get(name)
    return f"torch.optim:{found}" if found else ""


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings of the optimizer of a run, in the constructor's order.

    Those of the run and of the optimizer's name, and the numbers that the constructor has as defaults, as far as its
    source is found; flags at their defaults are left out. The learning rate is not among them.

    >>> settings_of(Run("digits", "small-cnn", "heavy-ball", 0.1))
    {'momentum': 0.9, 'dampening': 0, 'weight_decay': 0}
    """
    named = NAMED.get(run.optimizer)
    given = dict(named.settings if named else {}) | run.arguments
    target = target_of(run.optimizer)
    found = constructor_defaults(target, (named and named.make) or "__init__") if target else None
    defaults = {
        name: value
        for name, value in (found[0] if found else {}).items()
        if name in given or (name != LEARNING_RATE and value is not UNREAD and _is_numeric(value))
    }
    return {name: given.get(name, value) for name, value in (defaults | given).items()}


def _is_numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_numeric, value))
    return is_number(value)


def _accepted(target: str) -> Mapping[str, Any] | None:
    """Return the settings of a class with their defaults, without its learning rate.

    None if they are not known.
    """
    found = constructor_defaults(target) if target else None
    if found is None or found[1]:
        return None
    return {name: default for name, default in found[0].items() if name != LEARNING_RATE}
