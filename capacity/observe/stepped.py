"""Observations brought together over nodes: table steps."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import STEPS, check

# What one target is; and what is brought together
TARGET: Final = ["cluster", "node", "component", "subject", "quantity"]
_WHAT: Final = ["cluster", "component", "subject", "quantity"]


def by_step(observations: pl.DataFrame) -> pl.DataFrame:
    """Give table steps: each quantity at each step over all nodes, with the worst node's name."""
    names = [*TARGET, "series"]
    targets = observations.select(names).unique().sort(names, nulls_last=True)
    targets = targets.with_row_index("target")
    rows = observations.join(targets, on=names, nulls_equal=True)
    return stepped(rows.select("time", "target", "value"), targets)


def stepped(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Do the same with rows (time, target, value) and what their targets are."""
    kinds = targets.select(_WHAT).unique().sort(_WHAT, nulls_last=True).with_row_index("what")
    numbered = targets.join(kinds, on=_WHAT, nulls_equal=True).select("target", "what")
    found = (
        rows.join(numbered, on="target")
        .sort("target")
        .group_by("time", "what")
        .agg(
            largest=pl.col("value").max(),
            smallest=pl.col("value").min(),
            mean=pl.col("value").mean(),
            nodes=pl.len().cast(pl.Int64),
            target=pl.col("target").get(pl.col("value").arg_max()),
        )
    )
    named = found.join(targets.select("target", "series", worst_node="node"), on="target")
    named = named.join(kinds, on="what").sort("what", "time")
    return check(named, STEPS)
