"""What packets do to the plan: clusters whose cost, trend and busiest CPU are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import capacity
from capacity.inventory import Inventory
from capacity.lb_advice import ACCELERATION, AFFINITY, MODE, advice
from capacity.lb_outlook import BUDGET, Seen, full_at
from capacity.planning import Plan
from capacity.recommend import Planned, Present
from capacity.settings import PlanSettings
from capacity.throughput.ways import WAYS, Way, ratio, work

COST, BASE, CPUS, STEP, DAYS = 1800e-9, 0.04, 4, 3600, 14
# Of a mean node at 200 nodes; half of the work is on one CPU
MEAN, BUSY = 220_000.0, 0.5
START = 1_767_225_600
NATIVE = {
    "kube-proxy-replacement": "true", "routing-mode": "native", "bpf-lb-mode": "snat",
    "bpf-lb-acceleration": "disabled",
}  # fmt: skip


def rate(power: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Cluster nodes, 100 to 200, and packets of a mean node, which go with a power of them."""
    hours = np.arange(DAYS * 24)
    nodes = np.round(np.linspace(100, 200, len(hours)))
    day = 1 + 0.5 * np.sin(hours / 24 * 2 * np.pi)
    return nodes, MEAN * day * (nodes / 200) ** power


def exposition(power: float, *, packets: bool = True) -> str:
    """OpenMetrics of agents and node_exporter of three nodes, one of which handles most."""
    rng = np.random.default_rng(0)
    nodes, moved = rate(power)
    lines: dict[str, list[str]] = {}

    def add(metric: str, labels: str, values: Any) -> None:
        lines.setdefault(metric, []).extend(
            f"{metric}{{{labels}}} {value:.6f} {START + i * STEP}" for i, value in enumerate(values)
        )

    for name, weight in (("n0", 0.5), ("n1", 0.5), ("n2", 2.0)):
        own = moved * weight
        add("cilium_nodes_all_num", f'node="{name}"', nodes)
        add("cilium_bpf_map_pressure", f'node="{name}",map_name="ipcache"', nodes / 1e5)
        if not packets:
            continue
        add("cilium_forward_count_total", f'node="{name}",direction="INGRESS"',
            np.cumsum(own * STEP))  # fmt: skip
        noise = 1 + rng.normal(0, 0.005, len(own))
        for cpu, share in enumerate([BUSY, 0.2, 0.2, 0.1]):
            used = BASE / CPUS + COST * own * share * noise
            for mode, part in (("softirq", used), ("idle", 1 - used)):
                add("node_cpu_seconds_total", f'node="{name}",cpu="{cpu}",mode="{mode}"',
                    np.cumsum(part * STEP))  # fmt: skip
    text = [
        f"# TYPE {name.removesuffix('_total')} {'counter' if name.endswith('_total') else 'gauge'}"
        "\n" + "\n".join(rows)
        for name, rows in lines.items()
    ]
    return "\n".join(text) + "\n# EOF\n"


def inventory(folder: Path, options: dict[str, str]) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "namespace": "web"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                 "externalTrafficPolicy": "Cluster", "sessionAffinity": "ClientIP",
                 "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]},
    }  # fmt: skip
    settings = {
        "apiVersion": "v1", "kind": "ConfigMap", "data": options,
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
    }  # fmt: skip
    for name, item in (("services", service), ("config", settings)):
        told = {"apiVersion": "v1", "kind": "List", "items": [item]}
        (folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A node's packets go with the square root of the node count."""
    folder = tmp_path_factory.mktemp("growing")
    (folder / "metrics.om").write_text(exposition(0.5), encoding="utf-8")
    inventory(folder, NATIVE)
    return capacity.plan(PlanSettings(source=str(folder), cilium="1.17", nodes=(300,)))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The same without packets and CPUs."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "metrics.om").write_text(exposition(0.5, packets=False), encoding="utf-8")
    return capacity.plan(PlanSettings(source=str(folder), cilium="1.17", nodes=(300,)))


def busiest() -> float:
    _, moved = rate(0.5)
    return BASE / CPUS + COST * BUSY * 2 * float(moved.max())


def present(**options: str) -> Present:
    told = {name.replace("_", "-"): value for name, value in options.items()}
    return Present("1.17", {}, NATIVE | told, {}, None)


def test_the_present_way_has_the_cost_and_the_busiest_cpu_of_the_truth(planned: Plan) -> None:
    now = planned.lb_tier.filter("present", nodes=200).row(0, named=True)
    assert (now["mode"], now["acceleration"]) == ("snat", "disabled")
    assert now["nanoseconds"] == pytest.approx(COST * 1e9, rel=0.02)
    assert now["low"] <= now["nanoseconds"] <= now["high"]
    assert now["use"] == pytest.approx(busiest(), rel=0.02)
    _, moved = rate(0.5)
    assert now["packets"] == pytest.approx(200 * float(moved.max()), rel=0.01)


def test_bounds_of_another_way_reach_to_no_saving_at_all(planned: Plan) -> None:
    now = planned.lb_tier.filter("present", nodes=300).row(0, named=True)
    for row in planned.lb_tier.filter(~pl.col("present"), nodes=300).iter_rows(named=True):
        assert row["use"] < now["use"] <= row["use_high"]
        assert row["needed"] < now["needed"] <= row["needed_high"]


def test_nodes_needed_are_those_whose_busiest_cpu_stays_within_the_budget(planned: Plan) -> None:
    room = (BUDGET - BASE / CPUS) / (busiest() - BASE / CPUS)
    for nodes in (200, 300):
        row = planned.lb_tier.filter("present", nodes=nodes).row(0, named=True)
        load = nodes * (nodes / 200) ** 0.5
        assert row["needed"] - 1 == pytest.approx(load / room, rel=0.04)
        assert row["needed_low"] <= row["needed"] <= row["needed_high"]
        assert row["per_mpps"] * row["packets"] / 1e6 == pytest.approx(row["needed"] - 1, abs=1.0)


def test_the_busiest_cpu_is_full_at_the_node_count_that_the_trend_leads_to(planned: Plan) -> None:
    room = (BUDGET - BASE / CPUS) / (busiest() - BASE / CPUS)
    first = planned.first_limit
    assert first is not None
    assert first["resource"] == "softirq of the busiest CPU"
    assert first["nodes"] == pytest.approx(200 * room**2, rel=0.08)
    assert planned.verdict == "short"
    assert f"{first['nodes']:,} nodes as a node's packets grow" in planned.headline


def test_what_to_set_tells_what_it_breaks_and_is_not_sure(planned: Plan) -> None:
    told = planned.recommendation.filter(pl.col("setting").is_in([MODE, ACCELERATION, AFFINITY]))
    assert set(told["setting"]) == {MODE, ACCELERATION, AFFINITY}
    assert set(told["confidence"]) == {"low"}
    effects = dict(told.select("setting", "side_effect").iter_rows())
    assert "VXLAN is refused" in effects[MODE]
    assert "native XDP" in effects[ACCELERATION]
    assert planned.recommendation["rank"].to_list() == list(
        range(1, len(planned.recommendation) + 1)
    )


def test_without_packets_the_table_is_empty_and_coverage_says_what_to_export(bare: Plan) -> None:
    assert bare.lb_tier.is_empty()
    assert bare.recommendation.filter(pl.col("setting").is_in([MODE, ACCELERATION])).is_empty()
    told = bare.coverage.filter(pl.col("want").str.contains("lb_tier"))
    assert told["source"].to_list() == ["cilium_forward_count_total", "node_cpu_seconds_total"]
    assert "present" not in set(told["status"])
    assert "node_exporter" in told["hint"][1]


def seen(**more: Any) -> Seen:
    told = Seen(1e5, (1800.0, 1700.0, 1900.0), (0.01, 0.02, 0.0), 0.35, 1.0, 3, 0.0)
    return replace(told, **more)


def test_without_a_trend_no_node_count_fills_a_cpu_that_is_not_full_today() -> None:
    assert full_at(seen(), 100) is None
    assert full_at(seen(busiest=0.8), 100) == 100
    # 0.69 of 0.34: twice the packets at (0.69 / 0.34) times the nodes
    assert full_at(seen(exponent=1.0), 100) == math.ceil(100 * 0.69 / 0.34)
    assert full_at(seen(exponent=0.01), 100) is None


@pytest.mark.parametrize("nodes", [2, 10, 1000])
@pytest.mark.parametrize("tunnel", [False, True])
def test_native_xdp_and_dsr_never_cost_more(nodes: int, tunnel: bool) -> None:
    slow = Way("snat", "disabled")
    assert ratio(slow, slow, nodes, tunnel=tunnel).high == 1.0
    for way in WAYS:
        told = ratio(way, slow, nodes, tunnel=tunnel)
        assert 0 < told.low <= told.middle <= told.high == 1.0
    assert (
        work(Way("dsr", "native"), nodes, tunnel=tunnel).middle
        < work(Way("snat", "native"), nodes, tunnel=tunnel).middle
    )


def settings_told(plan: Plan, inventory: Inventory, told: Present, nodes: int = 300) -> set[str]:
    from capacity.lb_outlook import _rows
    from capacity.tables import LB_TIER

    rows = _rows(seen(busiest=0.65, exponent=0.5), nodes, 200, told)
    table = pl.DataFrame(rows, schema=LB_TIER.schema)
    asked = advice(table, inventory, Planned(nodes, "x"), plan.settings, told, "c", skew=1.0)
    return set(asked["setting"])


def test_advice_is_given_only_where_evidence_supports_it(planned: Plan) -> None:
    from capacity.load import read_inventory

    held = read_inventory(planned.settings.source)
    told = present()
    assert settings_told(planned, held, told) == {MODE, ACCELERATION}
    vxlan = present(routing_mode="tunnel", tunnel_protocol="vxlan")
    assert settings_told(planned, held, vxlan) == {ACCELERATION}
    hidden = present(enable_wireguard="true", encrypt_node="true")
    assert settings_told(planned, held, hidden) == {MODE}
    both = present(bpf_lb_mode="dsr", bpf_lb_acceleration="native")
    assert settings_told(planned, held, both) == set()
    assert settings_told(planned, held, present(kube_proxy_replacement="false")) == set()
    assert settings_told(planned, Inventory(), told) == set()
    assert settings_told(planned, held, told, nodes=10) == set()
