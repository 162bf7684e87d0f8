"""The tier's formulas beside a large replay, and how long sizing takes.

Run: pytest benchmarks/test_lb.py -n 0 -p no:randomly -s. Prints a row a case for the docs:
formula, replay, and the half width of the replay's 99 % interval over seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from capacity.models.queueing import Core, wait_batches
from capacity.throughput import shares, tier
from capacity.throughput.replay import busy_share, replay, waits
from capacity.tier_settings import TierSettings

BASE = TierSettings(spare=0)
SEEDS = range(10)
# 99.5 % quantile of Student's t with 9 degrees of freedom
T = 3.25


def beside(name: str, told: float, follow: Callable[[int], float]) -> None:
    seen = np.array([follow(seed) for seed in SEEDS])
    half = T * float(seen.std(ddof=1)) / np.sqrt(len(seen))
    print(f"| {name} | {told:.5g} | {seen.mean():.5g} | ± {half:.2g} |")
    assert abs(seen.mean() - told) <= max(half, 1e-9)


@pytest.mark.parametrize("nodes", [2, 8, 40])
@pytest.mark.parametrize("snat", [True, False])
def test_passes_of_two_million_flows(nodes: int, snat: bool) -> None:
    told = tier.load(replace(BASE, mode="snat" if snat else "dsr"), nodes).passes
    beside(
        f"passes of a request and its reply, {nodes} nodes, {'SNAT' if snat else 'DSR'}", told,
        lambda seed: replay(2_000_000, nodes, 8, in_cluster=True, snat=snat, seed=seed).passes,
    )  # fmt: skip


@pytest.mark.parametrize("nodes", [3, 10, 40])
def test_moves_of_two_million_flows(nodes: int) -> None:
    beside(
        f"connections that move when one of {nodes} nodes leaves, modulo",
        shares.moved(nodes, "modulo"),
        lambda seed: replay(2_000_000, nodes, 1, in_cluster=False, snat=True, seed=seed).moved,
    )


@pytest.mark.parametrize("burst", [1.0, 16.0])
@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_waits_of_two_million_packets(rho: float, burst: float) -> None:
    services = np.array([200e-9] * 9 + [2900e-9])
    mean = services.mean()
    told = float(wait_batches(rho, mean, variation=services.var() / mean**2, burst=burst))
    beside(
        f"mean wait [µs], utilization {rho}, trains of {burst:g}", told * 1e6,
        lambda seed: 1e6 * float(
            waits(rho / mean, services, burst=burst, seed=seed, packets=2_000_000).mean()
        ),
    )  # fmt: skip


@pytest.mark.parametrize("load", [0.02, 0.2, 0.6, 0.9])
def test_work_of_a_core_that_sleeps(load: float) -> None:
    packet, wake, hold = 250e-9, 266e-9, 408e-9
    beside(
        f"share of a core that sleeps, packets alone {load}",
        float(Core(packet, wake, hold).utilization(load / packet)),
        lambda seed: busy_share(packet, wake, hold, load / packet, seed=seed, packets=300_000),
    )


def test_sizing_a_tier(benchmark: Callable[..., int]) -> None:
    asked = TierSettings(mpps=200.0, mode="dsr", placement="dedicated", cores=16, nic=100.0)
    assert benchmark(tier.nodes_needed, asked) > 2
