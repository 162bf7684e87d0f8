"""How large maps are at each time: what cilium_bpf_map_capacity tells of each, or of all."""

from __future__ import annotations

import polars as pl


def map_sizes(steps: pl.DataFrame) -> pl.DataFrame:
    """Give the newest max_entries by cluster and pressure label.

    Parameters
    ----------
    steps
        Table steps.

    Returns
    -------
    DataFrame
        Columns cluster, subject (as in map_pressure), max_entries.
    """
    newest = sizes_over_time(steps).sort("time").unique(["cluster", "subject"], keep="last")
    return newest.select("cluster", "subject", "max_entries").sort("cluster", "subject")


def sizes_over_time(steps: pl.DataFrame) -> pl.DataFrame:
    """Give time, cluster, subject, max_entries, from cilium_bpf_map_capacity.

    The metric has a series for each map that differs from the group `default`, one for all policy
    maps (`endpoint_policy`), and none for maps equal to the default (pkg/metrics/bpf.go). The
    smallest value over nodes counts: that node fills first. Sizes change when agents restart with
    other options, so each time has its own.
    """
    sizes = steps.filter(pl.col("quantity") == "map_max_entries")
    sizes = sizes.select("time", "cluster", group="subject", size="smallest")
    used = pl.col("quantity").is_in(["map_pressure", "map_entries"])
    asked = steps.filter(used).select("cluster", "subject").unique().with_columns(group=_group())
    default = sizes.filter(pl.col("group") == "default").drop("group").rename({"size": "fallback"})
    return (
        sizes.select("time", "cluster")
        .unique()
        .join(asked, on="cluster")
        .join(sizes, on=["time", "cluster", "group"], how="left")
        .join(default, on=["time", "cluster"], how="left")
        .with_columns(max_entries=pl.coalesce("size", "fallback"))
        .drop_nulls("max_entries")
        .select("time", "cluster", "subject", "max_entries")
    )


def _group() -> pl.Expr:
    """Name the group of cilium_bpf_map_capacity that a pressure label belongs to."""
    policy = pl.col("subject").str.contains(r"^(cilium_)?policy_")
    return (
        pl.when(policy)
        .then(pl.lit("endpoint_policy"))
        .when(pl.col("subject").str.starts_with("cilium_"))
        .then("subject")
        .otherwise(pl.concat_str(pl.lit("cilium_"), "subject"))
    )
