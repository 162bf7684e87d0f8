"""Rules that other tools go by, to be compared with: each tells one number for a time ahead.

Nothing here is used to plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from capacity.models.decaying_histogram import DecayingHistogram
from capacity.models.linear_drivers import MIN_ROWS, Array

# (days of the history with 0 as the newest, values, days ahead) → values told
Peer = Callable[[Array, Array, Array], Array]

_WINDOW_DAYS: Final = 7.0
# Memory of VPA: daily peaks of eight days, margin 15 % (kubernetes/autoscaler, pkg/recommender
# model/aggregations_config.go and logic/recommender.go); of KRR: largest of fourteen days + 15 %
# (robusta-dev/krr, strategies/simple.py and core/models/config.py)
_VPA_DAYS: Final = 8
_KRR_DAYS: Final = 14.0
_MARGIN: Final = 1.15


def naive(days: Array, values: Array, ahead: Array) -> Array:
    """Tell the newest value."""
    del days
    return np.full(len(ahead), values[-1])


def predict_linear(days: Array, values: Array, ahead: Array) -> Array:
    """Tell what Prometheus' predict_linear over seven days does: least squares, read off."""
    newest = days >= -_WINDOW_DAYS
    if newest.sum() < 2:
        return naive(days, values, ahead)
    return np.asarray(np.polyval(np.polyfit(days[newest], values[newest], 1), ahead))


def straight_line(days: Array, values: Array, ahead: Array) -> Array:
    """Tell the least-squares line of the whole history."""
    return np.asarray(np.polyval(np.polyfit(days, values, 1), ahead))


def vpa(days: Array, values: Array, ahead: Array) -> Array:
    """Tell the target of the Vertical Pod Autoscaler for memory."""
    age = np.floor(-days)
    peaks = np.array([values[age == day].max() for day in np.unique(age)[:_VPA_DAYS][::-1]])
    if len(peaks) < MIN_ROWS:
        return naive(days, values, ahead)
    target = DecayingHistogram().fit(None, np.maximum(peaks, 0.0)).quantile(0.9)
    return np.full(len(ahead), _MARGIN * target)


def krr(days: Array, values: Array, ahead: Array) -> Array:
    """Tell the memory that KRR's simple strategy asks for."""
    return np.full(len(ahead), _MARGIN * values[days >= -_KRR_DAYS].max())


PEERS: Final[dict[str, Peer]] = {
    "naive": naive,
    "predict_linear": predict_linear,
    "straight line": straight_line,
    "VPA": vpa,
    "KRR": krr,
}
# Rules of memory only
SIZING: Final = frozenset({"VPA", "KRR"})
