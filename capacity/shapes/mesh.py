"""One large cluster or several that are meshed: what each way takes of every limit.

Addresses and nodes of all clusters are known to every agent of a mesh; identities, services and
objects of the API server are those of a cluster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.errors import SettingsError
from capacity.shapes import Shape, cluster_identities, laws
from capacity.shapes.bytes import AGENT, ETCD
from capacity.shapes.frontier import use
from capacity.tables import MESH, MESH_USE, check

_SPLIT: Final = re.compile(r"\s*(\d{1,4})\s*x\s*(\d{1,6})\s*", re.IGNORECASE)
# cilium/cilium issue 15153: a CiliumEndpoint is written three times while a pod comes and goes
_WRITES: Final = 3
# Known to the agents of all clusters (limits.csv: ipcache-entries, node-ids)
_SHARED: Final = ("ipcache", "node map")
CLUSTERS: Final = "clusters"


_UNLIMITED: Final = 1 << 60
_NOTHING: Final = {"base": 0.0, "slots": 0.0, "backends": 0.0, "ids": 0.0}


@dataclass(frozen=True, slots=True)
class Split:
    """So many clusters of so many nodes each."""

    clusters: int
    nodes: int


def split_of(text: str) -> Split:
    """Read a split as 5x1000: clusters by nodes of each.

    Raises
    ------
    SettingsError
        If it is none.

    Examples
    --------
    >>> split_of("5x1000")
    Split(clusters=5, nodes=1000)
    """
    found = _SPLIT.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2]):
        raise SettingsError(f"split {text!r} is not CLUSTERSxNODES; write for example 5x1000")
    return Split(int(found[1]), int(found[2]))


def compare(
    shape: Shape, splits: Iterable[Split], version: str, *, shared: float = 0.0,
    churn: float | None = None, counted: Mapping[str, float] | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Give table mesh: a row a split, with the use of each limit and the verdict.

    Parameters
    ----------
    shape
        The whole: its pods a node are kept, its services and identities dealt out to clusters in
        proportion to nodes.
    shared
        Share of identities and services that every cluster has (platform workloads, global
        services). 0…1. [1]
    churn
        Pods made a second over all clusters, for the events that the API server sends. [1/s]

    Raises
    ------
    SettingsError
        If a share or a number is outside its bounds.
    """
    if not 0 <= shared <= 1:
        raise SettingsError(f"shared: {shared} is outside 0…1")
    if churn is not None and not 0 <= churn < math.inf:
        raise SettingsError(f"churn: {churn} is no rate of 0 or more")
    rows = [_row(shape, one, version, shared, churn, counted)[0] for one in splits]
    return check(pl.DataFrame(rows, schema=MESH.schema, orient="row"), MESH)


def uses(
    shape: Shape, splits: Iterable[Split], version: str, *, shared: float = 0.0,
    counted: Mapping[str, float] | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Give table mesh_use: each limit of each split. Parameters and Raises as of `compare`."""
    parts = [_row(shape, one, version, shared, None, counted)[1] for one in splits]
    return check(pl.concat([MESH_USE.empty(), *parts]), MESH_USE)


def _row(
    shape: Shape, split: Split, version: str, shared: float, churn: float | None,
    counted: Mapping[str, float] | None,
) -> tuple[dict[str, Any], pl.DataFrame]:  # fmt: skip
    nodes, clusters = split.clusters * split.nodes, split.clusters
    scale = nodes / shape.nodes
    part = shared + (1 - shared) / clusters

    def dealt(value: int | None) -> int | None:
        return None if value is None else math.ceil(value * scale * part - 1e-9)

    connected = _connected(clusters, version)
    whole = replace(shape, nodes=nodes)
    own = replace(
        shape, nodes=split.nodes, services=dealt(shape.services) or 0,
        identities=dealt(shape.identities),
        policy_entries=None if shape.policy_entries is None
        else math.ceil(shape.policy_entries * scale),
    )  # fmt: skip
    table = laws(shape, version, counted)
    shared_use = use(table.filter(pl.col("resource").is_in(_SHARED)), whole)
    others = laws(own, version, counted if counted is None else _scaled(counted, scale * part))
    own_use = use(others.filter(~pl.col("resource").is_in([*_SHARED, "identities", AGENT])), own)
    # An agent knows pods, nodes and identities of all clusters, services of its own
    seen = replace(whole, services=own.services)
    memory = use(_agent(seen, table), seen)
    limit = cluster_identities(version, cluster_id=0 if clusters == 1 else 1, clusters=connected)
    hard = _faults(clusters, own.identities, limit, version)
    told = pl.concat([shared_use, own_use, memory.filter(pl.col("limit") < _UNLIMITED)])
    faults = hard + [
        f"{row['resource']}: {row['need']:,} of {row['limit']:,}"
        + (f" (set {row['fix']})" if row["fix"] else "")
        for row in told.filter(
            pl.col("status").is_in(["raise", "redesign", "untested", "check"])
        ).iter_rows(named=True)
    ]
    needs = dict(pl.concat([told, memory]).select("resource", "need").iter_rows())
    row = {
        "split": f"{clusters}x{split.nodes}", "clusters": clusters, "nodes": split.nodes,
        "verdict": "infeasible" if hard else _verdict(set(told["status"])),
        "max_connected_clusters": None if clusters == 1 else connected,
        "identities": own.identities, "identities_limit": limit,
        "ipcache": needs["ipcache"], "node_map": needs["node map"],
        "service_ids": needs["service IDs"], "services_map": needs["services map"],
        "policy_map": needs["policy map"],
        "agent_memory": needs[AGENT], "etcd": needs[ETCD],
        "watchers": split.nodes, "remote_watches": split.nodes * (clusters - 1),
        "endpoint_events": None if churn is None
        else churn / clusters * _WRITES * split.nodes,
        "short": "; ".join(faults) or None,
    }  # fmt: skip
    return row, _use(split, connected, own.identities, limit, told)


def _agent(shape: Shape, table: pl.DataFrame) -> pl.DataFrame:
    """Give the law of an agent's memory, with a limit that none reaches where none is set."""
    set_ = shape if shape.agent_memory is not None else replace(shape, agent_memory=_UNLIMITED)
    made = table.filter(resource=AGENT)
    return made if len(made) else laws(set_, facts.LATEST, _NOTHING).filter(resource=AGENT)


def _use(
    split: Split, connected: int, identities: int | None, limit: int, told: pl.DataFrame
) -> pl.DataFrame:
    name = f"{split.clusters}x{split.nodes}"
    more = [
        (CLUSTERS, "install-time", split.clusters, connected),
        ("identities", "hard", identities, limit),
    ]
    rows = [
        {
            "resource": resource, "kind": kind, "need": need, "limit": most,
            "usage": None if need is None else need / most, "fix": None,
            "status": "unknown" if need is None else "fits" if need <= most else "redesign",
        }
        for resource, kind, need, most in more
    ]  # fmt: skip
    columns = [column for column in MESH_USE.schema.names() if column != "split"]
    first = pl.DataFrame(rows, schema={column: MESH_USE.schema[column] for column in columns})
    whole = pl.concat([first, told.select(columns)]).with_columns(split=pl.lit(name))
    return whole.select(MESH_USE.schema.names())


def _verdict(statuses: set[str]) -> str:
    for status, verdict in (("redesign", "infeasible"), ("raise", "fits after changes"),
                            ("untested", "untested")):  # fmt: skip
        if status in statuses:
            return verdict
    return "fits"


def _scaled(counted: Mapping[str, float], factor: float) -> dict[str, float]:
    """Deal out slots and backends; the cost of one service stays."""
    return {k: v * factor if k in ("slots", "backends") else v for k, v in counted.items()}


def _connected(clusters: int, version: str) -> int:
    """Give the max-connected-clusters that a mesh of so many clusters needs."""
    sizes = sorted(_sizes(version))
    return next((size for size in sizes if size >= clusters), sizes[-1])


def _sizes(version: str) -> list[int]:
    return facts.limits(version).filter(pl.col("limit") == "clusters")["value"].to_list()


def _faults(clusters: int, identities: int | None, limit: int, version: str) -> list[str]:
    most = max(_sizes(version))
    faults = []
    if clusters > most:
        faults.append(f"{clusters} clusters: a mesh has {most} at most, chosen at installation")
    if identities is not None and identities > limit:
        faults.append(f"identities: {identities:,} in a cluster, {limit:,} at most")
    return faults
