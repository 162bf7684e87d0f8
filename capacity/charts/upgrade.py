"""What an upgrade changes, step by step."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from capacity import findings
from capacity.charts.look import BLUE, VERMILLION, empty


def upgrade(changes: pl.DataFrame) -> go.Figure:
    """Give how many things each step of table upgrade changes, and how many ask to be dealt with.

    Parameters
    ----------
    changes
        Table upgrade, rows in the order of the steps.

    Returns
    -------
    Figure
        A bar a step.
    """
    steps = changes["step"].unique(maintain_order=True)
    acting = changes.filter("act")
    figure = empty(findings.upgrade(changes)[2], height=360)
    for name, color, rows in (
        ("to be dealt with before", VERMILLION, acting),
        ("asks for nothing", BLUE, changes.filter(~pl.col("act"))),
    ):
        counted = dict(rows.group_by("step").len().iter_rows())
        figure.add_bar(
            x=steps.to_list(), y=[counted.get(step, 0) for step in steps], name=name,
            marker={"color": color}, hovertemplate="%{x}: %{y}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.4)
    figure.update_xaxes(title_text="step", type="category")
    figure.update_yaxes(title_text="changes")
    return figure
