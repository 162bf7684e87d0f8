"""The decaying histogram of the Vertical Pod Autoscaler, over the same steps as other rules.

Source of every number: kubernetes/autoscaler vertical-pod-autoscaler/pkg/recommender
(model/aggregations_config.go, model/aggregate_container_state.go, model/container.go,
util/histogram.go, util/decaying_histogram.go), 55c37cd5eb of 2026-08-22 (1.8.0).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from capacity.rightsizing.steps import Floats, Integers, Numbers, Singles

# aggregations_config.go: buckets grow by 5 %, from 0.01 cores to 1,000 and from 10 MB to 1 TB
GROWTH: Final = 1.05
FIRST_CPU, MOST_CPU = 10.0, 1e6
FIRST_MEMORY, MOST_MEMORY = 1e7, 1e12
HALF_LIFE: Final = 86_400.0
# One peak of memory a day and container, counted with the end of its day; eight of them
_DAY: Final = 86_400.0
MEMORY_DAYS: Final = 8
_QUANTILES: Final = (0.5, 0.9, 0.95)


def buckets(first: float, most: float) -> int:
    """Give how many buckets there are, the last without an end.

    >>> buckets(FIRST_CPU, MOST_CPU), buckets(FIRST_MEMORY, MOST_MEMORY)
    (176, 176)
    """
    return math.ceil(math.log(most * (GROWTH - 1) / first + 1, GROWTH)) + 1


def cpu_percentiles(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, many: int, width: float
) -> Floats:
    """Give the 50th, 90th, 95th percentile of owners' CPU use, every sample of equal weight.

    Parameters
    ----------
    offsets, steps, values
        As `Held.placed` gives them. [millicore]
    owners
        By unit: which of `many` containers of workloads its samples count for; negative: none.
    width
        Of a step. [s]

    Returns
    -------
    ndarray, shape (many, 3)
        End of the bucket of the percentile; NaN without samples. [millicore]
    """
    weights = np.zeros((many, buckets(FIRST_CPU, MOST_CPU)))
    _add(offsets, steps, values, owners, width / HALF_LIFE, FIRST_CPU, weights)
    return percentiles(weights, FIRST_CPU)


def memory_percentiles(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, many: int, width: float,
    kills: tuple[Integers, Floats],
) -> Floats:  # fmt: skip
    """Give the 50th, 90th, 95th percentile of daily peaks of owners' containers.

    Parameters
    ----------
    kills
        By unit: step of an OOM kill, negative where none is known, and the memory that the
        recommender takes for the need then. [byte]
    """
    weights = np.zeros((many, buckets(FIRST_MEMORY, MOST_MEMORY)))
    day = max(round(_DAY / width), 1)
    newest = int(steps.max()) if len(steps) else 0
    # What is older was forgotten: the recommender reads eight days of history
    since = newest - MEMORY_DAYS * day
    _add_peaks(offsets, steps, values, owners, day, since, FIRST_MEMORY, *kills, weights)
    return percentiles(weights, FIRST_MEMORY)


@njit(cache=True, nogil=True)
def _bucket(value: float, first: float, many: int) -> int:  # pragma: no cover
    """Give the bucket of a value, exponentialHistogramOptions.FindBucket."""
    if value < first:
        return 0
    found = int(np.log(value * (GROWTH - 1) / first + 1) / np.log(GROWTH))
    return min(found, many - 1)


@njit(cache=True, nogil=True)
def _add(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, decay: float,
    first: float, weights: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    newest = 0
    for step in steps:
        newest = max(newest, step)
    for unit in range(len(offsets) - 1):
        owner = owners[unit]
        if owner < 0:
            continue
        for k in range(offsets[unit], offsets[unit + 1]):
            bucket = _bucket(values[k], first, weights.shape[1])
            # Older samples weigh half for each half-life; only the ratio of weights counts
            weights[owner, bucket] += 2.0 ** ((steps[k] - newest) * decay)


@njit(cache=True, nogil=True)
def _add_peaks(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, day: int, since: int,
    first: float, kill_steps: Integers, kill_values: Floats, weights: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    for unit in range(len(offsets) - 1):
        owner, begin, end = owners[unit], offsets[unit], offsets[unit + 1]
        if owner < 0:
            continue
        while begin < end and steps[begin] < since:
            begin += 1
        k = begin
        while k < end:
            # Days are counted from the container's first sample (container.go, WindowEnd)
            number = (steps[k] - steps[begin]) // day
            peak = 0.0
            while k < end and (steps[k] - steps[begin]) // day == number:
                peak = max(peak, values[k])
                k += 1
            killed = kill_steps[unit]
            if killed >= 0 and (killed - steps[begin]) // day == number:
                peak = max(peak, kill_values[unit])
            until = steps[begin] + (number + 1) * day
            weight = 2.0 ** ((until - since) / day)
            weights[owner, _bucket(peak, first, weights.shape[1])] += weight


def percentiles(weights: Floats, first: float) -> Floats:
    """Give percentiles of histograms, one a row: the end of the bucket in which they lie.

    Examples
    --------
    >>> one = np.zeros((1, 176))
    >>> one[0, 20] = 1
    >>> percentiles(one, FIRST_CPU).round(2).tolist()
    [[357.19, 357.19, 357.19]]
    """
    many = weights.shape[1]
    ends = first * (GROWTH ** np.arange(1, many + 1) - 1) / (GROWTH - 1)
    # The last bucket has no end: its start is told
    ends[-1] = ends[-2]
    sums = np.cumsum(weights, axis=1)
    out: npt.NDArray[np.float64] = np.full((len(weights), len(_QUANTILES)), np.nan)
    for column, quantile in enumerate(_QUANTILES):
        reached = sums >= quantile * sums[:, -1:] - 1e-12
        out[:, column] = ends[reached.argmax(axis=1)]
    out[sums[:, -1] <= 0] = np.nan
    return out
