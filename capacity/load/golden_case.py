"""Golden cases of policies and of services, made beside the answers of Cilium's own code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from capacity.load import kubernetes
from capacity.load.documents import Found, Row
from capacity.load.fields import Fault, Object, as_json, dicts_at, text_at, value_at

# Options of a golden case → agent flag: pkg/option/config.go. `listeners` is no flag: it names
# those that CiliumEnvoyConfigs would make.
_OPTIONS: Final = {
    "ipv4": "enable-ipv4",
    "ipv6": "enable-ipv6",
    "host_firewall": "enable-host-firewall",
    "policy_mode": "enable-policy",
    "cluster_name": "cluster-name",
    "allow_localhost": "allow-localhost",
    "listeners": "listeners",
    "node_port": "kube-proxy-replacement",
    "node_port_algorithm": "bpf-lb-algorithm",
    "external_cluster_ip": "bpf-lb-external-clusterip",
    "source_range_check": "enable-svc-source-range-check",
    "node_port_addresses": "node_port_addresses",
    "node_name": "node_name",
}
# What the tree that cases of policies were made by (cilium/cilium b095517e625e, 1.17-dev of August
# 2024) does otherwise than 1.17.0 and later: capacity/cilium/policy/versions.py
_TREE: Final = {"prefix-identities": "prefix", "proxy-precedence": "false"}
_INPUT: Final = {"services", "endpoint_slices"}
_NODE: Final = "node-1"


def is_case(document: Any) -> bool:
    """Tell whether a document is the inputs.json of a golden policy case."""
    return isinstance(document, dict) and {"options", "namespaces", "pods"} <= document.keys()


def is_services_case(document: Any) -> bool:
    """Tell whether a document is a golden case of services, or its input."""
    if not isinstance(document, dict):
        return False
    told = document.get("input", document)
    return isinstance(told, dict) and told.keys() >= _INPUT


def read_services(document: Object, place: str) -> Found:
    """Read a golden case of services: Kubernetes objects without kinds, and options."""
    told = value_at(document, "input", dict) or document
    kinds = (
        ("services", "v1", "Service"),
        ("endpoint_slices", "discovery.k8s.io/v1", "EndpointSlice"),
    )
    try:
        items = [
            {"apiVersion": version, "kind": kind, **item}
            for name, version, kind in kinds
            for item in dicts_at(told, name)
        ]
        options = _options(document, place)
    except Fault as error:
        return Found(1, faults=(f"{place}: {error}",))
    found = kubernetes.read({"kind": "List", "items": items}, place)
    return Found(found.read, {**found.rows, "ConfigMap": options}, found.faults, found.left_out)


def read(document: Object, place: str) -> Found:
    """Read the inputs of a golden policy case; its policies are files of their own."""
    try:
        rows = _rows(document, place)
    except Fault as error:
        return Found(1, faults=(f"{place}: {error}",))
    return Found(sum(map(len, rows.values())), rows)


def _rows(case: Object, place: str) -> dict[str, list[Row]]:
    return {
        "Namespace": [
            (text_at(entry, "name"), as_json(value_at(entry, "labels", dict)))
            for entry in dicts_at(case, "namespaces")
        ],
        "Node": [(_NODE, *[None] * 6, as_json(value_at(case, "node_labels", dict)))],
        "Pod": [_pod(entry) for entry in dicts_at(case, "pods")],
        **_services(dicts_at(case, "services")),
        "CiliumCIDRGroup": [
            (name, "{}", as_json(cidrs)) for name, cidrs in _lists(case, "cidr_groups")
        ],
        "dns": [(name, str(ip)) for name, ips in _lists(case, "dns") for ip in ips],
        "prefixes": [
            (prefix, as_json([str(one) for one in labels]))
            for prefix, labels in _lists(case, "prefix_labels")
        ],
        "ConfigMap": list(_options(case, place)),
    }


def _pod(entry: Object) -> Row:
    labels, ports = as_json(value_at(entry, "labels", dict)), as_json(dicts_at(entry, "ports"))
    account = value_at(entry, "service_account", str)
    return (*_home(entry), None, labels, None, account, ports, None)


def _services(services: list[dict[str, Any]]) -> dict[str, list[Row]]:
    shape = ("ClusterIP", 0, 0, 0, 0, "Cluster", "Cluster", False, False)
    return {
        "Service": [
            (
                *_home(entry), *shape, as_json(value_at(entry, "labels", dict)),
                as_json({"spec": {"selector": value_at(entry, "selector", dict) or {}}}),
            )
            for entry in services
        ],
        "Endpoints": [
            (*_home(entry), str(address), None, "TCP", None, None, True, False, True)
            for entry in services
            for address in value_at(entry, "endpoints", list) or []
        ],
    }  # fmt: skip


def _lists(case: Object, path: str) -> list[tuple[str, list[Any]]]:
    """Give the lists of a mapping; a single value is a list of one."""
    told: Mapping[str, Any] = value_at(case, path, dict) or {}
    return [(name, one if isinstance(one, list) else [one]) for name, one in told.items()]


def _options(case: Object, place: str) -> list[Row]:
    told = dict(value_at(case, "options", dict) or {})
    rows = [
        (_OPTIONS[name], _flag(value), place) for name, value in told.items() if name in _OPTIONS
    ]
    if "pods" in case:
        rows += [(*choice, place) for choice in _TREE.items()]
    if case.get("endpoints"):
        rows.append(("endpoints", _flag(value_at(case, "endpoints", list)), place))
    return rows


def _home(entry: Object) -> tuple[str, str]:
    return text_at(entry, "namespace"), text_at(entry, "name")


def _flag(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
