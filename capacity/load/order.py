"""Samples into order, compiled: counted by series, then each put in its place. For large inputs.

One pass tells what there is, a second one moves it, if it is not in order as it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.errors import SchemaError

Numbers = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
# Columns of samples: source, series, time, value
Chunk = tuple[Numbers, Numbers, Integers, Floats]

FIRST: Final = -(1 << 63)
LAST: Final = (1 << 63) - 1
# Places of a pass' state: samples left out, the series before, and what is true so far
_OUT, _SERIES, _SORTED, _RISING = range(4)
# How a sample that is told again relates to the one that is kept: rows of `repeated`
SAME, OTHER, ELSEWHERE = range(3)


@dataclass(frozen=True, slots=True)
class Tally:
    """What samples are: by source how many are wanted, and how many of these are numbers.

    `counts` are samples a series; `is_whole` tells that none is left out, `is_rising` that the
    times of each series rise, `is_sorted` that samples are in order of series too.
    """

    seen: Integers
    numbers: Integers
    counts: Integers
    is_whole: bool
    is_rising: bool
    is_sorted: bool


def tally(
    chunks: Sequence[Chunk], same: Numbers, sources: int, start: int = FIRST, end: int = LAST
) -> Tally:
    """Count samples of times from `start` to `end` that are no NaN.

    Parameters
    ----------
    chunks
        Samples in the order they were told.
    same
        By series the first one with the same labels.
    sources
        How many there are.

    Raises
    ------
    SchemaError
        If a sample is of no series or source.
    """
    seen, numbers = np.zeros((2, sources), np.int64)
    counts, last = np.zeros(len(same), np.int64), np.full(len(same), FIRST)
    state = np.array([0, 0, 1, 1])
    for chunk in chunks:
        if not _tally(*chunk, same, start, end, seen, numbers, counts, last, state):
            raise SchemaError("samples: one points to a series or a source that is not there")
    is_rising = bool(state[_RISING])
    return Tally(
        seen, numbers, counts, not state[_OUT], is_rising, is_rising and bool(state[_SORTED])
    )


def placed(
    chunks: Sequence[Chunk],
    same: Numbers,
    told: Tally,
    start: int = FIRST,
    end: int = LAST,
) -> tuple[Integers, Floats, Integers, Integers]:
    """Give times and values in order of series and time, each once; the last one told is kept.

    Returns
    -------
    times, values
        In order.
    counts
        Samples a series.
    repeated, shape (3, sources)
        By source how many are left out because they are told again: with the same value, another
        value, another value by another source.
    """
    ends = np.cumsum(told.counts)
    begins = ends - told.counts
    total = int(ends[-1]) if len(ends) else 0
    times, values = np.empty(total, np.int64), np.empty(total)
    owners = np.empty(0 if told.is_rising else total, np.uint32)
    free = begins.copy()
    for chunk in chunks:
        _place(*chunk, same, start, end, free, times, values, owners)
    counts, repeated = told.counts, np.zeros((3, len(told.seen)), np.int64)
    if not told.is_rising:
        counts = _settle(begins, ends, times, values, owners, repeated)
        total = int(counts.sum())
    return times[:total], values[:total], counts, repeated


@njit(cache=True, nogil=True)
def _tally(
    source: Numbers, series: Numbers, time: Integers, value: Floats, same: Numbers,
    start: int, end: int, seen: Integers, numbers: Integers, counts: Integers, last: Integers,
    state: Integers,
) -> bool:  # fmt: skip
    before = state[_SERIES]
    for i in range(len(time)):
        if source[i] >= len(seen) or series[i] >= len(same):
            return False
        if time[i] < start or time[i] > end:
            state[_OUT] += 1
            continue
        seen[source[i]] += 1
        if np.isnan(value[i]):
            state[_OUT] += 1
            continue
        numbers[source[i]] += 1
        one = np.int64(same[series[i]])
        counts[one] += 1
        if time[i] <= last[one]:
            state[_RISING] = 0
        last[one] = time[i]
        if one < before:
            state[_SORTED] = 0
        before = one
    state[_SERIES] = before
    return True


@njit(cache=True, nogil=True)
def _place(
    source: Numbers, series: Numbers, time: Integers, value: Floats, same: Numbers,
    start: int, end: int, free: Integers, times: Integers, values: Floats, owners: Numbers,
) -> None:  # fmt: skip
    """Put each sample behind the one of its series before it."""
    for i in range(len(time)):
        if time[i] < start or time[i] > end or np.isnan(value[i]):
            continue
        place = free[same[series[i]]]
        free[same[series[i]]] = place + 1
        times[place], values[place] = time[i], value[i]
        if len(owners) > 0:
            owners[place] = source[i]


@njit(cache=True, nogil=True)
def _settle(
    begins: Integers, ends: Integers, times: Integers, values: Floats, owners: Numbers,
    repeated: Integers,
) -> Integers:  # fmt: skip
    """Sort each series by time where it is not, and keep the last of equal times; close up."""
    counts = np.zeros(len(begins), np.int64)
    at = 0
    for one in range(len(begins)):
        begin, end = begins[one], ends[one]
        _sort(times[begin:end], values[begin:end], owners[begin:end])
        first = at
        for i in range(begin, end):
            if at > first and times[at - 1] == times[i]:
                at -= 1
                kind = ELSEWHERE if owners[at] != owners[i] else OTHER
                repeated[SAME if values[at] == values[i] else kind, owners[at]] += 1
            times[at], values[at], owners[at] = times[i], values[i], owners[i]
            at += 1
        counts[one] = at - first
    return counts


@njit(cache=True, nogil=True)
def _sort(times: Integers, values: Floats, owners: Numbers) -> None:
    for i in range(1, len(times)):
        if times[i] < times[i - 1]:
            order = _merged(times)
            old_times, old_values, old_owners = times.copy(), values.copy(), owners.copy()
            for k in range(len(order)):
                times[k], values[k] = old_times[order[k]], old_values[order[k]]
                owners[k] = old_owners[order[k]]
            return


@njit(cache=True, nogil=True)
def _merged(times: Integers) -> Integers:
    """Give the order of times, equal ones as they came: runs of 1, 2, 4 … are merged in turn.

    numba's own stable sort takes 2 s to compile.
    """
    count = len(times)
    order, other = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        order[i] = i
    size = 1
    while size < count:
        for begin in range(0, count, 2 * size):
            left, middle = begin, min(begin + size, count)
            right, end = middle, min(begin + 2 * size, count)
            for to in range(begin, end):
                is_left = right == end or (
                    left < middle and times[order[left]] <= times[order[right]]
                )
                other[to] = order[left] if is_left else order[right]
                left, right = left + is_left, right + (not is_left)
        order, other = other, order
        size *= 2
    return order
