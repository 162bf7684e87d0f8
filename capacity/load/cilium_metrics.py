"""What `cilium-dbg metrics list` prints, as JSON or as a table: one moment of one agent.

Format: cilium/cilium pkg/metrics/cmd.go writeMetricsFromRegistry (since v1.17; before it
cilium-dbg/cmd/metrics_list.go) and api/v1/models/metric.go, where a value of 0 is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from capacity import facts
from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load.files import whole
from capacity.load.gather import Selection, Source, assemble
from capacity.load.homes import bugtool_pod
from capacity.load.labels import LABEL_COLUMNS, label_columns
from capacity.load.scrape_times import EVENT_TIME, scrape_time

FORMAT: Final = "cilium_metrics"
_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_KEY: Final = rf'(?:"labels":\s*\{{[^{{}}]*\}}|"name":\s*"{_NAME}"|"value":\s*[-+.\deE]+)\s*'
_FIRST: Final = re.compile(rf"\s*\[\s*\{{\s*{_KEY}(?:,\s*{_KEY})*\}}")
_HEADER: Final = re.compile(r"Metric +Labels +Value *\r?$", re.MULTILINE)
# Values are in quotes until v1.16, bare since v1.17
_LABEL: Final = re.compile(r'([a-zA-Z_]\w*)=(?:"((?:[^"\\]|\\.)*)"|(.*?))(?= [a-zA-Z_]\w*=|$)')
# One number stands for a histogram then: which one is a question of version, and no series
_OF_HISTOGRAM: Final = (
    "is a histogram, of which this command tells one number (the sum, or the 90th percentile since "
    "Cilium 1.17) or quantiles; scrape /metrics for it"
)
# Histograms of Cilium and Go that are no fact of ours are called so; these gauges are as well:
# prometheus/client_golang prometheus/process_collector.go, go_collector.go; TYPE lines of /metrics
# of cilium-agent 1.17.0-dev (b095517e625e), recorded 2026-11-24
_LIKE_HISTOGRAMS: Final = ("_seconds", "_delay")
_GAUGES: Final = (
    "process_start_time_seconds",
    "go_memstats_last_gc_time_seconds",
    "cilium_api_limiter_processing_duration_seconds",
    "cilium_api_limiter_wait_duration_seconds",
    "cilium_k8s_event_lag_seconds",
)
# What the table cuts off
_DECIMALS: Final = 6


@dataclass(slots=True)
class _Told:
    """What one file tells: labels and value of each metric."""

    labels: list[dict[str, str]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def is_mine(beginning: bytes) -> bool:
    """Tell whether the beginning of a file is that of a list of metrics.

    >>> is_mine(b'[{"labels": {"outcome": "success"}, "name": "cilium_event", "value": 2}]')
    True
    >>> is_mine(b'[{"name": "node-1", "primary-address": {}}]')
    False
    """
    if not beginning.lstrip().startswith((b"[", b"Metric ")):
        return False
    text = beginning.decode("utf-8", "replace")
    first = _FIRST.match(text)
    return _HEADER.match(text) is not None or (first is not None and '"name"' in first[0])


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read lists of metrics, each as one moment.

    Parameters
    ----------
    paths
        Files, plain or packed, whose time is told as that of a scrape is.
    selection
        Wanted metrics and times.

    Returns
    -------
    Metrics
        Histograms and summaries are refused by name.
    """
    sources = [Source(str(path), FORMAT) for path in paths]
    labels: list[dict[str, str]] = []
    rows: list[tuple[int, int, int, float]] = []
    for index, (path, source) in enumerate(zip(paths, sources, strict=True)):
        try:
            told = _told(whole(path), source)
        except ExportError as error:
            source.refuse(str(error).removeprefix(f"{path}: "), 0)
            continue
        moment, note = scrape_time(path, _newest_event(told))
        source.notes += [note] if note else []
        pod = bugtool_pod(str(path))
        # The lists of the agents of a sysdump name no agent: their folders do
        agent = {"pod": pod} if pod else {}
        for one, value in zip(told.labels, told.values, strict=True):
            rows.append((index, len(labels), moment, value))
            labels.append(agent | one)
    series = pl.DataFrame(
        [label_columns(one) for one in labels], schema=dict.fromkeys(LABEL_COLUMNS, pl.String)
    )
    schema = {"source": pl.UInt32, "series": pl.UInt32, "time": pl.Int64, "value": pl.Float64}
    samples = pl.DataFrame(rows, schema=schema, orient="row")
    is_wanted = series.select(selection.wants(pl.col("metric"))).to_series()
    return assemble(series, samples.filter(is_wanted.gather(samples["series"])), sources, selection)


def _told(data: bytes, source: Source) -> _Told:
    is_json = data.lstrip()[:1] == b"["
    told, histograms, refused = _Told(), set(), 0
    types: dict[str, set[str]] = {}
    for name, type in facts.metrics().select("metric", "type").iter_rows():
        types.setdefault(name, set()).add(type)
    for name, labels, value in (_of_json if is_json else _of_table)(data, source):
        if value is None or _is_histogram(name, types.get(name)):
            histograms.add(name)
            refused += 1
            continue
        told.labels.append({"__name__": name, **labels})
        told.values.append(value)
    if histograms:
        names = ", ".join(sorted(histograms))
        source.refuse(f"{source.name}: each of {names} {_OF_HISTOGRAM}", refused)
    if not is_json:
        source.notes.append(f"values have {_DECIMALS} decimals; -o json tells all")
    return told


def _of_json(data: bytes, source: Source) -> Iterator[tuple[str, dict[str, str], float | None]]:
    try:
        metrics = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ExportError(f"{source.name}: no JSON ({error}); export it again") from None
    if not isinstance(metrics, list):
        raise ExportError(f"{source.name}: holds no list of metrics")
    for at, metric in enumerate(metrics):
        if (one := _of_object(metric)) is None:
            source.refuse(
                f"{source.name}: metric {at + 1} {str(metric)[:80]!r} has no name or value"
            )
        else:
            yield one


def _of_object(metric: Any) -> tuple[str, dict[str, str], float] | None:
    if not isinstance(metric, dict):
        return None
    name, value, labels = metric.get("name"), metric.get("value", 0), metric.get("labels") or {}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(name, str) or not name or not is_number or not isinstance(labels, dict):
        return None
    return name, {k: str(v) for k, v in labels.items() if v != ""}, float(value)


def _of_table(data: bytes, source: Source) -> Iterator[tuple[str, dict[str, str], float | None]]:
    header, *lines = data.decode("utf-8", "replace").splitlines() or [""]
    if not _HEADER.match(header):
        raise ExportError(f"{source.name}: no table of metrics; its first line is {header[:80]!r}")
    columns = [header.index(name) for name in ("Labels", "Value")]
    for number, line in enumerate(lines, 2):
        name, labels, value = line[: columns[0]], line[columns[0] : columns[1]], line[columns[1] :]
        is_aligned = name.endswith(" ") and labels.endswith(" ")
        if line.strip() and is_aligned and value and re.fullmatch(_NAME, name.strip()):
            yield name.strip(), _labels(labels.strip()), _number(value.strip())
        elif line.strip():
            source.refuse(
                f"{source.name}:{number}: {line[:80]!r} is no row of metric, labels and value"
            )


def _labels(text: str) -> dict[str, str]:
    return {name: quoted or bare for name, quoted, bare in _LABEL.findall(text) if quoted or bare}


def _number(text: str) -> float | None:
    """Give a plain number; None for quantiles as text."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_histogram(name: str, types: set[str] | None) -> bool:
    """Tell whether a metric was a histogram in any version."""
    if types is not None:
        return "histogram" in types
    return name.endswith(_LIKE_HISTOGRAMS) and name not in _GAUGES


def _newest_event(told: _Told) -> float | None:
    pairs = zip(told.labels, told.values, strict=True)
    return max((value for one, value in pairs if one["__name__"] == EVENT_TIME), default=None)
