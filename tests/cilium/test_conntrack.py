"""CT and NAT entries from rates and lifetimes, against a simulation and the agent's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from capacity.cilium.conntrack import (
    Traffic,
    diagnose,
    entries,
    lifetimes,
    next_interval,
    port_use,
    steady_interval,
)
from capacity.errors import SettingsError

FIXED = {"conntrack-gc-interval": "60s"}


def rows(*traffic: Traffic, version: str = "1.17", **more: Any) -> dict[str, dict[str, Any]]:
    table = entries(traffic, version=version, **more)
    return {row["map"]: row for row in table.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("path", "role", "tcp", "nat", "sock"),
    [
        ("pod", "client", 1, 0, 0),
        ("service-packet", "client", 2, 0, 0),
        ("service-socket", "client", 1, 0, 1),
        ("nodeport-snat", "entry", 2, 2, 0),
        ("nodeport-dsr", "entry", 1, 0, 0),
        ("nodeport-dsr", "server", 2, 1, 0),
        ("nodeport-local", "entry", 3, 0, 0),
        ("masquerade", "client", 1, 2, 0),
    ],
)
def test_a_path_makes_the_entries_that_the_datapath_writes(
    path: str, role: str, tcp: int, nat: int, sock: int
) -> None:
    got = rows(Traffic(path, role, 10, 20))
    made = [got[name]["rate"] / 10 for name in
            ("cilium_ct4_global", "cilium_snat_v4_external", "cilium_lb4_reverse_sk")]  # fmt: skip
    assert made == [tcp, nat, sock]


@pytest.mark.parametrize(
    ("protocol", "ends", "lifetime"),
    [
        ("tcp", "closed", 40),
        ("tcp", "left", 8030),
        ("tcp", "unanswered", 90),
        ("other", "left", 90),
    ],
)
def test_an_entry_lives_for_its_connection_and_the_timeout_of_its_end(
    protocol: str, ends: str, lifetime: float
) -> None:
    got = rows(Traffic("pod", "client", 5, 30, protocol, ends))
    name = "cilium_ct4_global" if protocol == "tcp" else "cilium_ct_any4_global"
    assert got[name]["lifetime"] == lifetime
    assert got[name]["alive"] == 5 * lifetime


def test_timeouts_differ_by_version_and_follow_options() -> None:
    assert (lifetimes("1.14").tcp, lifetimes("1.15").tcp) == (21600, 8000)
    assert lifetimes("1.17", {"bpf-ct-timeout-regular-tcp": "2h13m20s"}).tcp == 8000
    with pytest.raises(SettingsError, match="bpf-ct-timeout-regular-any: 'soon' is not a duration"):
        lifetimes("1.17", {"bpf-ct-timeout-regular-any": "soon"})


def test_pairs_of_addresses_hold_an_entry_for_icmp_errors_each() -> None:
    got = rows(Traffic("pod", "client", 5, 30, pairs=700))
    assert got["cilium_ct_any4_global"]["alive"] == pytest.approx(700)


def test_the_mean_is_that_of_a_simulated_map_with_collections() -> None:
    """Poisson arrivals, exponential durations, expired entries removed every 60 s."""
    rng = np.random.default_rng(7)
    rate, duration, interval, span = 50.0, 20.0, 60.0, 60_000.0
    start = np.cumsum(rng.exponential(1 / rate, int(rate * span)))
    expires = start + rng.exponential(duration, len(start)) + 10
    removed = np.ceil(expires / interval) * interval
    steady = (start > 1000) & (start < span - 1000)
    held = (removed - start)[steady].sum() / (span - 2000)
    got = rows(Traffic("pod", "client", rate, duration), options=FIXED)["cilium_ct4_global"]
    assert got["entries"] == pytest.approx(held, rel=0.01)
    assert got["alive"] == pytest.approx(rate * 30)


def test_a_full_map_evicts_the_oldest_and_never_counts_more_than_its_size() -> None:
    sizes = {"bpf-ct-global-tcp-max": 100_000}
    got = rows(Traffic("pod", "client", 1000, 10, ends="left"), sizes=sizes)["cilium_ct4_global"]
    assert got["entries"] == 100_000
    assert got["share"] > 80
    assert got["kept"] == 100
    assert got["evicted"] == 1000
    roomy = rows(Traffic("pod", "client", 10, 10, ends="left"), sizes=sizes)["cilium_ct4_global"]
    assert roomy["kept"] is None
    assert roomy["evicted"] == 0


def test_the_interval_follows_the_share_that_was_deleted() -> None:
    got = [next_interval(300, share, version="1.17") for share in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert got == [300, 450, 300, 150, 30]
    assert next_interval(11, 0.9, version="1.17") == 10
    assert next_interval(40_000, 0.01, version="1.17") == 43_200


@given(st.floats(0.1, 1e5), st.integers(1024, 1 << 24))
@limits(max_examples=30)
def test_the_steady_interval_is_within_the_agents_bounds(rate: float, size: int) -> None:
    interval = steady_interval([(rate, size)], version="1.17")
    assert 10 <= interval <= 43_200
    if 10 < interval < 43_200:
        # It stays, or swings around, where a collection deletes 5 to 25 % of the map's size
        assert 0.04 <= rate * interval / size <= 0.4
    assert steady_interval([(rate, size)], version="1.17", most=30) <= 30
    assert steady_interval([(rate, size)], version="1.17", fixed=77) == 77


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(1, 10))
@limits(max_examples=25)
def test_more_connections_never_need_less(rate: float, duration: float, more: float) -> None:
    one, other = (
        rows(Traffic("nodeport-snat", "entry", r, duration), options=FIXED)
        for r in (rate, rate * more)
    )
    assert all(other[name]["peak"] >= one[name]["peak"] for name in one)


def test_paths_add_up() -> None:
    a, b = Traffic("pod", "client", 5, 30), Traffic("masquerade", "client", 3, 7, ends="left")
    both = rows(a, b, options=FIXED)
    for name, row in both.items():
        parts = [rows(one, options=FIXED)[name]["peak"] for one in (a, b)]
        assert row["peak"] == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        (Traffic("pod", "entry", 1, 1), "pod/entry: no such path; known are pod/client"),
        (Traffic("pod", "client", -1, 1), "rate, duration and pairs are 0 or more"),
        (Traffic("pod", "client", 1, 1, "udp"), "protocol 'udp'"),
    ],
)
def test_traffic_that_cannot_be_is_told(traffic: Traffic, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        entries([traffic], version="1.17")


def test_ports_follow_the_range_of_node_ports() -> None:
    assert port_use(1, version="1.17").limit == 32768
    assert port_use(1, version="1.17", node_port_range="30000,35000").limit == 30535
    with pytest.raises(SettingsError, match="ends before it starts"):
        port_use(1, version="1.17", node_port_range="35000,30000")


def test_fewer_tries_fail_more_often() -> None:
    old, new = (port_use(29_500, version=v).failing for v in ("1.17", "1.18"))
    assert old < 1e-5 < new
    assert port_use(0, version="1.17").failing == 0


@pytest.mark.parametrize(
    ("pressure", "kernel", "finding", "resize"),
    [
        (0.03, "5.14", "kernel_lock_contention", False),
        (0.03, "6.14.0-15-generic", "kernel_lock_contention", False),
        (0.03, "6.15.1", "unknown", False),
        (0.03, "5.10.0", "unknown", False),
        (0.95, "5.14", "map_full", True),
        (0.7, "5.14", "unknown", False),
        (None, "5.14", "unknown", False),
        (0.03, None, "unknown", False),
    ],
)
def test_failed_insertions_are_told_apart(
    pressure: float | None, kernel: str | None, finding: str, resize: bool
) -> None:
    found = diagnose(12, pressure=pressure, kernel=kernel)
    assert (found.finding, found.recommend_resize) == (finding, resize)
    assert diagnose(0, pressure=pressure, kernel=kernel).finding == "none"
