"""Costs pooled over clusters: the fleet's are found, and little is borrowed where much is known."""

from __future__ import annotations

import numpy as np
import pytest

from capacity.models.pooling import Evidence, evidence, pooled

NAMES = ("endpoints", "identities")
BELIEVED = {"endpoints": (4900.0, 3000.0), "identities": (2300.0, 2000.0)}


def cluster(costs: np.ndarray, rng: np.random.Generator, days: int = 120) -> Evidence:
    pods = 3000 * np.linspace(1, 1.5, days) * (1 + 0.1 * rng.normal(size=days))
    drivers = np.column_stack([pods, 300 * (1 + 0.3 * rng.random(days))])
    return evidence(NAMES, drivers, 1.5e8 + drivers @ costs + 2e6 * rng.normal(size=days))


def test_the_costs_of_a_fleet_and_their_scatter_are_found() -> None:
    rng = np.random.default_rng(0)
    costs = np.array([3000.0, 8000.0]) * np.exp(rng.normal(0, 0.25, (40, 2)))
    fleet = pooled([cluster(one, rng) for one in costs], BELIEVED)
    assert fleet.mean["endpoints"] == pytest.approx(costs[:, 0].mean(), rel=0.1)
    assert fleet.between["endpoints"] == pytest.approx(costs[:, 0].std(), rel=0.3)
    # Far beyond what was believed: forty clusters outweigh it
    assert fleet.mean["identities"] == pytest.approx(costs[:, 1].mean(), rel=0.2)


def test_without_evidence_the_belief_stays() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([3000 + rng.normal(size=20), 300 + rng.normal(size=20)])
    fleet = pooled([evidence(NAMES, x, 1e8 + 5e7 * rng.normal(size=20))], BELIEVED)
    for name, (mean, deviation) in BELIEVED.items():
        assert fleet.prior(name)[0] == pytest.approx(mean, rel=0.05)
        assert fleet.prior(name)[1] >= 0.9 * deviation


def test_the_doubt_of_the_mean_falls_with_the_number_of_clusters() -> None:
    rng = np.random.default_rng(2)
    told = [cluster(np.array([3000.0, 8000.0]), rng) for _ in range(20)]
    few, many = pooled(told[:3], BELIEVED), pooled(told, BELIEVED)
    assert many.doubt["endpoints"] < 0.6 * few.doubt["endpoints"]


def test_the_order_of_clusters_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    told = [cluster(np.array([3000.0, 8000.0]), rng) for _ in range(5)]
    one, other = pooled(told, BELIEVED), pooled(told[::-1], BELIEVED)
    assert one.mean == pytest.approx(other.mean)


def test_a_driver_of_one_cluster_alone_does_not_bend_the_others() -> None:
    rng = np.random.default_rng(4)
    days, costs = 200, np.array([3000.0, 8000.0, 5e4])
    x = np.column_stack([3000 + 900 * rng.random((days, 2)), 100 * rng.random(days)])
    with_more = evidence((*NAMES, "policies"), x, 1e8 + x @ costs + 1e5 * rng.normal(size=days))
    fleet = pooled([with_more], BELIEVED)
    assert set(fleet.mean) == set(NAMES)
    assert fleet.mean["endpoints"] == pytest.approx(3000, rel=0.05)


def test_a_driver_that_never_moved_is_no_evidence() -> None:
    told = evidence(NAMES, np.column_stack([np.full(9, 5.0), np.arange(9.0)]), np.arange(9.0))
    assert told.names == ("identities",)
    assert pooled([told], {"endpoints": (1.0, 1.0)}).clusters == 0
