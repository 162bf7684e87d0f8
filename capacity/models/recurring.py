"""What recurs by day or week in a quantity beside its drivers: traffic has weekends, memory none.

The season is a share of the quantity: with twice the traffic its weekends are twice as deep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from capacity.models.linear_drivers import Array
from capacity.models.seasons import Season, season

# A median of n values tells the mean as pi/2 times fewer do: H. Cramer, Mathematical Methods of
# Statistics (1946), section 28.5
_MEDIAN: Final = np.pi / 2
# Never more than this share below what drivers explain: a profile of few weeks is rough
_DEEPEST: Final = -0.9


@dataclass(frozen=True, slots=True)
class Recurring:
    """A season as a share of a quantity; `newest` is the newest row's step since its start."""

    season: Season
    newest: int

    @property
    def spent(self) -> float:
        """Rows' worth of information that its profile took."""
        return _MEDIAN * len(self.season.profile)

    def factor(self, ahead: Array) -> Array:
        """Give what to multiply by at steps ahead of the newest row, behind it where negative."""
        return np.asarray(1 + np.maximum(self.season.at(self.newest + ahead), _DEEPEST))

    def drawn(self, draws: int, rng: np.random.Generator) -> Array:
        """Draw factors of any time of the day and week, shape (draws,)."""
        if len(self.season.profile) == 0:
            return np.ones(draws)
        return np.asarray(1 + np.maximum(rng.choice(self.season.profile, draws), _DEEPEST))


def recurring(behind: Array, values: Array, fitted: Array, per_day: float) -> Recurring:
    """Find what recurs in a quantity beside what its drivers explain.

    Parameters
    ----------
    behind : ndarray
        Steps of each row before the newest, whole numbers, falling to 0; gaps are bridged.
    values, fitted : ndarray
        The quantity, and what its drivers explain of it.
    per_day : float
        Steps a day.

    Examples
    --------
    >>> days = np.arange(60.0)
    >>> found = recurring(days[::-1], 100.0 + 50 * (days % 7 < 5), np.full(60, 136.0), 1.0)
    >>> (found.factor(np.array([1.0, 3.0])) > 1).tolist()
    [True, False]
    """
    newest = round(float(behind[0])) if len(behind) else 0
    if len(fitted) == 0 or fitted.min() <= 0:
        return Recurring(Season(np.empty(0)), newest)
    share = values / fitted - 1
    grid = np.interp(np.arange(newest + 1.0), newest - behind, share)
    return Recurring(season(grid, per_day), newest)
