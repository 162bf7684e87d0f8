"""Series as text to the places of their labels, compiled; what is not plain goes to labels.py.

Both say the same (tests/load/test_labels.py). Compiled code checks no index: each is compared with
the end. Labels without a column of their own are written as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.export import OWN_COLUMNS
from capacity.load.words import (
    ZERO,
    byte,
    codes,
    copied,
    found,
    holds_control,
    is_plain,
    is_same,
    read_only,
)

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_SPACE, _OPEN, _CLOSE, _QUOTE, _ESCAPE, _COMMA, _EQUALS = codes(b' {}"\\,=')
_ZERO, _COLON, _UNDERSCORE, _LETTER_N = codes(b"0:_n")
_MOST_LABELS: Final = 64
# Rows of `pairs`: place of a label's name and of its value
_NAME, _NAME_END, _VALUE, _VALUE_END = range(4)
# What `_parsed` says of a text instead of how many labels it has
_NONE, _NOT_PLAIN = -1, -2
# Own labels and the metric's, one after the other, and where each ends
_KNOWN: Final = np.frombuffer("".join(("__name__", *OWN_COLUMNS)).encode(), np.uint8)
_KNOWN_ENDS: Final = np.cumsum([0, *map(len, ("__name__", *OWN_COLUMNS))])
_METRIC: Final = 0
# Columns of series: the metric, own labels, and the others as JSON
_JSON: Final = len(_KNOWN_ENDS) - 1
WIDTH: Final = _JSON + 1
# A label takes at most twice its length as JSON, 'a="x",' as '"a": "x", '; the rest is for braces
_ROOM: Final = 64


@dataclass(frozen=True, slots=True)
class Places:
    """Column k of series i is bytes [begins[k, i], ends[k, i]): of the texts, the last of `json`.

    Nothing in each is no series; those with numbers `odd` are not plain, and left open.
    """

    begins: Integers
    ends: Integers
    json: Bytes
    odd: Integers


def places(text: Bytes, ends: Integers, *, knows_more: bool = False) -> Places:
    """Find the columns of series, text i of which is bytes [ends[i], ends[i + 1]).

    `knows_more` tells that there are escapes beside those of quote, backslash and line end; else
    others are kept as they are written.
    """
    out = np.empty(2 * len(text) + _ROOM * len(ends), np.uint8)
    odd = np.empty(len(ends), np.int64)
    begins, stops = np.zeros((2, WIDTH, len(ends) - 1), np.int64)
    pairs, order = np.empty((4, _MOST_LABELS), np.int64), np.empty((2, _MOST_LABELS), np.int64)
    rest, own = np.empty(_MOST_LABELS, np.int64), np.empty((_JSON, 2), np.int64)
    name = np.zeros(2, np.int64)
    used, odds = _places(
        text, ends, knows_more, begins, stops, out, odd, pairs, order, rest, own, name
    )
    return Places(begins, stops, read_only(out[:used]), odd[:odds])


@njit(cache=True, nogil=True)
def _places(
    text: Bytes, ends: Integers, knows_more: bool, begins: Integers, stops: Integers,
    out: Bytes, odd: Integers, pairs: Integers, order: Integers, rest: Integers, own: Integers,
    name: Integers,
) -> tuple[int, int]:  # fmt: skip
    """Fill the columns; give how much JSON is written, and how many texts are not plain."""
    used, odds, before, labels = ZERO, 0, -1, ZERO
    for i in range(len(ends) - 1):
        begin, end = ends[i], ends[i + 1]
        if used + 2 * (end - begin) + _ROOM > len(out):
            break
        has_escapes = not is_plain(text, begin, end, _ESCAPE)
        if (
            not has_escapes
            and before >= 0
            and _is_alike(text, begin, end, ends[before], ends[before + 1], pairs, labels)
        ):
            before = i
        else:
            before, labels = -1, _NOT_PLAIN
            if not has_escapes or not holds_control(text, begin, end):
                labels = _parsed(text, begin, end, pairs, name)
            if labels >= 0:
                labels = _ordered(text, pairs, order, labels)
            if labels >= 0 and not has_escapes:
                before = i
        count = _housed(pairs, order, labels, name, own, rest) if labels >= 0 else labels
        if count >= 0 and has_escapes and not _is_known(text, pairs, rest, own, count, knows_more):
            count = _NOT_PLAIN
        if count == _NOT_PLAIN:
            odd[odds] = i
            odds += 1
        if count < 0:
            continue
        for k in range(_JSON):
            begins[k, i], stops[k, i] = own[k, 0], own[k, 1]
        begins[_JSON, i] = used
        used = _written(text, pairs, rest, count, out, used)
        stops[_JSON, i] = used
    return used, odds


@njit(cache=True, nogil=True)
def _is_alike(
    text: Bytes, begin: int, end: int, other: int, other_end: int, pairs: Integers, labels: int
) -> bool:
    """Tell whether a text is that before but for the values of its labels; place these.

    Neither has escapes. Names keep their places in the text before.
    """
    at = begin
    for k in range(labels):
        size = pairs[_VALUE, k] - other
        if at + size > end or not is_same(text, other, text, at, size):
            return False
        other = pairs[_VALUE_END, k]
        at += size
        stop = found(text, at, end, _QUOTE, _QUOTE, _QUOTE)
        pairs[_VALUE, k], pairs[_VALUE_END, k] = at, stop
        at = stop
    return end - at == other_end - other and is_same(text, other, text, at, end - at)


@njit(cache=True, nogil=True)
def _parsed(text: Bytes, begin: int, end: int, pairs: Integers, name: Integers) -> int:
    """Find the labels of one text, and its name; give how many beside that."""
    name[:] = 0
    at = _over(text, begin, end)
    start = at
    at = _name_end(text, at, end, True)
    if at > start:
        name[0], name[1] = start, at
        at = _over(text, at, end)
    while end > at and byte(text, end - 1) == _SPACE:
        end -= 1
    if at == end:
        return 0 if name[1] > 0 else _NONE
    if end - at < 2 or byte(text, at) != _OPEN or byte(text, end - 1) != _CLOSE:
        return _NONE
    return _body(text, at + 1, end - 1, pairs, name)


@njit(cache=True, nogil=True)
def _body(text: Bytes, at: int, end: int, pairs: Integers, name: Integers) -> int:
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
        start = at + is_quoted
        stop = _quotes_end(text, start, end) if is_quoted else _name_end(text, at, end, False)
        if stop <= start or is_quoted and stop >= end:
            return _NONE
        if is_quoted and not _is_simple(text, start, stop):
            return _NOT_PLAIN
        at = _over(text, stop + is_quoted, end)
        if at < end and byte(text, at) == _EQUALS:
            at = _over(text, at + 1, end)
            if at >= end or byte(text, at) != _QUOTE:
                return _NONE
            value_end = _quotes_end(text, at + 1, end)
            if value_end >= end:
                return _NONE
            pairs[_NAME, count], pairs[_NAME_END, count] = start, stop
            pairs[_VALUE, count], pairs[_VALUE_END, count] = at + 1, value_end
            count += 1
            at = _over(text, value_end + 1, end)
        elif is_quoted and name[1] == 0:
            # A text in quotes alone is the metric's name
            name[0], name[1] = start, stop
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
def _ordered(text: Bytes, pairs: Integers, order: Integers, count: int) -> int:
    """Order labels by their names, which must differ, and tell which have columns of their own."""
    for i in range(count):
        place = i
        while place > 0:
            compared = _compared(text, pairs, order[0, place - 1], i)
            if compared == 0:
                return _NONE
            if compared < 0:
                break
            order[0, place] = order[0, place - 1]
            place -= 1
        order[0, place] = i
    for i in range(count):
        at = order[0, i]
        order[1, i] = _known(text, pairs[_NAME, at], pairs[_NAME_END, at] - pairs[_NAME, at])
    return count


@njit(cache=True, nogil=True)
def _housed(
    pairs: Integers, order: Integers, count: int, name: Integers, own: Integers, rest: Integers
) -> int:
    """Put values in columns of their own; give how many labels have none, numbers of `rest`."""
    own[:] = 0
    own[_METRIC, 0], own[_METRIC, 1] = name[0], name[1]
    left = 0
    for i in range(count):
        at, known = order[0, i], order[1, i]
        if known < 0:
            # Of no value is the same as no label
            if pairs[_VALUE, at] < pairs[_VALUE_END, at]:
                rest[left] = at
                left += 1
        elif own[known, 1] > 0:
            return _NONE
        else:
            own[known, 0], own[known, 1] = pairs[_VALUE, at], pairs[_VALUE_END, at]
    return left if own[_METRIC, 0] < own[_METRIC, 1] else _NONE


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
def _written(text: Bytes, pairs: Integers, order: Integers, count: int, out: Bytes, at: int) -> int:
    """Write labels as JSON; give where it ends."""
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
    return _put(out, at, _CLOSE)


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
def _is_known(
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
