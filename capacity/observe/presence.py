"""How many nodes report at a time: replaced nodes are not counted beside those that follow them."""

from __future__ import annotations

from typing import Final

import polars as pl

# A node that misses scrapes is there still up to this gap [s], or two of its scrape intervals:
# Prometheus itself looks back five minutes (prometheus/prometheus --query.lookback-delta)
_LOOKBACK: Final = 300.0
_MS: Final = 1000


def reporting(seen: pl.DataFrame, width: float) -> pl.DataFrame:
    """Count nodes that report, the peak of each step.

    Parameters
    ----------
    seen
        Columns time (of samples, not of steps), cluster, node.
    width
        Width of the steps [s].

    Returns
    -------
    DataFrame
        Columns time (start of the step), cluster, nodes.
    """
    cell = pl.col("time").dt.truncate(f"{round(width * 1000)}ms")
    events = _events(seen)
    # A step that no node comes or goes in counts too
    cells = seen.select("cluster", time=cell, change=pl.lit(0, pl.Int64)).unique()
    return (
        pl.concat([events, cells])
        .sort("cluster", "time")
        .with_columns(nodes=pl.col("change").cum_sum().over("cluster"), time=cell)
        .group_by("time", "cluster")
        .agg(pl.col("nodes").max())
    )


def _events(seen: pl.DataFrame) -> pl.DataFrame:
    """Give cluster, time, change: a node comes (1) with its first sample, goes after its last."""
    node = ["cluster", "node"]
    gap = pl.col("time").diff().dt.total_milliseconds().over(node)
    longest = pl.max_horizontal(_LOOKBACK * _MS, 2 * gap.median().over(node))
    stays = (
        seen.unique()
        .sort(*node, "time")
        .with_columns(stay=(gap > longest).fill_null(value=False).cum_sum().over(node))
        .group_by(*node, "stay")
        .agg(first=pl.col("time").min(), last=pl.col("time").max(), samples=pl.len())
    )
    # Nodes seen once each, as in scrapes kept as files, are there together
    once = pl.col("samples").max().over("cluster") == 1
    last = pl.when(once).then(pl.col("last").max().over("cluster")).otherwise("last")
    goes = stays.select(
        "cluster", time=last + pl.duration(milliseconds=1), change=pl.lit(-1, pl.Int64)
    )
    return pl.concat([stays.select("cluster", time="first", change=pl.lit(1, pl.Int64)), goes])
