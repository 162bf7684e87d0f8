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
# Samples of a window of blocks: 24 bytes each while they are read, about 1 GB
_WINDOW_SAMPLES: Final = 40_000_000
# Chunks hold 120 samples: of shorter windows more is decoded than is used
_SHORTEST: Final = 12 * 3_600_000
_DEFAULT_DAYS: Final = "-14d"
_DAY: Final = 86_400_000
# An edge: two scrapes at the slowest usual interval
_EDGE: Final = 10 * 60_000


@dataclass(frozen=True, slots=True)
class Part:
    """Usage from `first` on [ms], with samples before it for the first rates; and what is set."""

    usage: Metrics
    state: Metrics
    first: int
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
        yield Part(source, source, 0, 1.0)
    elif is_url(source) and source.startswith(("http://", "https://")):
        until = instant("now", now=now) if end is None else end
        since = instant(_DEFAULT_DAYS, now=until / 1000) if start is None else start
        yield from _of_api(source, since, until, settings)
    else:
        blocks = _blocks(source)
        if sum(block.samples for block in blocks) > _WINDOW_SAMPLES:
            yield from _of_blocks(blocks, start, end, settings)
        else:
            told = read(source, metrics=WANTED, start=start, end=end)
            yield Part(told, told, 0, 1.0)


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
            url, metrics=USAGE, matchers=matchers, start=low - 2 * settings.step_milliseconds,
            end=high - 1, step=step, cluster=cluster, aggregate="max",
        )  # fmt: skip
        found = [
            prom_api.fetch(url, metrics=EDGES, start=begin, end=stop, step=step, cluster=cluster)
            for begin, stop in _read_at(low, high, is_first=low == start)
        ]
        found.append(
            prom_api.fetch(url, metrics=EVENTS, start=low, end=high - 1, step=3600,
                           cluster=cluster, aggregate="max")
        )  # fmt: skip
        yield Part(usage, _joined(found), low, (high - start) / (end - start))


def _of_blocks(
    blocks: list[_Block], start: int | None, end: int | None, settings: RightsizingSettings
) -> Iterator[Part]:
    first = max(min(b.first for b in blocks), start or 0)
    last = min(max(b.last for b in blocks), math.inf if end is None else end + 1)
    if first >= last:
        raise ExportError(f"{blocks[0].folder.parent}: no block holds the times asked for")
    rate = sum(block.samples for block in blocks) / (last - first)
    width = max(_SHORTEST, int(_WINDOW_SAMPLES / max(rate, 1e-9)))
    edges = _edges(first, int(last), width, settings.step_milliseconds)
    lookback = 2 * settings.step_milliseconds
    for low, high in zip(edges, edges[1:], strict=False):
        near = [str(b.folder) for b in blocks if b.first < high and b.last > low - lookback]
        if not near:
            continue
        usage = read(near, metrics=USAGE, start=low - lookback, end=high - 1)
        state = [
            read(near, metrics=EDGES, start=begin, end=stop)
            for begin, stop in _read_at(low, high, is_first=low == first)
        ]
        state.append(read(near, metrics=EVENTS, start=low, end=high - 1))
        yield Part(usage, _joined(state), low, (high - first) / (last - first))


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
