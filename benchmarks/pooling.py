"""What a small cluster gains from a fleet: memory forecast for twice the nodes, truth known.

    python benchmarks/pooling.py [--fleets 20] [--clusters 30] [--bent 0.2]

Each fleet has costs of its own around which its clusters scatter (lognormal); neither are those of
facts/priors.csv. Two of three clusters are young: ten to thirty days of history with little growth;
the others know three to twelve months with growth of a third and more. Each young one is forecast
from its own history alone, with costs from facts/priors.csv, and with costs pooled over the *other*
clusters of its fleet. Prints the table of docs/validation.md.
"""

from __future__ import annotations

import argparse

import numpy as np

from capacity.models import LinearDrivers
from capacity.models.bend import bend, bend_spread
from capacity.models.linear_drivers import EXTRAPOLATION_SD
from capacity.models.pooling import Pooled, evidence, pooled
from capacity.models.prior import prior
from capacity.models.scoring import LEVELS, pinball

NAMES = ("identities", "endpoints", "services", "nodes", "endpoints_per_node")
COSTS = prior("agent", "memory_rss")
BELIEVED = {name: (COSTS.median[name], COSTS.deviation(name)) for name in NAMES}


def cluster(
    costs: np.ndarray, rng: np.random.Generator, *, is_young: bool, bent: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Draw drivers and memory of one cluster, then both at twice its nodes."""
    days = int(rng.integers(10, 30) if is_young else rng.integers(90, 365))
    grown = np.exp(rng.uniform(0.0, 0.15) if is_young else rng.uniform(0.3, 1.0))
    nodes = np.exp(rng.uniform(np.log(50), np.log(1000))) * np.linspace(1, grown, days)
    density = rng.uniform(10, 50)
    per_node = np.array([3 * rng.uniform(0.5, 2), density, 2 * rng.uniform(0.3, 2), 1.0])
    drivers = np.outer(nodes, per_node) * (1 + 0.01 * rng.normal(size=(days, 4)))
    own = density * (1 + 0.01 * rng.normal(size=days))
    x = np.column_stack([drivers, own])
    base = rng.uniform(120, 260) * 2**20
    # A law that bends: what grows follows a power of the nodes beside 1
    power = rng.normal(0, bent) if bent else 0.0
    bends = (nodes / nodes[0]) ** power
    noise = 0.02 * base * np.convolve(rng.normal(size=days + 2), [0.6, 0.6, 0.5], "valid")
    later = np.append(x[-1, :4] * 2, x[-1, 4])
    came = base + float(later @ costs) * (2 * nodes[-1] / nodes[0]) ** power
    came += 0.0197 * base * rng.normal()
    return x, base + x @ costs * bends + noise, later, came


def told(
    x: np.ndarray, y: np.ndarray, later: np.ndarray, believed: object, spread: float
) -> np.ndarray:
    """Quantiles of memory at twice the nodes."""
    model = LinearDrivers(draws=200, prior=believed, bend=spread).fit(x, y)  # type: ignore[arg-type]
    return np.quantile(model.sample(later[None], reach=[2.0])[:, 0], LEVELS)


def from_fleet(fleet: Pooled) -> tuple[tuple[float, float], ...]:
    """Prior of each driver."""
    return tuple(fleet.prior(n) if n in fleet.mean else BELIEVED[n] for n in NAMES)


def main() -> None:
    """Print errors by method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=20)
    parser.add_argument("--clusters", type=int, default=30)
    parser.add_argument("--bent", type=float, default=0.0, help="standard deviation of bends")
    asked = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(asked.fleets):
        rng = np.random.default_rng(seed)
        middle = np.array([COSTS.median[n] for n in NAMES]) * np.exp(rng.normal(0, 0.6, len(NAMES)))
        young = [3 * i < 2 * asked.clusters for i in range(asked.clusters)]
        made = [cluster(middle * np.exp(rng.normal(0, 0.15, len(NAMES))), rng, is_young=is_young,
                        bent=asked.bent) for is_young in young]  # fmt: skip
        sums = [evidence(NAMES, x, y) for x, y, _, _ in made]
        first = LinearDrivers(prior=tuple(BELIEVED[n] for n in NAMES))
        bends = [bend(first, x, y, x[:, 3]) for x, y, _, _ in made]
        for i, (x, y, later, truth) in enumerate(made):
            if not young[i]:
                continue
            fleet = pooled(sums[:i] + sums[i + 1 :], BELIEVED)
            spread = bend_spread([one for one in bends[:i] + bends[i + 1 :] if one is not None])
            for name, believed, wide in (
                ("own history", None, EXTRAPOLATION_SD),
                ("`facts/priors.csv`", tuple(BELIEVED[n] for n in NAMES), EXTRAPOLATION_SD),
                ("pooled over the other clusters", from_fleet(fleet), EXTRAPOLATION_SD),
                ("the same, with the bends they showed", from_fleet(fleet), spread),
            ):
                q = told(x, y, later, believed, wide)
                loss = float(pinball(np.array([truth]), q[None])[0]) / truth
                rows.setdefault(name, []).append(
                    (abs(q[1] / truth - 1), float(q[0] <= truth <= q[2]), loss)
                )
    print("| costs from | median error | 90 % of errors below | 90 % interval held | pinball |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in rows.items():
        error, held, loss = np.array(found).T
        print(f"| {name} | {np.median(error):.1%} | {np.quantile(error, 0.9):.1%} "
              f"| {held.mean():.0%} | {loss.mean():.2%} |")  # fmt: skip


if __name__ == "__main__":
    main()
