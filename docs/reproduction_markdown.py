"""Convert a reproduction to Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inna.experiments.charts.drawing import Figure
from inna.experiments.formatting import DASH
from inna.experiments.statistics.summary import Summary
from inna.paper.curves import PAPER_EPOCHS
from inna.paper.reproduction import Reproduction
from inna.paper.verdicts import Verdict
from inna.paper.words import (
    NUMBERS_HEADS,
    lead,
    numbers_lines,
    numbers_note,
    protocol_words,
    rules,
    tally,
)

__all__ = ["WRITTEN", "begin_mark", "end_mark", "fill", "picture_prefix", "result_section", "sections"]

# Sections that depend on no folder, and functions that return their paragraphs.
WRITTEN = {"protocol": protocol_words, "rules": rules}


def begin_mark(name: str) -> str:
    """Return the mark before the section ``name`` of a page.

    >>> begin_mark("digits"), end_mark("digits")
    ('<!-- reproduction digits: begin -->', '<!-- reproduction digits: end -->')
    """
    return f"<!-- reproduction {name}: begin -->"


def end_mark(name: str) -> str:
    """Return the mark after the section ``name`` of a page."""
    return f"<!-- reproduction {name}: end -->"


def sections(page: str) -> list[str]:
    """Return the names of the sections of a page, in its order.

    >>> sections("a <!-- reproduction digits: begin --> b")
    ['digits']
    """
    start, end = begin_mark("\0").split("\0")
    return [part.split(end, 1)[0] for part in page.split(start)[1:] if end in part]


def fill(page: str, name: str, content: str) -> str:
    r"""Return the page with ``content`` between the marks of the section ``name``.

    A section that the page lacks is added at its end.

    Raises:
        ValueError: a mark is missing or repeated.

    >>> fill("Hello.\n", "digits", "42") == fill(fill("Hello.\n", "digits", "41"), "digits", "42")
    True
    """
    begin, end = begin_mark(name), end_mark(name)
    if begin not in page and end not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page must contain each of {begin} and {end} once, in this order")
    head, rest = page.split(begin)
    return f"{head}{begin}\n\n{content.strip()}\n\n{end}{rest.split(end)[1]}"


def picture_prefix(name: str) -> str:
    """Return the prefix of the file names of a folder's pictures."""
    return f"reproduction-{name}-"


def result_section(name: str, reproduction: Reproduction, images: str = "images") -> str:
    """Return the section of a folder: what was run, verdicts, figures, numbers.

    Args:
        name: of the folder, in the names of its pictures.
        reproduction: the results of the folder.
        images: the folder of the pictures, relative to the page.
    """
    summary = reproduction.summary
    parts = [lead(summary)]
    if summary is not None and summary.study.command:
        parts.append(_code(summary.study.command))
    if reproduction.figure1_verdicts:
        parts += [_pictures(name, "figure1", reproduction.figures, images)]
        for when in dict.fromkeys(verdict.when for verdict in reproduction.figure1_verdicts):
            parts += [
                f"**Figure 1, {when}.**",
                *_verdicts([v for v in reproduction.figure1_verdicts if v.when == when]),
            ]
    if summary is not None:
        parts += [
            f"**Verdicts on {summary.study.dataset}, {summary.study.model}.** {tally(reproduction.verdicts)}",
            *_verdicts(reproduction.verdicts),
            *(
                _pictures(name, section, reproduction.figures, images)
                for section in dict.fromkeys(figure.section for figure in reproduction.figures)
                if section != "figure1"
            ),
            f"**Numbers.** {numbers_note(summary)}",
            _numbers(summary),
        ]
    return "\n\n".join(parts)


def _verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    lines = [
        [
            verdict.statement,
            f"**{verdict.outcome}**, {verdict.when}" if verdict.when.startswith("epoch") else f"**{verdict.outcome}**",
            verdict.paper or DASH,
            verdict.paper_end or DASH,
        ]
        for verdict in verdicts
    ]
    found = "\n".join(f"- *{verdict.statement}* {verdict.sentence}" for verdict in verdicts)
    numbers = [
        [verdict.statement if place == 0 else "", number.what, number.ours or DASH, number.paper]
        for verdict in verdicts
        for place, number in enumerate(verdict.numbers)
    ]
    if numbers:
        found += (
            "\n\n<details><summary>The numbers behind these verdicts</summary>\n\n"
            f"{_table(['claim', 'of', 'here', 'the paper'], numbers)}\n\n</details>"
        )
    if not any(verdict.paper or verdict.paper_end for verdict in verdicts):
        return [_table(["claim", "verdict"], [line[:2] for line in lines]), found]
    heads = ["claim", "verdict", "the same rule on the paper’s curves", f"and on their end, epoch {PAPER_EPOCHS}"]
    return [_table(heads, lines), found]


def _numbers(summary: Summary) -> str:
    heads = [head.format(epoch=summary.study.epochs) for head in NUMBERS_HEADS]
    lines = numbers_lines(summary)
    # Columns without a number are dropped: the paper has no curves for some data sets.
    kept = [place for place in range(len(heads)) if place == 0 or any(line[place] != DASH for line in lines)]
    return _table([heads[place] for place in kept], [[line[place] for place in kept] for line in lines])


def _pictures(name: str, section: str, figures: Iterable[Figure], images: str) -> str:
    return "\n\n".join(
        f"![{figure.title}]({images}/{picture_prefix(name)}{figure.name}.png)\n\n*{figure.title}.* {figure.caption}"
        for figure in figures
        if figure.section == section
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _code(command: str) -> str:
    """Return a command line as a block of code of at most 88 columns, broken before options."""
    words = command.replace(" --", "\0--").split("\0")
    lines = [f"    {words[0]}"]
    for word in words[1:]:
        if len(f"{lines[-1]} {word}") > 86:
            lines.append(f"        {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)
