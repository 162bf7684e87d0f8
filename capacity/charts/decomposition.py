"""What each forecast is made of: stacked parts, those believed from elsewhere hatched."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from capacity import explained
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
from capacity.models.prior import BASE
from capacity.planning import Plan

# One color a driver in all bars; what is always there is gray
_COLORS: Final = {
    BASE: GRAY, "nodes": BLUE, "endpoints": ORANGE, "endpoints_per_node": VERMILLION,
    "services": GREEN, "backends": "#66C2A5", "identities": SKY, "policies": PURPLE,
    "policy_entries": "#9467BD", "map_bytes": "#F0E442",
}  # fmt: skip
_HATCHED: Final = {"shape": "/", "fillmode": "overlay", "size": 6,
                   "fgcolor": "rgba(255,255,255,0.8)"}  # fmt: skip


def decomposition(plan: Plan) -> go.Figure:
    """Give what part of each forecast comes from which driver, and what of it is only believed.

    Parameters
    ----------
    plan
        Read are explanation, causes and exhaustion.

    Returns
    -------
    Figure
        A bar a forecast, what runs out first on top; parts whose cost comes from elsewhere hatched.
    """
    rows, title = explained.parts(plan), explained.headline(plan)
    if rows.is_empty():
        return nothing(title)
    names = rows["forecast"].unique(maintain_order=True).to_list()
    figure = empty(title, height=170 + 26 * max(len(names), 3))
    for (part,), own in rows.group_by("part", maintain_order=True):
        word = "always there" if part == BASE else explained.driver(str(part))
        for i, some in enumerate(own.sort("believed").partition_by("believed")):
            is_believed = bool(some["believed"][0])
            figure.add_bar(
                y=[safe(name) for name in some["forecast"]], x=rounded(some["share"] * 100),
                orientation="h", name=safe(word), legendgroup=str(part), showlegend=i == 0,
                marker={"color": _COLORS.get(str(part), GRAY),
                        "pattern": _HATCHED if is_believed else {}},
                hovertemplate="%{y}: %{x:.0f} % from %{fullData.name}"
                + (", cost from elsewhere" if is_believed else "") + "<extra></extra>",
            )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.3, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="part of the forecast", ticksuffix=" %", range=[0, 100])
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=[safe(name) for name in names]
    )
    return figure
