"""Clusters of many shapes of growth, drawn as driver series at once: for testing forecasts.

Unlike `draw`, no export is made: a world is the series that observing one would give, with noise,
restarts and gaps, and the truth of the days that follow. One world takes about a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from capacity.simulate.laws import Array

HORIZON_DAYS: Final = 180


@dataclass(frozen=True, slots=True)
class World:
    """A cluster: days (0 is the newest of the history), which of them are seen, and its series.

    `drivers` and `quantities` hold past and future; where `seen` is false nothing was recorded.
    """

    shape: str
    days: Array
    seen: Array
    drivers: dict[str, Array]
    quantities: dict[str, Array]

    @property
    def past(self) -> Array:
        """Flags of what a planner may see."""
        return np.asarray((self.days <= 0) & (self.seen > 0))

    @property
    def future(self) -> Array:
        """Flags of what comes."""
        return np.asarray(self.days > 0)


Shape = Callable[[Array, np.random.Generator], Array]


def _steady(t: Array, rng: np.random.Generator) -> Array:
    """Add the same number of nodes each day."""
    return np.asarray(1 + rng.uniform(0.1, 2.0) * t)


def _exponential(t: Array, rng: np.random.Generator) -> Array:
    """Add the same share each day."""
    return np.asarray(np.exp(rng.uniform(0.1, 1.1) * t))


def _saturating(t: Array, rng: np.random.Generator) -> Array:
    """Grow less and less."""
    return np.asarray(1 + rng.uniform(0.2, 1.5) * -np.expm1(-t / rng.uniform(0.2, 1.0)))


def _flat(t: Array, rng: np.random.Generator) -> Array:
    """Wander by a few percent."""
    return np.asarray(1 + np.cumsum(rng.normal(0, 0.002, len(t))))


def _walk(t: Array, rng: np.random.Generator) -> Array:
    """Walk at random with a drift."""
    pace = rng.uniform(0, 1.0)
    return np.asarray(1 + pace * t + np.cumsum(rng.normal(0, rng.uniform(0.002, 0.01), len(t))))


def _teams(t: Array, rng: np.random.Generator) -> Array:
    """Grow slowly, and add a new team with its own node pool now and then."""
    rate = rng.uniform(2, 10) * (t[1] - t[0])
    steps = rng.random(len(t)) < rate
    return np.asarray(1 + rng.uniform(0, 0.3) * t + np.cumsum(steps * rng.gamma(2.0, 0.05, len(t))))


def _migration(t: Array, rng: np.random.Generator) -> Array:
    """Jump once at any time, grow before and after."""
    step = rng.uniform(-0.3, 0.6) * (t > rng.uniform(t[0], t[-1]))
    return np.asarray(1 + rng.uniform(0, 0.8) * t + step)


def _bent(t: Array, rng: np.random.Generator) -> Array:
    """Change the pace once, at any time."""
    bend = rng.uniform(t[0], t[-1])
    paces = rng.uniform(0, 1.5, 2)
    early, late = np.minimum(t, bend), np.maximum(t - bend, 0)
    return np.asarray(1 + paces[0] * early + paces[1] * late)


def _wandering(t: Array, rng: np.random.Generator) -> Array:
    """Change the pace all the time."""
    step = t[1] - t[0]
    pace = rng.uniform(0.2, 1.0) + np.cumsum(rng.normal(0, np.sqrt(step), len(t)))
    return np.asarray(1 + np.cumsum(np.maximum(pace, -0.1)) * step)


def _shrinking(t: Array, rng: np.random.Generator) -> Array:
    """Empty a cluster."""
    return np.asarray(np.exp(-rng.uniform(0.05, 0.7) * t))


SHAPES: Final[dict[str, Shape]] = {
    "steady": _steady,
    "exponential": _exponential,
    "saturating": _saturating,
    "flat": _flat,
    "walk": _walk,
    "teams": _teams,
    "migration": _migration,
    "bent": _bent,
    "wandering": _wandering,
    "shrinking": _shrinking,
}  # t: years since the start of the history; value: multiple of the first node count


def world(shape: str, seed: int, *, step_days: float = 1.0) -> World:
    """Draw a cluster whose nodes grow by a shape of SHAPES.

    Parameters
    ----------
    shape
        Name in SHAPES.
    seed
        Draws everything: history of 60 to 365 days, size, density, noise, seasons, gaps.
    step_days
        Width of the time grid. [day]
    """
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    history = int(rng.uniform(60, 365) / step_days)
    count = history + int(HORIZON_DAYS / step_days) + 1
    days = np.asarray((np.arange(count) - history) * step_days, float)
    size = np.exp(rng.uniform(np.log(30), np.log(3000)))
    ideal = size * np.maximum(SHAPES[shape]((days - days[0]) / 365, rng), 0.05)
    if rng.random() < 0.4:  # an autoscaler: fewer nodes at the weekend
        ideal = ideal * (1 + rng.uniform(0.01, 0.08) * (((days // 1) % 7) < 5))
    wobble = rng.normal(0, rng.uniform(0.0, 0.01), count)
    nodes = np.maximum(np.round(ideal * (1 + wobble)), 2)
    drivers = _drivers(nodes, ideal, days, rng)
    seen = _gaps(count, rng)
    seen[history] = 1.0
    return World(shape, days, seen, drivers, _quantities(drivers, rng))


def _drivers(nodes: Array, ideal: Array, days: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Draw counts that follow the nodes, at a density that changes slowly."""
    density = rng.uniform(8, 60) * np.exp(rng.normal(0, 0.1) * (days - days[0]) / 365)
    per_node = density * (1 + _ar(len(nodes), 0.8, rng) * 0.01)
    endpoints = np.round(nodes * per_node)
    services = np.round(
        20 + rng.uniform(0.2, 2.0) * ideal * np.exp(_ar(len(nodes), 0.95, rng) * 0.01)
    )
    identities = np.round(60 + rng.uniform(1, 5) * ideal * np.exp(_ar(len(nodes), 0.9, rng) * 0.01))
    return {
        "nodes": nodes,
        "endpoints": endpoints,
        "endpoints_per_node": endpoints / nodes,
        "services": np.round(services),
        "identities": np.round(identities),
    }


def _quantities(drivers: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Give entries of the ipcache and the load-balancer map, and memory of the worst agent."""
    many = len(drivers["nodes"])
    memory = (
        rng.uniform(120, 260) * 2**20
        + rng.uniform(1500, 5000) * drivers["endpoints"]
        + rng.uniform(1000, 6000) * drivers["identities"]
        + rng.uniform(1.0, 3.0) * 2**20 * drivers["endpoints_per_node"]
    )
    memory = memory * (1 + 0.02 * _ar(many, 0.7, rng) + 0.03 * rng.gumbel(0, 0.3, many))
    # An agent that restarted holds less for a day or two; a rollout restarts all of them
    memory = memory * (1 - 0.08 * (rng.random(many) < rng.uniform(0, 0.05)))
    return {
        "ipcache": np.round(drivers["endpoints"] + 3 * drivers["nodes"]),
        "lb4_services_v2": np.round(
            drivers["services"] * rng.uniform(4, 12) * (1 + 0.005 * _ar(many, 0.9, rng))
        ),
        "memory": memory,
    }


def _ar(count: int, pace: float, rng: np.random.Generator) -> Array:
    """Draw AR(1) noise of standard deviation 1."""
    noise = rng.normal(0, np.sqrt(1 - pace**2), count)
    noise[0] = rng.normal()
    for i in range(1, count):
        noise[i] += pace * noise[i - 1]
    return noise


def _gaps(count: int, rng: np.random.Generator) -> Array:
    """Draw what was recorded: up to three outages of days to weeks, and single misses."""
    seen = (rng.random(count) > rng.uniform(0, 0.03)).astype(float)
    for _ in range(rng.integers(0, 4)):
        begin = int(rng.integers(0, count))
        seen[begin : begin + int(rng.integers(1, 15))] = 0.0
    return seen
