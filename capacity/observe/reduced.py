"""Samples → one value a step and target, a part of the targets at a time.

Tens of millions of samples come in; a few rows a target and step go out. Names and rates are made
for a part only, so that the memory needed beside the samples does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.observe.presence import reporting

# What 64 bits hold
_MOST: Final = 2.0**64
# A counter that keeps this share of its value was not reset
_SWITCHED: Final = 0.9
# Samples nearer than this part of their usual distance are of two servers' scrapes
_NEAR: Final = 0.25
# Usual distances above it are none between scrapes of a server. [s]
_SCRAPES: Final = 300.0
# Samples of a part
PART: Final = 1_000_000


def reduced(
    samples: pl.DataFrame,
    keyed: pl.DataFrame,
    copied: pl.DataFrame,
    width: float,
    part: int = PART,
) -> pl.DataFrame:
    """Give the peak of each target at each step.

    Parameters
    ----------
    samples
        Table samples.
    keyed
        Of each series that tells something: series, target, kind (gauge, counter), scale.
    copied
        Series that are copies of each other, as `names.copies` tells.
    width
        Width of the steps. [s]
    part
        Samples to work on at once; more where one target has more.

    Returns
    -------
    DataFrame
        Columns time (start of the step), target, value.
    """
    cell = pl.col("time").dt.truncate(f"{round(width * 1000)}ms")
    done = []
    for rows in _parts(samples, keyed, part):
        told = pl.concat([_gauges(rows), rates(rows)]).with_columns(time=cell)
        told = _one_copy(told, copied)
        done.append(told.group_by("time", "target").agg(pl.col("value").max()))
    return pl.concat(done)


def times_of(samples: pl.DataFrame, keyed: pl.DataFrame) -> pl.Series:
    """Give the times at which anything was told, each once."""
    known = _by_number(samples, keyed, np.ones(len(keyed), np.uint8)) > 0
    return samples["time"].filter(pl.Series(known)).unique()


def present(
    samples: pl.DataFrame, keyed: pl.DataFrame, targets: pl.DataFrame, width: float
) -> pl.DataFrame:
    """Count nodes whose agents report at each step, from the times of their samples."""
    agents = targets.filter(pl.col("quantity") == "endpoints", pl.col("node").is_not_null())
    numbers = agents.select("target", "cluster").with_columns(
        own=pl.col("cluster").rank("dense").cast(pl.UInt32)
    )
    # Numbers instead of names: a row takes a third of the memory
    told = keyed.join(numbers, on="target").select("series", "target", "own")
    seen = samples.select("series", "time").join(told, on="series")
    counted = reporting(seen.select("time", cluster="own", node="target"), width)
    named = numbers.select("cluster", "own").unique()
    return counted.rename({"cluster": "own"}).join(named, on="own").drop("own")


def _by_number(
    samples: pl.DataFrame, keyed: pl.DataFrame, values: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Look up a value of each sample's series; 0 where the series is not among the keyed."""
    asked, own = samples["series"].to_numpy(), keyed["series"].to_numpy()
    table = np.zeros(max(int(asked.max(initial=0)), int(own.max(initial=0))) + 1, np.uint8)
    table[own] = values
    return np.asarray(table[asked])


def _parts(samples: pl.DataFrame, keyed: pl.DataFrame, part: int) -> Iterator[pl.DataFrame]:
    """Give samples with target, kind and scale; all of one target are in the same part."""
    count = int(np.clip(-(-len(samples) // part), 1, 200))
    targets = keyed["target"].to_numpy().astype(np.int64)
    place = (targets * count // (targets.max(initial=0) + 1) + 1).astype(np.uint8)
    of_sample = pl.Series(_by_number(samples, keyed, place))
    for i in range(1, count + 1):
        own = keyed.filter(pl.Series(place == i))
        yield samples.filter(of_sample == i).join(own, on="series", maintain_order="left")


def _one_copy(rows: pl.DataFrame, copied: pl.DataFrame) -> pl.DataFrame:
    """Keep one replica's rows of a step: the one with most samples, others where it has none.

    The peak over replicas would lie above what either saw: rates of shifted scrapes differ.
    """
    if copied.is_empty():
        return rows
    many = rows.group_by("series").agg(many=pl.len())
    told = copied.join(many, on="series").sort(
        "copy", "many", "series", descending=[False, True, False]
    )
    ranked = told.with_columns(rank=pl.int_range(pl.len()).over("copy"))
    marked = rows.join(ranked.select("series", "copy", "rank"), on="series", how="left")
    best = pl.col("rank") == pl.col("rank").min().over("time", "target", "copy")
    return marked.filter(pl.col("copy").is_null() | best).select(rows.columns)


def is_usable(value: pl.Expr) -> pl.Expr:
    """Tell which values are numbers that something counts: no NaN, and within 64 bits.

    No metric of Cilium, cAdvisor or the kernel goes beyond; what does would overflow sums.
    """
    return value.abs() < _MOST


def _gauges(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("kind") == "gauge", is_usable(pl.col("value"))).select(
        "time", "target", "series", value=pl.col("value") * pl.col("scale")
    )


def rates(rows: pl.DataFrame) -> pl.DataFrame:
    """Give counter rates of rows (series, target, kind, scale, time, value).

    After a reset the counter's value is the increase (Prometheus rate()).
    A counter that falls by a tenth at most was not reset: a server that joins replicas went over
    to one that scrapes earlier. What grew meanwhile is not known: no rate. Nor is there one of two
    samples that lie much nearer than scrapes do: two servers told them, and no label tells which.
    """
    same = pl.col("series") == pl.col("series").shift()
    before = pl.when(same).then(pl.col("value").shift())
    seconds = pl.when(same).then(pl.col("time").diff().dt.total_milliseconds() / 1000)
    switched = (pl.col("value") < before) & (pl.col("value") >= _SWITCHED * before)
    # Not the median, which lies on either side where every other gap is between two servers
    usual = seconds.quantile(0.75).over("series")
    is_near = (usual <= _SCRAPES) & (seconds < _NEAR * usual)
    increase = pl.when(pl.col("value") >= before).then(pl.col("value") - before)
    return (
        rows.filter(pl.col("kind") == "counter", is_usable(pl.col("value")))
        .sort("series", "time")
        .with_columns(
            value=increase.otherwise(pl.col("value")) / seconds * pl.col("scale"),
            gap=seconds / usual,
            first=before.is_null() | switched | is_near,
        )
        # A rate over a long gap hides restarts and peaks: no number is better than a wrong one
        .filter(~pl.col("first"), pl.col("gap") <= 5)
        .select("time", "target", "series", "value")
    )
