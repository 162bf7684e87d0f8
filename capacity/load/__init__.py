"""Read exports and inventories: one format a file, READERS in one place.

`read` gives the metrics of a source, `read_inventory` what the cluster is made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics, concat, source_row, without_secrets
from capacity.load import exposition, prom_api, prom_json, tabular
from capacity.load.files import beginning, ending, listed
from capacity.load.gather import Instant, Selection, select
from capacity.load.inventories import read_inventory
from capacity.tables import SAMPLES, SERIES
from capacity.units import parse_duration

if TYPE_CHECKING:
    import pandas as pd

    MetricsSource = str | Path | pl.DataFrame | pd.DataFrame
    MetricsSources = MetricsSource | Sequence[MetricsSource]

__all__ = ["READERS", "is_url", "read", "read_inventory", "write"]

write = tabular.write


@dataclass(frozen=True, slots=True)
class Reader:
    """A format of files: which files are of it, and how all of these are read at once."""

    is_mine: Callable[[Path, bytes], bool]
    read: Callable[[Sequence[Path], Selection], Sequence[Metrics]]


# Format → how to know it from a file's path and beginning, and how to read it; the first one wins
READERS: Final[Mapping[str, Reader]] = {
    tabular.TABLES: Reader(lambda path, _: tabular.is_tables(path), tabular.read_tables),
    "parquet": Reader(
        lambda _, begins: tabular.is_parquet(begins), lambda paths, s: [tabular.read(paths, s)]
    ),
    prom_json.FORMAT: Reader(
        lambda _, begins: prom_json.is_answer(begins), lambda paths, s: [prom_json.read(paths, s)]
    ),
    exposition.FORMAT: Reader(
        lambda _, begins: exposition.is_exposition(begins),
        lambda paths, s: [exposition.read(paths, s)],
    ),
    "csv": Reader(tabular.is_csv, lambda paths, s: [tabular.read(paths, s)]),
}
# What looks like an export by its name; such a file is told of where no reader knows it
_METRICS_ENDINGS: Final = (".prom", ".om", ".csv", ".tsv", ".parquet")
# Files of other kinds that lie beside exports; JSON and text without samples are read elsewhere
_OTHER_ENDINGS: Final = (
    ".yaml", ".yml", ".md", ".rst", ".ipynb", ".html", ".py", ".sh", ".go", ".png", ".svg", ".pdf",
    ".toml", ".json", ".jsonl", ".ndjson", ".txt", ".log", ".lock", ".css", ".js",
)  # fmt: skip
_OTHER_NAMES: Final = ("LICENSE", "NOTICE", "OWNERS", "CODEOWNERS", "Makefile", "Dockerfile")
_WANTED: Final = (
    "wanted is a Prometheus or OpenMetrics scrape, an answer of the Prometheus API (JSON), "
    "CSV or Parquet"
)


def is_url(source: object) -> bool:
    """Tell whether a source is a URL.

    >>> is_url("https://prometheus.example:9090"), is_url("scrapes/")
    (True, False)
    """
    return isinstance(source, str) and "://" in source


def read(
    source: MetricsSources,
    *,
    metrics: str | Iterable[str] | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
    step: str | float | None = None,
    cluster: str | None = None,
) -> Metrics:
    """Read a metric export, whatever format it is in.

    Parameters
    ----------
    source
        File; folder, read with all below it, hidden ones left out; glob; URL of a
        Prometheus-compatible API; polars or pandas frame, long or wide; or several of these.
        Files: Prometheus text and OpenMetrics scrapes, saved answers of the API, CSV, Parquet,
        tables written by `write`; each may be gzip'd or zstd'd.
    metrics
        Names or regular expressions of the metrics to keep; all where left out (of an API: those
        of Cilium, see prom_api.DEFAULT_METRICS).
    start, end
        First and last time: datetime, RFC 3339, epoch, or a duration before now as ``"-7d"``.
    step
        Resolution [s] or duration such as ``"5m"``: asked of an API, and of files the last sample
        of each step is kept.
    cluster
        Name of series without a label cluster; where left out that of the only cluster the
        source names, else ``default``, Cilium's own default.

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
    selection = select(metrics, start, end, cluster, now=time.time())
    width = None if step is None else parse_duration(step, what="step")
    if width is not None and width <= 0:
        raise SettingsError(f"step: {step!r} is not longer than nothing; write for example 5m")
    many = isinstance(source, Sequence) and not isinstance(source, str)
    parts = [
        part
        for one in (source if many else [source])
        for part in _read_one(one, selection, width)
    ]
    if cluster is None:
        parts = _with_only_cluster(parts, selection.cluster)
    return concat(parts)


def _read_one(source: Any, selection: Selection, step: float | None) -> list[Metrics]:
    if not isinstance(source, str | Path):
        if not hasattr(source, "columns"):
            raise SettingsError(
                f"source: {type(source).__name__} is no path, URL, polars or pandas frame"
            )
        return [_thinned(_checked("frame", [tabular.from_frame(source, selection)]), step)]
    if is_url(source):
        return [prom_api.read(str(source), selection, step)]
    paths = listed(source)
    parts = [part for part in _read_files(paths) (selection)]
    return [_thinned(_checked(str(source), parts), step)]
