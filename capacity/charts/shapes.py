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
    "nodes_memory": ("#CC79A7", "an agent's memory limit (estimate)"),
    "nodes_etcd": ("#E69F00", "etcd's default quota (estimate)"),
}
_BOUND: Final = {"nodes": "binds", "nodes_raised": "binds_raised"}
_SPLITS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


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
        if own[name].null_count() == len(own):
            continue
        told = own[_BOUND[name]].to_list() if name in _BOUND else [words] * len(own)
        figure.add_trace(go.Scatter(
            x=own["pods_per_node"].to_list(), y=own[name].to_list(), name=words,
            mode="lines+markers",
            line={"color": color, "dash": "solid" if name in _BOUND else "dot"},
            text=told,
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


def mesh_chart(uses: pl.DataFrame) -> go.Figure:
    """Give the share of each limit that each way to split the nodes takes.

    Parameters
    ----------
    uses
        Table mesh_use.
    """
    known = uses.drop_nulls("usage")
    order = known.group_by("resource").agg(pl.col("usage").max()).sort("usage", "resource")
    figure = go.Figure()
    for color, (split,) in zip(
        _SPLITS * 9, known.select("split").unique(maintain_order=True).iter_rows(), strict=False
    ):
        rows = order.select("resource").join(known.filter(split=split), on="resource", how="left")
        figure.add_trace(go.Bar(
            y=rows["resource"].to_list(), x=rows["usage"].to_list(), name=split, orientation="h",
            marker={"color": color}, customdata=rows.select("need", "limit").rows(),
            hovertemplate="%{y}: %{customdata[0]:,} of %{customdata[1]:,}<extra></extra>",
        ))  # fmt: skip
    figure.add_vline(x=1.0, line={"color": "#000000", "dash": "dot"})
    figure.update_xaxes(title="share of the limit that is used", tickformat=".0%")
    figure.update_layout(title=mesh_title(known), barmode="group", template="plotly_white",
                         width=1000, height=600)  # fmt: skip
    return figure


def mesh_title(uses: pl.DataFrame) -> str:
    """Say what each way to split is nearest to."""
    fullest = uses.sort("usage", descending=True).unique("split", keep="first", maintain_order=True)
    told = [
        f"{row['split']}: {row['resource']} {row['usage']:.0%}"
        for row in fullest.sort("split").iter_rows(named=True)
    ]
    return "Fullest limit of " + "; ".join(told)


def write(
    frontier: pl.DataFrame, shape: Shape, path: Path, uses: pl.DataFrame | None = None
) -> None:
    """Write the figures as an HTML page that needs no network.

    Parameters
    ----------
    uses
        Table mesh_use, where ways to split are compared.
    """
    told = chart(frontier, shape).to_html(include_plotlyjs=True, div_id="frontier")
    if uses is not None:
        more = mesh_chart(uses).to_html(full_html=False, include_plotlyjs=False, div_id="mesh")
        told = told.replace("</body>", f"{more}</body>")
    path.write_text(told, encoding="utf-8")
