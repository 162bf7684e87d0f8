"""Prometheus text format 0.0.4 and OpenMetrics 1.0 scrapes: one file, or thousands over time.

Files are read a block at a time, many small ones together and large ones in parts; a label set is
parsed once, however many files repeat it.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load.files import pieces
from capacity.load.gather import FIRST_MILLISECOND, Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_frame
from capacity.load.lines import is_sample, split

FORMAT: Final = "exposition"
# Text that is split at once, by as many threads as there are cores, up to this many. [byte], [1]
BLOCK: Final = 8 << 20
_THREADS: Final = min(4, os.cpu_count() or 1)
# A gauge with the Unix time of the newest event of each source: the scrape is no older.
# cilium/cilium pkg/metrics/metrics.go, EventTS
_EVENT_TIME: Final = "cilium_event_ts"
_HEAD: Final = re.compile(rb"^[ \t]*# (?:HELP|TYPE|EOF)\b", re.MULTILINE)
_STAMP: Final = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -](\d\d)[-:_.]?(\d\d)[-:_.]?(\d\d)(?:[.,](\d{1,9}))?"
    r"(Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_EPOCH: Final = re.compile(r"(?<!\d)(1\d{9}(?:\d{3})?)(?!\d)")
_NOTHING: Final = pl.DataFrame(
    schema={"source": pl.UInt32, "text": pl.UInt32, "value": pl.Float64, "stamp": pl.Float64}
)
_NO_LABELS: Final = pl.DataFrame(schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
_UNTOLD: Final = pl.DataFrame(schema=dict.fromkeys(("good", "wanted", "event"), pl.Boolean))

_Refused = list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Whole lines of one file: which file, number of the first line, how many, bytes."""

    source: int
    line: int
    lines: int
    data: bytes


@dataclass(slots=True)
class _Scrape:
    """What tells the time of one file: its last bytes, and its newest event in seconds."""

    end: bytes = b""
    event: float | None = None


@dataclass(slots=True)
class _Known:
    """Distinct series texts so far, numbered; `told` says by number what each of them is."""

    numbers: dict[str, int] = field(default_factory=dict)
    labels: list[pl.DataFrame] = field(default_factory=lambda: [_NO_LABELS])
    told: pl.DataFrame = field(default_factory=lambda: _UNTOLD)


@dataclass(frozen=True, slots=True)
class _Block:
    """A parsed block: rows (line, text as index into `texts`, value, stamp) and refused lines.

    `labels` are those of the texts that were new when it was parsed, at the indexes `new`.
    """

    rows: pl.DataFrame
    texts: list[str]
    new: list[int]
    labels: pl.DataFrame
    refused: _Refused


def is_exposition(beginning: bytes) -> bool:
    r"""Tell whether the beginning of a file looks like a scrape.

    >>> is_exposition(b"# TYPE up gauge\nup 1\n"), is_exposition(b"VmRSS: 12 kB\n")
    (True, False)
    """
    if _HEAD.search(beginning):
        return True
    lines = beginning.decode("utf-8", "replace").split("\n")
    lines = [line.strip() for line in (lines[:-1] or lines)[:200] if line.strip()]
    told = [is_sample(line) for line in lines if not line.startswith("# ")]
    return 2 * sum(told) > len(told)


def read(paths: Sequence[Path], selection: Selection) -> Metrics:
    """Read scrapes, each as one moment unless its samples carry times.

    Parameters
    ----------
    paths
        Files, plain, gzip'd or zstd'd.
    selection
        Wanted metrics and times. Series ``X_created`` of a counter, histogram or summary X are
        left out: they say when a series began, not how much there is of anything.

    Returns
    -------
    Metrics
        Malformed lines are refused with file and line, and counted in table sources.

    Notes
    -----
    Memory: about 12 times BLOCK a core, 28 byte a wanted sample (twice that while they are
    sorted), and each distinct series once (about 1 kB); the size of the files does not matter.
    """
    sources = [Source(str(path), FORMAT) for path in paths]
    scrapes = [_Scrape() for _ in paths]
    needs_events = any(_time_in(path.name) is None for path in paths)
    known = _Known()
    parts = [_NOTHING]
    for block, told in _ahead(_blocks(paths, sources), known):
        for piece in block:
            scrapes[piece.source].end = piece.data[-16:]
        text = _learned(known, told, selection).gather(told.rows["text"])
        rows = told.rows.with_columns(text=text)
        is_good = known.told["good"].gather(text)
        bad = told.rows.filter(~is_good).select("line", "text").iter_rows()
        _refuse([*told.refused, *((line, told.texts[at]) for line, at in bad)], block, sources)
        rows = _sourced(rows.filter(is_good), block)
        for source, newest in _events(rows, known) if needs_events else ():
            scrapes[source].event = max(scrapes[source].event or newest, newest)
        wanted = known.told["wanted"].gather(rows["text"])
        parts.append(rows.filter(wanted).select(_NOTHING.columns))
    samples = _with_times(pl.concat(parts), paths, sources, scrapes)
    del parts
    known.numbers.clear()
    return _assembled(samples, known, sources, selection)


def scrape_time(path: Path, event: float | None) -> tuple[int, str | None]:
    """Tell when a scrape without times of its own was made.

    Parameters
    ----------
    path
        A time in the file's name comes first: RFC 3339, with or without separators, UTC where it
        names no zone; or epoch seconds or milliseconds.
    event
        Newest cilium_event_ts in the scrape, which is no later than the scrape. [s]

    Returns
    -------
    int
        Milliseconds since 1970 UTC: of the name, else of the newest event, else of the last
        change of the file.
    str or None
        What to tell about it, where it is not of the name.

    Examples
    --------
    >>> scrape_time(Path("2026-11-23T23-38-57Z_m00.prom"), None)
    (1795477137000, None)
    >>> scrape_time(Path("m00.prom"), 1795477137.5)
    (1795477137500, 'time taken from the newest cilium_event_ts')
    """
    named = _time_in(path.name)
    if named is not None:
        return named, None
    if event is not None:
        return round(event * 1000), f"time taken from the newest {_EVENT_TIME}"
    return path.stat().st_mtime_ns // 1_000_000, "time taken from file modification time"


def _time_in(name: str) -> int | None:
    for found in _STAMP.finditer(name):
        *numbers, fraction, zone = found.groups()
        text = "{}-{}-{}T{}:{}:{}".format(*numbers)
        try:
            moment = dt.datetime.fromisoformat(f"{text}{zone or 'Z'}")
        except ValueError:
            continue
        return round(moment.timestamp()) * 1000 + int(f"{fraction or 0:0<3}"[:3])
    if epoch := _EPOCH.search(name):
        return int(f"{epoch[1]:0<13}")
    return None


def _blocks(paths: Sequence[Path], sources: Sequence[Source]) -> Iterator[list[_Piece]]:
    """Give the files' lines in blocks: many small files together, a large one in parts."""
    block: list[_Piece] = []
    size = 0
    for index, path in enumerate(paths):
        line = 1
        try:
            for data in pieces(path, BLOCK):
                count = data.count(b"\n")
                block.append(_Piece(index, line, count, data))
                line, size = line + count, size + len(data)
                if size >= BLOCK:
                    yield block
                    block, size = [], 0
        except ExportError as error:
            sources[index].refuse(str(error).removeprefix(f"{path}: "))
    if block:
        yield block


def _ahead(blocks: Iterator[list[_Piece]], known: _Known) -> Iterator[tuple[list[_Piece], _Block]]:
    """Parse blocks, the next ones while the last one is used; never more than one a thread."""
    waiting: deque[tuple[list[_Piece], Future[_Block]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for block in blocks:
            waiting.append((block, pool.submit(_parsed, block, known)))
            if len(waiting) > _THREADS:
                first, told = waiting.popleft()
                yield first, told.result()
        for first, told in waiting:
            yield first, told.result()


def _parsed(block: Sequence[_Piece], known: _Known) -> _Block:
    """Parse a block; what is known is only looked at, for other blocks are parsed meanwhile."""
    rows, refused = split(b"".join(piece.data for piece in block))
    heads = rows["head"]
    distinct = heads.unique(maintain_order=True)
    texts = distinct.to_list()
    new = [at for at, text in enumerate(texts) if text not in known.numbers]
    labels = label_frame(distinct.gather(new) if len(new) < len(texts) else distinct)
    numbers = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    if len(texts) < len(heads):
        by_text = pl.DataFrame({"head": distinct, "text": numbers})
        joined = heads.to_frame("head").join(by_text, on="head", how="left", maintain_order="left")
        numbers = joined["text"]
    return _Block(rows.select("line", "value", "stamp", text=numbers), texts, new, labels, refused)


def _refuse(refused: _Refused, block: Sequence[_Piece], sources: Sequence[Source]) -> None:
    """Count lines of a block that are refused, with file and line."""
    pieces_left, before = iter(block), 0
    piece = next(pieces_left)
    for number, text in sorted(refused):
        while number - before >= piece.lines:
            before += piece.lines
            piece = next(pieces_left)
        source = sources[piece.source]
        source.refuse(
            f"{source.name}:{piece.line + number - before}: {text[:80]!r} is no sample; "
            'wanted is name{label="value"} number [time]'
        )


def _learned(known: _Known, block: _Block, selection: Selection) -> pl.Series:
    """Learn the texts of a block, and give their numbers."""
    first, numbers = len(known.numbers), known.numbers
    told = [numbers.setdefault(text, len(numbers)) for text in block.texts]
    is_new = pl.Series([told[at] >= first for at in block.new], dtype=pl.Boolean)
    # Blocks that were parsed at the same time may have the same new texts
    labels = block.labels if is_new.all() else block.labels.filter(is_new)
    metric = pl.col("metric")
    flags = labels.select(
        good=metric.is_not_null(),
        wanted=selection.wants(metric),
        event=metric.eq_missing(_EVENT_TIME),
    )
    known.labels.append(labels)
    known.told = pl.concat([known.told, flags], rechunk=True)
    return pl.Series(told, dtype=pl.UInt32)


def _sourced(rows: pl.DataFrame, block: Sequence[_Piece]) -> pl.DataFrame:
    """Give each sample its file."""
    first = np.cumsum([0, *(piece.lines for piece in block)])
    owner = np.array([piece.source for piece in block], np.uint32)
    at = np.searchsorted(first, rows["line"].to_numpy(), side="right") - 1
    return rows.with_columns(source=pl.Series(owner[at], dtype=pl.UInt32))


def _events(rows: pl.DataFrame, known: _Known) -> Iterator[tuple[int, float]]:
    """Give the newest cilium_event_ts of each source that has one."""
    if known.told["event"].any():
        events = rows.filter(known.told["event"].gather(rows["text"]), pl.col("value").is_finite())
        yield from events.group_by("source").agg(pl.col("value").max()).iter_rows()


def _with_times(
    samples: pl.DataFrame,
    paths: Sequence[Path],
    sources: Sequence[Source],
    scrapes: Sequence[_Scrape],
) -> pl.DataFrame:
    """Give each sample its time [ms]: OpenMetrics counts seconds, 0.0.4 milliseconds."""
    bare = samples.filter(pl.col("stamp").is_null())["source"].unique()
    moments = [0] * len(paths)
    for index in bare:
        moments[index], note = scrape_time(paths[index], scrapes[index].event)
        if note:
            sources[index].notes.append(note)
    is_open = pl.Series([s.end.rstrip().endswith(b"# EOF") for s in scrapes], dtype=pl.Boolean)
    stamp = pl.col("stamp")
    # A scrape that was cut off has no EOF; no scrape is older than 1973 in milliseconds
    in_seconds = pl.Series(is_open.gather(samples["source"])) | (
        samples["stamp"].abs() < FIRST_MILLISECOND
    )
    told = pl.when(in_seconds).then(stamp * 1000).otherwise(stamp)
    moment = pl.Series(moments, dtype=pl.Int64).gather(samples["source"])
    return samples.select(
        "source",
        "text",
        "value",
        time=pl.coalesce(told.round().cast(pl.Int64, strict=False), moment),
    )


def _assembled(
    samples: pl.DataFrame, known: _Known, sources: Sequence[Source], selection: Selection
) -> Metrics:
    series = pl.concat(known.labels)
    base = series["metric"].str.strip_suffix("_created")
    names = series["metric"].unique()
    began = series["metric"].str.ends_with("_created") & (
        (base + "_total").is_in(names.implode()) | (base + "_count").is_in(names.implode())
    )
    if began.any():
        left_out = began.fill_null(value=False).gather(samples["text"])
        for source, count in samples.filter(left_out)["source"].value_counts().iter_rows():
            sources[source].notes.append(f"{count} series X_created left out")
        samples = samples.filter(~left_out)
    return assemble(series, samples.rename({"text": "series"}), sources, selection)
