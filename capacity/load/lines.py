"""Text of scrapes to columns: line, series as text, value, time. Nothing of files or labels.

A block of text is split by numpy and polars at once; lines that are not plain go through an exact
grammar, one by one. Both give the same (tests/load/test_exposition.py).
Formats: prometheus/docs content/docs/instrumenting/exposition_formats.md, prometheus/OpenMetrics.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import polars as pl

_Array = np.ndarray[Any, Any]
ROW: Final = {"line": pl.UInt32, "head": pl.String, "value": pl.Float64, "stamp": pl.Float64}
_NEWLINE, _SPACE, _TAB, _BRACE, _SIGN, _OPEN, _QUOTE, _ESCAPE = b'\n \t}#{"\\'
_DECIMAL: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER: Final = rf"(?:{_DECIMAL}|[-+]?(?:[iI][nN][fF](?:inity)?|[nN][aA][nN]))"
_BODY: Final = r'\{(?:[^"{}\\]|"(?:[^"\\]|\\.)*")*\}'
_LINE: Final = re.compile(
    rf"(?P<head>[a-zA-Z_:][a-zA-Z0-9_:]*\s*{_BODY}\s*|{_BODY}\s*|[a-zA-Z_:][a-zA-Z0-9_:]*\s+)"
    rf"(?P<value>{_NUMBER})(?:\s+(?P<stamp>{_DECIMAL}))?(?:\s+#\s*\{{.*)?",
    re.ASCII,
)
# Of a split line: an exemplar stands in the last ones
_COLUMNS: Final = (b"head", b"value", b"stamp", b"more", b"rest")
# Bytes that are marked at once: arrays of this many stay in the cache, which halves the time
_SLICE: Final = 1 << 18


def is_sample(line: str) -> bool:
    """Tell whether a line is a sample rather than a line of YAML (a name may end in a colon)."""
    found = _LINE.fullmatch(line.strip())
    return found is not None and not found["head"].rstrip().endswith(":")


def split(data: bytes) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    r"""Split text into samples.

    Parameters
    ----------
    data
        Whole lines, the last one with its line end.

    Returns
    -------
    DataFrame
        line (from 0), head (the series as text, not yet parsed), value, and stamp as it is
        written, null where there is none; in order of lines.
    list
        Number and text of lines that are neither sample nor comment.

    Examples
    --------
    >>> split(b'# TYPE up gauge\nup{a="b"} 1 1795477137000\nno\n')[0].rows()
    [(1, 'up{a="b"}', 1.0, 1795477137000.0)]
    """
    lines = data.count(b"\n")
    if b"\r" in data:
        data = data.replace(b"\r\n", b" \n")
    free = (byte for byte in range(1, 32) if byte not in b"\t\n\r" and bytes([byte]) not in data)
    separator = next(free, None)
    rows, odd = pl.DataFrame(schema=ROW), np.arange(lines)
    if separator is not None:
        rows, odd = _columns(_marked(data, separator), chr(separator), lines)
    if len(odd) == 0:
        return rows, []
    exact, refused = _exactly(data, odd)
    return pl.concat([rows, exact]).sort("line"), refused


def _marked(data: bytes, separator: int) -> bytes:
    """Put a separator in place of the spaces behind each series, so that a CSV reader splits it."""
    header = bytes([separator]).join(_COLUMNS) + b"\n"
    text = np.empty(len(header) + len(data), np.uint8)
    text[: len(header)] = np.frombuffer(header, np.uint8)
    body = text[len(header) :]
    body[:] = np.frombuffer(data, np.uint8)
    has_exemplars = b" # {" in data
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _SLICE) + 1 or data.index(b"\n", start) + 1
        _mark(body[start:end], separator, has_exemplars=has_exemplars)
        start = end
    return text.tobytes()


def _mark(text: _Array, separator: int, *, has_exemplars: bool) -> None:
    """Mark in place: a series ends at the last brace of its line, or at the first space.

    Exemplars have braces of their own. Lines of which only the grammar can tell stay whole.
    """
    ends = np.flatnonzero(text == _NEWLINE)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    spaces = np.flatnonzero((text == _SPACE) | (text == _TAB))
    heads = starts
    braces = np.flatnonzero(text == _BRACE)
    stops = _before_exemplars(text, starts, ends) if has_exemplars else ends
    if len(braces):
        last = np.searchsorted(braces, stops) - 1
        heads = np.maximum(np.where(last >= 0, braces[np.maximum(last, 0)], -1), starts)
    heads[stops < starts] = len(text)
    text[spaces[spaces > heads[np.searchsorted(ends, spaces)]]] = separator


def _before_exemplars(text: _Array, starts: _Array, ends: _Array) -> _Array:
    """Give for each line where it ends or its exemplar begins; -1 where only the grammar can tell.

    A number sign behind an even number of quotes is outside of label values, unless quotes are
    escaped.
    """
    signs = np.flatnonzero(text == _SIGN)
    signs = signs[(signs > 0) & (signs + 2 < len(text))]
    is_begin = (text[signs - 1] == _SPACE) & (text[signs + 1] == _SPACE)
    signs = signs[is_begin & (text[signs + 2] == _OPEN)]
    line = np.searchsorted(ends, signs)
    quotes = np.flatnonzero(text == _QUOTE)
    inside = (np.searchsorted(quotes, signs) - np.searchsorted(quotes, starts[line])) % 2 == 1
    stops = ends.copy()
    np.minimum.at(stops, line[~inside], signs[~inside])
    escaped = np.searchsorted(ends, np.flatnonzero(text == _ESCAPE))
    stops[np.intersect1d(escaped, line)] = -1
    return stops


def _columns(marked: bytes, separator: str, lines: int) -> tuple[pl.DataFrame, _Array]:
    """Give the plain samples, and the numbers of lines that are neither that nor a comment."""
    texts = ("head", "stamp", "more", "rest")
    frame = pl.read_csv(
        marked,
        separator=separator,
        quote_char=None,
        schema_overrides={"value": pl.Float64, **dict.fromkeys(texts, pl.String)},
        encoding="utf8-lossy",
        ignore_errors=True,
        truncate_ragged_lines=True,
    )
    if frame.height != lines:
        # Rows no longer tell lines: the grammar reads them all
        return pl.DataFrame(schema=ROW), np.arange(lines)
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


def _exactly(data: bytes, numbers: _Array) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Parse single lines by the grammar; those that do not fit are refused."""
    lines = data.split(b"\n")
    rows, refused = [], []
    for number in numbers.tolist():
        text = lines[number].decode("utf-8", "replace").strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            refused.append((number, text))
            continue
        stamp = found["stamp"]
        rows.append((number, found["head"].strip(), float(found["value"]), stamp and float(stamp)))
    return pl.DataFrame(rows, schema=ROW, orient="row"), refused
