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


def is_there() -> pl.Expr:
    """Tell of series of one cluster which are of a node that is there at its last times.

    Of columns node, first, last, samples: when each series was told, null where never.
    """
    many = (pl.col("samples") - 1).clip(1)
    gap = (pl.col("last") - pl.col("first")).dt.total_milliseconds() / many
    missed = pl.col("last").max() - pl.col("last").max().over("node")
    longest = pl.max_horizontal(_LOOKBACK * _MS, 2 * gap.max().over("node"))
    # Nodes seen once each, as in scrapes kept as files, are there together
    once = pl.col("samples").max() <= 1
    is_now = once | (missed.dt.total_milliseconds() <= longest)
    # Series alone, without samples, say nothing of times
    return is_now.fill_null(pl.col("last").max().is_null())


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
