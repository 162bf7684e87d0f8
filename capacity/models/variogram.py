"""How a series wanders: noise of single points, of its level, and of its pace, told apart."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.optimize import nnls

from capacity.models.linear_drivers import Array

_LAGS: Final = 10
_LEAST: Final = 6
_MAD: Final = 1.4826


def wander(history: Array) -> tuple[float, float]:
    """Give the variance a step by which a series' level and its pace walk at random.

    Parameters
    ----------
    history : ndarray
        Regular series, oldest first, seasons and spikes removed.

    Returns
    -------
    tuple of float
        Variance that the level gains each step, and the pace.

    Notes
    -----
    For noise σ², a level that walks by s² and a pace that walks by q² a step, the second difference
    over k steps has the variance 6·σ² + 2·k·s² + (2/3)·k³·q²; a line or a constant adds nothing.
    The three are fitted, non-negative, to variances over ten lags, each weighed by its size; they
    are told from medians, which steps do not move.

    References
    ----------
    .. [1] A. C. Harvey, Forecasting, Structural Time Series Models and the Kalman Filter (1989),
       section 2.3: the local linear trend; the variances are those of its second differences.

    Examples
    --------
    >>> walk = np.cumsum(np.random.default_rng(0).normal(0, 2, 4000))
    >>> level, pace = wander(walk)
    >>> round(level), round(pace, 2)
    (4, 0.0)
    """
    rows, told = [], []
    for k in np.unique(np.geomspace(1, max(len(history) // 6, 2), _LAGS).astype(int)):
        second = history[2 * k :] - 2 * history[k:-k] + history[: -2 * k]
        if len(second) < _LEAST:
            continue
        told.append((_MAD * float(np.median(np.abs(second - np.median(second))))) ** 2)
        rows.append((6.0, 2.0 * k, 2 / 3 * k**3))
    most = max(told, default=0.0)
    if most == 0:
        return 0.0, 0.0
    variance = np.array(told)
    weight = 1 / np.maximum(variance, 1e-3 * most)
    found, _ = nnls(np.array(rows) * weight[:, None], variance * weight)
    return float(found[1]), float(found[2])
