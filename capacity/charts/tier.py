"""A load-balancing tier as a chart: what each node count carries, and the demand."""

from __future__ import annotations

import plotly.graph_objects as go
import polars as pl

from capacity.charts.look import BLUE, VERMILLION, empty
from capacity.tier_settings import TierSettings


def carries(table: pl.DataFrame, settings: TierSettings) -> go.Figure:
    """Give request packets against node count, with bounds, and the demand.

    Parameters
    ----------
    table
        Table `lb_counts`, several node counts.
    settings
        Read are mpps, spare, upgrading, mode, xdp.
    """
    nodes = table["nodes"].to_list()
    million = table.with_columns(pl.col("packets_low", "packets", "packets_high") / 1e6)
    figure = empty(headline(table, settings), height=420)
    figure.add_scatter(
        x=nodes + nodes[::-1],
        y=million["packets_high"].to_list() + million["packets_low"].to_list()[::-1],
        fill="toself", fillcolor="rgba(0,114,178,0.2)", line={"width": 0}, hoverinfo="skip",
        name="90 % of the draws",
    )  # fmt: skip
    figure.add_scatter(
        x=nodes, y=million["packets"].to_list(), mode="lines+markers", line={"color": BLUE},
        name="median", text=table["limit"].to_list(),
        hovertemplate="%{x} nodes: %{y:.3g} million/s, ends at %{text}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(
        y=settings.mpps, line={"color": VERMILLION, "dash": "dash"},
        annotation_text=f"demand {settings.mpps:g}", annotation_font_color=VERMILLION,
    )  # fmt: skip
    figure.update_xaxes(
        title_text=f"nodes, of which {settings.spare + settings.upgrading} may be away"
    )
    figure.update_yaxes(title_text="request packets, million/s", rangemode="tozero")
    return figure


def headline(table: pl.DataFrame, settings: TierSettings) -> str:
    """Say which of the counts is the first that carries the demand."""
    counts = table.filter("fits")["nodes"].to_list()
    way = f"{settings.mode.upper()}, XDP {settings.xdp}"
    if not counts:
        return f"No count shown carries {settings.mpps:g} million packets/s ({way})"
    return f"{min(counts)} nodes carry {settings.mpps:g} million packets/s ({way})"
