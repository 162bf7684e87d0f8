"""How good forecasts were: proper scores on arrays."""

from __future__ import annotations

from typing import Final

import numpy as np

from capacity.models.linear_drivers import Array

# Quantiles that every forecast tells
LEVELS: Final = (0.05, 0.5, 0.95, 0.99)


def pinball(truth: Array, told: Array, levels: tuple[float, ...] = LEVELS) -> Array:
    """Give the pinball loss of each forecast: mean over its quantiles, in the unit of the truth.

    Parameters
    ----------
    truth : ndarray, shape (n,)
        What came.
    told : ndarray, shape (n, levels)
        Quantiles that were told; a method that tells one number tells it at all levels.

    Notes
    -----
    At level τ: τ·(y - q) where y ≥ q, else (1 - τ)·(q - y). Its expectation is least for the true
    quantile.

    References
    ----------
    .. [1] R. Koenker, G. Bassett, Regression quantiles, Econometrica 46 (1978).

    Examples
    --------
    >>> pinball(np.array([10.0]), np.array([[8.0]]), (0.95,)).tolist()
    [1.9]
    """
    at = np.asarray(levels)
    off = truth[:, None] - told
    return np.asarray(np.maximum(at * off, (at - 1) * off).mean(axis=1))


def inside(truth: Array, low: Array, high: Array) -> float:
    """Give the share of truths within their intervals."""
    return float(np.mean((low <= truth) & (truth <= high)))


def skill(loss: float, other: float) -> float | None:
    """Give the share of another method's loss that is saved; below 0 the other is better."""
    return None if other <= 0 else 1 - loss / other
