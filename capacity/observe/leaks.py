"""Times in which memory grew though nothing grew that it serves: suspected leaks.

Such a time says how a bug grows, not how a cluster does; fits leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.settings import DRIVER_NAMES

# A fall by more than this share is a restart: garbage collection alone frees less of the peak
# over all nodes of a step
RESTART: Final = 0.2
BINS: Final = 10
_MIN_POINTS: Final = 2 * BINS
MIN_HOURS: Final = 6.0
# Memory must outgrow the fastest driver by this much: caches and churn of drivers make up the rest
_MARGIN: Final = 1.25
# Of nine rises between ten parts, so many must be rises; and so much of the growth must lie in
# the second half, or it is a start that settles
_RISES: Final = 8
_LATE: Final = 0.3
# A rise that is part of a leak has that much of the mean rise, at least
_STEEP: Final = 0.3
# Each time that is looked at is that much of the one before
_SHORTER: Final = 0.85


@dataclass(frozen=True, slots=True)
class Leak:
    """A suspected leak: growth of memory, the most that drivers explain, slope in byte/h."""

    component: str
    since: datetime
    until: datetime
    growth: float
    expected: float
    slope: float


def leaks(steps: pl.DataFrame, drivers: pl.DataFrame) -> list[Leak]:
    """Find suspected leaks of Cilium's components in one cluster.

    Memory between two restarts is cut into ten parts. It leaks where the parts' medians rise all
    the way (one exception), outgrow the fastest driver by 1.25 times, and gain 30 % or more in the
    second half. What leaks does so until a restart: where the whole time is not of that shape, its
    last part may be, if it also rises above all that was before, as daily ups and downs do not.
    Fewer than 20 points, less than 6 hours, or no driver known: nothing is concluded.

    Parameters
    ----------
    steps
        Table steps.
    drivers
        Table drivers of the same cluster.
    """
    out = []
    memory = steps.filter(pl.col("quantity") == "memory")
    for component in memory["component"].unique().sort():
        told = memory.filter(pl.col("component") == component).select("time", value="largest")
        rows = told.join(drivers.select("time", *DRIVER_NAMES), on="time", how="left").sort("time")
        fell = pl.col("value") < (1 - RESTART) * pl.col("value").shift()
        parts = rows.with_columns(part=fell.fill_null(value=False).cum_sum())
        for part in parts.partition_by("part", maintain_order=True):
            looks = (_leak(component, part, begin) for begin in _begins(len(part)))
            found = next((look for look in looks if look is not None), None)
            if found is not None:
                out.append(found)
    return out


def is_leak_shaped(
    medians: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Tell which memory rises like a leak: all the way, beyond what is expected, not settling.

    Parameters
    ----------
    medians
        Medians of the parts of a time between two restarts, shape (n, BINS); NaN: not known. [byte]
    expected
        Growth over that time that is explained, 1 or more.

    Examples
    --------
    >>> rising = np.arange(10.0, 20.0)[None, :]
    >>> is_leak_shaped(rising, np.ones(1)).tolist(), is_leak_shaped(rising, np.full(1, 2)).tolist()
    ([True], [False])
    """
    first, last = medians[:, 0], medians[:, -1]
    gain, middle = last - first, medians[:, BINS // 2 - 1 : BINS // 2 + 1].mean(axis=1)
    rises = (np.diff(medians, axis=1) > 0).sum(axis=1)
    is_grown = (first > 0) & (gain > 0) & (last >= _MARGIN * expected * first)
    is_late = last - middle >= _LATE * gain
    told: npt.NDArray[np.bool_] = is_grown & (rises >= _RISES) & is_late
    return told


def without(observed: pl.DataFrame, component: str, found: list[Leak]) -> pl.DataFrame:
    """Leave suspected leaks of a component out of rows with a column time."""
    for leak in found:
        if leak.component == component:
            observed = observed.filter(~pl.col("time").is_between(leak.since, leak.until))
    return observed


def _begins(points: int) -> list[int]:
    """Give where the times begin that are looked at, the longest first."""
    lengths = [points]
    while (shorter := int(lengths[-1] * _SHORTER)) >= _MIN_POINTS:
        lengths.append(shorter)
    return [points - length for length in lengths]


def _leak(component: str, whole: pl.DataFrame, begin: int) -> Leak | None:
    part, before = whole[begin:], whole["value"][:begin].to_numpy()
    seconds = part["time"].dt.epoch("s").to_numpy()
    if len(part) < _MIN_POINTS or (seconds[-1] - seconds[0]) / 3600 < MIN_HOURS:
        return None
    values = part["value"].to_numpy()
    medians = np.array([np.median(chunk) for chunk in np.array_split(values, BINS)])
    expected = _fastest(part)
    if expected is None or not is_leak_shaped(medians[None, :], np.array([expected]))[0]:
        return None
    if begin and not _stands_out(medians, before, _fastest(whole) or 1.0):
        return None
    slope = float(np.polyfit(seconds - seconds[0], values, 1)[0]) * 3600
    times = part["time"]
    growth = float(medians[-1] / medians[0])
    return Leak(component, times[0], times[-1], growth, expected, slope)


def _stands_out(
    medians: npt.NDArray[np.float64], before: npt.NDArray[np.float64], expected: float
) -> bool:
    """Tell whether a rise ends above all that was before, and holds no time that is flat."""
    steep = np.diff(medians) >= _STEEP * (medians[-1] - medians[0]) / (BINS - 1)
    return bool(steep.sum() >= _RISES and medians[-1] >= _MARGIN * expected * before.max())


def _fastest(part: pl.DataFrame) -> float | None:
    """Growth of the driver that grew most, 1 or more; None where no driver is known."""
    found = []
    for name in DRIVER_NAMES:
        values = part[name].drop_nulls().to_numpy()
        if len(values) < BINS:
            continue
        chunks = np.array_split(values, BINS)
        first, last = float(np.median(chunks[0])), float(np.median(chunks[-1]))
        # From nothing to something explains any growth
        found.append(last / first if first > 0 else 1.0 if last <= 0 else float("inf"))
    return max([1.0, *found]) if found else None
