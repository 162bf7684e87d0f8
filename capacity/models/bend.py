"""How far laws bend beyond what was observed: told by histories whose later part is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from capacity.models.linear_drivers import EXTRAPOLATION_SD, LinearDrivers

# What a past must hold, and how much larger what came must be, for a bend to show
_PAST: Final = 8
_REACH: Final = 1.1
# Share of the rows that is the past; of those that came the newest
_SEEN, _CAME = 0.5, 0.9
# Bends that are not looked for: a line off by more than this is another law
_LARGEST: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bend:
    """What one history shows: γ of `LinearDrivers.sample`, its standard deviation, its reach."""

    bend: float
    doubt: float
    reach: float


def bend(
    model: LinearDrivers, drivers: npt.ArrayLike, target: npt.ArrayLike, size: npt.ArrayLike
) -> Bend | None:
    """Forecast the newest tenth of a history from its first half; None where it grew too little.

    Parameters
    ----------
    model
        Its parameters count, not what it learnt.
    drivers, target
        Rows in time order, as it was fitted to.
    size
        Node counts of the rows. [1]

    Notes
    -----
    Of each draw of the costs γ is what makes its forecast meet what came: base + grown part x
    reach^γ, fixed terms aside. The doubt is the spread of γ over the draws, noise included.
    """
    x, y, n = np.asarray(drivers, float), np.asarray(target, float), np.asarray(size, float)
    seen, late = int(_SEEN * len(y)), int(_CAME * len(y))
    if seen < _PAST or late >= len(y) or n[:seen].max() <= 0:
        return None
    reach = float(np.median(n[late:]) / n[:seen].max())
    if reach < _REACH:
        return None
    past = LinearDrivers(fixed=model.fixed, draws=200, seed=model.seed, prior=model.prior)
    past.fit(x[:seen], y[:seen])
    free = np.ones(x.shape[1], bool) if model.fixed is None else np.isnan(np.asarray(model.fixed))
    at, costs = x[late:].mean(axis=0), past.draws_[:, 1:]
    grown = costs[:, free] @ at[free]
    if np.median(grown) <= 0.05 * abs(float(y[late:].mean())):
        return None
    rng = np.random.default_rng(model.seed)
    noise = rng.choice(past.residuals_, len(grown))
    rest = past.draws_[:, 0] + costs[:, ~free] @ at[~free] + noise
    share = (y[late:].mean() - rest) / np.maximum(grown, 1e-300)
    bends = np.clip(np.log(np.maximum(share, 1e-9)) / np.log(reach), -_LARGEST, _LARGEST)
    return Bend(float(np.median(bends)), float(bends.std()), reach)


def bend_spread(told: Sequence[Bend]) -> float:
    """Give the standard deviation of bends that histories show, beside their doubt.

    Notes
    -----
    The most likely τ of bends ~ N(0, τ² + doubt²). `EXTRAPOLATION_SD`, a judgment, counts as one
    history that bent so far: without any it stays, and many outweigh it.

    Examples
    --------
    >>> bend_spread([])
    0.15
    >>> bend_spread([Bend(0.0, 0.01, 2.0)] * 24) < 0.05
    True
    """
    if not told:
        return EXTRAPOLATION_SD
    off = np.array([EXTRAPOLATION_SD, *(one.bend for one in told)])
    doubt = np.array([0.0, *(one.doubt for one in told)])

    def loss(spread: float) -> float:
        variance = spread**2 + doubt**2
        return float(np.sum(np.log(variance) + off**2 / variance))

    found = minimize_scalar(loss, bounds=(0.01, _LARGEST), method="bounded")
    return float(found.x)
