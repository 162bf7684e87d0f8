"""Growth of a count: several laws, weighed by how they did on the series' own past.

From rolling origins each law of trends.py forecasts what was then still to come. Laws that did
well are drawn more often; how far the best were off tells how wide the draws spread. A spread
that a short past cannot show is added from simulated clusters of many shapes (`Spread`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError
from capacity.models.level_steps import LevelSteps, level_steps
from capacity.models.linear_drivers import Array, block_rows
from capacity.models.seasons import season
from capacity.models.trends import TRENDS, level, level_on, slope

MIN_STEPS: Final = 8
_ORIGINS: Final = 12
_HORIZONS: Final = 8
# First origin, as a share of the history
_FIRST: Final = 0.35
_YEAR: Final = 365.0
_NAMES: Final = tuple(TRENDS)
_STEPPED: Final = _NAMES.index("stepped")
_SPIKE: Final = 6.0
SURPRISE_SIZE: Final = 0.25
_MAD: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Spread:
    """How wide draws spread around the laws.

    The standard deviation at h steps ahead is, beside the noise of single points,
    sqrt((own·E·h^bend)² + (pace·g·h)² + (level·y·h/year)²): E, root mean square of the errors at
    the rolling origins divided by h^bend; g, pace of the history; y, newest level.
    Above the laws it is `up` times as wide, and the tails are those of Student's t. `surprise`
    times a year a step comes that the history does not foretell (a migration, a new team): up by
    an exponential share of the level with mean `SURPRISE_SIZE`.
    """

    own: float
    bend: float
    pace: float
    level: float
    up: float
    surprise: float
    freedom: float
    choice: float


# Least pinball loss with 90 % intervals that cover 90 % on simulated clusters of ten shapes:
# benchmarks/growth_calibration.py; the clusters of docs/validation.md are others
CALIBRATED: Final = Spread(
    own=0.5, bend=0.4, pace=0.06, level=0.12, up=1.3, surprise=0.12, freedom=10.0, choice=4.0
)


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
        self.law_ = _NAMES[int(self.weights_.argmax())]
        return self

    def predict(self, X: npt.ArrayLike) -> Array:  # noqa: N803
        """Give the expected count at steps ahead of the newest."""
        check_is_fitted(self)
        ahead = np.asarray(X, float)
        laws = np.stack([law(self.history_, ahead) for law in TRENDS.values()])
        return np.asarray(self.weights_ @ laws + self._season(ahead))

    def _season(self, ahead: Array) -> Array:
        return np.asarray(self.season_.at(len(self.history_) - 1 + ahead))

    def paths(self, steps: int) -> Array:
        """Draw counts 1…steps ahead, shape (draws, steps), never below 1."""
        check_is_fitted(self)
        rng = np.random.default_rng(self.seed)
        ahead = np.arange(1.0, steps + 1)
        laws = np.stack([law(self.history_, ahead) for law in TRENDS.values()])
        picked = rng.choice(len(laws), size=self.draws, p=self.weights_)
        centers = laws[picked]
        jumping = picked == _STEPPED
        centers[jumping] = self._jumps(int(jumping.sum()), ahead, rng)
        turn = rng.standard_t(self.spread.freedom, size=(self.draws, 1))
        turn = np.where(turn > 0, turn * self.spread.up, turn)
        rounds = -(-steps // len(self.noise_))
        rows = np.concatenate(
            [block_rows(len(self.noise_), self.draws, rng) for _ in range(rounds)], axis=1
        )[:, :steps]
        walk = (
            centers
            + self._surprises(steps, rng)
            + turn * self.deviation(ahead)
            + self.noise_[rows]
            + self._season(ahead)
        )
        return np.asarray(np.maximum(walk, 1.0))

    def _jumps(self, many: int, ahead: Array, rng: np.random.Generator) -> Array:
        """Draw paths with steps as often and as large as in the history."""
        steps: LevelSteps = self.steps_
        pace = slope(steps.removed(self.history_))
        start = level_on(self.history_, pace) + pace * ahead
        if len(steps.sizes) == 0:
            return np.broadcast_to(start, (many, len(ahead)))
        rates = rng.gamma(len(steps.sizes) + 0.5, 1 / len(self.history_), size=(many, 1))
        come = rng.random((many, len(ahead))) < rates
        sizes = rng.choice(steps.sizes, size=come.shape)
        return np.asarray(start + np.cumsum(come * sizes, axis=1))

    def _surprises(self, steps: int, rng: np.random.Generator) -> Array:
        """Draw a step that nothing foretold: at most one a path, at any time."""
        rate = self.spread.surprise / (_YEAR * self.per_day)
        if rate == 0 or np.ptp(self.history_) == 0:
            return np.zeros((self.draws, steps))
        come = rng.exponential(1 / rate, size=(self.draws, 1))
        size = rng.exponential(SURPRISE_SIZE * abs(level(self.history_)), size=(self.draws, 1))
        return np.asarray(np.where(np.arange(1, steps + 1) >= come, size, 0.0))

    def deviation(self, ahead: Array) -> Array:
        """Give the standard deviation of draws around a law at steps ahead, points' noise apart."""
        return deviation(self.history_, self.errors_, ahead, self.per_day, self.spread)

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the lower and upper end of the central prediction interval at steps ahead."""
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


def deviation(history: Array, errors: Array, ahead: Array, per_day: float, spread: Spread) -> Array:
    """Give the standard deviation that `Spread` tells. `errors` as NodeGrowth.errors_."""
    own = spread.own * np.sqrt(np.mean((errors[1] / errors[0] ** spread.bend) ** 2))
    now = abs(level(history))
    pace = spread.pace * abs(now - float(np.median(history[:3]))) / len(history)
    drift = spread.level * now / (_YEAR * per_day) if np.ptp(history) > 0 else 0.0
    return np.asarray(np.sqrt((own * ahead**spread.bend) ** 2 + (pace**2 + drift**2) * ahead**2))


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
