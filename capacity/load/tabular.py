"""CSV and Parquet: one sample a row, one series a column, or our own series + samples tables."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from capacity.errors import ExportError, SchemaError
from capacity.export import Metrics, build, concat, source_row
from capacity.load.exposition import parse_labels
from capacity.load.files import ending, opened
from capacity.tables import SAMPLES, SERIES, check

_TIME: Final = ("time", "timestamp", "Time", "ts", "date")
_METRIC: Final = ("metric", "__name__")
_SERIES: Final = "series.parquet"
# Unix times below this are seconds: 1e11 s is the year 5138, 1e11 ms is 1973
_SECONDS: Final = 1e11


def read_files(files: Sequence[Path], *, wanted: str | None, cluster: str) -> Metrics:
    """Read tables.

    Three shapes are known: our own (a folder with series.parquet and samples*.parquet), long
    (columns time, value, metric and a column a label), and wide (a column time, and a column a
    series with its text such as ``up{job="a"}`` as the header).
    """
    own = {file.parent for file in files if file.name == _SERIES}
    parts = [_read_own(folder, wanted) for folder in sorted(own)]
    for file in files:
        if file.parent in own and file.suffix == ".parquet":
            continue
        try:
            parts.append(_read_one(file, wanted, cluster))
        except (ExportError, pl.exceptions.PolarsError) as error:
            reason = " ".join(str(error).removeprefix(f"{file}: ").split())[:300]
            row = source_row(str(file), ending(file).lstrip("."), reason=reason)
            parts.append(build([], [], [], [], cluster=cluster, sources=row))
    return concat(parts)


def _read_own(folder: Path, wanted: str | None) -> Metrics:
    try:
        series = check(pl.read_parquet(folder / _SERIES), SERIES)
        chosen = series if wanted is None else series.filter(pl.col("metric").str.contains(wanted))
        # The filter is pushed into the scan: row groups without wanted series are not decoded
        scans = [pl.scan_parquet(file) for file in sorted(folder.glob("samples*.parquet"))]
        keys = chosen["series"]
        samples = pl.concat(scans).filter(pl.col("series").is_in(keys.implode())).collect()
        samples = check(samples.filter(pl.col("value").is_not_nan()), SAMPLES)
    except (pl.exceptions.PolarsError, SchemaError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        row = source_row(str(folder), "parquet", reason=reason)
        return build([], [], [], [], cluster="", sources=row)
    row = source_row(str(folder), "parquet", read=len(samples), kept=len(samples))
    return Metrics(chosen, samples, row)


def _read_one(file: Path, wanted: str | None, cluster: str) -> Metrics:
    if ending(file) == ".parquet":
        frame = pl.read_parquet(file)
    else:
        with opened(file) as stream:
            frame = pl.read_csv(stream.read(), infer_schema=False)
    return from_frame(frame, source=str(file), wanted=wanted, cluster=cluster)


def from_frame(
    frame: pl.DataFrame, *, source: str = "frame", wanted: str | None = None, cluster: str
) -> Metrics:
    """Give a long or wide frame as metrics.

    Raises
    ------
    ExportError
        If it has no column of times, or no rows.
    """
    time = next((name for name in _TIME if name in frame.columns), None)
    if time is None:
        raise ExportError(f"{source}: no column of times {_TIME}; present: {frame.columns}")
    if frame.is_empty():
        raise ExportError(f"{source}: has no rows")
    metric = next((name for name in _METRIC if name in frame.columns), None)
    stamps = _milliseconds(frame[time])
    if metric is not None and "value" in frame.columns:
        long = frame.rename({metric: "__name__"}).with_columns(_time=stamps)
        long = long.drop([name for name in (time,) if name != "_time"])
    else:
        columns = [name for name in frame.columns if name != time]
        long = (
            frame.select(columns)
            .with_columns(_time=stamps)
            .unpivot(index="_time", variable_name="_text", value_name="value")
        )
    return _from_long(long, source, wanted, cluster)


def _milliseconds(times: pl.Series) -> pl.Series:
    if times.dtype.is_temporal():
        return times.dt.epoch("ms")
    numbers = times.cast(pl.Float64, strict=False)
    if numbers.null_count() < len(numbers):
        factor = 1000 if (numbers.median() or 0) < _SECONDS else 1  # type: ignore[operator]
        return (numbers * factor).round().cast(pl.Int64)
    text = times.cast(pl.String).str.strip_chars().str.replace(" ", "T", literal=True)
    zoned = pl.when(text.str.contains(r"(Z|[+-]\d\d:?\d\d)$")).then(text).otherwise(text + "Z")
    parsed = pl.select(zoned.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False))
    return parsed.to_series().dt.epoch("ms")


def _from_long(long: pl.DataFrame, source: str, wanted: str | None, cluster: str) -> Metrics:
    keys = [name for name in long.columns if name not in ("_time", "value")]
    number = pl.col("value").cast(pl.Float64, strict=False)
    rows = long.with_columns(_number=number).filter(pl.col("value").is_not_null())
    distinct = rows.select(keys).unique(maintain_order=True).with_row_index("_series")
    label_sets = [_labels(row) for row in distinct.select(keys).iter_rows(named=True)]
    rows = rows.join(distinct, on=keys, how="left", nulls_equal=True)
    bad = rows.filter(pl.col("_number").is_null() | pl.col("_time").is_null())
    good = rows.filter(pl.col("_number").is_not_null(), pl.col("_time").is_not_null())
    reason = None
    if len(bad):
        shown = bad["value"].cast(pl.String)[0]
        reason = f"{len(bad)} rows have no plain number or time, e.g. value {shown!r}"
    row = source_row(source, "table", read=len(rows), kept=len(good), reason=reason)
    made = build(
        label_sets, good["_series"], good["_time"], good["_number"], cluster=cluster, sources=row
    )
    if wanted is None:
        return made
    chosen = made.series.filter(pl.col("metric").str.contains(wanted))
    return Metrics(chosen, made.samples.join(chosen, on="series", how="semi"), made.sources)


def _labels(row: dict[str, object]) -> dict[str, str]:
    if "_text" in row:
        text = str(row["_text"])
        return parse_labels(text) or {"__name__": text}
    return {name: str(value) for name, value in row.items() if value is not None}


def write(metrics: Metrics, folder: Path) -> None:
    """Write series.parquet and samples.parquet; the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        metrics.series.write_parquet(work / _SERIES)
        metrics.samples.write_parquet(work / "samples.parquet")
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
