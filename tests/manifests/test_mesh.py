"""Settings of a ClusterMesh: what clusters need to join, and that Helm takes what is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from capacity.fleet.mesh import settings_of
from capacity.inventory import Inventory
from capacity.limits import configured_sizes
from capacity.manifests.mesh import MeshCluster, connected, mesh_settings, values
from capacity.settings import PlanSettings
from capacity.values_check import wrong_values
from tests.manifests.test_helm import CHARTS, helm

V = "1.17"
GOOD = MeshCluster("eu", V, 1, "eu", 255, None, 300.0, 2000.0, 2)


def told(*clusters: MeshCluster) -> dict[tuple[str, str], dict[str, Any]]:
    rows = mesh_settings("m", clusters).to_dicts()
    return {(row["cluster"], row["setting"].removeprefix("clustermesh.")): row for row in rows}


def test_clusters_that_fit_together_are_left_alone() -> None:
    other = replace(GOOD, name="us", cluster_id=2, cluster_name="us")
    table = mesh_settings("m", [GOOD, other])
    assert set(table["status"]) == {"ok"}
    assert values(table, "eu") is None


def test_ids_names_and_replicas_that_clash_are_told_with_what_they_must_be() -> None:
    twin = replace(GOOD, name="US West", replicas=None)
    new = MeshCluster("new", V)
    made = told(GOOD, twin, new)
    ids = {name: made[name, "cluster.id"]["target"] for name in ("eu", "US West", "new")}
    assert len(set(ids.values())) == 3
    assert made["new", "cluster.id"]["status"] == "install-time"
    assert "0 is for clusters of no mesh" in made["new", "cluster.id"]["reason"]
    assert made["US West", "cluster.name"]["target"] == "us-west"
    assert made["US West", "apiserver.replicas"]["target"] == "2"


def test_more_than_255_clusters_need_511_in_all_and_half_the_identities() -> None:
    many = [MeshCluster(f"c{i}", V, identities=40_000.0) for i in range(300)]
    made = told(*many)
    row = made["c7", "maxConnectedClusters"]
    assert (row["current"], row["target"], row["status"]) == ("255", "511", "install-time")
    # S12 of the acceptance scenarios: 40,000 do not fit
    assert made["c7", "(no setting) identities"]["status"] == "redesign"
    assert "32,768" in made["c7", "(no setting) identities"]["reason"]
    few = told(*many[:250])
    assert few["c7", "maxConnectedClusters"]["status"] == "ok"
    assert few["c7", "(no setting) identities"]["status"] == "ok"
    assert told(*(MeshCluster(f"c{i}", V) for i in range(512)))["c1", "maxConnectedClusters"][
        "status"
    ] == "redesign"  # fmt: skip
    # 1.14 knows no larger mesh
    old = told(*(replace(one, version="1.14") for one in many))
    assert old["c7", "maxConnectedClusters"]["status"] == "redesign"


def test_a_larger_mesh_that_all_have_stays_and_one_that_few_have_does_not() -> None:
    large = [replace(GOOD, name=f"c{i}", cluster_id=i, connected=511) for i in (1, 2)]
    assert connected(large) == 511
    assert connected([large[0], GOOD]) == 255


def test_the_node_map_holds_the_nodes_of_all_clusters() -> None:
    clusters = [replace(GOOD, name=f"c{i}", addresses=9000.0) for i in range(3)]
    row = told(*clusters)["c0", "bpf.nodeMapMax"]
    assert (row["target"], row["status"]) == ("32768", "set")
    full = told(*(replace(one, addresses=30_000.0) for one in clusters))["c0", "bpf.nodeMapMax"]
    assert full["status"] == "redesign"
    assert "65,535" in full["reason"]


def test_an_id_that_the_chart_refuses_with_eni_is_told() -> None:
    made = told(replace(GOOD, cluster_id=200, is_eni=True))
    assert made["eu", "cluster.id"]["status"] == "redesign"
    assert "21330" in made["eu", "cluster.id"]["reason"]


clusters_of = st.lists(
    st.builds(
        MeshCluster,
        name=st.text(min_size=1, max_size=40),
        version=st.just(V),
        cluster_id=st.one_of(st.none(), st.integers(0, 511)),
        cluster_name=st.one_of(st.none(), st.text(max_size=40)),
        connected=st.sampled_from([None, 255, 511]),
        addresses=st.floats(0, 10_000),
        replicas=st.one_of(st.none(), st.integers(0, 3)),
    ),
    min_size=1, max_size=4, unique_by=lambda cluster: cluster.name,
)  # fmt: skip


@settings(max_examples=25, phases=[Phase.generate])
@given(clusters_of)
def test_applied_settings_ask_for_nothing_more(clusters: list[MeshCluster]) -> None:
    table = mesh_settings("m", clusters)
    assert "redesign" not in table["status"]
    again = [applied(cluster, values(table, cluster.name)) for cluster in clusters]
    left = mesh_settings("m", again).filter(pl.col("status") != "ok")
    assert left.is_empty(), left.rows()
    for cluster in clusters:
        text = values(table, cluster.name)
        assert text is None or wrong_values(yaml.safe_load(text), V) == []
    names = {cluster.cluster_name for cluster in again}
    assert len(names) == len({cluster.cluster_id for cluster in again}) == len(again)


def applied(cluster: MeshCluster, text: str | None) -> MeshCluster:
    told: dict[str, Any] = {} if text is None else yaml.safe_load(text)
    own, mesh = told.get("cluster", {}), told.get("clustermesh", {})
    return replace(
        cluster,
        cluster_id=own.get("id", cluster.cluster_id),
        cluster_name=own.get("name", cluster.cluster_name),
        connected=mesh.get("maxConnectedClusters", cluster.connected),
        replicas=mesh.get("apiserver", {}).get("replicas", cluster.replicas),
        node_map=told.get("bpf", {}).get("nodeMapMax", cluster.node_map),
    )


def test_a_fleet_tells_what_its_clusters_must_be_set_to() -> None:
    options = {"cluster-id": "0", "cluster-name": "default", "max-connected-clusters": "255"}
    result = {
        "cluster": "a", "version": V, "drivers": {"nodes": 100.0, "identities": 500.0},
        "growth": [{"q95": 200.0}], "mesh_options": {"options": options, "addresses": 300.0},
    }  # fmt: skip
    table = settings_of([("a", "m"), ("lost", "m"), ("alone", None)], [result])
    assert table["cluster"].unique().sort().to_list() == ["a", "lost"]
    rows = {row["setting"]: row for row in table.filter(cluster="a").to_dicts()}
    assert rows["cluster.name"]["target"] == "a"
    # Twice the nodes by the horizon: twice the identities and addresses
    assert "1,000 planned" in rows["(no setting) identities"]["reason"]
    assert "900 node addresses" not in rows["bpf.nodeMapMax"]["reason"]
    assert "600 node addresses" in rows["bpf.nodeMapMax"]["reason"]


@pytest.mark.parametrize("chart", CHARTS)
def test_ciliums_own_chart_takes_the_settings_of_a_mesh(chart: Path, tmp_path: Path) -> None:
    version = ".".join(chart.name.removeprefix("cilium-").split(".")[:2])
    many = 3 if version == "1.14" else 300
    table = mesh_settings("m", [MeshCluster(f"Cluster {i}", version) for i in range(many)])
    path = tmp_path / "values.yaml"
    path.write_text(values(table, "Cluster 2") or "", encoding="utf-8")
    # The chart makes certificates with a CA of its own: any will do
    done = helm("template", "cilium", chart, "-n", "kube-system", "-f", path)
    assert done.returncode == 0, done.stderr
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    named = {(item["kind"], item["metadata"]["name"]): item for item in found}
    config = named["ConfigMap", "cilium-config"]["data"]
    row = table.filter(cluster="Cluster 2", setting="cluster.id").row(0, named=True)
    assert (config["cluster-name"], config["cluster-id"]) == ("cluster-2", row["target"])
    if many > 255:
        assert config["max-connected-clusters"] == "511"
    assert named["Deployment", "clustermesh-apiserver"]["spec"]["replicas"] == 2


@pytest.mark.parametrize("odd", ["²", "x", ""])
def test_an_id_that_is_no_number_is_as_none(odd: str) -> None:
    told = {"cluster": "a", "mesh_options": {"options": {"cluster-id": odd}}}
    made = settings_of([("a", "eu")], [told])
    assert made.filter(setting="cluster.id")["target"].to_list() == ["1"]
    options = pl.DataFrame({"option": ["bpf-ct-global-tcp-max"], "value": [odd]})
    assert configured_sizes(replace(Inventory(), options=options), PlanSettings(), "1.17") == {}
