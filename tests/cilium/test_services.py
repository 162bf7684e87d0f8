"""Entries of load balancer maps: equal to Cilium's own code, and to rules that need no code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from capacity.cilium.services import frontends_of, heaviest, lb_entries, service_ids
from capacity.cilium.services.shapes import shape
from capacity.errors import FactError, SettingsError
from capacity.inventory import Inventory, merge
from capacity.load import golden_case, kubernetes, read_inventory
from capacity.load.inventory_tables import tables_of

GOLDEN = Path(__file__).parents[1] / "golden" / "services" / "lb_entries.json.gz"
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads(gzip.decompress(GOLDEN.read_bytes()))
}
# What the golden cases call a map → its pinned name
MAPS = {
    "lb_services_entries": "cilium_lb{}_services_v2",
    "lb_backends_entries": "cilium_lb{}_backends_v3",
    "lb_reverse_nat_entries": "cilium_lb{}_reverse_nat",
    "lb_source_range_entries": "cilium_lb{}_source_range",
    "lb_maglev_outer_entries": "cilium_lb{}_maglev",
}


def inventory(case: dict[str, Any]) -> Inventory:
    found = golden_case.read_services(case, case.get("name", "x"))
    assert not found.faults
    return Inventory(**tables_of([("x", found)])[0])


def counts(cluster: Inventory, version: str = "1.16", **options: Any) -> dict[str, int]:
    table = lb_entries(cluster, version=version, options=options)
    return dict(table.select("map", "entries").iter_rows())


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    status = spec.pop("status", {})
    more = {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]} | spec  # fmt: skip
    notes = more.pop("annotations", {})
    labels = more.pop("labels", {})
    metadata = {"name": name, "namespace": "shop", "annotations": notes, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": more,
            "status": status}  # fmt: skip


def backends(name: str = "web", count: int = 3, port: str = "p", **more: Any) -> dict[str, Any]:
    endpoints = [
        {"addresses": [f"10.0.0.{i + 1}"], "nodeName": f"n{i + 1}"} | more for i in range(count)
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{name}-1", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints, "ports": [{"name": port, "port": 8080, "protocol": "TCP"}],
    }  # fmt: skip


def cluster(*objects: dict[str, Any]) -> Inventory:
    found = kubernetes.read({"kind": "List", "items": list(objects)}, "x")
    assert not found.faults, found.faults
    return Inventory(**tables_of([("x", found)])[0])


@pytest.mark.parametrize("name", CASES)
def test_entries_are_those_of_ciliums_own_service_code(name: str) -> None:
    case = CASES[name]
    got = counts(inventory(case))
    want = {
        pinned.format(family): case[key][f"v{family}"]
        for key, pinned in MAPS.items()
        for family in (4, 6)
    } | {"cilium_lb_affinity_match": case["lb_affinity_match_entries"]}
    assert {name: got.get(name, 0) for name in want} == want


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.get("frontends")])
def test_frontends_are_those_of_ciliums_own_service_code(name: str) -> None:
    case = CASES[name]
    read = inventory(case)
    made = pl.concat(
        frontends_of(read, f"default/{one}", version="1.16") for one in read.services["service"]
    )
    got = made.select("address", "port", "scope", "kind", "slots", "maglev").rows()
    keys = ("ip", "port", "scope", "type", "backend_slots", "maglev")
    assert sorted(got) == sorted(tuple(fe[key] for key in keys) for fe in case["frontends"])


@pytest.mark.parametrize("form", ["whole", "input"])
def test_a_golden_case_is_read_from_its_file_as_it_is(tmp_path: Path, form: str) -> None:
    case = CASES["maglev-lb-local"]
    told = case if form == "whole" else case["input"] | {"options": case["options"]}
    (tmp_path / "case.json").write_text(json.dumps(told))
    read = read_inventory(tmp_path / "case.json")
    assert counts(read)["cilium_lb4_services_v2"] == 22
    bare = read_inventory_without_options(tmp_path, case)
    assert counts(bare, **case["options"]) == counts(read)


def read_inventory_without_options(folder: Path, case: dict[str, Any]) -> Inventory:
    (folder / "bare.json").write_text(json.dumps(case["input"]))
    return read_inventory(folder / "bare.json")


def test_tcp_and_udp_of_one_port_are_two_frontends_from_1_17_on() -> None:
    read = inventory(CASES["clusterip-tcp-udp-same-port"])
    assert [counts(read, v)["cilium_lb4_services_v2"] for v in ("1.16", "1.17")] == [3, 6]
    assert counts(read, "1.17", protocol_differentiation=False)["cilium_lb4_services_v2"] == 3
    assert counts(read, "1.17")["cilium_lb4_backends_v3"] == 4
    assert counts(read, "1.17.0-dev")["cilium_lb4_services_v2"] == 3


def test_a_wildcard_entry_an_address_comes_with_1_20() -> None:
    two_ports = cluster(service(ports=[{"name": "p", "port": 1}, {"name": "q", "port": 2}]))
    assert [counts(two_ports, v)["cilium_lb4_services_v2"] for v in ("1.19", "1.20")] == [2, 3]
    assert counts(two_ports, "1.20", wildcard_entries=False)["cilium_lb4_services_v2"] == 2
    foreign = cluster(service(loadBalancerClass="example.com/lb"))
    assert counts(foreign, "1.20")["cilium_lb4_services_v2"] == 1


def test_source_ranges_are_written_for_all_frontends_since_the_rewrite_of_1_18() -> None:
    read = inventory(CASES["lb-srcranges"])
    got = [counts(read, v)["cilium_lb4_source_range"] for v in ("1.16", "1.17", "1.18")]
    assert got == [3, 3, 12]
    assert counts(read, "1.17", source_range_all_types=True)["cilium_lb4_source_range"] == 12


def test_unready_backends_stay_in_the_backend_map_from_1_19_on() -> None:
    read = inventory(CASES["conditions"])
    got = [counts(read, v) for v in ("1.18", "1.19")]
    assert [c["cilium_lb4_backends_v3"] for c in got] == [3, 5]
    assert [c["cilium_lb4_services_v2"] for c in got] == [4, 5]


def test_affinity_entries_are_of_active_backends_only_since_the_rewrite_of_1_18() -> None:
    ending = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    one = backends(count=2)
    one["endpoints"][0] |= ending
    read = cluster(service(sessionAffinity="ClientIP"), one)
    got = [counts(read, v)["cilium_lb_affinity_match"] for v in ("1.17", "1.18")]
    assert got == [2, 1]


def test_external_ips_have_one_scope_whatever_the_policies() -> None:
    read = cluster(service(externalIPs=["198.51.100.1"], externalTrafficPolicy="Local"), backends())
    made = frontends_of(read, "shop/web", version="1.16", options={"node_name": "n1"})
    rows = made.select("kind", "scope", "slots").rows()
    assert rows == [("ClusterIP", "external", 3), ("ExternalIPs", "external", 1)]


def test_an_address_that_two_services_ask_for_is_one_frontend() -> None:
    read = cluster(
        service("a", externalIPs=["198.51.100.1"]),
        service("b", clusterIP="10.96.0.2", clusterIPs=["10.96.0.2"], externalIPs=["198.51.100.1"]),
        backends("a", 3), backends("b", 5),
    )  # fmt: skip
    assert counts(read)["cilium_lb4_services_v2"] == (1 + 3) + (1 + 5) + (1 + 5)
    # 1.18 refuses a service of which another one owns a frontend
    assert counts(read, "1.18")["cilium_lb4_services_v2"] == (1 + 3) * 2


def test_without_kube_proxy_replacement_cluster_ips_are_left() -> None:
    read = inventory(CASES["lb-2"])
    got = counts(read, node_port=False)
    assert got["cilium_lb4_reverse_nat"] == 1


def test_the_node_with_most_local_backends_is_counted_where_none_is_named() -> None:
    local = backends(count=4)
    for endpoint in local["endpoints"][1:]:
        endpoint["nodeName"] = "busy"
    read = cluster(
        service(type="NodePort", externalTrafficPolicy="Local",
                ports=[{"name": "p", "port": 80, "nodePort": 30080}]), local,
    )  # fmt: skip
    named = {
        node: counts(read, node_name=node)["cilium_lb4_services_v2"] for node in ("n1", "busy")
    }
    assert counts(read)["cilium_lb4_services_v2"] == named["busy"] > named["n1"]


def test_an_annotation_narrows_a_service_to_one_type_from_1_17_on() -> None:
    read = cluster(
        service(type="NodePort", ports=[{"name": "p", "port": 80, "nodePort": 30080}],
                annotations={"service.cilium.io/type": "NodePort"}), backends(),
    )  # fmt: skip
    got = [counts(read, v)["cilium_lb4_reverse_nat"] for v in ("1.16", "1.17", "1.18")]
    assert got == [3, 2, 2]


def test_health_check_addresses_add_a_frontend_with_one_backend() -> None:
    read = inventory(CASES["maglev-lb-local"])
    plain, more = counts(read), counts(read, health_check_addresses=True)
    assert more["cilium_lb4_reverse_nat"] - plain["cilium_lb4_reverse_nat"] == 1
    assert more["cilium_lb4_services_v2"] - plain["cilium_lb4_services_v2"] == 2


def test_host_ports_of_the_node_are_frontends_and_share_backends_with_services() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "ports": [{"containerPort": 8080, "hostPort": 8080},
                                    {"containerPort": 1, "hostPort": 30001},
                                    {"containerPort": 2, "hostPort": 81, "hostIP": "127.0.0.1"}]}]},
        "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
    }  # fmt: skip
    read = cluster(service(), backends(), pod)
    got = counts(read, node_name="n1", node_port_addresses=["192.168.0.1", "192.168.0.2"])
    # 3 for port 8080 (2 addresses and the surrogate), none in the range of node ports, 1 loopback
    assert got["cilium_lb4_reverse_nat"] == 1 + 3 + 1
    assert got["cilium_lb4_backends_v3"] == 3 + 1
    assert counts(read, node_name="n2")["cilium_lb4_reverse_nat"] == 1


def test_a_service_out_of_a_manifest_gets_what_the_api_server_will_assign() -> None:
    manifest = service(type="LoadBalancer", ports=[{"name": "p", "port": 80}, {"port": 81,
                       "name": "q"}])  # fmt: skip
    for name in ("clusterIP", "clusterIPs", "ipFamilies"):
        del manifest["spec"][name]
    del manifest["status"]
    assert counts(cluster(manifest))["cilium_lb4_reverse_nat"] == 2 * (1 + 1 + 2)


def test_backends_without_a_port_name_serve_any_port_since_the_rewrite_of_1_18() -> None:
    read = cluster(service(), backends(port=""))
    got = [counts(read, v)["cilium_lb4_services_v2"] for v in ("1.17", "1.18")]
    assert got == [1, 4]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"node_prot": True}, "'node_prot' is not known"),
        ({"ipv4": "perhaps"}, "'perhaps' is neither true nor false"),
        ({"bpf-lb-map-max": "many"}, "'many' is no number of entries"),
        ({"node-port-range": "30000"}, "'30000' is no range"),
    ],
)
def test_an_option_that_is_wrong_is_told(options: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        lb_entries(shape(services=1), version="1.17", options=options)


def test_an_unknown_version_is_told() -> None:
    with pytest.raises(FactError, match="2.0"):
        lb_entries(shape(services=1), version="2.0")


def test_the_size_of_a_map_is_its_own_option_before_that_of_all() -> None:
    own = {"bpf-lb-map-max": 1000, "bpf-lb-service-map-max": 50, "bpf-lb-rev-nat-map-max": "0"}
    table = lb_entries(shape(services=10), version="1.17", options=own)
    sizes = dict(table.select("map", "max_entries").iter_rows())
    assert sizes["cilium_lb4_services_v2"] == 50
    assert sizes["cilium_lb4_reverse_nat"] == sizes["cilium_lb4_backends_v3"] == 1000


def test_no_services_make_no_entries() -> None:
    assert set(counts(Inventory()).values()) == {0}
    assert service_ids(Inventory(), version="1.17").most_services is None
    assert heaviest(Inventory(), version="1.17").is_empty()


SHAPES = st.fixed_dictionaries(
    {
        "services": st.integers(1, 6), "ports": st.integers(1, 3), "backends": st.integers(0, 4),
        "families": st.integers(1, 2), "affinity": st.booleans(),
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
    }
)  # fmt: skip
VERSIONS = st.sampled_from(["1.14", "1.16", "1.17", "1.18", "1.19", "1.20"])


@given(SHAPES, VERSIONS)
@limits(max_examples=20)
def test_a_shape_costs_what_the_rule_says(told: dict[str, Any], version: str) -> None:
    """Frontends x (1 + backends); with one node address: it, the surrogate, VIP, cluster IP."""
    got = counts(shape(**told), version, ipv6=told["families"] == 2)
    frontends = {"ClusterIP": 1, "NodePort": 3, "LoadBalancer": 4}[told["type"]]
    one = told["services"] * told["ports"] * frontends
    wild = {"ClusterIP": 1, "NodePort": 1, "LoadBalancer": 2}[told["type"]] * told["services"]
    wild = wild if version == "1.20" else 0
    for family in (4, 6)[: told["families"]]:
        assert got[f"cilium_lb{family}_reverse_nat"] == one
        assert got[f"cilium_lb{family}_services_v2"] == one * (1 + told["backends"]) + wild
        own = told["services"] * told["ports"] * told["backends"]
        assert got[f"cilium_lb{family}_backends_v3"] == own
    affine = one * told["backends"] * told["families"] if told["affinity"] else 0
    assert got["cilium_lb_affinity_match"] == affine
    listed = heaviest(shape(**told), version=version, options={"ipv6": told["families"] == 2})
    assert listed["service_ids"].sum() == one * told["families"]


@given(st.permutations(range(8)), VERSIONS)
@limits(max_examples=4)
def test_the_order_of_services_and_backends_changes_nothing(order: list[int], version: str) -> None:
    read = merge([inventory(CASES[name]) for name in ("lb-2", "conditions", "nodeport-3-addrs")])
    whole = shape(services=8, ports=2, backends=3, type="NodePort")
    mixed = Inventory(services=whole.services[list(order)], backends=whole.backends.reverse())
    assert counts(mixed, version) == counts(whole, version)
    assert counts(read, version) == counts(merge([read]), version)
