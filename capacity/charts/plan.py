"""The figures of a plan."""

from __future__ import annotations

from math import log10
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from capacity import findings
from capacity.charts.look import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    area,
    dates,
    empty,
    level,
    panels,
    rounded,
    safe,
    shade,
)  # fmt: skip
from capacity.findings import farthest, nodes_now, percent, scope
from capacity.planning import Plan
from capacity.telling import amount, resource

_MEBI: Final = float(1 << 20)
_MOST_PANELS: Final = 6
_MOST_MAPS: Final = 12
_KEYS: Final = ("component", "subject", "quantity")


def breaks_first(plan: Plan) -> go.Figure:
    """Give what runs out in order: each resource's range of node counts, early to median.

    Parameters
    ----------
    plan
        Read are exhaustion and growth. [nodes]

    Returns
    -------
    Figure
        A bar a resource, the most urgent on top.
    """
    table, now, end = plan.exhaustion, nodes_now(plan), farthest(plan)
    figure = empty(findings.breaks_first(plan), height=130 + 30 * max(len(table), 3))
    short = pl.col("status") == "short"
    for state, color, group in (
        (f"runs short within {scope(plan)}", VERMILLION, table.filter(short)),
        ("runs out later", BLUE, table.filter(~short)),
    ):
        seen = group.filter(pl.col("nodes_early").is_not_null())
        figure.add_traces(_ranges(seen, safe(state), color, end, plan.settings.risk))
    figure.add_traces(_not_in_sight(table.filter(pl.col("nodes_early").is_null()), end))
    _mark_nodes(figure, plan)
    figure.update_xaxes(
        type="log", range=[log10(now * 0.85), log10(end * 1.1)], dtick="D2",
        tickformat=",d",
        title_text=f"nodes, from {percent(plan.settings.risk)} risk to the median (log scale)",
    )  # fmt: skip
    figure.update_yaxes(
        categoryorder="array", categoryarray=[_label(row) for row in table.iter_rows(named=True)],
        autorange="reversed", showgrid=True,
    )  # fmt: skip
    return figure


def _ranges(rows: pl.DataFrame, name: str, color: str, end: float, risk: float) -> list[go.Scatter]:
    """Draw a bar from early to median; an open end where the median is beyond the chart."""
    if rows.is_empty():
        return []
    labels = [_label(row) for row in rows.iter_rows(named=True)]
    early = rows["nodes_early"].to_list()
    median = rows["nodes_median"].to_list()
    ends = [end if m is None else m for m in median]
    x = [value for pair in zip(early, ends, strict=True) for value in (*pair, None)]
    y = [value for label in labels for value in (label, label, None)]
    hover = [_range_hover(row, risk) for row in rows.iter_rows(named=True)]
    marks = ["triangle-right" if m is None else "circle" for m in median]
    told = {"text": hover, "hovertemplate": "%{text}<extra></extra>", "showlegend": False}
    return [
        go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": 5}, name=name,
                   legendgroup=name, hoverinfo="skip"),
        go.Scatter(x=early, y=labels, mode="markers", legendgroup=name, **told,
                   marker={"color": color, "size": 13, "symbol": "line-ns",
                           "line": {"color": color, "width": 4}}),
        go.Scatter(x=ends, y=labels, mode="markers", legendgroup=name, **told,
                   marker={"color": color, "size": 11, "symbol": marks}),
    ]  # fmt: skip


def _range_hover(row: dict[str, Any], risk: float) -> str:
    median, beyond = row["nodes_median"], "beyond the chart"
    lines = [
        f"<b>{safe(resource(row))}</b> ({row['kind']} limit)",
        f"{row['nodes_early']:,} nodes with {percent(risk)} risk"
        + (f", {row['date_early']:%Y-%m-%d}" if row["date_early"] else ""),
        (f"{median:,} nodes" if median is not None else beyond)
        + " in the median"
        + (f", {row['date_median']:%Y-%m-%d}" if row["date_median"] else ""),
        f"now {amount(row['current'], row['unit'])} of {amount(row['limit'], row['unit'])}",
    ]
    return "<br>".join(lines)


def _not_in_sight(rows: pl.DataFrame, end: float) -> list[go.Scatter]:
    if rows.is_empty():
        return []
    told = [
        "limit not known" if row["limit"] is None else f"not in sight up to {end:,.0f}"
        for row in rows.iter_rows(named=True)
    ]
    labels = [_label(row) for row in rows.iter_rows(named=True)]
    return [
        go.Scatter(x=[end] * len(rows), y=labels, mode="text", text=told, showlegend=False,
                   textposition="middle left", textfont={"color": GRAY, "size": 12},
                   hoverinfo="skip")
    ]  # fmt: skip


def _mark_nodes(figure: go.Figure, plan: Plan) -> None:
    """Draw the present node count and where growth leads to; labels stand above the chart."""
    now, ahead = nodes_now(plan), plan.growth.drop_nulls("q50").tail(1)
    _mark(figure, now, f"today {now:,.0f}", "right")
    if not ahead.is_empty():
        low, middle, high = (float(ahead[name][0]) for name in ("q05", "q50", "q95"))
        figure.add_vrect(
            x0=low, x1=high, fillcolor=GREEN, opacity=0.18, line_width=0, layer="below"
        )
        _mark(figure, middle, f"{ahead['time'][0]:%Y-%m-%d}: {middle:,.0f}", "left")
    elif plan.settings.nodes:
        asked = max(plan.settings.nodes)
        _mark(figure, asked, f"planned {asked:,}", "left")


def _mark(figure: go.Figure, nodes: float, text: str, side: str) -> None:
    figure.add_vline(x=nodes, line={"color": GREEN, "width": 2, "dash": "dot"})
    figure.add_annotation(
        x=log10(nodes), y=1, yref="paper", yanchor="bottom", showarrow=False, text=text,
        xanchor=side, xshift=4 if side == "right" else -4,
    )  # fmt: skip


def fill(plan: Plan) -> go.Figure:
    """Give the most urgent resources' use in % of the limit against the node count.

    Parameters
    ----------
    plan
        Read are exhaustion and curves; beyond the largest node count observed lines are dashed
        and shaded.

    Returns
    -------
    Figure
        A line a resource.
    """
    urgent = plan.exhaustion.filter(pl.col("limit") > 0).head(_MOST_PANELS)
    shown = [row for row in urgent.iter_rows(named=True) if len(_curve(plan, row))]
    figure = panels(findings.fill(plan), [_panel_title(row) for row in shown])
    for i, row in enumerate(shown):
        curve = _curve(plan, row)
        share = curve.select(
            "nodes", "reach", *(pl.col(q) * 100 / row["limit"] for q in ("q05", "q50", "q95"))
        )
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        _band(figure, share, BLUE, "%", place, legend=i == 0)
        shade(figure, share, place)
        level(figure, 100.0, ("limit", VERMILLION, "dot"), share, place, legend=i == 0)
        _observed(figure, plan, row, 100 / row["limit"], place, legend=i == 0)
    figure.update_yaxes(range=[0, 150], ticksuffix=" %", dtick=50)
    figure.update_yaxes(title_text="% of limit", col=1)
    return figure


def growth(plan: Plan) -> go.Figure:
    """Give the node count: observed, the fan of where it leads, and where limits lie.

    Parameters
    ----------
    plan
        Read are growth and exhaustion; without dates only what was observed is drawn.

    Returns
    -------
    Figure
        Nodes against time.
    """
    seen, ahead = plan.growth.drop_nulls("observed"), plan.growth.drop_nulls("q50")
    figure = empty(findings.growth(plan), height=480)
    figure.add_scatter(
        x=dates(seen), y=seen["observed"].to_list(), name="observed",
        mode="lines" if len(seen) > 1 else "markers", line={"color": BLUE, "width": 3},
        hovertemplate="%{x|%Y-%m-%d}: %{y:,.0f} nodes<extra></extra>",
    )  # fmt: skip
    if not ahead.is_empty():
        days = dates(ahead)
        figure.add_trace(area(days, ahead["q05"].to_list(), ahead["q95"].to_list(), SKY))
        figure.add_scatter(
            x=days, y=rounded(ahead["q50"]), name="median forecast", mode="lines",
            line={"color": BLUE, "width": 3, "dash": "dash"},
            customdata=list(zip(rounded(ahead["q05"]), rounded(ahead["q95"]), strict=True)),
            hovertemplate="%{x|%Y-%m-%d}: %{y:,.0f} nodes (5–95 %: %{customdata[0]:,.0f} to "
            "%{customdata[1]:,.0f})<extra></extra>",
        )  # fmt: skip
    _limit_lines(figure, plan)
    figure.update_xaxes(title_text="date (UTC)")
    figure.update_yaxes(title_text="nodes of the cluster", tickformat=",d")
    return figure


def _limit_lines(figure: go.Figure, plan: Plan) -> None:
    """Draw up to three first limits that lie within reach of the chart."""
    tops = [plan.growth[name].drop_nulls().max() for name in ("observed", "q95")]
    top = max((float(t) for t in tops if isinstance(t, float)), default=0.0)
    near = plan.exhaustion.filter(pl.col("nodes_early") <= 2 * top).head(3)
    looks = ((VERMILLION, "dot"), (PURPLE, "dashdot"), (ORANGE, "longdash"))
    ends = dates(plan.growth.sort("time")[[0, -1]])
    for row, (color, dash) in zip(near.iter_rows(named=True), looks, strict=False):
        # Named in the legend: limits may lie so close that labels beside them would touch
        figure.add_scatter(
            x=ends, y=[row["nodes_early"]] * 2, mode="lines",
            line={"color": color, "width": 2, "dash": dash}, hoverinfo="skip",
            name=f"{safe(resource(row))} may run out: {row['nodes_early']:,} nodes",
        )  # fmt: skip


def memory(plan: Plan) -> go.Figure:
    """Give the memory of agent and operator against the node count, with their limits.

    Parameters
    ----------
    plan
        Read are curves, exhaustion and recommendation. [MiB]

    Returns
    -------
    Figure
        A panel a component: median and 5 to 95 % band, and its limits.
    """
    rows = plan.exhaustion.filter(pl.col("quantity") == "memory").sort("component")
    shown = [row for row in rows.iter_rows(named=True) if len(_curve(plan, row))]
    figure = panels(findings.memory(plan), [_panel_title(row) for row in shown])
    for i, row in enumerate(shown):
        curve = _curve(plan, row)
        sized = curve.select("nodes", "reach", *(pl.col(q) / _MEBI for q in ("q05", "q50", "q95")))
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        _band(figure, sized, BLUE, "MiB", place, legend=i == 0)
        shade(figure, sized, place)
        for look, size in (
            (("limit today", VERMILLION, "dot"), row["limit"]),
            (("limit recommended", GREEN, "dashdot"), _recommended_limit(plan, row)),
        ):
            if size is not None:
                level(figure, size / _MEBI, look, sized, place, legend=i == 0)
        _observed(figure, plan, row, 1 / _MEBI, place, legend=i == 0)
    figure.update_yaxes(rangemode="tozero", tickformat=",d")
    figure.update_yaxes(title_text="MiB, worst pod", col=1)
    return figure


def _recommended_limit(plan: Plan, row: dict[str, Any]) -> float | None:
    found = plan.recommendation.filter(
        pl.col("component") == row["component"],
        pl.col("setting").str.ends_with("limits.memory"),
        pl.col("target").is_not_null(),
        pl.col("status").is_in(["raise", "set"]),
    )["target"]
    return None if found.is_empty() else float(found[0])


def map_memory(plan: Plan) -> go.Figure:
    """Give the bytes of the largest maps of a node: as bpftool shows them and as charged.

    Parameters
    ----------
    plan
        Read is maps. [MiB]

    Returns
    -------
    Figure
        Two bars a map.
    """
    order = pl.max_horizontal("memlock", "charged")
    rows = plan.maps.filter(order.is_not_null()).sort(order, "map", descending=[True, False])
    rows = rows.head(_MOST_MAPS)
    figure = empty(findings.map_memory(plan), height=150 + 34 * max(len(rows), 3))
    labels = [safe(_map_label(row)) for row in rows.iter_rows(named=True)]
    for name, column, color in (
        ("memlock, as bpftool shows it", "memlock", SKY),
        ("charged to the memory cgroup", "charged", BLUE),
    ):
        sizes = [None if v is None else v / _MEBI for v in rows[column]]
        figure.add_bar(
            x=sizes, y=labels, orientation="h", name=name, marker={"color": color},
            hovertemplate="%{y}: %{x:,.1f} MiB<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title_text="memory of a node [MiB]", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def _map_label(row: dict[str, Any]) -> str:
    name = str(row["map"]).removeprefix("cilium_")
    return f"{name} ({row['count']:,} ×)" if row["count"] > 1 else name


def _band(
    figure: go.Figure,
    curve: pl.DataFrame,
    color: str,
    unit: str,
    place: dict[str, int],
    *,
    legend: bool,
) -> None:
    """Draw the 5–95 % band and the median: solid where observed, dashed beyond."""
    nodes = curve["nodes"].to_list()
    low, middle, high = (rounded(curve[name]) for name in ("q05", "q50", "q95"))
    figure.add_trace(area(nodes, low, high, SKY, legend=legend), **place)
    seen = int((curve["reach"] <= 1.0).sum())
    for name, dash, part in (
        ("median, node counts observed", "solid", slice(0, seen)),
        ("median, extrapolated", "dash", slice(max(seen - 1, 0), None)),
    ):
        if len(nodes[part]) > 1:
            figure.add_scatter(
                x=nodes[part], y=middle[part], mode="lines", name=name, legendgroup=name,
                showlegend=legend, line={"color": color, "width": 3, "dash": dash},
                customdata=list(zip(low[part], high[part], strict=True)), **place,
                hovertemplate=f"%{{x:,}} nodes: %{{y:,.1f}} {unit} (5–95 %: "
                f"%{{customdata[0]:,.1f}} to %{{customdata[1]:,.1f}} {unit})<extra></extra>",
            )  # fmt: skip


def _observed(
    figure: go.Figure,
    plan: Plan,
    row: dict[str, Any],
    factor: float,
    place: dict[str, int],
    *,
    legend: bool,
) -> None:
    """Draw what was observed, the newest point last and larger: the evidence under the line."""
    seen = plan.history.filter(*_same(row)).sort("time")
    figure.add_scatter(
        x=rounded(seen["nodes"]), y=rounded(seen["value"] * factor), mode="markers",
        name="observed, newest large", legendgroup="observed", showlegend=legend,
        marker={"color": BLUE, "size": [4] * (len(seen) - 1) + [10], "line": {"width": 0}}, **place,
        customdata=dates(seen), hovertemplate="%{x:,} nodes on %{customdata}: %{y:,.1f}"
        "<extra></extra>",
    )  # fmt: skip


def _same(row: dict[str, Any]) -> list[pl.Expr]:
    return [pl.col(key).eq_missing(pl.lit(row[key], pl.String)) for key in _KEYS]


def _curve(plan: Plan, row: dict[str, Any]) -> pl.DataFrame:
    near = pl.col("nodes") <= _farthest_shown(plan)
    return plan.curves.filter(*_same(row), near).sort("nodes")


def _farthest_shown(plan: Plan) -> float:
    """Half as far again as growth or the reader's own question leads."""
    grown = plan.growth["q95"].drop_nulls()
    ahead = [nodes_now(plan), *plan.settings.nodes, *grown.tail(1)]
    return 1.5 * float(max(ahead))


def _label(row: dict[str, Any]) -> str:
    return f"{safe(resource(row))} ({row['kind']})"


def _panel_title(row: dict[str, Any]) -> str:
    return safe(resource(row))
