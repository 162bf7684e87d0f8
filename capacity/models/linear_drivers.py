"""A quantity as a sum of non-negative costs per driver: y = base + Σ cost × driver.

Costs that Cilium's arithmetic gives are fixed; the rest is fitted. Intervals come from a moving
block bootstrap of the residuals: blocks keep autocorrelated noise from faking evidence, and the
drivers stay as they were, so that no draw loses the few steps at which one of them moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from capacity.errors import ModelError

Array = npt.NDArray[np.float64]

MIN_ROWS: Final = 5
# Tuning constant of Huber's M-estimator, 95 % efficient at the normal: P. J. Huber, Robust
# Statistics (1981), section 4.5; MAD to standard deviation 1.4826: ibid., section 5.1.
_HUBER: Final = 1.345
_MAD: Final = 1.4826
# Standard deviation of the bend γ beyond the data: at twice the observed size one in three draws
# is off by more than 10 %. A judgment, told as such in docs/explanation.md; the backtests of a
# simulated cluster with known truth show what it covers.
EXTRAPOLATION_SD: Final = 0.15


def block_rows(rows: int, draws: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Row numbers of a moving block bootstrap, shape (draws, rows).

    Block length is the cube root of the rows, rounded up.

    References
    ----------
    .. [1] H. R. Künsch, The jackknife and the bootstrap for general stationary observations,
       Annals of Statistics 17 (1989), section 2; length n^(1/3): P. Hall, J. Horowitz, B. Jing,
       On blocking rules for the bootstrap with dependent data, Biometrika 82 (1995), eq. 1.1.
    """
    length = int(np.ceil(rows ** (1 / 3)))
    blocks = -(-rows // length)
    starts = rng.integers(0, rows - length + 1, size=(draws, blocks))
    picked = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)
    return picked[:, :rows]


def asked(drivers: npt.ArrayLike, fitted: int) -> Array:
    """Give drivers that a model is asked about, shape (m, fitted).

    Raises
    ------
    ModelError
        If they are not those that it was fitted to.
    """
    out = np.asarray(drivers, float)
    if out.ndim != 2 or out.shape[1] != fitted:
        raise ModelError(
            f"{fitted} drivers were fitted, asked about is {out.shape}: give a row a value "
            "wanted, columns as in fit"
        )
    return out


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Prior costs as rows of data: design, target, and the noise both are scaled by."""

    design: Array
    target: Array
    noise: float = 0.0


def checked(drivers: npt.ArrayLike, target: npt.ArrayLike, what: str) -> tuple[Array, Array]:
    """Give drivers and what they move as arrays that a fit can use.

    Raises
    ------
    ModelError
        If there are fewer than 5 rows, or a value is not finite.
    """
    x, y = np.asarray(drivers, float), np.asarray(target, float)
    if x.ndim != 2 or y.shape != (len(x),):
        raise ModelError(f"drivers {x.shape} and target {y.shape} do not fit")
    if len(y) < MIN_ROWS:
        raise ModelError(f"{len(y)} {what}; at least {MIN_ROWS} are needed")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ModelError("a driver or target is not finite; leave such rows out")
    return x, y


class LinearDrivers(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative linear model with fixed and fitted costs.

    Parameters
    ----------
    fixed : sequence of float, optional
        Cost of each driver, nan where it is to be fitted; all fitted where left out.
    draws : int
        Bootstrap draws. [1]
    seed : int
        Seed of the bootstrap.
    prior : sequence of (mean, standard deviation), optional
        What is believed of each cost beforehand, nan where nothing is. It weighs as much as a row
        of data that told the cost with this deviation: the more data, the less it counts.
    bend : float
        Standard deviation of the bend beyond the data. [1]
    spent : float
        Rows' worth of information that was taken from the target before, as a season's profile
        is: residuals are wider for it. [1]

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Cost of one unit of each driver, at least 0.
    intercept_ : float
        Base, at least 0.
    draws_ : ndarray, shape (draws, p + 1)
        Bootstrap draws of (base, costs).
    residuals_ : ndarray, shape (n,)
        Rows minus fit, widened by sqrt(n / (n - fitted terms)).
    shift_ : float
        Where the newest rows lie beside the fit (median of three), weighted by how persistent
        such offsets are: the lag-1 autocorrelation of the residuals, or 1 where a history of less
        than 20 rows cannot tell. Forecasts start from where the cluster is.
    memory_ : tuple of float
        Autocorrelation of the residuals one row apart, and the share of it that each further row
        leaves: how an offset dies out over time, and its doubt comes back.

    Examples
    --------
    >>> x = np.arange(20.0)[:, None]
    >>> model = LinearDrivers(draws=50).fit(x, 7 + 3 * x[:, 0])
    >>> round(model.intercept_, 6), model.coef_.round(6).tolist()
    (7.0, [3.0])
    """

    def __init__(
        self,
        fixed: tuple[float, ...] | None = None,
        draws: int = 400,
        seed: int = 0,
        prior: tuple[tuple[float, float], ...] | None = None,
        spent: float = 0.0,
        bend: float = EXTRAPOLATION_SD,
    ) -> None:
        self.fixed = fixed
        self.draws = draws
        self.seed = seed
        self.prior = prior
        self.spent = spent
        self.bend = bend

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> LinearDrivers:  # noqa: N803
        """Fit to rows in time order.

        Parameters
        ----------
        X
            Drivers, shape (n, p), oldest row first.
        y
            What they move, shape (n,), in any unit.

        Returns
        -------
        LinearDrivers
            Itself.

        Raises
        ------
        ModelError
            If there are fewer than 5 rows, or a value is not finite.
        """
        drivers, target = checked(X, y, "points in time")
        fixed = np.full(drivers.shape[1], np.nan) if self.fixed is None else np.asarray(self.fixed)
        offset = drivers @ np.nan_to_num(fixed)
        free = np.isnan(fixed)
        design = np.column_stack([np.ones(len(target)), drivers[:, free]])
        beliefs = self._beliefs(design, target - offset, free)
        beta, weights = _robust_nnls(design, target - offset, beliefs)
        self.intercept_, self.coef_ = float(beta[0]), fixed.copy()
        self.coef_[free] = beta[1:]
        residuals = target - offset - design @ beta
        spare = max(len(target) - int(np.count_nonzero(beta)) - self.spent, 1)
        self.residuals_ = residuals * np.sqrt((len(target) + self.spent) / spare)
        self.memory_ = _memory(residuals)
        self.shift_ = self.memory_[0] * float(np.median(residuals[-3:]))
        self.n_features_in_ = drivers.shape[1]
        self.draws_ = self._bootstrap(design, design @ beta, weights, beliefs)
        return self

    def _beliefs(self, design: Array, target: Array, free: npt.NDArray[np.bool_]) -> Beliefs:
        """Give prior costs as rows of data, in the scale of the residuals."""
        columns = design.shape[1]
        if self.prior is None:
            return Beliefs(np.empty((0, columns)), np.empty(0))
        beta, _ = _robust_nnls(design, target, Beliefs(np.empty((0, columns)), np.empty(0)))
        noise = _MAD * float(np.median(np.abs(target - design @ beta)))
        noise = max(noise, 1e-6 * float(np.abs(target).max()))
        told = np.asarray(self.prior, float)[free]
        known = np.isfinite(told).all(axis=1)
        rows = np.zeros((int(known.sum()), columns))
        rows[np.arange(len(rows)), 1 + np.flatnonzero(known)] = noise / told[known, 1]
        return Beliefs(rows, told[known, 0] * noise / told[known, 1], noise)

    def _bootstrap(self, design: Array, fitted: Array, weights: Array, beliefs: Beliefs) -> Array:
        rng = np.random.default_rng(self.seed)
        free = np.ones(self.n_features_in_, bool) if self.fixed is None else np.isnan(self.fixed)
        out = np.empty((self.draws, self.n_features_in_ + 1))
        out[:, 1:] = self.coef_
        shaken = rng.normal(size=(self.draws, len(beliefs.target))) * beliefs.noise
        both = np.vstack([design, beliefs.design])
        heavy = np.append(weights, np.ones(len(beliefs.target)))
        rows = block_rows(len(fitted), self.draws, rng)
        told = np.hstack([fitted + self.residuals_[rows], beliefs.target + shaken])
        beta = _nnls_many(both, told, heavy)
        out[:, 0] = beta[:, 0]
        out[:, 1:][:, free] = beta[:, 1:]
        return out

    def predict(self, X: npt.ArrayLike) -> Array:  # noqa: N803
        """Give the fit at rows of drivers, with the newest offset.

        Parameters
        ----------
        X
            Drivers, a row a value wanted, columns as in `fit`; shape (m, p).

        Returns
        -------
        ndarray, shape (m,)
            In the unit of y.
        """
        check_is_fitted(self)
        drivers = asked(X, self.n_features_in_)
        return np.asarray(self.intercept_ + self.shift_ + drivers @ self.coef_)

    def sample(
        self,
        X: npt.ArrayLike,  # noqa: N803
        *,
        reach: npt.ArrayLike = 1.0,
        ahead: npt.ArrayLike | None = None,
    ) -> Array:
        """Give draws of a future value, shape (draws, m).

        Parameters
        ----------
        X : array, shape (m, p) or (draws, m, p)
            Drivers; a set for each draw carries the uncertainty of the drivers along.
        reach : array, shape (m,)
            Size divided by the largest size observed. Beyond 1 the part that grows is multiplied
            by reach^γ, γ ~ N(0, `bend`): a line that held so far may bend. Terms fixed
            by Cilium's arithmetic do not bend.
        ahead : array, shape (m,), optional
            Rows are times so many steps ahead: each has noise of its own, and the newest offset
            dies out as `memory_` tells. Where left out a draw keeps its noise in all rows, so that
            more load never needs less.

        Returns
        -------
        ndarray, shape (draws, m)
            In the unit of y.
        """
        check_is_fitted(self)
        rng = np.random.default_rng(self.seed + 1)
        drivers = np.asarray(X, float)
        if drivers.ndim != 3:
            drivers = asked(X, self.n_features_in_)
            drivers = np.broadcast_to(drivers, (self.draws, *drivers.shape))
        free = np.ones(self.n_features_in_, bool) if self.fixed is None else np.isnan(self.fixed)
        sure = np.einsum("bmp,bp->bm", drivers[:, :, ~free], self.draws_[:, 1:][:, ~free])
        grown = np.einsum("bmp,bp->bm", drivers[:, :, free], self.draws_[:, 1:][:, free])
        bend = rng.normal(0, self.bend, self.draws)[:, None]
        left, doubt = (1.0, 1.0) if ahead is None else self._offset(np.asarray(ahead, float))
        noise = rng.choice(self.residuals_, (self.draws, 1 if ahead is None else drivers.shape[1]))
        stretch = np.maximum(np.asarray(reach, float), 1.0) ** bend
        drawn = self.draws_[:, :1] + self.shift_ * left + sure + grown * stretch + doubt * noise
        return np.asarray(drawn)

    def _offset(self, ahead: Array) -> tuple[Array, Array]:
        """Share of the newest offset that is left so many steps ahead, and of the noise's width."""
        first, lasting = self.memory_
        if len(self.residuals_) < _TELLS_PERSISTENCE:
            return np.ones(len(ahead)), np.ones(len(ahead))
        known = first * min(lasting, _SLOWEST) ** (ahead - 1)
        return lasting ** (ahead - 1), np.sqrt(1 - np.minimum(known, _MOST_KNOWN) ** 2)

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the lower and upper end of the central prediction interval.

        Parameters
        ----------
        X
            Drivers, a row a value wanted, columns as in `fit`; shape (m, p).
        level
            Of the interval, 0…1. [1]

        Returns
        -------
        lower, upper : ndarray, shape (m,)
            In the unit of y.
        """
        ends = np.quantile(self.sample(X), [(1 - level) / 2, (1 + level) / 2], axis=0)
        return ends[0], ends[1]


def _nnls(design: Array, target: Array, weights: Array) -> Array:
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    root = np.sqrt(weights)
    beta, _ = nnls(design / scale * root[:, None], target * root)
    return np.asarray(beta / scale)


def _nnls_many(design: Array, targets: Array, weights: Array) -> Array:
    """Fit many targets (draws × rows) to one design, as `_nnls` does each.

    Where least squares alone gives no negative cost, it is the non-negative solution too.
    """
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    root = np.sqrt(weights)
    q, r = np.linalg.qr(design / scale * root[:, None])
    seen = (targets * root) @ q
    turned = np.abs(np.diag(r))
    if r.shape[0] == r.shape[1] and turned.min() > 1e-9 * turned.max():
        beta = np.linalg.solve(r, seen.T).T
        wrong = np.flatnonzero((beta < 0).any(axis=1))
    else:
        beta, wrong = np.empty((len(targets), design.shape[1])), np.arange(len(targets))
    for i in wrong:
        beta[i], _ = nnls(r, seen[i])
    return np.asarray(beta / scale)


def _robust_nnls(design: Array, target: Array, beliefs: Beliefs) -> tuple[Array, Array]:
    """Fit with Huber weights: one outlier among the rows (another program's maps) bends nothing."""
    weights, certain = np.ones(len(target)), np.ones(len(beliefs.target))
    both, told = np.vstack([design, beliefs.design]), np.append(target, beliefs.target)
    beta = _nnls(both, told, np.append(weights, certain))
    for _ in range(5):
        off = np.abs(target - design @ beta)
        spread = _MAD * float(np.median(off))
        if spread <= 1e-9 * max(float(np.abs(target).max()), 1.0):
            break
        weights = np.minimum(1.0, _HUBER * spread / np.maximum(off, 1e-300))
        beta = _nnls(both, told, np.append(weights, certain))
    return beta, weights


# Below this many rows an autocorrelation is noise: its standard error is about 1/sqrt(n)
_TELLS_PERSISTENCE: Final = 20


# The doubt comes back by half within two weeks of daily rows at the latest, and one row ahead a
# third of it is left at least: autocorrelations are estimates
_SLOWEST: Final = 0.95
_MOST_KNOWN: Final = 0.94


def _memory(residuals: Array) -> tuple[float, float]:
    """Lag-1 autocorrelation and the share that a further lag leaves; 1 and 1 where unknown."""
    if len(residuals) < _TELLS_PERSISTENCE:
        return 1.0, 1.0
    centered = residuals - residuals.mean()
    power = float(centered @ centered)
    if power == 0:
        return 0.0, 0.0
    first, second = (float(centered[lag:] @ centered[:-lag]) / power for lag in (1, 2))
    first = float(np.clip(first, 0, 1))
    # The ratio of two small numbers tells nothing: noise without memory has none
    return first, float(np.clip(second / first, 0, 1)) if first > _TOLD_APART else first


_TOLD_APART: Final = 0.2
