"""Series as text to the places of their labels and to JSON, compiled.

Places and the like are in one array of shapes: what one takes is laid out below. Compiled code
checks no index: each is compared with the end.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.export import OWN_COLUMNS
from capacity.load.words import NO, YES, byte, codes, compiled, copied, found, is_same

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

# Of a label, one after the other: places of its name and its value, the column where this goes, its
# hash, and the place of the value at hand
NAME, NAME_END, VALUE, VALUE_END, COLUMN, HASH, AT, STOP = range(8)
LABEL: Final = 8
_SPACE, _OPEN, _CLOSE, _QUOTE, _ESCAPE, _COMMA, _EQUALS = codes(b' {}"\\,=')
_ZERO, _COLON, _UNDERSCORE, _LETTER_N = codes(b"0:_n")
MOST_LABELS: Final = 64
# What `parsed` says of a text instead of how many labels it has
NONE, NOT_PLAIN = -1, -2
# Own labels and the metric's, one after the other, and where each ends
_KNOWN: Final = np.frombuffer("".join(("__name__", *OWN_COLUMNS)).encode(), np.uint8)
_KNOWN_ENDS: Final = np.cumsum([0, *map(len, ("__name__", *OWN_COLUMNS))])
# Columns of series: the metric, own labels, and the others as JSON
METRIC: Final = 0
JSON: Final = len(_KNOWN_ENDS) - 1
WIDTH: Final = JSON + 1
# What a label's value is beside a column: of JSON, or empty, which is no label
OTHER, EMPTY = -1, -2
# Of a shape, one after the other: the text met last; how many labels, and how many of these in
# JSON; the label that is the metric, else -1; a number of the shape that no other gets; where the
# metric is; numbers of values by column; labels; which of them are in JSON, and all by name
BEGIN, END, LABELS, REST, NAMED, SHAPE, METRIC_AT, METRIC_END = range(8)
NUMBERS: Final = 8
FIRST: Final = NUMBERS + WIDTH
IN_JSON: Final = FIRST + LABEL * MOST_LABELS
ORDER: Final = IN_JSON + MOST_LABELS
SIZE: Final = ORDER + MOST_LABELS


@compiled
def parsed(text: Bytes, begin: int, end: int, shapes: Integers, shape: int) -> int:
    """Find the labels of one text, and its name; give how many beside that."""
    shapes[shape + METRIC_AT], shapes[shape + METRIC_END] = 0, 0
    at = _over(text, begin, end)
    start = at
    at = _name_end(text, at, end, YES)
    if at > start:
        shapes[shape + METRIC_AT], shapes[shape + METRIC_END] = start, at
        at = _over(text, at, end)
    while end > at and byte(text, end - 1) == _SPACE:
        end -= 1
    if at == end:
        return 0 if shapes[shape + METRIC_END] > 0 else NONE
    if end - at < 2 or byte(text, at) != _OPEN or byte(text, end - 1) != _CLOSE:
        return NONE
    return _body(text, at + 1, end - 1, shapes, shape)


@compiled
def _body(text: Bytes, at: int, end: int, shapes: Integers, shape: int) -> int:
    """Find the labels between the braces."""
    while end > at and byte(text, end - 1) == _SPACE:
        end -= 1
    count, one = 0, shape + FIRST
    while at < end:
        if count == MOST_LABELS:
            return NOT_PLAIN
        at = _over(text, at, end)
        if at >= end:
            return NONE
        is_quoted = byte(text, at) == _QUOTE
        start = at + is_quoted
        stop = _quotes_end(text, start, end) if is_quoted else _name_end(text, at, end, NO)
        if stop <= start or is_quoted and stop >= end:
            return NONE
        if is_quoted and not _is_simple(text, start, stop):
            return NOT_PLAIN
        at = _over(text, stop + is_quoted, end)
        if at < end and byte(text, at) == _EQUALS:
            at = _over(text, at + 1, end)
            if at >= end or byte(text, at) != _QUOTE:
                return NONE
            value_end = _quotes_end(text, at + 1, end)
            if value_end >= end:
                return NONE
            shapes[one + NAME], shapes[one + NAME_END] = start, stop
            shapes[one + VALUE], shapes[one + VALUE_END] = at + 1, value_end
            count += 1
            one += LABEL
            at = _over(text, value_end + 1, end)
        elif is_quoted and shapes[shape + METRIC_END] == 0:
            # A text in quotes alone is the metric's name
            shapes[shape + METRIC_AT], shapes[shape + METRIC_END] = start, stop
        else:
            return NONE
        if at < end:
            if byte(text, at) != _COMMA:
                return NONE
            at += 1
    return count


@compiled
def _over(text: Bytes, at: int, end: int) -> int:
    while at < end and byte(text, at) == _SPACE:
        at += 1
    return at


@compiled
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


@compiled
def _is_simple(text: Bytes, at: int, end: int) -> bool:
    """Tell whether a name in quotes is ASCII without escapes: others may turn out to be equal."""
    while at < end and byte(text, at) < 128 and byte(text, at) != _ESCAPE:
        at += 1
    return at == end


@compiled
def _quotes_end(text: Bytes, at: int, end: int) -> int:
    """Give where the quotes close that are open at `at`; the end if they do not."""
    while at < end:
        at = found(text, at, end, _QUOTE, _ESCAPE, _QUOTE)
        if at >= end or byte(text, at) == _QUOTE:
            break
        at += 2
    return min(at, end)


@compiled
def is_ordered(text: Bytes, shapes: Integers, shape: int, count: int) -> bool:
    """Order labels by their names; tell whether these differ."""
    order = shape + ORDER
    for i in range(count):
        place = i
        while place > 0:
            compared = _compared(text, shapes, shape, shapes[order + place - 1], i)
            if compared == 0:
                return False
            if compared < 0:
                break
            shapes[order + place] = shapes[order + place - 1]
            place -= 1
        shapes[order + place] = i
    return True


@compiled
def _compared(text: Bytes, shapes: Integers, shape: int, one: int, other: int) -> int:
    """Give the order of two names: below 0, 0 or above."""
    one, other = shape + FIRST + LABEL * one, shape + FIRST + LABEL * other
    at, size = shapes[one + NAME], shapes[one + NAME_END] - shapes[one + NAME]
    at_other, size_other = shapes[other + NAME], shapes[other + NAME_END] - shapes[other + NAME]
    for i in range(min(size, size_other)):
        differs: int = byte(text, at + i) - byte(text, at_other + i)
        if differs != 0:
            return differs
    return int(size - size_other)


@compiled
def known(text: Bytes, at: int, size: int) -> int:
    """Give which of the labels with columns of their own this is, -1 if none."""
    for i in range(len(_KNOWN_ENDS) - 1):
        begin = _KNOWN_ENDS[i]
        if _KNOWN_ENDS[i + 1] - begin == size and is_same(_KNOWN, begin, text, at, size):
            return i
    return -1


@compiled
def written_json(text: Bytes, shapes: Integers, shape: int, out: Bytes, at: int) -> int:
    """Write labels as JSON; give where it ends."""
    at = put(out, at, _OPEN)
    for i in range(shapes[shape + REST]):
        if i > 0:
            at = put(out, put(out, at, _COMMA), _SPACE)
        one = shape + FIRST + LABEL * shapes[shape + IN_JSON + i]
        at = put(out, at, _QUOTE)
        at = copied(text, shapes[one + NAME], shapes[one + NAME_END], out, at)
        at = put(out, put(out, put(out, at, _QUOTE), _COLON), _SPACE)
        at = put(out, at, _QUOTE)
        at = _json(text, shapes[one + VALUE], shapes[one + VALUE_END], out, at)
        at = put(out, at, _QUOTE)
    return put(out, at, _CLOSE)


@compiled
def put(out: Bytes, at: int, one: int) -> int:
    """Write a byte; give its end."""
    out[at] = one
    return at + 1


@compiled
def _json(text: Bytes, begin: int, end: int, out: Bytes, at: int) -> int:
    """Copy a value; the escapes of text are those of JSON, and any other is no escape."""
    while begin < end:
        stop = found(text, begin, end, _ESCAPE, _ESCAPE, _ESCAPE)
        at = copied(text, begin, stop, out, at)
        begin = stop
        if begin + 1 < end:
            at = put(out, at, _ESCAPE)
            if _is_escape(byte(text, begin + 1)):
                at = put(out, at, byte(text, begin + 1))
                begin += 2
            else:
                at = put(out, at, _ESCAPE)
                begin += 1
    return at


@compiled
def _is_escape(one: int) -> bool:
    return one in (_ESCAPE, _QUOTE, _LETTER_N)


@compiled
def is_known(text: Bytes, shapes: Integers, shape: int, labels: int, knows_more: bool) -> bool:
    """Tell whether columns are written as they are, and whether JSON has all escapes."""
    at, end = shapes[shape + METRIC_AT], shapes[shape + METRIC_END]
    if found(text, at, end, _ESCAPE, _ESCAPE, _ESCAPE) < end:
        return False
    for k in range(labels):
        one = shape + FIRST + LABEL * k
        at, end = shapes[one + VALUE], shapes[one + VALUE_END]
        while True:
            at = found(text, at, end, _ESCAPE, _ESCAPE, _ESCAPE)
            if at >= end:
                break
            if shapes[one + COLUMN] != OTHER:
                return False
            if not knows_more:
                break
            if not _is_escape(byte(text, at + 1)):
                return False
            at += 2
    return True
