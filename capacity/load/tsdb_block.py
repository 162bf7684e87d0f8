"""Blocks of Prometheus' database read directly, without a server: Prometheus, Thanos, Mimir.

Index, chunks, deletions and logs are read by modules of their own. meta.json of Thanos holds
external labels: thanos-io/thanos pkg/block/metadata/meta.go.
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

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.load import tsdb_chunks, tsdb_index, tsdb_wal
from capacity.load.gather import Selection, Source, assemble, assemble_ordered, same_labels
from capacity.load.tsdb_chunks import Keys, Segment, Wanted
from capacity.load.tsdb_deleted import Deleted, tombstones
from capacity.load.tsdb_files import FORMAT, HEAD, INDEX, LATE, LOG
from capacity.load.tsdb_index import Index, Opened
from capacity.load.tsdb_labels import columns_of, label_frame
from capacity.load.tsdb_numbers import IndexFaultError

Integers = npt.NDArray[np.int64]

_CLUSTER: Final = "cluster"


@dataclass(frozen=True, slots=True)
class _Block:
    """A block whose wanted series are known: `references` of them, and labels of all of them."""

    source: int
    folder: Path
    opened: Opened
    references: Integers
    external: Mapping[str, str]
    deleted: Deleted


@dataclass(frozen=True, slots=True)
class _Log:
    """Samples of a log, by the numbers of its label sets."""

    samples: pl.DataFrame
    labels: tuple[Mapping[str, str], ...]


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
    folders = [path.parent for path in paths if path.name == INDEX]
    sources = [Source(str(folder), FORMAT) for folder in folders]
    opened = [_opened(at, folder, selection, sources[at]) for at, folder in enumerate(folders)]
    blocks = [block for block in opened if block is not None]
    logs = _logs(paths, selection, sources)
    alone = None if selection.only is None else _alone(blocks, logs, selection.only)
    if alone is not None:
        blocks, logs = alone
    found = _read(blocks, logs, selection, [*sources, *_not_read(paths, folders)])
    if alone is not None and found.samples.is_empty():
        # Which clusters there are instead is worth the reading
        return read(paths, replace(selection, only=None))
    return found


def _read(
    blocks: Sequence[_Block], logs: Sequence[tuple[int, _Log]], selection: Selection,
    sources: Sequence[Source],
) -> Metrics:  # fmt: skip
    indexes = [(block, index) for block in blocks for index in _indexes(block, selection, sources)]
    series, same = label_frame([(index, block.external) for block, index in indexes])
    if logs:
        series = pl.concat([series, *(columns_of(log.labels) for _, log in logs)])
        same = same_labels(series)
    series, numbers = _once(series, same)
    many = [len(index.many) for _, index in indexes] + [len(log.labels) for _, log in logs]
    begins = np.cumsum([0, *many])
    segments = []
    for (block, index), begin in zip(indexes, begins.tolist(), strict=False):
        of_block = segments_of(
            block.folder, index, sources[block.source], block.source, block.deleted
        )
        segments += [_numbered(one, numbers[begin:]) for one in of_block]
    samples = tsdb_chunks.decode(segments, selection, sources)
    if samples.is_ordered and not logs:
        return assemble_ordered(series, samples, sources, selection)
    told = [samples.frame()]
    for (source, log), begin in zip(logs, begins[len(indexes) :].tolist(), strict=False):
        keys = numbers[begin:][log.samples["series"].to_numpy()].astype(np.uint32)
        own = log.samples.select(
            pl.lit(source, pl.UInt32).alias("source"),
            pl.Series("series", keys), "time", "value",
        )  # fmt: skip
        told.append(own.filter(selection.holds(pl.col("time"))))
    return assemble(series, pl.concat(told), sources, selection)


def _numbered(segment: Segment, numbers: Integers) -> Segment:
    """Give label sets of a segment's chunks by their numbers among those of all blocks."""
    wanted = replace(segment.wanted, series=numbers[segment.wanted.series])
    return replace(segment, wanted=wanted)


def _once(series: pl.DataFrame, same: Keys) -> tuple[pl.DataFrame, Integers]:
    """Give each label set once, and which of them each row is."""
    is_first = same == np.arange(len(same))
    if is_first.all():
        return series, same.astype(np.int64)
    return series.filter(pl.Series(is_first)), (np.cumsum(is_first) - 1)[same]


def _opened(number: int, folder: Path, selection: Selection, source: Source) -> _Block | None:
    """Find the wanted series of a block; None where its index cannot be read."""
    try:
        opened = tsdb_index.open_index(folder / INDEX)
        references = tsdb_index.wanted(opened, wanted_names(selection))
        deleted = tombstones(folder / "tombstones")
    except (IndexFaultError, ExportError) as error:
        source.refuse(str(error))
        return None
    return _Block(number, folder, opened, references, external_labels(folder), deleted)


def _logs(
    paths: Sequence[Path], selection: Selection, sources: list[Source]
) -> list[tuple[int, _Log]]:
    """Read write-ahead logs; each is a source of its own, numbered behind the others."""
    found = []
    folders = _folders(paths)
    for log in sorted(path for path in folders if path.name == LOG):
        # Of samples that came out of order, the series stand in the log of the others
        told: dict[tsdb_wal.Labels, int] = {}
        known: dict[int, int] = {}
        frames = []
        for folder in (log, log.with_name(LATE)):
            if folder in folders:
                source = Source(str(folder), FORMAT)
                frames.append(tsdb_wal.read(folder, wanted_names(selection), source, told, known))
                sources.append(source)
        labels = tuple(dict(one) for one in told)
        begin = len(sources) - len(frames)
        found += [(begin + at, _Log(frame, labels)) for at, frame in enumerate(frames)]
    return found


def _alone(
    blocks: Sequence[_Block], logs: Sequence[tuple[int, _Log]], cluster: str
) -> tuple[list[_Block], list[tuple[int, _Log]]] | None:
    """Leave out series of other clusters; None where that might change the result.

    Series without a label are of the cluster that all others tell, and where other labels may name
    clusters, which of them counts is told when all is read (observe/names.py).
    """
    others = set(derivations.labels("cluster")) - {_CLUSTER}
    told = [_clusters(block, others) for block in blocks]
    of_logs = [log.labels for _, log in logs]
    names = [labels.get(_CLUSTER) for log in of_logs for labels in log]
    names += [name for one in told if one is not None for name in one]
    is_undecided = any(one is None for one in told) or any(
        others & labels.keys() for log in of_logs for labels in log
    )
    if is_undecided or cluster not in names or not all(names):
        return None
    none = np.zeros(0, np.int64)
    kept = [
        replace(block, references=(one or {}).get(cluster, none))
        for block, one in zip(blocks, told, strict=True)
    ]
    return kept, [(source, _log_of(log, cluster)) for source, log in logs]


def _clusters(block: _Block, others: set[str]) -> dict[str | None, Integers] | None:
    """Give references by cluster, None for those without a label; by postings alone.

    None where a wanted series has another label that may name its cluster, or postings are broken.
    """
    if others & block.external.keys():
        return None
    try:
        for label in others:
            for references in tsdb_index.by_value(block.opened, label).values():
                if np.isin(references, block.references, assume_unique=True).any():
                    return None
        told = tsdb_index.by_value(block.opened, _CLUSTER)
    except (IndexFaultError, ExportError):
        return None
    found: dict[str | None, Integers] = {}
    rest = block.references
    for name, references in told.items():
        own = np.intersect1d(rest, references)
        if len(own) and name:
            found[name] = own
            rest = np.setdiff1d(rest, own, assume_unique=True)
    if len(rest):
        outer = block.external.get(_CLUSTER) or None
        found[outer] = np.union1d(found.get(outer, rest), rest)
    return found


def _log_of(log: _Log, cluster: str) -> _Log:
    is_own = np.array([labels.get(_CLUSTER) == cluster for labels in log.labels], np.bool_)
    which = is_own[log.samples["series"].to_numpy()]
    return replace(log, samples=log.samples.filter(pl.Series(which)))


def _folders(paths: Sequence[Path]) -> set[Path]:
    """Give the folders of files, and the folders of these."""
    own = {path.parent for path in paths}
    return own | {folder.parent for folder in own}


def _not_read(paths: Sequence[Path], blocks: Sequence[Path]) -> list[Source]:
    """Name what is there and not read: parts without their log or index."""
    sources = []
    folders = _folders(paths)
    for folder in sorted(path for path in folders if path.name in (HEAD, LATE)):
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


def _indexes(block: _Block, selection: Selection, sources: Sequence[Source]) -> list[Index]:
    """Read the wanted series of a block, and chunks of wanted times; nothing where it is broken."""
    source = sources[block.source]
    try:
        index = tsdb_index.read(block.opened, block.references)
    except (IndexFaultError, ExportError) as error:
        source.refuse(str(error))
        return []
    if index.broken:
        source.refuse(f"{INDEX}: {index.broken} series whose checksum is wrong", index.broken)
    is_wanted = np.ones(len(index.first), np.bool_)
    if selection.start is not None:
        is_wanted &= index.last >= selection.start
    if selection.end is not None:
        is_wanted &= index.first <= selection.end
    return [index if is_wanted.all() else chosen(index, is_wanted)]


def chosen(index: Index, which: npt.NDArray[np.bool_]) -> Index:
    """Give an index of some of its chunks."""
    return replace(
        index, series=index.series[which], first=index.first[which], last=index.last[which],
        places=index.places[which],
    )  # fmt: skip


def segments_of(
    folder: Path, index: Index, source: Source, number: int = 0, deleted: Deleted | None = None
) -> list[Segment]:
    """Find the chunks of a block, by segment file.

    Parameters
    ----------
    folder, number
        The block, and its number among sources.
    index
        Wanted chunks.
    source
        Told what is not read.
    deleted
        Deleted times, by reference.
    """
    of_chunks = index.places >> 32
    found = []
    for file in np.unique(of_chunks).tolist():
        # prometheus/prometheus tsdb/chunks/chunks.go: segment files are numbered from 1
        path = folder / "chunks" / f"{file + 1:06d}"
        own = chosen(index, of_chunks == file)
        wanted = Wanted(
            number, path, own.places & 0xFFFFFFFF, own.series, own.first,
            index.references[own.series], deleted or {},
        )  # fmt: skip
        segment = tsdb_chunks.find(wanted, index, source)
        if segment is not None:
            found.append(segment)
    return found


def wanted_names(selection: Selection) -> tsdb_index.Wants | None:
    """Tell which metric names are wanted; None for all."""
    if selection.metrics is None:
        return None
    exact = selection.names

    def wants(names: list[str]) -> npt.NDArray[np.bool_]:
        if exact is not None:
            return np.array([name in exact for name in names], np.bool_)
        told = pl.DataFrame({"metric": names}, schema={"metric": pl.String})
        return told.select(selection.wants(pl.col("metric"))).to_series().to_numpy()

    return wants


def external_labels(block: Path) -> dict[str, str]:
    """Give the external labels that Thanos writes into meta.json."""
    try:
        meta = orjson.loads((block / "meta.json").read_bytes())
        labels = meta["thanos"]["labels"]
        return {str(name): str(value) for name, value in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
