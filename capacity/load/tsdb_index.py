"""Index of a block of Prometheus' database: which series there are, and where their chunks lie.

Format: prometheus/prometheus tsdb/docs/format/index.md (v2.53 to v3.5; versions 1 and 2 differ in
how series name their symbols). Every length is checked against the file before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.checksums import Bytes, Integers, crc32c
from capacity.load.object_store import Need
from capacity.load.tsdb_bytes import opened as opened_file
from capacity.load.tsdb_numbers import IndexFaultError, uvarint, varint
from capacity.load.words import read_only

MAGIC: Final = b"\xba\xaa\xd7\x00"
_VERSIONS: Final = (1, 2)
_TOC: Final = struct.Struct(">6QI")
# Series begin at multiples of this in version 2; their reference is the offset divided by it
_ALIGNED: Final = 16
_NAME: Final = b"__name__"
# Magic and version; the longest length of a series
_HEAD: Final = 5
_LENGTH: Final = 10


# Which metric names are wanted
Wants = Callable[[list[str]], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Opened:
    """An index whose head was read: its bytes, and where its tables begin.

    Bytes of object storage are there after `need` was called with where they begin and end.
    """

    data: Bytes
    need: Need
    version: int
    toc: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Some series of a block: their references and labels, and a row for each of their chunks.

    `labels` are pairs of name and value, `many` of each series one after the other, as places in
    `texts`. `series` numbers the series of each chunk; `first` and `last` are the chunk's times
    [ms]; `places` hold the segment in the upper 32 bits and the offset in it in the lower; `broken`
    counts series whose checksum is wrong.
    """

    references: Integers
    texts: tuple[bytes, ...]
    labels: Integers
    many: Integers
    series: Integers
    first: Integers
    last: Integers
    places: Integers
    broken: int

    def metrics(self, series: Integers) -> list[str]:
        """Give the metric names of series, each once."""
        pairs = self.labels.reshape(-1, 2)
        name = self.texts.index(_NAME) if _NAME in self.texts else -1
        is_named = np.repeat(np.isin(np.arange(len(self.many)), series), self.many)
        found = np.unique(pairs[is_named & (pairs[:, 0] == name), 1])
        return [_text(self.texts[at]) for at in found.tolist()]


def open_index(path: Path) -> Opened:
    """Read the head of an index.

    Raises
    ------
    IndexFaultError
        If the file is no index, or is cut off.
    ExportError
        If it cannot be read.
    """
    data, need = opened_file(path)
    data = read_only(data)
    need(np.array([0, len(data) - _TOC.size]), np.array([_HEAD, len(data)]))
    return Opened(data, need, *_head(data))


def read(opened: Opened, references: Integers) -> Index:
    """Read the series of some references.

    Raises
    ------
    IndexFaultError
        If the tables of the index are broken.
    """
    data, version = opened.data, opened.version
    many = len(references)
    begins, ends, is_good = _entries(opened, references * (_ALIGNED if version > 1 else 1))
    references, begins, ends = references[is_good], begins[is_good], ends[is_good]
    many_labels, many_chunks, is_read = _count(data, begins, ends)
    references, begins, ends = references[is_read], begins[is_read], ends[is_read]
    many_labels, many_chunks = many_labels[is_read], many_chunks[is_read]
    symbols = np.empty(2 * int(many_labels.sum()), np.int64)
    chunks = np.empty((3, int(many_chunks.sum())), np.int64)
    _fill(data, begins, ends, symbols, chunks)
    texts, labels = _texts(opened, symbols)
    return Index(
        references, texts, labels, many_labels, np.repeat(np.arange(len(references)), many_chunks),
        chunks[0], chunks[1], chunks[2], many - len(references),
    )  # fmt: skip


def _head(data: Bytes) -> tuple[int, tuple[int, ...]]:
    if len(data) < 5 + _TOC.size or data[:4].tobytes() != MAGIC:
        raise IndexFaultError("is no index of a block: its first bytes are not those of one")
    version = int(data[4])
    if version not in _VERSIONS:
        raise IndexFaultError(f"is of format version {version}; known are 1 and 2")
    end = len(data)
    *toc, crc = _TOC.unpack(data[end - _TOC.size :].tobytes())
    if crc32c(data, np.array([end - _TOC.size]), np.array([end - 4]))[0] != crc:
        raise IndexFaultError("is cut off or damaged: the checksum at its end is wrong")
    if max(toc) > end:
        raise IndexFaultError("is damaged: its table of contents points beyond its end")
    return version, tuple(toc)


def _table(opened: Opened, at: int, what: str) -> tuple[int, int]:
    """Give where a table's content begins and ends, after its length and before its checksum."""
    data, begin = opened.data, at + 4
    if begin > len(data):
        raise IndexFaultError(f"is cut off in its {what}")
    opened.need(np.array([at]), np.array([begin]))
    end = begin + int.from_bytes(data[at:begin].tobytes(), "big")
    if end + 4 > len(data) or end < begin + 4:
        raise IndexFaultError(f"is cut off in its {what}")
    opened.need(np.array([begin]), np.array([end + 4]))
    crc = int.from_bytes(data[end : end + 4].tobytes(), "big")
    if crc32c(data, np.array([begin]), np.array([end]))[0] != crc:
        raise IndexFaultError(f"is damaged: the checksum of its {what} is wrong")
    return begin, end


def wanted(opened: Opened, wants: Wants | None) -> Integers:
    """Give references of the series whose metric name is wanted, ascending; all where None.

    Raises
    ------
    IndexFaultError
        If the postings are broken.
    """
    if wants is None:
        opened.need(np.array([0]), np.array([len(opened.data)]))
    names, places = _values(opened, b"" if wants is None else _NAME)
    # The list of all series is that of a label without name and value
    is_wanted = np.array([not n for n in names], np.bool_) if wants is None else wants(names)
    return _merged(_postings(opened, places[is_wanted]))


def by_value(opened: Opened, label: str) -> dict[str, Integers]:
    """Give references of the series of each value of a label.

    Raises
    ------
    IndexFaultError
        If the postings are broken.
    """
    values, places = _values(opened, label.encode())
    return dict(zip(values, _postings(opened, places), strict=True))


def _merged(lists: list[Integers]) -> Integers:
    """Give the union of lists."""
    whole = lists[0] if len(lists) == 1 else np.concatenate([np.zeros(0, np.int64), *lists])
    # A list that is in order, as Prometheus writes it, is not sorted again
    return whole if (whole[1:] > whole[:-1]).all() else np.unique(whole)


def _values(opened: Opened, name: bytes) -> tuple[list[str], Integers]:
    """Give the values of a label, and where the list of series of each begins."""
    data = opened.data
    begin, end = _table(opened, opened.toc[5], "table of postings")
    many = int.from_bytes(data[begin : begin + 4].tobytes(), "big")
    found = _listed(data, begin + 4, end, many, np.frombuffer(name, np.uint8))
    if found is None:
        raise IndexFaultError("is damaged: its table of postings is shorter than it says")
    return [_text(data[first:last].tobytes()) for first, last in found[:, :2].tolist()], found[:, 2]


def _postings(opened: Opened, places: Integers) -> list[Integers]:
    """Give the lists of series that begin at places."""
    if (places > len(opened.data)).any():
        raise IndexFaultError("is cut off in its postings")
    # All at once, where they come from a store: first how long each is
    opened.need(places, places + 4)
    opened.need(places, places + 8 + _big(opened.data, places))
    return [_posting(opened, at) for at in places.tolist()]


def _posting(opened: Opened, at: int) -> Integers:
    data = opened.data
    begin, end = _table(opened, at, "postings")
    many = int.from_bytes(data[begin : begin + 4].tobytes(), "big")
    if begin + 4 + 4 * many > end:
        raise IndexFaultError("is damaged: a list of postings is longer than its place")
    numbers = np.frombuffer(data[begin + 4 : begin + 4 + 4 * many].tobytes(), ">u4")
    return numbers.astype(np.int64)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _entries(opened: Opened, offsets: Integers) -> tuple[Integers, Integers, npt.NDArray[np.bool_]]:
    """Give begin and end of each series, and whether its checksum is right."""
    data = opened.data
    opened.need(offsets, offsets + _LENGTH)
    begins, ends = _sized(data, offsets)
    inside = (begins >= 0) & (ends + 4 <= len(data))
    begins, ends = np.where(inside, begins, 0), np.where(inside, ends, 0)
    opened.need(begins, ends + 4)
    return begins, ends, inside & (crc32c(data, begins, ends) == _big(data, ends))


def _big(data: Bytes, places: Integers) -> Integers:
    """Give the numbers of four bytes at places."""
    told = np.zeros(len(places), np.int64)
    for i in range(4):
        told = (told << 8) | data[np.minimum(places + i, len(data) - 1)]
    return told


def _texts(opened: Opened, symbols: Integers) -> tuple[tuple[bytes, ...], Integers]:
    """Give the texts of symbols, and the place of each symbol among them."""
    data = opened.data
    begin, end = _table(opened, opened.toc[0], "symbols")
    if not len(symbols):
        return (), symbols
    if opened.version == 1:
        used, labels = np.unique(symbols, return_inverse=True)
        places = used
    else:
        count = int.from_bytes(data[begin : begin + 4].tobytes(), "big")
        if symbols.min() < 0 or symbols.max() >= min(count, end - begin):
            raise IndexFaultError("is damaged: a series names a symbol that is not there")
        is_used = np.zeros(int(symbols.max()) + 1, np.bool_)
        is_used[symbols] = True
        used, labels = np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[symbols]
        places = _symbol_places(data, begin + 4, end, len(is_used))[used]
    begins, ends = _sized(data[:end], places)
    if (begins < 0).any() or (ends > end).any():
        raise IndexFaultError("is damaged: a text runs beyond its table")
    table = data[begin:end].tobytes()
    told = zip((begins - begin).tolist(), (ends - begin).tolist(), strict=True)
    return tuple(table[first:last] for first, last in told), labels


@njit(cache=True, nogil=True)
def _listed(data: Bytes, at: int, end: int, many: int, name: Bytes) -> Any:  # pragma: no cover
    """Give for each value of a label where it begins and ends, and the offset of its postings.

    None if the table ends before it should.
    """
    found = np.empty((min(many, end - at), 3), np.int64)
    count = 0
    for _ in range(many):
        # Two keys, name and value, and the offset of the list
        size, begin = uvarint(data, at + 1, end)
        if begin < 0 or size < 0 or size > end - begin:
            return None
        is_wanted = size == len(name)
        for i in range(len(name)):
            is_wanted = is_wanted and data[begin + i] == name[i]
        size, value = uvarint(data, begin + size, end)
        if value < 0 or size < 0 or size > end - value:
            return None
        offset, at = uvarint(data, value + size, end)
        if at < 0 or offset < 0:
            return None
        if is_wanted:
            found[count, 0], found[count, 1], found[count, 2] = value, value + size, offset
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _sized(data: Bytes, offsets: Integers) -> tuple[Integers, Integers]:  # pragma: no cover
    begins, ends = np.empty(len(offsets), np.int64), np.empty(len(offsets), np.int64)
    for i in range(len(offsets)):
        size, at = uvarint(data, offsets[i], len(data))
        begins[i] = at if 0 <= size <= len(data) else -1
        ends[i] = at + size if 0 <= size <= len(data) else -1
    return begins, ends


@njit(cache=True, nogil=True)
def _count(
    data: Bytes, begins: Integers, ends: Integers
) -> tuple[Integers, Integers, npt.NDArray[np.bool_]]:  # pragma: no cover
    """Count labels and chunks of each series, and tell whether all of them are there."""
    labels, chunks = np.zeros(len(begins), np.int64), np.zeros(len(begins), np.int64)
    is_read = np.zeros(len(begins), np.bool_)
    for i in range(len(begins)):
        end = ends[i]
        many, at = uvarint(data, begins[i], end)
        if at < 0 or many < 0 or many > end - begins[i]:
            continue
        for _ in range(2 * many):
            _, at = uvarint(data, at, end)
        more, at = uvarint(data, at, end)
        if at < 0 or more < 0 or more > end - begins[i]:
            continue
        for _ in range(3 * more):
            _, at = uvarint(data, at, end)
        if at == end:
            labels[i], chunks[i], is_read[i] = many, more, True
    return labels, chunks, is_read


@njit(cache=True, nogil=True)
def _fill(
    data: Bytes,
    begins: Integers,
    ends: Integers,
    symbols: Integers,
    chunks: npt.NDArray[np.int64],
) -> None:  # pragma: no cover
    label, chunk = 0, 0
    for i in range(len(begins)):
        end = ends[i]
        many, at = uvarint(data, begins[i], end)
        for _ in range(2 * many):
            symbols[label], at = uvarint(data, at, end)
            label += 1
        many, at = uvarint(data, at, end)
        last: Any = np.int64(0)
        place: Any = np.int64(0)
        for k in range(many):
            if k == 0:
                first, at = varint(data, at, end)
            else:
                gap, at = uvarint(data, at, end)
                first = last + gap
            length, at = uvarint(data, at, end)
            last = first + length
            if k == 0:
                place, at = uvarint(data, at, end)
            else:
                move, at = varint(data, at, end)
                place += move
            chunks[0, chunk], chunks[1, chunk], chunks[2, chunk] = first, last, place
            chunk += 1


@njit(cache=True, nogil=True)
def _symbol_places(data: Bytes, begin: int, end: int, many: int) -> Integers:  # pragma: no cover
    places = np.empty(min(many, end - begin), np.int64)
    at = begin
    for i in range(len(places)):
        places[i] = at
        size, at = uvarint(data, at, end)
        if at < 0 or size < 0 or size > end - at:
            at = end
        else:
            at += size
    return places
