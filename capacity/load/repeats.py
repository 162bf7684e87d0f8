"""Samples that are told again: the last of each series and time is kept, others are counted."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.export import is_in_order

# How a sample that is told again relates to the one that is kept
REPEATED: Final = ("same", "other", "elsewhere")


def unique_samples(samples: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sort, keep the last sample of each series and time; give source and kind of the others."""
    if is_in_order(samples):
        return samples, samples.head(0).select("source", kind=pl.lit(REPEATED[0]))
    samples = samples.select(pl.all().gather(_order(samples)))
    after = {name: pl.col(name).shift(-1) for name in samples.columns}
    again = (pl.col("series") == after["series"]) & (pl.col("time") == after["time"])
    agrees = pl.col("value") == after["value"]
    is_elsewhere = pl.col("source") != after["source"]
    same, other, elsewhere = (pl.lit(kind) for kind in REPEATED)
    kind = pl.when(agrees).then(same).when(is_elsewhere).then(elsewhere).otherwise(other)
    repeated = samples.select("source", kind=pl.when(again).then(kind)).drop_nulls()
    if len(repeated):
        samples = samples.filter(~again.fill_null(value=False))
    return samples, repeated


def _order(samples: pl.DataFrame) -> pl.Series:
    """Give the rows in order of series and time; equal ones keep their order."""
    time = samples["time"]
    first = -_most(-time)
    span = _most(time) - first + 1
    series = samples["series"].cast(pl.UInt64)
    if span * (_most(series) + 1) < 1 << 64:
        # One number a row sorts several times quicker than two columns
        key = series * span + (time - first).cast(pl.UInt64)
        frame = pl.DataFrame({"series": key})
    else:
        frame = samples.select("series", "time")
    return frame.select(pl.arg_sort_by(frame.columns, maintain_order=True)).to_series()


def _most(column: pl.Series) -> int:
    """Give the largest integer; 0 where there is none."""
    largest = column.max()
    return largest if isinstance(largest, int) else 0
