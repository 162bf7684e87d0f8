"""Shapes of a cluster: nodes, pods a node, services, policies; and what each takes of each limit.

Every use is linear in pods, nodes and services (exact arithmetic of cilium/, measured on the shape
that is asked for), so that the largest cluster of any shape is a division, not a search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from ipaddress import ip_network
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.policy.growth import growth
from capacity.cilium.services import lb_entries, service_ids
from capacity.cilium.services.shapes import shape as services_of
from capacity.errors import SettingsError
from capacity.inventory import Inventory
from capacity.shapes.bytes import AGENT, ETCD, agent_law, etcd_law, etcd_limits
from capacity.shapes.shape import NODE_IPS, Shape
from capacity.tables import BACKENDS, SHAPE_LAWS, check

__all__ = ["Shape", "laws", "shape_of"]

_SERVICES_MAP: Final = "cilium_lb4_services_v2"
_BACKENDS_MAP: Final = "cilium_lb4_backends_v3"
_NODE_MAPS: Final = ("cilium_node_map_v2", "cilium_node_map")
# All of 10.0.0.0/8 as /28
_MOST_CIDRS: Final = 1 << 20


def shape_of(
    inventory: Inventory, version: str, *, nodes: int | None = None,
    pods_per_node: float | None = None,
) -> tuple[Shape, dict[str, float]]:  # fmt: skip
    """Give the shape of a cluster, and the costs of its services counted exactly.

    Parameters
    ----------
    nodes, pods_per_node
        Where the inventory does not tell them; otherwise its own are kept.

    Raises
    ------
    SettingsError
        If the inventory tells no nodes or no pods.
    """
    nodes = len(inventory.nodes) or nodes
    pods = len(inventory.endpoints) or (nodes or 0) * (pods_per_node or 0)
    if not nodes or not pods:
        missing = "nodes" if not nodes else "pods"
        raise SettingsError(
            f"the inventory tells no {missing}: kubectl get nodes,pods,services,endpointslices,"
            "ciliumidentities,networkpolicies -A -o json; or give --nodes and --pods-per-node"
        )
    ips = inventory.endpoints["ips"].mean()
    addresses = inventory.nodes["addresses"].mean()
    fullest = None
    if not inventory.policies.is_empty():
        fullest = growth(inventory, version=version)["entries"].max()
    made = Shape(
        nodes=nodes,
        pods_per_node=pods / nodes,
        services=len(inventory.services),
        identities=len(inventory.identities) or None,
        policy_entries=int(fullest) if isinstance(fullest, int) else None,
        families=2 if isinstance(ips, float) and ips > 1.5 else 1,
        # A CiliumNode tells two at least; fewer come from Node objects, which know not Cilium's own
        node_ips=addresses if isinstance(addresses, float) and addresses >= 2 else NODE_IPS,
        agent_memory=_agent_memory(inventory),
        options=dict(inventory.options.select("option", "value").iter_rows()),
    )
    return made, _counted(inventory, len(inventory.services), version)


def _agent_memory(inventory: Inventory) -> int | None:
    fact = facts.components(facts.LATEST).filter(component="agent").row(0, named=True)
    own = inventory.workloads.filter(workload=fact["name"], container=fact["container"])
    told = own["memory_limit"].drop_nulls()
    return None if told.is_empty() else int(told[0])


def _counted(inventory: Inventory, services: int, version: str) -> dict[str, float]:
    """Count entries of service maps: of a bare service, of all backends; and service IDs."""
    if not services:
        return {"base": 0.0, "slots": 0.0, "backends": 0.0, "ids": 0.0}
    bare = replace(inventory, backends=BACKENDS.empty())
    full, empty = (
        dict(lb_entries(one, version=version).select("map", "entries").iter_rows())
        for one in (inventory, bare)
    )
    return {
        "base": empty[_SERVICES_MAP] / services,
        "slots": float(full[_SERVICES_MAP] - empty[_SERVICES_MAP]),
        "backends": float(full[_BACKENDS_MAP]),
        "ids": service_ids(inventory, version=version).used / services,
    }


def laws(shape: Shape, version: str, counted: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Give table shape_laws: use = per_pod·pods + per_node·nodes + per_service·services.

    Parameters
    ----------
    shape
        The shape whose proportions are kept: identities, backends, policy entries a pod.
    version
        Cilium minor version.
    counted
        Costs of services as `shape_of` gives them; where left out those of services that are all
        alike, as the shape says.

    References
    ----------
    .. [1] capacity/facts/limits.csv, maps.csv and options.csv name the source of each limit.
    """
    if counted is None:
        counted = _alike(shape, version)
    rows = [
        _row("ipcache", "hard", _limit("ipcache-entries", version), per_pod=float(shape.families),
             per_node=shape.node_ips, why="pod addresses, and addresses of nodes"),
        *_node_map(shape, version),
        _identities(shape, version),
        _row("service IDs", "hard", _limit("service-ids", version), per_service=counted["ids"],
             why="one a frontend, both families together"),
        _lb("services map", shape, version, per_service=counted["base"],
            per_pod=counted["slots"] / shape.pods, why="a frontend, and one a backend of it"),
        _lb("backends map", shape, version, per_pod=counted["backends"] / shape.pods,
            why="one a backend address and port"),
        _policy(shape, version),
        *_pods_cidrs(shape),
        *_memory(shape),
        _row("Kubernetes nodes", "tested", _limit("kubernetes-nodes", version), per_node=1.0,
             why="what Kubernetes is tested to"),
        _row("Kubernetes pods", "tested", _limit("kubernetes-pods", version), per_pod=1.0,
             why="what Kubernetes is tested to"),
    ]  # fmt: skip
    return check(pl.DataFrame(rows, schema=SHAPE_LAWS.schema, orient="row"), SHAPE_LAWS)


def _memory(shape: Shape) -> list[dict[str, Any]]:
    """Give the database of the API server, and an agent's memory where it has a limit."""
    quota, most = etcd_limits()
    etcd = _row(ETCD, "estimate", quota, most=most, setting="etcd --quota-backend-bytes",
                **etcd_law(shape))  # fmt: skip
    if shape.agent_memory is None:
        return [etcd]
    return [etcd, _row(AGENT, "estimate", shape.agent_memory, most=None,
                       setting="resources.limits.memory", **agent_law(shape))]  # fmt: skip


def _pods_cidrs(shape: Shape) -> list[dict[str, Any]]:
    """Give what cluster-pool IPAM deals out: one part of the pool a node."""
    if shape.pod_cidr is None:
        return []
    pool = ip_network(shape.pod_cidr)
    many = 2 ** (shape.pod_mask - pool.prefixlen)
    bits = math.ceil(math.log2(shape.nodes))
    smallest = max(shape.pod_mask - bits, 0)
    # Lists may grow, but what a cluster has must stay
    return [_row("pod CIDRs", "settable", many, per_node=1.0, most=max(many, _MOST_CIDRS),
                 setting="ipam.operator.clusterPoolIPv4PodCIDRList",
                 why=f"a /{shape.pod_mask} a node of {pool}; {shape.nodes:,} nodes take a "
                 f"/{smallest}; {shape.pod_ips:,} pod IPs a node")]  # fmt: skip


def _alike(shape: Shape, version: str) -> dict[str, float]:
    """Count one service of the shape exactly; all are alike."""
    if not shape.services:
        return _counted(Inventory(), 0, version)
    told = _one(shape.service_type, shape.ports, shape.backends, version)
    many = float(shape.services)
    ids = told["ids"] * shape.families
    return {"base": told["base"], "slots": told["slots"] * many,
            "backends": told["backends"] * many, "ids": ids}  # fmt: skip


@cache
def _one(kind: str, ports: int, backends: int, version: str) -> Mapping[str, float]:
    one = services_of(services=1, type=kind, ports=ports, backends=backends, families=1)
    return _counted(one, 1, version)


def _row(
    resource: str, kind: str, limit: int, *, per_pod: float | None = 0.0,
    per_node: float = 0.0, per_service: float = 0.0, fixed: float = 0.0,
    per_local_pod: float = 0.0, most: int | None = 0,
    setting: str | None = None, why: str,
) -> dict[str, Any]:  # fmt: skip
    return {
        "resource": resource, "kind": kind, "per_pod": per_pod, "per_node": per_node,
        "per_service": per_service, "fixed": fixed, "per_local_pod": per_local_pod, "limit": limit,
        "most": limit if most == 0 else most,
        "setting": setting, "why": why,
    }  # fmt: skip


def _limit(name: str, version: str) -> int:
    rows = facts.limits(version).filter(pl.col("limit") == name, pl.col("default"))
    return int(rows["value"][-1])


def _option(shape: Shape, name: str, default: int) -> int:
    text = shape.options.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise SettingsError(f"option {name}: {text!r} is not a number")
    # 0 is the agent's word for its default
    return int(text) or default


def _node_map(shape: Shape, version: str) -> list[dict[str, Any]]:
    known = {row["map"]: row for row in facts.maps(version).iter_rows(named=True)}
    fact = next(known[name] for name in _NODE_MAPS if name in known)
    ids = _limit("node-ids", version)
    why = "addresses of nodes; without an entry IPsec and mutual authentication fail"
    size = int(fact["max_entries"])
    if fact["option"] is None:
        return [_row("node map", "hard", size, per_node=shape.node_ips, why=why)]
    return [
        _row("node map", "settable", _option(shape, fact["option"], size), most=ids,
             per_node=shape.node_ips, setting=fact["helm_value"], why=f"{why}; IDs end at {ids:,}")
    ]  # fmt: skip


def cluster_identities(version: str, *, cluster_id: int, clusters: int) -> int:
    """Give the identities a cluster can have, by its ID and the mesh's max-connected-clusters.

    >>> cluster_identities("1.17", cluster_id=0, clusters=255)
    65280
    >>> cluster_identities("1.17", cluster_id=3, clusters=511)
    32768
    """
    rows = facts.limits(version).filter(pl.col("limit") == "cluster-identities")
    wanted = "cluster-id 0" if cluster_id == 0 else "cluster-id 1"
    is_large = pl.col("condition").str.contains("511", literal=True) & ~pl.col(
        "condition"
    ).str.starts_with("cluster-id 1…255")
    chosen = rows.filter(
        pl.col("condition").str.starts_with(wanted), is_large if clusters > 255 else ~is_large
    )
    return int(chosen["value"][0])


def _identities(shape: Shape, version: str) -> dict[str, Any]:
    limit = cluster_identities(
        version,
        cluster_id=int(shape.options.get("cluster-id", "0") or 0),
        clusters=_option(shape, "max-connected-clusters", 255),
    )
    per_pod = None if shape.identities is None else shape.identities / shape.pods
    return _row("identities", "hard", limit, per_pod=per_pod,
                why="distinct sets of security labels; they grow with pods")  # fmt: skip


def _lb(resource: str, shape: Shape, version: str, **costs: Any) -> dict[str, Any]:
    name = _SERVICES_MAP if resource == "services map" else _BACKENDS_MAP
    fact = facts.maps(version).filter(map=name).row(0, named=True)
    general = _option(shape, "bpf-lb-map-max", int(fact["max_entries"]))
    size = _option(shape, fact["option"], general)
    # Cilium bounds it not: memory does
    return _row(resource, "settable", size, most=None, setting=fact["helm_value"], **costs)


def _policy(shape: Shape, version: str) -> dict[str, Any]:
    fact = facts.options(version).filter(option="bpf-policy-map-max").row(0, named=True)
    most = int(fact["max"])
    size = min(_option(shape, "bpf-policy-map-max", int(fact["default"])), most)
    per_pod = None if shape.policy_entries is None else shape.policy_entries / shape.pods
    return _row("policy map", "settable", size, most=most, per_pod=per_pod,
                setting=fact["helm_value"],
                why="entries of the fullest endpoint, at most as fast as pods")  # fmt: skip
