"""What every reader of metrics shares: which part is wanted, and samples with their counts.

A reader brings series, samples and one Source a file; `assemble` gives Metrics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.errors import SettingsError
from capacity.export import Metrics, without_secrets
from capacity.load import instants
from capacity.load.instants import Instant, instant
from capacity.load.repeats import REPEATED, unique_samples
from capacity.tables import SAMPLES, SERIES, SOURCES, TIME, check

# Times below this are seconds
FIRST_MILLISECOND: Final = instants.FIRST_MILLISECOND
# Faults of one source that are told in full; the rest is counted.
TOLD_FAULTS: Final = 3
# cilium/cilium pkg/defaults/defaults.go, ClusterName
CLUSTER: Final = "default"
_LABELS: Final = [name for name in SERIES.schema if name != "series"]

# A metric name that says nothing else as a regular expression
_NAME: Final = re.compile(r"[A-Za-z0-9_:]+")
NOTHING_WANTED: Final = "no sample of wanted metrics and times"

# Samples from which on compiled code pays, which takes half a second to load
LARGE: Final = 200_000

# Series, samples, and by source: wanted ones, numbers, and each kind of repeated ones
_Ordered = tuple[pl.DataFrame, pl.DataFrame, list[list[int]]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The wanted part of an export.

    `metrics` are names or regular expressions, None for all; `start` and `end` are milliseconds,
    both inclusive; `cluster` names series that carry no label cluster. Where `only` is given,
    readers may leave out the series of other clusters; where `step` [ms] is, samples that a later
    one of the same series and step follows, if they count them.
    """

    metrics: tuple[str, ...] | None = None
    start: int | None = None
    end: int | None = None
    cluster: str = CLUSTER
    only: str | None = None
    step: int | None = None

    @property
    def names(self) -> frozenset[str] | None:
        """The wanted metric names; None where all are, or where any is a regular expression."""
        if self.metrics is None or not all(map(_NAME.fullmatch, self.metrics)):
            return None
        return frozenset(self.metrics)

    @property
    def pattern(self) -> str:
        """The regular expression a wanted metric name matches."""
        names = ("",) if self.metrics is None else self.metrics
        body = "|".join(f"(?:{name})" for name in names) if self.metrics is not None else ".*"
        return f"^(?:{body})$"

    def wants(self, metric: pl.Expr) -> pl.Expr:
        """Tell which metric names are wanted."""
        if self.metrics is None:
            return metric.is_not_null()
        return metric.str.contains(self.pattern).fill_null(value=False)

    def holds(self, time: pl.Expr) -> pl.Expr:
        """Tell which times [ms] are wanted."""
        wanted = time.is_not_null()
        if self.start is not None:
            wanted &= time >= self.start
        if self.end is not None:
            wanted &= time <= self.end
        return wanted


@dataclass(frozen=True, slots=True)
class Gathered:
    """Samples, each a number; by series and time, and each once, where `is_ordered`.

    They come in runs of `counts` samples, each of one of `sources` and one of `owners`, its series.
    """

    series: npt.NDArray[np.uint32]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    sources: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    is_ordered: bool

    def frame(self) -> pl.DataFrame:
        """Give samples as `assemble` takes them."""
        source = np.repeat(self.sources.astype(np.uint32), self.counts)
        columns = {"series": self.series, "time": self.times, "value": self.values}
        return pl.DataFrame({"source": source, **columns})


@dataclass(slots=True)
class Source:
    """One input while it is read: records refused, why (the first few), and what else to tell.

    `thinned` counts good ones that a wanted step leaves out.
    """

    name: str
    format: str
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    thinned: int = 0

    def refuse(self, fault: str, count: int = 1) -> None:
        """Say why records are not used, and count them; 0 where none could be made out."""
        self.refused += count
        if len(self.faults) < TOLD_FAULTS:
            self.faults.append(fault)


def select(
    metrics: str | Iterable[str] | None,
    start: Instant | None,
    end: Instant | None,
    cluster: str = CLUSTER,
    *,
    now: float,
) -> Selection:
    """Make a Selection from what a caller gives.

    Raises
    ------
    SettingsError
        If a time, a pattern or the order of the times is wrong.

    Examples
    --------
    >>> select(["up"], "2026-01-01T00:00:00Z", None, now=0).start
    1767225600000
    """
    names = (metrics,) if isinstance(metrics, str) else None if metrics is None else tuple(metrics)
    first, last = (
        None if value is None else instant(value, now=now, what=what)
        for value, what in ((start, "start"), (end, "end"))
    )
    if first is not None and last is not None and first > last:
        raise SettingsError(f"start {start!r} lies after end {end!r}; swap them")
    for name in names or ():
        if _NAME.fullmatch(name):
            continue
        try:
            pl.Series(["x"]).str.contains(name)
        except pl.exceptions.ComputeError:
            raise SettingsError(
                f"metrics: {name!r} is no metric name and no regular expression"
            ) from None
    return Selection(names, first, last, cluster)


def assemble(
    series: pl.DataFrame,
    samples: pl.DataFrame,
    sources: Sequence[Source],
    selection: Selection,
    same: npt.NDArray[np.uint32] | None = None,
) -> Metrics:
    """Make Metrics: sorted by series and time, each label set and each sample once.

    Parameters
    ----------
    series
        Label columns of table series; equal label sets may come twice, cluster and labels may be
        null.
    samples
        source (u32, index into `sources`), series (u32, row of `series`), time (i64, ms) and value
        (f64), in the order they were told: where two disagree the later one wins. Wanted ones.
    sources
        What was read.
    same
        By row of `series` the first one with the same labels, where that is known.
    """
    series = series.with_columns(
        pl.col("cluster").fill_null(selection.cluster), pl.col("labels").fill_null("{}")
    )
    if samples["time"].null_count():
        samples = samples.filter(pl.col("time").is_not_null())
    samples = _dated(samples, sources)
    same = same_labels(series) if same is None else same
    if len(samples) < LARGE:
        series, samples, counts = _ordered(series, same, samples, len(sources), selection)
    else:
        told = [samples]
        # The only name left: what is read is freed before it is copied once more
        del samples
        series, samples, counts = _ordered_large(series, same, told, len(sources), selection)
    rows = [_row(source, *told) for source, *told in zip(sources, *counts, strict=True)]
    return _checked(series, samples, rows)


def _checked(series: pl.DataFrame, samples: pl.DataFrame, rows: list[dict[str, Any]]) -> Metrics:
    return Metrics(
        check(series, SERIES),
        check(samples, SAMPLES),
        check(pl.DataFrame(rows, schema=SOURCES.schema), SOURCES),
    )


def _dated(samples: pl.DataFrame, sources: Sequence[Source]) -> pl.DataFrame:
    """Refuse samples at times that no calendar has."""
    if _is_dated(samples["time"].to_numpy()):
        return samples
    is_dated = pl.col("time").is_between(*instants.YEARS)
    left_out = _per_source(samples.filter(~is_dated)["source"], len(sources))
    for source, count in zip(sources, left_out, strict=True):
        if count:
            source.refuse(f"{count} at times before the year 1 or after 9999", count)
    return samples.filter(is_dated)


def _is_dated(times: npt.NDArray[np.int64]) -> bool:
    first, last = instants.YEARS
    return not len(times) or bool(times.min() >= first and times.max() <= last)


def assemble_ordered(
    series: pl.DataFrame, samples: Gathered, sources: Sequence[Source], selection: Selection
) -> Metrics:
    """Do the same with samples that are in order already.

    Their series are rows of `series` without equal ones before them.
    """
    if not _is_dated(samples.times):
        return assemble(series, samples.frame(), sources, selection)
    runs = np.bincount(samples.sources, samples.counts, len(sources)).astype(np.int64).tolist()
    keys = samples.series
    is_kept = np.zeros(len(series), np.bool_)
    is_kept[samples.owners[samples.counts > 0]] = True
    if not is_kept.all():
        keys = (np.cumsum(is_kept) - 1).astype(np.uint32)[keys]
        series = series.filter(pl.Series(is_kept))
    times = pl.Series(samples.times).cast(TIME)
    frame = pl.DataFrame({"series": keys, "time": times, "value": samples.values})
    told = {"cluster": selection.cluster, "labels": "{}"}
    label = [pl.col(name).fill_null(told[name]) if name in told else name for name in _LABELS]
    series = series.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("series"), *label)
    rows = [_row(source, many, many, 0, 0, 0) for source, many in zip(sources, runs, strict=True)]
    return _checked(series, frame, rows)


def _ordered(
    series: pl.DataFrame,
    same: npt.NDArray[np.uint32],
    samples: pl.DataFrame,
    sources: int,
    selection: Selection,
) -> _Ordered:
    samples = samples.filter(selection.holds(pl.col("time")))
    seen = samples["source"]
    samples = samples.filter(pl.col("value").is_not_nan())
    numbers = samples["source"]
    series, samples = _unique_series(series, same, samples)
    samples, repeated = unique_samples(samples)
    columns = [seen, numbers, *(repeated.filter(kind=kind)["source"] for kind in REPEATED)]
    counts = [_per_source(column, sources) for column in columns]
    return series, samples.select("series", pl.col("time").cast(TIME), "value"), counts


def _ordered_large(
    series: pl.DataFrame,
    same: npt.NDArray[np.uint32],
    told: list[pl.DataFrame],
    sources: int,
    selection: Selection,
) -> _Ordered:
    """Do the same, compiled; `told` holds the samples and is emptied."""
    from capacity.load import order

    start = order.FIRST if selection.start is None else selection.start
    end = order.LAST if selection.end is None else selection.end
    chunks = _chunks(told[0])
    tally = order.tally(chunks, same, sources, start, end)
    repeated: npt.NDArray[Any] = np.zeros((3, sources), np.int64)
    is_kept = tally.counts > 0
    if tally.is_whole and tally.is_sorted:
        # In order already, as blocks give them: nothing is moved
        samples = told.pop().select("series", "time", "value")
        if not is_kept.all():
            new = (np.cumsum(is_kept) - 1).astype(np.uint32)[same]
            keys = new[samples["series"].to_numpy()]
            samples = samples.with_columns(series=pl.Series(keys))
    else:
        times, values, counts, repeated = order.placed(chunks, same, tally, start, end)
        del chunks
        told.clear()
        columns = {"time": pl.Series(times)}
        del times
        columns["value"] = pl.Series(values)
        del values
        keys = np.repeat(np.arange(is_kept.sum(), dtype=np.uint32), counts[is_kept])
        samples = pl.DataFrame({"series": pl.Series(keys), **columns})
    series = _keyed(series if is_kept.all() else series.filter(pl.Series(is_kept)))
    told_counts = [row.tolist() for row in (tally.seen, tally.numbers, *repeated)]
    return series, samples.with_columns(pl.col("time").cast(TIME)), told_counts


def _chunks(samples: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Give the parts of samples that lie in one piece, as arrays of source, series, time, value."""
    names = ("source", "series", "time", "value")
    lengths = {tuple(map(len, samples[name].get_chunks())) for name in names}
    if len(lengths) > 1:
        samples = samples.rechunk()
    parts = [[chunk.to_numpy() for chunk in samples[name].get_chunks()] for name in names]
    return list(zip(*parts, strict=True))


def same_labels(series: pl.DataFrame) -> npt.NDArray[np.uint32]:
    """Give for each row the first one with the same labels."""
    same = np.arange(len(series), dtype=np.uint32)
    # Equal label sets have equal hashes: only rows whose hash comes twice need to be compared
    is_again = series.select(_LABELS).hash_rows().is_duplicated()
    if is_again.any():
        twice = series.with_row_index().filter(is_again)
        same[is_again.to_numpy()] = twice.select(pl.col("index").min().over(_LABELS)).to_series()
    return same


def _per_source(column: pl.Series, sources: int) -> list[int]:
    return np.bincount(column.to_numpy(), minlength=sources).tolist()  # type: ignore[no-any-return]


def _unique_series(
    series: pl.DataFrame, same: npt.NDArray[np.uint32], samples: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give series that have samples, each label set once, with dense keys; samples follow."""
    keys = same[samples["series"].to_numpy()]
    is_kept = np.zeros(len(series), bool)
    is_kept[keys] = True
    if is_kept.all():
        return _keyed(series), samples
    new = (np.cumsum(is_kept) - 1).astype(np.uint32)
    samples = samples.with_columns(series=pl.Series(new[keys]))
    return _keyed(series.filter(pl.Series(is_kept))), samples


def _keyed(series: pl.DataFrame) -> pl.DataFrame:
    return series.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("series"), *_LABELS)


def _row(
    source: Source, seen: int, numbers: int, same: int, other: int, elsewhere: int
) -> dict[str, Any]:
    reasons = list(source.faults)
    if source.refused > len(source.faults):
        reasons.append(f"{source.refused} refused in all")
    if seen > numbers:
        reasons.append(f"{seen - numbers} NaN, which is no sample")
    if other:
        reasons.append(f"{other} told again with another value, the last one is kept")
    if elsewhere:
        reasons.append(
            f"{elsewhere} told otherwise by a later file for the same series and time: scrapes of "
            "several targets need a label instance, node or pod"
        )
    if same:
        reasons.append(f"{same} told twice alike")
    if not seen + source.refused and not reasons:
        reasons.append(NOTHING_WANTED)
    return {
        "source": without_secrets(source.name),
        "format": source.format,
        "read": seen + source.refused + source.thinned,
        "kept": numbers + source.thinned - other - elsewhere,
        "refused": source.refused + seen - numbers + other + elsewhere,
        "reason": "; ".join(reasons + source.notes) or None,
    }
