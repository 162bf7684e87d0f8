"""Growth of a count: several laws, weighed by how they did on the series' own past.

From rolling origins each law of trends.py forecasts what was then still to come. Laws that did
well are drawn more often; how far the best were off tells how wide the draws spread. A spread
that a short past cannot show is added from simulated clusters of many shapes (`Spread`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError
from capacity.models.growth_spread import CALIBRATED, YEAR, Spread, deviation, doubt, faded
from capacity.models.level_steps import LevelSteps, level_steps
from capacity.models.linear_drivers import Array, block_rows
from capacity.models.seasons import season
from capacity.models.trends import TRENDS, level, level_on, slope

MIN_STEPS: Final = 8
_ORIGINS: Final = 12
_HORIZONS: Final = 8
# First origin, as a share of the history
_FIRST: Final = 0.35
_NAMES: Final = tuple(TRENDS)
_STEPPED: Final = _NAMES.index("stepped")
_SPIKE: Final = 6.0
_DOWN: Final = -0.5
_MAD: Final = 1.4826


class NodeGrowth(BaseEstimator):  # type: ignore[misc]
    """Growth of a count on a regular grid.

    Parameters
    ----------
    draws : int
        Drawn paths. [1]
    seed : int
        Seed of the draws.
    per_day : float
        Points a day; seasons and the spread of a year need it. [1/day]
    spread : Spread
        How wide draws spread.

    Attributes
    ----------
    last_ : float
        Newest value.
    weights_ : ndarray
        Share of draws of each law in TRENDS.
    law_errors_ : ndarray
        Median absolute error of each law at the rolling origins, as a share of what came. [1]
    law_ : str
        The law with the largest share.
    errors_ : ndarray, shape (3, m)
        Of each forecast from a rolling origin: steps ahead, error of the weighted laws, value.
    doubt_ : Doubt
        What the history shows of how far a forecast may be off.
    steps_ : LevelSteps
        Step changes of the history.

    Examples
    --------
    >>> model = NodeGrowth(draws=10).fit(None, 100 + 2.0 * np.arange(40))
    >>> float(model.predict([5]).round(1)[0])
    188.0
    """

    def __init__(
        self,
        draws: int = 400,
        seed: int = 0,
        per_day: float = 1.0,
        spread: Spread = CALIBRATED,
    ) -> None:
        self.draws = draws
        self.seed = seed
        self.per_day = per_day
        self.spread = spread

    def fit(self, X: object, y: npt.ArrayLike) -> NodeGrowth:  # noqa: ARG002, N803
        """Fit to counts on a regular grid, oldest first; X is not used.

        Parameters
        ----------
        X
            Not used.
        y
            Counts, shape (n,). [1]

        Returns
        -------
        NodeGrowth
            Itself.

        Raises
        ------
        ModelError
            If there are fewer than 8 steps or a value is not finite.
        """
        counts = np.asarray(y, float)
        if len(counts) < MIN_STEPS or not np.isfinite(counts).all():
            raise ModelError(f"{len(counts)} node counts; {MIN_STEPS} finite ones are needed")
        self.last_ = float(counts[-1])
        self.season_ = season(counts, self.per_day)
        self.history_ = _without_spikes(
            counts - self.season_.at(np.arange(len(counts), dtype=float))
        )
        self.noise_ = self.history_ - _running(self.history_)
        self.steps_ = level_steps(self.history_)
        self.ahead_, laws, truth = rolling_errors(self.history_)
        self.law_errors_ = np.median(np.abs(laws) / np.maximum(np.abs(truth), 1.0), axis=1)
        self.weights_ = law_weights(laws, self.ahead_, self.spread)
        mixed = self.weights_ @ laws
        self.errors_ = np.stack([self.ahead_, mixed, truth])
        self.doubt_ = doubt(self.history_, self.ahead_, mixed, self.spread.bend)
        self.law_ = _NAMES[int(self.weights_.argmax())]
        return self

    def predict(self, X: npt.ArrayLike) -> Array:  # noqa: N803
        """Give the expected count at steps ahead of the newest.

        Parameters
        ----------
        X
            Steps ahead, shape (m,). [step]

        Returns
        -------
        ndarray, shape (m,)
            Counts. [1]
        """
        check_is_fitted(self)
        ahead = np.asarray(X, float)
        laws = np.stack([law(self.history_, ahead) for law in TRENDS.values()])
        return np.asarray(self.weights_ @ laws + self._faded(ahead) + self._season(ahead))

    def _faded(self, ahead: Array) -> Array:
        return faded(self.doubt_, ahead, self.per_day, self.spread)

    def _season(self, ahead: Array) -> Array:
        return np.asarray(self.season_.at(len(self.history_) - 1 + ahead))

    def paths(self, steps: int) -> Array:
        """Draw counts 1…steps ahead, shape (draws, steps), never below 1.

        Parameters
        ----------
        steps
            How far to look. [step]

        Returns
        -------
        ndarray, shape (draws, steps)
            Counts. [1]
        """
        check_is_fitted(self)
        rng = np.random.default_rng(self.seed)
        ahead = np.arange(1.0, steps + 1)
        laws = np.stack([law(self.history_, ahead) for law in TRENDS.values()])
        picked = rng.choice(len(laws), size=self.draws, p=self.weights_)
        centers = self._with_steps(laws[picked], picked == _STEPPED, ahead, rng)
        turn = rng.standard_t(self.spread.freedom, size=(self.draws, 1))
        turn = np.where(turn > 0, turn * self.spread.up, turn)
        rounds = -(-steps // len(self.noise_))
        rows = np.concatenate(
            [block_rows(len(self.noise_), self.draws, rng) for _ in range(rounds)], axis=1
        )[:, :steps]
        walk = (
            centers
            + self._faded(ahead)
            + self._surprises(steps, rng)
            + turn * self.deviation(ahead)
            + self.noise_[rows]
            + self._season(ahead)
        )
        return np.asarray(np.maximum(walk, 1.0))

    def _with_steps(self, centers: Array, stepped: Array, ahead: Array, rng: Generator) -> Array:
        """Add steps as often and as large as in the history.

        A path of the law «stepped» rests on them alone; the pace of others holds their mean.
        """
        steps: LevelSteps = self.steps_
        if len(steps.sizes) == 0:
            return centers
        come = self.steps_to_come(self.draws, len(ahead), rng)
        expected = (len(steps.sizes) + 0.5) / len(self.history_) * steps.sizes.mean() * ahead
        pace = slope(steps.removed(self.history_))
        alone = level_on(self.history_, pace) + pace * ahead + come
        others = centers + self.spread.jumps * (come - expected)
        return np.asarray(np.where(stepped[:, None], alone, others))

    def steps_to_come(self, many: int, ahead: int, rng: Generator) -> Array:
        """Draw sums of the steps that come.

        Parameters
        ----------
        many
            Paths to draw. [1]
        ahead
            How far to look. [step]
        rng
            Where chance comes from.

        Returns
        -------
        ndarray, shape (many, ahead)
            What the steps add up to by then. [1]
        """
        sizes = self.steps_.sizes
        if len(sizes) == 0:
            return np.zeros((many, ahead))
        rates = rng.gamma(len(sizes) + 0.5, 1 / len(self.history_), size=(many, 1))
        come = rng.random((many, ahead)) < rates
        return np.asarray(np.cumsum(come * rng.choice(sizes, size=come.shape), axis=1))

    def _surprises(self, steps: int, rng: Generator) -> Array:
        """Draw a step that nothing foretold: at most one a path, at any time."""
        spread = self.spread
        rate = spread.surprise / (YEAR * self.per_day)
        if rate == 0 or np.ptp(self.history_) == 0:
            return np.zeros((self.draws, steps))
        shape = (self.draws, 1)
        come = rng.exponential(1 / rate, size=shape)
        size = rng.exponential(spread.size * abs(level(self.history_)), size=shape)
        size = np.where(rng.random(shape) < spread.down, _DOWN * size, size)
        return np.asarray(np.where(np.arange(1, steps + 1) >= come, size, 0.0))

    def deviation(self, ahead: Array) -> Array:
        """Give the standard deviation of draws around a law at steps ahead, points' noise apart.

        Parameters
        ----------
        ahead
            Steps ahead, shape (m,). [step]

        Returns
        -------
        ndarray, shape (m,)
            Of counts. [1]
        """
        return deviation(self.doubt_, ahead, self.per_day, self.spread)

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the lower and upper end of the central prediction interval at steps ahead.

        Parameters
        ----------
        X
            Steps ahead, as for `predict`. [step]
        level
            Of the interval, 0…1. [1]

        Returns
        -------
        lower, upper : ndarray, shape (m,)
            Counts. [1]
        """
        ahead = np.asarray(X, int)
        ends = np.quantile(
            self.paths(int(ahead.max()))[:, ahead - 1], [(1 - level) / 2, (1 + level) / 2], axis=0
        )
        return ends[0], ends[1]


def rolling_errors(history: Array) -> tuple[Array, Array, Array]:
    """Forecast from rolling origins what then came.

    Returns
    -------
    ahead : ndarray, shape (m,)
        Steps ahead of each forecast.
    errors : ndarray, shape (laws, m)
        Truth minus forecast of each law of TRENDS.
    truth : ndarray, shape (m,)
        What came: a median of three points, as single points have noise of their own.
    """
    rows = len(history)
    smooth = _running(history)
    first = max(int(_FIRST * rows), 4)
    origins = np.unique(np.linspace(first, rows - 1, _ORIGINS + 1).astype(int)[:-1])
    ahead, errors, truth = [], [], []
    for origin in origins:
        most = rows - origin
        steps = np.unique(np.geomspace(max(most / 8, 1), most, _HORIZONS).astype(int))
        came = smooth[origin - 1 + steps]
        past = history[:origin]
        errors.append([came - law(past, steps.astype(float)) for law in TRENDS.values()])
        ahead.append(steps.astype(float))
        truth.append(came)
    return (
        np.concatenate(ahead), np.concatenate([np.array(e) for e in errors], axis=1),
        np.concatenate(truth),
    )  # fmt: skip


def law_weights(errors: Array, ahead: Array, spread: Spread) -> Array:
    """Weigh laws by their error at rolling origins: 1 / error^choice, errors divided by h^bend."""
    size = np.sqrt(np.mean((errors / ahead**spread.bend) ** 2, axis=1))
    least = max(float(size.min()), 1e-9)
    share = (least / np.maximum(size, least)) ** spread.choice
    return np.asarray(share / share.sum())


def _running(history: Array) -> Array:
    """Median of three points around each; the ends stay."""
    out = history.copy()
    out[1:-1] = np.median(np.stack([history[:-2], history[1:-1], history[2:]]), axis=0)
    return out


def _without_spikes(history: Array) -> Array:
    """Replace single points that stand out of their neighbors, as a half-failed scrape makes."""
    smooth = _running(history)
    off = np.abs(history - smooth)
    spread = _MAD * float(np.median(off))
    return np.where(off > _SPIKE * max(spread, 0.005 * abs(level(history))), smooth, history)
