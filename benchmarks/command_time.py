"""Processor time of commands: help, refusals of wrong arguments, a report, and the import of inna.torch.

    python benchmarks/command_time.py [--folder results/mnist-lenet] [--rounds 3]

User and system time of the process and its children, the least of the rounds. The report is made of a copy of the
folder. Its first round also puts the charting library together, if the user's cache folder has none. The time of
``import inna.torch`` is what it adds to ``import torch``. The exit status is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

HELP = (["--help"], ["compare", "--help"], ["train", "--help"], ["reproduce", "--help"])
REFUSED = (
    ["compar"],
    ["compare", "--bogus"],
    ["compare", "--dataset", "digts"],
    ["compare", "--dataset", "digits[:99999]"],
    ["compare", "--optimizer", "adm"],
    ["compare", "--optimizer", "adamw:weight_decay=x"],
    ["compare", "--optimizer", "adamw:eps=-1"],
    ["compare", "--optimizer", "inna:alpha=-1"],
    ["compare", "--optimizer", "inna:time_step=-1"],
    ["compare", "--optimizer", "nowhere:Foo"],
    ["compare", "--epochs", "-1"],
    ["train", "--device", "cdua"],
    ["train", "--task", "nowhere.py:make"],
    ["report", "nowhere"],
    ["landscape", "--objective", "nonsense"],
)
HELP_LIMIT, REPORT_LIMIT, IMPORT_LIMIT = 1.0, 3.0, 0.3


def processor_time(command: list[str], status: int) -> float:
    """Seconds of user and system time of a command that ends with ``status``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise SystemExit(f"{command} ended with {done.returncode}, not {status}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure, print the table and compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("results/mnist-lenet"), help="of results (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    arguments = parser.parse_args()
    measured: list[tuple[str, float, float]] = []

    def least(command: list[str], status: int = 0) -> float:
        return min(processor_time(command, status) for _ in range(arguments.rounds))

    for line in HELP:
        measured.append((f"inna {' '.join(line)}", least(["-m", "inna", *line]), HELP_LIMIT))
    for line in REFUSED:
        measured.append((f"inna {' '.join(line)}", least(["-m", "inna", *line], 2), HELP_LIMIT))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / arguments.folder.name
        shutil.copytree(arguments.folder, folder)
        seconds = least(["-m", "inna", "report", str(folder)])
        measured.append((f"inna report {arguments.folder}", seconds, REPORT_LIMIT))
    added = least(["-c", "import inna.torch"]) - least(["-c", "import torch"])
    measured.append(("import inna.torch, beyond import torch", added, IMPORT_LIMIT))
    table = Table("command", "processor time, s", "limit", "met")
    for name, seconds, limit in measured:
        table.add_row(name, f"{seconds:.2f}", f"at most {limit:g}", "yes" if seconds <= limit else "no")
    Console(width=110).print(table)
    return int(any(seconds > limit for _, seconds, limit in measured))


if __name__ == "__main__":
    sys.exit(main())
