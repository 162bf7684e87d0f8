"""Table usage: quantiles of containers' memory and CPU over time and nodes."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import USAGE, check

# Days looked at: two weeks, so that both of a weekly season are in
_DAYS: Final = 14
_MAD: Final = 1.4826
_WHAT: Final = ["cluster", "component", "quantity"]
_QUANTITIES: Final = ("memory", "cpu")


def usage(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Give table usage of what was observed.

    Parameters
    ----------
    rows
        Columns time, target, value: the peak of each step.
    targets
        Columns target, cluster, node, component, quantity.
    """
    own = targets.filter(
        pl.col("quantity").is_in(_QUANTITIES), pl.col("component") != "driver"
    ).select("target", *_WHAT, "node")
    kinds = own.select(_WHAT).unique().sort(_WHAT).with_row_index("what")
    own = own.join(kinds, on=_WHAT).select("target", "what", "node")
    seen = rows.join(own.select("target", "what"), on="target")
    newest = seen.filter(pl.col("time") > pl.col("time").max() - pl.duration(days=_DAYS))
    whole = newest.group_by("what").agg(
        *_quantiles(50, 95, 99), since=pl.col("time").min(), largest=pl.col("value").max()
    )
    nodes = newest.group_by("what", "target").agg(
        *_quantiles(95, 99), level=pl.col("value").median(), steps=pl.len(),
        noise=_MAD * (pl.col("value") - pl.col("value").median()).abs().median(),
    ).join(own.select("target", "node"), on="target")  # fmt: skip
    worst = nodes.sort("p99", "node", descending=[True, False], nulls_last=True).group_by(
        "what", maintain_order=True
    ).agg(
        worst_node=pl.col("node").first(), worst_p95=pl.col("p95").first(),
        worst_p99=pl.col("p99").first(), nodes=pl.len().cast(pl.Int64),
        typical=pl.col("level").median(),
    )  # fmt: skip
    levels = shrunk(nodes).group_by("what").agg(worst_level=pl.col("shrunk").max())
    told = whole.join(worst, on="what").join(levels, on="what").join(kinds, on="what")
    return check(told.sort("what").select(USAGE.schema.names()), USAGE)


def _quantiles(*levels: int) -> list[pl.Expr]:
    return [pl.col("value").quantile(q / 100, "nearest").alias(f"p{q}") for q in levels]


def shrunk(nodes: pl.DataFrame) -> pl.DataFrame:
    """Draw levels of nodes towards the mean of all, the more the fewer steps tell them.

    Parameters
    ----------
    nodes
        Columns what (a group), level, noise (standard deviation of a step), steps.

    Returns
    -------
    DataFrame
        With column shrunk: mean + (level - mean) · τ² / (τ² + σ² / steps).

    Notes
    -----
    Empirical Bayes (C. N. Morris, Parametric empirical Bayes inference, Journal of the American
    Statistical Association 78 (1983)): σ² is the mean noise of the group, τ² the variance of its
    levels less what noise makes of it.
    """
    doubt = (pl.col("noise") ** 2).mean() / pl.col("steps")
    between = (pl.col("level").var() - doubt.mean()).clip(0).fill_null(0.0)
    total = between + doubt
    share = pl.when(total > 0).then(between / total).otherwise(1.0)
    mean = pl.col("level").mean()
    return nodes.with_columns(shrunk=(mean + share * (pl.col("level") - mean)).over("what"))
