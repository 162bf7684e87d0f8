"""Answers of query_range and query as arrays, compiled: straight out of the bytes of the answer.

Only what servers usually write is read here: a matrix or vector without histograms, times of at
most three decimals. Of anything else nothing is told, and prom_json reads it by the whole grammar
of JSON; both give the same (tests/load/test_prom_json.py). Compiled code checks no index: each
is compared with the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
from numba import njit

from capacity.load.floats import BAD, HARD, digits, number
from capacity.load.words import ZERO, byte, codes

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# prometheus/prometheus web/api/v1/json_codec.go and api.go, Response (v3.5): keys come in this
# order; VictoriaMetrics tells isPartial first (app/vmselect/prometheus/query_range_response.qtpl)
_HEAD: Final = re.compile(
    rb'\s*\{\s*"status"\s*:\s*"success"\s*,(?:\s*"isPartial"\s*:\s*(?:true|false)\s*,)?'
    rb'\s*"data"\s*:\s*\{\s*"resultType"\s*:\s*"(matrix|vector)"\s*,\s*"result"\s*:\s*(?=\[)'
)
_HEAD_BYTES: Final = 512
# The shortest point and its comma: [1,"2"],
_POINT_BYTES: Final = 8
# {"metric":{}} and its comma
_SERIES_BYTES: Final = 14
# Digits of seconds whose milliseconds, told by three decimals, are those of the nearest double
_MOST_DIGITS: Final = 12
_OPEN, _CLOSE, _BEGIN, _END, _COMMA, _COLON, _QUOTE, _ESCAPE = codes(b'[]{},:"\\')
_SPACE, _TAB, _NEWLINE, _RETURN, _DOT, _ZERO, _NINE = b" \t\n\r.09"
_METRIC: Final = np.frombuffer(b'"metric"', np.uint8)
_VALUES: Final = np.frombuffer(b'"values"', np.uint8)
_VALUE: Final = np.frombuffer(b'"value"', np.uint8)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series of an answer: labels, points of each, and the points one series after the other."""

    labels: tuple[dict[str, Any], ...]
    counts: Integers
    times: Integers
    values: Floats
    envelope: dict[str, Any]


def read(body: bytes) -> Matrix | None:
    """Read an answer; None where prom_json must read it.

    Parameters
    ----------
    body
        The answer. Its envelope, with an empty result, and its labels are parsed by orjson.

    Examples
    --------
    >>> body = b'{"status":"success","data":{"resultType":"matrix","result":['
    >>> found = read(body + b'{"metric":{"node":"a"},"values":[[1.5,"7"],[2,"NaN"]]}]}}')
    >>> found.labels, found.times.tolist(), found.values.tolist()
    (({'node': 'a'},), [1500, 2000], [7.0, nan])
    """
    head = _HEAD.match(body[:_HEAD_BYTES])
    if head is None:
        return None
    text = np.frombuffer(body, np.uint8)
    many = len(body) // _POINT_BYTES + 1
    times, values, hard = np.empty(many, np.int64), np.empty(many), np.empty((many, 3), np.int64)
    series = np.empty((len(body) // _SERIES_BYTES + 1, 3), np.int64)
    is_vector = head[1] == b"vector"
    end, rows, points, hards = _result(text, head.end(), is_vector, series, times, values, hard)
    if end < 0:
        return None
    try:
        envelope = orjson.loads(b"%s[]%s" % (body[: head.end()], body[end:]))
        parts = [body[begin:stop] for begin, stop in series[:rows, :2].tolist()]
        labels = orjson.loads(b"[%s]" % b",".join(parts))
        for point, begin, stop in hard[:hards].tolist():
            values[point] = float(body[begin:stop])
    except ValueError:
        return None
    counts = np.diff(series[:rows, 2], append=points)
    return Matrix(tuple(labels), counts, times[:points].copy(), values[:points].copy(), envelope)


@njit(cache=True, nogil=True)
def _result(
    text: Bytes,
    at: int,
    is_vector: bool,
    series: Integers,
    times: Integers,
    values: Floats,
    hard: Integers,
) -> tuple[int, int, int, int]:  # pragma: no cover
    """Read the series from their bracket on: where they end (-1 if odd), and how many of each.

    Rows of `series` are begin and end of the labels and the first point; those of `hard` a point
    and the text that float() must read.
    """
    rows = points = hards = ZERO
    at = _space(text, at + 1)
    if at < len(text) and byte(text, at) == _CLOSE:
        return at + 1, rows, points, hards
    while at >= 0 and rows < len(series):
        begin = _space(text, _key(text, _after(text, at, _BEGIN), _METRIC))
        at = _object_end(text, begin)
        series[rows, 0], series[rows, 1], series[rows, 2] = begin, at, points
        rows += 1
        at = _key(text, _after(text, at, _COMMA), _VALUE if is_vector else _VALUES)
        if is_vector:
            at, hards = _point(text, at, points, hards, times, values, hard)
            points += 1
        else:
            at, points, hards = _points(text, at, points, hards, times, values, hard)
        at = _space(text, _after(text, at, _END))
        if 0 <= at < len(text) and byte(text, at) == _CLOSE:
            return at + 1, rows, points, hards
        at = _after(text, at, _COMMA)
    return -1, rows, points, hards


@njit(cache=True, nogil=True)
def _points(
    text: Bytes,
    at: int,
    points: int,
    hards: int,
    times: Integers,
    values: Floats,
    hard: Integers,
) -> tuple[int, int, int]:  # pragma: no cover
    at = _space(text, _after(text, at, _OPEN))
    if 0 <= at < len(text) and byte(text, at) == _CLOSE:
        return at + 1, points, hards
    while at >= 0:
        at, hards = _point(text, at, points, hards, times, values, hard)
        points += 1
        at = _space(text, at)
        if 0 <= at < len(text) and byte(text, at) == _CLOSE:
            return at + 1, points, hards
        at = _after(text, at, _COMMA)
    return -1, points, hards


@njit(cache=True, nogil=True)
def _point(
    text: Bytes,
    at: int,
    point: int,
    hards: int,
    times: Integers,
    values: Floats,
    hard: Integers,
) -> tuple[int, int]:  # pragma: no cover
    """Read time and value, such as [1.5,"7"]."""
    at, time = _milliseconds(text, _space(text, _after(text, at, _OPEN)))
    begin = _after(text, _after(text, at, _COMMA), _QUOTE)
    if begin < 0 or point >= len(times):
        return -1, hards
    kind, value, at = number(text, begin, True)
    if kind == BAD or at >= len(text) or byte(text, at) != _QUOTE:
        return -1, hards
    times[point] = time
    values[point] = value
    if kind == HARD:
        hard[hards, 0], hard[hards, 1], hard[hards, 2] = point, begin, at
        hards += 1
    return _after(text, at + 1, _CLOSE), hards


@njit(cache=True, nogil=True)
def _milliseconds(text: Bytes, at: int) -> tuple[int, int]:  # pragma: no cover
    """Read seconds of at most three decimals; -1 for anything else."""
    if at < 0 or at >= len(text):
        return -1, 0
    begin = at
    whole, at = digits(text, at, np.uint64(0))
    # JSON has no numbers such as 01
    if at == begin or at - begin > _MOST_DIGITS or (at > begin + 1 and byte(text, begin) == _ZERO):
        return -1, 0
    time: Any = np.int64(whole) * 1000
    if at < len(text) and byte(text, at) == _DOT:
        at += 1
        place, begin = 100, at
        while at < len(text) and _ZERO <= byte(text, at) <= _NINE and place > 0:
            time += place * (byte(text, at) - _ZERO)
            place //= 10
            at += 1
        if at == begin:
            return -1, 0
    return at, time


@njit(cache=True, nogil=True)
def _space(text: Bytes, at: int) -> int:  # pragma: no cover
    """Give the next place that is no white space; -1 stays what it is."""
    while 0 <= at < len(text):
        found = byte(text, at)
        if found > _SPACE or found not in (_SPACE, _NEWLINE, _TAB, _RETURN):
            break
        at += 1
    return at


@njit(cache=True, nogil=True)
def _after(text: Bytes, at: int, wanted: int) -> int:  # pragma: no cover
    """Give the place behind one byte, white space before it left out; -1 if it is not there."""
    if 0 <= at < len(text) and byte(text, at) == wanted:
        return at + 1
    at = _space(text, at)
    return at + 1 if 0 <= at < len(text) and byte(text, at) == wanted else -1


@njit(cache=True, nogil=True)
def _key(text: Bytes, at: int, wanted: Bytes) -> int:  # pragma: no cover
    """Give the place behind a key and its colon; -1 if another stands there."""
    at = _space(text, at)
    if at < 0 or at + len(wanted) > len(text):
        return -1
    for i in range(len(wanted)):
        if byte(text, at + i) != wanted[i]:
            return -1
    return _after(text, at + len(wanted), _COLON)


@njit(cache=True, nogil=True)
def _object_end(text: Bytes, at: int) -> int:  # pragma: no cover
    """Give the place behind an object without others inside; -1 if it is none."""
    at = _after(text, at, _BEGIN)
    is_text = False
    while 0 <= at < len(text):
        found = byte(text, at)
        if is_text:
            # What follows a backslash ends no text
            at += 1 if found == _ESCAPE else 0
            is_text = found != _QUOTE
        elif found == _QUOTE:
            is_text = True
        elif found == _END:
            return at + 1
        elif found == _BEGIN:
            return -1
        at += 1
    return -1
