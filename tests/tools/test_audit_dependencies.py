"""What the audit of dependencies reports, and its exit status."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location(
    "audit_dependencies", Path(__file__).parents[2] / "tools" / "audit_dependencies.py"
)
assert SPEC is not None
assert SPEC.loader is not None
audit_dependencies = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit_dependencies)
verdict = audit_dependencies.verdict

SOUND = {"name": "torch", "version": "2.13.0", "vulns": []}
FLAWED = {"name": "jinja2", "version": "3.0", "vulns": [{"id": "CVE-1", "fix_versions": ["3.1"]}]}
UNKNOWN = {"name": "inna", "skip_reason": "not on the index"}


def test_no_known_vulnerability_passes():
    assert verdict([SOUND]) == ("0 known vulnerabilities in 1 of 1 dependencies", 0)


def test_a_vulnerability_is_named_and_fails():
    text, status = verdict([SOUND, FLAWED])
    assert "jinja2 3.0: CVE-1, fixed in 3.1" in text
    assert status == 1


def test_dependencies_that_the_index_does_not_know_are_no_pass():
    text, status = verdict([UNKNOWN, UNKNOWN])
    assert text.startswith("NOT AUDITED")
    assert status == audit_dependencies.UNKNOWN != 0


def test_some_that_are_unknown_are_named_and_no_pass():
    text, status = verdict([SOUND, UNKNOWN])
    assert text.splitlines()[-1] == "NOT AUDITED: inna"
    assert status == audit_dependencies.UNKNOWN


def test_a_vulnerability_beats_the_unknown():
    assert verdict([FLAWED, UNKNOWN])[1] == 1


def test_no_answer_is_no_pass(monkeypatch, tmp_path):
    monkeypatch.setattr(audit_dependencies.sys, "executable", "/bin/false")
    text, status = audit_dependencies.audit(str(tmp_path / "constraints.txt"))
    assert text.startswith("NOT AUDITED")
    assert status == audit_dependencies.UNKNOWN
