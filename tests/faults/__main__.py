"""The program: every kind of fault in turn, the rows as JSON, the tables in docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

import faults
from faults.account import Account
from faults.clock import set_back_often, unavailable
from faults.cluster import kill_in_clusters
from faults.commands import short_sweep, sweep_in_one_process, sweep_in_two_processes, training
from faults.corruption import damage_files
from faults.full_disk import fill_the_disk, way_here
from faults.kills import BINS, kill_often
from faults.races import delete_often, start_twice_often
from inna.files import write_whole

MARKS = ("<!-- faults: begin -->", "<!-- faults: end -->")
# Of all kills; the rest goes to the sweep in one process.
SHARES = {"training": 0.5, "two workers": 0.12}


FAULTS = ("bytes", "disk", "kills", "worker", "terminate", "dask", "twice", "deleted", "clock")


def carry_out(kills: int, corruptions: int, trials: int, seed: int, only: set[str]) -> list[dict[str, Any]]:
    """The accounts of all faults, as rows; ``trials`` of each kind but kills and corruptions, and five times as many
    sweeps that are started twice."""
    in_training, in_two = (int(kills * share) for share in SHARES.values())
    rows = []

    def keep(account: Account) -> None:
        rows.append(account.row() | {"date": time.strftime("%Y-%m-%d")})
        say(f"{account.fault}: {account.trials} trials, {len(account.losses)} losses")
        for loss in account.losses:
            say(f"  LOST: {loss}")

    if "bytes" in only:
        keep(damage_files(corruptions, seed, say))
    if "disk" in only:
        keep(fill_the_disk(way_here(), say))
    if "kills" in only:
        keep(kill_often(training(), in_training, seed, say))
        keep(kill_often(sweep_in_one_process(), kills - in_training - in_two, seed, say))
        if in_two:
            keep(kill_often(sweep_in_two_processes(), in_two, seed, say))
    if "worker" in only:
        keep(kill_often(short_sweep(2, ("worker",)), trials, seed, say, attempts=1))
    if "terminate" in only:
        keep(kill_often(training(("terminate",)), 2 * trials, seed, say, attempts=1))
        keep(kill_often(short_sweep(2, ("terminate", "terminate all")), trials, seed, say, attempts=1))
    if "dask" in only:
        for target in ("worker", "scheduler"):
            keep(kill_in_clusters(target, trials, seed, say))
    if "twice" in only:
        keep(start_twice_often(5 * trials, say))
    if "deleted" in only:
        keep(delete_often(trials, seed, say))
    if "clock" in only:
        if why := unavailable():
            say(f"left out: {why}")
        else:
            keep(set_back_often(trials, seed, say))
    return rows


def say(text: str) -> None:
    print(text, flush=True)


def machine() -> dict[str, Any]:
    """What the durations belong to."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def merged(earlier: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an earlier run, those of the same faults replaced, and the new ones."""
    faults = {row["fault"]: row for row in earlier["rows"]} | {row["fault"]: row for row in rows}
    return list(faults.values())


def tables(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    about, days = result["machine"], " and ".join(sorted({row["date"] for row in result["rows"]}))
    lines = [
        (
            f"Run on {days}: {about['system']}, {about['cores']} cores shared with other work, "
            f"Python {about['python']}, torch {about['torch']}."
        ),
        "",
        "| fault | trials | outcome | expected | losses |",
        "|---|---:|---|---|---:|",
    ]
    for row in result["rows"]:
        outcomes = ", ".join(f"{text} {count}" for text, count in sorted(row["outcomes"].items()))
        lines.append(f"| {row['fault']} | {row['trials']} | {outcomes} | {row['expected']} | {len(row['losses'])} |")
    killed = [row for row in result["rows"] if "moments" in row["extra"]]
    if killed:
        edges = " | ".join(f"{100 * place // BINS}" for place in range(BINS))
        lines += [
            "",
            "Kills in each tenth of the undisturbed duration; the columns are the start of the tenth in percent.",
            "",
            f"| command | seed | duration, s | runs to the end | {edges} |",
            f"|---|---:|---:|---:|{'---:|' * BINS}",
        ]
    for row in killed:
        extra = row["extra"]
        moments = " | ".join(map(str, extra["moments"]))
        name = row["fault"].removeprefix("SIGKILL: ")
        lines.append(f"| {name} | {extra['seed']} | {extra['duration_s']:.1f} | {extra['completed']} | {moments} |")
    kinds = [(row, kind, found) for row in result["rows"] for kind, found in row["extra"].get("kinds", {}).items()]
    if kinds:
        lines += ["", "| damaged file | seed | trials | detected | read correctly |"]
        lines.append("|---|---:|---:|---:|---:|")
    for row, kind, found in kinds:
        noticed, same = (found.get(outcome, 0) for outcome in ("noticed", "read as it was written"))
        lines.append(f"| {kind} | {row['extra']['seed']} | {noticed + same} | {noticed} | {same} |")
    return "\n".join(lines)


def write_docs(path: Path, result: dict[str, Any]) -> None:
    """Put the tables between the marks in ``path``."""
    head, rest = path.read_text(encoding="utf-8").split(MARKS[0], 1)
    _, tail = rest.split(MARKS[1], 1)
    write_whole(path, f"{head}{MARKS[0]}\n{tables(result)}\n{MARKS[1]}{tail}".encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=faults.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how often something is killed (default 200)")
    parser.add_argument("--corruptions", type=int, default=1000, help="how many files are damaged (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments and the bytes (default 0)")
    parser.add_argument("--trials", type=int, default=20, help="trials of each other kind of fault (default 20)")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=FAULTS, help="kinds of faults (default all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows; with --only, others there are kept")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="put the tables between the marks in this page")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="take the rows of an earlier run")
    arguments = parser.parse_args()
    if arguments.kills < 4 or arguments.corruptions < 4 or arguments.trials < 2:
        parser.error("--kills and --corruptions must be at least 4, --trials at least 2")
    if arguments.source:
        result = json.loads(arguments.source.read_text(encoding="utf-8"))
    else:
        only = set(arguments.only)
        rows = carry_out(arguments.kills, arguments.corruptions, arguments.trials, arguments.seed, only)
        if arguments.json and arguments.json.exists() and only != set(FAULTS):
            rows = merged(json.loads(arguments.json.read_text(encoding="utf-8")), rows)
        result = {"machine": machine(), "rows": rows}
        if arguments.json:
            write_whole(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    if arguments.docs:
        write_docs(arguments.docs, result)
    say(tables(result))
    return 1 if any(row["losses"] for row in result["rows"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
