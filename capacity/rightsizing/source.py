"""An export in parts that fit into memory: usage of one window after the other, and what is set.

Of a database 14 days of 10,000 containers are 400 million samples: they are read window by
window, and what changes seldom (owners, requests, limits) only at the edges of windows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics, concat, is_in_order, source_row
from capacity.load import is_url, read, tsdb_batches
from capacity.load.files import listed
from capacity.load.gather import FIRST_MILLISECOND, Selection, instant
from capacity.load.tsdb_files import FORMAT, INDEX
from capacity.observe.names import one_cluster
from capacity.rightsizing.steps import (
    Floats,
    Integers,
    Keys,
    Kinds,
    Runs,
    Steps,
    joined,
    resample,
    runs_of,
)
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import SAMPLES, SOURCES

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


# By series: kinds and scales of what is wanted, width of a step, last samples before: `resample`
Reduce = Callable[[Kinds, Floats, int, tuple[Integers, Floats]], Steps]


@dataclass(frozen=True, slots=True)
class Part:
    """A window that follows the one before: series of use, how to bring them to steps, what is set.

    `sources` is asked for last; `share` is what is read so far of all.
    """

    series: pl.DataFrame
    reduce: Reduce
    state: Metrics
    sources: Callable[[], pl.DataFrame]
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
        yield _part(source, source, settings, 1.0)
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
            yield _part(told, told, settings, 1.0)


def _part(usage: Metrics, state: Metrics, settings: RightsizingSettings, share: float) -> Part:
    """Make a part of frames of samples."""
    usage = one_cluster(usage, settings.cluster)
    samples = usage.samples if is_in_order(usage.samples) else usage.samples.sort("series", "time")
    runs = runs_of(
        samples["series"].to_numpy(), samples["time"].to_physical().to_numpy(),
        samples["value"].to_numpy(),
    )  # fmt: skip
    sources = pl.concat([usage.sources, state.sources])
    state = one_cluster(state, settings.cluster)
    return Part(usage.series, partial(resample, runs), state, lambda: sources, share)


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
        yield _part(usage, _joined(found), settings, (high - start) / (end - start))


def _of_blocks(
    blocks: list[_Block], start: int | None, end: int | None, settings: RightsizingSettings
) -> Iterator[Part]:
    first = max(min(b.first for b in blocks), start or 0)
    last = int(min(max(b.last for b in blocks), math.inf if end is None else end + 1))
    if first >= last:
        raise ExportError(f"{blocks[0].folder.parent}: no block holds the times asked for")
    is_first = True
    for group in _groups(blocks):
        opened = _opened(group)
        for low, high in _windows(group, first, last, settings.step_milliseconds):
            moments = _read_at(low, high, is_first=is_first)
            share, is_first = (high - first) / (last - first), False
            if opened is not None:
                yield _of_block(opened, (low, high - 1), moments, settings, share)
                continue
            near = [str(block.folder) for block in group]
            usage = read(near, metrics=(*USAGE, *EVENTS), start=low, end=high - 1)
            state = [read(near, metrics=EDGES, start=begin, end=stop) for begin, stop in moments]
            yield _part(usage, _joined([_events(usage), *state]), settings, share)


def _groups(blocks: list[_Block]) -> list[list[_Block]]:
    """Put blocks together that tell of the same times."""
    groups: list[list[_Block]] = []
    last = 0
    for block in blocks:
        if groups and block.first < last:
            groups[-1].append(block)
        else:
            groups.append([block])
        last = max(last, block.last)
    return groups


def _opened(group: list[_Block]) -> tsdb_batches.Opened | None:
    """Open a block that is alone with its times and has nothing that only frames can hold."""
    if len(group) > 1:
        return None
    return tsdb_batches.opened(group[0].folder, Selection(WANTED))


def _of_block(
    block: tsdb_batches.Opened, span: tuple[int, int], moments: list[tuple[int, int]],
    settings: RightsizingSettings, share: float,
) -> Part:  # fmt: skip
    """Take the steps of a window straight from the chunks."""
    metric = pl.col("metric")
    events, edges = (
        block.series.select(metric.is_in(names)).to_series().to_numpy() for names in (EVENTS, EDGES)
    )
    found = [_samples(block, events, span), *(_samples(block, edges, at) for at in moments)]
    state = block.series.filter(metric.is_in([*EVENTS, *EDGES]))
    told = one_cluster(Metrics(state, pl.concat(found), SOURCES.empty()), settings.cluster)
    usage = block.series.filter(metric.is_in(USAGE))
    named = one_cluster(Metrics(usage, SAMPLES.empty(), SOURCES.empty()), settings.cluster)

    def reduce(kinds: Kinds, scales: Floats, width: int, before: tuple[Integers, Floats]) -> Steps:
        def take(series: Keys, edges: Integers, times: Integers, values: Floats) -> Steps:
            return resample(Runs(series, edges, times, values), kinds, scales, width, before)

        is_used = np.zeros(len(block.series), np.bool_)
        is_used[np.flatnonzero(kinds)] = True
        rows = joined(tsdb_batches.reduced(block, is_used, *span, take))
        counted.append(int(rows.many.sum()))
        return rows

    counted = [len(told.samples)]
    return Part(named.series, reduce, told, lambda: _source(block, sum(counted)), share)


def _source(block: tsdb_batches.Opened, read: int) -> pl.DataFrame:
    """Tell what was read of a window of a block, and what was refused of the block so far."""
    source = block.source
    reason = "; ".join(source.faults) or None
    return source_row(str(block.path), FORMAT, read=read + source.refused, kept=read, reason=reason)


def _samples(
    block: tsdb_batches.Opened, which: npt.NDArray[np.bool_], span: tuple[int, int]
) -> pl.DataFrame:
    """Give samples of some series, table samples."""

    def take(series: Keys, edges: Integers, times: Integers, values: Floats) -> pl.DataFrame:
        return pl.DataFrame({
            "series": np.repeat(series, np.diff(edges)),
            "time": pl.Series(times.copy()).cast(SAMPLES.schema["time"]),
            "value": values.copy(),
        }).filter(pl.col("value").is_not_nan())  # fmt: skip

    found: list[pl.DataFrame] = tsdb_batches.reduced(block, which, *span, take)
    return pl.concat([SAMPLES.empty(), *found])


def _events(usage: Metrics) -> Metrics:
    """Give the series of events alone."""
    series = usage.series.filter(pl.col("metric").is_in(EVENTS))
    if series.is_empty():
        return Metrics(series, usage.samples.head(0), usage.sources.head(0))
    samples = usage.samples.join(series.select("series"), on="series", how="semi")
    return Metrics(series, samples, usage.sources.head(0))


def _windows(group: list[_Block], first: int, last: int, step: int) -> list[tuple[int, int]]:
    """Cut the times of blocks into windows of about as many samples, at multiples of the step."""
    begin = max(min(block.first for block in group), first)
    stop = min(max(block.last for block in group), last)
    if begin >= stop:
        return []
    pieces = max(1, round(sum(block.samples for block in group) / _WINDOW_SAMPLES))
    whole = max(block.last for block in group) - min(block.first for block in group)
    width = min(max(_SHORTEST, math.ceil(whole / pieces)), _LONGEST)
    edges = _edges(begin, stop, width, step)
    return list(zip(edges, edges[1:], strict=False))


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
