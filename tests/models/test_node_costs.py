"""Costs that nodes share are told from what differs between them; few samples weigh little."""

from __future__ import annotations

import numpy as np
import pytest

from capacity.models import LinearDrivers, NodeCosts

COST = 0.4


def panel(
    nodes: int = 30, steps: int = 40, seed: int = 0, rho: float = 0.0, slopes: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pods and memory of nodes: each has a level of its own, all share what happens over time."""
    rng = np.random.default_rng(seed)
    node, time = np.repeat(np.arange(nodes), steps), np.tile(np.arange(steps), nodes)
    pods = rng.poisson(30, nodes * steps) + np.repeat(rng.poisson(5, nodes), steps)
    noise = rng.normal(0, 3, (nodes, steps))
    for i in range(1, steps):
        noise[:, i] = rho * noise[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
    own = COST * (1 + slopes * np.repeat(rng.normal(size=nodes), steps))
    shared = np.cumsum(rng.normal(0, 5, steps))[time]
    memory = 200 + np.repeat(rng.normal(0, 10, nodes), steps) + own * pods + shared + noise.ravel()
    return pods[:, None].astype(float), memory, node, time


def test_nodes_tell_a_cost_that_the_curve_of_the_largest_hides() -> None:
    x, y, node, time = panel()
    model = NodeCosts().fit(x, y, node, time)
    assert model.coef_[0] == pytest.approx(COST, rel=0.1)
    worst = y.reshape(30, 40)
    alone = LinearDrivers(draws=20).fit(x.reshape(30, 40).mean(axis=0)[:, None], worst.max(axis=0))
    assert abs(alone.coef_[0] - COST) > 2 * abs(model.coef_[0] - COST)


@pytest.mark.parametrize(("rho", "slopes"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.3)])
def test_the_doubt_of_a_cost_holds(rho: float, slopes: float) -> None:
    off = []
    for seed in range(40):
        model = NodeCosts().fit(*panel(20, 20, seed, rho, slopes))
        off.append((model.coef_[0] - COST) / np.sqrt(model.covariance_[0, 0]))
    assert 0.78 <= np.mean(np.abs(off) < 1.645) <= 0.98


def test_nodes_whose_costs_differ_are_told_apart() -> None:
    same = NodeCosts().fit(*panel(40, 60, 1))
    apart = NodeCosts().fit(*panel(40, 60, 1, slopes=0.8))
    assert apart.between_[0] == pytest.approx(0.8 * COST, rel=0.4)
    assert same.between_[0] < 0.5 * apart.between_[0]


def test_a_node_with_few_samples_is_drawn_to_the_others() -> None:
    x, y, node, time = panel(10, 50)
    kept = (node != 9) | (time < 2)
    y = np.where(node == 9, y + 50, y)
    model = NodeCosts().fit(x[kept], y[kept], node[kept], time[kept])
    full = NodeCosts().fit(x, y, node, time)
    assert 0 < model.offsets_[9] < full.offsets_[9]


def test_what_all_nodes_share_at_a_time_moves_no_cost() -> None:
    x, y, node, time = panel()
    shaken = y + np.random.default_rng(9).normal(0, 500, 40)[time]
    plain, other = (NodeCosts().fit(x, one, node, time).coef_ for one in (y, shaken))
    assert other == pytest.approx(plain, rel=1e-6)


def test_levels_that_hide_another_cause_do_not_bend_a_cost() -> None:
    x, y, node, time = panel(30, 40)
    level = x.reshape(30, 40).mean(axis=1)[node]
    # Nodes with more pods have something else besides: within a node nothing shows it
    model = NodeCosts().fit(x, y + 8 * level, node, time)
    assert model.coef_[0] == pytest.approx(COST, rel=0.2)


def test_levels_tell_where_nothing_moves_within_nodes() -> None:
    rng = np.random.default_rng(0)
    node, time = np.repeat(np.arange(60), 10), np.tile(np.arange(10), 60)
    pods = np.repeat(rng.poisson(30, 60), 10).astype(float)
    y = 200 + COST * pods + np.repeat(rng.normal(0, 0.5, 60), 10) + rng.normal(0, 0.2, 600)
    model = NodeCosts().fit(pods[:, None], y, node, time)
    assert model.coef_[0] == pytest.approx(COST, rel=0.15)


def test_the_order_and_the_names_of_nodes_change_nothing() -> None:
    x, y, node, time = panel(12, 15)
    order = np.random.default_rng(1).permutation(len(y))
    named = np.array([f"n{100 - i}" for i in node])
    first = NodeCosts().fit(x, y, node, time)
    second = NodeCosts().fit(x[order], y[order], named[order], time[order])
    assert second.coef_ == pytest.approx(first.coef_, rel=1e-9)
    assert second.covariance_ == pytest.approx(first.covariance_, rel=1e-6)


def test_a_cost_in_other_units_is_the_same_cost() -> None:
    x, y, node, time = panel(12, 15)
    first = NodeCosts(prior=((0.5, 0.2),)).fit(x, y, node, time)
    second = NodeCosts(prior=((0.5e6, 0.2e6),)).fit(x / 1000, 1000 * y, node, time)
    assert second.coef_ / 1e6 == pytest.approx(first.coef_, rel=1e-6)
    assert second.between_ / 1e6 == pytest.approx(first.between_, rel=1e-4)


def test_a_prior_counts_where_rows_tell_little_and_hardly_where_they_tell_much() -> None:
    believed = ((2.0, 0.1),)
    little = NodeCosts(prior=believed).fit(*panel(3, 4, rho=0.9)).coef_[0]
    much = NodeCosts(prior=believed).fit(*panel(60, 60)).coef_[0]
    assert abs(little - 2.0) < abs(much - 2.0)
    assert much == pytest.approx(COST, rel=0.1)


def test_a_driver_that_never_differs_is_not_told() -> None:
    x, y, node, time = panel(12, 15)
    both = np.column_stack([x, 5.0 + time])
    model = NodeCosts().fit(both, y, node, time)
    assert np.isnan(model.coef_[1])
    assert model.coef_[0] == pytest.approx(COST, rel=0.1)
