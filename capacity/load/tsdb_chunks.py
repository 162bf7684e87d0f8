"""Chunks of blocks: found in their segment files, checked, and decoded each into its place.

Format: prometheus/prometheus tsdb/docs/format/chunks.md (v2.53 to v3.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.errors import ExportError
from capacity.load import object_store
from capacity.load.checksums import TABLES, Sums, crc_of
from capacity.load.gather import Gathered, Selection, Source
from capacity.load.threads import parallel
from capacity.load.tsdb_bytes import read
from capacity.load.tsdb_index import Index
from capacity.load.tsdb_numbers import uvarint
from capacity.load.words import read_only
from capacity.load.xor import Bits, Bytes, Floats, Integers, Words, chunk_into, rooms, told_of
from capacity.telling import few

Keys = npt.NDArray[np.uint32]
_Number = TypeVar("_Number", bound=np.generic)
# First and last deleted time of a series, by its reference [ms]
Deleted = Mapping[int, Sequence[tuple[int, int]]]

_SEGMENT: Final = b"\x85\xbd\x40\xdd\x01"
_XOR: Final = 1
_ENCODINGS: Final = {2: "native histogram", 3: "native float histogram"}
# Instead of an encoding: what a chunk is that lies outside of its file, or has another checksum
_OUTSIDE, _BROKEN = -1, -2
# Chunks that are checked before a second thread would have begun
_FEW: Final = 4_096
_FIRST: Final = -(1 << 63)
_LAST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Chunks that are wanted of a segment file.

    `offsets` in the file; `series` numbers the label set of each chunk; `first` is its first time
    [ms]; `deleted` are times of series by `references`.
    """

    source: int
    path: Path
    offsets: Integers
    series: Integers
    first: Integers
    references: Integers
    deleted: Deleted


@dataclass(frozen=True, slots=True)
class Segment:
    """Good chunks of a segment file: its bytes, and where in them payloads begin and end."""

    wanted: Wanted
    data: Bytes
    begins: Integers
    ends: Integers


@dataclass(frozen=True, slots=True)
class _Told:
    """What decoding tells of each chunk: of its samples how many are kept, NaN, or thinned.

    `first` and `last` are times of kept ones [ms].
    """

    kept: Integers
    nan: Integers
    thinned: Integers
    first: Integers
    last: Integers
    is_rising: Bits
    is_whole: Bits

    def part(self, of: slice) -> _Told:
        """Give what it tells of some chunks."""
        return _Told(
            self.kept[of], self.nan[of], self.thinned[of], self.first[of], self.last[of],
            self.is_rising[of], self.is_whole[of],
        )  # fmt: skip


def find(wanted: Wanted, index: Index, source: Source) -> Segment | None:
    """Find chunks in their file; those that are not read are told."""
    many = len(wanted.offsets)
    try:
        data, begins, ends, kinds = _look(wanted.path, wanted.offsets)
    except ExportError as error:
        source.refuse(f"chunks/{error} ({many} chunks)", many)
        return None
    if data[:5].tobytes() != _SEGMENT:
        source.refuse(f"chunks/{wanted.path.name}: is no segment of chunks ({many} chunks)", many)
        return None
    _refuse(source, wanted, kinds < 0, "the checksum is wrong or it is cut off")
    for encoding in np.unique(kinds[(kinds >= 0) & (kinds != _XOR)]).tolist():
        what = _ENCODINGS.get(encoding, f"unknown encoding {encoding}")
        many = _said(data, begins[kinds == encoding])
        names = few(index.metrics(wanted.series[kinds == encoding]))
        fault = f"{what} of {names}, {many} samples, which is not read"
        _refuse(source, wanted, kinds == encoding, fault, many)
    is_good = kinds == _XOR
    if not is_good.all():
        begins, ends = begins[is_good], ends[is_good]
        wanted = Wanted(
            wanted.source, wanted.path, wanted.offsets[is_good], wanted.series[is_good],
            wanted.first[is_good], wanted.references[is_good], wanted.deleted,
        )  # fmt: skip
    return Segment(wanted, data, begins, ends)


def _said(data: Bytes, begins: Integers) -> int:
    """Give how many samples chunks say they hold, of any encoding: their first two bytes."""
    most = len(data) - 1
    high, low = data[np.minimum(begins, most)], data[np.minimum(begins + 1, most)]
    return int(high.astype(np.int64).sum() * 256 + low.astype(np.int64).sum())


def _refuse(
    source: Source, wanted: Wanted, which: Bits, why: str, samples: int | None = None
) -> None:
    """Tell chunks that are not read; counted as their samples where these are known."""
    many = int(which.sum())
    if many:
        at = int(wanted.offsets[which][0])
        told = f"chunk at {at}" if many == 1 else f"{many} chunks, the first at {at}"
        source.refuse(f"chunks/{wanted.path.name}: {told}: {why}", samples or many)


def _look(path: Path, offsets: Integers) -> tuple[Bytes, Integers, Integers, Integers]:
    """Give bytes that hold the chunks, where payloads begin and end in them, and encodings."""
    if not object_store.is_remote(path):
        data = read(path)
        return data, *_looked(data, offsets)
    size = object_store.CHUNK_BYTES
    try:
        while True:
            data, at = object_store.parts(path, offsets, size)
            data = read_only(data)
            begins, ends, kinds = _looked(data, at)
            is_whole = (kinds != _OUTSIDE) & (ends + 4 - at <= size)
            if is_whole.all() or size > object_store.MOST_CHUNK_BYTES:
                return data, begins, ends, kinds
            size *= 8
    except OSError as error:
        raise ExportError(f"{path.name}: cannot be read: {error.strerror or error}") from None


def _looked(data: Bytes, offsets: Integers) -> tuple[Integers, Integers, Integers]:
    begins, ends, kinds = np.empty((3, len(offsets)), np.int64)

    def run(part: slice) -> None:
        _check(data, offsets[part], TABLES, begins[part], ends[part], kinds[part])

    parallel(run, np.ones(len(offsets), np.int64), _FEW)
    return begins, ends, kinds


@njit(cache=True, nogil=True)
def _check(
    data: Bytes, offsets: Integers, tables: Sums, begins: Integers, ends: Integers, kinds: Integers
) -> None:  # pragma: no cover
    """Find encoding and payload of chunks that lie in the data and have the checksum they tell."""
    for i in range(len(offsets)):
        size, at = uvarint(data, offsets[i], len(data))
        begins[i] = ends[i] = 0
        kinds[i] = _OUTSIDE
        # The length leaves out the byte of the encoding; a checksum follows
        if at < 0 or size < 0 or size > len(data) - at - 5:
            continue
        end = at + 1 + size
        begins[i], ends[i] = at + 1, end
        told = np.uint32(0)
        for k in range(4):
            told = (told << np.uint32(8)) | np.uint32(data[end + k])
        kinds[i] = np.int64(data[at]) if crc_of(data, at, end, tables) == told else _BROKEN


def decode(
    segments: Sequence[Segment], selection: Selection, sources: Sequence[Source]
) -> Gathered:
    """Give the samples of segments; what is not used is told to the sources."""
    none = np.zeros(0, np.int64)
    # Earlier blocks first: of blocks that do not overlap, the chunks of a series come in order then
    segments = sorted(segments, key=lambda one: int(one.wanted.first.min(initial=_LAST)))
    series = np.concatenate([none, *(one.wanted.series for one in segments)])
    numbers = [one.wanted.source for one in segments]
    source = np.repeat(np.array(numbers, np.int64), [len(one.begins) for one in segments])
    room = np.concatenate([none, *(rooms(one.data, one.begins, one.ends) for one in segments)])
    order = np.argsort(series, kind="stable")
    slots = np.empty(len(order), np.int64)
    slots[order] = np.cumsum(room[order]) - room[order]
    many = int(room.sum())
    keys, times, values = np.empty(many, np.uint32), np.empty(many, np.int64), np.empty(many)
    told = _decoded(segments, slots, room, keys, times, values, selection)
    for one, part in _parts(segments):
        _tell(one, told.part(part), sources[one.wanted.source])
    kept = told.kept[order]
    is_ordered = told.is_rising.all() and _are_ordered(
        series[order], kept, told.first[order], told.last[order]
    )
    if not (kept == room[order]).all():
        many = _close(slots[order], kept, keys, times, values)
        # Room that is not used is given back
        keys, times, values = _cut(keys, many), _cut(times, many), _cut(values, many)
    return Gathered(keys, times, values, source[order], series[order], kept, bool(is_ordered))


def _cut(column: npt.NDArray[_Number], many: int) -> npt.NDArray[_Number]:
    return column[:many].copy() if many < len(column) // 2 else column[:many]


def _tell(segment: Segment, told: _Told, source: Source) -> None:
    why = "it holds fewer samples than it says"
    _refuse(source, segment.wanted, ~told.is_whole, why)
    if nan := int(told.nan.sum()):
        source.refuse(f"{nan} NaN, which is no sample", nan)
    source.thinned += int(told.thinned.sum())


def _parts(segments: Sequence[Segment]) -> list[tuple[Segment, slice]]:
    """Give for each segment where its chunks lie among those of all."""
    edges = np.cumsum([0, *(len(one.begins) for one in segments)]).tolist()
    return [(one, slice(*edges[i : i + 2])) for i, one in enumerate(segments)]


def _decoded(
    segments: Sequence[Segment], slots: Integers, room: Integers, keys: Keys, times: Integers,
    values: Floats, selection: Selection,
) -> _Told:  # fmt: skip
    """Decode chunks into their slots, on all cores: those of many small blocks at once, too."""
    counts = np.zeros((len(slots), 5), np.int64)
    is_rising, is_whole = np.zeros((2, len(slots)), np.bool_)
    deletions = [_deletions(one.wanted) for one in segments]
    start = _FIRST if selection.start is None else selection.start
    end = _LAST if selection.end is None else selection.end
    wanted = np.array((start, end, selection.step or 0), np.int64)
    bits = values.view(np.uint64)

    def run(part: slice) -> None:
        for (one, whole), (which, deleted) in zip(_parts(segments), deletions, strict=True):
            all_ = slice(max(part.start, whole.start), min(part.stop, whole.stop))
            if all_.start >= all_.stop:
                continue
            own = slice(all_.start - whole.start, all_.stop - whole.start)
            _decode(
                one.data, one.begins[own], one.ends[own], slots[all_], one.wanted.series[own],
                which[own], deleted, wanted, keys, times, bits, counts[all_], is_rising[all_],
                is_whole[all_],
            )  # fmt: skip

    parallel(run, room)
    kept, nan, thinned, first, last = counts.T.copy()
    return _Told(kept, nan, thinned, first, last, is_rising, is_whole)


def _deletions(wanted: Wanted) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give for each chunk which rows of deleted times are of it: first, and beyond the last."""
    which = np.zeros((len(wanted.references), 2), np.int64)
    rows: list[tuple[int, int]] = []
    for reference, times in wanted.deleted.items():
        which[wanted.references == reference] = len(rows), len(rows) + len(times)
        rows += times
    return which, np.array(rows, np.int64).reshape(-1, 2)


@njit(cache=True, nogil=True)
def _decode(
    data: Bytes, begins: Integers, ends: Integers, slots: Integers, series: Integers,
    which: Integers, deleted: Integers, wanted: Integers, keys: Keys, times: Integers, bits: Words,
    counts: Integers, is_rising: Bits, is_whole: Bits,
) -> None:  # pragma: no cover  # fmt: skip
    start, end, step = wanted
    for i in range(len(begins)):
        slot = slots[i]
        many, rises, are_numbers = chunk_into(data, begins[i], ends[i], times, bits, slot)
        is_whole[i] = many == told_of(data, begins[i], ends[i]) and ends[i] - begins[i] >= 2
        is_rising[i] = rises
        if many == 0:
            continue
        is_all = rises and are_numbers and step == 0 and which[i, 0] == which[i, 1]
        if not (is_all and start <= times[slot] and times[slot + many - 1] <= end):
            gone = deleted[which[i, 0] : which[i, 1]]
            width = step if rises else 0
            many, nan, thinned = _trim(times, bits, slot, many, gone, start, end, width)
            counts[i, 1], counts[i, 2] = nan, thinned
        counts[i, 0] = many
        if many > 0:
            counts[i, 3], counts[i, 4] = times[slot], times[slot + many - 1]
            keys[slot : slot + many] = series[i]


@njit(cache=True, nogil=True)
def _trim(
    times: Integers, bits: Words, slot: int, many: int, deleted: Integers, start: int, end: int,
    step: int,
) -> tuple[int, int, int]:  # pragma: no cover  # fmt: skip
    """Keep numbers of wanted times, of each step the last one; count them, NaN, and the others."""
    values = bits.view(np.float64)
    to, nan, thinned = slot, 0, 0
    for i in range(slot, slot + many):
        time = times[i]
        is_gone = time < start or time > end
        for k in range(len(deleted)):
            is_gone |= deleted[k, 0] <= time <= deleted[k, 1]
        if is_gone:
            continue
        if np.isnan(values[i]):
            nan += 1
            continue
        if step > 0 and to > slot and times[to - 1] // step == time // step:
            to -= 1
            thinned += 1
        times[to], bits[to] = time, bits[i]
        to += 1
    return to - slot, nan, thinned


@njit(cache=True, nogil=True)
def _are_ordered(
    series: Integers, kept: Integers, first: Integers, last: Integers
) -> bool:  # pragma: no cover
    """Tell whether each chunk of a series begins after the one before it has ended."""
    before = -1
    for i in range(len(kept)):
        if kept[i] > 0:
            if before >= 0 and series[before] == series[i] and last[before] >= first[i]:
                return False
            before = i
    return True


@njit(cache=True, nogil=True)
def _close(
    slots: Integers, counts: Integers, keys: Keys, times: Integers, values: Floats
) -> int:  # pragma: no cover
    """Close the gaps of chunks that gave fewer samples than their room; slots rise."""
    to = 0
    for chunk in range(len(counts)):
        at = slots[chunk]
        if to == at:
            to += counts[chunk]
            continue
        for i in range(counts[chunk]):
            keys[to], times[to], values[to] = keys[at + i], times[at + i], values[at + i]
            to += 1
    return to
