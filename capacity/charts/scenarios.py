"""Scenarios side by side: the first limit of each, and each limit before and after."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go
import polars as pl

from capacity import scenario_findings
from capacity.charts.look import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    empty,
    nothing,
    rounded,
    safe,
)
from capacity.scenarios import Scenarios

_MOST: Final = 8
# Limits of which less is used in every scenario are left out where others are shown
_NEAR: Final = 0.05
_FEWEST: Final = 3
# Told apart by color and, from the eighth on, by hatching too
_COLORS: Final = (GRAY, BLUE, ORANGE, GREEN, SKY, PURPLE, VERMILLION)
_HATCHED: Final = {"fillmode": "overlay", "size": 6, "fgcolor": "rgba(255,255,255,0.7)"}
_HATCHES: Final = ("", "/", ".", "x")


def scenario_first(done: Scenarios) -> go.Figure:
    """Give the fullest limit of each scenario in % of it, the chance that is accepted left free.

    Parameters
    ----------
    done
        Read is table scenarios.

    Returns
    -------
    Figure
        A bar a scenario, in the order in which they were asked for.
    """
    rows, title = scenario_findings.first_limits(done), scenario_findings.hardest(done)
    if rows.is_empty():
        return nothing(title)
    figure = empty(title, height=170 + 34 * max(len(rows), 3))
    labels = [safe(name) for name in rows["scenario"]]
    for name, color, state in (
        ("short", VERMILLION, pl.col("short") > 0), ("fits", BLUE, pl.col("short") == 0),
    ):  # fmt: skip
        part = rows.filter(state)
        figure.add_bar(
            y=[safe(one) for one in part["scenario"]], x=rounded(part["usage"] * 100),
            orientation="h", name=name, marker={"color": color},
            text=[safe(f"{one['resource']}, {one['short']} short" if one["short"] > 1
                       else one["resource"]) for one in part.iter_rows(named=True)],
            textposition="outside", cliponaxis=False,
            hovertemplate="%{y}: %{text} %{x:,.0f} % of the limit<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": GRAY, "width": 2, "dash": "dot"},
                     annotation_text="limit", annotation_position="top")  # fmt: skip
    # Room for the names behind the bars
    top = 140 * max([0.95, *rows["usage"]])
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_xaxes(title_text="fullest limit in % of it", ticksuffix=" %", range=[0, top])
    figure.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels)
    return figure


def scenario_limits(done: Scenarios) -> go.Figure:
    """Give the fullest limits before and after: a group a resource, a bar a scenario.

    Parameters
    ----------
    done
        Read is table scenarios. A bar is the median, its line runs from the 5 to the 95 % quantile.

    Returns
    -------
    Figure
        The resource that is fullest in any scenario on top.
    """
    known = scenario_findings.named(done.scenarios).filter(pl.col("limit") > 0)
    if known.is_empty():
        return nothing("No limit of this cluster is known")
    order = known.group_by("resource").agg(pl.col("usage").max()).sort("usage", descending=True)
    near = len(order.filter(pl.col("usage") >= _NEAR))
    resources = order["resource"].head(min(max(near, _FEWEST), _MOST)).to_list()
    names = known["scenario"].unique(maintain_order=True).to_list()
    figure = empty(_title(known, resources), height=190 + len(resources) * (18 + 13 * len(names)))
    for i, name in enumerate(names):
        rows = known.filter(pl.col("scenario") == name, pl.col("resource").is_in(resources))
        middle, low, high = (rows[q] / rows["limit"] * 100 for q in ("q50", "q05", "q95"))
        color, hatch = _COLORS[i % len(_COLORS)], _HATCHES[i // len(_COLORS) % len(_HATCHES)]
        figure.add_bar(
            y=[safe(one) for one in rows["resource"]], x=rounded(middle), orientation="h",
            name=safe(name), marker={"color": color, "pattern": _HATCHED | {"shape": hatch}},
            error_x={"type": "data", "symmetric": False, "array": rounded(high - middle),
                     "arrayminus": rounded(middle - low), "color": GRAY, "width": 3,
                     "thickness": 1},
            hovertemplate="%{y}: %{x:,.1f} % of the limit<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_vline(x=100, line={"color": VERMILLION, "width": 2, "dash": "dot"})
    figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="in % of the limit, median and 5–95 %", ticksuffix=" %")
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=[safe(r) for r in resources]
    )
    return figure


def _title(known: pl.DataFrame, resources: list[str]) -> str:
    over = known.filter(pl.col("q50") >= pl.col("limit"))
    full = over["resource"].n_unique()
    text = f"{full} of {known['resource'].n_unique()} limits are passed in some scenario's median"
    left = known["resource"].n_unique() - len(resources)
    return f"{text}; the {len(resources)} fullest are shown" if left > 0 else text
