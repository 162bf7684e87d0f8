"""Figures of a fleet: what breaks first where and when, how full clusters are, meshes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from capacity.charts.look import BLUE, GRAY, ORANGE, VERMILLION, empty, nothing, rounded, safe
from capacity.telling import amount, resource

_MOST: Final = 25
_MOST_RESOURCES: Final = 12
_LONGEST: Final = 30
# Orange and vermillion that let the page through: text on them can be read on white and on black
_FILL: Final = [
    [0, "rgba(128,128,128,0.1)"], [0.5, "rgba(230,159,0,0.45)"], [1, "rgba(213,94,0,0.6)"],
]  # fmt: skip
_MULTIPLES: Final = (0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 50, 100)


def fleet_first(limits: pl.DataFrame) -> go.Figure:
    """Give how far each cluster is from its first limit, the most urgent clusters first.

    Parameters
    ----------
    limits
        Table fleet. The bar of a cluster runs from the node count at the accepted risk to the
        median's, both divided by today's nodes.

    Returns
    -------
    Figure
        A bar a cluster.
    """
    first = first_limits(limits)
    shown = first.head(_MOST)
    if first.is_empty():
        return nothing(_first_title(limits, first))
    figure = empty(_first_title(limits, first), height=180 + 30 * max(len(shown), 2))
    names = [_name(row) for row in shown.iter_rows(named=True)]
    told = shown.with_columns(name=pl.Series(_different(names), dtype=pl.String))
    short = pl.col("status") == "short"
    for state, color, kept in (
        ("runs short within its horizon", VERMILLION, short), ("runs out later", BLUE, ~short),
    ):  # fmt: skip
        _ranges(figure, list(told.filter(kept).iter_rows(named=True)), state, color)
    figure.add_vline(x=1, line={"color": GRAY, "width": 2, "dash": "dot"})
    figure.update_xaxes(
        type="log", tickvals=_MULTIPLES, ticktext=[f"×{value:g}" for value in _MULTIPLES],
        title_text="nodes, in multiples of today's",
    )  # fmt: skip
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=told["name"].to_list(),
    )  # fmt: skip
    return figure


def first_limits(limits: pl.DataFrame) -> pl.DataFrame:
    """Give each cluster's first limit: short ones first, then by date and growth left."""
    seen = limits.filter(pl.col("nodes_early").is_not_null(), pl.col("nodes") > 0)
    growth = pl.col("nodes_early") / pl.col("nodes")
    later = pl.col("status") != "short"
    ordered = seen.sort(later, "date_early", growth, "cluster", nulls_last=True)
    return ordered.unique("cluster", keep="first", maintain_order=True)


def _first_title(limits: pl.DataFrame, first: pl.DataFrame) -> str:
    planned = limits.filter(pl.col("state") == "ok")
    count = planned["cluster"].n_unique()
    short = planned.filter(pl.col("status") == "short")["cluster"].n_unique()
    if first.is_empty():
        return f"No limit is in sight in {count:,} planned clusters"
    row = first.row(0, named=True)
    text = f"First of {count:,} clusters is {row['cluster']}: {resource(row)} at "
    text += f"{row['nodes_early'] / row['nodes']:.1f} times its nodes"
    text += f", from {row['date_early']:%Y-%m-%d}" if row["date_early"] else ""
    text += f"; {short:,} {'runs' if short == 1 else 'run'} short within the horizon"
    return text if len(first) <= _MOST else f"{text}; the first {_MOST} are shown"


def _name(row: dict[str, Any]) -> str:
    date = f", {row['date_early']:%Y-%m-%d}" if row["date_early"] else ""
    return safe(f"{_cut(row['cluster'])}: {_cut(resource(row))}{date}")


def _ranges(figure: go.Figure, rows: Sequence[dict[str, Any]], state: str, color: str) -> None:
    if not rows:
        return
    early = [row["nodes_early"] / row["nodes"] for row in rows]
    # Where the median is beyond the outlook the bar has one end
    ends = [(row["nodes_median"] or row["nodes_early"]) / row["nodes"] for row in rows]
    x = [v for pair in zip(early, ends, strict=True) for v in (*pair, None)]
    y = [v for row in rows for v in (row["name"], row["name"], None)]
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": color, "width": 5}, legendgroup=state,
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_scatter(
        x=early, y=[row["name"] for row in rows], mode="markers", name=state, legendgroup=state,
        hovertext=[_hover(row) for row in rows], hovertemplate="%{hovertext}<extra></extra>",
        marker={"color": color, "size": 12, "symbol": "circle"}, showlegend=True,
    )  # fmt: skip


def _hover(row: dict[str, Any]) -> str:
    median, date = row["nodes_median"], row["date_early"]
    lines = [
        f"<b>{safe(row['cluster'])}</b>: {safe(resource(row))} ({row['kind']} limit)",
        f"{row['nodes_early']:,} nodes at the accepted risk"
        + (f", {date:%Y-%m-%d}" if date else ""),
        f"{median:,} nodes in the median" if median else "median beyond the outlook",
        f"now {row['nodes']:,.0f} nodes, {amount(row['current'], row['unit'])} of "
        f"{amount(row['limit'], row['unit'])}",
    ]
    return "<br>".join(lines)


def fleet_fill(limits: pl.DataFrame) -> go.Figure:
    """Give how full each resource of each cluster is today, the fullest clusters first.

    Parameters
    ----------
    limits
        Table fleet. A cell is empty where a cluster does not observe the resource.

    Returns
    -------
    Figure
        A heat map, a row a cluster. [% of the limit]
    """
    seen = limits.filter(pl.col("usage").is_not_null())
    named = seen.with_columns(
        resource=pl.Series([resource(r) for r in seen.iter_rows(named=True)], dtype=pl.String)
    )
    if named.is_empty():
        return nothing(_fill_title(named))
    clusters = _fullest(named, "cluster", _MOST)
    kinds = _fullest(named, "resource", _MOST_RESOURCES)
    figure = empty(_fill_title(named), height=230 + 28 * max(len(clusters), 2))
    told = {(r["cluster"], r["resource"]): r["usage"] for r in named.iter_rows(named=True)}
    grid = [[told.get((cluster, kind)) for kind in kinds] for cluster in clusters]
    shares = [[None if u is None else float(f"{100 * u:.4g}") for u in line] for line in grid]
    figure.add_heatmap(
        z=shares, zmin=0, zmax=100, x=[safe(kind) for kind in kinds], showscale=False,
        y=_different([safe(_cut(name)) for name in clusters]),
        colorscale=_FILL,
        xgap=2, ygap=2, hoverongaps=False,
        text=[["" if u is None else f"{u:.0%}" for u in line] for line in grid],
        texttemplate="%{text}", textfont={"size": 11},
        hovertemplate="%{y}, %{x}: %{z:,.1f} % of the limit<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(
        tickangle=-35,
        side="bottom",
        showgrid=False,
        title_text="use in % of the limit, by resource",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _fullest(named: pl.DataFrame, by: str, most: int) -> list[str]:
    order = (
        named.group_by(by).agg(pl.col("usage").max()).sort("usage", by, descending=[True, False])
    )
    return order[by].head(most).to_list()


def _fill_title(named: pl.DataFrame) -> str:
    if named.is_empty():
        return "No cluster observes a resource with a known limit"
    row = named.sort("usage", "cluster", descending=[True, False]).row(0, named=True)
    many = named["cluster"].n_unique()
    text = (
        f"Fullest today is {row['resource']} of {row['cluster']}: {row['usage']:.0%} of its limit"
    )
    return text if many <= _MOST else f"{text}; the {_MOST} fullest of {many:,} clusters"


def fleet_meshes(meshes: pl.DataFrame) -> go.Figure:
    """Give what the clusters of each mesh fill together: now and at the horizon, in %.

    Parameters
    ----------
    meshes
        Table mesh of fleets.

    Returns
    -------
    Figure
        A bar a mesh. [% of the limit]
    """
    rows = meshes.sort("usage", "mesh", descending=[True, False]).head(_MOST)
    if rows.is_empty():
        return nothing(_mesh_title(meshes))
    figure = empty(_mesh_title(meshes), height=180 + 34 * max(len(rows), 2))
    labels = [safe(f"{r['mesh']}: {r['resource']}") for r in rows.iter_rows(named=True)]
    now = rounded(100 * rows["usage"])
    high = rounded(100 * (rows["ahead_q95"] / rows["limit"]).fill_null(rows["usage"]))
    middle = rounded(100 * (rows["ahead_q50"] / rows["limit"]).fill_null(rows["usage"]))
    for name, values, color, symbol in (
        ("today", now, BLUE, "circle"),
        ("at the horizon, sum of medians", middle, ORANGE, "diamond"),
        ("at the horizon, all grow fast", high, VERMILLION, "line-ns-open"),
    ):
        figure.add_scatter(
            x=values, y=labels, mode="markers", name=name,
            marker={"color": color, "size": 13, "symbol": symbol, "line": {"width": 3}},
            hovertemplate="%{y}: %{x:,.1f} % of the limit<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": GRAY, "width": 2, "dash": "dot"})
    top = max([100.0, *now, *high])
    figure.update_xaxes(title_text="use in % of the limit", range=[0, 1.08 * top], ticksuffix=" %")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def _mesh_title(meshes: pl.DataFrame) -> str:
    count = meshes["mesh"].n_unique()
    if not count:
        return "No cluster names a mesh"
    full = meshes.filter(pl.col("status") == "short")["mesh"].unique().sort().to_list()
    if full:
        return f"{len(full)} of {count} meshes run full: {', '.join(full)}"
    row = meshes.sort("usage", descending=True).row(0, named=True)
    return (
        f"No mesh of {count} runs full; fullest is {row['mesh']}: {row['resource']} at "
        f"{row['usage']:.0%} of the limit"
    )


def _cut(name: str) -> str:
    """Give a name that fits beside a chart."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _different(names: Sequence[str]) -> list[str]:
    """Give names that are still all different: plotly draws equal ones on one line."""
    out: list[str] = []
    for name in names:
        out.append(name if name not in out else f"{name} ({len(out) + 1})")
    return out
