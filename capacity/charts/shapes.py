"""The frontier of shapes as one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import plotly.graph_objects as go
import polars as pl

from capacity.shapes import Shape

# Okabe and Ito's palette, as in plan.py
_LINES: Final = {
    "nodes": ("#D55E00", "as it is set"),
    "nodes_raised": ("#0072B2", "every setting raised"),
    "nodes_tested": ("#767676", "what Kubernetes is tested to"),
}


def chart(frontier: pl.DataFrame, shape: Shape) -> go.Figure:
    """Give the most nodes by pods a node, at the shape's services and policies.

    Parameters
    ----------
    frontier
        Table shape_frontier.
    """
    own = frontier.filter(pl.col("services") == shape.services, pl.col("policies") == 1.0).sort(
        "pods_per_node"
    )
    figure = go.Figure()
    for name, (color, words) in _LINES.items():
        told = own["binds" if name == "nodes" else "binds_raised"]
        hover = "Kubernetes" if name == "nodes_tested" else None
        figure.add_trace(go.Scatter(
            x=own["pods_per_node"].to_list(), y=own[name].to_list(), name=words,
            mode="lines+markers",
            line={"color": color, "dash": "dot" if name == "nodes_tested" else "solid"},
            text=[hover or bound for bound in told],
            hovertemplate="%{x:,} pods a node: %{y:,} nodes, then %{text}<extra></extra>",
        ))  # fmt: skip
    figure.add_trace(go.Scatter(
        x=[shape.pods_per_node], y=[shape.nodes], name="the shape asked for", mode="markers",
        marker={"color": "#009E73", "size": 12, "symbol": "diamond"},
    ))  # fmt: skip
    figure.update_xaxes(title="pods a node", type="log", dtick="D2", tickformat=",")
    figure.update_yaxes(title="nodes", type="log", dtick="D2", tickformat=",")
    figure.update_layout(title=title(own, shape), template="plotly_white", width=1000, height=600)
    return figure


def title(own: pl.DataFrame, shape: Shape) -> str:
    """Say how large the cluster can get."""
    at = own.filter(pl.col("pods_per_node") == shape.pods_per_node).row(0, named=True)
    return (
        f"At {shape.pods_per_node:g} pods a node up to {at['nodes']:,} nodes fit ({at['binds']}); "
        f"with every setting raised {at['nodes_raised']:,} ({at['binds_raised']})"
    )


def write(frontier: pl.DataFrame, shape: Shape, path: Path) -> None:
    """Write the figure as an HTML page that needs no network."""
    chart(frontier, shape).write_html(path, include_plotlyjs=True, div_id="frontier")
