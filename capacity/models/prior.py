"""Memory and CPU expected before anything was observed: costs from elsewhere, with their doubt.

The costs are rows of facts/priors.csv, measured on a recorded agent or published: other versions,
other loads. They are never the user's data, and what is told from them says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from capacity.errors import ModelError
from capacity.facts import derivations
from capacity.models.linear_drivers import Array

BASE: Final = "base"
# Of a normal: 5 and 95 % lie so many standard deviations off
_Z95: Final = 1.6449


@dataclass(frozen=True, slots=True)
class Prior:
    """Costs by driver (`base` among them) as lognormal: median and spread of the logarithm."""

    median: Mapping[str, float]
    spread: Mapping[str, float]

    def sample(self, name: str, draws: int, rng: np.random.Generator) -> Array:
        """Draw a cost, shape (draws,)."""
        return np.asarray(self.median[name] * np.exp(self.spread[name] * rng.normal(size=draws)))

    def deviation(self, name: str) -> float:
        """Give the standard deviation of a cost."""
        variance = self.spread[name] ** 2
        return self.median[name] * float(np.sqrt(np.expm1(variance) * np.exp(variance)))


def prior(component: str, quantity: str) -> Prior:
    """Give the prior costs of a quantity; empty where none is known.

    `low` and `high` of facts/priors.csv are taken as the 5 and 95 % quantiles, `per_unit` as the
    median.
    """
    rows = list(derivations.priors(component, quantity).iter_rows(named=True))
    return Prior(
        {row["driver"]: row["per_unit"] for row in rows},
        {row["driver"]: float(np.log(row["high"] / row["low"])) / (2 * _Z95) for row in rows},
    )


def told(component: str, quantity: str) -> dict[str, str]:
    """Say of each driver what its cost is elsewhere, how sure that is, and who says so.

    Examples
    --------
    >>> told("operator", "memory_rss")["identities"][:37]
    'recorded: 1,770 (900 to 3,600); data/'
    """
    return {
        row["driver"]: f"{row['basis']}: {_number(row['per_unit'])} ({_number(row['low'])} to "
        f"{_number(row['high'])}); {row['source']}"
        for row in derivations.priors(component, quantity).iter_rows(named=True)
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def expected(
    component: str,
    quantity: str,
    drivers: Mapping[str, float],
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Array:
    """Draw a quantity of a cluster of which nothing was observed but its drivers.

    Parameters
    ----------
    drivers
        Counts by name; of CPU how many are made (regenerated …) each second. Drivers that are left
        out count as 0.

    Returns
    -------
    ndarray, shape (draws,)
        In the unit of the quantity.

    Raises
    ------
    ModelError
        If no prior is known of the quantity, or of one of the drivers.

    Examples
    --------
    >>> drawn = expected("agent", "memory_rss", {"nodes": 100, "endpoints_per_node": 30})
    >>> bool(150e6 < np.median(drawn) < 250e6)
    True
    """
    known = prior(component, quantity)
    missing = [name for name in drivers if name not in known.median]
    if missing or not known.median:
        raise ModelError(
            f"no prior cost of {missing or 'anything'} for {component} {quantity}; known: "
            f"{sorted(known.median)}"
        )
    rng = np.random.default_rng(seed)
    counts = {**({BASE: 1.0} if BASE in known.median else {}), **drivers}
    drawn = [n * known.sample(name, draws, rng) for name, n in counts.items()]
    return np.asarray(np.sum(drawn, axis=0))
