"""What the audit of dependencies reports, and its exit status."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts import load_script

audit_dependencies = load_script("tools/audit_dependencies.py")
verdict = audit_dependencies.verdict

SOUND = {"name": "torch", "version": "2.13.0", "vulns": []}
FLAWED = {"name": "jinja2", "version": "3.0", "vulns": [{"id": "CVE-1", "fix_versions": ["3.1"]}]}
UNKNOWN = {"name": "inna", "skip_reason": "not on the index"}
NAME, VERSION = audit_dependencies.CONTROL
CONTROL = {"name": NAME, "version": VERSION, "vulns": [{"id": "CVE-2", "fix_versions": []}]}
NO_ADVISORIES = CONTROL | {"vulns": []}


def test_no_known_vulnerability_passes():
    assert verdict([SOUND, CONTROL]) == ("0 known vulnerabilities in 1 of 1 dependencies", 0)


def test_a_vulnerability_is_named_and_fails():
    text, status = verdict([SOUND, FLAWED, CONTROL])
    assert "jinja2 3.0: CVE-1, fixed in 3.1" in text
    assert status == 1


def test_dependencies_that_the_index_does_not_know_are_no_pass():
    text, status = verdict([UNKNOWN, UNKNOWN, CONTROL])
    assert text.startswith("NOT AUDITED")
    assert status == audit_dependencies.UNKNOWN != 0


def test_some_that_are_unknown_are_named_and_no_pass():
    text, status = verdict([SOUND, UNKNOWN, CONTROL])
    assert text.splitlines()[-1] == "NOT AUDITED: inna"
    assert status == audit_dependencies.UNKNOWN


def test_a_vulnerability_beats_the_unknown():
    assert verdict([FLAWED, UNKNOWN, CONTROL])[1] == 1


@pytest.mark.parametrize("control", [[NO_ADVISORIES], [{"name": NAME, "skip_reason": "not on the index"}], []])
def test_an_index_without_advisories_is_no_pass(control):
    text, status = verdict([SOUND, *control])
    assert text.startswith("NOT AUDITED: the index knows no advisories")
    assert status == audit_dependencies.UNKNOWN


def test_what_the_index_answers_is_a_list_with_the_control(monkeypatch, tmp_path):
    def answer(command, **options):
        content = "".join(
            Path(command[i + 1]).read_text("utf-8") for i, part in enumerate(command) if part == "--requirement"
        )
        names = [line.split("==") for line in content.splitlines()]
        found = [{"name": name, "version": version, "vulns": []} for name, version in names]
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": found}), "")

    requirements = tmp_path / "constraints.txt"
    requirements.write_text("torch==2.13.0\n")
    monkeypatch.setattr(audit_dependencies.subprocess, "run", answer)
    text, status = audit_dependencies.audit(str(requirements))
    assert text == f"NOT AUDITED: the index knows no advisories, not even for {NAME} {VERSION}"
    assert status == audit_dependencies.UNKNOWN


def test_no_answer_is_no_pass(monkeypatch, tmp_path):
    monkeypatch.setattr(audit_dependencies.sys, "executable", "/bin/false")
    text, status = audit_dependencies.audit(str(tmp_path / "constraints.txt"))
    assert text.startswith("NOT AUDITED")
    assert status == audit_dependencies.UNKNOWN
