"""The scaling model: sums, limits and orders that hold whatever the hardware."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import ROOT, load_script

model = load_script("benchmarks/scaling_model.py")
H100 = model.Machine()
jobs = st.builds(
    model.Job,
    st.floats(1e8, 2e12),
    st.integers(1, 20_000),
    st.sampled_from(model.STRATEGIES),
    gradient_bytes=st.sampled_from([2, 4]),
)
optimizers = st.sampled_from(list(model.OPTIMIZERS))


def test_bytes_per_parameter_are_those_of_the_optimizers() -> None:
    assert [model.state_bytes(name, 4) for name in model.OPTIMIZERS] == [4, 8, 8]
    # In bfloat16: float32 state and a compensation; AdamW's state is of the parameter's own dtype.
    assert [model.state_bytes(name, 2) for name in model.OPTIMIZERS] == [6, 10, 4]
    job = model.Job(1e9, 1, "DDP")
    # INNA reads theta, m, g and writes theta, m; AdamW has one more to read and to write.
    assert [model.step_bytes(name, job) for name in model.OPTIMIZERS] == [20, 28, 28]


@given(optimizers, jobs)
def test_memory_adds_up_over_the_gpus(optimizer: str, job: Any) -> None:
    whole = job.parameters * (job.parameter_bytes + job.gradient_bytes + model.state_bytes(optimizer, 4))
    on_gpu, on_host = model.memory(optimizer, job)
    if job.strategy == "DDP":
        assert on_gpu == pytest.approx(whole + job.parameters * job.compute_bytes)
        assert on_host == 0
    else:
        at_work = job.parameters / job.layers * (2 * job.compute_bytes + job.gradient_bytes)
        assert job.gpus * (on_gpu + on_host - at_work) == pytest.approx(whole, rel=1e-6)


@given(optimizers, jobs, st.integers(2, 64))
def test_more_gpus_never_take_more_memory_or_longer_optimizer_steps(optimizer: str, job: Any, factor: int) -> None:
    more = replace(job, gpus=factor * job.gpus)
    assert all(b <= a for a, b in zip(model.memory(optimizer, job), model.memory(optimizer, more), strict=True))
    before, after = (model.step_seconds(optimizer, each, H100) for each in (job, more))
    assert after["optimizer"] <= before["optimizer"]
    assert after["compute"] <= before["compute"]
    assert after["collectives"] >= before["collectives"] or job.gpus == 1
    ratio = before["optimizer"] / after["optimizer"]
    assert ratio == pytest.approx(1 if job.strategy == "DDP" else factor)


@given(jobs)
def test_fewer_bytes_never_take_longer(job: Any) -> None:
    times = {name: model.step_seconds(name, job, H100) for name in model.OPTIMIZERS}
    assert times["INNA"]["total"] <= times["AdamW"]["total"]
    assert times["INNA"]["optimizer"] / times["AdamW"]["optimizer"] == pytest.approx(
        model.step_bytes("INNA", job) / model.step_bytes("AdamW", job)
    )
    assert sum(model.memory("INNA", job)) < sum(model.memory("AdamW", job))


@given(optimizers, jobs)
def test_a_step_is_between_its_longest_part_and_the_sum_of_its_parts(optimizer: str, job: Any) -> None:
    parts = model.step_seconds(optimizer, job, H100)
    total = parts.pop("total")
    assert max(parts.values()) <= total <= sum(parts.values()) * (1 + 1e-12)
    assert 0 < model.share(optimizer, job, H100) < 1


@given(optimizers, jobs)
def test_limits_of_the_hardware(optimizer: str, job: Any) -> None:
    assert model.share(optimizer, job, replace(H100, memory_bandwidth=math.inf, host_bandwidth=math.inf)) == 0
    alone = replace(job, gpus=1)
    assert model.step_seconds(optimizer, alone, H100)["collectives"] == 0
    instant = replace(H100, operations=math.inf, node_bandwidth=math.inf, network_bandwidth=math.inf, latency=0.0)
    instant = replace(instant, host_link=math.inf)
    assert model.share(optimizer, job, instant) == pytest.approx(1)


@given(jobs.filter(lambda job: job.gpus > 1))
def test_offload_moves_memory_to_the_host_and_nothing_else(job: Any) -> None:
    here, there = replace(job, strategy="FSDP2"), replace(job, strategy="offload")
    assert sum(model.memory("INNA", here)) == pytest.approx(sum(model.memory("INNA", there)))
    assert model.collective_seconds(here, H100) == model.collective_seconds(there, H100)


def test_shape_of_gpt_3() -> None:
    assert model.Job(175e9, 1, "DDP").layers == 96


def test_the_tables_in_the_docs_are_the_models() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    begin, end = model.MARKS
    shown = text.split(begin)[1].split(end)[0].strip()
    assert shown.startswith(model.tables(None).strip())
    assert "### Predicted and measured here" in shown


def test_the_figures_can_be_drawn(tmp_path: Path) -> None:
    for path in model.draw(tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
