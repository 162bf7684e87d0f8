"""Weekly and daily seasons of a regular series, taken only where they repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from capacity.models.linear_drivers import Array

_WEEK_DAYS: Final = 7
_LEAST_WEEKS: Final = 3
_LEAST_DAYS: Final = 5
# A profile of the first half must take away so much of the variance of the second half
_REPEATS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Season:
    """A profile that repeats: its mean is 0; `profile[0]` is the phase of the series' start."""

    profile: Array

    def at(self, steps: Array) -> Array:
        """Season at steps counted from the start of the series."""
        if len(self.profile) == 0:
            return np.zeros(len(steps))
        return np.asarray(self.profile[steps.astype(int) % len(self.profile)])


def season(history: Array, per_day: float) -> Season:
    """Find the season of a series: of a day, of a week, or both; none where nothing repeats.

    Parameters
    ----------
    history : ndarray
        Regular series, oldest first.
    per_day : float
        Points a day. A season is looked for where a day or week is a whole number of them, and
        the history holds three weeks or five days.

    Notes
    -----
    Of each season the profile of the first half is held against the second half. The one that
    takes most of its variance away is taken, if that is a fifth or more.
    """
    best, left = Season(np.empty(0)), 1 - _REPEATS
    for days, least in ((_WEEK_DAYS, _LEAST_WEEKS), (1, _LEAST_DAYS)):
        period = round(days * per_day)
        if period < 2 or abs(period - days * per_day) > 1e-6 or len(history) < least * period:
            continue
        rest = history - _smooth(history, period)
        half = len(history) // 2 // period * period
        late, at = rest[half:], np.arange(len(rest) - half)
        for profile in (_profile, _days_and_hours) if days > 1 else (_profile,):
            early = profile(rest[:half], period)
            share = (late - early[at % period]).var() / max(late.var(), 1e-300)
            if share <= left:
                best, left = Season(profile(rest, period)), share
    return best


def _days_and_hours(rest: Array, period: int) -> Array:
    """Profile of a week as that of a day plus one number a weekday: fewer numbers than hours."""
    hours = period // _WEEK_DAYS
    if hours < 2 or hours * _WEEK_DAYS != period:
        return _profile(rest, period)
    daily = _profile(rest, hours)
    above = rest - daily[np.arange(len(rest)) % hours]
    weekday = np.arange(len(rest)) // hours % _WEEK_DAYS
    offsets = np.array([np.median(above[weekday == day]) for day in range(_WEEK_DAYS)])
    out = np.tile(daily, _WEEK_DAYS) + np.repeat(offsets, hours)
    return np.asarray(out - out.mean())


def _smooth(history: Array, period: int) -> Array:
    """Mean over one period around each point; at the ends the line through the nearest ones."""
    sums = np.cumsum(np.append(0.0, history))
    means = (sums[period:] - sums[:-period]) / period
    middle = np.arange(len(means)) + (period - 1) / 2
    at = np.arange(len(history), dtype=float)
    out = np.interp(at, middle, means)
    reach = min(period, len(means) - 1)
    first = (means[reach] - means[0]) / reach
    last = (means[-1] - means[-1 - reach]) / reach
    out = np.where(at < middle[0], means[0] + first * (at - middle[0]), out)
    return np.asarray(np.where(at > middle[-1], means[-1] + last * (at - middle[-1]), out))


def _profile(rest: Array, period: int) -> Array:
    medians = np.array([np.median(rest[phase::period]) for phase in range(period)])
    return np.asarray(medians - medians.mean())
