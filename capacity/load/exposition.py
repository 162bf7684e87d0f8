"""Prometheus text format 0.0.4 and OpenMetrics 1.0 scrapes: one file, or thousands over time.

Lines are split by numpy and polars, a block of files at a time; a label set is parsed once,
however many files repeat it. Lines that are not plain go through an exact grammar, one by one.
Formats: prometheus/docs content/docs/instrumenting/exposition_formats.md, prometheus/OpenMetrics.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.errors import ExportError
from capacity.export import Metrics
from capacity.load.files import pieces
from capacity.load.gather import FIRST_MILLISECOND, Selection, Source, assemble
from capacity.load.labels import LABEL_COLUMNS, label_frame

FORMAT: Final = "exposition"
# Text that is in memory at once. [byte]
BLOCK: Final = 16 << 20
# A gauge with the Unix time of the newest event of each source: the scrape is no older.
# cilium/cilium pkg/metrics/metrics.go, EventTS
_EVENT_TIME: Final = "cilium_event_ts"

_Array = np.ndarray[Any, Any]
_NEWLINE, _SPACE, _TAB, _BRACE = b"\n \t}"
_DECIMAL: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER: Final = rf"(?:{_DECIMAL}|[-+]?(?:[iI][nN][fF](?:inity)?|[nN][aA][nN]))"
_BODY: Final = r'\{(?:[^"{}\\]|"(?:[^"\\]|\\.)*")*\}'
_LINE: Final = re.compile(
    rf"(?P<head>[a-zA-Z_:][a-zA-Z0-9_:]*\s*{_BODY}\s*|{_BODY}\s*|[a-zA-Z_:][a-zA-Z0-9_:]*\s+)"
    rf"(?P<value>{_NUMBER})(?:\s+(?P<stamp>{_DECIMAL}))?(?:\s+#\s*\{{.*)?",
    re.ASCII,
)
_STAMP: Final = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -](\d\d)[-:_.]?(\d\d)[-:_.]?(\d\d)(?:[.,](\d{1,9}))?"
    r"(Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_EPOCH: Final = re.compile(r"(?<!\d)(1\d{9}(?:\d{3})?)(?!\d)")
_ROW: Final = {"line": pl.UInt32, "head": pl.String, "value": pl.Float64, "stamp": pl.Float64}
_NOTHING: Final = pl.DataFrame(
    schema={"source": pl.UInt32, "text": pl.UInt32, "value": pl.Float64, "stamp": pl.Float64}
)
_NO_LABELS: Final = pl.DataFrame(schema=dict.fromkeys(LABEL_COLUMNS, pl.String))
_NO_TEXTS: Final = pl.DataFrame(schema={"head": pl.String, "text": pl.UInt32})
_UNTOLD: Final = pl.DataFrame(schema=dict.fromkeys(("good", "wanted", "event"), pl.Boolean))


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


@dataclass(frozen=True, slots=True)
class _Known:
    """Distinct series texts so far, numbered; `told` says by number what each of them is."""

    texts: pl.DataFrame
    labels: tuple[pl.DataFrame, ...]
    told: pl.DataFrame


def is_exposition(beginning: bytes) -> bool:
    r"""Tell whether the beginning of a file looks like a scrape.

    >>> is_exposition(b"# TYPE up gauge\nup 1\n"), is_exposition(b"VmRSS: 12 kB\n")
    (True, False)
    """
    lines = beginning.decode("utf-8", "replace").split("\n")
    lines = [line.strip() for line in (lines[:-1] or lines)[:200] if line.strip()]
    # A name may end in a colon, but then it is rather a key of YAML
    found = [_LINE.fullmatch(line) for line in lines if not line.startswith("# ")]
    ours = sum(one is not None and not one["head"].rstrip().endswith(":") for one in found)
    is_told = any(line.startswith(("# HELP ", "# TYPE ", "# EOF")) for line in lines)
    return is_told or 2 * ours > len(found)


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
    Memory: about 15 times BLOCK, 28 byte a wanted sample (twice that while they are sorted), and
    the distinct series once; the size of the files does not matter.
    """
    sources = [Source(str(path), FORMAT) for path in paths]
    scrapes = [_Scrape() for _ in paths]
    known = _Known(_NO_TEXTS, (), _UNTOLD)
    parts = [_NOTHING]
    for block in _blocks(paths, sources):
        for piece in block:
            scrapes[piece.source].end = piece.data[-16:]
        rows = _split(block, sources)
        known = _learned(known, rows["head"], selection)
        rows = _numbered(rows, known, sources, block)
        for source, newest in _events(rows, known):
            scrapes[source].event = max(scrapes[source].event or newest, newest)
        wanted = known.told["wanted"].gather(rows["text"])
        parts.append(rows.filter(wanted).select(_NOTHING.columns))
    samples = _with_times(pl.concat(parts), paths, sources, scrapes)
    del parts
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


def _split(block: Sequence[_Piece], sources: Sequence[Source]) -> pl.DataFrame:
    """Give line (index in the block), head, value and stamp of each sample in the block."""
    data = b"".join(piece.data for piece in block)
    if b"\r" in data:
        data = data.replace(b"\r\n", b" \n")
    free = (byte for byte in range(1, 32) if byte not in b"\t\n\r" and bytes([byte]) not in data)
    separator = next(free, None)
    lines = sum(piece.lines for piece in block)
    if separator is None:
        rows = pl.DataFrame(schema=_ROW)
        odd = np.arange(lines)
    else:
        rows, odd = _columns(_marked(data, separator), chr(separator), lines)
    if len(odd) == 0:
        return rows
    one_by_one = _exactly(data, odd, block, sources)
    return pl.concat([rows, one_by_one]).sort("line")


def _marked(data: bytes, separator: int) -> bytes:
    """Put a separator in place of the spaces behind each series, so that a CSV reader splits it.

    A series ends at the last brace of its line, before an exemplar, or at the first space where
    there is no brace. Lines this is wrong for (escapes before an exemplar, see below) stay whole.
    """
    text = np.frombuffer(data, np.uint8).copy()
    ends = np.flatnonzero(text == _NEWLINE)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    braces = np.flatnonzero(text == _BRACE)
    spaces = np.flatnonzero((text == _SPACE) | (text == _TAB) if b"\t" in data else text == _SPACE)
    stops = _before_exemplars(data, text, starts, ends) if b" # {" in data else ends
    last = np.searchsorted(braces, stops) - 1
    head = np.where(last >= 0, braces[np.maximum(last, 0)] if len(braces) else -1, -1)
    head = np.maximum(head, starts)
    head[stops < starts] = len(text)
    line = np.searchsorted(ends, spaces)
    text[spaces[spaces > head[line]]] = separator
    return text.tobytes()


def _before_exemplars(
    data: bytes,
    text: _Array,
    starts: _Array,
    ends: _Array,
) -> _Array:
    """Give for each line where it ends or its exemplar begins; -1 where only the grammar can tell.

    A number sign behind an even number of quotes is outside of label values, unless quotes are
    escaped.
    """
    signs = np.flatnonzero(text == ord("#"))
    signs = signs[(signs > 0) & (signs + 2 < len(text))]
    signs = signs[
        (text[signs - 1] == _SPACE) & (text[signs + 1] == _SPACE) & (text[signs + 2] == ord("{"))
    ]
    line = np.searchsorted(ends, signs)
    quotes = np.flatnonzero(text == ord('"'))
    inside = (np.searchsorted(quotes, signs) - np.searchsorted(quotes, starts[line])) % 2 == 1
    stops = ends.copy()
    np.minimum.at(stops, line[~inside], signs[~inside])
    if b"\\" in data:
        escapes = np.searchsorted(ends, np.flatnonzero(text == ord("\\")))
        stops[np.intersect1d(escapes, line)] = -1
    return stops


def _columns(marked: bytes, separator: str, lines: int) -> tuple[pl.DataFrame, _Array]:
    """Give the plain samples, and the numbers of lines that are neither that nor a comment."""
    texts = ("head", "stamp", "more", "rest")
    header = separator.join(("head", "value", "stamp", "more", "rest"))
    frame = pl.read_csv(
        header.encode() + b"\n" + marked,
        separator=separator,
        quote_char=None,
        schema_overrides={"value": pl.Float64, **dict.fromkeys(texts, pl.String)},
        encoding="utf8-lossy",
        ignore_errors=True,
        truncate_ragged_lines=True,
    )
    if frame.height != lines:
        # Rows no longer tell lines: the grammar reads them all
        return pl.DataFrame(schema=_ROW), np.arange(lines)
    head, stamp, more, rest = (pl.col(name) for name in texts)
    frame = frame.with_row_index("line").with_columns(number=stamp.cast(pl.Float64, strict=False))
    is_bare = (stamp.is_null() & more.is_null() & rest.is_null()) | (
        (stamp == "#") & more.str.starts_with("{")
    )
    is_exemplar = (more == "#") & rest.str.starts_with("{")
    is_stamped = pl.col("number").is_finite() & ((more.is_null() & rest.is_null()) | is_exemplar)
    is_good = (
        head.is_not_null()
        & pl.col("value").is_not_null()
        & (is_bare | is_stamped)
        & ~head.str.starts_with("#")
        & ~head.str.starts_with(" ")
        & ~head.str.starts_with("\t")
    ).fill_null(value=False)
    is_nothing = (head.is_null() & pl.col("value").is_null()) | head.str.starts_with("#")
    kept = frame.filter(is_good).select("line", "head", "value", stamp="number")
    odd = frame.filter(~is_good & ~is_nothing.fill_null(value=False))["line"]
    return kept, odd.to_numpy()


def _exactly(
    data: bytes, numbers: _Array, block: Sequence[_Piece], sources: Sequence[Source]
) -> pl.DataFrame:
    """Parse single lines by the grammar; those that do not fit are refused."""
    lines = data.split(b"\n")
    rows = []
    for number in numbers.tolist():
        text = lines[number].decode("utf-8", "replace").strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            _refuse_line(number, text, block, sources)
            continue
        stamp = found["stamp"]
        rows.append((number, found["head"].strip(), float(found["value"]), stamp and float(stamp)))
    return pl.DataFrame(rows, schema=_ROW, orient="row")


def _refuse_line(
    number: int, text: str, block: Sequence[_Piece], sources: Sequence[Source]
) -> None:
    for piece in block:
        if number < piece.lines:
            break
        number -= piece.lines
    source = sources[piece.source]
    source.refuse(
        f"{source.name}:{piece.line + number}: {text[:80]!r} is no sample; "
        'wanted is name{label="value"} number [time]'
    )


def _learned(known: _Known, heads: pl.Series, selection: Selection) -> _Known:
    """Parse texts that are new, and number them."""
    new = heads.unique(maintain_order=True).to_frame("head")
    new = new.join(known.texts, on="head", how="anti", maintain_order="left")
    if new.is_empty():
        return known
    labels = label_frame(new["head"])
    metric = pl.col("metric")
    told = labels.select(
        good=metric.is_not_null(),
        wanted=selection.wants(metric),
        event=metric.eq_missing(_EVENT_TIME),
    )
    first = known.told.height
    numbers = pl.int_range(first, first + pl.len(), dtype=pl.UInt32)
    return _Known(
        pl.concat([known.texts, new.with_columns(text=numbers)], rechunk=True),
        (*known.labels, labels),
        pl.concat([known.told, told], rechunk=True),
    )


def _numbered(
    rows: pl.DataFrame, known: _Known, sources: Sequence[Source], block: Sequence[_Piece]
) -> pl.DataFrame:
    """Give source, text, value and stamp of the samples; refuse those of malformed series."""
    rows = rows.join(known.texts, on="head", how="left", maintain_order="left")
    is_good = known.told["good"].gather(rows["text"])
    for line, head in rows.filter(~is_good).select("line", "head").iter_rows():
        _refuse_line(line, head, block, sources)
    rows = rows.filter(is_good)
    first = np.cumsum([0, *(piece.lines for piece in block)])
    owner = np.array([piece.source for piece in block], np.uint32)
    at = np.searchsorted(first, rows["line"].to_numpy(), side="right") - 1
    return rows.select("text", "value", "stamp", source=pl.Series(owner[at], dtype=pl.UInt32))


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
    told = (
        pl.when(in_seconds).then(stamp * 1000).otherwise(stamp).round().cast(pl.Int64, strict=False)
    )
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
    series = pl.concat([_NO_LABELS, *known.labels]).with_columns(
        series=pl.int_range(pl.len(), dtype=pl.UInt32)
    )
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
