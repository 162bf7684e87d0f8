"""Daily peaks of a container, and the chance that one to come passes an amount of memory."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from numba import njit

from capacity.rightsizing.steps import Floats, Integers, Numbers, Singles

# Days ahead of which chances are told
HORIZON: Final = 14
_DAY: Final = 86_400.0
# Most days of history; a sample farther from the others has a time that is wrong
MOST_DAYS: Final = 400
# Fewer days tell no spread
_LEAST_DAYS: Final = 5
# A slope of so many standard errors is a trend; of fewer it is noise of a fortnight
_CERTAIN: Final = 2.0
# Peaks never lie closer than this, of their mean: what a fortnight did not show happens too
_LEAST_SPREAD: Final = 0.01
# Gumbel's law by moments: standard deviation = pi / sqrt(6) x scale, mean = mode + gamma x scale
_SCALE: Final = float(np.sqrt(6) / np.pi)
COLUMNS: Final = ("peak_mode", "peak_slope", "peak_scale")


def peak_law(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, many: int, width: float
) -> dict[str, Floats]:
    """Give the law of the daily peaks over all pods of each container: see COLUMNS.

    Parameters
    ----------
    offsets, steps, values
        As `Held.placed` gives them.
    owners
        Container of each unit; negative: none.
    many
        Containers.
    width
        Width of a step. [s]

    Returns
    -------
    dict
        Most probable peak of the last day and its change from day to day, and the scale of Gumbel's
        law around it; NaN where fewer than 5 days are known. [byte]

    Notes
    -----
    Mean and trend by least squares; a trend counts if it is certain (2 standard errors) and the
    second half of the days does not speak against it: a heap that fills up once and stays has none.
    Of a history longer than MOST_DAYS those around its median sample are looked at.

    References
    ----------
    .. [1] E. J. Gumbel, Statistics of Extremes (1958), chapter 5: moments of the law.
    """
    if not len(steps):
        return {name: np.full(many, np.nan) for name in COLUMNS}
    first, last = int(steps.min()), int(steps.max())
    day = max(round(_DAY / width), 1)
    if last - first > MOST_DAYS * day:
        middle, reach = int(np.median(steps)), MOST_DAYS * day // 2
        first, last = max(first, middle - reach), min(last, middle + reach)
    days = (last - first) // day + 1
    peaks = np.full((many, days), np.nan)
    _daily(offsets, steps, values, owners, first, day, peaks)
    # The last day is seldom whole, but a peak of a part of it is one
    slope, error = _line(peaks)
    late, late_error = _line(peaks[:, days // 2 :])
    lasts = late + _CERTAIN * np.nan_to_num(late_error) >= slope / 2
    slope = np.where((slope > _CERTAIN * error) & lasts, slope, 0.0)
    level = peaks + slope[:, None] * (days - 1 - np.arange(days))
    count = np.isfinite(level).sum(axis=1)
    is_told = count >= _LEAST_DAYS
    mean, spread = np.full(many, np.nan), np.full(many, np.nan)
    mean[is_told] = np.nanmean(level[is_told], axis=1)
    spread[is_told] = np.nanstd(level[is_told], axis=1, ddof=1)
    # Mean and spread are estimates of few days themselves
    wider = (count + 1) / np.maximum(count - 1, 1)
    scale = np.maximum(spread * wider, _LEAST_SPREAD * mean) * _SCALE
    return dict(zip(COLUMNS, (mean - np.euler_gamma * scale, slope, scale), strict=True))


@njit(cache=True, nogil=True)
def _daily(
    offsets: Integers, steps: Numbers, values: Singles, owners: Integers, first: int, day: int,
    peaks: Floats,
) -> None:  # pragma: no cover  # fmt: skip
    for unit in range(len(offsets) - 1):
        owner = owners[unit]
        if owner < 0:
            continue
        for k in range(offsets[unit], offsets[unit + 1]):
            number = (steps[k] - first) // day
            if number < 0 or number >= peaks.shape[1]:
                continue
            if not peaks[owner, number] >= values[k]:
                peaks[owner, number] = values[k]


def _line(peaks: Floats) -> tuple[Floats, Floats]:
    """Give the slope a day of each row, and its standard error; NaN below three days."""
    is_known = np.isfinite(peaks)
    n = is_known.sum(axis=1).astype(float)
    at = np.where(is_known, np.arange(peaks.shape[1], dtype=float), 0.0)
    value = np.where(is_known, peaks, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(is_known, at - (at.sum(axis=1) / n)[:, None], 0.0)
        y = np.where(is_known, value - (value.sum(axis=1) / n)[:, None], 0.0)
        across = (x**2).sum(axis=1)
        slope = (x * y).sum(axis=1) / across
        rest = ((y - slope[:, None] * x) ** 2).sum(axis=1)
        error = np.sqrt(rest / np.where(n > 2, n - 2, np.nan) / across)
    return slope, error


def chance_above(level: pl.Expr) -> pl.Expr:
    """Give the chance that a peak of the next HORIZON days passes a level, by columns COLUMNS.

    Notes
    -----
    Of days that do not depend on each other none passes it with exp(-sum(exp(-z))),
    z = (level - mode - slope * day) / scale.
    """
    mode, slope, scale = (pl.col(name) for name in COLUMNS)
    passing = pl.sum_horizontal(
        (-((level - mode - slope * day) / scale)).clip(-700, 700).exp()
        for day in range(1, HORIZON + 1)
    )
    return pl.when(scale.is_not_null()).then(1 - (-passing).exp())


def share_above(level: pl.Expr) -> pl.Expr:
    """Give the share of time above a level, between the percentiles that are known.

    >>> told = pl.DataFrame({"p50": [1.0], "p90": [2.0], "p95": [3.0], "p99": [4.0],
    ...                      "largest": [6.0], "level": [2.5]})
    >>> told.select(share_above(pl.col("level"))).item()
    0.075
    """
    known = (("p50", 0.5), ("p90", 0.1), ("p95", 0.05), ("p99", 0.01), ("largest", 0.0))
    out: Any = pl.when(level >= pl.col("largest")).then(0.0)
    for (low, above), (high, beyond) in zip(known, known[1:], strict=False):
        part = (level - pl.col(low)) / (pl.col(high) - pl.col(low))
        inside = (level >= pl.col(low)) & (level < pl.col(high))
        out = out.when(inside).then((above + part * (beyond - above)).round(6))
    # Below the median: half the time or more, in proportion
    rest = pl.when(pl.col("p50") > 0).then(1 - 0.5 * level / pl.col("p50")).otherwise(1.0)
    return pl.when(level.is_not_null() & pl.col("p50").is_not_null()).then(out.otherwise(rest))
