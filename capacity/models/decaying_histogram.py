"""A quantity as the decaying histogram that the Vertical Pod Autoscaler keeps of it.

It knows levels, not growth: what it tells is the same at any time ahead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError
from capacity.models.linear_drivers import MIN_ROWS, Array


class DecayingHistogram(BaseEstimator):  # type: ignore[misc]
    """Quantiles of a histogram whose buckets grow and whose samples lose weight with age.

    Parameters
    ----------
    half_life : float
        Rows after which a sample has half its weight.
    growth : float
        Each bucket is so much wider than the one below. [1]
    first : float
        Width of the lowest bucket, in the unit of the quantity.
    percentile : float
        Told by `predict`. [1]

    Attributes
    ----------
    starts_, weights_ : ndarray
        Lower ends of buckets that hold samples, and the share of the weight in each.

    Notes
    -----
    Defaults of half-life (24 h), growth (5 %), percentile (0.9) and lowest bucket of memory (10^7
    byte) are those of kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/model
    (aggregations_config.go) and logic (recommender.go), read 2026-11.

    Examples
    --------
    >>> model = DecayingHistogram(first=1.0).fit(None, [100.0] * 20)
    >>> low, high = model.interval([1])
    >>> bool(low[0] <= 100 <= high[0])
    True
    """

    def __init__(
        self,
        half_life: float = 1.0,
        growth: float = 0.05,
        first: float = 1e7,
        percentile: float = 0.9,
    ) -> None:
        self.half_life = half_life
        self.growth = growth
        self.first = first
        self.percentile = percentile

    def fit(self, X: object, y: npt.ArrayLike) -> DecayingHistogram:  # noqa: ARG002, N803
        """Fit to rows in time order; X is not used.

        Parameters
        ----------
        X
            Not used.
        y
            Values, oldest first; shape (n,).

        Returns
        -------
        DecayingHistogram
            Itself.

        Raises
        ------
        ModelError
            If there are fewer than 5 rows, or a value is not finite or below 0.
        """
        values = np.asarray(y, float)
        if len(values) < MIN_ROWS:
            raise ModelError(f"{len(values)} points in time; at least {MIN_ROWS} are needed")
        if not np.isfinite(values).all() or (values < 0).any():
            raise ModelError("a value is not finite or below 0; leave such rows out")
        bucket = np.floor(
            np.log1p(values / self.first * self.growth) / np.log1p(self.growth)
        ).astype(int)
        age = np.arange(len(values))[::-1]
        held, where = np.unique(bucket, return_inverse=True)
        weights = np.bincount(where, weights=0.5 ** (age / self.half_life))
        self.starts_ = self._start(held)
        self.ends_ = self._start(held + 1)
        self.weights_ = weights / weights.sum()
        return self

    def _start(self, bucket: npt.NDArray[np.int64]) -> Array:
        return np.asarray(self.first * ((1 + self.growth) ** bucket - 1) / self.growth)

    def quantile(self, level: float, *, end: bool = True) -> float:
        """Give the upper (or lower) end of the bucket that holds a quantile.

        Parameters
        ----------
        level
            0…1. [1]
        end
            Upper end of the bucket, else the lower.

        Returns
        -------
        float
            In the unit of y.
        """
        check_is_fitted(self)
        held = np.cumsum(self.weights_)
        at = min(int(np.searchsorted(held, level - 1e-12)), len(held) - 1)
        return float((self.ends_ if end else self.starts_)[at])

    def predict(self, X: npt.ArrayLike) -> Array:  # noqa: N803
        """Give the percentile, the same for each row of X.

        Parameters
        ----------
        X
            Only its length counts.

        Returns
        -------
        ndarray, shape (m,)
            In the unit of y.
        """
        return np.full(len(np.asarray(X)), self.quantile(self.percentile))

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the buckets' ends around the central interval, the same for each row of X.

        Parameters
        ----------
        X
            Only its length counts.
        level
            Of the interval, 0…1. [1]

        Returns
        -------
        lower, upper : ndarray, shape (m,)
            In the unit of y.
        """
        rows = len(np.asarray(X))
        low = self.quantile((1 - level) / 2, end=False)
        return np.full(rows, low), np.full(rows, self.quantile((1 + level) / 2))
