"""The README's code runs as written, and its two SGD lines make the same iterates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_ten_lines_run():
    names: dict[str, object] = {}
    exec(BLOCKS[0], names)
    assert names["optimizer"].param_groups[0]["lr"] == pytest.approx(0.1 * 2**-0.5)


def test_the_two_lines_take_the_same_steps():
    from inna import INNA

    ends = []
    for line in BLOCKS[1].splitlines():
        theta = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        names = {"torch": torch, "INNA": INNA, "params": [theta]}
        exec(line, names)
        for _ in range(50):
            theta.grad = 3 * theta.detach() - 1
            names["optimizer"].step()
        ends.append(theta.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_the_files_it_links_to_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (README.parent / link).exists()]
