"""Find optimizers by name: built-in ones, ``torch.optim``, importable classes.

A specification is ``name`` or ``name:setting=value,setting=value``, for instance ``inna:alpha=.5,beta=.1``,
``adamw:weight_decay=.01`` or ``mypackage.optim:MyOptimizer:eps=1e-6``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from inna.checks import did_you_mean
from inna.experiments.rows.results import GUARD_MEASURES
from inna.experiments.rows.run import Run
from inna.experiments.study.optimizer_names import (
    CONTENDER_PACKAGES,
    HOW_TO_INSTALL,
    NAMED,
    check_setting,
    split,
    unknown_name,
)
from inna.experiments.study.search_space import LEARNING_RATE
from inna.experiments.tasks.exits import ExitGuard
from inna.experiments.tasks.fingerprint import fingerprint_class
from inna.experiments.tasks.own_code import changed_file, import_module
from inna.experiments.tasks.task import describe_error
from inna.experiments.training.parts.joint import takes_network
from inna.specifications import check_number, check_value, is_number, read_value

__all__ = [
    "RefusedError",
    "Specification",
    "build",
    "class_of",
    "default_lr",
    "guard_measures",
    "library_lr",
    "lr_shares",
    "names",
    "parse",
]


class RefusedError(ValueError):
    """The constructor of an optimizer refuses its settings."""


@dataclass(frozen=True)
class Specification:
    """A parsed specification.

    The dampings are None for optimizers without them, ``source`` is as in `Run`.
    """

    name: str
    optimizer: type[torch.optim.Optimizer]
    label: str
    alpha: float | None
    beta: float | None
    settings: tuple[tuple[str, Any], ...]
    source: str


def names() -> list[str]:
    """Return all names, those of the comparison first."""
    return [*NAMED, *(name for name in _torch_classes() if name not in NAMED)]


def parse(text: str, searched: Collection[str] = (), shown: Sequence[str] = ()) -> Specification:
    """Parse a specification, and check its settings against the class.

    Numbers, true, false, none and tuples are read as such, everything else as text.

    Args:
        text: the specification.
        searched: names of settings that a search tunes; dampings among them are None.
        shown: further parts of the label.

    Raises:
        ValueError: there is no such optimizer (the message lists them), or it has no such setting.
    """
    name, given = split(text)
    named = NAMED.get(name)
    optimizer = _class(named.target if named else name)
    if changed := changed_file(sys.modules[optimizer.__module__]):
        raise ValueError(f"optimizer {name}: {changed} has changed since this process imported it; start Python again")
    accepted = _accepted(optimizer)
    settings: dict[str, Any] = {}
    for key in searched:
        if key != LEARNING_RATE:
            check_setting(text, name, key, accepted)
    for key, value in given.items():
        check_setting(text, name, key, accepted)
        settings[key] = check_value(text, key, accepted[key] if accepted else None, read_value(value))
    alpha = beta = None
    if named and named.dampings:
        alpha, beta = (
            None if key in searched else check_number(text, key, settings.pop(key, default))
            for key, default in zip(("alpha", "beta"), named.dampings, strict=True)
        )
    settled = named.settings if named else {}
    deviations = {key: value for key, value in settings.items() if key not in settled or settled[key] != value}
    return Specification(
        name=name,
        optimizer=optimizer,
        label=_label(named.label if named else optimizer.__name__, alpha, beta, deviations, shown),
        alpha=alpha,
        beta=beta,
        settings=tuple(sorted(deviations.items())),
        source=fingerprint_class(optimizer),
    )


def build(run: Run, network: nn.Module, extra: Mapping[str, Any] = MappingProxyType({})) -> torch.optim.Optimizer:
    """Return the optimizer of ``run`` for all parameters of ``network``.

    A class whose first argument is called ``network`` is given the network itself.

    Args:
        run: names the optimizer and its settings.
        network: the network.
        extra: settings that do not change what is computed, such as those of `graph_settings`.

    Raises:
        RefusedError: a setting is out of range.
        ValueError: there is no such optimizer, or its class is another one than the run's.
        TypeError: a setting that it does not have.
    """
    named = NAMED.get(run.optimizer)
    settings: dict[str, Any] = dict(named.settings) if named else {}
    settings |= dict(extra) | run.arguments
    kind = class_of(run)
    if run.optimizer_source and run.optimizer_source != fingerprint_class(kind):
        raise ValueError(f"{run.optimizer} is not the optimizer of the run: its code was changed")
    optimizer: Callable[..., torch.optim.Optimizer] = getattr(kind, named.make) if named and named.make else kind
    try:
        return optimizer(network if takes_network(kind) else network.parameters(), lr=run.lr, **settings)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def guard_measures(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return the measures of a guarded INNA for an entry of the history.

    ``guarded_share`` is the share of all steps so far that the guard shortened, ``last_lr`` the learning rate of the
    last step after the guard. Both are 0 before the first step. There are none without a guard.
    """
    if optimizer.param_groups[0].get("loss_bound") is None:
        return {}
    return {name: float(getattr(optimizer, name)) for name in GUARD_MEASURES if hasattr(optimizer, name)}


def lr_shares(run: Run, optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates of the groups, divided by the run's.

    Args:
        run: the run.
        optimizer: its optimizer, before the first step. The groups of a class that takes parameters have a share of 1.
    """
    if not takes_network(type(optimizer)):
        return [1.0] * len(optimizer.param_groups)
    return [float(group["lr"]) / run.lr for group in optimizer.param_groups]


def class_of(run: Run) -> type[torch.optim.Optimizer]:
    """Return the class of the optimizer of ``run``.

    Raises:
        ValueError: there is no such optimizer.
    """
    named = NAMED.get(run.optimizer)
    return _class(named.target if named else run.optimizer)


def default_lr(specification: Specification) -> float:
    """Return the default learning rate of the class.

    Raises:
        ValueError: it has no default.
    """
    lr = library_lr(specification)
    if lr is None:
        raise ValueError(f"{specification.name} has no default learning rate: give --lr")
    return lr


def library_lr(specification: Specification) -> float | None:
    """Return the default learning rate of the class; None if it has none."""
    lr = inspect.signature(specification.optimizer).parameters["lr"].default
    return float(lr) if is_number(lr) else None


def _class(name: str) -> type[torch.optim.Optimizer]:
    if ":" not in name:
        try:
            return _torch_classes()[name]
        except KeyError:
            raise unknown_name(name, names()) from None
    module, _, attribute = name.partition(":")
    try:
        with ExitGuard():
            found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        needed = f"; {HOW_TO_INSTALL}" if module in CONTENDER_PACKAGES else ""
        raise ValueError(f"optimizer {name}: {error}{needed}") from None
    except Exception as error:
        raise ValueError(f"optimizer {name}: importing {module} failed: {describe_error(error)}") from error
    if not isinstance(found, type) or not issubclass(found, torch.optim.Optimizer):
        near = did_you_mean(attribute, vars(sys.modules[module]))
        raise ValueError(f"optimizer {name}: {module} has no torch optimizer {attribute!r}{near}")
    if "lr" not in inspect.signature(found).parameters:
        raise ValueError(f"optimizer {name}: {attribute} takes no lr, so there is nothing to tune")
    return found


def _torch_classes() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name.lower(): value
        for name, value in sorted(vars(torch.optim).items())
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }


def _accepted(optimizer: type[torch.optim.Optimizer]) -> dict[str, Any] | None:
    """Return the settings of a class with their defaults; None if it takes any."""
    parameters = list(inspect.signature(optimizer).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {p.name: p.default for p in parameters[1:] if p.name != "lr"}


def _label(
    label: str, alpha: float | None, beta: float | None, settings: Mapping[str, Any], shown: Sequence[str]
) -> str:
    if (alpha is None) != (beta is None):
        dampings = [f"{name}={damping:g}" for name, damping in (("α", alpha), ("β", beta)) if damping is not None]
    else:
        dampings = [f"{damping:g}" for damping in (alpha, beta) if damping is not None]
    return label + _in_parentheses(
        dampings
        + [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()]
        + list(shown)
    )


def _in_parentheses(parts: list[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""
