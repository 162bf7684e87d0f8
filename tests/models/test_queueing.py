"""Waiting times against known results, and against a queue followed packet by packet."""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import ModelError
from capacity.models.queueing import (
    Core,
    erlang_c,
    fit_core,
    utilization_for_wait,
    wait_batches,
    wait_mmc,
)
from capacity.throughput.replay import busy_share, waits


@pytest.mark.parametrize(
    # Erlang C by its recursion from Erlang B, computed beside: A B/(…), 12 digits
    ("offered", "servers"), [(0.3, 1), (1.5, 2), (8.0, 10), (95.0, 100), (480.0, 500)],
)  # fmt: skip
def test_erlang_c_equals_the_recursion_of_erlang_b(offered: float, servers: int) -> None:
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    rho = offered / servers
    assert erlang_c(offered, servers) == pytest.approx(blocked / (1 - rho * (1 - blocked)))


def test_one_server_waits_as_m_m_1_and_a_full_one_for_ever() -> None:
    assert wait_mmc([0.5, 0.9], 1.0, 1) == pytest.approx([1.0, 9.0])
    assert np.isinf(wait_mmc([2.0], 1.0, 2)).all()


@given(st.floats(0.05, 0.95), st.floats(1e-9, 1e-3), st.floats(0, 30), st.floats(1, 64))
def test_the_utilization_for_a_wait_gives_that_wait(
    rho: float, service: float, variation: float, burst: float
) -> None:
    wait = float(wait_batches(rho, service, variation=variation, burst=burst))
    found = utilization_for_wait(wait, service, variation=variation, burst=burst)
    assert found == pytest.approx(rho, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("burst", [1.0, 8.0])
@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_mean_waits_are_those_of_a_queue_followed_packet_by_packet(
    rho: float, burst: float
) -> None:
    services = np.array([100e-9, 100e-9, 100e-9, 700e-9])
    mean = services.mean()
    seeds = [waits(rho / mean, services, burst=burst, seed=s).mean() for s in range(8)]
    told = float(wait_batches(rho, mean, variation=services.var() / mean**2, burst=burst))
    error = 3 * np.std(seeds, ddof=1) / np.sqrt(len(seeds))
    assert np.mean(seeds) == pytest.approx(told, abs=error)
    assert error < 0.1 * told


@pytest.mark.parametrize("burst", [1.0, 8.0])
def test_99th_percentiles_are_within_10_percent_of_the_followed_queue(burst: float) -> None:
    services = np.array([100e-9, 100e-9, 100e-9, 700e-9])
    mean = services.mean()
    seen = [
        np.quantile(waits(0.8 / mean, services, burst=burst, seed=s), 0.99) for s in range(8)
    ]  # fmt: skip
    c2 = services.var() / mean**2
    told = float(wait_batches(0.8, mean, variation=c2, burst=burst, quantile=0.99))
    assert np.mean(seen) == pytest.approx(told, rel=0.1)


def test_the_99th_percentile_of_m_m_1_is_exact() -> None:
    # P(W > t) = ρ exp(−(1 − ρ) t): t = ln(ρ/0.01)/(1 − ρ)
    told = wait_batches(0.8, 1.0, variation=1.0, quantile=0.99)
    assert told == pytest.approx(np.log(80) / 0.2)


@pytest.mark.parametrize("load", [0.05, 0.3, 0.7, 0.95])
def test_a_core_that_sleeps_works_as_one_followed_event_by_event(load: float) -> None:
    core = Core(50e-9, 250e-9, 400e-9)
    rate = load / 50e-9
    seeds = [busy_share(50e-9, 250e-9, 400e-9, rate, seed=s, packets=40_000) for s in range(6)]
    error = 3 * np.std(seeds, ddof=1) / np.sqrt(len(seeds)) + 1e-3
    assert np.mean(seeds) == pytest.approx(float(core.utilization(rate)), abs=error)


@given(st.floats(1e-8, 1e-5), st.floats(0, 1e-5), st.floats(0, 1e-5), st.floats(0.01, 1.0))
def test_the_rate_for_a_utilization_gives_that_utilization(
    packet: float, wake: float, hold: float, share: float
) -> None:
    core = Core(packet, wake, hold)
    assert core.utilization(core.rate(share)) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("datapath", ["XDP_DROP", "iptables raw drop"])
def test_published_cpu_use_at_every_load_is_reproduced_within_its_reading_error(
    datapath: str,
) -> None:
    text = files("capacity.facts").joinpath("lb_published.csv").read_text(encoding="utf-8")
    rows = [
        row for row in csv.DictReader(text.splitlines())
        if row["datapath"] == datapath and row["quantity"] == "utilization"
    ]  # fmt: skip
    rate = np.array([float(row["offered"]) for row in rows])
    used = np.array([float(row["value"]) for row in rows])
    core = fit_core(rate, used)
    assert np.abs(core.utilization(rate) - used).max() <= float(rows[0]["reading_error"])
    assert len(rows) >= 6


def test_a_core_is_not_fitted_to_too_little() -> None:
    with pytest.raises(ModelError, match="at least 4"):
        fit_core([1e6, 2e6, 3e6], [0.1, 0.2, 0.3])
