"""Table spikes: what starts and mass pod creation take beyond what stays, from raw samples.

A step's peak hides whether a container always needs so much or for a minute after its start. Only
samples that are fine enough show a start at all: others tell nothing here.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.observe.reduced import is_usable, rates
from capacity.tables import SPIKES, TIME, check

# Samples this far apart on the median still show a start of a quarter of an hour. [s]
_FINE: Final = 300
_START: Final = 900
# What it settled at: from one to six hours after
_SETTLED: Final = (3_600, 21_600)
_ENOUGH: Final = 3
# Beyond any start: the year 5138. [s]
_LATEST: Final = 1e11
# Starts told by two metrics, or by clocks that jitter, are one
_ONE_START: Final = 600
# Many pods at once: ten, and a fifth of what the node held, within a quarter of an hour
_PODS: Final = 10
_PODS_SHARE: Final = 0.2
_OF: Final = ["cluster", "component", "node"]
# Best first: what a memory limit is held against
_MEMORY: Final = ("memory", "memory_working_set", "memory_rss")


def spikes(samples: pl.DataFrame, keyed: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Give table spikes.

    Parameters
    ----------
    samples
        Table samples.
    keyed
        Of each series: series, target, kind (gauge, counter), scale.
    targets
        Columns target, cluster, node, component, quantity.
    """
    known = keyed.join(targets.select("target", *_OF, "quantity"), on="target")
    begun = _starts(samples, known)
    events = pl.concat([begun, _crowds(samples, known, begun)])
    if events.is_empty():
        return SPIKES.empty()
    values = _values(samples, known.join(events, on=_OF, how="semi", nulls_equal=True))
    seen = values.sort("time").join_asof(
        events.sort("at"), left_on="time", right_on="at", by=_KEYS, strategy="backward",
        check_sortedness=False,  # polars cannot check it with groups, and would warn
    )  # fmt: skip
    since = (pl.col("time") - pl.col("at")).dt.total_seconds()
    settled = pl.col("value").filter(since.is_between(*_SETTLED))
    each = (
        seen.drop_nulls("at")
        .group_by(*_OF, "quantity", "kind", "at")
        .agg(
            extra=pl.col("value").filter(since <= pl.col("lasts")).max() - settled.median(),
            told=settled.len(),
        )
        .filter(pl.col("told") >= _ENOUGH, pl.col("extra").is_not_null())
        .with_columns(pl.col("extra").clip(0))
    )
    what = ["cluster", "component", "quantity", "kind"]
    found = each.sort("extra", *_OF, "at", nulls_last=True).group_by(what).agg(
        events=pl.len().cast(pl.Int64), nodes=pl.col("node").n_unique().cast(pl.Int64),
        p50=pl.col("extra").median(), p95=pl.col("extra").quantile(0.95, "higher"),
        largest=pl.col("extra").max(), worst_node=pl.col("node").last(),
    )  # fmt: skip
    return check(found.sort(what).select(SPIKES.schema.names()), SPIKES)


_KEYS: Final = ["cluster", "component", "place"]
# A join by node needs a value where the node is not known
_PLACE: Final = pl.col("node").fill_null("").alias("place")


def _starts(samples: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Give starts within the history: nobody saw the start of what ran before it."""
    told = known.filter(pl.col("quantity") == "start_time")
    rows = samples.join(told.select("series", *_OF), on="series")
    first = rows["time"].min()
    # Later ones are no times, and a date cannot hold all of them
    at = rows.filter(pl.col("value").is_between(0, _LATEST))
    at = at.select(*_OF, second=pl.col("value").round()).unique().sort(*_OF, "second")
    apart = pl.col("second").diff().over(_OF).fill_null(_ONE_START + 1) > _ONE_START
    begun = pl.from_epoch((pl.col("second") * 1000).cast(pl.Int64), "ms")
    return at.filter(apart).select(
        *_OF, _PLACE, at=begun.dt.replace_time_zone("UTC").cast(TIME), kind=pl.lit("start"),
        lasts=pl.lit(_START, pl.Int64),
    ).filter(pl.col("at") > pl.lit(first))  # fmt: skip


def _crowds(samples: pl.DataFrame, known: pl.DataFrame, begun: pl.DataFrame) -> pl.DataFrame:
    """Give times before which many pods came to a node at once; starts of agents are none."""
    told = known.filter(pl.col("quantity") == "endpoints").with_columns(component=pl.lit("agent"))
    fine = _fine(samples, told)
    rows = samples.join(fine.select("series", *_OF), on="series").sort(*_OF, "time")
    low = pl.col("value").rolling_min_by("time", f"{_START}s").over(_OF)
    rise = pl.col("value") - low
    many = rows.filter(rise >= pl.max_horizontal(pl.lit(_PODS), _PODS_SHARE * low))
    apart = pl.col("time").diff().over(_OF).dt.total_seconds().fill_null(1e9) > _SETTLED[0]
    before = (pl.col("time") - pl.duration(seconds=_START)).cast(TIME)
    found = many.filter(apart).select(
        *_OF, _PLACE, at=before, kind=pl.lit("pods"), lasts=pl.lit(2 * _START, pl.Int64)
    )
    after = found.sort("at").join_asof(
        begun.select(*_KEYS, begun="at").sort("begun"), left_on="at", right_on="begun",
        by=_KEYS, strategy="nearest", check_sortedness=False,
    )  # fmt: skip
    near = (pl.col("at") - pl.col("begun")).dt.total_seconds().abs() < _SETTLED[0]
    return after.filter(~near.fill_null(value=False)).select(begun.columns)


def _fine(samples: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Leave series whose samples are close enough to show a start."""
    own = samples.join(known.select("series"), on="series", how="semi").sort("series", "time")
    gap = own.group_by("series").agg(
        gap=pl.col("time").diff().median().dt.total_seconds()
    )  # fmt: skip
    return known.join(gap.filter(pl.col("gap") <= _FINE), on="series")


def _values(samples: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Give memory and CPU of containers over time: time, cluster, component, node, quantity."""
    rank = {name: i for i, name in enumerate(_MEMORY)}
    memory = known.filter(pl.col("quantity").is_in(_MEMORY)).with_columns(
        rank=pl.col("quantity").replace_strict(rank, default=9, return_dtype=pl.Int64)
    )
    memory = memory.filter(pl.col("rank") == pl.col("rank").min().over("cluster", "component"))
    cpu = known.filter(pl.col("quantity") == "cpu")
    own = _fine(samples, pl.concat([memory.drop("rank"), cpu]))
    rows = samples.join(own.select("series", "target", "kind", "scale"), on="series")
    gauges = rows.filter(pl.col("kind") == "gauge").select(
        "time", "target", "series", value=pl.col("value") * pl.col("scale")
    )
    told = pl.concat([gauges, rates(rows)]).filter(is_usable(pl.col("value")))
    names = own.select("series", *_OF, _PLACE, "quantity").with_columns(
        quantity=pl.when(pl.col("quantity") == "cpu").then(pl.lit("cpu")).otherwise(
            pl.lit("memory"))
    )  # fmt: skip
    return told.join(names, on="series").select("time", *_OF, "place", "quantity", "value")
