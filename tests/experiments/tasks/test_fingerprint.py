"""Fingerprints: unlike where one reachable value is another, alike in every process, refused where a part has none."""

from __future__ import annotations

import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import reachable_values
import tiny_task
from inna.experiments.tasks.fingerprint import SCHEME, fingerprint, fingerprint_class
from reachable_values import LAST_WAYS, VALUES, WAYS, Plain, task

ways = st.tuples(st.lists(st.sampled_from(sorted(WAYS)), max_size=3), st.sampled_from(sorted(LAST_WAYS))).map(
    lambda parts: [*parts[0], parts[1]]
)
two_values = st.lists(st.sampled_from(VALUES), min_size=2, max_size=2, unique_by=json.dumps)


def loss_task(loss, **settings):
    return replace(tiny_task.make_task(), loss=loss, **settings)


@settings(max_examples=40, deadline=None)
@given(ways, two_values)
def test_two_tasks_that_differ_in_one_reachable_value_are_unlike(way, values):
    first, second = values
    assert fingerprint(task(way, first)) == fingerprint(task(way, first))
    assert fingerprint(task(way, first)) != fingerprint(task(way, second))


@pytest.mark.parametrize("way", [*([name, "nothing"] for name in WAYS), *([name] for name in LAST_WAYS)], ids=str)
def test_every_way_to_a_value_counts(way):
    assert fingerprint(task(way, 0.5)) != fingerprint(task(way, 0.25))


def test_no_task_is_unlike_itself_in_another_process():
    inner = itertools.cycle(LAST_WAYS)
    recipes = [([name, next(inner)], 0.5) for name in WAYS] + [([name], 1) for name in LAST_WAYS]
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, reachable_values.__file__],
        input=json.dumps(recipes),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert json.loads(there.stdout) == [fingerprint(task(way, value)) for way, value in recipes]


def test_addresses_files_and_lines_do_not_count(tmp_path):
    text = (
        "def loss(outputs, targets, scale=[1.0]):\n    return (lambda: (outputs - targets).abs().mean() * scale[0])()\n"
    )
    prints = set()
    for name, lines in (("one", 0), ("two", 7)):
        namespace = {"__name__": "mine"}
        exec(compile("\n" * lines + text, tmp_path / name, "exec"), namespace)
        prints.add(fingerprint(loss_task(namespace["loss"])))
    assert len(prints) == 1


def test_names_and_the_order_of_parts_of_a_network_count():
    parts = {"a": nn.Linear(3, 1, bias=False), "b": nn.Identity()}

    def made(order):
        return loss_task(
            nn.MSELoss(), model=lambda: nn.Sequential(nn.ModuleDict({name: parts[name] for name in order}))
        )

    swapped = [fingerprint(replace(made(order), model_name="m")) for order in ("ab", "ba", "ab")]
    assert swapped[0] == swapped[2] != swapped[1]


def test_what_model_reads_counts(tmp_path):
    weights = tmp_path / "weights.npy"
    prints = []
    for value in (1.0, 2.0, 1.0):
        np.save(weights, np.full((1, 3), value, np.float32))
        task = loss_task(nn.MSELoss(), model=functools.partial(read_network, str(weights)), model_name="read")
        prints.append(fingerprint(task))
    assert prints[0] == prints[2] != prints[1]


def read_network(path):
    layer = nn.Linear(3, 1)
    layer.weight.data = torch.from_numpy(np.load(path))
    return layer


class Scaled(Dataset):
    def __init__(self, scale):
        self.scale = scale

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.ones(3) * self.scale, torch.ones(1)


def test_the_data_of_loaders_count_and_their_state_does_not():
    inputs, targets = tiny_task.regression_data(8, seed=1)

    def made(data, **settings):
        return loss_task(nn.MSELoss(), train=DataLoader(data, **settings))

    first = made(TensorDataset(inputs, targets), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    before = fingerprint(first)
    next(iter(first.train))
    first.train.generator.manual_seed(5)
    assert fingerprint(first) == before
    others = [
        made(TensorDataset(inputs + 1, targets), batch_size=4, shuffle=True),
        made(TensorDataset(inputs, targets), batch_size=4),
        made(TensorDataset(inputs, targets), batch_size=2, shuffle=True),
        made(TensorDataset(inputs, targets), batch_size=4, shuffle=True, drop_last=True),
        made(TensorDataset(inputs, targets), batch_size=4, shuffle=True, collate_fn=lambda batch: batch[0]),
        *(made(Scaled(scale), batch_size=4) for scale in (1, 2)),
    ]
    prints = {before, *map(fingerprint, others)}
    assert len(prints) == 1 + len(others)


def test_versions_of_installed_packages_count_and_torchs_is_in_the_rows(monkeypatch):
    from inna.experiments.tasks import packages

    uses_numpy = loss_task(lambda outputs, targets: torch.as_tensor(np.mean(outputs.numpy() - targets.numpy())))
    uses_torch = loss_task(nn.functional.mse_loss)
    before = fingerprint(uses_numpy), fingerprint(uses_torch)
    monkeypatch.setattr(packages, "_version", lambda package: "0.0.1")
    assert fingerprint(uses_numpy) != before[0]
    assert fingerprint(uses_torch) == before[1]


PARTS = {
    "file": lambda: Path(os.devnull).open("rb"),  # noqa: SIM115
    "generator": lambda: (number for number in range(3)),
    "lock": threading.Lock,
    "socket": socket.socket,
    "thread": lambda: threading.Thread(target=print),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_without_a_fingerprint_is_refused_by_its_path(name):
    part = PARTS[name]()

    def loss(outputs, targets, *, given=None):
        return part, given

    for broken, path in (
        (functools.partial(nn.functional.mse_loss, delta=part), "loss.delta"),
        (Plain({"a": [part]}), r"loss\.part\['a'\]\[0\]"),
        (Plain(nn.ModuleList([reachable_values.Module(part)])), r"loss\.part\.0\.part"),
        (loss, r"loss\.part"),
    ):
        with pytest.raises(
            ValueError, match=rf"task tiny: {path}.* cannot be fingerprinted .*Task\(\.\.\., version="
        ) as e:
            fingerprint(loss_task(broken))
        assert "\n" not in str(e.value)
        one, other = (fingerprint(loss_task(broken, version=version)) for version in ("1", "2"))
        assert one == fingerprint(loss_task(broken, version="1")) != other
    getattr(part, "close", lambda: None)()


def test_a_version_stands_for_that_part_only():
    def made(scale):
        return loss_task(functools.partial(max, threading.Lock(), scale), version="1")

    assert fingerprint(made(1)) == fingerprint(made(1)) != fingerprint(made(2))


def test_singledispatch_and_caches_do_not_change_by_calls():
    @functools.singledispatch
    def scale(value):
        return 1

    @functools.lru_cache
    def cached(value):
        return value

    made = loss_task(lambda outputs, targets: scale(cached(outputs)))
    before = fingerprint(made)
    scale(1), cached(1)
    assert fingerprint(made) == before
    scale.register(float, lambda value: 2)
    assert fingerprint(made) != before


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantiz")
def test_odd_tensors_have_fingerprints():
    dense = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    parts = [
        dense,
        dense.double(),
        dense.clone().requires_grad_(),
        dense.detach().to_sparse(),
        dense.detach().to_sparse_csr(),
        dense.detach().to("meta"),
        torch.complex(dense, dense).detach().conj(),
        torch.quantize_per_tensor(dense.detach(), 0.1, 0, torch.qint8),
        torch.empty(0),
        torch.tensor(1.0),
        nn.LazyLinear(3),
        np.array([("a", 1.0)], dtype=[("name", "O"), ("value", "f8")]),
        np.array([1, 2], dtype=np.longdouble),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ]
    prints = [fingerprint(loss_task(Plain(part))) for part in parts]
    assert len({*prints}) == len(parts)
    assert prints == [fingerprint(loss_task(Plain(part))) for part in parts]


def test_fingerprints_begin_with_their_scheme():
    assert fingerprint(tiny_task.make_task()).startswith(SCHEME)


def test_classes_of_optimizers(monkeypatch):
    class Mine(torch.optim.SGD):
        factor = 2.0

    class WithStep(Mine):
        def step(self, closure=None):
            return super().step(closure)

    before = fingerprint_class(Mine)
    assert fingerprint_class(torch.optim.Adam) == ""
    for kind in (Mine, WithStep):
        unused = fingerprint_class(kind)
        kind([torch.nn.Parameter(torch.ones(1))])  # torch wraps its step
        assert fingerprint_class(kind) == unused
    monkeypatch.setattr(Mine, "factor", 3.0)
    assert fingerprint_class(Mine) != before
    Mine.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"Mine\.lock cannot be fingerprinted .* an attribute version"):
        fingerprint_class(Mine)
    Mine.version = "1"
    assert fingerprint_class(Mine).startswith(SCHEME)


def test_functions_of_ones_own_modules_count_however_deep(tmp_path, monkeypatch):
    names = ("mine_below", "mine_above")
    (tmp_path / f"{names[1]}.py").write_text(
        f"import {names[0]}\n"
        f"def direct(o, t):\n    return {names[0]}.scale() * (o - t).abs().mean()\n"
        f"def late(o, t):\n    from {names[0]} import scale\n    return scale() * (o - t).abs().mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    prints = []
    for value in (1, 2):
        (tmp_path / f"{names[0]}.py").write_bytes(f"VALUE = {value}\ndef scale():\n    return VALUE\n".encode())
        for name in names:
            sys.modules.pop(name, None)
        above = __import__(names[1])
        prints += [fingerprint(loss_task(above.direct)), fingerprint(loss_task(above.late))]
        above.mine_below.VALUE = 7
        prints.append(fingerprint(loss_task(above.direct)))
    for name in names:
        sys.modules.pop(name, None)
    assert len({*prints}) == len(prints)


def test_of_a_module_in_a_closure_or_a_default_the_used_attributes_count(tmp_path, monkeypatch):
    (tmp_path / "my_settings.py").write_text("VALUE = UNUSED = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("my_settings")

    def defaulted(outputs, targets, module=module):
        return module.VALUE * (outputs - targets).abs().mean()

    losses = [defaulted, lambda outputs, targets: module.VALUE * (outputs - targets).abs().mean()]
    before = [fingerprint(loss_task(loss)) for loss in losses]
    module.UNUSED = 2
    assert [fingerprint(loss_task(loss)) for loss in losses] == before
    module.VALUE = 2
    after = [fingerprint(loss_task(loss)) for loss in losses]
    sys.modules.pop("my_settings")
    assert all(one != other for one, other in zip(before, after, strict=True))


@given(st.permutations(["a", 1, None, 0.5]))
def test_the_order_of_dictionaries_counts_and_that_of_sets_does_not(keys):
    first = ["a", 1, None, 0.5]
    for kind in (dict.fromkeys, reachable_values.MyDict.fromkeys, Counter):
        prints = [fingerprint(loss_task(Plain(kind(order)))) for order in (first, keys)]
        assert (prints[0] == prints[1]) == (first == keys)
    for kind in (set, frozenset):
        assert fingerprint(loss_task(Plain(kind(first)))) == fingerprint(loss_task(Plain(kind(keys))))


def test_generators_of_numpy_count():
    prints = [fingerprint(loss_task(Plain(np.random.default_rng(seed)))) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
