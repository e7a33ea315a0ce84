"""Draw docs/images/guard-digits.png: INNA on digits at seven learning rates, with the guard and without.

python docs/draw_guard.py

The rows are those of results/guard-digits: 15 epochs at a constant learning rate, three seeds.
"""

from __future__ import annotations

from pathlib import Path

import altair as alt
import pandas as pd

from inna.experiments import load_rows

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images" / "guard-digits.png"
KINDS = {False: "INNA", True: "INNA with loss_bound=0"}
COLOURS = ["#b0413e", "#1f6fb4"]


def losses() -> pd.DataFrame:
    """One line per run of INNA (0.5, 0.1): learning rate, training loss, with the guard or without."""
    rows = load_rows(ROOT / "results" / "guard-digits")
    rows = rows[(rows["beta"] == 0.1) & rows["seed"].between(100, 102)]
    guarded = rows["settings"].map(lambda settings: "loss_bound" in dict(settings))
    return pd.DataFrame({"lr": rows["lr"], "loss": rows["train_loss"], "kind": guarded.map(KINDS)})


def chart(runs: pd.DataFrame) -> alt.LayerChart:
    """Points of the seeds, and a line through their geometric means."""
    x = alt.X("lr:Q", title="learning rate γ").scale(type="log", domain=[0.0028, 2.2], nice=False)
    x = x.axis(values=[0.003, 0.01, 0.03, 0.1, 0.3, 1], format="~g", grid=False)
    y = alt.Y("loss:Q", title="training loss after 15 epochs").scale(type="log", domain=[0.001, 4], nice=False)
    y = y.axis(values=[0.001, 0.01, 0.1, 1], format="~g")
    colour = alt.Color("kind:N", legend=None).scale(domain=list(KINDS.values()), range=COLOURS)
    means = runs.groupby(["kind", "lr"], as_index=False)
    mean = means["loss"].agg(lambda values: float(values.prod() ** (1 / len(values))))
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


if __name__ == "__main__":
    chart(losses()).save(TARGET, scale_factor=2)
    print(TARGET)
