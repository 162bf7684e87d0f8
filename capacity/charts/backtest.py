"""The chart of a backtest: how often intervals held, and whose forecasts lost least."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from capacity import findings
from capacity.backtesting import ALL, OURS

# Okabe and Ito: can be told apart with any color vision
_COLORS: Final = {
    OURS: "#0072B2", "naive": "#999999", "predict_linear": "#D55E00", "straight line": "#009E73",
    "VPA": "#CC79A7", "KRR": "#E69F00",
}  # fmt: skip


def backtest(scores: pl.DataFrame) -> go.Figure:
    """Draw table scores, over all quantities.

    Left: share of truths in the 5–95 % interval, by horizon, with the 87–93 % it should lie in.
    Right: pinball loss of each method as a share of the truth; lower is better.

    Parameters
    ----------
    scores
        Table scores, as `capacity.backtest` gives it.

    Returns
    -------
    Figure
        Two panels, a line a method.
    """
    rows = scores.filter(pl.col("quantity") == ALL).sort("horizon")
    figure = make_subplots(
        cols=2,
        subplot_titles=["truths within the 5–95 % interval", "pinball loss, share of the truth"],
    )
    ours = rows.filter(pl.col("method") == OURS)
    figure.add_scatter(
        x=_days(ours), y=ours["coverage"].to_list(), mode="lines+markers", showlegend=False,
        line={"color": _COLORS[OURS]}, col=1, row=1,
        hovertemplate="%{x} ahead: %{y:.0%}<extra></extra>",
    )  # fmt: skip
    for method, color in _COLORS.items():
        own = rows.filter(pl.col("method") == method)
        if own.is_empty():
            continue
        figure.add_scatter(
            x=_days(own), y=own["pinball"].to_list(), mode="lines+markers", name=method,
            line={"color": color, "width": 4 if method == OURS else 2}, col=2, row=1,
            hovertemplate="%{x} ahead: %{y:.2%}<extra>" + method + "</extra>",
        )  # fmt: skip
    # After the traces: plotly draws no band on an empty panel
    figure.add_hrect(y0=0.87, y1=0.93, fillcolor="#009E73", opacity=0.2, line_width=0, col=1, row=1)
    figure.update_xaxes(title_text="how far ahead", type="category")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", col=1, row=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".1%", col=2, row=1)
    figure.update_layout(title=findings.backtest(scores)[2], template="plotly_white", height=460)
    return figure


def _days(rows: pl.DataFrame) -> list[str]:
    return [f"{day:g} d" for day in rows["horizon"]]
