"""The look of all charts: palette, axes, title, area, level. No figure of its own.

Backgrounds are clear and text is a gray that reads on white and on black; report.html restyles both
by CSS. The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart with any color
vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from capacity.findings import capital

BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
SKY: Final = "#56B4E9"
ORANGE: Final = "#E69F00"
PURPLE: Final = "#CC79A7"
# Contrast 4.5 : 1 on white and on black, WCAG 2.2 criterion 1.4.3
GRAY: Final = "#767676"
_GRID: Final = "rgba(128,128,128,0.25)"
_WIDTH: Final = 90


def empty(title: str, *, height: int) -> go.Figure:
    """Give an empty figure with our look; the title is plain text and is escaped here."""
    figure = go.Figure(layout=_look(height))
    return _with_title(figure, title)


def nothing(title: str) -> go.Figure:
    """Give a figure that says why there is nothing to draw: a title without axes."""
    figure = empty(title, height=180)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.add_annotation(
        text="nothing to draw", showarrow=False, x=0, y=0.5, xref="paper", yref="paper",
        font={"size": 13, "color": GRAY}, xanchor="left",
    )  # fmt: skip


def panels(title: str, names: Sequence[str]) -> go.Figure:
    """Give a figure of small panels side by side, two in a row."""
    columns = 2 if len(names) > 1 else 1
    lines = max((len(names) + 1) // 2, 1)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=list(names),
        shared_yaxes="all" if lines > 1 else False,
        horizontal_spacing=0.1, vertical_spacing=0.28 / lines,
    )  # fmt: skip
    figure.update_layout(_look(150 + 210 * lines))
    figure.update_annotations(font_size=13)
    figure.update_xaxes(tickformat=",d", nticks=5)
    figure.update_xaxes(title_text="nodes of the cluster", row=lines)
    return _with_title(figure, title)


def _look(height: int) -> dict[str, Any]:
    axis = {
        "gridcolor": _GRID, "linecolor": GRAY, "zeroline": False, "automargin": True,
        "ticks": "outside", "tickcolor": _GRID, "title": {"font": {"size": 13}},
    }  # fmt: skip
    template = {"layout": {"xaxis": axis, "yaxis": axis}}
    return {
        "template": template,
        "height": height,
        "font": {"size": 13, "color": GRAY, "family": "system-ui, sans-serif"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 16, "t": 90, "b": 10},
        "legend": {"orientation": "h", "x": 0, "y": -64 / (height - 150), "yanchor": "top"},
        "hoverlabel": {"font": {"size": 13}},
    }


def _with_title(figure: go.Figure, title: str) -> go.Figure:
    lines = wrap(capital(title), _WIDTH)
    figure.update_layout(
        title={"text": "<br>".join(safe(line) for line in lines), "x": 0, "xanchor": "left",
               "font": {"size": 16}}
    )  # fmt: skip
    return figure


def area(
    x: list[Any], low: list[float], high: list[float], color: str, *, legend: bool = True
) -> go.Scatter:
    """Give the area between two lines: an interval."""
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*low, *reversed(high)], fill="toself", mode="lines",
        line={"width": 0, "color": color}, fillcolor=_faint(color), name="5–95 % interval",
        legendgroup="interval", showlegend=legend, hoverinfo="skip",
    )  # fmt: skip


def shade(figure: go.Figure, curve: pl.DataFrame, place: dict[str, int]) -> None:
    """Shade node counts that were never observed."""
    beyond = curve.filter(pl.col("reach") > 1.0)["nodes"]
    if not beyond.is_empty():
        figure.add_vrect(
            x0=beyond.min(), x1=beyond.max(), fillcolor=GRAY, opacity=0.08, line_width=0,
            layer="below", **place,
        )  # fmt: skip


def level(
    figure: go.Figure,
    value: float,
    look: tuple[str, str, str],
    curve: pl.DataFrame,
    place: dict[str, int],
    *,
    legend: bool,
) -> None:
    """Draw a horizontal line; unlike a shape it stands in the legend. Look: name, color, dash."""
    name, color, dash = look
    ends = [curve["nodes"].min(), curve["nodes"].max()]
    figure.add_scatter(
        x=ends, y=[value, value], mode="lines", name=name, legendgroup=name, showlegend=legend,
        line={"color": color, "width": 2, "dash": dash}, **place,
        hovertemplate=f"{name}: %{{y:,.0f}}<extra></extra>",
    )  # fmt: skip


def rounded(values: pl.Series) -> list[float]:
    """Six digits are more than a chart can show, and keep the file small."""
    return values.round_sig_figs(6).to_list()


def dates(frame: pl.DataFrame) -> list[str]:
    """Give column time as plotly reads it."""
    return frame["time"].dt.strftime("%Y-%m-%dT%H:%M:%S").to_list()


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.3)"


def safe(text: str) -> str:
    """Escape a label value: plotly reads some HTML in its texts."""
    return escape(text, quote=False)
