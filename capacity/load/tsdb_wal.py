"""Write-ahead log of Prometheus' database: the newest hours, which are in no block yet.

Format: prometheus/prometheus tsdb/docs/format/wal.md, tsdb/wlog/reader.go and tsdb/record/record.go
(main of 2026). All that is in memory, and in chunks_head, is in the log and its last checkpoint.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cramjam
import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from capacity.load.checksums import crc32c
from capacity.load.gather import Source
from capacity.load.tsdb_index import Wants
from capacity.load.tsdb_numbers import (
    IndexFaultError,
    string_at,
    uvarint_at,
    varint,
    varint_at,
)  # fmt: skip
from capacity.load.xor import Bytes, Floats, Integers
from capacity.telling import few

Labels = tuple[tuple[str, str], ...]

_PAGE: Final = 1 << 15
_HEAD: Final = struct.Struct(">BHI")
# Kinds of fragments; the rest of a page is empty
_EMPTY, _FULL, _FIRST, _MIDDLE, _LAST = range(5)
_KIND, _SNAPPY, _ZSTD = 7, 8, 16
_SERIES, _SAMPLES, _TOMBSTONES = 1, 2, 3
# tsdb/record/record.go, Type: what is not read, by name
_OTHERS: Final[Mapping[int, str]] = {
    11: "samples of the second form",
    12: "native histograms",
    13: "native histograms",
}
# Exemplars, places of chunks in chunks_head, metadata: no samples
_IGNORED: Final = (4, 5, 6)
# Native histograms, and which of them are of floats
_HISTOGRAMS: Final[Mapping[int, bool]] = {7: False, 8: True, 9: False, 10: True}
# Schema of histograms with bounds of their own: model/histogram/generic.go, CustomBucketsSchema
_CUSTOM: Final = -53
# Identity and time of the first sample
_BASE: Final = 16
# A sample takes at least a byte for each delta, and eight for its value
_LEAST: Final = 10
# A scrape is a record; none is larger than that, unpacked. [byte]
_LARGEST: Final = 256 << 20
# Most records fit into that, unpacked. [byte]
_LEAST_ROOM: Final = 1 << 16
_SEGMENT: Final = re.compile(r"\d{8}", re.ASCII)
_CHECKPOINT: Final = re.compile(r"checkpoint\.(\d{8})", re.ASCII)


@dataclass(slots=True)
class _Log:
    """What the log tells so far: number of the labels of each reference, samples, deletions."""

    numbers: dict[int, int]
    samples: list[tuple[Integers, Integers, Floats]] = field(default_factory=list)
    deleted: list[tuple[int, int, int]] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    histograms: list[int] = field(default_factory=list)


def read(
    folder: Path,
    wants: Wants | None,
    source: Source,
    told: dict[Labels, int],
    known: dict[int, int],
) -> pl.DataFrame:
    """Read the log in a folder.

    Parameters
    ----------
    folder
        That of checkpoints and segments: ``wal``, or ``wbl``, the log of samples that came out of
        order, which names no series itself.
    wants
        Which metrics are wanted; all where left out.
    source
        Told what is not read: a segment ends where a checksum is wrong, as for Prometheus itself.
    told
        Number of each label set; new ones are added.
    known
        Number of the label set of each reference; new ones are added.

    Returns
    -------
    DataFrame
        Number of the labels, time [ms] and value, in order of the log.
    """
    log = _Log(known)
    for path in _segments(folder):
        _read_segment(path, log, source, told)
    for what, many in log.others.items():
        source.refuse(f"{many} records of {what}, which are not read", many)
    is_wanted = _wanted(told, wants)
    _tell_histograms(log, source, list(told), is_wanted)
    return _frame(log, source, is_wanted)


def _segments(folder: Path) -> list[Path]:
    """Give the segments of the last checkpoint, and those that came after it."""
    found = {path.name: path for path in folder.iterdir()}
    points = sorted(name for name in found if _CHECKPOINT.fullmatch(name))
    last = points[-1].removeprefix("checkpoint.") if points else ""
    kept = sorted(found[points[-1]].iterdir()) if points else []
    kept = [path for path in kept if _SEGMENT.fullmatch(path.name)]
    return kept + [
        found[name] for name in sorted(found) if _SEGMENT.fullmatch(name) and name > last
    ]


def _read_segment(path: Path, log: _Log, source: Source, told: dict[Labels, int]) -> None:
    records: list[bytes] = []
    try:
        for record in _records(path.read_bytes()):
            kind = record[0] if record else 0
            if kind == _SERIES:
                _learn(record, log, told)
            elif kind == _SAMPLES:
                records.append(record)
            elif kind == _TOMBSTONES:
                log.deleted += _tombstones(record)
            elif kind in _HISTOGRAMS:
                log.histograms += _histograms(record, is_float=_HISTOGRAMS[kind])
            elif kind not in _IGNORED:
                what = _OTHERS.get(kind, f"kind {kind}, which nobody knew in 2026")
                log.others[what] = log.others.get(what, 0) + 1
    except OSError as error:
        source.refuse(f"{path.name}: cannot be read: {error.strerror}", 1)
    except IndexFaultError as fault:
        source.refuse(f"{path.name}: {fault}; what follows in it is not read", 1)
    ends = np.cumsum([0, *map(len, records)])
    data = np.frombuffer(b"".join(records), np.uint8)
    references, times, values, is_whole = _decode(data, ends)
    log.samples.append((references, times, values))
    if not is_whole:
        source.refuse(f"{path.name}: records of samples that are not whole", 1)


def _records(data: bytes) -> Iterator[bytes]:
    """Put fragments together, and unpack them.

    Raises
    ------
    IndexFaultError
        Where the segment is damaged, after the records before that.
    """
    found = _fragments(data)
    begins, ends = np.array(found.begins, np.int64), np.array(found.ends, np.int64)
    told = crc32c(np.frombuffer(data, np.uint8), begins, ends)
    bad = np.flatnonzero(told != np.array(found.sums, np.uint32))
    parts: list[bytes] = []
    for i, head in enumerate(found.heads[: int(bad[0]) if len(bad) else None]):
        kind = head & _KIND
        if (kind in (_FULL, _FIRST)) != (not parts):
            raise IndexFaultError(f"fragments at {begins[i]} do not follow one another")
        parts.append(data[begins[i] : ends[i]])
        if kind in (_FULL, _LAST):
            yield _unpacked(b"".join(parts), head, int(begins[i]))
            parts = []
    fault = f"the checksum at {begins[bad[0]]} is wrong" if len(bad) else found.fault
    if fault is None and parts:
        fault = "its last record is cut off, as if it was still written"
    if fault is not None:
        raise IndexFaultError(fault)


@dataclass(slots=True)
class _Fragments:
    """Head, begin, end and checksum of each fragment, and what is wrong behind the last."""

    heads: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    fault: str | None = None


def _fragments(data: bytes) -> _Fragments:
    found = _Fragments()
    at = 0
    while at < len(data):
        if data[at] & _KIND == _EMPTY:
            end = (at // _PAGE + 1) * _PAGE
            if data[at:end].strip(b"\0"):
                found.fault = f"the page is not empty behind {at}"
                break
            at = end
            continue
        begin = at + _HEAD.size
        head, size, crc = _HEAD.unpack_from(data, at) if begin <= len(data) else (data[at], 0, 0)
        if head & _KIND > _LAST:
            found.fault = f"no fragment of a record begins at {at}"
            break
        if begin + size > len(data):
            found.fault = f"the record at {at} is cut off, as if it was still written"
            break
        at = begin + size
        found.heads.append(head)
        found.begins.append(begin)
        found.ends.append(at)
        found.sums.append(crc)
    return found


def _unpacked(record: bytes, head: int, at: int) -> bytes:
    if not record or not head & (_SNAPPY | _ZSTD):
        return record
    if head & _ZSTD:
        return _of_zstd(record, at)
    try:
        if cramjam.snappy.decompress_raw_len(record) > _LARGEST:
            raise IndexFaultError(f"the record at {at} is larger than {_LARGEST} bytes")
        return bytes(cramjam.snappy.decompress_raw(record))
    except cramjam.DecompressionError:
        raise IndexFaultError(f"the record at {at} cannot be unpacked") from None


def _of_zstd(record: bytes, at: int) -> bytes:
    """Unpack into room that grows: what a frame says of its size may be a lie, or missing."""
    size = _LEAST_ROOM
    while size < 8 * len(record):
        size *= 4
    while size <= _LARGEST:
        room = bytearray(size)
        try:
            return bytes(room[: cramjam.zstd.decompress_into(record, room)])
        except cramjam.DecompressionError:
            size *= 4
    raise IndexFaultError(
        f"the record at {at} cannot be unpacked, or is larger than {_LARGEST} bytes"
    )


def _learn(record: bytes, log: _Log, told: dict[Labels, int]) -> None:
    """Note the labels of references."""
    at = 1
    while at < len(record):
        reference = int.from_bytes(record[at : at + 8], "big")
        many, at = uvarint_at(record, at + 8)
        labels = {}
        for _ in range(many):
            name, at = string_at(record, at)
            value, at = string_at(record, at)
            labels[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        log.numbers[reference] = told.setdefault(tuple(sorted(labels.items())), len(told))


def _tombstones(record: bytes) -> Iterator[tuple[int, int, int]]:
    """Give reference, first and last time of what was deleted."""
    data = np.frombuffer(record, np.uint8)
    at = 1
    while at < len(record):
        reference = int.from_bytes(record[at : at + 8], "big")
        first, at = varint(data, at + 8, len(data))
        last, at = varint(data, at, len(data))
        if at < 0:
            raise IndexFaultError("a list of deleted samples is cut off")
        yield reference, int(first), int(last)


def _histograms(record: bytes, *, is_float: bool) -> Iterator[int]:
    """Give the reference of each native histogram of a record.

    Format: tsdb/record/record.go, DecodeHistogram and DecodeFloatHistogram (v2.42, v3.5).
    """
    first = int.from_bytes(record[1:9], "big")
    at = 1 + _BASE
    while at < len(record):
        change, at = varint_at(record, at)
        _, at = varint_at(record, at)
        # A byte tells of resets; schema, bound of the zero bucket, its count, count and sum follow
        schema, at = varint_at(record, at + 1)
        at = at + 32 if is_float else uvarint_at(record, uvarint_at(record, at + 8)[1])[1] + 8
        for _ in range(2):
            many, at = uvarint_at(record, at)
            for _ in range(2 * many):
                _, at = uvarint_at(record, at)
        for _ in range(2):
            at = _past(record, at, is_float=is_float)
        if schema == _CUSTOM:
            at = _past(record, at, is_float=True)
        yield first + change


def _past(record: bytes, at: int, *, is_float: bool) -> int:
    """Give the place after a list of numbers."""
    many, at = uvarint_at(record, at)
    if is_float:
        return at + 8 * many
    for _ in range(many):
        _, at = uvarint_at(record, at)
    return at


def _tell_histograms(
    log: _Log, source: Source, told: list[Labels], is_wanted: npt.NDArray[np.bool_]
) -> None:
    numbers = [log.numbers.get(reference, -1) for reference in log.histograms]
    wanted = [number for number in numbers if number < 0 or is_wanted[number]]
    if wanted:
        names = few(dict(told[number]).get("__name__", "") for number in wanted if number >= 0)
        many = len(wanted)
        source.refuse(f"{many} samples of native histograms of {names}, which are not read", many)


def _wanted(told: Mapping[Labels, int], wants: Wants | None) -> npt.NDArray[np.bool_]:
    if wants is None:
        return np.ones(len(told), np.bool_)
    return wants([dict(labels).get("__name__", "") for labels in told])


def _frame(log: _Log, source: Source, is_wanted: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Give samples by the number of their labels; without what was deleted or is not wanted."""
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    columns = zip(*(log.samples or [nothing]), strict=True)
    references, times, values = (np.concatenate(column) for column in columns)
    known, at = np.unique(references, return_inverse=True)
    numbers = np.array([log.numbers.get(int(one), -1) for one in known], np.int64)[at]
    if lost := int((numbers < 0).sum()):
        source.refuse(f"{lost} samples of series that the log does not name", lost)
    is_kept = numbers >= 0
    is_kept[is_kept] = is_wanted[numbers[is_kept]]
    for reference, first, last in log.deleted:
        is_kept &= (references != reference) | (times < first) | (times > last)
    columns_kept: Sequence[npt.NDArray[np.generic]] = (numbers.astype(np.uint32), times, values)
    names = ("series", "time", "value")
    return pl.DataFrame({n: c[is_kept] for n, c in zip(names, columns_kept, strict=True)})


@njit(cache=True, nogil=True)
def _big(data: Bytes, at: int) -> np.uint64:  # pragma: no cover
    number = np.uint64(0)
    for i in range(8):
        number = (number << np.uint64(8)) | np.uint64(data[at + i])
    return number


@njit(cache=True, nogil=True)
def _decode(
    data: Bytes, ends: Integers
) -> tuple[Integers, Integers, Floats, bool]:  # pragma: no cover
    """Read records of samples: reference, time and value of each; whether all are whole."""
    most = len(data) // _LEAST
    references, times = np.empty(most, np.int64), np.empty(most, np.int64)
    bits, count, is_whole = np.empty(most, np.uint64), 0, True
    for i in range(len(ends) - 1):
        at, end = ends[i] + 1, ends[i + 1]
        if at == end:
            continue
        if at + _BASE > end:
            is_whole = False
            continue
        reference, time = np.int64(_big(data, at)), np.int64(_big(data, at + 8))
        at += _BASE
        while at < end:
            change, at = varint(data, at, end)
            later, at = varint(data, at, end)
            if at < 0 or at + 8 > end:
                is_whole = False
                break
            references[count], times[count] = reference + change, time + later
            bits[count] = _big(data, at)
            count += 1
            at += 8
    return references[:count], times[:count], bits[:count].view(np.float64), is_whole
