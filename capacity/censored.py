"""What a limit hides: maps that are full, CPU that is throttled. Demand there is a lower bound.

A series that rests at its limit looks like growth that has stopped. Such rows are told as findings
with what to do; fits do not follow them (`demand` puts the least that was wanted in their place).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from capacity.models import LinearDrivers
from capacity.models.linear_drivers import MIN_ROWS, Array

# From this share of a map on entries no longer tell what was wanted: hash maps refuse at their
# size, LRU maps evict shortly below it (a CPU takes free entries in batches)
FULL: Final = 0.98
# Usage of a step is a mean over minutes: at this share of a limit most of its periods were cut
_AT_LIMIT: Final = 0.95
# Share of the kernel's periods in which a container was throttled; the alert CPUThrottlingHigh
# of kubernetes-monitoring/kubernetes-mixin (alerts/resource_alerts.libsonnet) has the same
THROTTLED: Final = 0.25
# Rows at a limit that make a finding, and those of the fit that must be free to tell demand
_LEAST: Final = 3
_KEYS: Final = ("component", "subject", "quantity")


def mark(rows: pl.DataFrame, steps: pl.DataFrame, limit: dict[str, Any]) -> pl.DataFrame:
    """Add column `censored`: whether a limit cut what a row shows.

    Parameters
    ----------
    rows
        Columns time and value of one limited quantity.
    steps
        Table steps of the cluster: a map's ratio at that time, periods that were throttled.
    limit
        A row of table limits.
    """
    if limit["component"] == "map":
        shown = _ratio(steps, limit["subject"])
        cut = pl.coalesce("ratio", pl.col("value") / limit["limit"]) >= FULL
    elif limit["quantity"] == "cpu":
        shown = _throttled(steps, limit["component"])
        near = pl.lit(value=False)
        if limit["limit"] is not None:
            near = pl.col("value") >= _AT_LIMIT * limit["limit"]
        cut = (pl.col("ratio") >= THROTTLED).fill_null(value=False) | near
    else:
        return rows.with_columns(censored=pl.lit(value=False))
    told = rows.join(shown, on="time", how="left", maintain_order="left")
    return told.with_columns(censored=cut.fill_null(value=False)).drop("ratio")


def _ratio(steps: pl.DataFrame, subject: str) -> pl.DataFrame:
    """Give how full a map was at each time, as the agents themselves told it."""
    own = (pl.col("quantity") == "map_pressure") & (pl.col("subject") == subject)
    return steps.filter(own).group_by("time").agg(ratio=pl.col("largest").max())


def _throttled(steps: pl.DataFrame, component: str) -> pl.DataFrame:
    """Give the share of periods in which a component's CPU was throttled, on its worst node."""
    own = steps.filter(pl.col("component") == component)
    cut, all_ = (
        own.filter(pl.col("quantity") == name).group_by("time").agg(pl.col("largest").max())
        for name in ("cpu_throttled_periods", "cpu_periods")
    )
    both = cut.join(all_, on="time", suffix="_all").filter(pl.col("largest_all") > 0)
    return both.select("time", ratio=pl.col("largest") / pl.col("largest_all"))


def demand(rows: pl.DataFrame, names: list[str], limit: dict[str, Any], seed: int) -> pl.DataFrame:
    """Put the least that was wanted in place of what a limit cut.

    Parameters
    ----------
    rows
        Columns value, censored, and the drivers.
    names
        Drivers of the quantity.
    limit
        A row of table limits.
    seed
        Seed of the noise that is drawn for these rows.

    Notes
    -----
    Rows that were not cut are fitted; the others are what that fit tells, with noise of its
    residuals, and at least what was shown (a map: at least its size). Where fewer than
    `MIN_ROWS` rows are free, only the lower bound is known.
    """
    if "censored" not in rows.columns or not rows["censored"].any():
        return rows
    cut, values = rows["censored"].to_numpy(), rows["value"].to_numpy()
    least = np.maximum(values, limit["limit"]) if limit["component"] == "map" else values
    told = _told(rows, names, seed) if (~cut).sum() >= MIN_ROWS else least
    return rows.with_columns(value=pl.Series(np.where(cut, np.maximum(told, least), values)))


def _told(rows: pl.DataFrame, names: list[str], seed: int) -> Array:
    free = rows.filter(~pl.col("censored"))
    model = LinearDrivers(draws=1, seed=seed)
    model.fit(free.select(names).to_numpy(), free["value"].to_numpy())
    noise = np.random.default_rng(seed).choice(model.residuals_, len(rows))
    return np.asarray(model.predict(rows.select(names).to_numpy()) - model.shift_ + noise)


def findings(rows: pl.DataFrame, limit: dict[str, Any]) -> list[dict[str, Any]]:
    """Tell as rows of table doubts where a quantity was cut by its limit for some time."""
    if int(rows["censored"].sum()) < _LEAST:
        return []
    hit = rows.filter("censored").sort("time")
    free = len(rows) - len(hit)
    full = limit["component"] == "map"
    name = f"map {limit['subject']}" if full else f"{limit['component']} CPU"
    told = _full_map(name, hit, limit) if full else _throttled_cpu(name, hit, limit)
    rest = (
        "its growth is told from the time before"
        if free >= MIN_ROWS
        else f"only {free} steps were free of it, {MIN_ROWS} are needed to tell how it grows: "
        "collect two weeks with a higher limit"
    )
    return [{
        "kind": "saturated" if full else "throttled", "subject": limit["subject"] or name,
        "since": hit["time"][0], "until": hit["time"][-1], "metric": hit["value"][-1],
        "other": hit["value"][-1] if limit["limit"] is None else limit["limit"],
        "unit": limit["unit"],
        "used": "a lower bound" if free < MIN_ROWS else "demand of the time before",
        "detail": f"{told}; what it shows then is a lower bound, {rest}",
    }]  # fmt: skip


def _full_map(name: str, hit: pl.DataFrame, limit: dict[str, Any]) -> str:
    loss = "evicts entries in use" if limit["kind"] == "soft" else "refuses new entries"
    more = limit["setting"]
    do = f"raise {more}" if more else "no setting makes it larger: shrink what fills it"
    return f"{name} was full in {_when(hit)} and {loss}: {do}"


def _throttled_cpu(name: str, hit: pl.DataFrame, limit: dict[str, Any]) -> str:
    do = f"raise or remove {limit['setting']}"
    return f"{name} was held back by its limit in {_when(hit)}: {do}"


def _when(hit: pl.DataFrame) -> str:
    return (
        f"{len(hit)} steps from {hit['time'][0]:%Y-%m-%d %H:%M} to {hit['time'][-1]:%Y-%m-%d %H:%M}"
    )
