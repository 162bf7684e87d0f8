"""Blocks of Prometheus' database read directly, without a server: Prometheus, Thanos, Mimir.

Format: prometheus/prometheus tsdb/docs/format/{chunks,tombstones}.md (v2.53 to v3.5); meta.json of
Thanos holds external labels: thanos-io/thanos pkg/block/metadata/meta.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
from numba import njit

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.load import object_store, tsdb_index, tsdb_wal
from capacity.load.gather import Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_columns
from capacity.load.tsdb_files import FORMAT, HEAD, INDEX, LATE, LOG
from capacity.load.tsdb_index import Index, IndexFaultError, uvarint
from capacity.load.xor import Bytes, Floats, Integers, close, crc32c, decode_into, parallel, rooms

Keys = npt.NDArray[np.uint32]
# A label set, sorted by name
_Key = tuple[tuple[str, str], ...]

_SEGMENT: Final = b"\x85\xbd\x40\xdd\x01"
_TOMBSTONES: Final = b"\x01\x30\xba\x30\x01"
_XOR: Final = 1
_CLUSTER: Final = "cluster"
_ENCODINGS: Final = {2: "native histogram", 3: "native float histogram"}


@dataclass(frozen=True, slots=True)
class _Indexed:
    """A block's wanted chunks: `numbers` are those of its label sets among all blocks'."""

    source: int
    block: Path
    index: Index
    numbers: Integers
    deleted: Mapping[int, list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Segment:
    """Wanted chunks of one file: its bytes, where payloads lie, label set and first time of each.

    `source` numbers the block; `deleted` are times of series that were deleted, by `references`.
    """

    source: int
    path: Path
    data: Bytes
    begins: Integers
    ends: Integers
    offsets: Integers
    series: Integers
    first: Integers
    references: Integers
    deleted: Mapping[int, list[tuple[int, int]]]


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read the blocks that files are of.

    Parameters
    ----------
    paths
        Files of a database: an index stands for its block, a segment for its write-ahead log.

    Returns
    -------
    Metrics
        Samples of all blocks; equal ones of overlapping blocks once. A chunk whose checksum is
        wrong, or of a native histogram, is refused and told with block, segment and offset.
    """
    blocks = [path.parent for path in paths if path.name == INDEX]
    sources = [Source(str(block), FORMAT) for block in blocks]
    told: dict[_Key, int] = {}
    indexes = [
        index
        for number, block in enumerate(blocks)
        for index in _indexes(number, block, selection, sources[number], told)
    ]
    # What a log holds is known only when it is read
    has_log = any(path.name == LOG for path in _folders(paths))
    of_cluster = None if has_log else _of_cluster(list(told), selection.only)
    segments = [found for index in indexes for found in _segments(index, sources, of_cluster)]
    samples = _decoded(segments, selection, sources)
    for log in sorted(path for path in _folders(paths) if path.name == LOG):
        source = Source(str(log), FORMAT)
        newest = tsdb_wal.read(log, wanted_names(selection), source, told)
        number = pl.lit(len(sources), pl.UInt32).alias("source")
        newest = newest.filter(selection.holds(pl.col("time")))
        samples = pl.concat([samples, newest.select(number, "series", "time", "value")])
        sources.append(source)
    rows = [label_columns(dict(labels)) for labels in told]
    series = pl.DataFrame(rows, schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
    sources += _not_read(paths, blocks)
    found = assemble(series, samples, sources, selection)
    if of_cluster is not None and found.samples.is_empty():
        # Which clusters there are instead is worth the reading
        return read(paths, replace(selection, only=None))
    return found


def _folders(paths: Sequence[Path]) -> set[Path]:
    """Give the folders of files, and the folders of these."""
    own = {path.parent for path in paths}
    return own | {folder.parent for folder in own}


def _not_read(paths: Sequence[Path], blocks: Sequence[Path]) -> list[Source]:
    """Name what is there and not read: samples that came late, and parts without an index."""
    sources = []
    for folder in sorted({path.parent for path in paths if path.parent.name == LATE}):
        source = Source(str(folder), FORMAT)
        source.refuse(
            "samples that came out of order, not in a block yet, are not read; POST "
            "/api/v1/admin/tsdb/snapshot makes blocks of them (--web.enable-admin-api)",
            0,
        )
        sources.append(source)
    folders = _folders(paths)
    for folder in sorted(path for path in folders if path.name == HEAD):
        if folder.with_name(LOG) not in folders:
            source = Source(str(folder), FORMAT)
            source.refuse(f"the newest hours without their log; copy the folder {LOG} too", 0)
            sources.append(source)
    segments = {path.parent.parent for path in paths if path.parent.name == "chunks"}
    for folder in sorted(segments - set(blocks)):
        source = Source(str(folder), FORMAT)
        source.refuse("a block without its index; copy it again", 0)
        sources.append(source)
    return sources


def _indexes(
    number: int, block: Path, selection: Selection, source: Source, told: dict[_Key, int]
) -> list[_Indexed]:
    """Find the wanted series and chunks of a block; nothing where its index cannot be read."""
    try:
        index = tsdb_index.read(file_bytes(block / INDEX), wanted_names(selection))
        external = external_labels(block)
        deleted = tombstones(block / "tombstones")
    except (IndexFaultError, ExportError) as error:
        source.refuse(str(error))
        return []
    if index.broken:
        source.refuse(f"{INDEX}: {index.broken} series whose checksum is wrong", index.broken)
    numbers = np.array(
        [told.setdefault(_key(labels, external), len(told)) for labels in index.labels], np.int64
    )
    return [_Indexed(number, block, _wanted(index, selection), numbers, deleted)]


def _of_cluster(told: Sequence[_Key], cluster: str | None) -> npt.NDArray[np.bool_] | None:
    """Tell which label sets are of one cluster; None where leaving out others might change it.

    Series without a label are of the cluster that all others tell, and where other labels may name
    clusters, which of them counts is told when all is read (observe/names.py).
    """
    others = set(derivations.labels("cluster")) - {_CLUSTER}
    names = [dict(labels).get(_CLUSTER) for labels in told] if cluster is not None else []
    is_told = cluster in names and all(names)
    if not is_told or any(name in others for labels in told for name, _ in labels):
        return None
    return np.array([name == cluster for name in names], np.bool_)


def _segments(
    told: _Indexed, sources: Sequence[Source], of_cluster: npt.NDArray[np.bool_] | None
) -> list[Segment]:
    """Find the wanted chunks of a block, by segment file."""
    index = told.index
    if of_cluster is not None:
        index = chosen(index, of_cluster[told.numbers][index.series])
    of_chunks = index.places >> 32
    found = []
    for file in np.unique(of_chunks).tolist():
        # prometheus/prometheus tsdb/chunks/chunks.go: segment files are numbered from 1
        path = told.block / "chunks" / f"{file + 1:06d}"
        own = chosen(index, of_chunks == file)
        segment = segment_of(told.source, path, own, sources[told.source])
        if segment is not None:
            found.append(replace(
                segment, series=told.numbers[segment.series],
                references=index.references[segment.series], deleted=told.deleted,
            ))  # fmt: skip
    return found


def _key(labels: Mapping[str, str], external: Mapping[str, str]) -> _Key:
    return tuple(sorted({**external, **labels}.items()))


def wanted_names(selection: Selection) -> tsdb_index.Wants | None:
    """Tell which metric names are wanted; None for all."""
    if selection.metrics is None:
        return None

    def wants(names: list[str]) -> npt.NDArray[np.bool_]:
        told = pl.DataFrame({"metric": names}, schema={"metric": pl.String})
        return told.select(selection.wants(pl.col("metric"))).to_series().to_numpy()

    return wants


def file_bytes(path: Path) -> Bytes:
    """Give the bytes of a file, mapped where it is local."""
    try:
        if not path.stat().st_size:
            return np.zeros(0, np.uint8)
        if object_store.is_remote(path):
            return object_store.whole(path)
        return np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise ExportError(f"{path.name}: cannot be read: {error.strerror}") from None


def _chunk_bytes(path: Path, offsets: Integers) -> tuple[Bytes, Integers, Integers]:
    """Give bytes that hold the chunks, and where each begins and ends in them."""
    if not object_store.is_remote(path):
        data = file_bytes(path)
        return data, *_chunk_places(data, offsets)
    size = object_store.CHUNK_BYTES
    try:
        while True:
            data, at = object_store.parts(path, offsets, size)
            begins, ends = _chunk_places(data, at)
            is_whole = (begins >= 0) & (ends + 4 - at <= size)
            if is_whole.all() or size > object_store.MOST_CHUNK_BYTES:
                return data, begins, ends
            size *= 8
    except OSError as error:
        raise ExportError(f"{path.name}: cannot be read: {error.strerror or error}") from None


def external_labels(block: Path) -> dict[str, str]:
    """Give the external labels that Thanos writes into meta.json."""
    try:
        meta = orjson.loads((block / "meta.json").read_bytes())
        labels = meta["thanos"]["labels"]
        return {str(name): str(value) for name, value in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _wanted(index: Index, selection: Selection) -> Index:
    """Leave out chunks that end before or begin after the wanted times."""
    is_wanted = np.ones(len(index.first), np.bool_)
    if selection.start is not None:
        is_wanted &= index.last >= selection.start
    if selection.end is not None:
        is_wanted &= index.first <= selection.end
    return chosen(index, is_wanted)


def chosen(index: Index, which: npt.NDArray[np.bool_]) -> Index:
    """Give an index of some of its chunks."""
    return replace(
        index, series=index.series[which], first=index.first[which], last=index.last[which],
        places=index.places[which],
    )  # fmt: skip


def segment_of(number: int, path: Path, index: Index, source: Source) -> Segment | None:
    """Find the wanted chunks of one segment file; those that are not read are told."""
    many = len(index.places)
    offsets = index.places & 0xFFFFFFFF
    try:
        data, begins, ends = _chunk_bytes(path, offsets)
    except ExportError as error:
        source.refuse(f"chunks/{error} ({many} chunks)", many)
        return None
    if data[:5].tobytes() != _SEGMENT:
        source.refuse(f"chunks/{path.name}: is no segment of chunks ({many} chunks)", many)
        return None
    is_good = _checked(data, begins, ends)
    _refuse_chunks(source, path, offsets, ~is_good, "the checksum is wrong or it is cut off")
    encodings = np.where(is_good, data[np.where(is_good, begins, 0)], 0)
    for encoding in np.unique(encodings[is_good & (encodings != _XOR)]):
        what = _ENCODINGS.get(int(encoding), f"unknown encoding {encoding}")
        is_such = is_good & (encodings == encoding)
        _refuse_chunks(source, path, offsets, is_such, f"{what}, which is not read")
    is_good &= encodings == _XOR
    return Segment(
        number, path, data,
        # Behind the encoding
        begins[is_good] + 1, ends[is_good], offsets[is_good], index.series[is_good],
        index.first[is_good], np.zeros(0, np.int64), {},
    )  # fmt: skip


def _refuse_chunks(
    source: Source, path: Path, offsets: Integers, which: npt.NDArray[np.bool_], why: str
) -> None:
    many = int(which.sum())
    if many:
        at = int(offsets[which][0])
        told = f"chunk at {at}" if many == 1 else f"{many} chunks, the first at {at}"
        source.refuse(f"chunks/{path.name}: {told}: {why}", many)


def _checked(data: Bytes, begins: Integers, ends: Integers) -> npt.NDArray[np.bool_]:
    """Tell which chunks lie in the file, and have the checksum that follows them."""
    inside = (begins >= 0) & (ends > begins) & (ends + 4 <= len(data))
    begins, ends = np.where(inside, begins, 0), np.where(inside, ends, 0)
    told = np.zeros(len(begins), np.uint32)
    for i in range(4):
        at = np.minimum(ends + i, len(data) - 1)
        told = (told << np.uint32(8)) | data[at].astype(np.uint32)
    is_good: npt.NDArray[np.bool_] = inside & (crc32c(data, begins, ends) == told)
    return is_good


@njit(cache=True, nogil=True)
def _chunk_places(data: Bytes, offsets: Integers) -> tuple[Integers, Integers]:  # pragma: no cover
    """Give where encoding and data of each chunk begin and end; -1 where they lie outside."""
    begins, ends = np.empty(len(offsets), np.int64), np.empty(len(offsets), np.int64)
    for i in range(len(offsets)):
        size, at = uvarint(data, offsets[i], len(data))
        is_inside = at >= 0 and 0 <= size < len(data)
        begins[i] = at if is_inside else -1
        # The length leaves out the byte of the encoding
        ends[i] = at + size + 1 if is_inside else -1
    return begins, ends


def tombstones(path: Path) -> Mapping[int, list[tuple[int, int]]]:
    """Give the deleted times of series, by their references."""
    try:
        raw = path.read_bytes()
    except OSError:
        return {}
    data = np.frombuffer(raw, np.uint8)
    end = len(raw) - 4
    if end < 5 or raw[:5] != _TOMBSTONES:
        raise IndexFaultError("tombstones: is no list of deleted samples")
    if crc32c(data, np.array([5]), np.array([end]))[0] != int.from_bytes(raw[end:], "big"):
        raise IndexFaultError("tombstones: is damaged: its checksum is wrong")
    deleted: dict[int, list[tuple[int, int]]] = {}
    at = 5
    while at < end:
        reference, at = uvarint(data, at, end)
        times = []
        for _ in range(2):
            told, at = uvarint(data, at, end)
            bits = int(told) & (1 << 64) - 1
            times.append(bits >> 1 ^ -(bits & 1))
        if at < 0:
            raise IndexFaultError("tombstones: is cut off")
        deleted.setdefault(int(reference), []).append((times[0], times[1]))
    return deleted


def _decoded(
    segments: Sequence[Segment], selection: Selection, sources: Sequence[Source]
) -> pl.DataFrame:
    """Give the samples of all blocks by series and time: each chunk is decoded into its place."""
    none = np.zeros(0, np.int64)
    series = np.concatenate([none, *(one.series for one in segments)])
    first = np.concatenate([none, *(one.first for one in segments)])
    source = np.repeat([one.source for one in segments], [len(one.series) for one in segments])
    room = np.concatenate([none, *(rooms(one.data, one.begins, one.ends) for one in segments)])
    order = np.lexsort((first, series))
    slots = np.empty(len(order), np.int64)
    slots[order] = np.cumsum(room[order]) - room[order]
    times, values = np.empty(room.sum(), np.int64), np.empty(room.sum(), np.float64)
    parts = np.cumsum([0, *(len(one.series) for one in segments)])
    counts = [
        _decoded_segment(one, slots[begin:end], times, values, selection, sources[one.source])
        for one, begin, end in zip(segments, parts, parts[1:], strict=False)
    ]
    kept = np.concatenate([none, *counts])[order]
    many = close(slots[order], kept, room[order], times, values)
    columns = {"source": source[order], "series": series[order]}
    keys = {name: _repeated(told.astype(np.uint32), kept) for name, told in columns.items()}
    return pl.DataFrame({**keys, "time": times[:many], "value": values[:many]})


def _repeated(keys: Keys, counts: Integers) -> Keys:
    """Repeat each key so many times, on all cores."""
    slots = np.concatenate([[0], np.cumsum(counts)])
    told = np.empty(int(slots[-1]), np.uint32)

    def run(part: tuple[int, int]) -> None:
        _repeat(keys[slice(*part)], slots[slice(*part)], counts[slice(*part)], told)

    parallel(run, slots)
    return told


@njit(cache=True, nogil=True)
def _repeat(keys: Keys, slots: Integers, counts: Integers, told: Keys) -> None:  # pragma: no cover
    for chunk in range(len(keys)):
        for i in range(slots[chunk], slots[chunk] + counts[chunk]):
            told[i] = keys[chunk]


def _decoded_segment(
    segment: Segment,
    slots: Integers,
    times: Integers,
    values: Floats,
    selection: Selection,
    source: Source,
) -> Integers:
    """Decode the chunks of one file into their slots; give how many samples are kept of each."""
    counts, _, is_whole = decode_into(
        segment.data, segment.begins, segment.ends, slots, times, values,
        start=selection.start, end=selection.end,
    )  # fmt: skip
    why = "it holds fewer samples than it says"
    _refuse_chunks(source, segment.path, segment.offsets, ~is_whole, why)
    for chunk in np.flatnonzero(np.isin(segment.references, list(segment.deleted))).tolist():
        some = slice(slots[chunk], slots[chunk] + counts[chunk])
        is_kept = np.ones(counts[chunk], np.bool_)
        for begin, end in segment.deleted[int(segment.references[chunk])]:
            is_kept &= (times[some] < begin) | (times[some] > end)
        counts[chunk] = is_kept.sum()
        times[some][: counts[chunk]] = times[some][is_kept]
        values[some][: counts[chunk]] = values[some][is_kept]
    return counts
