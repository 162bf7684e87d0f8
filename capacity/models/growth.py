"""Growth of the node count: a random walk with drift, drawn from the increments that were seen.

What is uncertain: the drift (estimated from a finite history) and the day-to-day steps, both by
a moving block bootstrap of the increments. Seasons and known events are not in this model.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError
from capacity.models.linear_drivers import Array, block_rows

MIN_STEPS: Final = 8


class NodeGrowth(BaseEstimator):  # type: ignore[misc]
    """Random walk with drift on a regular grid.

    Parameters
    ----------
    draws : int
        Bootstrap paths. [1]
    seed : int
        Seed of the bootstrap.

    Attributes
    ----------
    last_ : float
        Newest node count.
    drift_ : float
        Mean growth. [nodes per step]
    increments_ : ndarray
        Steps of the history.

    Examples
    --------
    >>> model = NodeGrowth(draws=10).fit(None, 100 + 2.0 * np.arange(20))
    >>> model.drift_, float(model.paths(5)[:, -1].mean())
    (2.0, 148.0)
    """

    def __init__(self, draws: int = 400, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed

    def fit(self, X: object, y: npt.ArrayLike) -> NodeGrowth:  # noqa: ARG002, N803
        """Fit to node counts on a regular grid, oldest first; X is not used.

        Raises
        ------
        ModelError
            If there are fewer than 8 steps or a value is not finite.
        """
        nodes = np.asarray(y, float)
        if len(nodes) < MIN_STEPS or not np.isfinite(nodes).all():
            raise ModelError(f"{len(nodes)} node counts; {MIN_STEPS} finite ones are needed")
        self.last_ = float(nodes[-1])
        self.increments_ = np.diff(nodes)
        self.drift_ = float(self.increments_.mean())
        return self

    def predict(self, X: npt.ArrayLike) -> Array:  # noqa: N803
        """Give the mean node count at steps ahead of the newest."""
        check_is_fitted(self)
        return self.last_ + self.drift_ * np.asarray(X, float)

    def paths(self, steps: int) -> Array:
        """Draw node counts 1…steps ahead, shape (draws, steps), never below 1."""
        check_is_fitted(self)
        rng = np.random.default_rng(self.seed)
        drifts = self.increments_[block_rows(len(self.increments_), self.draws, rng)].mean(axis=1)
        noise = self.increments_ - self.drift_
        rounds = -(-steps // len(noise))
        picked = np.concatenate(
            [block_rows(len(noise), self.draws, rng) for _ in range(rounds)], axis=1
        )[:, :steps]
        walk = np.cumsum(noise[picked] + drifts[:, None], axis=1)
        return np.maximum(self.last_ + walk, 1.0)

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the lower and upper end of the central prediction interval at steps ahead."""
        ahead = np.asarray(X, int)
        ends = np.quantile(
            self.paths(int(ahead.max()))[:, ahead - 1], [(1 - level) / 2, (1 + level) / 2], axis=0
        )
        return ends[0], ends[1]
