"""Make the tables of an inventory of the rows that readers found, each object once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from capacity.load import bpftool, cilium_tables, helm, kubernetes, workloads
from capacity.load.documents import Found, Row
from capacity.load.homes import nodes_of
from capacity.tables import (
    BACKENDS,
    BPF_MAPS,
    CIDR_GROUPS,
    DNS,
    ENDPOINTS,
    IDENTITIES,
    MAP_ENTRIES,
    NAMESPACES,
    NODES,
    OBJECTS,
    OPTIONS,
    POLICIES,
    PREFIXES,
    SERVICES,
    WORKLOADS,
    Table,
    check,
)  # fmt: skip

# Table → kinds its rows come from, in order of trust: of one object told twice the last one wins
TABLES_OF: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("cilium-dbg service", "Service"),
    BACKENDS: ("Endpoints", "EndpointSlice"),
    NAMESPACES: ("Namespace",),
    IDENTITIES: ("cilium-dbg identity", "CiliumIdentity"),
    POLICIES: (
        "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy",
        "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy",
    ),
    CIDR_GROUPS: ("CiliumCIDRGroup",),
    DNS: ("dns",),
    PREFIXES: ("prefixes",),
    OBJECTS: (
        "CiliumClusterwideEnvoyConfig", "CiliumEgressGatewayPolicy", "CiliumEnvoyConfig",
        "CiliumLoadBalancerIPPool", "CiliumLocalRedirectPolicy", "CiliumNodeConfig",
        "HorizontalPodAutoscaler", "LimitRange", "PodDisruptionBudget", "ResourceQuota",
    ),
    OPTIONS: ("cilium-dbg option", "Helm", "HelmRelease", "ConfigMap"),
}  # fmt: skip
# What makes an object one and the same
_KEYS: Final[Mapping[Table, tuple[str, ...]]] = {
    SERVICES: ("namespace", "service"),
    # One port may have several names: each is one of the service's ports
    BACKENDS: ("namespace", "service", "address", "port", "protocol", "port_name"),
    NAMESPACES: ("namespace",),
    IDENTITIES: ("identity",),
    POLICIES: ("kind", "namespace", "policy"),
    CIDR_GROUPS: ("name",),
    DNS: ("name", "address"),
    PREFIXES: ("prefix",),
    OBJECTS: ("kind", "namespace", "name"),
    WORKLOADS: ("kind", "namespace", "workload", "container"),
    OPTIONS: ("option",),
    ENDPOINTS: ("namespace", "pod"),
}


def tables_of(told: Sequence[tuple[str, Found]]) -> tuple[dict[str, pl.DataFrame], str | None]:
    """Make the tables of an inventory of what was found, each with the node or file it is of.

    Returns
    -------
    tuple
        Tables by name, and a note where policies were told more than once, or where no pods are
        told and those that workloads make stand for them.
    """
    rows: dict[str, list[Row]] = {}
    homes = nodes_of(told)
    for origin, found in told:
        for kind, some in found.rows.items():
            rows.setdefault(kind, []).extend(_placed(kind, some, origin, homes[origin]))
    rows, unnamed = cilium_tables.with_tables(rows)
    frames = {
        table.name: _frame([row for kind in kinds for row in rows.get(kind, ())], table)
        for table, kinds in TABLES_OF.items()
    }
    nodes = _nodes(rows)
    frames["nodes"] = _counted(nodes)
    if frames["policies"].is_empty():
        frames["policies"] = _frame(rows.get("cilium-dbg policy", ()), POLICIES)
    frames["backends"] = _with_others(frames["backends"], rows.get("cilium-dbg backend", ()))
    frames["map_entries"] = check(
        pl.DataFrame(rows.get("map_entries", ()), schema=MAP_ENTRIES.schema, orient="row"),
        MAP_ENTRIES,
    )
    frames["endpoints"] = _endpoints(rows, nodes, frames["identities"])
    frames["workloads"] = _workloads(rows)
    others = pl.DataFrame(workloads.selectors(rows), schema=OBJECTS.schema, orient="row")
    frames["objects"] = check(pl.concat([frames["objects"], others]), OBJECTS)
    frames["bpf_maps"] = _bpf_maps(rows.get("bpf_maps", []))
    policies = sum(len(rows.get(kind, ())) for kind in TABLES_OF[POLICIES])
    twice = policies - len(frames["policies"])
    notes = [f"{twice} policies of the same kind, namespace and name: the last one counts"]
    notes = [*(notes if twice > 0 else []), *unnamed]
    if frames["endpoints"].is_empty():
        frames["endpoints"], made = workloads.endpoints(rows, len(nodes))
        notes += [made] if made else []
    return frames, "; ".join(notes) or None


def _placed(kind: str, rows: Sequence[Row], origin: str, node: str | None) -> Sequence[Row]:
    """Put the node or the file into rows of a kind that is of one node."""
    if kind == "bpf_maps":
        return [(origin, *row[:3], node, *row[4:]) for row in rows]
    if kind == "map_entries":
        time = bpftool.time_in(Path(origin).name)
        return [(time, node, *row) for row in rows]
    if kind.startswith("cilium-dbg endpoint"):
        return [(*row[:2], node, *row[3:]) for row in rows]
    return rows


def _with_others(told: pl.DataFrame, others: Sequence[Row]) -> pl.DataFrame:
    """Add backends of services of which Kubernetes objects tell none."""
    if not others:
        return told
    more = _frame(others, BACKENDS).join(told, on=["namespace", "service"], how="anti")
    return pl.concat([told, more]).sort(_KEYS[BACKENDS])


def _frame(rows: Sequence[Row], table: Table) -> pl.DataFrame:
    """Make a table of rows; of equal keys the last row counts."""
    if not rows:
        return table.empty()
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    keys = _KEYS[table]
    return check(frame.unique(keys, keep="last", maintain_order=True).sort(keys), table)


def _nodes(rows: Mapping[str, Sequence[Row]]) -> pl.DataFrame:
    """Join what is told of one name: CiliumNode comes first, lists of agents come last.

    Column `addresses` still lists them: endpoints look their node up by address.
    """
    schema = pl.Schema({**NODES.schema, "addresses": pl.List(pl.String)})
    both = pl.DataFrame(schema=schema)
    for kind in ("cilium-dbg node table", "cilium-dbg node", "Node", "CiliumNode"):
        frame = pl.DataFrame(rows.get(kind, ()), schema=schema, orient="row")
        frame = frame.unique("node", keep="last", maintain_order=True)
        both = _over(frame, both)
    return both.with_columns(pl.col("labels").fill_null("{}")).sort("node")


def _over(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Join two frames of nodes; the first one wins."""
    both = first.join(second, on="node", how="full", coalesce=True, suffix="_plain")
    told = [
        pl.coalesce(name, f"{name}_plain").alias(name) for name in NODES.schema if name != "node"
    ]
    return both.select("node", *told)


def _counted(nodes: pl.DataFrame) -> pl.DataFrame:
    many = pl.col("addresses").list.len().cast(pl.Int64)
    return check(nodes.with_columns(addresses=pl.when(many > 0).then(many)), NODES)


def _endpoints(
    rows: Mapping[str, Sequence[Row]], nodes: pl.DataFrame, identities: pl.DataFrame
) -> pl.DataFrame:
    """Pods, and Cilium's endpoints where no pod tells; these name their node by its address."""
    pods = _frame(rows.get("Pod", ()), ENDPOINTS)
    sliced = _sliced(rows.get("CiliumEndpointSlice", ()), identities)
    listed = [*sliced, *rows.get("CiliumEndpoint", ())]
    if not listed and not rows.get("cilium-dbg endpoint"):
        return pods
    others = _frame(listed, ENDPOINTS).join(pods, on=["namespace", "pod"], how="anti")
    named = nodes.select("node", "addresses").explode("addresses").drop_nulls()
    homes = named.unique("addresses", keep="first", maintain_order=True)
    others = others.rename({"node": "addresses"}).join(homes, on="addresses", how="left")
    both = pl.concat([pods, others.select(ENDPOINTS.schema.names())])
    agents = _frame(rows.get("cilium-dbg endpoint", ()), ENDPOINTS)
    both = pl.concat([both, agents.join(both, on=["namespace", "pod"], how="anti")])
    return check(both.sort("namespace", "pod"), ENDPOINTS)


def _sliced(rows: Sequence[Row], identities: pl.DataFrame) -> list[Row]:
    """Endpoints of slices: their labels and service account are those of their identity."""
    if not rows:
        return []
    told = {
        number: kubernetes.pod_labels(labels)
        for number, labels in identities.select("identity", "labels").iter_rows()
    }
    unknown = "{}", None
    return [
        (*row[:3], labels, row[4], account, *row[6:8])
        for row in rows
        for labels, account in (told.get(row[8], unknown),)
    ]


def _workloads(rows: Mapping[str, Sequence[Row]]) -> pl.DataFrame:
    width = len(WORKLOADS.columns)
    kinds = (helm.RESOURCES, *workloads.KINDS)
    return _frame([row[:width] for kind in kinds for row in rows.get(kind, ())], WORKLOADS)


def _bpf_maps(rows: Sequence[Row]) -> pl.DataFrame:
    """Give table bpf_maps; a map that is in a list of pins too has its whole name."""
    if not rows:
        return BPF_MAPS.empty()
    schema = pl.Schema({"origin": pl.String(), "id": pl.Int64(), "is_whole": pl.Boolean()})
    schema |= BPF_MAPS.schema
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.sort("time", "origin", "id", "is_whole", maintain_order=True)
    numbered = pl.col("id").is_not_null()
    once = frame.filter(numbered).unique(["origin", "id"], keep="last", maintain_order=True)
    return check(bpftool.whole_names(pl.concat([once, frame.filter(~numbered)])), BPF_MAPS)
