"""Losses that can reach a value by a way of many kinds; subprocesses build the same ones."""

from __future__ import annotations

import collections
import enum
import functools
import json
import sys
import types
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from inna.experiments.tasks.fingerprint import fingerprint
from inna.experiments.tasks.task import Task

VALUES = [0, 1, 2, True, False, None, 0.5, 0.25, 1.0, -0.0, 0.0, "", "a", "1", "\u00e9", [1], [1.0], [[]], []]
HELD = []  # what weak references refer to
MODULE = sys.modules[__name__]


class Plain:
    def __init__(self, part):
        self.part = part

    def method(self, outputs, targets):
        return self.part

    def __call__(self, outputs, targets):
        return self.part


class Slotted:
    __slots__ = ("__hidden", "part")

    def __init__(self, part):
        self.part, self.__hidden = None, part


class SlotsAndMore(Slotted):
    """With a dictionary too, and a pickled form that omits everything."""

    def __init__(self, part):
        super().__init__(None)
        self.more = part

    def __getstate__(self):
        return {}

    def __reduce__(self):
        return (SlotsAndMore, (None,))

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@dataclass(frozen=True)
class Record:
    part: Any
    parts: tuple[Any, ...] = ()


class Pair(NamedTuple):
    first: Any
    second: Any = 0


class MyList(list):
    pass


class MyDict(dict):
    pass


class Module(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part
        self.inner = nn.ModuleList([nn.Linear(1, 1, bias=False)])
        nn.init.ones_(self.inner[0].weight)


def number(value: Any) -> float:
    """A small number that differs between the values."""
    return 1.0 + [json.dumps(each) for each in VALUES].index(json.dumps(value))


def in_buffer(part):
    module = Module(None)
    module.register_buffer("buffer", torch.tensor([1.0, number(part)]))
    return module


def in_parameter(part):
    module = Module(None)
    with torch.no_grad():
        module.inner[0].weight.fill_(number(part))
    return module


def in_a_hook(part):
    module = Module(None)
    module.register_forward_hook(lambda *given: part)
    return module


def in_default(part):
    def loss(outputs, targets, part=part):
        return part

    return loss


def in_keyword_default(part):
    def loss(outputs, targets, *, part=part):
        return part

    return loss


def in_closure(part):
    def outer():
        def inner():
            return part

        return inner

    return lambda outputs, targets: outer()


def in_function_attribute(part):
    def loss(outputs, targets):
        return loss.part

    loss.part = part
    return loss


def in_global(part):
    def loss(outputs, targets):
        return [REACHED for _ in range(2)]  # noqa: F821

    return types.FunctionType(loss.__code__, {"REACHED": part, "__name__": __name__})


def in_module_attribute(part):
    module = types.ModuleType("my_settings")
    module.inner = types.ModuleType("my_settings.inner")
    module.inner.REACHED = part

    def loss(outputs, targets):
        return my_settings.inner.REACHED  # noqa: F821

    return types.FunctionType(loss.__code__, {"my_settings": module, "__name__": __name__})


def in_a_held_module(part):
    module = types.ModuleType("my_held_settings")
    module.inner = types.ModuleType("my_held_settings.inner")
    module.inner.REACHED = part
    holder = Plain({"settings": [module]})
    return lambda outputs, targets: holder.part["settings"][0].inner.REACHED


def in_a_wrapped_function(part):
    """Looks like a function of torch."""

    @functools.wraps(nn.functional.mse_loss)
    def loss(*given):
        return part

    return loss


def in_class_attribute(part):
    return type("Made", (Plain,), {"setting": part, "__module__": __name__})(None)


def in_enum(part):
    return enum.Enum("Colour", {"RED": (1, json.dumps(part)), "BLUE": (2, "")}, module=__name__)["RED"]


def in_cycle(part):
    entries: list[Any] = [part]
    holder = Plain(entries)
    entries += [holder, {"again": entries}]
    return holder


def in_weak_reference(part):
    HELD.append(Plain(part))
    return weakref.ref(HELD[-1])


def in_cached_function(part):
    @functools.lru_cache
    def loss():
        return part

    return loss


def in_object_array(part):
    array = np.empty(2, dtype=object)
    array[0] = part
    return array


WAYS: dict[str, Callable[[Any], Any]] = {
    "list": lambda part: [1, [part, 2]],
    "tuple": lambda part: (1, (part, 2)),
    "my list": lambda part: MyList([part]),
    "my dict": lambda part: MyDict(part=part),
    "dict": lambda part: {"a": 1, "b": part, 3: 4},
    "ordered dict": lambda part: collections.OrderedDict([("a", 1), ("b", part)]),
    "default dict": lambda part: collections.defaultdict(list, a=part),
    "deque": lambda part: collections.deque([part], maxlen=7),
    "key": lambda part: {Plain(part): 1},
    "partial": lambda part: functools.partial(nn.functional.huber_loss, delta=part),
    "nested partial": lambda part: functools.partial(functools.partial(max, 1, [part]), 2, key=len),
    "object": Plain,
    "slots": Slotted,
    "slots and a dictionary": SlotsAndMore,
    "dataclass": Record,
    "dataclass list": lambda part: Record(0, (part,)),
    "named tuple": Pair,
    "namespace": lambda part: types.SimpleNamespace(part=part),
    "mapping proxy": lambda part: types.MappingProxyType({"part": part}),
    "bound method": lambda part: Plain(part).method,
    "built-in bound method": lambda part: [part].index,
    "module attribute": Module,
    "module in an object": lambda part: Plain(nn.Sequential(Module(part))),
    "hook": in_a_hook,
    "default": in_default,
    "keyword default": in_keyword_default,
    "closure": in_closure,
    "lambda in a list": lambda part: [lambda: part],
    "function attribute": in_function_attribute,
    "global": in_global,
    "attribute of a module": in_module_attribute,
    "module in a container": in_a_held_module,
    "wrapped function": in_a_wrapped_function,
    "class attribute": in_class_attribute,
    "property": lambda part: type("Made", (), {"part": property(lambda self: part), "__module__": __name__})(),
    "cycle": in_cycle,
    "weak reference": in_weak_reference,
    "cached function": in_cached_function,
    "object array": in_object_array,
}
# These keep a number or a text that is made from the value.
LAST_WAYS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda part: part,
    "set": lambda part: {"a", "b", "c", json.dumps(part)},
    "frozen set of tuples": lambda part: frozenset({("a", 1), ("b", 2), (json.dumps(part), 3)}),
    "set of objects": lambda part: {Pair(name, Record(json.dumps(part))) for name in "abc"},
    "dict": lambda part: {name: json.dumps(part) for name in ("a", "b", "c", "d")},
    "array": lambda part: np.array([[1.0, number(part)]]),
    "scalar": lambda part: np.float64(number(part)),
    "tensor": lambda part: torch.tensor([[1.0, number(part)]]).t(),
    "half tensor": lambda part: torch.tensor([number(part)], dtype=torch.bfloat16).repeat(2),
    "buffer": in_buffer,
    "parameter": in_parameter,
    "built-in loss": lambda part: nn.HuberLoss(delta=number(part)),
    "enum": in_enum,
    "code": lambda part: eval(f"lambda outputs, targets: {json.dumps(part)!r}"),
    "generator": lambda part: torch.Generator().manual_seed(int(number(part))),
}


def network() -> nn.Module:
    return nn.Identity()


def task(ways: Sequence[str], value: Any) -> Task:
    """A task whose loss reaches ``value`` by ``ways``, the last one innermost."""
    *outer, last = ways
    part = LAST_WAYS[last](value)
    for way in reversed(outer):
        part = WAYS[way](part)
    data = (torch.ones(1, 1), torch.ones(1, 1))
    return Task("reached", network, data, data, functools.partial(nn.functional.mse_loss, part))


if __name__ == "__main__":
    json.dump([fingerprint(task(ways, value)) for ways, value in json.load(sys.stdin)], sys.stdout)
