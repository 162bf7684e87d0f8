"""Control plane arithmetic, against acceptance scenarios and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.cilium import control_plane as plane
from capacity.errors import SettingsError


def test_identities_of_40_pods_a_second_last_half_an_hour() -> None:
    """Usable are 256…65535: 65,280; collecting 5 a second buys four minutes."""
    assert plane.identities_last(65_280, 40) / 60 == pytest.approx(27.2, abs=0.05)
    assert plane.identities_last(65_280, 40, 5) / 60 == pytest.approx(31.1, abs=0.05)
    assert plane.identities_last(65_280, 5, 5) == math.inf


def test_pools_hold_as_many_nodes_as_they_have_ranges() -> None:
    assert plane.pool("172.16.0.0/21", 24).max_nodes == 8
    assert plane.smallest_pool(20, 24) == 19
    wide = plane.pool("10.0.0.0/8", 24)
    assert (wide.max_nodes, wide.pods_per_node) == (65_536, 254)
    for wrong, mask in (("10.0.0.0/24", 16), ("10.0.0.0/24", 40), ("pods", 24)):
        with pytest.raises(SettingsError, match="pool: "):
            plane.pool(wrong, mask)


@given(nodes=st.integers(1, 100_000), mask=st.integers(18, 28))
def test_the_smallest_pool_holds_the_nodes_and_one_half_as_large_does_not(
    nodes: int, mask: int
) -> None:
    prefix = plane.smallest_pool(nodes, mask)
    assert 1 << (mask - prefix) >= nodes
    assert nodes == 1 or 1 << (mask - prefix - 1) < nodes


def test_every_agent_watches_every_endpoint() -> None:
    assert plane.watch_events(30, 1000) == 90_000
    assert plane.watch_events(30, 1000, slices=True) < 90_000 / 50
    assert plane.watch_events(0.1, 1000, slices=True) == plane.watch_events(0.1, 1000)


def test_a_hubble_ring_has_a_size_one_less_than_a_power_of_two() -> None:
    assert plane.hubble_seconds(1500, 4095) == pytest.approx(2.73)
    assert plane.hubble_seconds(1500, 65_535) == pytest.approx(43.69)
    with pytest.raises(SettingsError, match=r"4095, 8191, 16383"):
        plane.hubble_seconds(1500, 8192)


def test_series_of_node_connectivity_grow_with_the_square_of_the_nodes() -> None:
    assert plane.connectivity_series(1000) == {"latency": 3_996_000, "status": 1_998_000}


@pytest.mark.parametrize(("nodes", "seconds"), [(1000, 414.53), (1024, 415.95), (0, 0.0)])
def test_intervals_grow_with_the_logarithm_of_the_cluster(nodes: int, seconds: float) -> None:
    assert plane.cluster_interval(nodes) == pytest.approx(seconds, abs=0.005)
