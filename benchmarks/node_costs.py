"""What an endpoint costs an agent in memory, told from nodes beside each other and from one curve.

    python benchmarks/node_costs.py [--seeds 40]

Clusters of `capacity simulate` (30 days, every 6 hours, gaps, restarts, replaced nodes; nodes grow
by a tenth), whose true cost of an endpoint is drawn anew for each: 0.3 to 3 times the recorded one.
Compared are the median error of the cost and how often its 90 % interval holds the truth, of the
worst node's curve alone, of that with facts/priors.csv, of nodes beside each other, and of what the
plan takes. Then the worst agent's memory at the same nodes with twice the pods on each. Prints the
tables of docs/validation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from capacity.costs import Aside
from capacity.forecast import Fitted, fit_quantity, worst_by_time
from capacity.growth import PER_NODE, grow
from capacity.models import LinearDrivers
from capacity.models.scoring import LEVELS, pinball
from capacity.node_evidence import node_evidence
from capacity.observe import drivers, look
from capacity.settings import PlanSettings
from capacity.simulate import laws, measured
from capacity.simulate.cluster import draw
from capacity.simulation_settings import SimulationSettings

RECORDED = laws.AGENT
LIMIT = {"cluster": "c", "component": "agent", "subject": None, "quantity": "memory",
         "unit": "byte", "limit": 2.0**33, "kind": "settable"}  # fmt: skip
Interval = tuple[float, float, float]


def settings_of(nodes: int, seed: int, pods: int = 30) -> SimulationSettings:
    """Give one simulated cluster."""
    return SimulationSettings(nodes=nodes, nodes_start=max(nodes * 9 // 10, 2), days=30, step="6h",
                              pods_per_node=pods, seed=seed, cluster="c")  # fmt: skip


def trial(nodes: int, seed: int) -> Iterator[tuple[str, str, Interval, float]]:
    """Draw a cluster; give what was asked, who told it, 5, 50, 95 % quantiles, and the truth."""
    rng = np.random.default_rng(seed)
    factor = float(np.exp(rng.uniform(np.log(0.3), np.log(3.0))))
    laws.AGENT = replace(RECORDED, endpoint_kib=RECORDED.endpoint_kib * factor)
    settings = settings_of(nodes, seed)
    seen = look(measured.measure(draw(settings, rng), rng))
    driven = drivers(seen.steps)
    rows = worst_by_time(seen.steps, LIMIT)
    maps = seen.steps.filter(component="agent", quantity="memory_bpf_maps")
    rows = rows.join(maps.select("time", map_bytes="largest"), on="time", how="left")
    # Of an endpoint that no policy selects: its own, and the three entries it always has
    truth = 1024 * (laws.AGENT.endpoint_kib + 3 * laws.AGENT.policy_row_kib)
    one = fitted(rows, driven, Aside(), nodes)
    both = fitted(rows, driven, Aside(panel=seen.panel), nodes)
    yield "cost", "worst node's curve", curve(one), truth
    yield "cost", "the same, with facts/priors.csv", spread(one), truth
    told = node_evidence(LIMIT, seen.panel, rows["time"], {})
    mean, doubt = told.mean[PER_NODE][0], 1.645 * told.mean[PER_NODE][1]
    yield "cost", "nodes beside each other", (mean - doubt, mean, mean + doubt), truth
    yield "cost", "all of it, as the plan does", spread(both), truth
    yield from denser(settings, rows, driven, seen.panel)


def denser(
    settings: SimulationSettings, rows: pl.DataFrame, driven: pl.DataFrame, panel: pl.DataFrame
) -> Iterator[tuple[str, str, Interval, float]]:
    """Ask for the worst agent with twice the pods on each node."""
    then = replace(settings, pods_per_node=2 * settings.pods_per_node)
    law = laws.cluster_law(then, settings.nodes)
    level = 0.5 ** (1 / settings.nodes)
    truth = laws.Population.draw(then).memory(settings.nodes, level, maps=True)
    now = driven.sort("time").tail(1).to_dicts()[0]
    fixed = {PER_NODE: then.pods_per_node + 2.0, "endpoints": float(law["pods"]) + 2 * then.nodes,
             "services": float(law["lb4_reverse_nat"])}  # fmt: skip
    if now["policy_entries"] is not None:
        fixed["policy_entries"] = now["policy_entries"] * fixed[PER_NODE] / now[PER_NODE]
    for name, aside in (("without nodes", Aside()), ("with nodes", Aside(panel=panel))):
        item = fitted(rows, driven, aside, settings.nodes, fixed)
        at = item.draws[:, np.searchsorted(item.counts, settings.nodes)]
        low, middle, high = (float(q) for q in np.quantile(at, LEVELS[:3]))
        yield "memory of twice the pods", name, (low, middle, high), truth


def fitted(
    rows: pl.DataFrame, driven: pl.DataFrame, aside: Aside, nodes: int,
    fixed: dict[str, float] | None = None,
) -> Fitted:  # fmt: skip
    """Fit as the plan does."""
    asked = tuple(f"{name}={value}" for name, value in (fixed or {}).items())
    settings = PlanSettings("x", nodes=(nodes,), set=asked)
    return fit_quantity(LIMIT, rows, driven, grow(driven, settings), settings, aside)


def curve(item: Fitted) -> Interval:
    """Fit the worst node's curve with nothing believed; give quantiles of an endpoint's cost."""
    model = LinearDrivers(fixed=item.fixed, draws=200)
    model.fit(item.known.select(item.names).to_numpy(), item.known["value"].to_numpy())
    return quantiles(model.draws_[:, 1 + item.names.index(PER_NODE)])


def spread(item: Fitted) -> Interval:
    """Give quantiles of an endpoint's cost."""
    return quantiles(item.model.draws_[:, 1 + item.names.index(PER_NODE)])


def quantiles(draws: np.ndarray) -> Interval:
    """Give 5, 50, 95 % of draws."""
    low, middle, high = np.quantile(draws, LEVELS[:3])
    return float(low), float(middle), float(high)


def main() -> None:
    """Print errors and how often intervals held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 50, 250])
    asked = parser.parse_args()
    print("| asked | told by | nodes | median error | 90 % of errors below | held | pinball |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for nodes in asked.nodes:
        found: dict[tuple[str, str], list[tuple[float, bool, float]]] = {}
        for seed in range(asked.seeds):
            for what, name, (low, middle, high), truth in trial(nodes, 1000 * nodes + seed):
                loss = pinball(np.array([truth]), np.array([[low, middle, high]]), LEVELS[:3])
                error = abs(middle / truth - 1)
                found.setdefault((what, name), []).append(
                    (error, low <= truth <= high, float(loss[0]) / truth)
                )
        for (what, name), rows in found.items():
            error, held, loss = np.array(rows, float).T
            print(f"| {what} | {name} | {nodes} | {np.median(error):.1%} | "
                  f"{np.quantile(error, 0.9):.1%} | {held.mean():.0%} | {loss.mean():.2%} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
