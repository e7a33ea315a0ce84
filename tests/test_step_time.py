"""Limits of benchmarks/step_time.py follow from the bytes that a step moves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from inna.torch import INNA, INNAprop
from scripts import ROOT, load_script


@pytest.fixture(scope="module")
def bench() -> Any:
    return load_script("benchmarks/step_time.py")


def test_limits_are_ratios_of_traffic(bench: Any) -> None:
    limits = {
        (each.numerator, each.denominator): round(each.limit, 2)
        for each in bench.TARGETS["cpu"]
        if each.source != bench.EARLIER
    }
    assert limits == {
        ("INNA fused", "AdamW fused"): 0.75,
        ("INNA fused, bfloat16", "AdamW fused"): 0.62,
        ("INNA fused, 8 bits", "AdamW fused"): 0.56,
        ("INNA fused", "floor (C loop)"): 1.1,
        ("INNA fused", "SGD momentum fused"): 1.0,
        ("INNAprop fused", "AdamW fused"): 1.05,
        ("INNA guarded fused", "AdamW fused"): 1.25,
        ("INNA lr_free fused", "AdamW fused"): 1.35,
        ("INNAprop lr_free fused", "AdamW fused"): 1.95,
    }


def test_bytes_are_those_of_the_state(bench: Any) -> None:
    """A step reads and writes parameter and state, and reads the gradient."""
    made = {
        "AdamW fused": lambda params: torch.optim.AdamW(params, fused=True),
        "SGD momentum fused": lambda params: torch.optim.SGD(params, momentum=0.9, fused=True),
        "INNA fused": INNA,
        "INNA fused, bfloat16": lambda params: INNA(params, momentum_dtype=torch.bfloat16),
        "INNA fused, 8 bits": lambda params: INNA(params, momentum_bits=8),
        "INNAprop fused": INNAprop,
    }
    for side, make in made.items():
        param = torch.ones(2**16, requires_grad=True)
        optimizer = make([param])
        param.grad = torch.ones_like(param)
        optimizer.step()
        state = sum(v.nbytes for v in optimizer.state[param].values() if v is not None and v.dim()) / param.numel()
        assert bench.BYTES[side] == pytest.approx((4 + 4 + state, 4 + state)), side


def test_the_table_says_what_bounds_adamw(bench: Any) -> None:
    result = json.loads((ROOT / "results" / "cpu" / "step_time.json").read_text(encoding="utf-8"))
    lines = bench.tables(result).splitlines()
    assert any("40 M in one tensor: AdamW fused moves" in line and "is bound by memory" in line for line in lines)
    assert any("LeNet, 62 k: AdamW fused moves" in line and "is not bound by memory" in line for line in lines)
    rows = [line.split(" | ") for line in lines if line.startswith("| INNA fused / AdamW fused, 40 M in one tensor | ")]
    assert [row[2:4] for row in rows] == [["at most 0.75", "20 of 28 bytes, 5 %"]]
    slow = json.loads(json.dumps(result))
    for row in slow["rows"]:
        row["ms"] *= 1 + (row["side"] == "INNA fused")
    assert sum(not each["met"] for each in bench.check_targets(slow)) > sum(
        not each["met"] for each in bench.check_targets(result)
    )
