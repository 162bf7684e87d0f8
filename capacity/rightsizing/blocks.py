"""Blocks of Prometheus' database: each window's steps straight from the chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics, source_row
from capacity.load import read, tsdb_batches, tsdb_block
from capacity.load.files import listed
from capacity.load.gather import FIRST_MILLISECOND, Selection
from capacity.load.tsdb_files import FORMAT, INDEX, LATE, LOG
from capacity.observe.names import one_cluster
from capacity.rightsizing.part import (
    EDGES,
    EVENTS,
    LONGEST,
    USAGE,
    WANTED,
    Part,
    edges,
    joined_metrics,
    of_frames,
    read_at,
)
from capacity.rightsizing.steps import (
    Floats,
    Integers,
    Keys,
    Kinds,
    Runs,
    Steps,
    joined,
    resample,
)
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import SAMPLES, SOURCES

# Samples of a window: 24 bytes each where they are read as frames, up to 1.5 GB
_WINDOW_SAMPLES: Final = 64_000_000
# Chunks hold 120 samples: of shorter windows more is decoded than is used
_SHORTEST: Final = 12 * 3_600_000


@dataclass(frozen=True, slots=True)
class Block:
    """A block: folder, first and last time [ms], and samples."""

    folder: Path
    first: int
    last: int
    samples: int


def parts(
    blocks: list[Block], log: list[Path], start: int | None, end: int | None,
    settings: RightsizingSettings,
) -> Iterator[Part]:  # fmt: skip
    """Read blocks, oldest first, window by window, and what came since the last one from the log.

    Raises
    ------
    ExportError
        If none holds the times asked for.
    """
    newest = max(block.last for block in blocks)
    first = max(min(block.first for block in blocks), start or 0)
    last = int(min(newest, math.inf if end is None else end + 1))
    is_late = bool(log) and (end is None or end >= newest)
    if first >= last and not is_late:
        raise ExportError(f"{blocks[0].folder.parent}: no block holds the times asked for")
    if first < last:
        yield from _of_blocks(blocks, first, last, settings)
    if is_late:
        # Up to three hours: few enough for frames
        told = tsdb_block.read(log, Selection(WANTED, max(newest, start or 0), end))
        yield of_frames(told, told, settings, 1.0, told.sources)


def _of_blocks(
    blocks: list[Block], first: int, last: int, settings: RightsizingSettings
) -> Iterator[Part]:
    is_first = True
    for group in _groups(blocks):
        opened = _opened(group)
        for low, high in _windows(group, first, last, settings.step_milliseconds):
            moments = read_at(low, high, is_first=is_first)
            share, is_first = (high - first) / (last - first), False
            if opened is not None:
                yield _of_block(opened, (low, high - 1), moments, settings, share)
                continue
            near = [str(block.folder) for block in group]
            usage = read(near, metrics=(*USAGE, *EVENTS), start=low, end=high - 1)
            state = [read(near, metrics=EDGES, start=begin, end=stop) for begin, stop in moments]
            yield of_frames(usage, joined_metrics([_events(usage), *state]), settings, share)


def _groups(blocks: list[Block]) -> list[list[Block]]:
    """Put blocks together that tell of the same times."""
    groups: list[list[Block]] = []
    last = 0
    for block in blocks:
        if groups and block.first < last:
            groups[-1].append(block)
        else:
            groups.append([block])
        last = max(last, block.last)
    return groups


def _opened(group: list[Block]) -> tsdb_batches.Opened | None:
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


def _windows(group: list[Block], first: int, last: int, step: int) -> list[tuple[int, int]]:
    """Cut the times of blocks into windows of about as many samples, at multiples of the step."""
    begin = max(min(block.first for block in group), first)
    stop = min(max(block.last for block in group), last)
    if begin >= stop:
        return []
    pieces = max(1, round(sum(block.samples for block in group) / _WINDOW_SAMPLES))
    whole = max(block.last for block in group) - min(block.first for block in group)
    width = min(max(_SHORTEST, math.ceil(whole / pieces)), LONGEST)
    at = edges(begin, stop, width, step)
    return list(zip(at, at[1:], strict=False))


def found_blocks(source: Any) -> tuple[list[Block], list[Path]]:
    """Find blocks of Prometheus' database in a folder, and the files of its log.

    None where meta.json does not tell times.
    """
    if isinstance(source, pl.DataFrame) or hasattr(source, "columns"):
        return [], []
    found, log = [], []
    for path in listed(source):
        if {LOG, LATE} & set(path.parts[-3:-1]):
            log.append(path)
        if path.name != INDEX:
            continue
        try:
            meta = orjson.loads((path.parent / "meta.json").read_bytes())
            first, last = int(meta["minTime"]), int(meta["maxTime"])
            samples = int(meta.get("stats", {}).get("numSamples", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [], []
        if FIRST_MILLISECOND < first < last:
            found.append(Block(path.parent, first, last, samples))
    return sorted(found, key=lambda block: block.first), log
