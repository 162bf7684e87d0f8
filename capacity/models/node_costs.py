"""Costs shared by the nodes of a cluster: what differs between nodes tells what one object costs.

A quantity's worst node over time shows what moves the whole cluster. What an endpoint costs shows
between nodes, and where one of them moves against the others: many rows that one curve hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from capacity.models.linear_drivers import Array, asked, checked
from capacity.models.node_sums import Panel, Within, lag, least_costs, panel_of, within
from capacity.models.pooling import mixed

# From so many nodes on the scatter of what they tell says how sure it is
_ENOUGH: Final = 10
_ROUNDS: Final = 3


class NodeCosts(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative linear model over nodes and times, with an intercept of each node.

    Parameters
    ----------
    draws : int
        Draws of the costs for intervals. [1]
    seed : int
        Seed of the draws.
    prior : sequence of (mean, standard deviation), optional
        What is believed of each cost beforehand, nan where nothing is.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Cost of one unit of each driver, at least 0; nan where nothing tells it.
    covariance_ : ndarray, shape (p, p)
        Of the doubt of `coef_`.
    between_ : ndarray, shape (p,)
        Standard deviation of the costs between nodes.
    intercept_ : float
        Of a node of which nothing is known.
    nodes_ : ndarray, shape (k,)
        The nodes.
    offsets_ : ndarray, shape (k,)
        How far each lies beside `intercept_`: few samples shrink it towards 0.
    own_, own_doubt_ : ndarray, shape (k, p)
        Costs of each node and their standard deviation: few samples shrink them towards `coef_`.
    spread_, noise_ : float
        Standard deviation of the nodes' offsets, and of what is left.
    information_, weighted_ : ndarray
        What the rows say of the costs, without the prior, as `pooling.Evidence` holds it.

    Notes
    -----
    y = s(t) + a(node) + Σ (cost + u(node)) x + noise. What all nodes share at a time is taken out
    by their mean; within nodes noise is an AR(1) process, which differences of neighbouring rows
    make white (D. Cochrane, G. H. Orcutt, JASA 44 (1949)); slopes that scatter over nodes are
    pooled as in `pooling.mixed`. Between nodes levels count as an error component (P. A. V. B.
    Swamy, S. S. Arora, Econometrica 40 (1972)): by as much less as both disagree, since nodes with
    more pods may differ in other things, too (J. A. Hausman, Econometrica 46 (1978)). The doubt is
    what the scatter of the nodes' own scores tells (K.-Y. Liang, S. Zeger, Biometrika 73 (1986)).

    Examples
    --------
    >>> nodes, times = np.repeat(np.arange(20), 8), np.tile(np.arange(8), 20)
    >>> pods = np.random.default_rng(0).poisson(30, 160).astype(float)
    >>> memory = 200 + 5.0 * times + 3 * nodes + 0.4 * pods
    >>> NodeCosts().fit(pods[:, None], memory, nodes, times).coef_.round(3).tolist()
    [0.4]
    """

    def __init__(
        self,
        draws: int = 400,
        seed: int = 0,
        prior: tuple[tuple[float, float], ...] | None = None,
    ) -> None:
        self.draws = draws
        self.seed = seed
        self.prior = prior

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        nodes: npt.ArrayLike | None = None,
        times: npt.ArrayLike | None = None,
    ) -> NodeCosts:
        """Fit to rows of nodes at times.

        Parameters
        ----------
        X
            What differs between nodes, shape (n, p).
        y
            What it moves, shape (n,).
        nodes
            Whose row it is, shape (n,); all of one node where left out.
        times
            When, shape (n,): anything that sorts. Where left out rows are in the order of time, and
            nothing is taken to be shared by the nodes at a time.

        Returns
        -------
        NodeCosts
            Itself.

        Raises
        ------
        ModelError
            If there are fewer than 5 rows, or a value is not finite.
        """
        x, values = checked(X, y, "rows")
        owner = np.zeros(len(values), np.int64) if nodes is None else np.asarray(nodes)
        self.nodes_, index = np.unique(owner, return_inverse=True)
        self.n_features_in_ = x.shape[1]
        self._pool(panel_of(x, values, index, times))
        return self

    def _pool(self, panel: Panel) -> None:
        believed = np.full((self.n_features_in_, 2), np.nan)
        if self.prior is not None:
            believed = np.asarray(self.prior, float) * panel.scale[:, None]
        told = _told(panel, believed)
        is_told = np.isfinite(believed).all(axis=1)
        certain = np.where(is_told, believed[:, 1], np.inf)
        start = np.where(is_told, believed[:, 0], 0.0)
        total = told.information + np.diag(certain**-2)
        known = np.diagonal(total) > 0
        scores = told.scores + np.diag(certain**-2)
        costs, cover = _solved(total, told.weighted + start * certain**-2, scores, known)
        self.coef_ = costs / panel.scale
        self.covariance_ = cover / np.outer(panel.scale, panel.scale)
        self.between_ = told.between / panel.scale
        self.information_ = told.information * np.outer(panel.scale, panel.scale)
        self.weighted_ = told.weighted * panel.scale
        held = np.nan_to_num(costs)
        off = np.einsum("kij,kj->ki", told.shrink, told.each[1] - told.each[0] @ held)
        left = np.einsum("kij,kji->ki", told.shrink, told.each[0]) * told.between**2
        self.own_ = np.maximum(held + told.between**2 * off, 0.0) / panel.scale
        rest = told.between**2 * np.clip(1 - left, 0.0, 1.0) + np.nan_to_num(np.diagonal(cover))
        self.own_doubt_ = np.sqrt(rest) / panel.scale
        self.center_ = panel.middle / panel.scale
        self.intercept_ = panel.level - float(panel.middle @ held)
        left = panel.mean_y - panel.mean_x @ held
        self.spread_, self.noise_ = float(np.sqrt(told.spread)), float(np.sqrt(told.noise))
        keep = told.spread / np.maximum(told.spread + told.doubt, 1e-300)
        self.offsets_ = keep * (left - np.average(left, weights=panel.rows))

    def predict(self, X: npt.ArrayLike, nodes: npt.ArrayLike | None = None) -> Array:  # noqa: N803
        """Give the fit, of known nodes with their offset.

        Parameters
        ----------
        X
            Drivers, a row a value wanted; shape (m, p).
        nodes
            Whose row it is, shape (m,); of a node that is not known where left out.

        Returns
        -------
        ndarray, shape (m,)
            In the unit of y, at the mean of what all nodes share over time.
        """
        check_is_fitted(self)
        told = self.intercept_ + asked(X, self.n_features_in_) @ np.nan_to_num(self.coef_)
        if nodes is None:
            return np.asarray(told)
        owner = np.asarray(nodes)
        at = np.searchsorted(self.nodes_, owner).clip(max=len(self.nodes_) - 1)
        return np.asarray(told + np.where(self.nodes_[at] == owner, self.offsets_[at], 0.0))

    def interval(self, X: npt.ArrayLike, level: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Give the central prediction interval of a node of which nothing is known.

        Parameters
        ----------
        X
            Drivers, a row a value wanted; shape (m, p).
        level
            Of the interval, 0…1. [1]

        Returns
        -------
        lower, upper : ndarray, shape (m,)
            In the unit of y.
        """
        check_is_fitted(self)
        rng, x = np.random.default_rng(self.seed), asked(X, self.n_features_in_)
        cover = np.nan_to_num(self.covariance_) + np.diag(np.nan_to_num(self.between_) ** 2)
        root = np.linalg.cholesky(cover + 1e-12 * np.diag(np.diagonal(cover) + 1e-30))
        off = rng.normal(size=(self.draws, len(root))) @ root.T
        wide = float(np.hypot(self.spread_, self.noise_)) * rng.normal(size=(self.draws, 1))
        drawn = self.predict(x) + off @ (x - self.center_).T + wide
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return ends[0], ends[1]


@dataclass(frozen=True, slots=True)
class _Told:
    """What a panel says: information, scores' scatter, slopes' and levels' scatter, noise.

    `each` holds information and weighted sums of each node; `shrink` is how they are weighed down
    since slopes scatter.
    """

    information: Array
    weighted: Array
    scores: Array
    between: Array
    spread: float
    noise: float
    doubt: Array
    each: tuple[Array, Array]
    shrink: Array


def _told(panel: Panel, believed: Array) -> _Told:
    rho = 0.0
    for _ in range(_ROUNDS):
        inner = within(panel, rho)
        costs = least_costs(inner.information.sum(axis=0), inner.weighted.sum(axis=0))
        rho = lag(panel, costs)
    inner = within(panel, rho)
    mean, slopes = _scattered(inner, believed)
    shrink = np.linalg.inv(np.eye(len(mean)) + inner.information * slopes**2)
    info = (shrink @ inner.information).sum(axis=0)
    told = np.einsum("kij,kj->i", shrink, inner.weighted)
    scores = np.einsum("kij,kj->ki", shrink, inner.weighted - inner.information @ mean)
    noise = inner.noise / (1 - rho**2)
    doubtful = np.asarray(inner.noise / (panel.rows * (1 - rho) ** 2))
    levels = _between(panel, least_costs(info, told), doubtful)
    extra, weighted = _agreeing(info, told, levels)
    many = int((np.diagonal(inner.information, axis1=1, axis2=2).sum(axis=1) > 0).sum())
    scatter = scores.T @ scores * (many / (many - 1)) if many >= _ENOUGH else info
    return _Told(
        info + extra, told + weighted, scatter + extra, slopes, levels.spread, float(noise),
        doubtful, (inner.information, inner.weighted), np.asarray(shrink, float),
    )  # fmt: skip


def _scattered(inner: Within, believed: Array) -> tuple[Array, Array]:
    """Give mean and scatter over nodes of costs that moved within any of them; 0 of others."""
    total, told = inner.information.sum(axis=0), inner.weighted.sum(axis=0)
    mean, slopes = np.zeros(len(told)), np.zeros(len(told))
    moved = np.flatnonzero(np.diagonal(total) > 0)
    if not len(moved):
        return mean, slopes
    best = least_costs(total, told)
    vague = np.column_stack([best, best + 3 / np.sqrt(np.maximum(np.diagonal(total), 1e-300))])
    is_told = np.isfinite(believed).all(axis=1, keepdims=True)
    start, doubt = np.where(is_told, believed, vague)[moved].T
    at = np.ix_(np.arange(len(inner.weighted)), moved, moved)
    own = inner.information[at], inner.weighted[:, moved]
    mean[moved], slopes[moved] = mixed(*own, start, doubt)
    return mean, slopes


@dataclass(frozen=True, slots=True)
class _Levels:
    information: Array
    weighted: Array
    spread: float


def _between(panel: Panel, costs: Array, doubtful: Array) -> _Levels:
    """Weigh the nodes' levels: what drivers leave of them scatters by `spread` beside noise."""
    x, y, k, p = panel.mean_x, panel.mean_y, len(panel.rows), panel.mean_x.shape[1]
    if k < p + 3:
        return _Levels(np.zeros((p, p)), np.zeros(p), 0.0)
    spread = 0.0
    for _ in range(_ROUNDS):
        weights = 1 / np.maximum(spread + doubtful, 1e-300)
        middle = np.average(np.column_stack([x, y]), axis=0, weights=weights)
        off, level = x - middle[:-1], y - middle[-1]
        left = level - off @ costs
        spread = max(float(left @ left) / (k - p - 1) - float(doubtful.mean()), 0.0)
        weights = 1 / np.maximum(spread + doubtful, 1e-300)
        info, told = (off * weights[:, None]).T @ off, off.T @ (weights * level)
        costs = least_costs(info, told)
    return _Levels(info, told, spread)


def _agreeing(info: Array, told: Array, levels: _Levels) -> tuple[Array, Array]:
    """Give what levels add: as much less as they disagree with what moves within nodes."""
    one, other = np.diagonal(info), np.diagonal(levels.information)
    both = (one > 0) & (other > 0)
    if not both.any():
        return levels.information, levels.weighted
    size = len(one)
    cover_in = np.linalg.pinv(info, hermitian=True)
    cover_out = np.linalg.pinv(levels.information, hermitian=True)
    apart = cover_in @ told - cover_out @ levels.weighted
    allowed = np.diagonal(cover_in) + np.diagonal(cover_out)
    # Half of the normal sample variance of one value: what two honest estimates lie apart by
    more = np.where(both, np.maximum(apart**2 - allowed, 0.0), 0.0)
    wider = np.linalg.inv(np.eye(size) + levels.information * more)
    return wider @ levels.information, wider @ levels.weighted


def _solved(total: Array, told: Array, scores: Array, known: Any) -> tuple[Array, Array]:
    """Give costs and the covariance of their doubt; nan where nothing tells."""
    costs, cover = np.full(len(told), np.nan), np.full(total.shape, np.nan)
    at = np.ix_(known, known)
    if known.any():
        costs[known] = least_costs(total[at], told[known])
        inverse = np.linalg.pinv(total[at], hermitian=True)
        cover[at] = inverse @ scores[at] @ inverse
    return costs, cover
