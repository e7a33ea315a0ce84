"""Names of optimizers, and checks of specifications that import no framework.

A misspelt name is refused at once: importing torch takes seconds. torch's own optimizers and the settings of every
built-in name are read from the sources. `inna.experiments.training.optimizers` parses a specification in full.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inna.checks import did_you_mean
from inna.dynamics import INNA_DEFAULTS, INNAPROP_DEFAULTS
from inna.specifications import parse_settings

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "NAMED",
    "Named",
    "check_reference",
    "check_setting",
    "check_specification",
    "names",
    "split",
    "unknown_name",
]


@dataclass(frozen=True)
class Named:
    """A built-in optimizer: its class, its label, and the settings of its name."""

    target: str
    label: str
    settings: Mapping[str, Any]
    dampings: tuple[float, float] | None = None


NAMED: Mapping[str, Named] = {
    "inna": Named("inna.torch:INNA", "INNA", {}, (INNA_DEFAULTS.alpha, INNA_DEFAULTS.beta)),
    "innaprop": Named("inna.torch:INNAprop", "INNAprop", {}, (INNAPROP_DEFAULTS.alpha, INNAPROP_DEFAULTS.beta)),
    "sgd": Named("torch.optim:SGD", "SGD", {}),
    "heavy-ball": Named("torch.optim:SGD", "heavy ball", {"momentum": 0.9}),
    "nesterov": Named("torch.optim:SGD", "Nesterov", {"momentum": 0.9, "nesterov": True}),
    "adagrad": Named("torch.optim:Adagrad", "AdaGrad", {}),
    "adam": Named("torch.optim:Adam", "Adam", {}),
    "adamw": Named("torch.optim:AdamW", "AdamW", {}),
}
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
    """Return all names, those of the comparison first; torch's only where its sources can be read."""
    return [*NAMED, *(name for name in _torch_optimizers() if name not in NAMED)]


def split(text: str) -> tuple[str, dict[str, str]]:
    """Split a specification into name and settings; an importable class contains a colon itself.

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


def check_specification(text: str) -> None:
    """Check the name and the names of the settings, as far as that is possible without an import.

    Raises:
        ValueError: there is no such optimizer, or it has no such setting.
    """
    name, given = split(text)
    if ":" in name:
        return
    if name not in NAMED and (found := _torch_optimizers()) and name not in found:
        raise unknown_name(name, names())
    accepted = _settings(NAMED[name].target if name in NAMED else f"torch.optim:{_torch_optimizers().get(name)}")
    for key in given:
        check_setting(text, name, key, accepted)


def check_reference(reference: str, optimizers: Sequence[str]) -> None:
    """Check that ``reference`` can be one of ``optimizers``, which are specifications.

    It is a specification or a label, which begins with the name of its class.

    Raises:
        ValueError: it is neither.
    """
    compared = {split(text)[0] for text in optimizers}
    labels = [NAMED[name].label if name in NAMED else _torch_optimizers().get(name, "") for name in compared]
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
    """Check that the optimizer ``name`` of the specification ``text`` has the setting ``key``.

    Args:
        text, name, key: as above.
        accepted: its settings; None if it takes any, or if they are not known.

    Raises:
        ValueError: it has not, or the setting is the learning rate.
    """
    if key == "lr":
        raise ValueError(f"{text}: lr is not a setting here; use --grid for several learning rates, --lr for one")
    if accepted is not None and key not in accepted:
        raise ValueError(
            f"{text}: {name} has no setting {key!r}; it has {', '.join(accepted)}{did_you_mean(key, accepted)}"
        )


@cache
def _torch_optimizers() -> Mapping[str, str]:
    """Return the classes of torch.optim by their names in small letters; empty if its source cannot be read."""
    imported = (name for _, name in _imports("torch.optim"))
    return MappingProxyType(
        {name.lower(): name for name in sorted(imported) if name[0].isupper() and name != "Optimizer"}
    )


@cache
def _settings(target: str) -> tuple[str, ...] | None:
    """Return the arguments of a class, package:Class, without params and lr; None if they are not known."""
    package, _, name = target.partition(":")
    module = next((module for module, imported in _imports(package) if imported == name), package)
    for node in ast.walk(_source(module) or ast.Module([], [])):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__" and method.args.kwarg is None:
                    arguments = [*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs]
                    return tuple(each.arg for each in arguments[2:] if each.arg != "lr")
    return None


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of what the ``__init__`` of ``package`` imports from elsewhere."""
    tree = _source(package)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.asname or alias.name) for alias in node.names)


def _source(module: str) -> ast.Module | None:
    """Parse the source of ``module``, of which nothing is imported; None if it is not found."""
    top, *rest = module.split(".")
    found = find_spec(top)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent.joinpath(*rest)
    try:
        return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
