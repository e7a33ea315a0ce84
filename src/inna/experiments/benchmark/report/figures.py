"""The figures of a benchmark: places with intervals, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping

from inna.experiments.benchmark.judged import Judged
from inna.experiments.benchmark.report.words import MEASURE_NAMES, TRACK_NAMES
from inna.experiments.benchmark.suite import TRACKS
from inna.experiments.benchmark.verdict import Verdict
from inna.experiments.charts.curves import end_names, names_at_the_ends
from inna.experiments.charts.drawing import Channels, Drawing, Figure, Panel, Rows, log_axis, names_axis
from inna.experiments.charts.themes import Style, Theme, assign

__all__ = ["figures", "styles"]

# A profile is drawn up to the ratio where all have settled, and not beyond this one.
_FARTHEST = 100.0
_POINTS = 60
# So many of the first optimizers have strong lines in a profile.
_STRONG = 3


def styles(judged: Judged) -> dict[str, Style]:
    """Return the styles of the optimizers."""
    found: dict[str, str] = {}
    for track in judged.tracks.values():
        for summary in track.values():
            found |= {entry.label: entry.contender.optimizer for entry in summary.entries}
    return assign(found.items())


def figures(judged: Judged) -> list[Figure]:
    """Return the figures that the results allow."""
    chosen = styles(judged)
    found = [_standings(judged, measure, chosen) for measure in ("steps", "loss")]
    found += [_profiles(judged, track, chosen) for track in TRACKS]
    return [figure for figure in found if figure.panels]


def _standings(judged: Judged, measure: str, chosen: Mapping[str, Style]) -> Figure:
    panels = [
        _standings_panel(TRACK_NAMES[track], judged.verdicts[track, measure], chosen)
        for track in TRACKS
        if (track, measure) in judged.verdicts
    ]
    name = MEASURE_NAMES[measure]
    return Figure(
        name=f"mean-ratios-{measure}",
        section="summary",
        title=f"{name[0].upper()}{name[1:]}",
        caption="Geometric mean over the tasks of the ratio to the best optimizer of each, which is 1, and its 95 % "
        "interval from resampling tasks and seeds.",
        panels=tuple(panels),
    )


def _standings_panel(title: str, verdict: Verdict, chosen: Mapping[str, Style]) -> Panel:
    rows: Rows = [
        {
            "contender": each.label,
            "ratio": each.ratio,
            "low": each.low,
            "high": each.high,
            "best": round(100 * each.best),
        }
        for each in verdict.standings
    ]
    order = [each.label for each in verdict.standings]

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(chosen, theme, interactive)
        scale = alt.Scale(type="log", nice=False, domainMin=1)
        y = alt.Y("contender", type="nominal", sort=order, title=None, axis=names_axis())
        title = "mean ratio to the best of each task (log)"
        tooltip = [
            alt.Tooltip("contender", type="nominal", title="optimizer"),
            alt.Tooltip("ratio", type="quantitative", title="mean ratio", format=".3~g"),
            alt.Tooltip("low", type="quantitative", format=".3~g"),
            alt.Tooltip("high", type="quantitative", format=".3~g"),
            alt.Tooltip("best", type="quantitative", title="first in % of resamples"),
        ]
        base = channels.data(rows).encode(y=y, color=channels.color(), tooltip=tooltip)
        interval = base.mark_rule(strokeWidth=3, strokeCap="round").encode(
            x=alt.X("low", type="quantitative", scale=scale, title=title, axis=log_axis()),
            x2=alt.X2("high"),
            opacity=channels.opacity(0.45),
        )
        mean = base.mark_point(filled=True, size=70).encode(
            x=alt.X("ratio", type="quantitative", scale=scale), shape=channels.shape(), opacity=channels.opacity()
        )
        return channels.finish(interval, mean)

    return Panel(title, draw, height=26 * len(rows))


def _profiles(judged: Judged, track: str, chosen: Mapping[str, Style]) -> Figure:
    panels = [
        _profile_panel(judged.verdicts[track, measure], chosen)
        for measure in MEASURE_NAMES
        if (track, measure) in judged.verdicts
    ]
    return Figure(
        name=f"profiles-{track}",
        section="profiles",
        title=f"{TRACK_NAMES[track]}: performance profiles",
        caption="Share of the tasks on which an optimizer's score is at most τ times the best one's: at the left, how "
        "often it is the best; higher is better everywhere. The lines of the first three and of INNA's variants "
        "are strong. Point at a name in the legend for its 95 % band from resampling tasks and seeds.",
        panels=tuple(panels),
    )


def _profile_panel(verdict: Verdict, chosen: Mapping[str, Style]) -> Panel:
    ratios = [
        ratio
        for task, by_label in verdict.ratios.items()
        for label, ratio in by_label.items()
        if 2 * sum(verdict.scores.reached[task, label]) > len(verdict.scores.reached[task, label])
    ]
    last = min(max(1.05 * max(ratios, default=1.0), 2.0), _FARTHEST)
    exact = sorted({ratio * (1 + 1e-9) for ratio in ratios if ratio <= last})
    taus = sorted({*exact, *(math.exp(math.log(last) * place / _POINTS) for place in range(_POINTS + 1))})
    # A dozen steps of equal weight are a thicket: the first ones and INNA's variants are strong, the others thin.
    strong = {each.label for place, each in enumerate(verdict.standings) if place < _STRONG or "INNA" in each.label}
    profile = verdict.profile(taus)
    rows: Rows = [
        {
            "contender": label,
            "tau": point.tau,
            "share": point.share,
            "low": point.low,
            "high": point.high,
            "width": 2.6 if label in strong else 1.0,
        }
        for label, points in profile.items()
        for point in points
    ]
    at_the_end = [
        {"contender": each.label, "tau": last, "epoch": 0, "mean": profile[each.label][-1].share}
        for each in verdict.standings
    ]
    names = end_names(at_the_end, (0.0, 1.0), log=False)

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(chosen, theme, interactive)
        x = alt.X(
            "tau",
            type="quantitative",
            title="τ, ratio to the best of the task (log)",
            scale=alt.Scale(type="log", domain=[1, last], nice=False),
            axis=log_axis(grid=False),
        )
        scale = alt.Scale(domain=[0, 1])
        share = alt.Y(
            "share",
            type="quantitative",
            title="share of the tasks",
            scale=scale,
            axis=alt.Axis(format="%", tickCount=5),
        )
        base = channels.data(rows).encode(x=x, color=channels.color("stroke"))
        layers = []
        if interactive:
            shown = alt.OpacityValue(0, condition={"test": "focus === datum.contender", "value": 0.18})
            layers.append(
                base.mark_area(interpolate="step-after", stroke=None).encode(
                    y=alt.Y("low", type="quantitative", scale=scale), y2=alt.Y2("high"), opacity=shown
                )
            )
        layers.append(
            base.mark_line(interpolate="step-after").encode(
                y=share,
                strokeWidth=alt.StrokeWidth("width", type="quantitative", scale=None),
                strokeDash=channels.dash("stroke"),
                opacity=channels.opacity(),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="optimizer"),
                    alt.Tooltip("tau", type="quantitative", title="τ", format=".3~g"),
                    alt.Tooltip("share", type="quantitative", format=".0%"),
                ],
            )
        )
        if interactive:
            ends = alt.Y("mean", type="quantitative", scale=scale)
            layers += names_at_the_ends(channels, names, x, ends, scale)
        return channels.finish(*layers)

    return Panel(verdict.scores.title, draw, height=340)
