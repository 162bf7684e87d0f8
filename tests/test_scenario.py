"""Scenarios in a forecast: what each change moves, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from capacity import charts, facts, scenario_findings
from capacity.errors import SettingsError
from capacity.report.notebook import of_all
from capacity.scenario_settings import ScenarioSettings
from capacity.scenario_text import BASE, parse
from capacity.scenarios import Scenarios, _load, scenarios
from capacity.settings import PlanSettings
from tests.command import run

LAB = PlanSettings(str(Path(__file__).parents[1] / "data" / "lab"))
CHANGES = (
    "nodes: nodes=2000", "dense: pods_per_node=x2", "services: services=x2", "mesh: mesh=3",
    "split: split=2", "shared: split=2, shared=0.5", "merge: merge=2", "both: split=4, mesh=4",
    "lb: bpf-lb-map-max=131072, mode=dsr", "version: cilium=1.18", "load: churn=20, ces=on",
    "kvstore: kvstore=on", "huge: mesh=300",
)  # fmt: skip


@pytest.fixture(scope="module")
def told() -> Scenarios:
    return scenarios(PlanSettings(), [parse(text) for text in CHANGES], today=True)


def median(told: Scenarios, scenario: str, resource: str) -> float:
    component, _, quantity = resource.partition(" ")
    same = pl.col("subject") == resource
    if quantity:
        same = (pl.col("component") == component) & (pl.col("quantity") == quantity)
    return float(told.scenarios.filter(same, scenario=scenario)["q50"][0])


def ratio(told: Scenarios, scenario: str, resource: str) -> float:
    return median(told, scenario, resource) / median(told, "as it is", resource)


@pytest.mark.parametrize(
    ("scenario", "resource", "times"),
    [
        ("nodes", "ipcache", 2.0), ("nodes", "lxc", 1.0),
        ("dense", "ipcache", 32 * 2 / 32), ("dense", "lb4_backends_v3", 2.0),
        ("mesh", "ipcache", 3.0), ("mesh", "node_map_v2", 3.0), ("mesh", "lb4_services_v2", 1.0),
        ("mesh", "cluster-identities", 1.0), ("mesh", "operator memory", 1.0),
        ("split", "ipcache", 0.5), ("split", "cluster-identities", 0.5), ("split", "lxc", 1.0),
        ("shared", "cluster-identities", 0.75), ("shared", "ipcache", 0.5),
        ("merge", "ipcache", 2.0), ("merge", "cluster-identities", 2.0),
        ("both", "ipcache", 1.0), ("both", "cluster-identities", 0.25),
        ("lb", "lb4_services_v2", 1.0), ("version", "agent memory", 1.0),
    ],
)  # fmt: skip
def test_a_change_moves_what_depends_on_it(
    told: Scenarios, scenario: str, resource: str, times: float
) -> None:
    assert ratio(told, scenario, resource) == pytest.approx(times, rel=0.08)


def test_more_remote_nodes_cost_agents_memory_and_more_services_entries(told: Scenarios) -> None:
    assert ratio(told, "mesh", "agent memory") > 1.2
    assert ratio(told, "services", "lb4_services_v2") > 1.0


def row(told: Scenarios, scenario: str, resource: str) -> dict[str, Any]:
    return told.scenarios.filter(scenario=scenario, subject=resource).row(0, named=True)


def test_limits_are_those_of_the_scenario(told: Scenarios) -> None:
    assert row(told, "lb", "lb4_services_v2")["limit"] == 131_072
    assert row(told, "lb", "ct4_global")["limit"] == row(told, "as it is", "ct4_global")["limit"]
    assert "upper bound" in row(told, "lb", "snat_v4_external")["note"]
    # Of a mesh of more than 255 clusters each has half of the identities
    assert row(told, "huge", "cluster-identities")["limit"] == 32_768
    assert row(told, "huge", "ipcache")["status"] == "short"
    assert any("36 facts change" in note or "facts change" in note for note in told.notes)


def test_load_of_the_api_server_is_told_for_every_scenario(told: Scenarios) -> None:
    database = told.control_plane.filter(what="etcd database", server="kube-apiserver")
    assert database["scenario"].to_list() == ["as it is", *(t.split(":")[0] for t in CHANGES)]
    # etcd's default quota, of both servers; nothing else has a limit
    limited = told.control_plane.filter(pl.col("limit").is_not_null())
    assert set(limited["what"]) == {"etcd database"}
    assert set(limited["server"]) == {"kube-apiserver", "kvstore"}
    assert set(limited["limit"]) == {2.0**31}
    rows = dict(database.select("scenario", "value").iter_rows())
    assert rows["dense"] > 1.8 * rows["as it is"]
    assert rows["mesh"] == rows["as it is"]
    events = told.control_plane.filter(what="events sent to agents")
    assert events["scenario"].to_list() == ["load"]
    assert "kvstore" in told.control_plane["server"].to_list()


def test_pods_that_come_cost_agents_and_operator_cpu_as_recorded(told: Scenarios) -> None:
    rows = told.control_plane.filter(what="CPU of pods that come").rows_by_key("server", named=True)
    assert set(rows) == {"each agent", "each operator"}
    agent = rows["each agent"][0]
    assert agent["scenario"] == "load"
    # 20 pods a second: each an address (0.21 to 3.1 ms) to every agent, and a pod to one of 1,000
    assert 8 + 20 * 0.21 < agent["value"] < 26 + 20 * 3.1
    assert "nothing of this cluster" in agent["why"]
    assert "idle: not known" in rows["each operator"][0]["why"]


def test_what_ces_and_kvstore_do_to_agents_is_said_not_to_be_modeled(told: Scenarios) -> None:
    said = [note for note in told.notes if "is not modeled" in note]
    assert [note.split(":")[0] for note in said] == ["load", "kvstore"]
    assert ratio(told, "load", "agent memory") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grow", "is no scenario"),
        ("grow: nodes", "is not KEY=VALUE"),
        ("grow: nodes=many", "none of 500, +500, -500, x2"),
        ("grow: notes=5", "'nodes' is near"),
        ("grow: bpf-lb-map-mx=5", "'bpf-lb-map-max' is near"),
        ("grow: mesh=0", "no number of clusters"),
        ("grow: ces=maybe", "none of on, off"),
        ("grow: shared=2", "no share"),
        ("grow: mode=magic", "none of snat, dsr, hybrid"),
    ],
)
def test_what_is_no_scenario_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(text)
    assert said in str(error.value)


def test_all_faults_of_a_scenario_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)nodes=a.*mesh=b"):
        parse("grow: nodes=a, mesh=b")


def test_a_size_that_no_agent_takes_is_refused() -> None:
    with pytest.raises(SettingsError, match="outside"):
        scenarios(LAB, [parse("x: bpf-lb-map-max=0")])


def test_the_command_tells_what_differs(tmp_path: Path) -> None:
    done = run("scenario", LAB.source, "--change", "mesh: mesh=3", "-o", "json", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    made = json.loads(done.stdout)
    assert {row["scenario"] for row in made["scenarios"]} == {"as it is", "mesh"}
    assert "the other clusters are taken to be like this one" in done.stderr
    table = run("scenario", LAB.source, "--change", "none: nodes=x1", cwd=tmp_path)
    assert "as it is" in table.stdout
    assert "Every limit is as it is: none" in table.stdout
    assert "none" not in table.stdout.split("Every limit")[0]


@pytest.mark.parametrize("names", [("a", "a"), ("as it is",)])
def test_scenarios_that_could_not_be_told_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="another name"):
        scenarios(LAB, [parse(f"{name}: nodes=x2") for name in names])


def test_a_control_plane_is_not_told_of_counts_that_never_came_together() -> None:
    drivers = pl.DataFrame({"nodes": [5.0, 5.0], "endpoints": [9.0, None],
                            "identities": [None, 7.0]})  # fmt: skip
    base: Any = SimpleNamespace(seen=SimpleNamespace(drivers=drivers), nodes=np.full(3, 5.0),
                                index=-1, settings=LAB)  # fmt: skip
    assert _load(base, BASE) == []


@pytest.fixture(scope="module")
def lab() -> Scenarios:
    changes = ("services: services=+1000", "pods: pods=x2", "dense: pods_per_node=x2",
               "policies: policies=x2", "both: nodes=x2, pods=x2", "nodes: nodes=x2",
               "sizes: bpf-map-dynamic-size-ratio=0.005", "next: cilium=1.18")  # fmt: skip
    settings = PlanSettings(LAB.source, memory="25276502016")
    return scenarios(settings, [parse(text) for text in changes], today=True)


def test_more_services_bring_backends_as_those_that_are_there(lab: Scenarios) -> None:
    # 1,001 services hold 11,002 entries, ten backends each: the walk's own step from 200 to 1,000
    assert median(lab, "services", "lb4_services_v2") == pytest.approx(22_002, rel=0.03)
    assert median(lab, "services", "lb4_backends_v3") == pytest.approx(20_001, rel=0.03)


def test_pods_at_constant_nodes_are_a_denser_cluster(lab: Scenarios) -> None:
    for resource in ("ipcache", "lxc", "lb4_services_v2", "agent memory", "ct4_global"):
        assert median(lab, "pods", resource) == pytest.approx(median(lab, "dense", resource))
    # The same services with twice the backends: 1,001 + 2 x 10,001
    assert median(lab, "pods", "lb4_services_v2") == pytest.approx(21_003, rel=0.01)
    # Twice the nodes and twice the pods: as dense as before
    assert ratio(lab, "both", "lxc") == pytest.approx(1.0, rel=0.05)


def test_policies_cost_agents_the_memory_of_their_entries(lab: Scenarios) -> None:
    assert ratio(lab, "policies", "cilium_policy_*") > 1.3
    assert ratio(lab, "policies", "agent memory") > 1.2


def test_larger_maps_cost_agents_their_bytes(lab: Scenarios) -> None:
    grown = median(lab, "sizes", "agent memory") - median(lab, "as it is", "agent memory")
    said = [note for note in lab.notes if note.startswith("sizes: maps take")]
    assert grown > 80 * 2**20
    assert said == [f"sizes: maps take {grown / 2**20:.4g} MiB more on each node"]


def test_another_version_has_its_own_maps_and_entries(lab: Scenarios, told: Scenarios) -> None:
    gone = row(lab, "next", "tunnel_map")
    assert (gone["limit"], gone["status"]) == (None, "unknown")
    assert gone["note"] == "Cilium 1.18 has no such map"
    assert row(told, "version", "ipcache")["note"] == "called ipcache_v2 in Cilium 1.18"
    # One pod CIDR a node more: 1,000 of 33,000
    assert ratio(told, "version", "ipcache") == pytest.approx(34.03 / 33.03, rel=0.002)


def test_a_driver_that_is_not_known_moves_nothing_and_that_is_said() -> None:
    made = scenarios(LAB, [parse("more: identities=x2")], today=True)
    assert "more: identities are not known of this cluster: the change moves nothing" in made.notes


def test_policies_of_a_mesh_select_the_pods_of_all_clusters_up_to_1_18(told: Scenarios) -> None:
    assert ratio(told, "mesh", "cilium_policy_*") > 1.8


def test_the_answer_is_that_of_the_table(told: Scenarios) -> None:
    first = scenario_findings.first_limits(told)
    assert first["scenario"].to_list() == ["as it is", *(text.split(":")[0] for text in CHANGES)]
    for one in first.iter_rows(named=True):
        own = told.scenarios.filter(scenario=one["scenario"])
        assert one["usage"] == own["usage"].max()
        assert one["short"] == len(own.filter(status="short"))
    kind, _, text = scenario_findings.answer(told)
    short = len(first.filter(pl.col("short") > 0))
    assert kind == "short"
    assert text.startswith(f"{short} of {len(CHANGES)} scenarios run short; as it is, at 1,000")
    assert scenario_findings.summary(told)["what changes"][1] == "nodes=2000"


def test_each_scenario_is_a_bar_and_each_limit_a_group(told: Scenarios) -> None:
    first = charts.scenario_first(told)
    assert sorted(y for bar in first.data for y in bar.y) == sorted(set(told.scenarios["scenario"]))
    limits = charts.scenario_limits(told)
    assert [bar.name for bar in limits.data][:2] == ["as it is", "nodes"]
    base = told.scenarios.filter(scenario="nodes", subject="lb4_services_v2").row(0, named=True)
    bar = limits.data[1]
    at = list(bar.y).index("map lb4_services_v2")
    assert bar.x[at] == pytest.approx(100 * base["q50"] / base["limit"], rel=1e-4)


def test_tables_of_scenarios_say_what_differs_and_what_servers_hold(told: Scenarios) -> None:
    rows = scenario_findings.differences(told)
    assert "map lb4_services_v2" in rows.filter(scenario="lb")["resource"].to_list()
    assert "as it is" not in rows["scenario"].to_list()
    servers = scenario_findings.servers(told)
    assert servers.columns[:2] == ["what", "as it is"]
    assert "kvstore: etcd database" in servers["what"].to_list()
    shares = scenario_findings.shares(told)
    assert shares["resource"][0] == scenario_findings.first_limits(told).sort(
        "usage", descending=True
    )["resource"][0]  # fmt: skip


def test_the_notebooks_own_scenarios_are_of_each_kind_and_can_be_read() -> None:
    changes = [parse(text) for text in ScenarioSettings().texts]
    assert {change.cilium for change in changes} == {None, facts.LATEST}
    assert {change.mesh for change in changes} == {1, 3}
    assert len(changes) == 8
    with pytest.raises(SettingsError, match=r"(?s)at: 'now'.*names no scenario"):
        ScenarioSettings(at="now", changes=" ; ")


def test_what_is_said_to_all_notebooks_goes_to_those_that_know_it() -> None:
    said = (["nodes=500", "risk=0.05"], {"source", "pool"})
    assert of_all("plan", *said) == said
    assert of_all("scenarios", *said) == (["risk=0.05"], {"source"})


@pytest.mark.parametrize("known", [(), ("cilium_identity",)])
def test_an_export_without_services_and_identities_has_scenarios_too(
    tmp_path: Path, known: tuple[str, ...]
) -> None:
    rows = [
        f'{metric}{{node="n{node}"{more}}} {value} {1_700_000_000_000 + 3_600_000 * hour}'
        for hour in range(12)
        for node in range(3)
        for metric, more, value in (
            ("cilium_endpoint", "", 20 + node),
            ("cilium_nodes_all_num", "", 3),
            ("cilium_bpf_map_pressure", ',map_name="ipcache_v2"', 0.1 + hour / 100),
            *((name, "", 50 + hour) for name in known if hour < 6),
        )
    ]
    (tmp_path / "a.prom").write_text("\n".join(rows))
    changes = [parse("a: nodes=x2, services=x2"), parse("b: identities=x2, mesh=2")]
    done = scenarios(PlanSettings(str(tmp_path / "a.prom")), changes, today=True)
    for name in ("a", "b"):
        assert 1.5 < ratio(done, name, "ipcache_v2") < 2.5
