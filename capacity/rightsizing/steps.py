"""Samples → one value a step of each container, kept small: 14 days of 10,000 pods in 0.7 GB.

A gauge keeps its largest value of a step, a counter its mean rate. Compiled, as hundreds of
millions of samples pass here; samples are sorted by series and time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

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


def resample(
    series: Keys, times: Integers, values: Floats, kinds: Kinds, scales: Floats, width: int,
    before: tuple[Integers, Floats],
) -> Steps:  # fmt: skip
    """Give one value a step: the largest of a gauge, the mean rate of a counter.

    Parameters
    ----------
    series, times, values
        Samples, sorted by series and time. Times in ms.
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
    ...     np.zeros(4, np.uint32), np.array([0, 60_000, 120_000, 180_000]),
    ...     np.array([0.0, 6, 3, 9]), np.array([COUNTER], np.uint8), np.ones(1), 60_000,
    ...     (np.full(1, -1), np.zeros(1)))
    >>> told.step.tolist(), [round(float(value), 3) for value in told.value]
    ([1, 2, 3], [0.1, 0.05, 0.1])
    """
    most = _steps(series, times, kinds, width)
    out = Steps(
        np.empty(most, np.uint32), np.empty(most, np.int32),
        np.empty(most, np.float32), np.empty(most, np.int32),
    )  # fmt: skip
    many = _resample(
        series, times, values, kinds, scales, width, *before,
        out.series, out.step, out.value, out.many,
    )  # fmt: skip
    return Steps(out.series[:many], out.step[:many], out.value[:many], out.many[:many])


@njit(cache=True, nogil=True)
def _steps(series: Keys, times: Integers, kinds: Kinds, width: int) -> int:  # pragma: no cover
    many = 0
    for i in range(len(series)):
        if kinds[series[i]] and (
            i == 0 or series[i] != series[i - 1] or times[i] // width != times[i - 1] // width
        ):
            many += 1
    return many


@njit(cache=True, nogil=True)
def _single(value: float) -> np.float32:  # pragma: no cover
    """Round up to single precision."""
    single = np.float32(value)
    return single if np.float64(single) >= value else np.nextafter(single, np.float32(np.inf))


@njit(cache=True, nogil=True)
def _resample(
    series: Keys, times: Integers, values: Floats, kinds: Kinds, scales: Floats, width: int,
    last_time: Integers, last_value: Floats, out_series: Keys, out_step: Numbers,
    out_value: Singles, out_many: Numbers,
) -> int:  # pragma: no cover  # fmt: skip
    told = 0
    i, end = 0, len(series)
    while i < end:
        begin, one = i, series[i]
        while i < end and series[i] == one:
            i += 1
        kind = kinds[one]
        if kind == UNUSED:
            continue
        step, largest, increase, seconds, many = np.int64(-1), 0.0, 0.0, 0.0, 0
        for k in range(begin, i + 1):
            now = times[k] // width if k < i else np.int64(-1)
            if now != step:
                is_told = step >= 0 and (many > 0 if kind == GAUGE else seconds > 0)
                if is_told:
                    value = largest if kind == GAUGE else increase / seconds
                    out_series[told], out_step[told] = one, step
                    out_value[told], out_many[told] = _single(value * scales[one]), many
                    told += 1
                step, largest, increase, seconds, many = now, 0.0, 0.0, 0.0, 0
            if k == i or not np.isfinite(values[k]):
                continue
            many += 1
            largest = max(largest, values[k])
            gap, rise = times[k] - last_time[one], values[k] - last_value[one]
            is_switched = rise < 0 and values[k] >= _SWITCHED * last_value[one]
            is_next = last_time[one] >= 0 and gap <= _LONGEST_GAP * width
            last_time[one], last_value[one] = times[k], values[k]
            if kind == COUNTER and is_next and not is_switched:
                increase += rise if rise >= 0 else values[k]
                seconds += gap / 1000
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
    _summary(offsets, steps, values, since, start_steps, np.array(QUANTILES), out)
    return dict(zip(COLUMNS, out, strict=True))


@njit(cache=True, nogil=True)
def _summary(
    offsets: Integers, steps: Numbers, values: Singles, since: int, start_steps: int,
    quantiles: Floats, out: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    for unit in range(len(offsets) - 1):
        begin, end = offsets[unit], offsets[unit + 1]
        out[0, unit] = end - begin
        if begin == end:
            continue
        out[1, unit], out[2, unit] = steps[begin], steps[end - 1]
        order = np.sort(values[begin:end])
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


def growth(
    offsets: Integers, steps: Numbers, values: Singles, bins: int, restart: float
) -> tuple[Floats, Numbers, Numbers]:
    """Give the longest time of each unit without a restart, as (upper) medians of its parts.

    Parameters
    ----------
    bins
        Parts.
    restart
        A fall by more than this share from one step to the next is a restart.

    Returns
    -------
    tuple
        Medians, shape (units, bins), NaN where there are fewer than two values a part; and the
        first and last step of that time.
    """
    many = len(offsets) - 1
    medians = np.full((many, bins), np.nan)
    first, last = np.full(many, -1, np.int32), np.full(many, -1, np.int32)
    _growth(offsets, steps, values, restart, medians, first, last)
    return medians, first, last


@njit(cache=True, nogil=True)
def _growth(
    offsets: Integers, steps: Numbers, values: Singles, restart: float, medians: Floats,
    first: Numbers, last: Numbers,
) -> None:  # pragma: no cover  # fmt: skip
    bins = medians.shape[1]
    for unit in range(len(offsets) - 1):
        begin, longest, length = offsets[unit], offsets[unit], 0
        for k in range(offsets[unit], offsets[unit + 1] + 1):
            is_end = k == offsets[unit + 1]
            if is_end or (k > begin and values[k] < (1 - restart) * values[k - 1]):
                if k - begin > length:
                    longest, length = begin, k - begin
                begin = k
        if length < 2 * bins:
            continue
        first[unit], last[unit] = steps[longest], steps[longest + length - 1]
        for part in range(bins):
            low, high = longest + part * length // bins, longest + (part + 1) * length // bins
            medians[unit, part] = np.sort(values[low:high])[(high - low) // 2]


def medians_between(
    offsets: Integers, steps: Numbers, values: Singles, first: Numbers, last: Numbers, bins: int
) -> Floats:
    """Give medians of parts of each unit's values between two steps; NaN for parts without."""
    medians = np.full((len(offsets) - 1, bins), np.nan)
    _medians_between(offsets, steps, values, first, last, medians)
    return medians


@njit(cache=True, nogil=True)
def _medians_between(
    offsets: Integers, steps: Numbers, values: Singles, first: Numbers, last: Numbers,
    medians: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    bins = medians.shape[1]
    for unit in range(len(offsets) - 1):
        if first[unit] < 0:
            continue
        own = steps[offsets[unit] : offsets[unit + 1]]
        low = np.searchsorted(own, first[unit])
        high = np.searchsorted(own, last[unit], side="right")
        length = high - low
        if length < bins:
            continue
        for part in range(bins):
            begin = offsets[unit] + low + part * length // bins
            end = offsets[unit] + low + (part + 1) * length // bins
            medians[unit, part] = np.sort(values[begin:end])[(end - begin) // 2]
