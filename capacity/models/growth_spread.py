"""How far a forecast of growth may be off: what its history shows, and what simulation taught.

`Doubt` is told from the history at hand; `Spread` are factors on it that were tuned on simulated
clusters of many shapes, as a short past shows little of what may come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import nnls

from capacity.models.linear_drivers import Array
from capacity.models.trends import level
from capacity.models.variogram import wander

YEAR: Final = 365.0
# Errors that grow faster than their first steps show: power of their variance
_LONG: Final = 2.4


@dataclass(frozen=True, slots=True)
class Spread:
    """How wide draws spread around the laws: factors on what a history shows of its own doubt.

    The variance at h steps ahead is, beside the noise of single points, the sum of (own·E)²·h^(2·
    bend), long²·L·h^2.4, level_walk²·S·h, pace_walk²·Q·h³/3, (pace·g·h)², (level·y·h/year)² and
    (curve·g)²·h³/n, with E, L, S, Q, g, y, n of `Doubt`. Above the laws it is `up` times as wide,
    and the tails are those of Student's t. Steps come as often and as large as in the history, for
    other laws than the stepped one by `jumps` of their size, around their mean. `surprise` times a
    year comes one that the history does not foretell (a migration, a new team): by an exponential
    share of the level with mean `size`; the share `down` of them goes down, by half as much. A pace
    fades by the share `fade` a year, as growth slows more often than it quickens.
    """

    own: float
    bend: float
    long: float
    level_walk: float
    pace_walk: float
    pace: float
    level: float
    curve: float
    up: float
    jumps: float
    surprise: float
    size: float
    down: float
    freedom: float
    choice: float
    fade: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a history shows of how far a forecast of it may be off; numbers, or arrays of many.

    Root mean square of the errors at rolling origins divided by h^bend; the part of their square
    that grows with h^2.4; variances a step by which level and pace walk; mean pace with its sign;
    newest level (0 where the history never moved); steps of the history.
    """

    own: Any
    long: Any
    level_walk: Any
    pace_walk: Any
    pace: Any
    level: Any
    rows: Any


# Tuned on simulated clusters of ten shapes (benchmarks/growth_calibration.py, and by hand near its
# best, so that days and weeks ahead stay as wide as the demo's history asks): little pinball loss
# with ends that hold what they say; the clusters of docs/validation.md are others
CALIBRATED: Final = Spread(
    own=0.41,
    bend=0.5,
    long=0.3,
    level_walk=1.0,
    pace_walk=0.19,
    pace=0.072,
    level=0.053,
    curve=0.084,
    up=1.42,
    jumps=0.48,
    surprise=0.28,
    size=0.22,
    down=0.32,
    freedom=10.0,
    choice=9.5,
    fade=0.22,
)


def doubt(history: Array, ahead: Array, errors: Array, bend: float) -> Doubt:
    """Tell what a history shows of its own doubt; errors of the weighted laws at steps ahead."""
    now, rows = level(history), len(history)
    # Squares by steps ahead, each weighed by its reach: near errors are many and small
    design = np.column_stack([ahead**0.8, ahead**_LONG]) / ahead[:, None]
    found, _ = nnls(design, errors**2 / ahead)
    level_walk, pace_walk = wander(history)
    own = float(np.sqrt(np.mean((errors / ahead**bend) ** 2)))
    pace = (now - float(np.median(history[:3]))) / rows
    size = abs(now) if np.ptp(history) > 0 else 0.0
    return Doubt(own, float(found[1]), level_walk, pace_walk, pace, size, rows)


def deviation(told: Doubt, ahead: Array, per_day: float, spread: Spread) -> Array:
    """Give the standard deviation that `Spread` tells."""
    drift = spread.level * told.level / (YEAR * per_day)
    variance = (
        (spread.own * told.own * ahead**spread.bend) ** 2
        + spread.long**2 * told.long * ahead**_LONG
        + spread.level_walk**2 * told.level_walk * ahead
        + spread.pace_walk**2 * told.pace_walk * ahead**3 / 3
        + ((spread.pace * told.pace) ** 2 + drift**2) * ahead**2
        + (spread.curve * told.pace) ** 2 * ahead**3 / told.rows
    )
    return np.asarray(np.sqrt(variance))


def faded(told: Doubt, ahead: Array, per_day: float, spread: Spread) -> Array:
    """Give what a pace that fades exponentially gains less than one that lasts, with its sign.

    References
    ----------
    .. [1] E. S. Gardner, E. McKenzie, Forecasting trends in time series, Management Science 31
       (1985): damped trends; here all laws are damped, slowly, by the mean pace.
    """
    if spread.fade == 0:
        return np.zeros_like(told.pace * ahead)
    rate = spread.fade / (YEAR * per_day)
    return np.asarray(told.pace * (-np.expm1(-rate * ahead) / rate - ahead))
