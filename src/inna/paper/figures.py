"""The paper's Figures 2 to 4 drawn from our rows, in its layout, with its own curves dashed beside ours.

One more figure shows the optimizers that the paper does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inna.experiments.charts.curves import breaks, curve_panel, curve_points, zoom
from inna.experiments.charts.drawing import Figure, Panel, Rows
from inna.experiments.charts.themes import protocol_styles
from inna.experiments.report.sentences import enumerate_words, plain
from inna.experiments.statistics.summary import TRAIN_LOSS, Entry, Summary
from inna.experiments.study.study import Metric
from inna.paper.curves import BEST_IN_FIGURE_3, PAPER_EPOCHS, paper_curve
from inna.paper.evidence import ACCURACY, FOUR, LOSS, Quantity, best_damping, log10_loss
from inna.paper.protocol import DECAY_POWERS, FIGURE_4_DAMPINGS, inna

__all__ = ["network_note", "reproduction_figures"]

DECAYS = tuple(inna(*FIGURE_4_DAMPINGS, q).label for q in DECAY_POWERS)
QUARTER = DECAYS[1]
PAPER_NETWORK = "nin"


class _Side(NamedTuple):
    """One panel of a figure: whose curves of which quantity, and in which of the paper's figures they stand."""

    quantity: Quantity
    labels: Sequence[str]
    title: str


def _loss_and_accuracy(labels: Sequence[str]) -> list[_Side]:
    return [_Side(LOSS, labels, "Training loss"), _Side(ACCURACY, labels, "Test accuracy")]


def reproduction_figures(summary: Summary) -> list[Figure]:
    """Figures 2, 3 and 4 and the one beyond the paper; those without a finished final run are left out."""
    best = best_damping(summary)
    inna_best = [best] if best else []
    found = [
        _figure(
            summary,
            2,
            "figure-2",
            "Figure 2: INNA at four (α, β)",
            _loss_and_accuracy(FOUR),
        ),
        _figure(
            summary,
            3,
            "figure-3",
            "Figure 3: INNA, SGD, AdaGrad and Adam",
            _loss_and_accuracy([*inna_best, "SGD", "AdaGrad", "Adam"]),
        ),
        _figure(
            summary,
            4,
            "figure-4",
            "Figure 4: slower decays γ₀(k+1)^−q of the step size",
            [_Side(LOSS, DECAYS, "INNA at four q"), _Side(LOSS, [QUARTER, "Adam"], "INNA at q = 1/4, and Adam")],
        ),
        _figure(
            summary,
            0,
            "beyond",
            "Beyond the paper: heavy ball, AdamW and INNAprop",
            _loss_and_accuracy([*inna_best, "heavy ball", "AdamW", "INNAprop"]),
        ),
    ]
    return [figure for figure in found if figure is not None]


def network_note(summary: Summary) -> str:
    """That the paper trains another network, where it does and its curves are shown; else nothing."""
    study = summary.study
    if study.dataset not in BEST_IN_FIGURE_3 or study.model == PAPER_NETWORK:
        return ""
    return f"The paper trains a Network in Network, here it is {plain(study.model)}."


class _Drawn(NamedTuple):
    """A panel, and what its figure's caption has to say of it."""

    panel: Panel
    beside: bool
    broken: bool
    zoomed: bool


def _figure(summary: Summary, figure: int, name: str, title: str, sides: Sequence[_Side]) -> Figure | None:
    # One set of styles for all panels: beside each other in a picture they share a legend.
    members = {label for side in sides for label in side.labels}
    parts = [part for side in sides if (part := _panel(summary, figure, side, members)) is not None]
    if not parts:
        return None
    caption = "Line: mean over the final seeds (the loss is averaged, then its logarithm taken); band: best to worst."
    if any(part.beside for part in parts):
        caption += f" Dashed: the paper’s mean, digitised every five epochs. {network_note(summary)}".rstrip()
        theirs = BEST_IN_FIGURE_3[summary.study.dataset]
        if figure == 3 and best_damping(summary) != theirs:
            caption += f" Its curve of INNA is {theirs}."
        if figure == 4:
            caption += " It does not say which (α, β) this figure has."
    if any(part.broken for part in parts):
        caption += " ×: after this epoch a seed diverged; mean and band are over the others."
    lost = [entry.label for entry in summary.entries if entry.label in members and _all_diverged(entry)]
    if lost:
        caption += f" Without a line, since every seed diverged: {enumerate_words(lost)}."
    if any(part.zoomed for part in parts):
        caption += " The first epochs lie outside the axis of the accuracy."
    panels = tuple(part.panel for part in parts)
    return Figure(name=name, section=name.replace("-", ""), title=title, caption=caption, panels=panels)


def _all_diverged(entry: Entry) -> bool:
    return bool(entry.finals) and len(entry.diverged) == len(entry.finals)


def _panel(summary: Summary, figure: int, side: _Side, members: set[str]) -> _Drawn | None:
    """The panel, if any of its contenders has a curve."""
    measure = TRAIN_LOSS if side.quantity == LOSS else Metric(ACCURACY, "max")
    known, _ = curve_points(summary, measure)
    points = [_scaled(row, side.quantity) for row in known if row["contender"] in side.labels]
    if not points:
        return None
    there = {entry.label for entry in summary.entries if entry.label in members and entry.finals}
    chosen = {label: style for label, style in protocol_styles(summary.study).items() if label in there}
    broken = [_scaled(row, side.quantity) for row in breaks(summary, measure) if row["contender"] in side.labels]
    beside = _paper_rows(summary, figure, side, {row["contender"] for row in points})
    domain = zoom(measure, points + [row | {"best": row["mean"], "worst": row["mean"]} for row in beside])
    panel = curve_panel(
        chosen,
        "log10 of the training loss" if side.quantity == LOSS else "test accuracy",
        points,
        breaks=broken,
        beside=beside,
        domain=domain,
        title=side.title,
        note=f"dashed: the paper’s mean. {network_note(summary)}".rstrip() if beside else "",
    )
    return _Drawn(panel, bool(beside), bool(broken), domain is not None)


def _scaled(row: Mapping[str, Any], quantity: Quantity) -> dict[str, Any]:
    """The row with log₁₀ of its losses."""
    if quantity != LOSS:
        return dict(row)
    return {key: log10_loss(value) if key in ("mean", "best", "worst") else value for key, value in row.items()}


def _paper_rows(summary: Summary, figure: int, side: _Side, shown: set[str]) -> Rows:
    """The paper's curves up to our last epoch; its INNA of Figure 3 goes with our best damping."""
    dataset, last = summary.study.dataset, min(summary.study.epochs, PAPER_EPOCHS)
    best = best_damping(summary)
    rows: Rows = []
    for label in side.labels:
        theirs = BEST_IN_FIGURE_3.get(dataset, "") if figure == 3 and label == best else label
        # Adam beside q = 1/4 in Figure 4 is the Adam of Figure 3.
        source = 3 if figure == 4 and label == "Adam" else figure
        curve = paper_curve(source, dataset, side.quantity, theirs) if figure else None
        if curve is None or label not in shown:
            continue
        for epoch in sorted({*(each for each in curve.epochs if each <= last), last}):
            mean = curve.at(epoch).mean
            if mean is not None:
                rows.append({"contender": label, "epoch": epoch, "mean": mean, "said": f"the paper’s {theirs}"})
    return rows
