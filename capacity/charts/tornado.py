"""What moves a forecast: bars from the low to the high end of each thing it rests on."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from capacity import findings
from capacity.charts.look import BLUE, GRAY, ORANGE, VERMILLION, empty, nothing, safe
from capacity.planning import Plan
from capacity.telling import resource as named

_MOST: Final = 10
# Shares of a number to write beside the ends of a bar
_UNITS: Final = {"byte": (2**20, "MiB"), "millicore": (1, "millicores")}


def tornado(plan: Plan, resource: str | None = None) -> go.Figure:
    """Give the tornado of one resource: what its forecast rests on, the longest bar on top.

    Parameters
    ----------
    plan
        Read are sensitivity and exhaustion.
    resource
        As `findings.sensitive` lists them; the first to run out where left out.

    Returns
    -------
    Figure
        A bar a part, the largest swing on top.
    """
    rows = findings.sensitive(plan, resource)
    told = rows.head(_MOST)
    if rows.is_empty():
        return nothing(findings.tornado(plan, resource))
    figure = empty(findings.tornado(plan, resource), height=170 + 34 * max(len(told), 3))
    first = rows.row(0, named=True)
    scale, unit = _UNITS.get(first["unit"], (1, "entries"))
    labels = [safe(name) for name in told["factor"]]
    for end, color, name in (
        ("at_low", BLUE, "low end (5 %)"),
        ("at_high", ORANGE, "high end (95 %)"),
    ):
        figure.add_bar(
            y=labels, x=((told[end] - first["center"]) / scale).round_sig_figs(6).to_list(),
            base=first["center"] / scale, orientation="h", name=name, marker={"color": color},
            customdata=_hover(told, end, scale),
            hovertemplate="%{y} at %{customdata[0]:.4g} (%{customdata[2]}): %{customdata[1]:,.6~g} "
            + unit + "<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=first["center"] / scale, line={"color": GRAY, "width": 1})
    limit = _limit(plan, first)
    if limit is not None:
        figure.add_vline(
            x=limit / scale, line={"color": VERMILLION, "width": 2, "dash": "dot"},
            annotation_text="limit", annotation_position="top",
        )  # fmt: skip
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_xaxes(title_text=f"{safe(named(first))} [{unit}]", tickformat=",")
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def _limit(plan: Plan, row: dict[str, Any]) -> float | None:
    """Give the limit, where it lies near enough to be drawn without squeezing the bars."""
    keys = ("component", "subject", "quantity")
    same = [pl.col(k).eq_missing(pl.lit(row[k], pl.String)) for k in keys]
    told = plan.exhaustion.filter(*same)["limit"]
    value = float(told[0]) if len(told) and told[0] is not None else None
    is_near = value is not None and 0.5 * row["center"] <= value <= 1.5 * row["center"]
    return value if is_near else None


def _hover(rows: pl.DataFrame, end: str, scale: float) -> list[tuple[Any, ...]]:
    return rows.select(
        end.removeprefix("at_"), (pl.col(end) / scale).round_sig_figs(6), "basis"
    ).rows()
