"""The plan as a whole: against a simulated cluster's truth and a real agent's recording."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import capacity
from capacity import observing, planning, shipped
from capacity.cilium import map_memory
from capacity.errors import CapacityError, ExportError
from capacity.export import Metrics
from capacity.planning import Plan
from capacity.settings import PlanSettings
from capacity.simulate import laws
from capacity.simulation_settings import SimulationSettings
from capacity.tables import TABLES, check
from capacity.units import parse_bytes


@pytest.fixture(scope="module")
def lab() -> Plan:
    return capacity.plan(PlanSettings(str(shipped.path("data", "lab"))))


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, object]]:
    told = json.loads(shipped.path("data", "demo", "truth.json").read_text(encoding="utf-8"))
    return {
        f"{row['component']} {row['subject'] or row['quantity']}": row
        for row in told["exhaustion"]
        if row["statistic"] in ("worst node", "leader")
    }


def found(plan: Plan, component: str, name: str) -> dict[str, object]:
    rows = plan.exhaustion.filter(
        pl.col("component") == component,
        pl.coalesce("subject", "quantity") == name,
    )
    assert len(rows) == 1, (component, name)
    return rows.row(0, named=True)


def test_every_frame_of_a_plan_is_a_declared_table(demo: Plan, lab: Plan) -> None:
    tables = {table.name: table for table in TABLES} | {"curves": None}
    tables["curves"] = tables["forecast"]
    for plan in (demo, lab):
        for name in planning.FRAMES:
            check(getattr(plan, name), tables[name])


def test_the_demo_tells_first_what_truly_breaks_first(demo: Plan) -> None:
    first = demo.exhaustion.row(0, named=True)
    assert first["subject"] == "lb4_services_v2"
    assert demo.verdict == "short"
    assert "lb4_services_v2" in demo.headline


@pytest.mark.parametrize(
    ("component", "name"),
    [("map", "lb4_services_v2"), ("map", "cilium_policy_*"), ("map", "lb4_backends_v3"),
     ("map", "ipcache"), ("operator", "memory"), ("agent", "memory")],
)  # fmt: skip
def test_the_true_node_count_of_the_demo_lies_in_what_is_told(
    demo: Plan, truth: dict[str, dict[str, object]], component: str, name: str
) -> None:
    told = found(demo, component, name)
    true = truth[f"{component} {name}"]["nodes"]
    assert isinstance(true, int)
    assert told["nodes_early"] <= true
    assert told["nodes_median"] == pytest.approx(true, rel=0.1)


def test_agents_of_the_demo_are_full_where_the_kernels_charge_for_tries_fills_them(
    demo: Plan,
) -> None:
    """The simulation's laws charge what agents report; the kernel charges more for tries."""
    told = found(demo, "agent", "memory")
    full = 1400 + 4 * bisect_left(range(1400, 1700, 4), told["limit"], key=charged_agent)
    assert 1480 < full < 1540
    assert told["nodes_median"] == pytest.approx(full, rel=0.03)
    assert told["nodes_early"] < full
    assert "of kernel memory that no agent reports" in told["reason"]


def charged_agent(nodes: int) -> float:
    """Give the worst agent's memory with what its tries cost the memory cgroup."""
    settings = SimulationSettings(cluster="demo", seed=7)
    people, law = laws.Population.draw(settings), laws.cluster_law(settings, nodes)
    rows = laws.node_rows(people.pods, people.heavy, law["policy_worst"], settings.pods_per_node)
    seen = law | {"nodes": float(nodes)}
    own = 1024 * (laws.agent_memory_kib(seen, people.pods + 2, rows) + people.noise_kib)
    maps = laws.map_bytes(settings, law["ipcache"], people.pods + 2, rows)
    more = beyond("cilium_policy_v2_", 10_000) / 10_000 * rows
    more = more + beyond("cilium_ipcache", int(law["ipcache"]))
    return float(np.quantile(own + maps + more, 0.5 ** (1 / nodes)))


def beyond(name: str, entries: int) -> int:
    """Give what a trie is charged for beyond its report. [byte]"""
    fact = capacity.facts.maps("1.17").row(by_predicate=pl.col("map") == name, named=True)
    shape = (fact["type"], fact["key_size"], fact["value_size"], 512_000)
    how: dict[str, Any] = {"flags": 1, "entries": entries, "cpus": 1, "kernel": "6.18"}
    paid = map_memory.charged_bytes(*shape, **how)
    assert paid is not None
    return paid - map_memory.memlock_bytes(*shape, **how)


def test_dates_follow_the_growth_of_the_demo(
    demo: Plan, truth: dict[str, dict[str, object]]
) -> None:
    told = found(demo, "map", "lb4_services_v2")
    true = datetime.fromisoformat(str(truth["map lb4_services_v2"]["date"]))
    assert told["date_early"] < true
    assert abs((told["date_median"] - true).days) < 45


def test_what_is_to_be_set_holds_the_true_need_at_the_planned_node_count(demo: Plan) -> None:
    lb = demo.recommendation.filter(subject="lb4_services_v2").row(0, named=True)
    assert lb["setting"] == "bpf.lbMapMax"
    assert lb["status"] == "raise"
    # A power of two that holds the 99 % quantile at the planned nodes and leaves a fifth free
    need = float(re.search(r"needs ([\d,]+) entries", lb["reason"])[1].replace(",", ""))
    assert lb["target"] in (131_072, 262_144)
    assert lb["target"] / 2 < need / 0.8 <= lb["target"]
    assert lb["restart"]
    assert lb["cost"] > 0
    for row in demo.recommendation.iter_rows(named=True):
        assert row["reason"]
        assert row["evidence"]
        assert row["status"] in {"ok", "raise", "set", "redesign", "unknown"}


def test_a_plan_of_the_applied_advice_asks_for_no_larger_maps(demo: Plan) -> None:
    """The largest target is enough: usage at the planned nodes stays below 1 - headroom."""
    for row in demo.recommendation.filter(status="raise", unit="1").iter_rows(named=True):
        planned = int(re.sub(r"\D", "", re.search(r"at ([\d,]+) nodes", row["reason"])[1]))
        curve = demo.curves.filter(pl.col("subject") == row["subject"])
        need = curve.filter(pl.col("nodes") >= planned).sort("nodes")["q95"][0]
        assert need <= row["target"]


def test_the_same_settings_give_the_same_plan(lab: Plan) -> None:
    again = capacity.plan(lab.settings)
    for name in planning.FRAMES:
        assert getattr(again, name).equals(getattr(lab, name)), name
    assert again.headline == lab.headline


def test_another_seed_changes_draws_but_not_the_story(lab: Plan) -> None:
    other = capacity.plan(dataclasses.replace(lab.settings, seed=5))
    assert other.exhaustion["subject"][0] == lab.exhaustion["subject"][0]
    assert not other.forecast.equals(lab.forecast)


def lab_truth() -> dict[str, Any]:
    """What the recording itself says of the newest step, by other tools than the metrics."""
    text = shipped.path("data", "lab", "truth.json").read_text(encoding="utf-8")
    newest: dict[str, Any] = json.loads(text)["steps"][-1]
    return newest


def test_entries_of_the_lab_are_those_of_the_recording(lab: Plan) -> None:
    true = lab_truth()
    told = dict(lab.exhaustion.filter(component="map").select("subject", "current").iter_rows())
    assert told["ipcache"] == true["ipcache_entries"]
    assert told["cilium_policy_*"] == true["policy_entries_most"]
    for name in ("lxc", "lb4_services_v2", "lb4_backends_v3", "lb4_reverse_nat", "tunnel_map"):
        assert told[name] == true[f"{name}_entries"], name
    newest = lab.drivers.row(-1, named=True)
    for name in ("nodes", "policies", "services"):
        assert newest[name] == true[name], name
    assert newest["endpoints_per_node"] == true["endpoints"]
    # The product of the worst map and the number of maps: an upper bound, 5 % above here
    assert 1 <= newest["policy_entries"] / true["policy_entries"] < 1.06


def test_map_memory_of_the_lab_is_the_kernels_own_to_the_byte(lab: Plan) -> None:
    assert set(lab.maps["source"]) == {"bpftool map show"}
    other = lab_truth()["maps_memlock_bytes"] - lab.maps["memlock"].sum()
    # Maps that are not Cilium's stand in bpftool's list too
    assert 0 <= other < 10_000
    assert lab.maps["count"].sum() == pytest.approx(lab_truth()["maps"], abs=5)


def test_memory_of_the_labs_agent_is_rss_plus_maps(lab: Plan) -> None:
    metrics = capacity.read(shipped.path("data", "lab"))
    rss = metrics.select("cilium_process_resident_memory_bytes")["value"][-1]
    maps = metrics.select("cilium_bpf_maps_virtual_memory_max_bytes")["value"][-1]
    assert rss == pytest.approx(lab_truth()["rss_bytes"], rel=0.01)
    assert found(lab, "agent", "memory")["current"] == rss + maps


def test_sizes_of_the_labs_maps_are_the_agents_dynamic_sizes(lab: Plan) -> None:
    from capacity.cilium.map_sizes import dynamic_sizes

    sized = dynamic_sizes(25_276_502_016, 0.0025, version="1.17")
    limits = dict(lab.limits.filter(component="map").select("subject", "limit").iter_rows())
    assert limits["ct4_global"] == sized["bpf-ct-global-tcp-max"] == 221_723
    assert limits["ct_any4_global"] == sized["bpf-ct-global-any-max"]


def test_the_lab_is_planned_without_dates_since_it_spans_minutes(lab: Plan) -> None:
    assert lab.exhaustion["date_early"].null_count() == len(lab.exhaustion)
    assert any("only node counts" in warning for warning in lab.warnings)


def test_the_lab_needs_more_load_for_more_nodes(lab: Plan) -> None:
    rows = lab.forecast.sort("component", "subject", "quantity", "nodes")
    grown = rows.group_by("component", "subject", "quantity", maintain_order=True).agg(
        pl.col("q50").diff().min().alias("least")
    )
    assert grown["least"].min() >= -1e-6 * rows["q50"].max()


def test_asked_node_counts_and_fixed_drivers_are_used(lab: Plan) -> None:
    asked = dataclasses.replace(lab.settings, nodes=(1000,), set=("services=5000",))
    plan = capacity.plan(asked)
    assert plan.forecast["nodes"].max() == 1000
    services = plan.scenario.filter(pl.col("driver") == "services", pl.col("nodes") == 1000)
    assert services["value"].to_list() == [5000.0]
    assert services["basis"].to_list() == ["set"]
    ids = plan.forecast.filter(pl.col("subject") == "service-ids", pl.col("nodes") == 1000)
    assert ids["q50"][0] == pytest.approx(5000, rel=0.02)


def test_a_hard_limit_is_never_to_be_raised(lab: Plan) -> None:
    plan = capacity.plan(dataclasses.replace(lab.settings, nodes=(100_000,)))
    hard = set(plan.exhaustion.filter(pl.col("kind") == "hard")["subject"])
    rows = plan.recommendation.filter(pl.col("subject").is_in(hard))
    assert set(rows["status"]) <= {"ok", "redesign"}
    told = rows.filter(pl.col("status") == "redesign")
    assert not told.is_empty()
    assert told["target"].null_count() == len(told)
    assert told["reason"].str.contains("largest cluster of this shape").all()


def test_a_target_never_exceeds_what_cilium_accepts(lab: Plan) -> None:
    plan = capacity.plan(dataclasses.replace(lab.settings, nodes=(100_000,)))
    over = plan.recommendation.filter(pl.col("target") > pl.col("upper"))
    assert over.is_empty()


def test_of_an_export_of_two_clusters_one_is_planned(tmp_path: Path) -> None:
    lines = [
        f'cilium_bpf_map_pressure{{map_name="ipcache",node="{name}{n}",cluster="{name}"}} '
        f"0.{i}{n} {1_767_225_600_000 + i * 60_000}"
        for name, nodes in (("a", 2), ("b", 3))
        for n in range(nodes)
        for i in range(1, 8)
    ]
    lines += [
        f'cilium_nodes_all_num{{node="{name}0",cluster="{name}"}} {count + i} '
        f"{1_767_225_600_000 + i * 60_000}"
        for name, count in (("a", 10), ("b", 500))
        for i in range(1, 8)
    ]
    (tmp_path / "both.prom").write_text("\n".join(lines) + "\n")
    with pytest.raises(ExportError, match=r"--cluster NAME of a \(2 nodes\), b \(3 nodes\)"):
        capacity.plan(PlanSettings(str(tmp_path)))
    with pytest.raises(ExportError, match="no cluster 'c'"):
        capacity.plan(PlanSettings(str(tmp_path), cluster="c"))
    for name, count in (("a", 17), ("b", 507)):
        told = capacity.plan(PlanSettings(str(tmp_path), cluster=name))
        assert told.cluster == name
        assert told.drivers["nodes"].max() == count
        assert told.drivers["cluster"].unique().to_list() == [name]


def test_an_export_without_cilium_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.prom").write_text("up 1 1767225600000\n")
    with pytest.raises(CapacityError, match="cilium_bpf_map_pressure|nothing"):
        capacity.plan(PlanSettings(str(tmp_path)))


def test_the_version_comes_from_the_option_the_metric_or_the_maps(
    export: Callable[..., Metrics],
) -> None:
    def told(**settings: str) -> tuple[str, str | None]:
        return observing.detect_version(metrics, PlanSettings("x", **settings))

    metrics = export(({"__name__": "cilium_version", "version": "1.16.4"}, [(0, 0.0)]))
    assert told() == ("1.16", None)
    assert told(cilium="1.18.2") == ("1.18", None)
    metrics = export(
        ({"__name__": "cilium_bpf_map_pressure", "map_name": "tunnel_map"}, [(0, 0.1)])
    )
    version, note = told()
    assert version == "1.17"
    assert "--cilium" in str(note)


def test_quantities_written_in_manifests_read_back(demo: Plan) -> None:
    from capacity.manifests import manifests

    values = manifests(demo)["helm-values.yaml"]
    limit = re.search(r"limits:\n(?:\s+#.*\n)?\s+memory: (\S+)", values)
    assert limit is not None
    assert parse_bytes(limit[1]) > 0


def test_no_secret_of_a_url_gets_into_the_outcome(
    monkeypatch: pytest.MonkeyPatch, lab: Plan
) -> None:
    from capacity.outcome import to_json

    url = "http://me:s3cret@127.0.0.1/prom?token=s3cret"
    plan = dataclasses.replace(lab, settings=dataclasses.replace(lab.settings, source=url))
    assert "s3cret" not in to_json(plan)
    assert "s3cret" not in plan._repr_html_()


def test_gz_files_of_the_lab_are_small_and_deterministic() -> None:
    for file in shipped.path("data", "lab").rglob("*.gz"):
        assert file.stat().st_size < 200_000
        head = file.read_bytes()[:8]
        assert head[4:8] == b"\0\0\0\0", f"{file.name} holds the time it was made"
        assert gzip.decompress(file.read_bytes())


def test_an_explanation_adds_up_to_the_forecast_and_tells_where_costs_come_from(
    demo: Plan, lab: Plan
) -> None:
    for plan in (demo, lab):
        for key, parts in plan.explanation.partition_by(
            ["component", "subject", "quantity"], as_dict=True
        ).items():
            told = plan.forecast.filter(
                *(pl.col(k).eq_missing(pl.lit(v, pl.String))
                  for k, v in zip(("component", "subject", "quantity"), key, strict=True)),
                nodes=parts["nodes"][0],
            ).row(0, named=True)  # fmt: skip
            # The mean of the draws, before noise and the bend beyond the data
            slack = 0.05 * told["q50"]
            assert told["q05"] - slack <= parts["mean"].sum() <= told["q95"] + slack, key
            assert parts["share"].sum() == pytest.approx(1)
    memory = demo.explanation.filter(component="agent", quantity="memory")
    assert set(memory["basis"]) == {"code", "observed", "prior"}
    assert memory.filter(part="map_bytes")["basis"].item() == "code"
    ipcache = demo.explanation.filter(subject="ipcache").rows_by_key("part", named=True)
    assert ipcache["endpoints"][0]["basis"] == "code"
    assert ipcache["endpoints"][0]["share"] > 0.8
