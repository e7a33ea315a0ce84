"""Write the verdict of committed benchmark rows into docs/benchmark.md.

    python docs/write_benchmark.py results/benchmark

It also writes the untuned track of five seeds in results/benchmark-five-seeds and the final losses of the experiments
in results/hypotheses.
`--targets` first sets src/inna/experiments/benchmark/targets.json by its rule, from the tuned baselines of these rows.
A new version of the suite needs that once; targets never change after INNA was judged by them.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from inna.experiments.benchmark.judged import MEASURES, Judged, judge
from inna.experiments.benchmark.read import open_benchmark
from inna.experiments.benchmark.report.words import (
    Cell,
    Table,
    constants_table,
    inna_sentence,
    leave_one_out_table,
    suite_table,
    task_table,
    times,
    verdict_sentence,
)
from inna.experiments.benchmark.suite import TRACKS
from inna.experiments.benchmark.targets import BASELINES, RULE, set_targets
from inna.files import write_whole

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmark.md"
TARGETS = ROOT / "src" / "inna" / "experiments" / "benchmark" / "targets.json"
HYPOTHESES = ROOT / "results" / "hypotheses"
FIVE_SEEDS = ROOT / "results" / "benchmark-five-seeds"
MARKS = "<!-- written by write_benchmark.py -->", "<!-- end -->"


def write_targets(folder: Path) -> None:
    """Set the targets by their rule."""
    tasks = {task.name: set_targets(summary) for task, summary in open_benchmark(folder).complete("tuned").items()}
    document = {"rule": RULE, "baselines": list(BASELINES), "tasks": tasks}
    write_whole(TARGETS, (json.dumps(document, indent=2) + "\n").encode())


def verdict(judged: Judged) -> str:
    """The verdict as Markdown: sentences, then tables task by task, then without each task."""
    parts = [sentences(judged, track) for track in TRACKS]
    tables = [task_table(judged, track, measure) for track in TRACKS for measure in MEASURES]
    parts += [f"### {table.title}\n\n{markdown(table)}" for table in tables if table is not None]
    robust = [leave_one_out_table(judged, track, "steps") for track in TRACKS]
    parts += [f"### Without one task. {table.title}\n\n{markdown(table)}" for table in robust if table is not None]
    other = [constants_table(judged, track) for track in TRACKS]
    parts += [f"### With other constants. {table.title}\n\n{markdown(table)}" for table in other if table is not None]
    parts.append(f"### Default and tuned learning rates\n\n{markdown(rates_table(judged))}")
    parts.append(f"### Tasks and targets\n\n{markdown(suite_table(judged))}")
    return "\n\n".join(parts)


def sentences(judged: Judged, track: str) -> str:
    """The verdict of a track as a list."""
    found = (
        each
        for measure in MEASURES
        for each in (verdict_sentence(judged, track, measure), inna_sentence(judged, track, measure))
        if each
    )
    return "\n".join(f"- {each}" for each in found)


def rates_table(judged: Judged) -> Table:
    """Default learning rates, those chosen by the searches, and the place of the untuned losses."""
    chosen: dict[str, list[float]] = {}
    for summary in judged.tracks["tuned"].values():
        for entry in summary.entries:
            chosen.setdefault(entry.label, []).append(entry.choice.lr)
    (untuned, *_) = judged.tracks["untuned"].values()
    defaults = {entry.label: entry.choice.lr for entry in untuned.entries if entry.label in chosen}
    ratios = {label: [lr / default for lr in chosen[label]] for label, default in defaults.items()}
    verdict = judged.verdicts["untuned", "loss"]
    lines = [
        (
            label,
            [
                Cell(f"{defaults[label]:g}"),
                Cell(times(statistics.geometric_mean(each)), f"{times(min(each))} to {times(max(each))}"),
                Cell(str(verdict.rank(label))),
            ],
        )
        for label, each in sorted(ratios.items(), key=lambda pair: verdict.rank(pair[0]))
    ]
    return Table("", ["Optimizer", "Default", "Tuned / default, 6 tasks", "Place untuned"], lines)


def markdown(table: Table) -> str:
    lines = ["| " + " | ".join(table.heads) + " |", "|---" + "|---:" * (len(table.heads) - 1) + "|"]
    for label, cells in table.lines:
        texts = []
        for cell in cells:
            text = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{text} ({cell.small})" if cell.small else text)
        lines.append("| " + " | ".join([label, *texts]) + " |")
    return "\n".join(lines)


def with_verdict(page: str, judged: Judged) -> str:
    """``page`` with the verdict between its marks."""
    return between(page, *MARKS, verdict(judged))


def with_five_seeds(page: str, judged: Judged) -> str:
    """``page`` with the sentences and final losses of the untuned track between the marks of its folder."""
    table = task_table(judged, "untuned", "loss")
    assert table is not None
    text = f"{sentences(judged, 'untuned')}\n\n{markdown(table)}"
    return between(page, *marks(FIVE_SEEDS), text)


def with_hypotheses(page: str, folder: Path) -> str:
    """``page`` with the final losses of each experiment in ``folder`` between the marks of its name."""
    for place in sorted(path.parent for path in folder.glob("*/benchmark.json")):
        judged = judge(open_benchmark(place))
        (table,) = filter(None, (task_table(judged, track, "loss") for track in TRACKS))
        # The levels of a dial are no sample of tasks, so a mean over them means nothing.
        losses = Table(
            table.title, [table.heads[0], *table.heads[3:]], [(label, cells[2:]) for label, cells in table.lines]
        )
        page = between(page, *marks(place), markdown(losses))
    return page


def marks(folder: Path) -> tuple[str, str]:
    """The marks of the text that the rows of a folder determine."""
    return f"<!-- rows of {folder.name} -->", f"<!-- end of {folder.name} -->"


def between(page: str, begin: str, end: str, text: str) -> str:
    """``page`` with ``text`` between two marks."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a packed folder of inna benchmark")
    parser.add_argument("--targets", action="store_true", help="set the targets first")
    options = parser.parse_args()
    if options.targets:
        write_targets(options.folder)
    judged = judge(open_benchmark(options.folder))
    page = with_verdict(PAGE.read_text(encoding="utf-8"), judged)
    page = with_five_seeds(page, judge(open_benchmark(FIVE_SEEDS)))
    write_whole(PAGE, with_hypotheses(page, HYPOTHESES).encode())


if __name__ == "__main__":
    main()
