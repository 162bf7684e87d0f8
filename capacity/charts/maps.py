"""How full the maps of a cluster are: today, and when it has grown."""

from __future__ import annotations

import plotly.graph_objects as go

from capacity import findings
from capacity.charts.look import BLUE, ORANGE, VERMILLION, empty, safe
from capacity.planning import Plan
from capacity.telling import resource


def fullest(plan: Plan) -> go.Figure:
    """Give each map's entries in % of its limit: newest observation, and at the planned nodes.

    Parameters
    ----------
    plan
        Read are exhaustion and forecast; the worst node counts, never the mean. The line of a map
        runs from the 5 % to the 95 % quantile at the largest node count that was asked for or grown
        to.

    Returns
    -------
    Figure
        A row a map, the fullest on top.
    """
    rows = findings.map_fill(plan)
    figure = empty(findings.fullest(plan), height=150 + 30 * max(len(rows), 3))
    labels = [f"{safe(resource(row))} ({row['kind']})" for row in rows.iter_rows(named=True)]
    ahead = f"at {findings.planned_nodes(plan):,} nodes, 5–95 %"
    for name, columns, color, symbol in (
        ("today, worst node", ("usage",) * 3, BLUE, "circle"),
        (ahead, ("q50", "q05", "q95"), ORANGE, "diamond"),
    ):
        middle, low, high = (rows[column] * 100 for column in columns)
        figure.add_scatter(
            x=middle.round(2).to_list(), y=labels, mode="markers", name=name,
            marker={"color": color, "size": 11, "symbol": symbol},
            error_x={"type": "data", "symmetric": False, "array": (high - middle).to_list(),
                     "arrayminus": (middle - low).to_list(), "color": color, "width": 5},
            hovertemplate="%{y}: %{x:,.1f} % of the limit<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": VERMILLION, "width": 2, "dash": "dot"})
    top = max([1.0, *rows["usage"].drop_nulls(), *rows["q95"]])
    figure.update_xaxes(
        title_text="entries in % of the limit", range=[0, 105 * top], ticksuffix=" %"
    )
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure
