"""Series as text to label columns, compiled, many at once; what is not plain goes to labels.py.

Both say the same (tests/load/test_labels.py). Compiled code checks no index: each is compared with
the end. The columns are written as rows of text, which polars' CSV reader makes a frame of.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from capacity.export import OWN_COLUMNS
from capacity.load.labels import LABEL_COLUMNS, Parse, label_frame
from capacity.load.words import byte, copied, found, holds_control, is_same

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_SPACE, _NEWLINE, _OPEN, _CLOSE, _QUOTE, _ESCAPE, _COMMA, _EQUALS = b' \n{}"\\,='
_ZERO, _COLON, _UNDERSCORE, _LETTER_N = b"0:_n"
# Stands between columns: texts with such bytes are not plain
_SEPARATOR: Final = 0x1F
_MOST_LABELS: Final = 64
# Rows of `pairs`: place of a label's name and of its value
_NAME, _NAME_END, _VALUE, _VALUE_END = range(4)
# What `_parsed` says of a text instead of how many labels it has
_NONE, _NOT_PLAIN = -1, -2
# Own labels and the metric's, one after the other, and where each ends
_KNOWN: Final = np.frombuffer("".join(("__name__", *OWN_COLUMNS)).encode(), np.uint8)
_KNOWN_ENDS: Final = np.cumsum([0, *map(len, ("__name__", *OWN_COLUMNS))])
_METRIC: Final = 0
# A label takes at most twice its length as JSON, 'a="x",' as '"a": "x", '; the rest is separators
_ROOM: Final = 64


def columns(data: bytes, ends: Integers, exact: Parse, *, knows_more: bool = False) -> pl.DataFrame:
    """Give the label columns of series as text; all null for a text that is no series.

    Parameters
    ----------
    data, ends
        Text i is bytes [ends[i], ends[i + 1]).
    exact
        Labels of one text that is not plain, None where it is no series.
    knows_more
        `exact` knows more escapes than those of quote, backslash and line end; else others are
        kept as they are written.
    """
    text = np.frombuffer(data, np.uint8)
    out = np.empty(2 * len(data) + _ROOM * len(ends), np.uint8)
    odd = np.empty(len(ends), np.int64)
    used, odds = _columns(text, ends, knows_more, out, odd)
    rows = out[:used].tobytes()
    if not rows.isascii():
        rows = _as_unicode(rows)
    frame = pl.read_csv(
        rows,
        has_header=False,
        separator=chr(_SEPARATOR),
        quote_char=None,
        schema=dict.fromkeys(LABEL_COLUMNS, pl.String),
    )
    return _mended(frame, odd[:odds], data, ends, exact) if odds else frame


def _as_unicode(rows: bytes) -> bytes:
    """Put marks in place of what is no UTF-8."""
    try:
        rows.decode()
    except UnicodeDecodeError:
        return rows.decode("utf-8", "replace").encode()
    return rows


def _mended(
    frame: pl.DataFrame, odd: Integers, data: bytes, ends: Integers, exact: Parse
) -> pl.DataFrame:
    """Put the texts in place that are parsed one by one."""
    texts = [data[ends[i] : ends[i + 1]].decode("utf-8", "replace") for i in odd.tolist()]
    mended = label_frame(texts, exact)
    place = np.arange(len(frame))
    place[odd] = len(frame) + np.arange(len(odd))
    return pl.concat([frame, mended])[place]


@njit(cache=True, nogil=True)
def _columns(
    text: Bytes, ends: Integers, knows_more: bool, out: Bytes, odd: Integers
) -> tuple[int, int]:
    """Write a row a text; give how much is written, and how many texts are not plain."""
    pairs, order = np.empty((4, _MOST_LABELS), np.int64), np.empty(_MOST_LABELS, np.int64)
    own = np.empty((len(_KNOWN_ENDS) - 1, 2), np.int64)
    used, odds = 0, 0
    for i in range(len(ends) - 1):
        begin, end = ends[i], ends[i + 1]
        if used + 2 * (end - begin) + _ROOM > len(out):
            break
        own[:] = 0
        count = _parsed(text, begin, end, pairs, own)
        if count >= 0:
            count = _ordered(text, pairs, order, own, count)
        has_escapes = found(text, begin, end, _ESCAPE, _ESCAPE, _ESCAPE) < end
        if count >= 0 and has_escapes and not _is_plain(text, pairs, order, own, count, knows_more):
            count = _NOT_PLAIN
        if count == _NOT_PLAIN:
            odd[odds] = i
            odds += 1
        used = _written(text, pairs, order, own, count, out, used)
    return used, odds


@njit(cache=True, nogil=True)
def _parsed(text: Bytes, begin: int, end: int, pairs: Integers, own: Integers) -> int:
    """Find the labels of one text; give how many beside the metric."""
    if holds_control(text, begin, end):
        return _NOT_PLAIN
    at = _over(text, begin, end)
    name = at
    at = _name_end(text, at, end, True)
    if at > name:
        own[_METRIC, 0], own[_METRIC, 1] = name, at
        at = _over(text, at, end)
    while end > at and byte(text, end - 1) == _SPACE:
        end -= 1
    if at == end:
        return 0 if own[_METRIC, 1] > 0 else _NONE
    if end - at < 2 or byte(text, at) != _OPEN or byte(text, end - 1) != _CLOSE:
        return _NONE
    return _body(text, at + 1, end - 1, pairs, own)


@njit(cache=True, nogil=True)
def _body(text: Bytes, at: int, end: int, pairs: Integers, own: Integers) -> int:
    """Find the labels between the braces."""
    while end > at and byte(text, end - 1) == _SPACE:
        end -= 1
    count = 0
    while at < end:
        if count == _MOST_LABELS:
            return _NOT_PLAIN
        at = _over(text, at, end)
        if at >= end:
            return _NONE
        is_quoted = byte(text, at) == _QUOTE
        name = at + is_quoted
        name_end = _quotes_end(text, name, end) if is_quoted else _name_end(text, at, end, False)
        if name_end <= name or is_quoted and name_end >= end:
            return _NONE
        if is_quoted and not _is_simple(text, name, name_end):
            return _NOT_PLAIN
        at = _over(text, name_end + is_quoted, end)
        if at < end and byte(text, at) == _EQUALS:
            at = _over(text, at + 1, end)
            if at >= end or byte(text, at) != _QUOTE:
                return _NONE
            value_end = _quotes_end(text, at + 1, end)
            if value_end >= end:
                return _NONE
            pairs[_NAME, count], pairs[_NAME_END, count] = name, name_end
            pairs[_VALUE, count], pairs[_VALUE_END, count] = at + 1, value_end
            count += 1
            at = _over(text, value_end + 1, end)
        elif is_quoted and own[_METRIC, 1] == 0:
            # A text in quotes alone is the metric's name
            own[_METRIC, 0], own[_METRIC, 1] = name, name_end
        else:
            return _NONE
        if at < end:
            if byte(text, at) != _COMMA:
                return _NONE
            at += 1
    return count


@njit(cache=True, nogil=True)
def _over(text: Bytes, at: int, end: int) -> int:
    while at < end and byte(text, at) == _SPACE:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _name_end(text: Bytes, at: int, end: int, may_hold_colons: bool) -> int:
    begin = at
    while at < end:
        one = byte(text, at)
        is_letter = 97 <= one | 32 <= 122 or one == _UNDERSCORE
        is_more = _ZERO <= one <= _ZERO + 9 and at > begin or may_hold_colons and one == _COLON
        if not is_letter and not is_more:
            break
        at += 1
    return at


@njit(cache=True, nogil=True)
def _is_simple(text: Bytes, at: int, end: int) -> bool:
    """Tell whether a name in quotes is ASCII without escapes: others may turn out to be equal."""
    while at < end and byte(text, at) < 128 and byte(text, at) != _ESCAPE:
        at += 1
    return at == end


@njit(cache=True, nogil=True)
def _quotes_end(text: Bytes, at: int, end: int) -> int:
    """Give where the quotes close that are open at `at`; the end if they do not."""
    while at < end:
        at = found(text, at, end, _QUOTE, _ESCAPE, _QUOTE)
        if at >= end or byte(text, at) == _QUOTE:
            break
        at += 2
    return min(at, end)


@njit(cache=True, nogil=True)
def _ordered(text: Bytes, pairs: Integers, order: Integers, own: Integers, count: int) -> int:
    """Order labels by their names, which must differ, and take out those with own columns."""
    for i in range(count):
        place = i
        while place > 0:
            compared = _compared(text, pairs, order[place - 1], i)
            if compared == 0:
                return _NONE
            if compared < 0:
                break
            order[place] = order[place - 1]
            place -= 1
        order[place] = i
    rest = 0
    for i in range(count):
        at = order[i]
        known = _known(text, pairs[_NAME, at], pairs[_NAME_END, at] - pairs[_NAME, at])
        if known < 0:
            # Of no value is the same as no label
            if pairs[_VALUE, at] < pairs[_VALUE_END, at]:
                order[rest] = at
                rest += 1
        elif own[known, 1] > 0:
            return _NONE
        else:
            own[known, 0], own[known, 1] = pairs[_VALUE, at], pairs[_VALUE_END, at]
    return rest if own[_METRIC, 0] < own[_METRIC, 1] else _NONE


@njit(cache=True, nogil=True)
def _compared(text: Bytes, pairs: Integers, one: int, other: int) -> int:
    """Give the order of two names: below 0, 0 or above."""
    size = int(pairs[_NAME_END, one] - pairs[_NAME, one])
    size_other = int(pairs[_NAME_END, other] - pairs[_NAME, other])
    for i in range(min(size, size_other)):
        differs: int = byte(text, pairs[_NAME, one] + i) - byte(text, pairs[_NAME, other] + i)
        if differs != 0:
            return differs
    return size - size_other


@njit(cache=True, nogil=True)
def _known(text: Bytes, at: int, size: int) -> int:
    """Give which of the labels with columns of their own this is, -1 if none."""
    for i in range(len(_KNOWN_ENDS) - 1):
        begin = _KNOWN_ENDS[i]
        if _KNOWN_ENDS[i + 1] - begin == size and is_same(_KNOWN, begin, text, at, size):
            return i
    return -1


@njit(cache=True, nogil=True)
def _written(
    text: Bytes, pairs: Integers, order: Integers, own: Integers, count: int, out: Bytes, at: int
) -> int:
    """Write one row, an empty one for a text without labels; give where it ends."""
    for i in range(len(own)):
        if count >= 0:
            at = copied(text, own[i, 0], own[i, 1], out, at)
        out[at] = _SEPARATOR
        at += 1
    if count >= 0:
        at = _put(out, at, _OPEN)
        for i in range(count):
            if i > 0:
                at = _put(out, _put(out, at, _COMMA), _SPACE)
            label = order[i]
            at = _put(out, at, _QUOTE)
            at = copied(text, pairs[_NAME, label], pairs[_NAME_END, label], out, at)
            at = _put(out, _put(out, _put(out, at, _QUOTE), _COLON), _SPACE)
            at = _put(out, at, _QUOTE)
            at = _json(text, pairs[_VALUE, label], pairs[_VALUE_END, label], out, at)
            at = _put(out, at, _QUOTE)
        at = _put(out, at, _CLOSE)
    return _put(out, at, _NEWLINE)


@njit(cache=True, nogil=True)
def _put(out: Bytes, at: int, one: int) -> int:
    out[at] = one
    return at + 1


@njit(cache=True, nogil=True)
def _json(text: Bytes, begin: int, end: int, out: Bytes, at: int) -> int:
    """Copy a value; the escapes of text are those of JSON, and any other is no escape."""
    while begin < end:
        stop = found(text, begin, end, _ESCAPE, _ESCAPE, _ESCAPE)
        at = copied(text, begin, stop, out, at)
        begin = stop
        if begin + 1 < end:
            at = _put(out, at, _ESCAPE)
            if _is_escape(byte(text, begin + 1)):
                at = _put(out, at, byte(text, begin + 1))
                begin += 2
            else:
                at = _put(out, at, _ESCAPE)
                begin += 1
    return at


@njit(cache=True, nogil=True)
def _is_escape(one: int) -> bool:
    return one in (_ESCAPE, _QUOTE, _LETTER_N)


@njit(cache=True, nogil=True)
def _is_plain(
    text: Bytes, pairs: Integers, order: Integers, own: Integers, count: int, knows_more: bool
) -> bool:
    """Tell whether columns are written as they are, and whether JSON has all escapes."""
    for i in range(len(own)):
        if found(text, own[i, 0], own[i, 1], _ESCAPE, _ESCAPE, _ESCAPE) < own[i, 1]:
            return False
    if not knows_more:
        return True
    for i in range(count):
        at, end = pairs[_VALUE, order[i]], pairs[_VALUE_END, order[i]]
        while True:
            at = found(text, at, end, _ESCAPE, _ESCAPE, _ESCAPE)
            if at >= end:
                break
            if not _is_escape(byte(text, at + 1)):
                return False
            at += 2
    return True
