"""Costs of drivers pooled over clusters: what a small cluster borrows from the others.

A linear mixed model: y = base of the cluster + Σ cost of the cluster × driver + noise, where the
costs of clusters scatter around those of the fleet. A cluster is told by sums over its rows, so
that fleets of any size are pooled from a few numbers each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.models.linear_drivers import Array

_ROUNDS: Final = 200
_CLOSE: Final = 1e-6
# Between clusters costs are taken to differ by a tenth at least: workloads differ
_LEAST: Final = 0.1
# How far costs scatter before clusters tell, as heavy as one cluster: a single one tells nothing
_SCATTER: Final = 0.3
# A cluster tells how far costs scatter where that is so much more than its own noise
_TELLING: Final = 3.0
# What is told of scatter stays unless so many clusters show otherwise; and at least this share
_CAREFUL: Final = 5.0
_NARROWEST: Final = 0.5
# An autocorrelation near 1 leaves no row that tells anything of its own
_MOST: Final = 0.95


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one cluster's rows say of its costs.

    Attributes
    ----------
    names
        Drivers that varied.
    information : ndarray, shape (p, p)
        Of centered drivers X: X'X / variance of the noise. [1/cost²]
    weighted : ndarray, shape (p,)
        X'y / variance of the noise. [1/cost]
    """

    names: tuple[str, ...]
    information: Array
    weighted: Array


def evidence(names: Sequence[str], drivers: npt.ArrayLike, target: npt.ArrayLike) -> Evidence:
    """Sum up rows in time order.

    Notes
    -----
    Noise is what the line of all drivers leaves; rows that follow each other count (1 - ρ)/(1 + ρ)
    times, ρ the lag-1 autocorrelation of the noise (effective size of an AR(1) sample).
    """
    x, y = np.asarray(drivers, float), np.asarray(target, float)
    kept = np.ptp(x, axis=0) > 0 if len(x) else np.zeros(x.shape[1], bool)
    x, y = x[:, kept] - x[:, kept].mean(axis=0), y - y.mean()
    scale = np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-300)
    best, *_ = np.linalg.lstsq(x / scale, y, rcond=None)
    left = y - x / scale @ best
    spare = max(len(y) - int(kept.sum()) - 1, 1)
    variance = max(float(left @ left) / spare, 1e-12 * float(y @ y) / max(len(y), 1), 1e-300)
    power = float(left @ left)
    after = float(left[1:] @ left[:-1]) / power if power > 0 else 0.0
    rho = float(np.clip(after, 0.0, _MOST))
    variance *= (1 + rho) / (1 - rho)
    told = tuple(name for name, is_kept in zip(names, kept, strict=True) if is_kept)
    return Evidence(told, x.T @ x / variance, x.T @ y / variance)


def joined(one: Evidence, other: Evidence) -> Evidence:
    """Add what other rows of the same cluster say."""
    names = tuple(dict.fromkeys((*one.names, *other.names)))
    info, weighted = np.zeros((len(names), len(names))), np.zeros(len(names))
    for told in (one, other):
        at = [names.index(name) for name in told.names]
        info[np.ix_(at, at)] += told.information
        weighted[at] += told.weighted
    return Evidence(names, info, weighted)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Costs of a fleet by driver: mean, standard deviation between clusters, doubt of the mean."""

    mean: Mapping[str, float]
    between: Mapping[str, float]
    doubt: Mapping[str, float]
    clusters: int

    def prior(self, name: str) -> tuple[float, float]:
        """Give what is believed of a further cluster's cost: mean and standard deviation."""
        return self.mean[name], float(np.hypot(self.between[name], self.doubt[name]))


def pooled(told: Sequence[Evidence], believed: Mapping[str, tuple[float, float]]) -> Pooled:
    """Pool costs over clusters.

    Parameters
    ----------
    told
        One a cluster; drivers may differ.
    believed
        By driver, what was believed before: mean and standard deviation of the fleet's mean cost.
        Drivers that are not named are not pooled.

    Notes
    -----
    Expectation maximization for random slopes with known noise (N. M. Laird, J. H. Ware,
    Random-effects models for longitudinal data, Biometrics 38 (1982), section 4). Clusters' costs
    have independent scatters by driver; bases are free. The prior of the mean keeps drivers that no
    cluster tells where they were believed.
    """
    names = [name for name in believed if any(name in one.names for one in told)]
    if not names:
        return Pooled({}, {}, {}, 0)
    scale = np.array([max(abs(believed[name][0]), 1e-300) for name in names])
    parts = [_aligned(one, names, scale) for one in told]
    info = np.stack([part[0] for part in parts])
    weighted = np.stack([part[1] for part in parts])
    start = np.array([believed[name][0] for name in names]) / scale
    doubt = np.array([believed[name][1] for name in names]) / scale
    mean, spread = mixed(info, weighted, start, doubt)
    marginal = np.linalg.inv(np.linalg.inv(info + 1e-9 * np.eye(len(names))) + np.diag(spread**2))
    cover = np.linalg.inv(marginal.sum(axis=0) + np.diag(doubt**-2))
    honest = _honest(info, weighted, mean, cover + np.diag(spread**2))
    spread, error = honest * spread, honest * np.sqrt(np.diagonal(cover))
    return Pooled(
        dict(zip(names, (mean * scale).tolist(), strict=True)),
        dict(zip(names, (spread * scale).tolist(), strict=True)),
        dict(zip(names, (error * scale).tolist(), strict=True)),
        len(parts),
    )


def _honest(info: Array, weighted: Array, mean: Array, cover: Array) -> float:
    """Give the factor by which costs of clusters scatter beside what is told of it.

    Of each cluster the combination of costs that it knows best is compared with the fleet's: what
    single drivers scatter by is hardly known, what they cost together is.
    """
    _, vectors = np.linalg.eigh(info)
    best = vectors[:, :, -1]
    own = np.einsum("ki,kij,kj->k", best, info, best)
    between = np.einsum("ki,kij,jl,klm,km->k", best, info, cover, info, best)
    off = np.einsum("ki,ki->k", best, weighted - info @ mean)
    is_told = between > _TELLING * own
    ratio = (off[is_told] ** 2 - own[is_told]) / between[is_told]
    found = (float(ratio.sum()) + _CAREFUL) / (int(is_told.sum()) + _CAREFUL)
    return float(np.sqrt(np.clip(found, _NARROWEST**2, 4.0)))


def mixed(info: Array, weighted: Array, start: Array, doubt: Array) -> tuple[Array, Array]:
    """Give mean and scatter of costs over groups, by expectation maximization.

    Parameters
    ----------
    info, weighted
        Of each group, as in `Evidence`; shapes (k, p, p) and (k, p).
    start, doubt
        What was believed of the mean before, and how sure; shape (p,).
    """
    mean, spread = start.copy(), doubt.copy()
    count = len(info)
    for _ in range(_ROUNDS):
        post = np.linalg.inv(info + np.diag(spread**-2))
        own = np.einsum("kij,kj->ki", post, weighted + mean * spread**-2)
        precision = count * spread**-2 + doubt**-2
        new = np.maximum((own.sum(axis=0) * spread**-2 + start * doubt**-2) / precision, 0.0)
        second = np.diagonal(post, axis1=1, axis2=2) + (own - new) ** 2
        wide = np.sqrt((second.sum(axis=0) + (_SCATTER * new) ** 2) / (count + 1))
        wide = np.maximum(wide, _LEAST * np.maximum(new, _LEAST))
        moved = np.abs(new - mean).max() + np.abs(wide - spread).max()
        mean, spread = new, wide
        if moved < _CLOSE:
            break
    return mean, spread


def _aligned(one: Evidence, names: list[str], scale: Array) -> tuple[Array, Array]:
    """Bring a cluster's sums to the fleet's drivers; drivers of its own alone are projected out."""
    here = [one.names.index(name) for name in names if name in one.names]
    rest = [i for i, name in enumerate(one.names) if name not in names]
    info, weighted = one.information, one.weighted
    if rest:
        gain = info[np.ix_(here, rest)] @ np.linalg.pinv(info[np.ix_(rest, rest)])
        weighted = weighted[here] - gain @ weighted[rest]
        info = info[np.ix_(here, here)] - gain @ info[np.ix_(rest, here)]
    else:
        weighted, info = weighted[here], info[np.ix_(here, here)]
    to = [i for i, name in enumerate(names) if name in one.names]
    full, vector = np.zeros((len(names), len(names))), np.zeros(len(names))
    full[np.ix_(to, to)] = info * np.outer(scale[to], scale[to])
    vector[to] = weighted * scale[to]
    return full, vector
