"""Settings of a ClusterMesh: what each of its clusters must be set to, so that they can join.

IDs and names are those of the running clusters where they may stay: neither can be changed on a
cluster with pods, nor can the most clusters of the mesh.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.manifests.values import Tree, put, to_yaml
from capacity.tables import MESH_SETTINGS, check

# cilium/charts 009b5e958217 cilium/templates/validate.yaml, 1.15 to 1.20
_NAME: Final = re.compile(r"([a-z0-9][-a-z0-9]{0,30})?[a-z0-9]")
_NO_NAME: Final = "default"
_NAME_KEY: Final = "cluster.name"
# The same file: cluster IDs whose highest bit clashes with a mark of packets in ENI mode
# (cilium/cilium issue 21330)
_CLASHING: Final = ((128, 255), (384, 511))
_SMALL: Final = 255
_NODE_MAP: Final = "bpf.nodeMapMax"
_INSTALL: Final = "not on a cluster with pods: identities and addresses carry it; install anew"


@dataclass(frozen=True, slots=True)
class MeshCluster:
    """A cluster that is, or is to be, part of a mesh; None: not known, or not set.

    `addresses` are those of its nodes that other agents learn; `identities` the most it is planned
    to have; `replicas` those of its clustermesh-apiserver.
    """

    name: str
    version: str
    cluster_id: int | None = None
    cluster_name: str | None = None
    connected: int | None = None
    node_map: int | None = None
    addresses: float = 0.0
    identities: float | None = None
    replicas: int | None = None
    is_eni: bool = False


def mesh_settings(mesh: str, clusters: Sequence[MeshCluster]) -> pl.DataFrame:
    """Give table mesh_settings: a row a setting of a cluster, in their order.

    Parameters
    ----------
    mesh
        Its name.
    clusters
        All of them, those that could not be planned too: they count.
    """
    size = connected(clusters)
    ids, names = _ids(clusters, size), _names(clusters)
    whole = sum(cluster.addresses for cluster in clusters)
    rows = []
    for cluster in clusters:
        made = [
            _id(cluster, ids[cluster.name], size),
            _name(cluster, names[cluster.name]),
            _connected(cluster, size, len(clusters)),
            *_identities(cluster, ids[cluster.name], size),
            *_node_map(cluster, whole),
            _replicas(cluster),
        ]
        rows += [{"mesh": mesh, "cluster": cluster.name, **row} for row in made]
    return check(pl.DataFrame(rows, schema=MESH_SETTINGS.schema), MESH_SETTINGS)


def values(settings: pl.DataFrame, cluster: str) -> str | None:
    """Give Helm values of one cluster: what is to be set, each with its reason; None: nothing.

    Parameters
    ----------
    settings
        Table mesh_settings.
    """
    tree: Tree = {}
    comments = {}
    wanted = pl.col("status").is_in(["set", "install-time"])
    for row in settings.filter(wanted, pl.col("cluster") == cluster).iter_rows(named=True):
        # A name may be of digits only, and stays text
        value = row["target"] if row["setting"] == _NAME_KEY else int(row["target"])
        put(tree, row["setting"], value)
        comments[row["setting"]] = f"{row['status']}: {row['reason']}"
    if not tree:
        return None
    put(tree, "clustermesh.useAPIServer", True)
    return to_yaml(tree, comments)


def connected(clusters: Sequence[MeshCluster]) -> int:
    """Give the maxConnectedClusters of a mesh: the same in all, the least that is enough.

    A larger one that all have already stays: it cannot be changed.
    """
    versions = {cluster.version for cluster in clusters} or {facts.LATEST}
    told = facts.limits(min(versions, key=facts.VERSIONS.index)).filter(limit="clusters")
    sizes = sorted(int(size) for size in told["value"])
    enough = next((size for size in sizes if size >= len(clusters)), sizes[-1])
    present = {cluster.connected or _SMALL for cluster in clusters if cluster.cluster_id}
    return max(enough, present.pop()) if len(present) == 1 else enough


def _row(
    setting: str, current: Any, target: Any, reason: str, *, status: str | None = None
) -> dict[str, Any]:
    told = None if current is None else str(current)
    aim = None if target is None else str(target)
    state = status or ("ok" if told == aim else "set")
    return {"setting": setting, "current": told, "target": aim, "status": state, "reason": reason}


def _ids(clusters: Sequence[MeshCluster], size: int) -> dict[str, int | None]:
    """Keep each ID that only one cluster has; give free ones to the others, by name."""
    counts = Counter(cluster.cluster_id for cluster in clusters)
    kept = {
        cluster.name: cluster.cluster_id for cluster in clusters
        if cluster.cluster_id and counts[cluster.cluster_id] == 1 and cluster.cluster_id <= size
    }  # fmt: skip
    free = (number for number in range(1, size + 1) if number not in kept.values())
    rest = sorted((c for c in clusters if c.name not in kept), key=lambda c: c.name)
    return {**kept, **{cluster.name: next(free, None) for cluster in rest}}


def _id(cluster: MeshCluster, target: int | None, size: int) -> dict[str, Any]:
    current = cluster.cluster_id
    if target is None:
        return _row("cluster.id", current, None, f"all {size} IDs are taken", status="redesign")
    clash = cluster.is_eni and any(low <= target <= high for low, high in _CLASHING)
    if clash:
        why = "with ENI the chart refuses IDs 128…255 and 384…511 (cilium/cilium issue 21330)"
        return _row("cluster.id", current, target, why, status="redesign")
    if current == target:
        return _row("cluster.id", current, target, f"1…{size}, of no other cluster")
    why = "0 is for clusters of no mesh" if not current else f"{current} is another cluster's too"
    if current is not None and current > size:
        why = f"{current} is more than {size}"
    return _row("cluster.id", current or 0, target, f"{why}; {_INSTALL}", status="install-time")


def _names(clusters: Sequence[MeshCluster]) -> dict[str, str]:
    """Keep each name that only one cluster has; make others of the names in the fleet."""
    counts = Counter(cluster.cluster_name for cluster in clusters)
    out = {
        cluster.name: cluster.cluster_name for cluster in clusters
        if cluster.cluster_name and counts[cluster.cluster_name] == 1
        and _is_name(cluster.cluster_name)
    }  # fmt: skip
    for name in sorted(cluster.name for cluster in clusters if cluster.name not in out):
        made, taken = proper_name(name), set(out.values())
        more = (f"{made[:28]}-{i}" for i in range(2, 1000))
        out[name] = made if made not in taken else next(one for one in more if one not in taken)
    return out


def _is_name(name: str) -> bool:
    return name != _NO_NAME and _NAME.fullmatch(name) is not None


def proper_name(name: str) -> str:
    """Make a name that the chart takes of any: 32 characters a-z, 0-9 and dashes inside.

    >>> proper_name("Prod_EU (west)")
    'prod-eu-west'
    """
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    return made if made and made != _NO_NAME else f"cluster-{made or 'x'}"


def _name(cluster: MeshCluster, target: str) -> dict[str, Any]:
    current = cluster.cluster_name
    if current == target:
        return _row(_NAME_KEY, current, target, "of no other cluster, as the chart wants it")
    why = "not set, or default, or another cluster's too, or not of 32 characters a-z, 0-9 and -"
    return _row(_NAME_KEY, current, target, f"{why}; {_INSTALL}", status="install-time")


def _connected(cluster: MeshCluster, size: int, many: int) -> dict[str, Any]:
    setting = "clustermesh.maxConnectedClusters"
    current = cluster.connected or _SMALL
    if many > size:
        why = f"{many:,} clusters: a mesh has {size} at most; two meshes, or larger clusters"
        return _row(setting, current, None, why, status="redesign")
    if current == size:
        return _row(setting, current, size, f"{many:,} clusters; the same in all of them")
    why = f"{many:,} clusters need {size} in all of them; it changes the range of identities"
    return _row(setting, current, size, f"{why}: {_INSTALL}", status="install-time")


def _identities(cluster: MeshCluster, number: int | None, size: int) -> list[dict[str, Any]]:
    if cluster.identities is None or number is None:
        return []
    told = facts.limits(cluster.version).filter(limit="cluster-identities")
    large = size > _SMALL
    wanted = pl.col("condition").str.starts_with(
        "cluster-id 1…511" if large else "cluster-id 1…255"
    )
    limit = int(told.filter(wanted)["value"][-1])
    need = math.ceil(cluster.identities)
    setting = "(no setting) identities"
    why = f"{need:,} planned, a cluster of this mesh has {limit:,}"
    if need <= limit:
        return [_row(setting, limit, limit, why)]
    most = "; smaller clusters, or fewer labels that make identities"
    return [_row(setting, limit, None, why + most, status="redesign")]


def _node_map(cluster: MeshCluster, whole: float) -> list[dict[str, Any]]:
    """Give the node map: every agent holds the node addresses of all clusters."""
    option = facts.options(cluster.version).filter(helm_value=_NODE_MAP)
    usual = int(option["default"][0]) if len(option) else 16384
    current = cluster.node_map or usual
    ids = int(facts.limits(cluster.version).filter(limit="node-ids")["value"][0])
    why = f"{whole:,.0f} node addresses in all clusters"
    if whole <= current:
        return [_row(_NODE_MAP, current, current, why)]
    if whole > ids or option.is_empty():
        most = f"{why}; IDs end at {ids:,}" if whole > ids else f"{why}; no setting in this version"
        return [_row(_NODE_MAP, current, None, f"{most}: fewer nodes", status="redesign")]
    return [_row(_NODE_MAP, current, 1 << math.ceil(math.log2(whole)), why)]


def _replicas(cluster: MeshCluster) -> dict[str, Any]:
    """Give two replicas: remote clusters see no changes while the only one restarts."""
    current = cluster.replicas or 1
    why = "with one, other clusters see no changes while it restarts; the second costs its requests"
    return _row("clustermesh.apiserver.replicas", current, max(current, 2), why)
