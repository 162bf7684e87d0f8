"""How large a cluster can get: acceptance scenarios, and arithmetic that must agree with itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from capacity.charts.shapes import mesh_chart
from capacity.cilium.services.shapes import shape as services_of
from capacity.cli import cli
from capacity.errors import SettingsError
from capacity.models.prior import expected
from capacity.shapes import Shape, laws, shape_of
from capacity.shapes.frontier import SOFT, frontier, use, with_agents
from capacity.shapes.mesh import Split, compare, split_of, uses
from capacity.tables import ENDPOINTS, EXHAUSTION, FORECAST, NODES
from capacity.values_check import wrong_values

V = "1.17"


def needs(shape: Shape, resource: str, version: str = V) -> dict[str, object]:
    return use(laws(shape, version), shape).filter(resource=resource).row(0, named=True)


def test_s13_ipcache_is_hard_and_holds_7111_nodes_of_70_pods() -> None:
    told = needs(Shape(10_000, 70, node_ips=2), "ipcache")
    assert (told["need"], told["limit"], told["nodes_most"]) == (720_000, 512_000, 7111)
    assert (told["status"], told["fix"]) == ("redesign", None)


def test_s14_the_node_map_holds_4096_nodes_of_four_addresses() -> None:
    told = needs(Shape(5000, 30, node_ips=4), "node map")
    assert (told["need"], told["nodes_most"]) == (20_000, 4096)
    assert told["usage"] == pytest.approx(1.221, abs=5e-4)
    assert (told["status"], told["fix"]) == ("raise", "bpf.nodeMapMax: 32768")
    # 1.15 has no setting for it
    assert needs(Shape(5000, 30, node_ips=4), "node map", "1.15")["status"] == "redesign"


@pytest.mark.parametrize(
    ("pool", "nodes", "most", "status"),
    [("172.16.0.0/21", 20, 8, "raise"), ("10.0.0.0/8", 5000, 65536, "fits")],
)
def test_s15_a_pool_of_addresses_holds_so_many_nodes(
    pool: str, nodes: int, most: int, status: str
) -> None:
    told = needs(Shape(nodes, 30, pod_cidr=pool), "pod CIDRs")
    assert (told["nodes_most"], told["status"]) == (most, status)
    assert "254 pod IPs a node" in str(told["why"])
    if nodes == 20:
        assert "take a /19" in str(told["fix"])


def test_s12_a_mesh_of_300_clusters_halves_the_identities_of_each() -> None:
    whole = Shape(6000, 30, identities=300 * 40_000)
    told = compare(whole, [Split(300, 20)], V).row(0, named=True)
    assert (told["max_connected_clusters"], told["verdict"]) == (511, "infeasible")
    # The scenario has Cilium's documentation's 32,767; its source counts 32,768
    assert (told["identities"], told["identities_limit"]) == (40_000, 32_768)
    assert "identities: 40,000 in a cluster" in str(told["short"])
    assert "512 clusters: a mesh has 511" in str(compare(whole, [Split(512, 10)], V)["short"][0])


def test_s09_service_ids_of_load_balancers_with_three_ports() -> None:
    shape = Shape(1000, 30, services=10_000, service_type="LoadBalancer", ports=3, backends=1)
    table = laws(shape, V).filter(resource="service IDs")
    # IDs of a service: our count has NodePort's two frontends a port (docs/policies of services)
    assert int(65_535 / table["per_service"][0]) < 10_000
    assert needs(shape, "service IDs")["status"] == "redesign"
    assert frontier(laws(shape, V), shape)["nodes"].min() == 0


def test_s16_events_of_endpoints_grow_with_churn_and_nodes() -> None:
    made = compare(Shape(1000, 30), [Split(1, 1000), Split(5, 200)], V, churn=30.0)
    assert made["endpoint_events"].to_list() == [90_000.0, 3600.0]


def test_one_cluster_of_5000_or_five_of_1000() -> None:
    whole = Shape(5000, 30, services=4000, identities=6000, node_ips=2)
    one, five = compare(whole, [split_of("1x5000"), split_of("5x1000")], V).rows(named=True)
    # Every agent of a mesh knows all addresses and nodes; identities and services are dealt out
    assert one["ipcache"] == five["ipcache"] == 160_000
    assert one["node_map"] == five["node_map"] == 10_000
    assert (one["identities"], five["identities"]) == (6000, 1200)
    assert (one["watchers"], five["watchers"]) == (5000, 1000)
    assert (one["remote_watches"], five["remote_watches"]) == (0, 4000)
    assert one["service_ids"] == 5 * five["service_ids"]
    all_of_it = compare(whole, [Split(5, 1000)], V, shared=1.0).row(0, named=True)
    assert all_of_it["identities"] == 6000


@settings(max_examples=25, deadline=None)
@given(
    pods=st.floats(1, 250), services=st.integers(0, 10_000), ips=st.floats(1, 20),
    identities=st.integers(1, 60_000), families=st.sampled_from([1, 2]),
)  # fmt: skip
def test_the_frontier_fits_and_a_node_more_does_not(
    pods: float, services: int, ips: float, identities: int, families: int
) -> None:
    shape = Shape(1000, pods, services=services, node_ips=ips, identities=identities,
                  policy_entries=900, families=families)  # fmt: skip
    table = laws(shape, V)
    point = frontier(table, shape, pods=[], factors=[1.0]).row(0, named=True)
    ours = table.filter(~pl.col("kind").is_in(SOFT))
    if point["nodes"] == 0:
        return
    fits = use(ours, replace(shape, nodes=point["nodes"]))
    assert (fits["need"] <= fits["limit"]).all()
    more = use(ours, replace(shape, nodes=point["nodes"] + 1)).filter(resource=point["binds"])
    assert more["need"][0] >= more["limit"][0]


def test_more_pods_services_or_policies_never_allow_more_nodes() -> None:
    shape = Shape(1000, 30, services=2000, identities=3000, policy_entries=4000)
    made = frontier(laws(shape, V), shape)
    for keys in (["services", "policies"], ["pods_per_node", "policies"]):
        for _, rows in made.group_by(keys):
            falling = rows.sort("pods_per_node", "services")["nodes"]
            assert falling.to_list() == sorted(falling, reverse=True)
    for _, rows in made.group_by("pods_per_node", "services"):
        assert rows.sort("policies")["nodes"].to_list() == sorted(rows["nodes"], reverse=True)


def test_what_options_set_is_the_limit() -> None:
    options = {"bpf-node-map-max": "32768", "bpf-lb-map-max": "1000", "bpf-policy-map-max": "0"}
    shape = Shape(5000, 30, services=2000, options=options)
    assert needs(shape, "node map")["limit"] == 32_768
    assert needs(shape, "services map")["limit"] == 1000
    assert needs(shape, "policy map")["limit"] == 16_384
    with pytest.raises(SettingsError, match="bpf-lb-map-max"):
        laws(replace(shape, options={"bpf-lb-map-max": "many"}), V)


def test_the_shape_of_an_inventory_counts_its_services_exactly() -> None:
    inventory = services_of(services=20, type="NodePort", backends=3)
    nodes = pl.DataFrame(
        [(f"n{i}", None, None, 3, 1, None, None, "{}") for i in range(10)],
        schema=NODES.schema, orient="row",
    )  # fmt: skip
    pods = pl.DataFrame({"namespace": ["a"] * 60, "pod": [f"p{i}" for i in range(60)]})
    empty = [pl.lit(None, dtype).alias(name) for name, dtype in ENDPOINTS.schema.items()
             if name not in pods.columns]  # fmt: skip
    inventory = replace(inventory, nodes=nodes, endpoints=pods.select(
        *pods.columns, *empty).select(ENDPOINTS.schema.names()))  # fmt: skip
    shape, counted = shape_of(inventory, V)
    assert (shape.nodes, shape.pods_per_node, shape.node_ips) == (10, 6.0, 3.0)
    alike = replace(shape, service_type="NodePort", backends=3)
    mine, theirs = laws(shape, V, counted), laws(alike, V)
    for column in ("per_pod", "per_service"):
        assert mine[column].to_list() == pytest.approx(theirs[column].to_list())
    with pytest.raises(SettingsError, match="tells no nodes"):
        shape_of(services_of(services=1), V)


def test_memory_of_agents_comes_from_the_plan() -> None:
    used = use(laws(Shape(500, 30), V), Shape(500, 30))
    row = {"component": "agent", "quantity": "memory", "nodes": 500, "q99": 9e8, "limit": 1e9}
    forecast = pl.DataFrame([dict.fromkeys(FORECAST.schema) | row], schema=FORECAST.schema)
    ends = {"component": "agent", "quantity": "memory", "setting": "resources.limits.memory",
            "nodes_early": 640}  # fmt: skip
    exhaustion = pl.DataFrame([dict.fromkeys(EXHAUSTION.schema) | ends], schema=EXHAUSTION.schema)
    told = with_agents(used, forecast, exhaustion, 500).filter(resource="agent memory")
    assert told.select("need", "nodes_most", "status").row(0) == (900_000_000, 640, "fits")
    assert with_agents(used, forecast.clear(), exhaustion, 500).equals(used)


def test_memory_of_an_agent_and_etcd_are_told_as_estimates_that_end_no_frontier() -> None:
    shape = Shape(5000, 30, services=4000, identities=6000, agent_memory=2 << 30)
    table = laws(shape, V)
    told = use(table, shape)
    rows = {row["resource"]: row for row in told.to_dicts()}
    memory, etcd = rows["agent memory"], rows["etcd"]
    # 95 % quantile of the costs elsewhere, drawn for this very shape
    drivers = {"nodes": 5000.0, "endpoints": 150_000.0, "endpoints_per_node": 30.0,
               "identities": 6000.0, "services": 4000.0}  # fmt: skip
    drawn = expected("agent", "memory_rss", drivers)
    assert memory["need"] == pytest.approx(np.quantile(drawn, 0.95), rel=0.05)
    assert (memory["status"], etcd["status"]) == ("fits", "check")
    assert etcd["limit"] == 2 << 30
    assert etcd["fix"] == "etcd --quota-backend-bytes: 8589934592"
    point = frontier(table, shape, pods=[], factors=[1.0]).row(0, named=True)
    assert point["binds"] == "node map"
    assert point["nodes_memory"] == memory["nodes_most"]
    fits = use(table, replace(shape, nodes=point["nodes_etcd"]))
    assert fits.filter(resource="etcd")["usage"][0] == pytest.approx(1.0, abs=1e-3)
    # More pods a node: fewer nodes; an agent has pods of its own too
    edge = frontier(table, shape, factors=[1.0]).sort("pods_per_node")
    for name in ("nodes_memory", "nodes_etcd"):
        assert edge[name].to_list() == sorted(edge[name], reverse=True)
    small = laws(replace(shape, agent_memory=100 << 20), V)
    assert use(small, shape).filter(resource="agent memory")["status"][0] == "check"
    assert use(small, shape).filter(resource="agent memory")["nodes_most"][0] == 0


def test_ways_to_split_are_compared_limit_by_limit_in_a_chart(tmp_path: Path) -> None:
    shape = Shape(5000, 30, services=4000, identities=6000, agent_memory=2 << 30)
    told = uses(shape, [Split(1, 5000), Split(5, 1000), Split(300, 17)], V)
    by = {(row["split"], row["resource"]): row for row in told.to_dicts()}
    # Addresses and nodes are those of all clusters; identities, services and etcd of one
    assert by["1x5000", "ipcache"]["need"] == by["5x1000", "ipcache"]["need"]
    assert by["5x1000", "etcd"]["need"] < by["1x5000", "etcd"]["need"] / 4
    assert by["5x1000", "agent memory"]["need"] < by["1x5000", "agent memory"]["need"]
    assert by["5x1000", "agent memory"]["need"] > by["1x5000", "agent memory"]["need"] / 2
    assert by["300x17", "clusters"]["limit"] == 511
    assert by["300x17", "identities"]["limit"] == 32_768
    figure = mesh_chart(told)
    assert [trace.name for trace in figure.data] == ["1x5000", "5x1000", "300x17"]
    assert "5x1000: node map 122%" in figure.layout.title.text


def test_values_of_each_cluster_are_written_for_the_way_that_was_chosen(tmp_path: Path) -> None:
    asked = ["shapes", "--nodes", "5000", "--pods-per-node", "30", "--values", str(tmp_path / "m")]
    done = CliRunner().invoke(cli, [*asked, "--split", "5x1000"])
    assert "written: 5 files" in done.stderr
    told = [yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "m").iterdir())]
    assert [one["cluster"]["id"] for one in told] == [1, 2, 3, 4, 5]
    assert {one["bpf"]["nodeMapMax"] for one in told} == {32_768}
    assert all(wrong_values(one, V) == [] for one in told)
    both = [*asked, "--split", "5x1000", "--split", "1x5000"]
    assert CliRunner().invoke(cli, both).exit_code != 0


def test_settings_tell_all_faults_together() -> None:
    with pytest.raises(SettingsError, match=r"nodes: 0.*families: 3"):
        Shape(0, 30, families=3)
    with pytest.raises(SettingsError, match="254 addresses"):
        Shape(10, 300, pod_cidr="10.0.0.0/8")
    with pytest.raises(SettingsError, match="CLUSTERSxNODES"):
        split_of("5 by 1000")


def test_the_command_prints_tables_writes_the_chart_and_fails_where_it_is_short(
    tmp_path: Path,
) -> None:
    chart = tmp_path / "frontier.html"
    arguments = ["shapes", "--nodes", "5000", "--pods-per-node", "30", "--cilium", V]
    done = CliRunner().invoke(cli, [*arguments, "--chart", str(chart)])
    assert done.exit_code == 1, done.output
    assert "bpf.nodeMapMax: 32768" in done.stdout
    assert "At 30 pods a node up to 4,096 nodes fit (node map)" in chart.read_text("utf-8")
    more = ["--set", "bpf-node-map-max=32768", "--split", "5x1000", "-o", "json"]
    done = CliRunner().invoke(cli, [*arguments, *more])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)) == {"shape", "frontier", "mesh", "mesh_use"}
    assert CliRunner().invoke(cli, ["shapes", "--nodes", "5"]).exit_code != 0
