"""Rows of nodes at times as sums of each node: what shared costs are solved from.

Millions of rows come in; a few numbers a node go out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from capacity.models.linear_drivers import Array

# An autocorrelation near 1 leaves no row that tells anything of its own
_MOST: Final = 0.98
# A node's own noise counts as its rows do; that of all nodes as so many rows
_SHARED: Final = 10.0


@dataclass(frozen=True, slots=True)
class Panel:
    """Rows by node and time, less what all nodes share at a time; drivers in units of `scale`."""

    x: Array
    y: Array
    index: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    rows: Array
    mean_x: Array
    mean_y: Array
    scale: Array
    middle: Array
    level: float


def panel_of(x: Array, y: Array, index: npt.NDArray[np.int64], times: Any) -> Panel:
    """Sort rows by node and time, and take out what all nodes share at a time."""
    order = np.lexsort((np.arange(len(y)) if times is None else np.asarray(times), index))
    scale = np.maximum(np.abs(x).max(axis=0), 1e-300)
    x, y, index = x[order] / scale, y[order], index[order]
    middle, level = x.mean(axis=0), float(y.mean())
    if times is None:
        x, y = x - middle, y - level
    else:
        _, at = np.unique(np.asarray(times)[order], return_inverse=True)
        many = np.bincount(at)
        x = x - np.stack([np.bincount(at, c) / many for c in x.T], axis=1)[at]
        y = y - (np.bincount(at, y) / many)[at]
    # What is left of a driver that all nodes share is rounding
    x[:, np.abs(x).max(axis=0) < 1e-9] = 0.0
    first = np.flatnonzero(np.diff(index, prepend=-1))
    rows = np.diff(np.append(first, len(y))).astype(float)
    mean_x = np.add.reduceat(x, first, axis=0) / rows[:, None]
    return Panel(x, y, index, first, rows, mean_x, np.add.reduceat(y, first) / rows,
                  scale, middle, level)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Within:
    """What moves within nodes: sums of each by the variance of its noise, and that of all."""

    information: Array
    weighted: Array
    noise: float


def within(panel: Panel, rho: float) -> Within:
    """Sum up each node's rows less ρ times the row before, around their mean."""
    same = panel.index[1:] == panel.index[:-1]
    both = np.column_stack([panel.x, panel.y])
    rows = both[1:][same] - rho * both[:-1][same]
    index = panel.index[1:][same]
    k, p = len(panel.rows), rows.shape[1]
    count = np.bincount(index, minlength=k).astype(float)
    means = np.stack([np.bincount(index, c, k) for c in rows.T], axis=1)
    means = means / np.maximum(count, 1)[:, None]
    rows = rows - means[index]
    sums = np.empty((k, p, p))
    for i in range(p):
        for j in range(i, p):
            sums[:, i, j] = sums[:, j, i] = np.bincount(index, rows[:, i] * rows[:, j], k)
    products, cross, power = sums[:, :-1, :-1], sums[:, :-1, -1], sums[:, -1, -1]
    costs = least_costs(products.sum(axis=0), cross.sum(axis=0))
    left = power - 2 * cross @ costs + np.einsum("i,kij,j->k", costs, products, costs)
    free = np.maximum(count - 1, 0)
    floor = 1e-12 * float(power.sum()) / max(float(free.sum()), 1.0)
    shared = max(float(left.sum()) / max(float(free.sum()) - (p - 1), 1.0), floor, 1e-300)
    variance = (_SHARED * shared + np.maximum(left, 0)) / (_SHARED + free)
    return Within(products / variance[:, None, None], cross / variance[:, None], shared)


def lag(panel: Panel, costs: Array) -> float:
    """Lag-1 autocorrelation of what is left within nodes, without the bias of short histories.

    References
    ----------
    .. [1] M. G. Kendall, Note on bias in the estimation of autocorrelation, Biometrika 41 (1954).
    """
    left = panel.y - panel.x @ costs
    left = left - (np.add.reduceat(left, panel.first) / panel.rows)[panel.index]
    same = panel.index[1:] == panel.index[:-1]
    power = float(left @ left)
    if power == 0:
        return 0.0
    rho = float(left[1:][same] @ left[:-1][same]) / power
    # A row less in the products than in the squares, of each node
    rho *= len(left) / max(int(same.sum()), 1)
    typical = max(float(panel.rows.mean()), 4.0)
    return float(np.clip(rho + (1 + 3 * rho) / typical, 0.0, _MOST))


def least_costs(info: Array, told: Array) -> Array:
    """Non-negative least squares of normal equations."""
    values, vectors = np.linalg.eigh(info)
    root = np.sqrt(np.maximum(values, 0.0))
    held = root > 1e-9 * root.max(initial=0.0)
    if not held.any():
        return np.zeros(len(told))
    design = root[held, None] * vectors.T[held]
    beta, _ = nnls(design, (vectors.T[held] @ told) / root[held])
    return np.asarray(beta)
