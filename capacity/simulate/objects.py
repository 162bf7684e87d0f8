"""The inventory of the cluster at its last step: as tables, and as the objects kubectl prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.inventory import Inventory
from capacity.simulate.cluster import Cluster
from capacity.simulate.laws import Template
from capacity.simulate.measured import address, node_name
from capacity.simulation_settings import SimulationSettings
from capacity.tables import BACKENDS, ENDPOINTS, NODES, OPTIONS, SERVICES, SOURCES, check
from capacity.units import parse_bytes

KERNEL: Final = "6.18.0-generic"
CPU: Final = 8
# Namespaces of the workloads: services are dealt out to them in turn
NAMESPACES: Final = 40
_PORT: Final = 8080
# More than 2,768 node ports, from about 7,000 nodes on, need a wider service-node-port-range
_FIRST_NODE_PORT: Final = 30_000
_LABELS: Final = {"kubernetes.io/os": "linux"}


@dataclass(frozen=True, slots=True)
class Objects:
    """Kubernetes objects of the last step, and the options of the agents."""

    nodes: list[dict[str, Any]]
    services: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    pods: list[dict[str, Any]]
    config: dict[str, str]


def objects(cluster: Cluster, rng: np.random.Generator) -> Objects:
    """Make the objects of the last step.

    Pods are dealt out to services in random order, so that each backend is a pod of the cluster.
    """
    settings = cluster.settings
    nodes = [int(i) for i in np.flatnonzero(cluster.alive[-1])]
    homes, hosts = _pod_addresses(cluster, nodes)
    order = rng.permutation(len(homes))
    services, slices, owner = [], [], np.full(len(homes), -1)
    taken, node_port = 0, _FIRST_NODE_PORT
    for number, kind in enumerate(cluster.services):
        # The API servers behind default/kubernetes are no pods
        picked = order[taken : taken + kind.backends] if number else order[:0]
        taken += len(picked)
        owner[picked] = number
        ips = [_pod_ip(int(homes[i]), int(hosts[i])) for i in picked]
        services.append(_service(number, kind, node_port))
        node_port += kind.ports if kind.has_node_ports else 0
        slices.append(_slice(number, kind, ips if number else _API_SERVERS))
    pods = list(_pods(settings, homes, hosts, owner, _names(cluster, nodes)))
    return Objects(
        nodes=[_node(cluster, i) for i in nodes],
        services=services,
        slices=slices,
        pods=pods if settings.with_pods else [],
        config=config(settings),
    )


def inventory(made: Objects) -> Inventory:
    """Give the objects as an inventory, as reading the written files gives it."""
    backends = [row for part in made.slices for row in _backend_rows(part)]
    tables = {
        NODES: [_node_row(item) for item in made.nodes],
        SERVICES: [_service_row(item) for item in made.services],
        BACKENDS: backends,
        ENDPOINTS: [_endpoint_row(item) for item in made.pods],
        OPTIONS: [
            {"option": name, "value": value, "source": "simulation"}
            for name, value in made.config.items()
        ],
    }
    frames = {
        table.name: check(pl.DataFrame(rows, schema=table.schema), table)
        for table, rows in tables.items()
    }
    seen = sum(len(part) for part in (made.nodes, made.services, made.slices, made.pods)) + 1
    source = {"source": "simulation", "format": "simulate", "read": seen, "kept": seen}
    sources = pl.DataFrame([source | {"refused": 0, "reason": None}], schema=SOURCES.schema)
    return Inventory(**frames, sources=sources)


def config(settings: SimulationSettings) -> dict[str, str]:
    """Give the options of the ConfigMap cilium-config that the laws follow."""
    return {
        "bpf-lb-algorithm": "random",
        "bpf-lb-map-max": str(settings.lb_map_max),
        "bpf-map-dynamic-size-ratio": f"{settings.ratio:.10g}",
        "bpf-policy-map-max": str(settings.policy_map_max),
        "cluster-id": "0",
        "cluster-name": settings.cluster,
        "enable-ipv4": "true",
        "enable-ipv6": "false",
        "identity-allocation-mode": "crd",
        "kube-proxy-replacement": "true",
        "max-connected-clusters": "255",
        "preallocate-bpf-maps": "false",
        "routing-mode": "tunnel",
        "tunnel-protocol": "vxlan",
    }


def _pod_addresses(
    cluster: Cluster, nodes: list[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Slot of the node and number on it, of every pod of the last step."""
    many = cluster.pods[-1, nodes]
    homes = np.repeat(cluster.agents.slot[nodes], many)
    hosts = np.concatenate([np.arange(n) for n in many])
    return homes, hosts


def _names(cluster: Cluster, nodes: list[int]) -> dict[int, str]:
    return {int(cluster.agents.slot[i]): node_name(cluster.settings.cluster, i) for i in nodes}


def _pod_ip(slot: int, host: int) -> str:
    # A /24 a node; .1 is the router, .2 the health endpoint
    return f"10.{slot // 256}.{slot % 256}.{host + 3}"


_API_SERVERS: Final = ["172.31.0.1", "172.31.0.2", "172.31.0.3"]


def _service_name(number: int) -> tuple[str, str]:
    if number == 0:
        return "default", "kubernetes"
    return f"team-{number % NAMESPACES:02d}", f"app-{number:05d}"


def _node(cluster: Cluster, agent: int) -> dict[str, Any]:
    slot = int(cluster.agents.slot[agent])
    name = node_name(cluster.settings.cluster, agent)
    cidr = f"10.{slot // 256}.{slot % 256}.0/24"
    size = {
        "cpu": str(CPU),
        "memory": f"{parse_bytes(cluster.settings.memory) // 1024}Ki",
        "pods": str(max(110, 2 * cluster.settings.pods_per_node)),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": _LABELS},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address(slot)},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": size,
            "capacity": size,
            "nodeInfo": {"kernelVersion": KERNEL},
        },
    }


def _service(number: int, kind: Template, node_port: int) -> dict[str, Any]:
    namespace, name = _service_name(number)
    spec: dict[str, Any] = {
        "clusterIP": "None" if kind.type == "Headless" else _numbered_ip(10, 96, number),
        "ipFamilies": ["IPv4"],
        "ports": _service_ports(kind, node_port),
        "type": "ClusterIP" if kind.type == "Headless" else kind.type,
    }
    spec["clusterIPs"] = [spec["clusterIP"]]
    status: dict[str, Any] = {"loadBalancer": {}}
    if kind.has_node_ports:
        spec["externalTrafficPolicy"] = "Cluster"
    if kind.type == "LoadBalancer":
        status["loadBalancer"] = {"ingress": [{"ip": _numbered_ip(198, 18, number)}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        "status": status,
    }


def _service_ports(kind: Template, node_port: int) -> list[dict[str, Any]]:
    ports: list[dict[str, Any]] = [
        {"name": f"p{p}", "port": 80 + p, "protocol": "TCP", "targetPort": _PORT + p}
        for p in range(kind.ports)
    ]
    if kind.has_node_ports:
        ports = [port | {"nodePort": node_port + p} for p, port in enumerate(ports)]
    return ports


def _numbered_ip(first: int, second: int, number: int) -> str:
    number += 1
    return f"{first}.{second + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _slice(number: int, kind: Template, ips: list[str]) -> dict[str, Any]:
    namespace, name = _service_name(number)
    ready = {"ready": True}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {
            "name": f"{name}-ipv4",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": [{"addresses": [ip], "conditions": ready} for ip in ips],
        "ports": [
            {"name": f"p{p}", "port": _PORT + p, "protocol": "TCP"} for p in range(kind.ports)
        ],
    }


def _pods(
    settings: SimulationSettings,
    homes: npt.NDArray[np.int64],
    hosts: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    names: dict[int, str],
) -> Iterator[dict[str, Any]]:
    """Pods of services carry the service's name as label app; the others the name of a job."""
    if not settings.with_pods:
        return
    for i, (slot, host, number) in enumerate(zip(homes, hosts, owner, strict=True)):
        free = (f"team-{i % NAMESPACES:02d}", f"job-{i % (5 * NAMESPACES):03d}")
        namespace, app = _service_name(int(number)) if number >= 0 else free
        ip = _pod_ip(int(slot), int(host))
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{app}-{i:06d}",
                "namespace": namespace,
                "labels": {"app": app},
            },
            "spec": {"nodeName": names[int(slot)]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
        }


def _node_row(item: dict[str, Any]) -> dict[str, Any]:
    status = item["status"]
    return {
        "node": item["metadata"]["name"],
        "memory": parse_bytes(status["capacity"]["memory"]),
        "cpu": 1000 * int(status["capacity"]["cpu"]),
        "addresses": sum(a["type"] == "InternalIP" for a in status["addresses"]),
        "pod_cidrs": len(item["spec"]["podCIDRs"]),
        "max_pods": int(status["allocatable"]["pods"]),
        "kernel": status["nodeInfo"]["kernelVersion"],
        "labels": json.dumps(item["metadata"]["labels"], sort_keys=True),
    }


def _service_row(item: dict[str, Any]) -> dict[str, Any]:
    spec = item["spec"]
    return {
        "namespace": item["metadata"]["namespace"],
        "service": item["metadata"]["name"],
        "type": spec["type"],
        "ports": len(spec["ports"]),
        "cluster_ips": sum(ip != "None" for ip in spec["clusterIPs"]),
        "external_ips": 0,
        "load_balancer_ips": len(item["status"]["loadBalancer"].get("ingress", [])),
        "external_policy": "Cluster",
        "internal_policy": "Cluster",
        "affinity": False,
        "node_ports": any("nodePort" in port for port in spec["ports"]),
        "labels": "{}",
        "object": json.dumps({"spec": spec, "status": item["status"]}, sort_keys=True),
    }


def _backend_rows(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for endpoint in item["endpoints"]:
        for port in item["ports"]:
            yield {
                "namespace": item["metadata"]["namespace"],
                "service": item["metadata"]["labels"]["kubernetes.io/service-name"],
                "address": endpoint["addresses"][0],
                "port": port["port"],
                "protocol": port["protocol"],
                "port_name": port["name"],
                "node": None,
                "ready": True,
                "terminating": False,
                "serving": True,
            }


def _endpoint_row(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace": item["metadata"]["namespace"],
        "pod": item["metadata"]["name"],
        "node": item["spec"]["nodeName"],
        "labels": json.dumps(item["metadata"]["labels"], sort_keys=True),
        "ips": len(item["status"]["podIPs"]),
        "service_account": None,
        "named_ports": "[]",
        "host_ports": None,
    }
