"""What fills a map today: the part that stays and the part that grows with the cluster."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from capacity import findings
from capacity.charts.look import BLUE, ORANGE, VERMILLION, empty, nothing, safe
from capacity.planning import Plan

_MOST: Final = 15


def policies(plan: Plan) -> go.Figure:
    """Give the endpoints whose policy maps fill up first: entries that stay and that grow.

    Parameters
    ----------
    plan
        Read is policy_growth. [% of the limit]

    Returns
    -------
    Figure
        A bar an endpoint.
    """
    return _stacked(plan.policy_growth, "endpoint", findings.policies(plan), "workloads")


def services(plan: Plan) -> go.Figure:
    """Give the load balancer maps and service IDs of a node: entries that stay and that grow.

    Parameters
    ----------
    plan
        Read is service_growth. [% of the limit]

    Returns
    -------
    Figure
        A bar a map, and one of service IDs.
    """
    return _stacked(plan.service_growth, "resource", findings.services(plan), "nodes")


def _stacked(table: pl.DataFrame, name: str, title: str, driver: str) -> go.Figure:
    rows = table.drop_nulls(["entries", "limit"]).filter(pl.col("limit") > 0)
    rows = rows.sort(pl.col("entries") / pl.col("limit"), name, descending=[True, False])
    rows = rows.head(_MOST)
    if rows.is_empty():
        return nothing(title)
    figure = empty(title, height=150 + 30 * max(len(rows), 3))
    labels = [safe(str(row).removeprefix("cilium_")) for row in rows[name]]
    for part, color, told in (
        ("constant", BLUE, "stays as it is"),
        ("growing", ORANGE, f"grows in proportion to the {driver}"),
    ):
        figure.add_bar(
            x=(100 * rows[part] / rows["limit"]).round(3).to_list(), y=labels, orientation="h",
            name=told, marker={"color": color}, customdata=_hover(rows, part),
            hovertemplate="%{y}: %{customdata[0]:,} of %{customdata[1]:,} entries"
            "<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": VERMILLION, "width": 2, "dash": "dot"})
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(title_text="entries in % of the limit", rangemode="tozero", ticksuffix=" %")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def _hover(rows: pl.DataFrame, part: str) -> list[tuple[Any, ...]]:
    return rows.select(part, "limit").rows()
