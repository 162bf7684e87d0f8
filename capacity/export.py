"""Metrics: a metric export as series + samples, whatever format it came in.

Label sets are stored once (series table) and samples point to them. Reading lives in load/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from capacity.tables import SAMPLES, SERIES, SOURCES, check
from capacity.telling import without_secrets as without_secrets

if TYPE_CHECKING:
    import pandas as pd

# Labels with a column of their own; the rest goes to `labels` as JSON.
OWN_COLUMNS: Final = ("cluster", "node", "namespace", "pod", "container", "map_name")
# Rows that are compared at once
_SLICE: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Metrics:
    """A metric export: frames `series`, `samples` and `sources` (tables of the same names)."""

    series: pl.DataFrame
    samples: pl.DataFrame
    sources: pl.DataFrame

    def select(self, metric: str, **labels: str) -> pl.DataFrame:
        """Give the samples of one metric, joined with its labels, in order of series and time.

        Parameters
        ----------
        metric
            Metric name, matched whole as a regular expression.
        labels
            Label values that must be equal, e.g. ``map_name="ipcache"``.

        Returns
        -------
        DataFrame
            Columns of series without the key, then time and value.

        Examples
        --------
        >>> export = build([{"__name__": "up", "job": "a"}], [0], [0], [1.0], cluster="c")
        >>> export.select("up", job="a")["value"].to_list()
        [1.0]
        """
        chosen = self.series.filter(pl.col("metric").str.contains(f"^(?:{metric})$"))
        for name, value in labels.items():
            column = (
                pl.col(name)
                if name in OWN_COLUMNS
                else pl.col("labels").str.json_path_match(f"$['{name}']")
            )
            chosen = chosen.filter(column == value)
        found = self.samples.join(chosen, on="series", how="inner").sort("series", "time")
        return found.select([c for c in SERIES.schema if c != "series"] + ["time", "value"])

    def to_pandas(self) -> pd.DataFrame:
        """Give samples joined with their labels as a pandas frame (needs the extra `pandas`).

        Returns
        -------
        pandas.DataFrame
            A row a sample: columns of table series, then time (UTC) and value.
        """
        joined = self.samples.join(self.series, on="series", how="left").drop("series")
        return joined.select(
            [c for c in SERIES.schema if c != "series"] + ["time", "value"]
        ).to_pandas()


def source_row(
    source: str, format: str | None, *, read: int = 0, kept: int = 0, reason: str | None = None
) -> pl.DataFrame:
    """Give one row of table sources; what was read and not kept counts as refused.

    Parameters
    ----------
    source
        Path or URL, as it may be printed.
    format
        Name of the reader; None where nothing was read.
    read, kept
        Samples, series or rows, as the reader counts. [1]
    reason
        Why not all was kept.

    Returns
    -------
    DataFrame
        Table sources, one row.
    """
    row = {
        "source": without_secrets(source),
        "format": format,
        "read": read,
        "kept": kept,
        "refused": read - kept,
        "reason": reason,
    }
    return pl.DataFrame([row], schema=SOURCES.schema)


def told_once(metrics: pl.DataFrame, inventory: pl.DataFrame) -> pl.DataFrame:
    """Join what two readers tell of the same files: what only one of them knew, it tells.

    Parameters
    ----------
    metrics, inventory
        Table sources each.

    Returns
    -------
    DataFrame
        Table sources; two rows of one file only where it holds both.
    """
    rows = pl.concat([metrics, inventory])
    is_known = pl.col("format").is_not_null()
    is_again = pl.col("source").cum_count().over("source") > 1
    return rows.filter(is_known | ~is_known.any().over("source") & ~is_again)


def build(
    label_sets: Sequence[Mapping[str, str]],
    series: Iterable[int] | pl.Series,
    times: Iterable[int] | pl.Series,
    values: Iterable[float] | pl.Series,
    *,
    cluster: str,
    sources: pl.DataFrame | None = None,
) -> Metrics:
    """Make Metrics from label sets and three columns of samples.

    Parameters
    ----------
    label_sets
        One mapping a series, with ``__name__``.
    series, times, values
        Equally long: index into label_sets, milliseconds since 1970 UTC, value. NaN (stale
        markers are NaN too) is no sample and is left out.
    cluster
        Name for series that carry no label ``cluster``.
    sources
        Table sources of this export.

    Returns
    -------
    Metrics
        Tables series, samples, sources.
    """
    samples = pl.DataFrame(
        {
            "series": pl.Series(series, dtype=pl.UInt32),
            "time": pl.Series(times, dtype=pl.Int64),
            "value": pl.Series(values, dtype=pl.Float64),
        }
    ).filter(pl.col("value").is_not_nan())
    samples = samples.with_columns(pl.col("time").cast(SAMPLES.schema["time"]))
    return Metrics(
        check(_series_table(label_sets, cluster), SERIES),
        check(samples, SAMPLES),
        check(SOURCES.empty() if sources is None else sources, SOURCES),
    )


def _series_table(label_sets: Sequence[Mapping[str, str]], cluster: str) -> pl.DataFrame:
    hidden = {"__name__", *OWN_COLUMNS}
    columns: dict[str, list[str | None]] = {name: [] for name in ("metric", *OWN_COLUMNS, "labels")}
    for labels in label_sets:
        columns["metric"].append(labels.get("__name__", ""))
        for name in OWN_COLUMNS:
            columns[name].append(labels.get(name) or (cluster if name == "cluster" else None))
        rest = {k: labels[k] for k in sorted(labels) if k not in hidden}
        columns["labels"].append(json.dumps(rest, ensure_ascii=False))
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return frame.with_columns(series=pl.int_range(pl.len(), dtype=pl.UInt32))


def is_in_order(samples: pl.DataFrame) -> bool:
    """Tell whether samples are sorted by series and time, each once.

    Parameters
    ----------
    samples
        Columns series and time.

    Returns
    -------
    bool
        Whether each row is above the one before.

    Examples
    --------
    >>> is_in_order(pl.DataFrame({"series": [0, 0, 1], "time": [1, 2, 1]}))
    True
    """
    series, time = samples["series"], samples["time"].to_physical()
    for start in range(0, len(samples) - 1, _SLICE):
        # A slice and the row behind it; small ones stay in the processor's cache
        one, other = (column.slice(start, _SLICE + 1).to_numpy() for column in (series, time))
        is_next = (one[1:] == one[:-1]) & (other[1:] > other[:-1])
        if not (is_next | (one[1:] > one[:-1])).all():
            return False
    return True


def _renumbered(samples: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
    """Put new keys of series in place of old ones."""
    if keys["series"].equals(pl.Series(range(len(keys)), dtype=pl.UInt32)):
        if keys["series"].equals(keys["key"]):
            return samples.select("series", "time", "value")
        return samples.select(
            keys["key"].gather(samples["series"]).alias("series"), "time", "value"
        )
    told = samples.join(keys, on="series", how="left", maintain_order="left")
    return told.select(series="key", time="time", value="value")


def concat(parts: Sequence[Metrics]) -> Metrics:
    """Join exports: equal label sets become one series, equal (series, time) one sample.

    Where two exports disagree about a sample, the later part wins. Dropped duplicates are
    subtracted from `kept` of nobody: they are the same fact told twice.

    Parameters
    ----------
    parts
        Exports, the ones that win last.

    Returns
    -------
    Metrics
        One of all.
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return build([], [], [], [], cluster="")
    keys = [name for name in SERIES.schema if name != "series"]
    tagged = pl.concat(
        part.series.with_columns(part=pl.lit(i, pl.UInt32)) for i, part in enumerate(parts)
    )
    unique = tagged.select(keys).unique(maintain_order=True).with_row_index("key")
    joined = tagged.join(
        unique, on=keys, how="left", nulls_equal=True, maintain_order="left"
    ).partition_by("part", maintain_order=True, as_dict=True)
    told = [
        _renumbered(part.samples, joined[i,].select("series", "key"))
        for i, part in enumerate(parts)
        if len(part.samples)
    ]
    samples = pl.concat([SAMPLES.empty(), *told])
    if not is_in_order(samples):
        samples = samples.sort("series", "time", maintain_order=True)
        again = pl.all_horizontal(
            pl.col(name) == pl.col(name).shift(-1) for name in ("series", "time")
        )
        samples = samples.filter(~again.fill_null(value=False))
    return Metrics(
        check(unique.rename({"key": "series"}), SERIES),
        check(samples, SAMPLES),
        pl.concat(part.sources for part in parts),
    )
