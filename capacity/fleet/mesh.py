"""ClusterMesh arithmetic: what the clusters of a mesh fill together.

Every agent of a mesh holds the addresses of all its clusters in one ipcache of a fixed size, so the
sum counts; identities are numbered in each cluster, so each counts alone, and only memory adds up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from capacity import facts
from capacity.fleet.tables import MESH
from capacity.manifests.mesh import MeshCluster, mesh_settings
from capacity.simulate.laws import ipcache
from capacity.tables import MESH_SETTINGS, check

_IPCACHE: Final = ("ipcache", "ipcache_v2")
Aggregate = Mapping[str, Any]


def meshes(members: Sequence[tuple[str, str | None]], results: Sequence[Aggregate]) -> pl.DataFrame:
    """Give table mesh: two limits a mesh, addresses and clusters.

    Parameters
    ----------
    members
        Name and mesh of each cluster of the fleet.
    results
        As `work.perform` gives them; failed ones are counted as missing.
    """
    rows: list[dict[str, Any]] = []
    for mesh in sorted({m for _, m in members if m is not None}):
        count = sum(m == mesh for _, m in members)
        good = [r for r in results if r["mesh"] == mesh and r["status"] == "ok"]
        rows += _rows(mesh, count, good)
    frame = pl.DataFrame(rows, schema=MESH.schema) if rows else MESH.empty()
    return check(frame, MESH)


def settings_of(
    members: Sequence[tuple[str, str | None]], results: Sequence[Aggregate]
) -> pl.DataFrame:
    """Give table mesh_settings: what the clusters of each mesh must be set to.

    Parameters
    ----------
    members, results
        As of `meshes`. Of a cluster that could not be planned only the name is known.
    """
    found = {result["cluster"]: result for result in results}
    tables = [MESH_SETTINGS.empty()]
    for mesh in sorted({m for _, m in members if m is not None}):
        clusters = [_cluster(name, found.get(name, {})) for name, own in members if own == mesh]
        tables.append(mesh_settings(mesh, clusters))
    return check(pl.concat(tables), MESH_SETTINGS)


def _cluster(name: str, result: Aggregate) -> MeshCluster:
    told = result.get("mesh_options") or {}
    options, drivers = told.get("options", {}), result.get("drivers", {})

    def number(option: str) -> int | None:
        text = str(options.get(option, ""))
        return int(text) if text.isdecimal() else None

    nodes, now = drivers.get("nodes") or 0.0, drivers.get("identities")
    ahead = max((point["q95"] for point in result.get("growth") or []), default=nodes)
    growth = max(ahead / nodes, 1.0) if nodes else 1.0
    return MeshCluster(
        name=name,
        version=result.get("version", facts.LATEST),
        cluster_id=number("cluster-id"),
        cluster_name=options.get("cluster-name"),
        connected=number("max-connected-clusters"),
        node_map=number("bpf-node-map-max"),
        # Where the inventory tells no addresses: node, router, health, as in own_addresses
        addresses=(told.get("addresses") or 3.0 * nodes) * growth,
        identities=None if now is None else now * growth,
        replicas=told.get("replicas"),
        is_eni=options.get("ipam") == "eni",
    )


def _rows(mesh: str, clusters: int, good: Sequence[Aggregate]) -> list[dict[str, Any]]:
    version = min((r["version"] for r in good), key=_order, default=facts.LATEST)
    nodes = _sum(good, "nodes")
    shared = {"mesh": mesh, "clusters": clusters, "counted": len(good), "nodes": nodes,
              "identities": _sum(good, "identities")}  # fmt: skip
    most = limit_of("clusters", version)
    rows = [
        shared
        | {
            "resource": "clusters",
            "kind": "install-time",
            "current": float(clusters),
            "limit": most,
            "usage": clusters / most,
            "status": "short" if clusters > most else "ok",
        }  # fmt: skip
    ]
    if good:
        rows.append(shared | _addresses(good, nodes, limit_of("ipcache-entries", version)))
    return rows


def limit_of(name: str, version: str) -> float:
    """Give a limit that holds where nothing is configured, from the facts."""
    row = facts.limits(version).filter(pl.col("limit") == name, pl.col("default"))
    return float(row["value"][0])


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _sum(results: Sequence[Aggregate], driver: str) -> float | None:
    told = [r["drivers"].get(driver) for r in results]
    known = [value for value in told if value is not None]
    return float(sum(known)) if known else None


def own_addresses(result: Aggregate) -> float:
    """Give the ipcache entries that a cluster adds to its mesh, in one address family. [1]."""
    drivers = result["drivers"]
    return float(ipcache(drivers.get("endpoints") or 0.0, drivers.get("nodes") or 0.0))


def _addresses(good: Sequence[Aggregate], nodes: float | None, limit: float) -> dict[str, Any]:
    own = [own_addresses(result) for result in good]
    # Agents of a mesh that runs already hold its sum: what they see may be more than we count
    seen = [
        f["current"] for r in good for f in r["findings"]
        if f["subject"] in _IPCACHE and f["current"] is not None
    ]  # fmt: skip
    now = max(sum(own), *seen) if seen else sum(own)
    times, medians, highs = _ahead(good, own, now)
    out: dict[str, Any] = {
        "resource": "ipcache entries",
        "kind": "hard",
        "current": now,
        "limit": limit,
        "usage": now / limit,
        "nodes_full": None if not nodes or not now else int(limit / now * nodes),
    }
    if len(times):
        out |= {
            "ahead_q50": float(medians[-1]), "ahead_q95": float(highs[-1]),
            "date_early": _when(times, highs, limit), "date_median": _when(times, medians, limit),
        }  # fmt: skip
    full = now >= limit or out.get("date_early") is not None
    return out | {"status": "short" if full else "ok" if len(times) else "unknown"}


def _ahead(good: Sequence[Aggregate], own: Sequence[float], now: float) -> tuple[Any, Any, Any]:
    """Sum the clusters' entries at common times; entries grow with a cluster's nodes.

    Clusters without dates stay as they are. Sums of quantiles: exact for medians that grow
    together, an upper bound for the 95 % quantile.
    """
    growing = [r for r in good if r["growth"]]
    if not growing:
        return np.array([]), np.array([]), np.array([])
    ends = [r["growth"][-1]["time"] for r in growing]
    end = min(_seconds(time) for time in ends)
    begin = max(_seconds(r["time"]) for r in growing)
    if end <= begin:
        return np.array([]), np.array([]), np.array([])
    grid = np.linspace(begin, end, 60)
    sums = {"q50": np.zeros(60), "q95": np.zeros(60)}
    for result, entries in zip(good, own, strict=True):
        nodes = result["drivers"].get("nodes") or 0.0
        for name, total in sums.items():
            factor: Any = 1.0
            if result["growth"] and nodes:
                times = [_seconds(result["time"]), *(_seconds(p["time"]) for p in result["growth"])]
                counts = [nodes, *(p[name] for p in result["growth"])]
                factor = np.interp(grid, times, counts) / nodes
            total += entries * factor
    scale = now / max(sum(own), 1.0)
    return grid, sums["q50"] * scale, sums["q95"] * scale


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _when(times: Any, values: Any, limit: float) -> datetime | None:
    from datetime import UTC

    over = np.flatnonzero(values >= limit)
    return None if not len(over) else datetime.fromtimestamp(float(times[over[0]]), UTC)
