"""Samples → one value a step of each container, kept small: 14 days of 10,000 pods in 0.7 GB.

A gauge keeps its largest value of a step, a counter its mean rate. Compiled, as hundreds of
millions of samples pass here; samples are sorted by series and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.load.threads import parallel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]
Keys = npt.NDArray[np.uint32]
Kinds = npt.NDArray[np.uint8]

UNUSED, GAUGE, COUNTER = 0, 1, 2
# A counter that keeps this share of its value was not reset: a server that joins two replicas went
# over to one that scrapes earlier (as observe does)
_SWITCHED: Final = 0.9
# A rate over a longer gap than so many steps hides restarts and peaks
_LONGEST_GAP: Final = 5


@dataclass(frozen=True, slots=True)
class Steps:
    """Values by series and step: four arrays of equal length; `many` are the samples of a step."""

    series: Keys
    step: Numbers
    value: Singles
    many: Numbers


@dataclass(frozen=True, slots=True)
class Runs:
    """Samples, series after series: run i is of `series[i]` and ends before `edges[i + 1]`."""

    series: Keys
    edges: Integers
    times: Integers
    values: Floats


def runs_of(series: Keys, times: Integers, values: Floats) -> Runs:
    """Give samples that are sorted by series and time as runs."""
    first = np.flatnonzero(np.diff(series.astype(np.int64), prepend=-1))
    return Runs(series[first], np.append(first, len(series)), times, values)


def resample(
    runs: Runs, kinds: Kinds, scales: Floats, width: int, before: tuple[Integers, Floats]
) -> Steps:
    """Give one value a step: the largest of a gauge, the mean rate of a counter.

    Parameters
    ----------
    runs
        Samples, each series in one run, sorted by time.
    kinds, scales
        By series: UNUSED, GAUGE or COUNTER, and what its value or rate is multiplied with.
    width
        Width of a step. [ms]
    before
        By series: time [ms] and value of the last sample of the window before, time -1 without one;
        the last ones of this window take their place.

    Notes
    -----
    After a reset the counter's value is the increase, as in Prometheus' rate(). Values are kept as
    the next larger single-precision number: no peak gets smaller.

    Examples
    --------
    >>> told = resample(
    ...     Runs(np.zeros(1, np.uint32), np.array([0, 4]),
    ...          np.array([0, 60_000, 120_000, 180_000]), np.array([0.0, 6, 3, 9])),
    ...     np.array([COUNTER], np.uint8), np.ones(1), 60_000, (np.full(1, -1), np.zeros(1)))
    >>> told.step.tolist(), [round(float(value), 3) for value in told.value]
    ([1, 2, 3], [0.1, 0.05, 0.1])
    """
    most = _room(runs, width)
    out = Steps(
        np.empty(most, np.uint32), np.empty(most, np.int32),
        np.empty(most, np.float32), np.empty(most, np.int32),
    )  # fmt: skip
    many = _resample(
        runs.series, runs.edges, runs.times, runs.values, kinds, scales, width, *before,
        out.series, out.step, out.value, out.many,
    )  # fmt: skip
    return Steps(out.series[:many], out.step[:many], out.value[:many], out.many[:many])


def joined(parts: Sequence[Steps]) -> Steps:
    """Put steps of one part of the series after those of another."""
    return Steps(
        np.concatenate([np.zeros(0, np.uint32), *(part.series for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.step for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.value for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.many for part in parts)]),
    )


def _room(runs: Runs, width: int) -> int:
    """Give the most steps that samples can lie in."""
    begins, ends = runs.edges[:-1], runs.edges[1:]
    is_some = ends > begins
    if not is_some.any():
        return 0
    first, last = runs.times[begins[is_some]] // width, runs.times[ends[is_some] - 1] // width
    return int(np.minimum(ends[is_some] - begins[is_some], np.maximum(last - first, 0) + 1).sum())


@njit(cache=True, nogil=True)
def _single(value: float) -> np.float32:  # pragma: no cover
    """Round up to single precision."""
    single = np.float32(value)
    return single if np.float64(single) >= value else np.nextafter(single, np.float32(np.inf))


@njit(cache=True, nogil=True)
def _resample(
    series: Keys, edges: Integers, times: Integers, values: Floats, kinds: Kinds, scales: Floats,
    width: int, last_time: Integers, last_value: Floats, out_series: Keys, out_step: Numbers,
    out_value: Singles, out_many: Numbers,
) -> int:  # pragma: no cover  # fmt: skip
    told = 0
    for run in range(len(series)):
        one, end = series[run], edges[run + 1]
        kind = kinds[one]
        if kind == UNUSED:
            continue
        time, value = last_time[one], last_value[one]
        step, stop = np.int64(-1), np.int64(-1)
        largest, increase, seconds, many = 0.0, 0.0, 0.0, 0
        for k in range(edges[run], end + 1):
            if k == end or times[k] >= stop:
                is_told = step >= 0 and (many > 0 if kind == GAUGE else seconds > 0)
                if is_told:
                    mean = largest if kind == GAUGE else increase / seconds
                    out_series[told], out_step[told] = one, step
                    out_value[told], out_many[told] = _single(mean * scales[one]), many
                    told += 1
                if k == end:
                    break
                step = times[k] // width
                stop = (step + 1) * width
                largest, increase, seconds, many = 0.0, 0.0, 0.0, 0
            # Of two samples of one time the first counts
            if not np.isfinite(values[k]) or times[k] <= time:
                continue
            many += 1
            largest = max(largest, values[k])
            gap, rise = times[k] - time, values[k] - value
            is_switched = rise < 0 and values[k] >= _SWITCHED * value
            is_next = time >= 0 and gap <= _LONGEST_GAP * width
            time, value = times[k], values[k]
            if kind == COUNTER and is_next and not is_switched:
                increase += rise if rise >= 0 else values[k]
                seconds += gap / 1000
        last_time[one], last_value[one] = time, value
    return told


@dataclass(slots=True)
class Held:
    """Values of one resource by unit (a container of a pod) and step, window after window."""

    units: list[Keys] = field(default_factory=list)
    steps: list[Numbers] = field(default_factory=list)
    values: list[Singles] = field(default_factory=list)

    def add(self, units: Keys, steps: Numbers, values: Singles) -> None:
        """Add a window; steps of a unit must rise, and lie behind those that are there."""
        self.units.append(units)
        self.steps.append(steps)
        self.values.append(values)

    def placed(self, units: int) -> tuple[Integers, Numbers, Singles]:
        """Give offsets (units + 1), steps and values, by unit; what was added is let go."""
        offsets = np.zeros(units + 1, np.int64)
        for keys in self.units:
            offsets[1:] += np.bincount(keys, minlength=units)
        offsets = np.cumsum(offsets)
        steps, values = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        at = offsets[:-1].copy()
        while self.units:
            _place(self.units.pop(0), self.steps.pop(0), self.values.pop(0), at, steps, values)
        return offsets, steps, values


@njit(cache=True, nogil=True)
def _place(
    units: Keys, from_steps: Numbers, from_values: Singles, at: Integers, steps: Numbers,
    values: Singles,
) -> None:  # pragma: no cover  # fmt: skip
    for i in range(len(units)):
        place = at[units[i]]
        steps[place], values[place] = from_steps[i], from_values[i]
        at[units[i]] += 1


# Columns of `summary`
QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)
COLUMNS: Final = ("points", "first", "last", "p50", "p90", "p95", "p99", "largest", "start")


def summary(
    offsets: Integers, steps: Numbers, values: Singles, since: int, start_steps: int
) -> dict[str, npt.NDArray[Any]]:
    """Give what is told of each unit: see COLUMNS; NaN where it has no value.

    Parameters
    ----------
    offsets, steps, values
        As `Held.placed` gives them.
    since
        First step of the history: a unit that is there from then on did not start in it.
    start_steps
        Steps of a unit's life that are its start, whose peak is `start`.

    Notes
    -----
    Quantiles lie between ranks q·(n-1), as in Prometheus' quantile_over_time.

    Examples
    --------
    >>> made = summary(np.array([0, 3]), np.array([5, 6, 7], np.int32),
    ...                np.array([9, 1, 2], np.float32), since=0, start_steps=1)
    >>> made["p50"].tolist(), made["largest"].tolist(), made["start"].tolist()
    ([2.0], [9.0], [9.0])
    """
    out = np.full((len(COLUMNS), len(offsets) - 1), np.nan)
    ordered = sorted_runs(offsets, values)
    _summary(offsets, steps, values, ordered, since, start_steps, np.array(QUANTILES), out)
    return dict(zip(COLUMNS, out, strict=True))


def sorted_runs(offsets: Integers, values: Singles) -> Singles:
    """Give the values of each unit in order: numpy sorts several times faster than numba."""
    ordered = values.copy()

    def run(part: slice) -> None:
        edges = offsets[part.start : part.stop + 1].tolist()
        for begin, end in zip(edges, edges[1:], strict=False):
            ordered[begin:end].sort()

    parallel(run, np.diff(offsets))
    return ordered


@njit(cache=True, nogil=True)
def _summary(
    offsets: Integers, steps: Numbers, values: Singles, ordered: Singles, since: int,
    start_steps: int, quantiles: Floats, out: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    for unit in range(len(offsets) - 1):
        begin, end = offsets[unit], offsets[unit + 1]
        out[0, unit] = end - begin
        if begin == end:
            continue
        out[1, unit], out[2, unit] = steps[begin], steps[end - 1]
        order = ordered[begin:end]
        for k in range(len(quantiles)):
            rank = quantiles[k] * (len(order) - 1)
            low = int(np.floor(rank))
            high = min(low + 1, len(order) - 1)
            out[3 + k, unit] = order[low] + (rank - low) * (np.float64(order[high]) - order[low])
        out[7, unit] = order[-1]
        if steps[begin] > since + 1:
            peak, k = values[begin], begin
            while k < end and steps[k] < steps[begin] + start_steps:
                peak = max(peak, values[k])
                k += 1
            out[8, unit] = peak


def longest_runs(offsets: Integers, values: Singles, restart: float) -> tuple[Integers, Integers]:
    """Give where the longest time of each unit without a restart begins and ends (beyond).

    Parameters
    ----------
    restart
        A fall by more than this share from one step to the next is a restart.
    """
    begins, ends = np.zeros(len(offsets) - 1, np.int64), np.zeros(len(offsets) - 1, np.int64)
    _longest_runs(offsets, values, restart, begins, ends)
    return begins, ends


@njit(cache=True, nogil=True)
def _longest_runs(
    offsets: Integers, values: Singles, restart: float, begins: Integers, ends: Integers
) -> None:  # pragma: no cover
    for unit in range(len(offsets) - 1):
        begin = offsets[unit]
        for k in range(offsets[unit], offsets[unit + 1] + 1):
            is_end = k == offsets[unit + 1]
            if is_end or (k > begin and values[k] < (1 - restart) * values[k - 1]):
                if k - begin > ends[unit] - begins[unit]:
                    begins[unit], ends[unit] = begin, k
                begin = k


def part_medians(values: Singles, begins: Integers, ends: Integers, bins: int) -> Floats:
    """Give the (upper) medians of equal parts of values; NaN without a value for each.

    >>> part_medians(np.array([1, 9, 5, 7], np.float32), np.array([0]), np.array([4]), 2).tolist()
    [[9.0, 7.0]]
    """
    medians = np.full((len(begins), bins), np.nan)
    for row in np.flatnonzero(ends - begins >= bins).tolist():
        edges = begins[row] + np.arange(bins + 1) * (ends[row] - begins[row]) // bins
        for part, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
            middle = (high - low) // 2
            medians[row, part] = np.partition(values[low:high], middle)[middle]
    return medians
