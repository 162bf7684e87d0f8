"""An export in parts that fit into memory: usage of one window after the other, and what is set.

Of a database 14 days of 10,000 containers are 400 million samples: they are read window by
window, and what changes seldom (owners, requests, limits) only at the edges of windows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics, concat
from capacity.load import is_url, read
from capacity.load.files import listed
from capacity.load.gather import FIRST_MILLISECOND, instant
from capacity.load.tsdb_files import INDEX
from capacity.rightsizing_settings import RightsizingSettings

CPU: Final = "container_cpu_usage_seconds_total"
MEMORY: Final = "container_memory_working_set_bytes"
USAGE: Final = (CPU, MEMORY)
# Each of a series a container and more, which change seldom: kubernetes/kube-state-metrics
# docs/metrics/workload, google/cadvisor metrics/prometheus.go
EDGES: Final = (
    "kube_pod_owner", "kube_replicaset_owner", "kube_job_owner",
    "kube_pod_container_resource_requests", "kube_pod_container_resource_limits",
    "kube_pod_container_status_restarts_total",
    "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total",
    "kube_horizontalpodautoscaler_info", "kube_horizontalpodautoscaler_spec_target_metric",
)  # fmt: skip
# Few series, and a value that must not be missed: read whole
EVENTS: Final = ("kube_pod_container_status_last_terminated_reason",)
WANTED: Final = (*USAGE, *EDGES, *EVENTS)
# Samples of a window of blocks: 24 bytes each while they are read, up to 1.5 GB
_WINDOW_SAMPLES: Final = 64_000_000
# Chunks hold 120 samples: of shorter windows more is decoded than is used
_SHORTEST: Final = 12 * 3_600_000
# What is set is read at edges: pods that come and go between two are told by their names alone
_LONGEST: Final = 48 * 3_600_000
# Blocks of fewer samples are read whole
_WHOLE: Final = 1_000_000
_DEFAULT_DAYS: Final = "-14d"
_DAY: Final = 86_400_000
# An edge: two scrapes at the slowest usual interval
_EDGE: Final = 10 * 60_000


@dataclass(frozen=True, slots=True)
class Part:
    """Usage of a window that follows the one before, what is set, and the share read so far."""

    usage: Metrics
    state: Metrics
    share: float


@dataclass(frozen=True, slots=True)
class _Block:
    folder: Path
    first: int
    last: int
    samples: int


def parts(source: Any, settings: RightsizingSettings) -> Iterator[Part]:
    """Read a source in parts, oldest first.

    Raises
    ------
    ExportError
        If nothing of it can be read.
    """
    now = time.time()
    start, end = (
        None if value is None else instant(value, now=now, what=what)
        for value, what in ((settings.start, "start"), (settings.end, "end"))
    )
    if isinstance(source, Metrics):
        yield Part(source, source, 1.0)
    elif is_url(source) and source.startswith(("http://", "https://")):
        until = instant("now", now=now) if end is None else end
        since = instant(_DEFAULT_DAYS, now=until / 1000) if start is None else start
        yield from _of_api(source, since, until, settings)
    else:
        blocks = _blocks(source)
        if sum(block.samples for block in blocks) > _WHOLE:
            yield from _of_blocks(blocks, start, end, settings)
        else:
            told = read(source, metrics=WANTED, start=start, end=end)
            yield Part(told, told, 1.0)


def _of_api(url: str, start: int, end: int, settings: RightsizingSettings) -> Iterator[Part]:
    """Ask for a day at a time; of memory the server gives the largest value of each step."""
    # Files are read without an HTTP client
    from capacity.load import prom_api

    step = settings.step_milliseconds / 1000
    cluster = settings.cluster or "default"
    chosen = "|".join(settings.namespaces)
    matchers = f'namespace=~"{chosen}"' if chosen else ""
    edges = _edges(start, end, _DAY, settings.step_milliseconds)
    for low, high in zip(edges, edges[1:], strict=False):
        usage = prom_api.fetch(
            url, metrics=USAGE, matchers=matchers, start=low, end=high - 1, step=step,
            cluster=cluster, aggregate="max",
        )  # fmt: skip
        found = [
            prom_api.fetch(url, metrics=EDGES, start=begin, end=stop, step=step, cluster=cluster)
            for begin, stop in _read_at(low, high, is_first=low == start)
        ]
        found.append(
            prom_api.fetch(url, metrics=EVENTS, start=low, end=high - 1, step=3600,
                           cluster=cluster, aggregate="max")
        )  # fmt: skip
        yield Part(usage, _joined(found), (high - start) / (end - start))


def _of_blocks(
    blocks: list[_Block], start: int | None, end: int | None, settings: RightsizingSettings
) -> Iterator[Part]:
    first = max(min(b.first for b in blocks), start or 0)
    last = int(min(max(b.last for b in blocks), math.inf if end is None else end + 1))
    if first >= last:
        raise ExportError(f"{blocks[0].folder.parent}: no block holds the times asked for")
    is_first = True
    for low, high in _windows(blocks, first, last, settings.step_milliseconds):
        near = [str(b.folder) for b in blocks if b.first < high and b.last > low]
        usage = read(near, metrics=(*USAGE, *EVENTS), start=low, end=high - 1)
        state = [
            read(near, metrics=EDGES, start=begin, end=stop)
            for begin, stop in _read_at(low, high, is_first=is_first)
        ]
        is_first = False
        yield Part(usage, _joined([_events(usage), *state]), (high - first) / (last - first))


def _events(usage: Metrics) -> Metrics:
    """Give the series of events alone."""
    series = usage.series.filter(pl.col("metric").is_in(EVENTS))
    if series.is_empty():
        return Metrics(series, usage.samples.head(0), usage.sources.head(0))
    samples = usage.samples.join(series.select("series"), on="series", how="semi")
    return Metrics(series, samples, usage.sources.head(0))


def _windows(blocks: list[_Block], first: int, last: int, step: int) -> list[tuple[int, int]]:
    """Give windows of about as many samples: of whole blocks, as each block's index is read anew.

    Blocks that overlap are read together; what is too large is cut at multiples of the step, so
    that no step is cut in two.
    """
    out: list[tuple[int, int]] = []
    samples = 0
    for low, high, many in _spans(blocks):
        begin, stop = max(low, first), min(high, last)
        if begin >= stop:
            continue
        is_short = bool(out) and stop - out[-1][0] <= _LONGEST
        if is_short and samples + many <= _WINDOW_SAMPLES and out[-1][1] == begin:
            out[-1] = (out[-1][0], stop)
            samples += many
            continue
        pieces = max(1, round(many / _WINDOW_SAMPLES))
        width = min(max(_SHORTEST, math.ceil((high - low) / pieces)), _LONGEST)
        edges = _edges(begin, stop, width, step)
        out += zip(edges, edges[1:], strict=False)
        samples = many if len(edges) == 2 else _WINDOW_SAMPLES
    return out


def _spans(blocks: list[_Block]) -> list[tuple[int, int, int]]:
    """Give times that blocks cover without overlapping others, and the samples there."""
    spans: list[tuple[int, int, int]] = []
    for block in blocks:
        if spans and block.first < spans[-1][1]:
            low, high, many = spans[-1]
            spans[-1] = (low, max(high, block.last), many + block.samples)
        else:
            spans.append((block.first, block.last, block.samples))
    return spans


def _read_at(low: int, high: int, *, is_first: bool) -> list[tuple[int, int]]:
    """Give the times of a window at which what is set is read: its end, of the first its start."""
    if high - low <= 2 * _EDGE:
        return [(low, high - 1)]
    begins = [(low, low + _EDGE)] if is_first else []
    return [*begins, (high - _EDGE, high - 1)]


def _joined(found: list[Metrics]) -> Metrics:
    return concat([part for part in found if len(part.series)])


def _edges(start: int, end: int, width: int, step: int) -> list[int]:
    """Give the edges of windows: multiples of the step within, so that no step is cut in two."""
    many = max(1, math.ceil((end - start) / width))
    inner = [(start + (end - start) * k // many) // step * step for k in range(1, many)]
    return [start, *(edge for edge in inner if edge > start), end]


def _blocks(source: Any) -> list[_Block]:
    """Find blocks of Prometheus' database in a folder; none where meta.json does not tell times."""
    if isinstance(source, pl.DataFrame) or hasattr(source, "columns"):
        return []
    found = []
    for path in listed(source):
        if path.name != INDEX:
            continue
        try:
            meta = orjson.loads((path.parent / "meta.json").read_bytes())
            first, last = int(meta["minTime"]), int(meta["maxTime"])
            samples = int(meta.get("stats", {}).get("numSamples", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        if FIRST_MILLISECOND < first < last:
            found.append(_Block(path.parent, first, last, samples))
    return sorted(found, key=lambda block: block.first)
