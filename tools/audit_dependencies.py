"""Look up known vulnerabilities of the pinned dependencies with pip-audit; part of `make lint`.

Exit status: 0 no known vulnerability, 1 a vulnerability, 3 not audited. The last means that no index answered, or that
the index knows no advisories, not even for `CONTROL`, a release with many. It is not a pass: `make audit` fails on it,
and `make lint` reports it and goes on, since work without a network must remain possible.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 25  # for all answers together
NOT_AUDITED = "NOT AUDITED:"
CONTROL = ("django", "2.0")  # not a dependency; an index without advisories answers as if it had no vulnerability
UNKNOWN = 3  # the exit status of a lookup that could not be made


def audit(requirements: str) -> tuple[str, int]:
    """Return the report on the pinned versions in the file ``requirements``, and the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--requirement", requirements]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5", "--requirement"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            control = Path(folder) / "control.txt"
            control.write_text("==".join(CONTROL), encoding="utf-8")
            done = subprocess.run([*command, str(control)], capture_output=True, text=True, timeout=SECONDS)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"{NOT_AUDITED} no index answered within {SECONDS} s", UNKNOWN
    except (ValueError, KeyError):
        last = next(reversed(done.stderr.splitlines()), "no message")
        return f"{NOT_AUDITED} pip-audit reached no index ({last})", UNKNOWN
    return verdict(found)


def verdict(dependencies: list[dict[str, object]]) -> tuple[str, int]:
    """Return the report on pip-audit's list of dependencies and the `CONTROL`, and the exit status."""
    control = [each for each in dependencies if each["name"] == CONTROL[0]]
    dependencies = [each for each in dependencies if each not in control]
    audited = [each for each in dependencies if "skip_reason" not in each]
    if not audited:
        return f"{NOT_AUDITED} the index knows none of the {len(dependencies)} dependencies", UNKNOWN
    if not any(each.get("vulns") for each in audited + control):
        return f"{NOT_AUDITED} the index knows no advisories, not even for {' '.join(CONTROL)}", UNKNOWN
    lines = [
        f"{each['name']} {each['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version'}"
        for each in audited
        for flaw in each["vulns"]  # type: ignore[attr-defined]
    ]
    lines.append(f"{len(lines)} known vulnerabilities in {len(audited)} of {len(dependencies)} dependencies")
    skipped = [str(each["name"]) for each in dependencies if "skip_reason" in each]
    if skipped:
        lines.append(f"{NOT_AUDITED} {', '.join(skipped)}")
    flawed = any(each["vulns"] for each in audited)
    return "\n".join(lines), 1 if flawed else UNKNOWN if skipped else 0


if __name__ == "__main__":
    text, status = audit(sys.argv[1])
    print(text)
    raise SystemExit(status)
