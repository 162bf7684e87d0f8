"""Laws of growth: where a regular series leads, as pure functions on arrays.

Each takes a history (oldest first, seasons and spikes removed) and steps ahead, and gives the
expected values there. None has randomness; `growth.py` chooses among them and draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from capacity.models.level_steps import level_steps
from capacity.models.linear_drivers import Array

Trend = Callable[[Array, Array], Array]

# Share of the history that «recent» looks at
_RECENT: Final = 1 / 3
_NEWEST: Final = 1 / 8
# Half-life of the weights and time constants of the damping, as shares of the history
_HALF_LIFE: Final = 1 / 4
_DAMPING: Final = 1 / 2
_TIRING: Final = 4.0
_ANCHOR: Final = 3


def level(history: Array) -> float:
    """Where the history stands now: the median of its newest three points."""
    return float(np.median(history[-_ANCHOR:]))


def level_on(history: Array, pace: float) -> float:
    """Where the history stands now if it moves at a pace: newest points, each brought up to now."""
    newest = history[-_ANCHOR:]
    return float(np.median(newest + pace * np.arange(len(newest))[::-1]))


def slope(history: Array, weights: Array | None = None) -> float:
    """Give the weighted least-squares slope a step."""
    at = np.arange(len(history), dtype=float)
    w = np.ones(len(history)) if weights is None else weights
    centered = at - np.average(at, weights=w)
    power = float(w @ centered**2)
    return 0.0 if power == 0 else float(w @ (centered * history)) / power


def flat(history: Array, ahead: Array) -> Array:
    """Stay where it is: the naive forecast."""
    return np.full(len(ahead), level(history))


def drift(history: Array, ahead: Array) -> Array:
    """Go on from the newest level with the mean pace of the whole history."""
    begin = float(np.median(history[:_ANCHOR]))
    pace = (level(history) - begin) / max(len(history) - _ANCHOR, 1)
    return level_on(history, pace) + pace * ahead


def line(history: Array, ahead: Array) -> Array:
    """Go on from the newest level with the least-squares slope of the whole history."""
    pace = slope(history)
    return level_on(history, pace) + pace * ahead


def recent(history: Array, ahead: Array) -> Array:
    """Go on from the newest level with the slope of the newest third."""
    third = history[-max(int(len(history) * _RECENT), _ANCHOR + 1) :]
    pace = slope(third)
    return level_on(history, pace) + pace * ahead


def newest(history: Array, ahead: Array) -> Array:
    """Go on from the newest level with the slope of the newest eighth."""
    last = history[-max(int(len(history) * _NEWEST), _ANCHOR + 1) :]
    pace = slope(last)
    return level_on(history, pace) + pace * ahead


def damped(history: Array, ahead: Array) -> Array:
    """Go on with a slope that weighs new points more and dies out exponentially.

    References
    ----------
    .. [1] E. S. Gardner, E. McKenzie, Forecasting trends in time series, Management Science 31
       (1985): the damped trend; here with a weighted slope and a fixed time constant.
    """
    rows = len(history)
    weights = 0.5 ** (np.arange(rows)[::-1] / (rows * _HALF_LIFE))
    constant = rows * _DAMPING
    pace = slope(history, weights)
    return level_on(history, pace) + pace * constant * -np.expm1(-ahead / constant)


def exponential(history: Array, ahead: Array) -> Array:
    """Grow by the same share each step, at most e-fold a history; the share dies out slowly."""
    rows = len(history)
    pace = float(np.clip(slope(np.log(np.maximum(history, 1.0))), -1 / rows, 1 / rows))
    constant, now = rows * _TIRING, level(history)
    now = level_on(history, pace * now)
    return np.asarray(now * np.exp(pace * constant * -np.expm1(-ahead / constant)))


def stepped(history: Array, ahead: Array) -> Array:
    """Slope between the steps, plus steps as often and as large as they came so far."""
    steps = level_steps(history)
    pace = slope(steps.removed(history)) + steps.total / len(history)
    return level_on(history, pace) + pace * ahead


TRENDS: Final[dict[str, Trend]] = {
    "flat": flat,
    "drift": drift,
    "line": line,
    "recent": recent,
    "newest": newest,
    "damped": damped,
    "exponential": exponential,
    "stepped": stepped,
}
