from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

import capacity
from capacity.doubts import doubts
from capacity.inventory import Inventory
from capacity.kernel_memory import _fitting, kernel_memory
from capacity.observe import by_step, drivers, observe
from capacity.observing import Observed, observed
from capacity.tables import BPF_MAPS, NODES

from .test_charges import MAPS, fleet


@pytest.fixture(scope="module")
def lab() -> Observed:
    return observed(capacity.PlanSettings("data/lab", cilium="1.17"), lambda name, share: None)


def test_bytes_of_maps_are_those_that_the_agent_reports(lab: Observed) -> None:
    told = lab.steps.filter(component="agent", quantity="memory_bpf_maps").sort("time")
    # bpftool's sum a second earlier, without maps of other programs
    assert lab.kernel.reported == pytest.approx(told["largest"][-1], rel=0.001)
    # Tries cost the cgroup more than the kernel reports: facts/kernel.csv
    assert lab.kernel.charged > 1.3 * lab.kernel.reported


def test_an_address_costs_what_was_recorded(lab: Observed) -> None:
    # data/lab-scale: 30,000 addresses added 1,679,980 bytes
    assert lab.kernel.slopes["endpoints"] == pytest.approx(1_679_980 / 30_000, rel=0.001)


def test_an_address_costs_the_cgroup_what_tries_cost(lab: Observed) -> None:
    # facts/kernel.csv: a leaf and a branch, each in an allocation of 64 byte and more
    assert 2 < lab.kernel.paid["endpoints"] / lab.kernel.slopes["endpoints"] < 4.5
    assert lab.kernel.paid["services"] >= lab.kernel.slopes["services"]


def test_maps_of_an_old_kernel_are_counted_by_its_own_rule(lab: Observed) -> None:
    node = dict.fromkeys(NODES.schema) | {"node": "a", "kernel": "5.15.0-105-generic"}
    old = replace(Inventory(), nodes=pl.DataFrame([node], schema=NODES.schema))
    told = kernel_memory(lab.steps, lab.drivers, old, capacity.PlanSettings(), "1.17")
    assert told.kernel == "5.15.0-105-generic"
    # Before 6.4 a map is told by its size, whatever it holds: more addresses, the same bytes
    assert "endpoints" not in told.slopes
    assert "endpoints" not in told.paid
    # What tries cost beyond the report was measured on 6.18; others are taken to cost as much
    assert told.charged > told.reported


def test_forecasts_hold_the_maps_that_later_pods_are_not_charged_for() -> None:
    metrics, truth = fleet([True] * 25 + [False] * 15)
    steps = by_step(observe(metrics))
    found = doubts(metrics, steps, drivers(steps), Inventory(), [], "1.17")
    row = found.filter(kind="maps charged to an earlier pod").row(0, named=True)
    assert "15 of 40 agents started after another one" in row["detail"]
    assert row["other"] == pytest.approx(MAPS, rel=0.05)
    worst = steps.filter(component="agent", quantity="memory")["largest"].max()
    assert worst == pytest.approx(np.max(truth), rel=0.05)


def test_each_node_counts_as_it_was_last_seen(lab: Observed) -> None:
    """Dumps of nodes are minutes apart: the fullest need not be the last."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    blank = {"name": "cilium_ipcache", "type": "hash", "key_size": 4, "value_size": 4,
             "max_entries": 1, "flags": 0}  # fmt: skip
    seen = [("a", 0, 9_000), ("a", 1, 5_000), ("b", 2, 1_000)]
    rows = [{**blank, "node": node, "time": at + timedelta(minutes=minute), "memlock": size}
            for node, minute, size in seen]  # fmt: skip
    maps = replace(Inventory(), bpf_maps=pl.DataFrame(rows, schema=BPF_MAPS.schema))
    told = kernel_memory(lab.steps, lab.drivers, maps, capacity.PlanSettings(), "1.17")
    assert told.reported == 5_000


@pytest.mark.parametrize("full", [1.0, 0.4])
def test_reported_bytes_tell_how_full_policy_maps_are_beside_the_fullest(full: float) -> None:
    entries = np.linspace(1e5, 2e5, 30)
    noise = np.random.default_rng(0).normal(0, 5e3, 30)
    seen = pl.DataFrame({"map_bytes": 1e8 + 56 * full * entries + noise, "policy_entries": entries})
    told, filled = _fitting({False: {"policy_entries": 56.0}, True: {}}, seen)
    assert filled == pytest.approx(full, rel=0.05)
    assert told["policy_entries"] == pytest.approx(56 * full, rel=0.05)
    assert _fitting({False: {"policy_entries": 56.0}, True: {}}, seen[:5])[1] == 1.0
