"""Series as text to numbers of their labels' values, compiled; what is not plain goes to labels.py.

Both say the same (tests/load/test_labels.py). Most texts are alike but for the values of their
labels: names are looked at once a shape, and values that are those before keep their numbers.
Compiled code checks no index: each is compared with the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.load.distinct import Numbers, Table, Texts, has_room, learnt, written
from capacity.load.label_parse import (
    AT,
    BEGIN,
    COLUMN,
    EMPTY,
    END,
    FIRST,
    HASH,
    IN_JSON,
    JSON,
    LABEL,
    LABELS,
    METRIC,
    METRIC_AT,
    METRIC_END,
    NAME,
    NAME_END,
    NAMED,
    NONE,
    NOT_PLAIN,
    NUMBERS,
    ORDER,
    OTHER,
    REST,
    SHAPE,
    SIZE,
    STOP,
    VALUE,
    VALUE_END,
    WIDTH,
    is_known,
    is_ordered,
    known,
    parsed,
    put,
    written_json,
)
from capacity.load.words import (
    ONE,
    byte,
    codes,
    compiled,
    copied,
    found,
    hashed,
    holds_control,
    is_plain,
    is_same,
    value_end,
)

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_OPEN, _QUOTE, _ESCAPE = codes(b'{"\\')
# A label takes at most twice its length as JSON, 'a="x",' as '"a": "x", '; the rest is for braces
_ROOM: Final = 64
# Shapes that are remembered, the newest ones, found by a hash of the metric's name; the first place
# is that of one that is not
_SHAPES: Final = 128
_PLACES: Final = 1 << 10
# JSON that is remembered by a hash of its values, and of how many labels at most
_KEPT: Final = 1024
_KEPT_LABELS: Final = 8
# Places of `state`: the next text, the shape before, texts that are not plain, shapes so far, and
# whether any text has escapes
_ROW, _PLACE, _ODD, _MADE, _ESCAPED = range(5)
# Between names, as no name holds it
_BETWEEN: Final = ONE
# As many values as a text may bring
_ROWS: Final = ONE * WIDTH


@dataclass(frozen=True, slots=True)
class Scanned:
    """Columns of series: numbers of `values`; of those with numbers `odd` all are left open.

    `names` are distinct shapes, `sets` their metric and label names in order: as many of both
    tell that texts that differ are label sets that differ, if none `has_escapes`.
    """

    numbers: Numbers
    odd: Integers
    values: Texts
    names: Texts = field(default_factory=Texts)
    sets: Texts = field(default_factory=Texts)
    has_escapes: bool = False


def scanned(
    text: Bytes, ends: Integers, values: Texts, secret: int, *, knows_more: bool = False
) -> Scanned:
    """Give numbers for the columns of series, text i of which is bytes [ends[i], ends[i + 1]).

    Number 0 is that of no value; all are 0 for no series. `knows_more` tells that there are escapes
    beside those of quote, backslash and line end; else others are kept as they are written.
    """
    many = len(ends) - 1
    numbers, odd = np.zeros((WIDTH, many), np.uint32), np.empty(many, np.int64)
    shapes, state = np.empty((_SHAPES + 1) * SIZE, np.int64), np.zeros(5, np.int64)
    shapes[LABELS::SIZE] = NONE
    places = np.zeros(_PLACES, np.int64)
    kept = np.zeros(_KEPT * (2 + 2 * _KEPT_LABELS), np.int64)
    names, sets = Texts(), Texts()
    while True:
        _numbered(
            text, ends, np.uint64(secret), knows_more, shapes, places, kept, values.table(),
            names.table(), sets.table(), numbers, odd, state,
        )  # fmt: skip
        row = int(state[_ROW])
        if row == many:
            break
        size = 3 * int(ends[row + 1] - ends[row]) + _ROOM
        for texts in (values, names, sets):
            texts.grow(WIDTH, size)
    return Scanned(numbers, odd[: state[_ODD]], values, names, sets, bool(state[_ESCAPED]))


@compiled
def _numbered(
    text: Bytes, ends: Integers, secret: np.uint64, knows_more: bool, shapes: Integers,
    places: Integers, kept: Integers, values: Table, names: Table, sets: Table, numbers: Numbers,
    odd: Integers, state: Integers,
) -> None:  # fmt: skip
    """Fill columns from `state` on, until there is no room."""
    row, at = state[_ROW], state[_PLACE]
    while row < len(ends) - 1:
        begin, end = ends[row], ends[row + 1]
        size = 3 * (end - begin) + _ROOM
        if not has_room(values, _ROWS, size):
            break
        is_new = False
        if not _is_alike(text, begin, end, shapes, at):
            name = _name_place(text, begin, end, secret)
            at = places[name]
            is_new = not _is_alike(text, begin, end, shapes, at)
        if is_new:
            if not has_room(names, ONE, size) or not has_room(sets, ONE, size):
                break
            has_escapes = not is_plain(text, begin, end, _ESCAPE)
            at = 0 if has_escapes else (state[_MADE] % _SHAPES + 1) * SIZE
            labels = _shaped(text, begin, end, has_escapes, knows_more, shapes, at)
            shapes[at + LABELS] = labels
            if labels >= 0 and has_escapes:
                state[_ESCAPED] = 1
            elif labels >= 0:
                _tell_names(text, begin, end, secret, shapes, at, names, sets)
            state[_MADE] += 1
            shapes[at + SHAPE] = state[_MADE]
            places[name] = at
            if labels == NOT_PLAIN:
                odd[state[_ODD]] = row
                state[_ODD] += 1
        if shapes[at + LABELS] >= 0:
            _take(text, begin, end, secret, shapes, at, is_new, kept, values)
            for k in range(WIDTH):
                numbers[k, row] = shapes[at + NUMBERS + k]
        # A text with escapes is like no other
        shapes[LABELS] = NONE
        row += 1
    state[_ROW], state[_PLACE] = row, at


@compiled
def _name_place(text: Bytes, begin: int, end: int, secret: np.uint64) -> int:
    """Give a place by a text's metric."""
    name = found(text, begin, end, _OPEN, _OPEN, _OPEN)
    place = int(np.int64(hashed(text, begin, name, secret) & np.uint64(_PLACES - 1)))
    return place


@compiled
def _is_alike(text: Bytes, begin: int, end: int, shapes: Integers, shape: int) -> bool:
    """Tell whether a text is that met last but for the values of its labels; place these.

    Empty values and metrics belong to the shape. Neither text has escapes.
    """
    at, other, other_end = begin, shapes[shape + BEGIN], shapes[shape + END]
    labels, named = shapes[shape + LABELS], shapes[shape + NAMED]
    if labels < 0:
        return False
    one = shape + FIRST
    for _ in range(labels):
        last, last_end = shapes[one + VALUE], shapes[one + VALUE_END]
        size = last - other
        if at + size > end or not is_same(text, other, text, at, size):
            return False
        at += size
        stop = value_end(text, at, end)
        if stop >= end or byte(text, stop) != _QUOTE or (at == stop) != (last == last_end):
            return False
        shapes[one + AT], shapes[one + STOP] = at, stop
        at, other = stop, last_end
        one += LABEL
    if end - at != other_end - other or not is_same(text, other, text, at, end - at):
        return False
    return named < 0 or _is_last(text, shapes, shape + FIRST + LABEL * named)


@compiled
def _is_last(text: Bytes, shapes: Integers, one: int) -> bool:
    """Tell whether a label's value is that met last."""
    at, size = shapes[one + AT], shapes[one + STOP] - shapes[one + AT]
    last, last_end = shapes[one + VALUE], shapes[one + VALUE_END]
    return bool(last_end - last == size and is_same(text, last, text, at, size))


@compiled
def _shaped(
    text: Bytes, begin: int, end: int, has_escapes: bool, knows_more: bool, shapes: Integers,
    shape: int,
) -> int:  # fmt: skip
    """Find the labels of a text and where they go; give how many, or why not."""
    if has_escapes and holds_control(text, begin, end):
        return NOT_PLAIN
    labels = parsed(text, begin, end, shapes, shape)
    if labels < 0 or not is_ordered(text, shapes, shape, labels):
        return min(labels, NONE)
    rest, named = 0, -1
    for i in range(labels):
        k = shapes[shape + ORDER + i]
        one = shape + FIRST + LABEL * k
        value, value_end = shapes[one + VALUE], shapes[one + VALUE_END]
        shapes[one + AT], shapes[one + STOP] = value, value_end
        column = known(text, shapes[one + NAME], shapes[one + NAME_END] - shapes[one + NAME])
        if column == METRIC:
            if shapes[shape + METRIC_END] > 0:
                return NONE
            named = k
            shapes[shape + METRIC_AT], shapes[shape + METRIC_END] = value, value_end
        elif value == value_end:
            # Of no value is the same as no label
            column = EMPTY
        elif column == OTHER:
            shapes[shape + IN_JSON + rest] = k
            rest += 1
        shapes[one + COLUMN] = column
    shapes[shape + REST], shapes[shape + NAMED] = rest, named
    if shapes[shape + METRIC_AT] >= shapes[shape + METRIC_END]:
        return NONE
    if has_escapes and not is_known(text, shapes, shape, labels, knows_more):
        return NOT_PLAIN
    return labels


@compiled
def _tell_names(
    text: Bytes, begin: int, end: int, secret: np.uint64, shapes: Integers, shape: int,
    names: Table, sets: Table,
) -> None:  # fmt: skip
    """Learn a shape: the text without values, but for a mark of each, and its label set's names."""
    at = names.ends[names.many[0]]
    for k in range(shapes[shape + LABELS]):
        one = shape + FIRST + LABEL * k
        value = shapes[one + VALUE]
        at = copied(text, begin, value, names.data, at)
        begin = shapes[one + VALUE_END]
        if k == shapes[shape + NAMED]:
            at = copied(text, value, begin, names.data, at)
        elif begin > value:
            at = put(names.data, at, _BETWEEN)
    written(names, copied(text, begin, end, names.data, at), secret)
    at = sets.ends[sets.many[0]]
    at = copied(text, shapes[shape + METRIC_AT], shapes[shape + METRIC_END], sets.data, at)
    for i in range(shapes[shape + LABELS]):
        one = shape + FIRST + LABEL * shapes[shape + ORDER + i]
        if shapes[one + COLUMN] not in (EMPTY, METRIC):
            at = put(sets.data, at, _BETWEEN)
            at = copied(text, shapes[one + NAME], shapes[one + NAME_END], sets.data, at)
    written(sets, at, secret)


@compiled
def _take(
    text: Bytes, begin: int, end: int, secret: np.uint64, shapes: Integers, shape: int,
    is_new: bool, kept: Integers, values: Table,
) -> None:  # fmt: skip
    """Give numbers to the values of a text, which is that met last from now on."""
    if is_new:
        shapes[shape + NUMBERS : shape + FIRST] = 0
        at, stop = shapes[shape + METRIC_AT], shapes[shape + METRIC_END]
        metric = learnt(values, text, at, stop, hashed(text, at, stop, secret))
        shapes[shape + NUMBERS + METRIC] = metric
    is_other = is_new
    one = shape + FIRST
    for _ in range(shapes[shape + LABELS]):
        is_last = not is_new and _is_last(text, shapes, one)
        at, stop, column = shapes[one + AT], shapes[one + STOP], shapes[one + COLUMN]
        shapes[one + VALUE], shapes[one + VALUE_END] = at, stop
        if not is_last and column != EMPTY and column != METRIC:
            hash = hashed(text, at, stop, secret)
            if column == OTHER:
                shapes[one + HASH] = np.int64(hash)
                is_other = True
            else:
                shapes[shape + NUMBERS + column] = learnt(values, text, at, stop, hash)
        one += LABEL
    shapes[shape + BEGIN], shapes[shape + END] = begin, end
    if is_other:
        number = _json_number(text, secret, shapes, shape, kept, values)
        shapes[shape + NUMBERS + JSON] = number


@compiled
def _json_number(
    text: Bytes, secret: np.uint64, shapes: Integers, shape: int, kept: Integers, values: Table
) -> int:
    """Give the number of labels without a column, written where they were not lately."""
    made, many = shapes[shape + SHAPE], shapes[shape + REST]
    hash = np.uint64(made)
    for i in range(many):
        one = shape + FIRST + LABEL * shapes[shape + IN_JSON + i]
        hash = (hash ^ np.uint64(shapes[one + HASH])) * np.uint64(0x9E3779B97F4A7C15)
        hash ^= hash >> np.uint64(32)
    at = np.int64(hash & np.uint64(_KEPT - 1)) * (2 + 2 * _KEPT_LABELS)
    if many <= _KEPT_LABELS and kept[at] == made:
        is_again = True
        for i in range(many):
            one = shape + FIRST + LABEL * shapes[shape + IN_JSON + i]
            value, size = shapes[one + VALUE], shapes[one + VALUE_END] - shapes[one + VALUE]
            last, last_end = kept[at + 2 + 2 * i], kept[at + 3 + 2 * i]
            is_again &= last_end - last == size
            is_again = is_again and is_same(text, last, text, value, size)
        if is_again:
            return int(kept[at + 1])
    end = written_json(text, shapes, shape, values.data, values.ends[values.many[0]])
    number = written(values, end, secret)
    if many <= _KEPT_LABELS:
        kept[at], kept[at + 1] = made, number
        for i in range(many):
            one = shape + FIRST + LABEL * shapes[shape + IN_JSON + i]
            kept[at + 2 + 2 * i] = shapes[one + VALUE]
            kept[at + 3 + 2 * i] = shapes[one + VALUE_END]
    return number
