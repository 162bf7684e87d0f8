"""Rows of Kubernetes and Cilium objects, by kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.cilium import policy as engine
from capacity.inventory import Inventory
from capacity.load import golden_case, kubernetes
from capacity.load.inventories import read_inventory
from capacity.load.inventory_tables import tables_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "kubernetes"


def made(kind: str, name: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    metadata = {"name": name} | more.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | more


def pod(name: str = "web-0", **more: Any) -> dict[str, Any]:
    status = {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]} | more.pop("status", {})
    spec = {"nodeName": "n1"} | more.pop("spec", {})
    return made("Pod", name, metadata={"namespace": "shop", "labels": {"app": "web"}},
                spec=spec, status=status, **more)  # fmt: skip


def policy(kind: str = "CiliumNetworkPolicy", **more: Any) -> dict[str, Any]:
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return made(kind, "p", group, **more)


def inventory(folder: Path, *objects: Any) -> Inventory:
    body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    (folder / "dump.json").write_text(json.dumps(body))
    return read_inventory(folder)


def reason(read: Inventory) -> str:
    return "; ".join(read.sources["reason"].drop_nulls())


def test_a_node_has_what_kubernetes_and_cilium_tell_of_it(tmp_path: Path) -> None:
    node = made(
        "Node", "n1", spec={"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
        status={
            "addresses": [
                {"type": "InternalIP", "address": "192.168.0.1"},
                {"type": "InternalIP", "address": "192.168.0.1"},
                {"type": "Hostname", "address": "n1"},
            ],
            "capacity": {"cpu": "3920m", "memory": "32886264Ki"},
            "allocatable": {"pods": "110"},
            "nodeInfo": {"kernelVersion": "6.12.1"},
        },
    )  # fmt: skip
    cilium = made(
        "CiliumNode", "n1", "cilium.io/v2",
        spec={
            "addresses": [{"ip": "192.168.0.1"}, {"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
            "ipam": {"podCIDRs": ["10.0.0.0/24"],
                     "pools": {"allocated": [{"pool": "x", "cidrs": ["10.9.0.0/27"]}]}},
        },
    )  # fmt: skip

    assert inventory(tmp_path, node).nodes["addresses"].to_list() == [1]
    assert inventory(tmp_path, node, cilium).nodes.row(0) == (
        "n1", 32886264 * 1024, 3920, 3, 2, 110, "6.12.1", "{}",
    )  # fmt: skip


def test_what_a_node_does_not_tell_is_null_and_not_zero(tmp_path: Path) -> None:
    assert inventory(tmp_path, made("Node", "n1")).nodes.row(0) == (
        "n1", None, None, None, None, None, None, "{}",
    )  # fmt: skip


def test_a_quantity_that_cannot_be_read_names_its_field(tmp_path: Path) -> None:
    bad = made("Node", "n2", status={"capacity": {"memory": "lots"}})
    read = inventory(tmp_path, made("Node", "n1"), bad)

    assert read.nodes["node"].to_list() == ["n1"]
    assert "item 2: Node n2: status.capacity.memory" in reason(read)
    assert "'lots'" in reason(read)


def test_pods_with_an_address_of_their_own_are_endpoints(tmp_path: Path) -> None:
    read = inventory(
        tmp_path,
        pod("dual", status={"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
        pod("old", status={"podIPs": None, "podIP": "10.0.0.2"}),
        pod("host", spec={"hostNetwork": True}),
        pod("done", status={"phase": "Succeeded"}),
        pod("failed", status={"phase": "Failed"}),
        pod("pending", status={"phase": "Pending", "podIPs": []}),
    )

    assert read.endpoints.rows() == [
        ("shop", "dual", "n1", '{"app": "web"}', 2, None, "[]", None),
        ("shop", "old", "n1", '{"app": "web"}', 1, None, "[]", None),
    ]
    assert reason(read) == (
        "left out: ended pods 2, host-network pods 1, pods without an address 1"
    )
    assert read.sources.select("read", "kept", "refused").row(0) == (6, 6, 0)


def cilium_endpoint(name: str) -> dict[str, Any]:
    networking = {"addressing": [{"ipv4": "10.0.0.9", "ipv6": "fd00::9"}], "node": "192.168.0.1"}
    return made("CiliumEndpoint", name, "cilium.io/v2",
                metadata={"namespace": "shop", "labels": {"app": "web"}},
                status={"networking": networking})  # fmt: skip


def test_a_cilium_endpoint_counts_where_no_pod_tells_and_finds_its_node(tmp_path: Path) -> None:
    node = made("CiliumNode", "n7", "cilium.io/v2", spec={"addresses": [{"ip": "192.168.0.1"}]})
    read = inventory(tmp_path, cilium_endpoint("web-0"), cilium_endpoint("web-1"), pod(), node)

    assert read.endpoints.rows() == [
        ("shop", "web-0", "n1", '{"app": "web"}', 1, None, "[]", None),
        ("shop", "web-1", "n7", '{"app": "web"}', 2, None, "[]", None),
    ]


def test_endpoints_in_slices_are_told_apart_from_pods(tmp_path: Path) -> None:
    entry = {
        "name": "db-0",
        "networking": {"addressing": [{"ipv4": "10.0.0.3"}], "node": "1.1.1.1"},
    }
    part = made("CiliumEndpointSlice", "ces-a", "cilium.io/v2alpha1", namespace="shop",
                endpoints=[entry, entry | {"name": "web-0"}])  # fmt: skip
    read = inventory(tmp_path, part, pod())

    assert read.endpoints.select("pod", "node", "ips").rows() == [
        ("db-0", None, 1),
        ("web-0", "n1", 1),
    ]


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        (
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "type": "NodePort",
             "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}],
             "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"},
            {},
            ("NodePort", 2, 2, 0, 0, "Local", "Local", False, True),
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]},
            {},
            ("ClusterIP", 1, 0, 0, 0, "Cluster", "Cluster", False, False),
        ),
        (
            {"clusterIP": "10.96.0.2", "type": "LoadBalancer", "sessionAffinity": "ClientIP",
             "externalIPs": ["1.2.3.4"], "ports": [{"port": 80}],
             "allocateLoadBalancerNodePorts": False},
            {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "x.example"}]}},
            ("LoadBalancer", 1, 1, 1, 1, "Cluster", "Cluster", True, False),
        ),
        (
            {"type": "ExternalName", "externalName": "x.example"},
            {},
            ("ExternalName", 0, 0, 0, 0, "Cluster", "Cluster", False, False),
        ),
    ],
    ids=["dual stack node port", "headless", "load balancer", "external name"],
)  # fmt: skip
def test_a_service_is_one_row(
    tmp_path: Path, spec: dict[str, Any], status: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    service = made("Service", "web", metadata={"namespace": "shop"}, spec=spec, status=status)
    assert inventory(tmp_path, service).services.row(0)[:11] == ("shop", "web", *expected)


def endpoint_slice(*endpoints: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}
    ports = more.pop("ports", [{"port": 8080}, {"port": 53, "protocol": "UDP"}])
    return made("EndpointSlice", "web-x", "discovery.k8s.io/v1", metadata=metadata,
                endpoints=list(endpoints), ports=ports, **more)  # fmt: skip


def test_backends_are_addresses_times_ports_with_their_state(tmp_path: Path) -> None:
    part = endpoint_slice(
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.2"]},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": False}},
        {"addresses": ["10.0.0.4"],
         "conditions": {"ready": False, "serving": True, "terminating": True}},
    )  # fmt: skip

    assert inventory(tmp_path, part).backends.rows() == [
        ("shop", "web", address, port, protocol, None, None, ready, ends, serves)
        for address, ready, ends, serves in (
            ("10.0.0.1", True, False, True), ("10.0.0.2", True, False, True),
            ("10.0.0.3", False, False, False), ("10.0.0.4", False, True, True),
        )
        for port, protocol in ((53, "UDP"), (8080, "TCP"))
    ]  # fmt: skip


def test_host_ports_of_a_pod_are_told_with_its_addresses(tmp_path: Path) -> None:
    item = pod("web-0")
    item["spec"]["containers"] = [{"name": "c", "ports": [
        {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81, "name": "none"},
    ]}]  # fmt: skip
    told = inventory(tmp_path, item).endpoints["host_ports"][0]
    assert json.loads(told) == [
        {"host_ip": "", "host_port": 8080, "protocol": "TCP", "port": 80,
         "addresses": [entry["ip"] for entry in item["status"]["podIPs"]]}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"ports": [{"port": 70000}]}, "spec.ports.port is 70000"),
        ({"ports": [{"port": "http"}]}, "port is 'http', wanted int"),
        ({"clusterIPs": [1]}, "spec.clusterIPs holds 1, wanted text"),
        ({"healthCheckNodePort": "x"}, "spec.healthCheckNodePort is 'x', wanted int"),
    ],
)
def test_a_service_kubernetes_would_not_take_is_refused(
    tmp_path: Path, spec: dict[str, object], why: str
) -> None:
    read = inventory(tmp_path, made("Service", "web", spec=spec), pod())
    assert read.services.is_empty()
    assert why in (reason(read) or "")


def test_a_backend_told_by_slices_and_endpoints_counts_once(tmp_path: Path) -> None:
    old = made("Endpoints", "web", metadata={"namespace": "shop"}, subsets=[{
        "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
        "notReadyAddresses": [{"ip": "10.0.0.3"}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    }])  # fmt: skip
    part = endpoint_slice({"addresses": ["10.0.0.1"]}, ports=[{"port": 8080}])

    assert inventory(tmp_path, old, part).backends["address"].to_list() == ["10.0.0.1", "10.0.0.2"]


def test_slices_without_service_or_addresses_are_left_out(tmp_path: Path) -> None:
    free = endpoint_slice({"addresses": ["10.0.0.1"]})
    free["metadata"] = {"name": "free"}
    named = endpoint_slice({"addresses": ["x.example"]}, addressType="FQDN")
    every = endpoint_slice({"addresses": ["10.0.0.9"]}, ports=[{"name": "all"}])
    read = inventory(tmp_path, free, named, every, endpoint_slice({"addresses": []}, ports=None))

    assert read.backends.select("address", "port", "port_name").rows() == [
        ("10.0.0.9", None, "all")
    ]
    assert "EndpointSlices of no service 1" in reason(read)


def test_policies_count_the_rules_that_the_agent_counts(tmp_path: Path) -> None:
    spec = {"endpointSelector": {}, "ingress": [{}, {}]}
    read = inventory(
        tmp_path,
        policy(spec=spec, metadata={"namespace": "a", "name": "one"}),
        policy(specs=[spec, spec], metadata={"namespace": "a", "name": "two"}),
        policy(spec=spec, specs=[spec], metadata={"namespace": "a", "name": "both"}),
        policy("CiliumClusterwideNetworkPolicy", spec=spec),
        policy("NetworkPolicy", spec={"podSelector": {}}),
    ).policies

    assert read.select("kind", "namespace", "policy", "rules").rows() == [
        ("CiliumClusterwideNetworkPolicy", None, "p", 1),
        ("CiliumNetworkPolicy", "a", "both", 2),
        ("CiliumNetworkPolicy", "a", "one", 1),
        ("CiliumNetworkPolicy", "a", "two", 2),
        ("NetworkPolicy", "default", "p", 1),
    ]
    assert json.loads(read["object"][3]) == {"specs": [spec, spec]}
    assert read["source"][0] == f"{tmp_path}/dump.json item 4"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (policy(), "CiliumNetworkPolicy p: spec, or specs, is missing"),
        (policy("NetworkPolicy"), "NetworkPolicy p: spec is missing"),
        (policy(spec=["x"]), "CiliumNetworkPolicy p: spec is ['x'], wanted dict"),
        (policy(specs=["x"]), "specs holds something else than mappings"),
        (policy(spec={}, metadata={"name": ""}), "metadata.name is missing"),
        ({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "spec": {}},
         "NetworkPolicy without a name: metadata.name is missing"),
        (policy(spec={"x": "{{ .Values.x }}"}), "spec holds a template"),
        (policy(spec={}, metadata={"name": "{{ .Release.Name }}-x"}), "is a template"),
        (policy(spec={}, metadata={"name": 7}), "metadata.name is 7, wanted str"),
    ],
)  # fmt: skip
def test_a_broken_policy_is_refused_with_its_field_and_the_rest_is_used(
    tmp_path: Path, broken: dict[str, Any], told: str
) -> None:
    good = policy(spec={}, metadata={"name": "good"})
    read = inventory(tmp_path, broken, good)

    assert read.policies["policy"].to_list() == ["good"]
    assert f"item 1: {broken['kind']}" in reason(read)
    assert told in reason(read)
    assert read.sources["refused"].to_list() == [1]


def test_items_of_a_typed_list_may_leave_out_kind_and_version(tmp_path: Path) -> None:
    items = [{key: value for key, value in pod(name).items() if key not in ("kind", "apiVersion")}
             for name in ("a", "b")]  # fmt: skip
    listed = {"apiVersion": "v1", "kind": "PodList", "items": items}

    assert inventory(tmp_path, listed).endpoints["pod"].to_list() == ["a", "b"]


def test_kinds_of_the_same_name_in_other_groups_are_not_used(tmp_path: Path) -> None:
    read = inventory(
        tmp_path,
        made("NetworkPolicy", "x", "crd.projectcalico.org/v1", spec={}),
        made("Service", "x", "serving.knative.dev/v1"),
        made("Job", "x", "batch/v1"),
        {"kind": "Pod", "metadata": {"name": "x"}},
        pod(),
    )

    assert len(read.policies) == len(read.services) == 0
    assert read.sources.rows()[-1][1:] == (
        None, 4, 0, 4,
        "4 objects of kinds Job, NetworkPolicy of crd.projectcalico.org, "
        "Pod without apiVersion, Service of serving.knative.dev are not used",
    )  # fmt: skip


def test_identities_are_numbers_with_labels(tmp_path: Path) -> None:
    labels = {"k8s:b": "2", "k8s:a": "1"}
    good = made("CiliumIdentity", "4711", "cilium.io/v2", **{"security-labels": labels})
    read = inventory(tmp_path, good, made("CiliumIdentity", "x1", "cilium.io/v2"))

    assert read.identities.rows() == [(4711, '{"k8s:a": "1", "k8s:b": "2"}')]
    assert "metadata.name is 'x1', wanted a number" in reason(read)


def test_each_key_of_the_config_map_is_an_option(tmp_path: Path) -> None:
    config = made("ConfigMap", "cilium-config", data={"bpf-lb-map-max": "1000", "debug": "false"})
    read = inventory(tmp_path, config, made("ConfigMap", "other", data={"bpf-lb-map-max": "1"}))

    assert read.option("bpf-lb-map-max") == "1000"
    assert read.options["option"].to_list() == ["bpf-lb-map-max", "debug"]
    assert "ConfigMaps other than cilium-config 1" in reason(read)


def test_the_recorded_objects_are_read(tmp_path: Path) -> None:
    read = read_inventory(sorted(GOLDEN.glob("cilium*.json")))

    assert read.nodes.row(0) == (
        "ciliumtest", None, None, 2, 1, None, None, '{"kubernetes.io/hostname": "ciliumtest"}',
    )  # fmt: skip
    assert len(read.endpoints) == 12
    assert read.endpoints["node"].unique().to_list() == ["ciliumtest"]
    assert set(read.endpoints["ips"]) == {1}
    assert read.identities["identity"].to_list() == [477, 2382, 5167, 5656, 6351, 7131, 8202]
    assert read.policies.select("namespace", "policy", "rules").rows() == [
        ("ns0", "pol0", 1), ("ns1", "pol1", 1),
    ]  # fmt: skip
    assert read.sources["refused"].sum() == 0


def golden_cases(shared: Path) -> Iterator[Path]:
    yield from sorted(
        path.parent for path in (shared / "golden" / "policy").glob("*/*/inputs.json")
    )


def test_golden_cases_hold_the_pods_and_rules_that_cilium_read(shared: Path) -> None:
    # Every third case, to be quick; the generated clusters of group c take seconds each
    cases = [case for case in golden_cases(shared) if case.parent.name != "c"][::3]
    assert cases, "no golden cases beside this checkout"
    for case in cases:
        inputs = json.loads((case / "inputs.json").read_bytes())
        told = json.loads((case / "expected.json").read_bytes())["policies"]
        read = read_inventory(case)
        rules = {
            (p["kind"], p["namespace"] or None, p["name"]): p["rules"]
            for p in told
            if p["status"] == "ok"
        }
        found = {tuple(row[:3]): row[3] for row in read.policies.iter_rows()}

        assert len(read.endpoints) == len(inputs["pods"]), case
        assert len(read.namespaces) == len(inputs["namespaces"]), case
        assert {key: found.get(key) for key in rules} == rules, case
        assert read.option("enable-policy") == inputs["options"]["policy_mode"]


def test_a_golden_case_has_its_services_and_their_addresses(shared: Path) -> None:
    case = shared / "golden" / "policy" / "b" / "svc-name"
    if not case.is_dir():
        pytest.skip("this golden case is not here")
    read = read_inventory(case)

    assert read.services.select("namespace", "service").rows() == [
        ("dev", "ext"), ("shop", "api"), ("shop", "ext"),
    ]  # fmt: skip
    assert read.backends.filter(pl.col("namespace") == "dev")["address"].to_list() == [
        "198.51.100.77"
    ]


def test_a_broken_golden_case_names_the_field() -> None:
    case = {"options": {}, "namespaces": [{"name": "a"}], "pods": [{"name": "x"}]}
    assert golden_case.read(case, "inputs.json").faults == ("inputs.json: namespace is missing",)


def workload(kind: str = "Deployment", name: str = "api", **more: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9090}],
        "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    }
    host = more.pop("pod", {})
    template = {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [container, {"name": "side"}]} | host}  # fmt: skip
    return made(kind, name, "apps/v1", metadata={"namespace": "shop"},
                spec={"template": template, **more})  # fmt: skip


def test_a_pod_tells_its_service_account_and_the_ports_that_policies_can_name(
    tmp_path: Path,
) -> None:
    ports = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 1}]
    spec = {
        "serviceAccountName": "web",
        "containers": [{"name": "a", "ports": ports}, {"name": "b"}],
    }
    row = inventory(tmp_path, pod(spec=spec)).endpoints.row(0, named=True)

    assert row["service_account"] == "web"
    assert json.loads(row["named_ports"]) == [{"name": "dns", "port": 53, "protocol": "UDP"}]


def test_a_service_keeps_what_its_entries_follow_from(tmp_path: Path) -> None:
    notes = {"service.cilium.io/global": "true", "kubectl.kubernetes.io/last": "x"}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    metadata = {"namespace": "shop", "labels": {"b": "2", "a": "1"}, "annotations": notes}
    row = inventory(tmp_path, made("Service", "web", metadata=metadata, spec=spec)).services.row(
        0, named=True
    )

    assert row["labels"] == '{"a": "1", "b": "2"}'
    assert json.loads(row["object"]) == {
        "spec": spec, "annotations": {"service.cilium.io/global": "true"},
    }  # fmt: skip


def test_a_backend_tells_its_node_and_the_name_of_its_port(tmp_path: Path) -> None:
    part = endpoint_slice({"addresses": ["10.0.0.1"], "nodeName": "n1"},
                          ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}])  # fmt: skip
    read = inventory(tmp_path, part).backends
    assert read.select("port_name", "node").rows() == [("a", "n1"), ("b", "n1")]


def test_endpoints_of_slices_have_the_labels_of_their_identity(tmp_path: Path) -> None:
    labels = {"k8s:app": "db", "k8s:io.kubernetes.pod.namespace": "shop",
              "k8s:io.cilium.k8s.policy.serviceaccount": "sa"}  # fmt: skip
    known = made("CiliumIdentity", "300", "cilium.io/v2", **{"security-labels": labels})
    entries = [{"name": "db-0", "id": 300, "networking": {}}, {"name": "db-1", "id": 301}]
    part = made(
        "CiliumEndpointSlice", "c", "cilium.io/v2alpha1", namespace="shop", endpoints=entries
    )

    read = inventory(tmp_path, part, known).endpoints
    assert read.select("pod", "labels", "service_account").rows() == [
        ("db-0", '{"app": "db"}', "sa"), ("db-1", "{}", None),
    ]  # fmt: skip


def test_an_endpoint_without_labels_has_those_of_its_identity(tmp_path: Path) -> None:
    old = cilium_endpoint("web-0")
    del old["metadata"]["labels"]
    old["status"] |= {
        "identity": {"labels": ["k8s:app=a=b", "k8s:io.kubernetes.pod.namespace=shop",
                                "k8s:io.cilium.k8s.policy.serviceaccount=sa"]},
        "named-ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }  # fmt: skip
    row = inventory(tmp_path, old).endpoints.row(0, named=True)

    assert (row["labels"], row["service_account"]) == ('{"app": "a=b"}', "sa")
    assert json.loads(row["named_ports"]) == [{"name": "http", "port": 80, "protocol": "TCP"}]


def test_admin_policies_are_kept_and_refused_by_name_by_the_engine(tmp_path: Path) -> None:
    spec = {"priority": 5, "subject": {"namespaces": {}}, "ingress": [{}], "egress": [{}, {}]}
    group = "policy.networking.k8s.io"
    read = inventory(
        tmp_path,
        made("AdminNetworkPolicy", "p", f"{group}/v1alpha1", spec=spec),
        made("BaselineAdminNetworkPolicy", "default", f"{group}/v1alpha1", spec=spec),
        made("ClusterNetworkPolicy", "p", f"{group}/v1alpha2", spec=spec),
        made("AdminNetworkPolicy", "empty", f"{group}/v1alpha1"),
    )

    assert read.policies.select("kind", "namespace", "rules").rows() == [
        ("AdminNetworkPolicy", None, 3), ("BaselineAdminNetworkPolicy", None, 3),
        ("ClusterNetworkPolicy", None, 3),
    ]  # fmt: skip
    assert "AdminNetworkPolicy empty: spec is missing" in reason(read)
    told = engine.statuses(read, version="1.18")
    assert told["status"].to_list() == ["unsupported-kind"] * 3
    assert told["error"][0] == "Cilium does not enforce AdminNetworkPolicy"


@pytest.mark.parametrize("version", ["v2alpha1", "v2"])
def test_cidr_groups_are_lists_of_cidrs(tmp_path: Path, version: str) -> None:
    good = made("CiliumCIDRGroup", "vpn", f"cilium.io/{version}", metadata={"labels": {"a": "b"}},
                spec={"externalCIDRs": ["10.0.0.0/8"]})  # fmt: skip
    bad = made("CiliumCIDRGroup", "bad", f"cilium.io/{version}", spec={"externalCIDRs": [1]})
    read = inventory(tmp_path, good, bad)

    assert read.cidr_groups.rows() == [("vpn", '{"a": "b"}', '["10.0.0.0/8"]')]
    assert "CiliumCIDRGroup bad: spec.externalCIDRs holds 1, wanted CIDRs" in reason(read)


def test_objects_with_entries_of_their_own_are_kept_whole(tmp_path: Path) -> None:
    spec = {"defaults": {"bpf-map-dynamic-size-ratio": "0.005"}}
    homes = {"CiliumNodeConfig": "default", "CiliumLocalRedirectPolicy": "default",
             "CiliumEnvoyConfig": "default", "CiliumClusterwideEnvoyConfig": None,
             "CiliumEgressGatewayPolicy": None, "CiliumLoadBalancerIPPool": None}  # fmt: skip
    read = inventory(tmp_path, *(made(kind, "x", "cilium.io/v2", spec=spec) for kind in homes))

    assert dict(read.objects.select("kind", "namespace").iter_rows()) == homes
    assert json.loads(read.objects["object"][0]) == {"spec": spec}
    assert read.sources["refused"].sum() == 0


def test_workloads_stand_for_their_pods_where_none_is_told(tmp_path: Path) -> None:
    told = [
        workload(replicas=3),
        workload("DaemonSet", "agent"),
        workload("StatefulSet", "db"),
        workload(name="proxy", replicas=9, pod={"hostNetwork": True}),
        made("Node", "n1"),
        made("Node", "n2"),
    ]
    read = inventory(tmp_path, *told)

    assert read.endpoints["pod"].to_list() == [
        "agent-0", "agent-1", "api-0", "api-1", "api-2", "db-0",
    ]  # fmt: skip
    row = read.endpoints.row(2, named=True)
    assert (row["labels"], row["service_account"], row["node"]) == (
        '{"app": "api"}',
        "default",
        None,
    )
    assert json.loads(row["named_ports"]) == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert "no pods are told: 6 are taken from 3 workloads (replicas x template)" in reason(read)
    assert inventory(tmp_path, *told, pod()).endpoints["pod"].to_list() == ["web-0"]


def test_containers_of_workloads_tell_requests_and_limits(tmp_path: Path) -> None:
    read = inventory(tmp_path, workload(replicas=3), workload("DaemonSet", "agent"),
                     workload(name="many", replicas=10**9))  # fmt: skip

    assert read.workloads.rows()[:3] == [
        ("DaemonSet", "shop", "agent", "main", None, 250, None, 64 << 20, 1 << 30),
        ("DaemonSet", "shop", "agent", "side", None, None, None, None, None),
        ("Deployment", "shop", "api", "main", 3, 250, None, 64 << 20, 1 << 30),
    ]
    assert "Deployment many: spec.replicas is 1000000000, wanted 0 to 200000" in reason(read)


def test_workloads_with_more_pods_than_a_cluster_holds_are_not_listed(tmp_path: Path) -> None:
    read = inventory(tmp_path, *(workload(name=f"w{n}", replicas=150_000) for n in range(2)))
    assert read.endpoints.is_empty()
    assert "300000 pods of 2 workloads are too many to be listed" in reason(read)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([
    "metadata", "spec", "status", "specs", "data", "endpoints", "ports", "subsets", "namespace",
    "name", "labels", "addresses", "podIPs", "ipam", "networking", "capacity", "conditions",
    "replicas", "template",
    "containers", "resources", "limits", "memory", "port", "externalCIDRs", "ingress", "identity",
    "security-labels", "named-ports", "annotations", "id",
])  # fmt: skip
OBJECTS = st.recursive(
    VALUES,
    lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner, max_size=2), max_size=5),
    max_leaves=12,
)


@given(kind=st.sampled_from(sorted(kubernetes.KINDS)), body=OBJECTS)
def test_any_object_is_used_left_out_or_refused_but_never_breaks(
    kind: tuple[str, str], body: Any
) -> None:
    group, name = kind
    item = (body if isinstance(body, dict) else {"spec": body}) | {
        "kind": name, "apiVersion": f"{group}/v1" if group else "v1",
    }  # fmt: skip
    found = kubernetes.read(item, "x")
    tables_of([("x", found)])

    assert found.read == 1
    assert len(found.faults) + sum(found.left_out.values()) + bool(found.rows) == 1
