"""Draw the guarded INNA beside INNA against the learning rate, from the rows, and print the table of comparisons.md.

    python docs/draw_guard.py

docs/images/guard-digits.png has the rows of results/guard-digits: 15 epochs at a constant learning rate, three seeds.
docs/images/guard-sensitivity.png has a panel for each task of `TASKS`. All are INNA (0.5, 0.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import altair as alt
import pandas as pd

from inna.experiments import load_rows
from inna.experiments.formatting import short

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
KINDS = {None: "INNA", 0.0: "INNA with loss_bound=0"}
FLOOR = "INNA with the floor as loss_bound"
COLOURS = ["#b0413e", "#1f6fb4", "#3d8f4c"]
BOUNDS = {"digits, label smoothing": "0.5", "noisy regression": "0.25"}
CHANCE = 0.99  # of the loss of the best constant output; above it a run did not train
TICKS = [0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 10]
# Title: folder in results.
TASKS = {
    "digits, CNN": "guard-digits",
    "diabetes": "guard-diabetes",
    "breast cancer": "guard-sensitivity/breast-cancer",
    "digits, pixels 0 to 16": "guard-sensitivity/digits-raw",
    "digits, label smoothing": "guard-sensitivity/digits-smoothing",
    "digits, wrong labels": "guard-sensitivity/digits-wrong-labels",
    "noisy regression": "guard-sensitivity/noisy-regression",
    "digits, CNN, batch 8": "guard-sensitivity/digits-batch-8",
    "digits, CNN, batch 256": "guard-sensitivity/digits-batch-256",
    "MNIST, LeNet-5": "guard-sensitivity/mnist-10000",
}


def losses(folder: str) -> pd.DataFrame:
    """One line per tuning run of INNA (0.5, 0.1): learning rate, training loss, kind, and whether it trained."""
    rows = load_rows(ROOT / "results" / folder)
    rows = rows[(rows["optimizer"] == "inna") & (rows["beta"] == 0.1)]
    if folder in ("guard-digits", "guard-diabetes"):
        rows = rows[rows["seed"].between(100, 102)]
    kinds = rows["settings"].map(lambda settings: KINDS.get(dict(settings).get("loss_bound"), FLOOR))
    return pd.DataFrame(
        {
            "lr": rows["lr"],
            "loss": rows["train_loss"],
            "kind": kinds,
            "trained": (rows["status"] == "done") & (rows["train_loss"] < CHANCE * rows["constant_loss"]),
        }
    )


def means(runs: pd.DataFrame) -> pd.DataFrame:
    """Geometric means over the seeds, infinite where one of them did not train."""
    groups = runs.groupby(["kind", "lr"], as_index=False)
    found = groups.apply(
        lambda each: pd.Series(
            {"loss": math.exp(each["loss"].map(math.log).mean()) if each["trained"].all() else math.inf}
        ),
        include_groups=False,
    )
    return pd.DataFrame(found)


def table() -> Iterator[str]:
    """Yield the lines of the table in comparisons.md."""
    yield "| task | INNA's best γ | its loss | guarded there | guarded, best γ | its loss | ratio | at the largest γ |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for title, folder in TASKS.items():
        found = means(losses(folder))
        plain = found[found["kind"] == KINDS[None]].set_index("lr")["loss"]
        for kind in (KINDS[0.0], FLOOR):
            guarded = found[found["kind"] == kind].set_index("lr")["loss"]
            if guarded.empty:
                continue
            best, best_guarded = plain.idxmin(), guarded.idxmin()
            name = title if kind == KINDS[0.0] else f"{title}, bound {BOUNDS[title]}"
            cells = [
                name,
                f"{best:g}",
                short(plain[best]),
                short(guarded[best]),
                f"{best_guarded:g}",
                short(guarded[best_guarded]),
                f"{guarded[best_guarded] / plain[best]:.2f}",
                f"{_end(plain)}; {_end(guarded)}",
            ]
            yield f"| {' | '.join(cells)} |"


def _end(found: pd.Series) -> str:
    last = found[found.index.max()]
    return "fails" if math.isinf(last) else short(last)


def chart(runs: pd.DataFrame) -> alt.LayerChart:
    """Points of the seeds, and a line through their geometric means."""
    x = alt.X("lr:Q", title="learning rate γ").scale(type="log", domain=[0.0028, 2.2], nice=False)
    x = x.axis(values=[0.003, 0.01, 0.03, 0.1, 0.3, 1], format="~g", grid=False)
    y = alt.Y("loss:Q", title="training loss after 15 epochs").scale(type="log", domain=[0.001, 4], nice=False)
    y = y.axis(values=[0.001, 0.01, 0.1, 1], format="~g")
    colour = alt.Color("kind:N", legend=None).scale(domain=list(KINDS.values()), range=COLOURS[:2])
    groups = runs.groupby(["kind", "lr"], as_index=False)
    mean = groups["loss"].agg(lambda values: float(values.prod() ** (1 / len(values))))
    base = alt.Chart(runs).encode(x, y, colour)
    ends = mean[mean["lr"] == mean["lr"].max()]
    return (
        alt.layer(
            base.mark_circle(size=28, opacity=0.5),
            alt.Chart(mean).mark_line(strokeWidth=2.5).encode(x, y, colour),
            alt.Chart(ends)
            .mark_text(align="left", dx=7, fontSize=12, fontWeight="bold", limit=0)
            .encode(x, y, colour, text="kind:N"),
        )
        .properties(width=430, height=240)
        .configure_view(stroke=None)
    )


def panels() -> alt.ConcatChart:
    """A panel for each task; runs that diverged have no point."""
    kinds = [*KINDS.values(), FLOOR]
    colour = alt.Color("kind:N", title=None).scale(domain=kinds, range=COLOURS).legend(orient="top", labelLimit=0)
    charts = []
    for title, folder in TASKS.items():
        runs = losses(folder)
        runs = runs[runs["loss"].map(lambda loss: math.isfinite(loss) and loss < 100)]
        x = alt.X("lr:Q", title="γ").scale(type="log", domain=[0.0028, 2.2], nice=False)
        x = x.axis(values=[0.01, 0.1, 1], format="~g", grid=False)
        y = alt.Y("loss:Q", title="training loss").scale(type="log").axis(format="~g", values=TICKS)
        mean = runs.groupby(["kind", "lr"], as_index=False)["loss"].agg(
            lambda values: float(math.exp(values.map(math.log).mean()))
        )
        charts.append(
            alt.layer(
                alt.Chart(runs).mark_circle(size=14, opacity=0.5).encode(x, y, colour),
                alt.Chart(mean).mark_line(strokeWidth=1.8).encode(x, y, colour),
            ).properties(width=170, height=120, title=title)
        )
    return alt.concat(*charts, columns=4).configure_view(stroke=None)


if __name__ == "__main__":
    print("\n".join(table()))
    chart(losses("guard-digits")).save(IMAGES / "guard-digits.png", scale_factor=2)
    panels().save(IMAGES / "guard-sensitivity.png", scale_factor=2)
