"""CSV, Parquet and frames: one sample a row, or one series a column; and our own tables.

Our own tables are series.parquet with samples.parquet (or samples-*.parquet) beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from capacity.errors import ExportError, SchemaError, SettingsError
from capacity.export import Metrics, source_row
from capacity.load.files import PACKED, beginning, ending, whole
from capacity.load.gather import FIRST_MILLISECOND, Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_columns, parse_labels
from capacity.load.object_store import is_remote
from capacity.tables import SAMPLES, SERIES, check

FORMAT: Final = "tabular"
TABLES: Final = "tables"
_SERIES_FILE: Final = "series.parquet"
_SAMPLES_FILE: Final = "samples.parquet"
_PARQUET: Final = b"PAR1"
_DELIMITERS: Final = ",;\t"
# Names of columns, in any case
_TIME: Final = ("time", "timestamp", "ts", "datetime", "date")
_METRIC: Final = ("metric", "__name__", "metric_name")
_VALUE: Final = "value"
_LABELS: Final = "labels"
_TOLD_ROWS: Final = 3
_SAMPLE: Final = {"series": pl.UInt32, "time": pl.Int64, "value": pl.Float64}


@dataclass(frozen=True, slots=True)
class _Part:
    """What a table told: label sets, and samples that point to them; time or value may be null."""

    labels: Sequence[Mapping[str, str]]
    samples: pl.DataFrame


def is_csv(path: Path, begins: bytes) -> bool:
    """Tell whether a file is a table as text: by its name, or by a header with a time."""
    if ending(path) in (".csv", ".tsv"):
        return True
    header = begins.split(b"\n", 1)[0].decode("utf-8", "replace")
    names = [name.strip().strip('"').lower() for name in header.split(_delimiter(header))]
    return len(names) > 1 and any(name in _TIME for name in names)


def is_parquet(begins: bytes) -> bool:
    """Tell whether a file is Parquet."""
    return begins.startswith(_PARQUET)


def is_tables(path: Path) -> bool:
    """Tell whether a file is one of our own tables, each beside the other."""
    is_samples = path.name.startswith("samples") and path.suffix == ".parquet"
    if path.name == _SERIES_FILE:
        return any(path.parent.glob("samples*.parquet"))
    return is_samples and (path.parent / _SERIES_FILE).is_file()


def write(metrics: Metrics, folder: Path) -> Path:
    """Write series.parquet and samples.parquet; the folder appears whole or not at all.

    Raises
    ------
    SettingsError
        If the folder holds other files, or cannot be written.
    """
    folder = Path(folder)
    try:
        held = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if others := sorted(held - {_SERIES_FILE, _SAMPLES_FILE}):
            raise SettingsError(f"{folder}: holds other files ({others[0]} …); name a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            fresh = Path(place) / "new"
            fresh.mkdir()
            metrics.series.write_parquet(fresh / _SERIES_FILE)
            metrics.samples.write_parquet(fresh / _SAMPLES_FILE)
            if folder.exists():
                folder.rename(Path(place) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def read_tables(paths: Sequence[Path], selection: Selection) -> list[Metrics]:
    """Read our own tables as they were written; one Metrics a folder.

    Parameters
    ----------
    paths
        Files for which `is_tables` holds.
    selection
        Wanted metrics and times; both are pushed down into the scan.
    """
    return [_tables(folder, selection) for folder in dict.fromkeys(p.parent for p in paths)]


def _tables(folder: Path, selection: Selection) -> Metrics:
    try:
        series = check(pl.read_parquet(_scanned(folder / _SERIES_FILE)), SERIES)
        files = sorted(folder.glob("samples*.parquet"))
        scan = pl.concat(pl.scan_parquet(_scanned(file)) for file in files)
        wanted = series.filter(selection.wants(pl.col("metric")))
        scan = scan.filter(selection.holds(pl.col("time").dt.epoch("ms")))
        if len(wanted) < len(series):
            scan = scan.filter(pl.col("series").is_in(wanted["series"].implode()))
        told = scan.collect(engine="streaming")
        samples = check(told.filter(pl.col("value").is_not_nan()), SAMPLES)
        known = samples["series"].is_in(series["series"].implode())
    except (pl.exceptions.PolarsError, SchemaError, OSError) as error:
        row = source_row(str(folder), TABLES, reason=_in_one_line(error, folder))
        return Metrics(SERIES.empty(), SAMPLES.empty(), row)
    kept = samples.filter(known)
    reasons = []
    if len(kept) < len(samples):
        reasons.append(f"{len(samples) - len(kept)} samples of series that are not in the table")
    if len(samples) < len(told):
        reasons.append(f"{len(told) - len(samples)} NaN, which is no sample")
    reason = "; ".join(reasons) or None
    row = source_row(str(folder), TABLES, read=len(told), kept=len(kept), reason=reason)
    return Metrics(wanted, kept, row)


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read CSV and Parquet files; one that cannot be read is a row of sources with its reason.

    Two shapes are known. Long: columns time, value and metric, and a column a label, or `labels`
    with a JSON object; without a column metric the file's name is the metric. Wide: a column time
    and a column a series, whose header is ``name`` or ``name{label="value"}``.

    Notes
    -----
    Files are scanned, not held: memory is 28 byte a wanted sample, and distinct label sets once.
    Packed CSV is held whole. Times are epoch seconds, milliseconds, or RFC 3339 (UTC where they
    name no zone); values are plain numbers.
    """
    return _assembled([(str(path), path) for path in paths], selection)


def from_frame(frame: Any, selection: Selection) -> Metrics:
    """Read a polars or pandas frame, long or wide as `read` says; a pandas index may be the time.

    Raises
    ------
    ExportError
        If it has no column of times.
    """
    if isinstance(frame, pl.DataFrame):
        return _assembled([("frame", frame.lazy())], selection)
    index = frame.index
    is_plain = index.nlevels == 1 and index.name is None and index.dtype.kind in "iu"
    plain = frame if is_plain else frame.reset_index().rename(columns={"index": "time"})
    plain = plain.rename(columns=str)
    return _assembled([("frame", pl.from_pandas(plain).lazy())], selection)


def _assembled(inputs: Sequence[tuple[str, Path | pl.LazyFrame]], selection: Selection) -> Metrics:
    sources: list[Source] = []
    labels: list[Mapping[str, str]] = []
    parts = [pl.DataFrame(schema={"source": pl.UInt32, **_SAMPLE})]
    for index, (name, given) in enumerate(inputs):
        sources.append(Source(name, FORMAT))
        try:
            scan = given if isinstance(given, pl.LazyFrame) else _scan(given)
            part = _read(scan, sources[-1], selection)
        except (ExportError, pl.exceptions.PolarsError, OSError) as error:
            sources[-1].refuse(_in_one_line(error, name), count=0)
            continue
        shift = pl.col("series") + len(labels)
        columns = [pl.lit(index, pl.UInt32).alias("source"), shift, "time", "value"]
        parts.append(part.samples.select(columns))
        labels += part.labels
    schema = dict.fromkeys(LABEL_COLUMNS, pl.String)
    series = pl.DataFrame([label_columns(one) for one in labels], schema=schema)
    return assemble(series, pl.concat(parts), sources, selection)


def _in_one_line(error: Exception, name: object) -> str:
    told = " ".join(str(error).removeprefix(f"{name}: ").split())
    return told if len(told) <= 300 else told[:300] + " …"


def _scanned(path: Path) -> Path | bytes:
    """Give what polars reads: it knows local paths only, as long as they are no URLs of its own."""
    return path.read_bytes() if is_remote(path) else path


def _scan(path: Path) -> pl.LazyFrame:
    begins = beginning(path)
    if is_parquet(begins):
        return pl.scan_parquet(_scanned(path))
    if not begins.strip():
        raise ExportError(f"{path}: is empty; export it again")
    if b"\0" in begins:
        raise ExportError(f"{path}: is binary, wanted is CSV or Parquet")
    lines = begins.decode("utf-8-sig", "replace").splitlines()
    # What Excel reads: a first line that names the delimiter
    is_told = lines[0].lower().startswith("sep=")
    header = lines[1] if is_told and len(lines) > 1 else lines[0]
    return pl.scan_csv(
        whole(path) if path.suffix.lower() in PACKED else _scanned(path),
        separator=lines[0][4:5] if is_told and lines[0][4:5] else _delimiter(header),
        skip_rows=int(is_told),
        infer_schema=False,
        # polars 2.1 leaves doubled quotes in a quoted header as they are
        with_column_names=lambda names: [name.replace('""', '"') for name in names],
        null_values=["", "null"],
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
    )


def _delimiter(header: str) -> str:
    """Give the delimiter that is most frequent outside of quotes."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _read(scan: pl.LazyFrame, source: Source, selection: Selection) -> _Part:
    names = scan.collect_schema().names()
    lower = {name.strip().lower(): name for name in reversed(names)}
    time = next((lower[name] for name in _TIME if name in lower), None)
    if time is None:
        raise ExportError(f"{source.name}: no column of times {_TIME}; present: {names[:20]}")
    scan = scan.with_columns(_moment(scan, time, source).alias("_time"))
    part = (_long if _VALUE in lower else _wide)(scan, time, source, selection)
    good = part.samples.drop_nulls()
    if bad := len(part.samples) - len(good):
        source.refused += bad
    return _Part(part.labels, good)


def _moment(scan: pl.LazyFrame, time: str, source: Source) -> pl.Expr:
    """Give times in milliseconds; null where they are none."""
    column, dtype = pl.col(time), scan.collect_schema()[time]
    if dtype.is_temporal():
        return column.cast(pl.Datetime("ms")).dt.epoch("ms")
    text = column.cast(pl.String).str.strip_chars()
    number = column.cast(pl.Float64, strict=False)
    # Seconds, milliseconds, microseconds, nanoseconds: each is a thousand times the other
    size = number.abs()
    epoch = (
        pl.when(size < FIRST_MILLISECOND)
        .then(number * 1000)
        .when(size < FIRST_MILLISECOND * 1e3)
        .then(number)
        .when(size < FIRST_MILLISECOND * 1e6)
        .then(number / 1e3)
        .otherwise(number / 1e6)
    )
    has_zone = text.str.contains(r"(?i)\d(Z|\s?UTC|\s?GMT|[+-]\d\d:?\d\d)$")
    zoned = text.str.replace(r"(?i)\s?(Z|UTC|GMT)$", "+00:00").str.replace(" ", "T", literal=True)
    zoned = pl.when(has_zone).then(zoned).otherwise(zoned + "+00:00")
    zoned = zoned.str.replace(r"T(\d\d:\d\d)\+", "T$1:00+")
    told = zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="ms", strict=False)
    local = scan.select(number.is_null() & ~has_zone & told.is_not_null()).head(1000)
    if dtype == pl.String and local.collect().to_series().any():
        source.notes.append("times name no zone and are taken as UTC")
    return pl.coalesce(epoch.round().cast(pl.Int64, strict=False), told.dt.epoch("ms"))


def _long(scan: pl.LazyFrame, time: str, source: Source, selection: Selection) -> _Part:
    """Read one sample a row: first the distinct label sets, then samples that point to them."""
    names = [name for name in scan.collect_schema().names() if name not in (time, "_time")]
    value = next(name for name in names if name.strip().lower() == _VALUE)
    metric = next((n for low in _METRIC for n in names if n.strip().lower() == low), None)
    keys = [name for name in names if name not in (value, metric)]
    scan = scan.filter(pl.col(value).is_not_null())
    if metric is None:
        stem = Path(source.name).name.split(".")[0]
        name = pl.lit(stem)
        source.notes.append(f"no column metric: called {stem}, as the file")
    else:
        name = pl.col(metric).cast(pl.String)
    scan = scan.select(
        "_time",
        pl.col(value).alias("_value"),
        name.alias("__name__"),
        *(_text(scan, key) for key in keys if key != "__name__"),
    ).filter(selection.wants(pl.col("__name__")), _in_time(selection))
    keys = [key for key in scan.collect_schema().names() if key not in ("_time", "_value")]
    distinct = scan.select(keys).unique(maintain_order=True).collect(engine="streaming")
    distinct = distinct.with_columns(series=pl.int_range(pl.len(), dtype=pl.UInt32))
    number = pl.col("_value").cast(pl.Float64, strict=False)
    _tell_bad(scan, number, value, source)
    samples = scan.join(
        distinct.lazy(), on=keys, how="left", nulls_equal=True, maintain_order="left"
    )
    samples = samples.select("series", time="_time", value=number)
    labels = [_labels_of(row) for row in distinct.select(keys).iter_rows(named=True)]
    return _Part(labels, samples.collect(engine="streaming"))


def _text(scan: pl.LazyFrame, key: str) -> pl.Expr:
    dtype = scan.collect_schema()[key]
    column = pl.col(key)
    return column.struct.json_encode() if dtype == pl.Struct else column.cast(pl.String)


def _in_time(selection: Selection) -> pl.Expr:
    """Keep rows without a time: they are counted as refused."""
    return selection.holds(pl.col("_time")) | pl.col("_time").is_null()


def _tell_bad(scan: pl.LazyFrame, number: pl.Expr, value: str, source: Source) -> None:
    """Name the first rows whose value is no plain number, or whose time is none."""
    bad = scan.with_row_index("_row").filter(number.is_null() | pl.col("_time").is_null())
    rows = bad.select("_row", pl.col("_value").cast(pl.String), "_time").head(_TOLD_ROWS)
    for row, told, time in rows.collect(engine="streaming").iter_rows():
        what = "its time is none (RFC 3339 or epoch)" if time is None else "is no plain number"
        source.refuse(
            f"row {row + 1}: {value} {told!r}: {what}; export raw values, without units", count=0
        )


def _labels_of(row: Mapping[str, str | None]) -> dict[str, str]:
    labels = {name: text for name, text in row.items() if text and name != _LABELS}
    if told := row.get(_LABELS):
        try:
            more = orjson.loads(told)
        except orjson.JSONDecodeError:
            more = told
        # A column that happens to be called labels and holds no object is a label as any other
        labels |= (
            {str(k): str(v) for k, v in more.items() if v is not None and v != ""}
            if (isinstance(more, dict))
            else {_LABELS: told}
        )
    return labels


def _wide(scan: pl.LazyFrame, time: str, source: Source, selection: Selection) -> _Part:
    """Read one series a column; an empty cell is no sample."""
    headers = [name for name in scan.collect_schema().names() if name not in (time, "_time")]
    if not headers:
        raise ExportError(f"{source.name}: has a column of times and nothing else")
    told = {name: parse_labels(name) for name in headers}
    names = pl.DataFrame({"metric": [(told[h] or {}).get("__name__") for h in headers]})
    is_wanted = names.select(selection.wants(pl.col("metric"))).to_series()
    wanted = [h for h, wants in zip(headers, is_wanted, strict=True) if wants]
    if odd := [h for h in headers if told[h] is None]:
        cells = scan.select(pl.sum_horizontal(pl.col(odd).is_not_null().sum())).collect().item()
        source.refuse(
            f'column {odd[0]!r}: the header is no series; wanted is name or name{{label="value"}}',
            count=cells,
        )
    number = pl.col("_value").cast(pl.Float64, strict=False)
    numbers = pl.int_range(len(wanted), dtype=pl.UInt32, eager=True)
    rows = (
        scan.filter(_in_time(selection))
        .unpivot(wanted, index="_time", variable_name="_header", value_name="_value")
        .filter(pl.col("_value").is_not_null())
    )
    _tell_bad(rows, number, "value", source)
    series = pl.col("_header").replace_strict(wanted, numbers, return_dtype=pl.UInt32)
    samples = rows.select(series.alias("series"), time="_time", value=number)
    return _Part([told[h] or {} for h in wanted], samples.collect(engine="streaming"))
