"""Ask the package index for known vulnerabilities of the pinned dependencies; part of `make lint`.

pip-audit asks. Where no index answers, or none that knows advisories, this says so and passes: a check that cannot be
made must not stop work without a network. A vulnerability that is found is exit status 1.
"""

from __future__ import annotations

import json
import subprocess
import sys

SECONDS = 25  # for all answers together
NOT_AUDITED = "dependencies were not audited:"


def audit(requirements: str) -> tuple[str, int]:
    """What to say of the pinned versions in the file ``requirements``, and the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--requirement", requirements]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"{NOT_AUDITED} no index answered within {SECONDS} s", 0
    except (ValueError, KeyError):
        last = next(reversed(done.stderr.splitlines()), "nothing was said")
        return f"{NOT_AUDITED} pip-audit could not ask an index ({last})", 0
    return verdict(found)


def verdict(dependencies: list[dict[str, object]]) -> tuple[str, int]:
    """The same of pip-audit's list of dependencies."""
    audited = [each for each in dependencies if "skip_reason" not in each]
    if not audited:
        return f"{NOT_AUDITED} the index here knows no advisories on any of the {len(dependencies)}", 0
    lines = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for each in audited
        for flaw in each["vulns"]  # type: ignore[attr-defined]
    ]
    lines.append(f"{len(lines)} known vulnerabilities in {len(audited)} dependencies of {len(dependencies)} asked for")
    return "\n".join(lines), int(len(lines) > 1)


if __name__ == "__main__":
    text, status = audit(sys.argv[1])
    print(text)
    raise SystemExit(status)
