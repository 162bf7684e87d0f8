"""Read exports and inventories: one format a file, READERS in one place.

`read` gives the metrics of a source, `read_inventory` what the cluster is made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics, concat, is_in_order, source_row
from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.load import (
    archives,
    cilium_metrics,
    exposition,
    prom_json,
    tabular,
    tsdb_dump,
    tsdb_files,
)
from capacity.load.files import beginning, ending, listed
from capacity.load.gather import NOTHING_WANTED, Selection, select
from capacity.load.instants import Instant
from capacity.load.inventories import read_inventory
from capacity.load.line_blocks import Found
from capacity.tables import SAMPLES, SERIES, SOURCES
from capacity.telling import is_url as is_url
from capacity.units import parse_duration

if TYPE_CHECKING:
    import pandas as pd

    MetricsSource = str | Path | pl.DataFrame | pd.DataFrame
    MetricsSources = MetricsSource | Sequence[MetricsSource]

__all__ = ["READERS", "is_url", "read", "read_any", "read_inventory", "write"]

write = tabular.write


@dataclass(frozen=True, slots=True)
class Reader:
    """A format of files: which files are of it, and how all of these are read at once."""

    is_mine: Callable[[Path, bytes], bool]
    read: Callable[[Sequence[Path], Selection], Sequence[Metrics]]


def _blocks(paths: Sequence[Path], selection: Selection) -> list[Metrics]:
    # Compiled code takes half a second to load
    from capacity.load import tsdb_block

    return [tsdb_block.read(paths, selection)]


# Format → how to know it from a file's path and beginning, and how to read it; the first one wins
READERS: Final[Mapping[str, Reader]] = {
    tabular.TABLES: Reader(lambda path, _: tabular.is_tables(path), tabular.read_tables),
    tsdb_files.FORMAT: Reader(tsdb_files.is_mine, _blocks),
    "parquet": Reader(
        lambda _, begins: tabular.is_parquet(begins), lambda paths, s: [tabular.read(paths, s)]
    ),
    prom_json.FORMAT: Reader(
        lambda _, begins: prom_json.is_answer(begins), lambda paths, s: [prom_json.read(paths, s)]
    ),
    cilium_metrics.FORMAT: Reader(
        lambda _, begins: cilium_metrics.is_mine(begins),
        lambda paths, s: [cilium_metrics.read(paths, s)],
    ),
    tsdb_dump.FORMAT: Reader(
        lambda _, begins: tsdb_dump.is_dump(begins), lambda paths, s: [tsdb_dump.read(paths, s)]
    ),
    exposition.FORMAT: Reader(
        lambda _, begins: exposition.is_exposition(begins),
        lambda paths, s: [exposition.read(paths, s)],
    ),
    "csv": Reader(tabular.is_csv, lambda paths, s: [tabular.read(paths, s)]),
}
# Formats whose readers need files of their own
_FILES_ONLY: Final = (tabular.TABLES, tsdb_files.FORMAT, "parquet", "csv")
# Bytes that tell the format; shorter files are read once
_BEGINNING: Final = 1 << 16
# Samples that are thinned at once
_SLICE: Final = 1 << 20
# Files of other kinds that lie beside exports; JSON and text without samples are read elsewhere
_OTHER_ENDINGS: Final = (
    ".yaml", ".yml", ".md", ".rst", ".ipynb", ".html", ".py", ".sh", ".go", ".png", ".svg", ".pdf",
    ".toml", ".json", ".jsonl", ".ndjson", ".txt", ".log", ".lock", ".css", ".js",
)  # fmt: skip
_OTHER_NAMES: Final = ("LICENSE", "NOTICE", "OWNERS", "CODEOWNERS", "Makefile", "Dockerfile")
_WANTED: Final = (
    "wanted is a Prometheus or OpenMetrics scrape, an answer of the Prometheus API (JSON), "
    "blocks of Prometheus, a dump of promtool, cilium-dbg metrics list, CSV or Parquet"
)


def read(
    source: MetricsSources,
    *,
    metrics: str | Iterable[str] | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    step: str | float | None = None,
    cluster: str | None = None,
    only_cluster: str | None = None,
) -> Metrics:
    """Read a metric export, whatever format it is in.

    Parameters
    ----------
    source
        File; folder or archive (zip, tar.gz), read with all in it, hidden ones left out; glob; URL
        of a Prometheus-compatible API, or of object storage (``s3://``, ``gs://``, ``abfs://``,
        extra `cloud`); polars or pandas frame, long or wide; or several of these.
        Files: Prometheus text and OpenMetrics scrapes, saved answers of the API, CSV, Parquet,
        tables written by `write`; each may be gzip'd or zstd'd; blocks of Prometheus' database.
    metrics
        Names or regular expressions of the metrics to keep; all where left out (of an API: those
        of Cilium, see prom_api.DEFAULT_METRICS).
    start, end
        First and last time: datetime, RFC 3339, epoch, or a duration before now as ``"-7d"``.
    step
        Resolution [s] or duration such as ``"5m"``: asked of an API, and of files the last sample
        of each step is kept. Text is thinned while it is read: samples left out so count as kept in
        table sources, and whether they are told twice is not looked at.
    cluster
        Name of series without a label cluster; where left out that of the only cluster the
        source names, else ``default``, Cilium's own default.
    only_cluster
        The only cluster that is needed: of an API and of blocks that hold several, its series alone
        are read. Of other files, of a server beside other sources, and where the label ``cluster``
        of any source does not tell clusters apart, all are given.

    Returns
    -------
    Metrics
        Column `refused` of `sources` counts what could not be used, with the reasons.

    Raises
    ------
    ExportError
        If the source does not exist, does not answer, or nothing in it can be read.
    SettingsError
        If an argument cannot be used.
    """
    # Series without a label cluster keep the empty name until all sources are known
    selection = select(metrics, start, end, cluster or "", now=time.time())
    width = None if step is None else parse_duration(step, what="step")
    if width is not None and width <= 0:
        raise SettingsError(f"step: {step!r} is no time; write for example 5m")
    many = isinstance(source, Sequence) and not isinstance(source, str)
    sources: list[Any] = list(source) if many else [source]  # type: ignore[arg-type]
    if not sources:
        raise SettingsError("source: an empty list; name a file, folder, URL or frame")
    if width is not None:
        selection = replace(selection, step=round(width * 1000) or None)
    # Servers are not asked twice
    is_asked = len(sources) == 1 or not any(is_url(one) and _is_server(one) for one in sources)
    selection = replace(selection, only=only_cluster if is_asked else None)
    parts: list[Metrics] = []
    for one in sources:
        parts += _read_one(one, selection, width)
        if selection.only is not None and len(parts) > 1 and not _tell_clusters(parts):
            # Names of clusters that are left out tell of what cluster these series are
            everything = replace(selection, only=None)
            parts = [part for other in sources for part in _read_one(other, everything, width)]
            break
    return concat(parts if cluster else _with_cluster(parts))


def read_any(source: str) -> tuple[Metrics, Inventory]:
    """Read what is in a source, metrics and inventory; one of both is enough.

    Raises
    ------
    ExportError
        If nothing in the source can be read.
    """
    if is_url(source):
        return read(source), Inventory()
    inventory = read_inventory(source, required=False)
    try:
        return read(source), inventory
    except ExportError as error:
        if inventory.unknown == Inventory().unknown:
            raise
        reason = str(error).removeprefix(f"{source}: ")
        told = source_row(source, None, reason=reason)
        return Metrics(SERIES.empty(), SAMPLES.empty(), told), inventory


def _is_server(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _tell_clusters(parts: Sequence[Metrics]) -> bool:
    """Tell whether every series has a label cluster, and no other label that may name one."""
    others = [f'"{name}":' for name in derivations.labels("cluster") if name != "cluster"]
    is_unsure = (pl.col("cluster") == "") | pl.col("labels").str.contains_any(others)
    return not any(part.series.select(is_unsure.any()).item() for part in parts)


def _read_one(source: Any, selection: Selection, step: float | None) -> list[Metrics]:
    if is_url(source) and _is_server(source):
        # Files are read without an HTTP client
        from capacity.load import prom_api

        return [prom_api.read(source, selection, step)]
    if isinstance(source, str | Path):
        paths = listed(source)
        is_named = is_url(source) and len(paths) == 1 or Path(source).is_file()
        is_named &= not archives.is_archive(Path(source))
        parts = _read_files(paths, selection, is_named=is_named)
    elif hasattr(source, "columns"):
        parts = [tabular.from_frame(source, selection)]
    else:
        raise SettingsError(f"source: {type(source).__name__} is no path, URL or frame")
    _refuse_nothing(str(source) if isinstance(source, str | Path) else "frame", parts)
    return parts if step is None else [_thinned(part, step) for part in parts]


def _read_files(paths: Sequence[Path], selection: Selection, *, is_named: bool) -> list[Metrics]:
    """Read files by their formats; a file that was named itself is not skipped."""
    groups: dict[str, list[Path]] = {}
    unknown: list[tuple[Path, str]] = []
    found = _sorted_out(paths, groups, unknown, is_named=is_named)
    first = next(found, None)
    # Scrapes are read while files are sorted: small ones are opened once, and by two cores
    scrapes = [exposition.read_found(chain([first], found), paths, selection)] if first else []
    parts = [
        part
        for name, group in groups.items()
        for part in (scrapes if name == exposition.FORMAT else READERS[name].read(group, selection))
    ]
    rows = [source_row(str(path), None, reason=reason) for path, reason in unknown]
    if rows:
        parts.append(Metrics(SERIES.empty(), SAMPLES.empty(), pl.concat(rows)))
    return parts


def _sorted_out(
    paths: Sequence[Path],
    groups: dict[str, list[Path]],
    unknown: list[tuple[Path, str]],
    *,
    is_named: bool,
) -> Iterator[Found]:
    """Put files in groups by format, others where they are unknown and why; give scrapes."""
    for path in paths:
        try:
            begins = beginning(path, _BEGINNING)
        except ExportError as error:
            unknown.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        format = next((name for name, r in READERS.items() if r.is_mine(path, begins)), None)
        if isinstance(path, archives.Member) and format in _FILES_ONLY:
            unknown.append((path, f"{format} is not read inside an archive; unpack it first"))
        elif format is not None:
            groups.setdefault(format, []).append(path)
            if format == exposition.FORMAT:
                yield path, begins if len(begins) < _BEGINNING else None
        elif is_named or not _is_other(path, begins):
            unknown.append((path, _what_it_is(begins)))


def _is_other(path: Path, begins: bytes) -> bool:
    """Tell whether a file beside exports is recognizably something else."""
    is_other = ending(path) in _OTHER_ENDINGS or path.name.split(".")[0] in _OTHER_NAMES
    return is_other and bool(begins) and b"\0" not in begins


def _what_it_is(begins: bytes) -> str:
    if not begins.strip():
        return "is empty; export it again"
    kind = (
        "is binary"
        if b"\0" in begins
        else f"begins with {begins[:40].decode('utf-8', 'replace')!r}"
    )
    return f"{kind}; {_WANTED}"


def _refuse_nothing(source: str, parts: Sequence[Metrics]) -> None:
    """Refuse a source of which nothing could be read; not one that holds nothing wanted."""
    for part in parts:
        for kept, reason in zip(part.sources["kept"], part.sources["reason"], strict=True):
            if kept or (reason is not None and reason.startswith(NOTHING_WANTED)):
                return
    told = pl.concat([SOURCES.empty(), *(part.sources for part in parts)])
    if told.is_empty():
        raise ExportError(f"{source}: no export of metrics in it; {_WANTED}")
    faults = [f"{name}: {reason}" for name, reason in told.select("source", "reason").iter_rows()]
    # A fault of a line names its file itself
    first = faults[0] if len(told) > 1 or told["source"][0] != source else str(told["reason"][0])
    prefix = "" if first.startswith(source) else f"{source}: "
    more = f"; and {len(faults) - 1} more files" if len(faults) > 1 else ""
    raise ExportError(f"{prefix}{first}{more}")


def _thinned(metrics: Metrics, step: float) -> Metrics:
    """Keep the last sample of each step; a slice at a time, so that no copy of all is made."""
    window = pl.col("time").dt.epoch("ms") // round(step * 1000)
    is_last = (window != window.shift(-1)) | (pl.col("series") != pl.col("series").shift(-1))
    samples = metrics.samples
    if not is_in_order(samples):
        samples = samples.sort("series", "time")
    parts = [samples.clear()]
    for start in range(0, len(samples), _SLICE):
        # A slice and the row behind it, which tells whether the last one ends a step
        part = samples.slice(start, _SLICE + 1)
        told = part.select(is_last.fill_null(value=True)).to_series()
        parts.append(part.head(_SLICE).filter(told.head(_SLICE)))
    return replace(metrics, samples=pl.concat(parts))


def _with_cluster(parts: Sequence[Metrics]) -> list[Metrics]:
    """Name the cluster of series that do not: as Cilium's metrics do if they name one, or default.

    Other exporters have labels `cluster` of their own, such as that of an etcd.
    """
    is_nameless = pl.col("cluster") == ""
    which = is_nameless.any().alias("some"), is_nameless.all().alias("every")
    told = [part.series.select(which).row(0) for part in parts]
    if not any(some for some, _ in told):
        return list(parts)
    is_named = pl.col("metric").str.starts_with("cilium_") & ~is_nameless
    named = {
        name
        for part, (_, every) in zip(parts, told, strict=True)
        if not every
        for name in part.series.filter(is_named)["cluster"].unique()
    }
    name = pl.lit(named.pop() if len(named) == 1 else Selection().cluster)
    mixed = pl.when(is_nameless).then(name).otherwise("cluster")
    # A literal takes no memory for each row
    return [
        replace(part, series=part.series.with_columns(cluster=name if every else mixed))
        if some
        else part
        for part, (some, every) in zip(parts, told, strict=True)
    ]
