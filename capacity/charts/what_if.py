"""What if the cluster had so many nodes: every resource's use, by a slider that works offline."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from capacity import findings
from capacity.charts.look import BLUE, VERMILLION, empty, rounded, safe
from capacity.planning import Plan
from capacity.telling import resource

_STOPS: Final = 24
_MOST: Final = 12
_KEYS: Final = ["component", "subject", "quantity"]


def what_if(plan: Plan) -> go.Figure:
    """Give each resource's use in % of its limit at a node count that the reader chooses.

    Parameters
    ----------
    plan
        Read are exhaustion and curves; the slider needs no kernel, so it works in a page too.

    Returns
    -------
    Figure
        A bar a resource, with a slider of node counts.
    """
    stops = _stops(plan)
    frames = [_bars(plan, nodes) for nodes in stops]
    labels = [safe(resource(row)) for row in _shown(plan).iter_rows(named=True)]
    figure = empty(findings.what_if(plan), height=240 + 30 * max(len(labels), 3))
    for i, (nodes, told) in enumerate(zip(stops, frames, strict=True)):
        middle, low, high = (rounded(100 * told[q]) for q in ("q50", "q05", "q95"))
        figure.add_bar(
            x=middle, y=labels, orientation="h", name=f"median at {nodes:,} nodes, 5–95 %",
            visible=i == 0, marker={"color": [VERMILLION if h >= 100 else BLUE for h in high]},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.5,
                "array": [h - m for h, m in zip(high, middle, strict=True)],
                "arrayminus": [m - n for m, n in zip(middle, low, strict=True)],
            },
            hovertemplate="%{y}: %{x:,.1f} % of the limit<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": VERMILLION, "width": 2, "dash": "dot"})
    figure.update_layout(sliders=[_slider(stops)], showlegend=False)
    figure.update_xaxes(title_text="use in % of the limit", range=[0, 200], ticksuffix=" %")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def _slider(stops: list[int]) -> dict[str, Any]:
    steps = [
        {"method": "restyle", "label": f"{nodes:,}",
         "args": [{"visible": [i == k for k in range(len(stops))]}]}
        for i, nodes in enumerate(stops)
    ]  # fmt: skip
    return {
        "active": 0, "steps": steps, "pad": {"t": 60},
        "currentvalue": {"prefix": "nodes: ", "font": {"size": 14}},
    }  # fmt: skip


def _shown(plan: Plan) -> pl.DataFrame:
    return plan.exhaustion.filter(pl.col("limit") > 0).head(_MOST)


def _stops(plan: Plan) -> list[int]:
    """Give node counts of table curves, evenly from today's on."""
    known = plan.curves["nodes"].unique().sort()
    step = max(len(known) // _STOPS, 1)
    return known.gather_every(step).to_list()


def _bars(plan: Plan, nodes: int) -> pl.DataFrame:
    at = plan.curves.filter(pl.col("nodes") == nodes)
    shares = [pl.col(q) / pl.col("limit") for q in ("q05", "q50", "q95")]
    return _shown(plan).select(_KEYS).join(
        at.select(*_KEYS, *shares), on=_KEYS, how="left", nulls_equal=True, maintain_order="left",
    )  # fmt: skip
