"""One block of Prometheus' database, its samples in batches that stay in the processor's cache.

For what is reduced while it is read: no frame of all samples is made. What blocks may also have
(external labels, deleted samples, a damaged index) is left to `tsdb_block`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.errors import ExportError
from capacity.load import tsdb_index
from capacity.load.gather import Selection, Source
from capacity.load.threads import THREADS
from capacity.load.tsdb_block import chosen, external_labels, segments_of, wanted_names
from capacity.load.tsdb_chunks import Segment
from capacity.load.tsdb_deleted import tombstones
from capacity.load.tsdb_files import FORMAT, INDEX
from capacity.load.tsdb_index import Index
from capacity.load.tsdb_labels import label_frame
from capacity.load.tsdb_numbers import IndexFaultError
from capacity.load.xor import Floats, Integers, close, decode_into, rooms
from capacity.tables import SERIES, check

Keys = npt.NDArray[np.uint32]
# Chunks of a batch, fewer than those from which on `decode_into` starts threads of its own: here
# each thread has batches. 120 samples each: half a megabyte
_BATCH: Final = 250

# Given the series of each run of samples, where runs begin and end, times [ms] and values, which
# are gone when it returns
Take = Callable[[Keys, Integers, Integers, Floats], Any]


@dataclass(frozen=True, slots=True)
class Opened:
    """A block: the series that are wanted of it, table series, and where their chunks lie."""

    path: Path
    series: pl.DataFrame
    index: Index
    source: Source


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Chunks in order of series and time: file, place in it, series, and room for samples."""

    files: Sequence[Segment]
    file: Integers
    begins: Integers
    ends: Integers
    series: Integers
    rooms: Integers


def opened(block: Path, selection: Selection) -> Opened | None:
    """Open a block; None where it has what only `tsdb_block.read` understands."""
    try:
        if external_labels(block) or tombstones(block / "tombstones"):
            return None
        found = tsdb_index.open_index(block / INDEX)
        index = tsdb_index.read(found, tsdb_index.wanted(found, wanted_names(selection)))
    except (IndexFaultError, ExportError):
        return None
    if index.broken:
        return None
    series = label_frame([(index, {})])[0].with_columns(
        pl.col("cluster").fill_null(selection.cluster)
    )
    keyed = series.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("series"), pl.all())
    return Opened(block, check(keyed, SERIES), index, Source(str(block), FORMAT))


def reduced(
    block: Opened, is_wanted: npt.NDArray[np.bool_], start: int, end: int, take: Take
) -> list[Any]:
    """Give what `take` makes of each batch of samples, in order of series.

    Parameters
    ----------
    is_wanted
        By series.
    start, end
        First and last time that is wanted, both included. [ms]
    take
        Called on several threads. Each series is in one batch, as one run, sorted by time.
    """
    chunks = _chunks(block, is_wanted, start, end)
    if not len(chunks.rooms):
        return []
    batches = _batches(chunks)
    whole = np.ones(len(chunks.rooms), np.bool_)

    def run(part: list[tuple[int, int]]) -> list[Any]:
        most = max(int(chunks.rooms[slice(*batch)].sum()) for batch in part)
        times, values = np.empty(most, np.int64), np.empty(most, np.float64)
        return [_taken(chunks, batch, (start, end), times, values, whole, take) for batch in part]

    size = math.ceil(len(batches) / THREADS)
    parts = [batches[i : i + size] for i in range(0, len(batches), size)]
    with ThreadPoolExecutor(THREADS) as threads:
        found = [one for part in threads.map(run, parts) for one in part]
    if not whole.all():
        broken = int((~whole).sum())
        fault = f"{broken} chunks hold fewer samples than they say"
        block.source.refuse(fault, broken)
    return found


def _chunks(block: Opened, is_wanted: npt.NDArray[np.bool_], start: int, end: int) -> _Chunks:
    told = block.index
    which = is_wanted[told.series] & (told.last >= start) & (told.first <= end)
    files = segments_of(block.path, chosen(told, which), block.source)
    none = np.zeros(0, np.int64)
    series = np.concatenate([none, *(one.wanted.series for one in files)])
    order = np.lexsort((np.concatenate([none, *(one.wanted.first for one in files)]), series))
    file = np.repeat(np.arange(len(files)), [len(one.begins) for one in files])
    room = np.concatenate([none, *(rooms(one.data, one.begins, one.ends) for one in files)])
    begins = np.concatenate([none, *(one.begins for one in files)])
    ends = np.concatenate([none, *(one.ends for one in files)])
    return _Chunks(files, *(column[order] for column in (file, begins, ends, series, room)))


def _batches(chunks: _Chunks) -> list[tuple[int, int]]:
    """Cut chunks into batches of whole series."""
    starts = np.flatnonzero(np.diff(chunks.series, prepend=-1))
    out, begin = [], 0
    for stop in [*starts[1:].tolist(), len(chunks.series)]:
        if stop - begin >= _BATCH:
            out.append((begin, stop))
            begin = stop
    if begin < len(chunks.series):
        out.append((begin, len(chunks.series)))
    return out


def _taken(
    chunks: _Chunks, batch: tuple[int, int], span: tuple[int, int], times: Integers,
    values: Floats, whole: npt.NDArray[np.bool_], take: Take,
) -> Any:  # fmt: skip
    """Decode a batch into `times` and `values`, and give what is made of it."""
    own = slice(*batch)
    room, file = chunks.rooms[own], chunks.file[own]
    slots = np.cumsum(room) - room
    counts = np.zeros(len(room), np.int64)
    for number in np.unique(file).tolist():
        here = file == number
        counts[here], whole[own][here] = decode_into(
            chunks.files[number].data, chunks.begins[own][here], chunks.ends[own][here],
            slots[here], times, values, start=span[0], end=span[1],
        )  # fmt: skip
    many = close(slots, counts, room, times, values)
    series = chunks.series[own]
    first = np.flatnonzero(np.diff(series, prepend=-1))
    edges = np.concatenate([[0], np.cumsum(np.add.reduceat(counts, first))])
    return take(series[first].astype(np.uint32), edges, times[:many], values[:many])
