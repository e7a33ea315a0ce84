"""Every demonstration holds, through the command line; and one that does not is reported as such."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

from inna.cli import run
from inna.theory.demonstrations import names, registry, run_demonstrations


def test_theory_check_prints_every_demonstration_and_all_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["theory-check"]) == 0
    printed = capsys.readouterr().out
    verdicts = dict(re.findall(r"^([\w-]+): (holds|DOES NOT HOLD) ", printed, flags=re.MULTILINE))
    assert list(verdicts) == names()
    assert set(verdicts.values()) == {"holds"}
    assert len(verdicts) >= 20
    for label in ("statement", "expected", "measured", "source"):
        assert printed.count(f"  {label} ") == len(verdicts)
    assert printed.rstrip().endswith(f"{len(verdicts)} of {len(verdicts)} hold")


def test_theory_check_fails_where_one_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = registry.Demonstration("wrong", "1 + 1 = 3", "3", "nowhere", lambda: ("2", False))
    monkeypatch.setitem(registry._DEMONSTRATIONS, "wrong", wrong)
    assert run(["theory-check", "--only", "wrong", "stable-window"]) == 1
    printed = capsys.readouterr().out
    assert "wrong: DOES NOT HOLD" in printed
    assert "1 of 2 hold" in printed


def test_an_unknown_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["theory-check", "--only", "rotes"]) == 2
    assert "there is no demonstration 'rotes'; there are figure-1, " in capsys.readouterr().err
    with pytest.raises(ValueError, match="no demonstration 'rotes'"):
        run_demonstrations(["rates", "rotes"])
    with pytest.raises(ValueError, match="already a demonstration named 'rates'"):
        registry.demonstration("rates", statement="", expected="", source="")(lambda: ("", True))
