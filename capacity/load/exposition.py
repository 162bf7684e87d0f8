"""Text in lines: Prometheus 0.0.4 and OpenMetrics 1.0 scrapes; one file, or thousands over time.

Files are read a block at a time, many small ones together and large ones in parts; a label set is
parsed once, however many lines and files repeat it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.export import Metrics
from capacity.load.files import PACKED
from capacity.load.gather import FIRST_MILLISECOND, TOLD_FAULTS, Selection, Source, assemble
from capacity.load.line_blocks import THREADS, Block, Found, ahead, blocks
from capacity.load.lines import TEXT, Dialect, ExactLines, Labels, Lines, Samples, Told, is_sample
from capacity.load.scrape_times import EVENT_TIME, scrape_time, time_in

FORMAT: Final = TEXT.format
# Below, loading compiled code takes longer than reading without it. [byte]
SMALL: Final = 4 << 20
# A packed scrape unpacked is about that much larger
_PACKING: Final = 10
_HEAD: Final = re.compile(rb"^[ \t]*# (?:HELP|TYPE|EOF)\b", re.MULTILINE)
# What a line may be that is no sample: Prometheus prints native histograms so
_HISTOGRAM: Final = re.compile(r"\} ?\{count:")
# Marks of a series' text
_GOOD, _WANTED, _EVENT, _BEGAN = 1, 2, 4, 8
_SAMPLE: Final = {
    "source": pl.UInt32, "series": pl.UInt32, "time": pl.Int64, "value": pl.Float64
}  # fmt: skip

_Marks = npt.NDArray[np.uint8]
# Labels of new texts, and their marks
_New = tuple[Labels, _Marks]


@dataclass(slots=True)
class _Scrape:
    """One file so far: lines, and what tells its time: name, last bytes, newest event [s]."""

    path: Path
    named: int | None
    lines: int = 0
    end: bytes = b""
    event: float | None = None


@dataclass(slots=True)
class _Known:
    """By number of the distinct series' texts so far what each is (marks above); `all` of them."""

    marks: _Marks = field(default_factory=lambda: np.empty(0, np.uint8))
    count: int = 0
    all: int = 0

    def add(self, marks: _Marks) -> None:
        """Learn what the next texts are."""
        if self.count + len(marks) > len(self.marks):
            self.marks = np.resize(self.marks, 2 * (self.count + len(marks)))
        self.marks[self.count : self.count + len(marks)] = marks
        self.count += len(marks)
        self.all |= int(np.bitwise_or.reduce(marks))


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


def read(paths: Sequence[Path], selection: Selection, dialect: Dialect = TEXT) -> Metrics:
    """Read scrapes, each as one moment unless its samples carry times.

    Parameters
    ----------
    paths
        Files, plain or packed.
    selection
        Wanted metrics and times. Series ``X_created`` of a counter, histogram or summary X are
        left out: they say when a series began, not how much there is of anything.
    dialect
        How series are written.

    Returns
    -------
    Metrics
        Malformed lines are refused with file and line, and counted in table sources.

    Notes
    -----
    Memory: about 15 times BLOCK a core; 24 byte a wanted sample, and 20 more while they are put in
    order, or of what a step keeps; each distinct series once as text and once as labels.
    The size of the files does not matter.
    """
    return read_found(((path, None) for path in paths), paths, selection, dialect)


def read_found(
    found: Iterator[Found], among: Sequence[Path], selection: Selection, dialect: Dialect = TEXT
) -> Metrics:
    """Do the same with scrapes that are found `among` files, while they are."""
    sources: list[Source] = []
    scrapes: list[_Scrape] = []

    def begun() -> Iterator[Found]:
        for path, data in found:
            sources.append(Source(str(path), dialect.format))
            scrapes.append(_Scrape(path, time_in(path.name)))
            yield path, data

    known = _Known()
    parts: list[Told] = []
    lines = _lines(among, dialect)
    thinner = None
    if selection.step is not None and not isinstance(lines, ExactLines):
        from capacity.load.steps import Thinner

        thinner = Thinner(selection, np.zeros(len(among), np.int64), dialect.is_in_ms)
    with ThreadPoolExecutor(THREADS) as pool:
        for block, data, samples, new in _told(blocks(begun(), sources), lines, selection, pool):
            if new is not None:
                lines.add(new[0])
                known.add(new[1])
            marks = known.marks[samples.texts]
            refused = [samples.refused, samples.places[marks & _GOOD == 0]]
            _refuse(np.sort(np.concatenate(refused)), block, data, sources, scrapes)
            owners = block.owners(samples.places)
            if known.all & _EVENT and any(scrapes[p.source].named is None for p in block.pieces):
                _note_events(samples, owners, marks, scrapes)
            for piece, many in zip(block.pieces, block.lines, strict=True):
                scrapes[piece.source].lines += many
                scrapes[piece.source].end = piece.data[-16:]
            told = Told(owners, samples.texts, samples.values, samples.stamps)
            told = told.filter(marks & _WANTED != 0)
            if thinner is not None:
                # Those that say when a series began are counted when all names are known
                told = thinner.thinned(told, known.marks[told.series] & _BEGAN != 0)
            parts.append(told)
    if thinner is not None:
        parts.append(thinner.rest())
        for source, many in zip(sources, thinner.left_out.tolist(), strict=False):
            source.thinned += many
    return _assembled(parts, lines, known, sources, scrapes, selection, dialect)


def _assembled(
    parts: list[Told],
    lines: Lines,
    known: _Known,
    sources: Sequence[Source],
    scrapes: Sequence[_Scrape],
    selection: Selection,
    dialect: Dialect,
) -> Metrics:
    series, same = lines.taken(selection.cluster)
    moments = _moments(parts, sources, scrapes)
    if known.all & _BEGAN:
        _leave_out_created(parts, series, sources)
    # A scrape that was cut off has no EOF; no scrape is older than 1973 in milliseconds
    seconds_below = np.full(len(sources), 0 if dialect.is_in_ms else FIRST_MILLISECOND, np.float64)
    seconds_below[[s.end.rstrip().endswith(b"# EOF") for s in scrapes]] = np.inf
    # No name for the samples here: assemble frees them before it copies the last time
    return assemble(series, _timed(parts, seconds_below, moments), sources, selection, same)


def _lines(paths: Sequence[Path], dialect: Dialect) -> Lines:
    """Choose how lines are read: compiled where that is there already, or pays."""
    compiled = "capacity.load.scan"
    if compiled not in sys.modules and sum(_size(path) for path in paths) < SMALL:
        return ExactLines(dialect)
    from capacity.load.scan import CompiledLines

    return CompiledLines(dialect)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size * (_PACKING if path.suffix in PACKED else 1)
    except OSError:
        return 0


def _told(
    given: Iterator[Block], lines: Lines, selection: Selection, pool: ThreadPoolExecutor
) -> Iterator[tuple[Block, bytes, Samples, _New | None]]:
    """Give the samples of each block, and the labels of texts that were not known before it.

    Blocks are read, and labels parsed, while others are used; texts are numbered in order.
    """
    marks: dict[str | None, int] = {}

    def parsed(block: Block) -> tuple[Block, bytes, Any]:
        data = block.counted()
        return block, data, lines.parse(data, sum(block.lines))

    def learned() -> Iterator[tuple[Block, bytes, Samples, Callable[[], Labels] | None]]:
        for block, data, told in ahead(given, parsed, pool):
            first = lines.count
            samples = lines.learn(data, told)
            yield block, data, samples, lines.labels(first) if lines.count > first else None

    def labeled(
        one: tuple[Block, bytes, Samples, Callable[[], Labels] | None],
    ) -> tuple[Block, bytes, Samples, _New | None]:
        block, data, samples, job = one
        if job is None:
            return block, data, samples, None
        labels = job()
        return block, data, samples, (labels, _marked(labels, selection, marks))

    return ahead(learned(), labeled, pool)


def _marked(labels: Labels, selection: Selection, known: dict[str | None, int]) -> _Marks:
    """Tell what each series is; of names that were not `known` it is found out."""
    told, which = labels.metrics()
    # One by one they come quicker from a list
    names = told.to_list()
    if new := [name for name in names if name not in known]:
        metric = pl.col("metric")
        began = metric.str.ends_with("_created").fill_null(value=False)
        flags = metric.is_not_null(), selection.wants(metric), metric.eq_missing(EVENT_TIME), began
        marks = zip(flags, (_GOOD, _WANTED, _EVENT, _BEGAN), strict=True)
        found = pl.DataFrame({"metric": new}, schema={"metric": pl.String}).select(
            pl.sum_horizontal(flag.cast(pl.UInt8) * mark for flag, mark in marks).cast(pl.UInt8)
        )
        known.update(zip(new, found.to_series().to_list(), strict=True))
    return np.array([known[name] for name in names], np.uint8)[which]


def _refuse(
    places: npt.NDArray[np.int64],
    block: Block,
    data: bytes,
    sources: Sequence[Source],
    scrapes: Sequence[_Scrape],
) -> None:
    """Count the lines that begin at these places as refused; tell the first ones of a file."""
    at = np.searchsorted(block.starts, places, side="right") - 1
    for index, first, count in zip(*np.unique(at, return_index=True, return_counts=True)):  # noqa: B905
        piece = block.pieces[index]
        source = sources[piece.source]
        told = places[first : first + count][: TOLD_FAULTS - len(source.faults)].tolist()
        pairs = zip(block.pieces[:index], block.lines, strict=False)
        before = sum(many for one, many in pairs if one.source == piece.source)
        for place in told:
            line = scrapes[piece.source].lines + before
            line += data.count(b"\n", block.starts[index], place) + 1
            text = data[place : data.index(b"\n", place)].decode("utf-8", "replace").strip()
            source.refuse(f"{source.name}:{line}: {text[:80]!r} {_fault(text)}")
        source.refused += int(count) - len(told)


def _fault(text: str) -> str:
    if _HISTOGRAM.search(text):
        return "is a sample of a native histogram, which is not read; wanted are classic ones"
    return 'is no sample; wanted is name{label="value"} number [time]'


def _note_events(
    samples: Samples,
    owners: npt.NDArray[np.uint32],
    marks: _Marks,
    scrapes: Sequence[_Scrape],
) -> None:
    """Note the newest cilium_event_ts of each file."""
    at = np.flatnonzero(marks & _EVENT)
    at = at[np.isfinite(samples.values[at])]
    # Files follow one another
    files, starts = np.unique(owners[at], return_index=True)
    newest = np.maximum.reduceat(samples.values[at], starts) if len(at) else np.empty(0)
    for owner, value in zip(files.tolist(), newest.tolist(), strict=True):
        scrape = scrapes[owner]
        scrape.event = value if scrape.event is None else max(scrape.event, value)


def _leave_out_created(parts: list[Told], series: pl.DataFrame, sources: Sequence[Source]) -> None:
    """Leave out the samples that say when a series began, and tell how many."""
    is_created = _created(series)
    if is_created is None:
        return
    left_out = np.zeros(len(sources), np.int64)
    for i, part in enumerate(parts):
        is_out = is_created[part.series]
        left_out += np.bincount(part.sources[is_out], minlength=len(sources))
        parts[i] = part.filter(~is_out)
    for source, count in zip(sources, left_out.tolist(), strict=True):
        if count:
            source.notes.append(f"{count} series X_created left out")


def _created(series: pl.DataFrame) -> npt.NDArray[np.bool_] | None:
    """Tell which series say when another one began; None if there is none."""
    metric = pl.col("metric")
    names = series.select(metric.unique()).to_series()
    base = names.str.strip_suffix("_created")
    began = names.filter(
        names.str.ends_with("_created")
        & ((base + "_total").is_in(names.implode()) | (base + "_count").is_in(names.implode()))
    )
    if began.is_empty():
        return None
    is_created = metric.is_in(began.implode()).fill_null(value=False)
    return series.select(is_created).to_series().to_numpy()


def _moments(
    parts: Sequence[Told], sources: Sequence[Source], scrapes: Sequence[_Scrape]
) -> npt.NDArray[np.int64]:
    """Give the time of each file that has samples without one, in milliseconds."""
    is_bare = np.zeros(len(scrapes), np.bool_)
    for part in parts:
        is_bare[part.sources[np.isnan(part.stamps)]] = True
    moments = np.zeros(len(scrapes), np.int64)
    for index in np.flatnonzero(is_bare).tolist():
        scrape = scrapes[index]
        moments[index], note = (
            (scrape.named, None)
            if scrape.named is not None
            else scrape_time(scrape.path, scrape.event)
        )
        if note:
            sources[index].notes.append(note)
    return moments


def _timed(
    parts: list[Told], seconds_below: npt.NDArray[np.float64], moments: npt.NDArray[np.int64]
) -> pl.DataFrame:
    """Give all samples with their times; the parts are taken out of the list."""
    frames = [pl.DataFrame(schema=_SAMPLE)]
    parts.reverse()
    while parts:
        frames.append(_with_times(parts.pop(), seconds_below, moments))
    return pl.concat(frames)


def _with_times(
    part: Told, seconds_below: npt.NDArray[np.float64], moments: npt.NDArray[np.int64]
) -> pl.DataFrame:
    """Give samples their times [ms]: OpenMetrics counts seconds, 0.0.4 milliseconds."""
    stamps = part.stamps
    in_seconds = np.abs(stamps) < seconds_below[part.sources]
    is_bare = np.isnan(stamps)
    told = np.where(in_seconds, stamps * 1000, stamps)
    times = np.floor(np.where(is_bare, 0, told) + 0.5).astype(np.int64)
    times[is_bare] = moments[part.sources[is_bare]]
    columns = (part.sources, part.series, times, part.values)
    return pl.DataFrame(dict(zip(_SAMPLE, columns, strict=True)), schema=_SAMPLE)
