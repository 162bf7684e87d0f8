"""What the policies of a cluster cost each node: maps, their bytes, redirects, work of changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity import facts
from capacity.cilium.map_memory import NO_PREALLOC, charged_bytes, memlock_bytes
from capacity.cilium.policy import ready, rows
from capacity.cilium.policy.adapter import Options
from capacity.cilium.policy.engine import Cluster, Direction, direction_of
from capacity.cilium.policy.groups import HEALTH, HOST
from capacity.cilium.policy.growth import map_limit
from capacity.cilium.policy.universe import as_bits
from capacity.inventory import Inventory
from capacity.tables import POLICY_NODES

_PREFIX: Final = "cilium_policy_"
_UNPLACED: Final = "(unknown)"


@dataclass(frozen=True, slots=True)
class _Load:
    """Of one endpoint: redirects, and entries of pods' identities."""

    redirects: int = 0
    pods: int = 0


def policy_nodes(
    inventory: Inventory, *, version: str, options: Options | None = None
) -> pl.DataFrame:
    """Tell what the policies of a cluster cost each of its nodes.

    Parameters
    ----------
    inventory, version, options
        See `capacity.cilium.policy.ready`.

    Returns
    -------
    DataFrame
        Table policy_nodes, the fullest policy map first. Pods of no known node are one node,
        "(unknown)". Each node has its pods, the host and the health endpoint.

    Raises
    ------
    FactError
        If nothing is known about the version.
    SettingsError
        If an option has a value that the agent does not take.

    Notes
    -----
    Bytes are sums over the endpoints: a policy map is an LPM trie of the size that
    facts/maps.csv has for the version, not preallocated. Redirects are the proxy IDs of an
    endpoint: direction, protocol, port and listener of each filter that goes through a proxy.
    An identity that comes or goes changes an entry for each port prefix of each filter that selects
    it: updates = entries of pods' identities / these identities, the mean over those there are.

    References
    ----------
    .. [1] cilium/cilium pkg/policy/proxyid.go, ProxyID; pkg/policy/l4.go,
       L4Filter.IdentitySelectionUpdated, b095517e625e.
    .. [2] `capacity.cilium.map_memory`.
    """
    cluster = ready(inventory, version=version, options=options)
    placed = _placed(inventory, rows.counts(cluster).select("endpoint", "total"), cluster)
    limit = map_limit(inventory, version=version, options=options)
    pods = max(1, len(cluster.population.identities))
    bytes_of = _bytes(placed["total"].drop_nulls().unique(), limit, version)
    table = placed.join(bytes_of, on="total", how="left").sort(
        "node", "total", "endpoint", descending=[False, True, False], nulls_last=True
    )
    grouped = table.group_by("node", maintain_order=True).agg(
        endpoints=pl.len().cast(pl.Int64),
        worst_endpoint=pl.col("endpoint").first(),
        worst_entries=pl.col("total").first(),
        limit=pl.lit(limit, pl.Int64),
        entries=pl.col("total").sum(),
        memlock=pl.col("memlock").sum(),
        charged=pl.when(pl.col("charged").null_count() == pl.col("total").null_count()).then(
            pl.col("charged").sum()
        ),
        redirects=pl.col("redirects").sum(),
        updates=pl.col("pods").sum() / pods,
    )
    return grouped.sort("worst_entries", "node", descending=[True, False], nulls_last=True).select(
        POLICY_NODES.schema.names()
    )


def _placed(inventory: Inventory, counted: pl.DataFrame, cluster: Cluster) -> pl.DataFrame:
    """Give each endpoint its node; the host and health endpoints are on each."""
    name = pl.format("{}/{}", "namespace", "pod")
    homes = inventory.endpoints.select(endpoint=name, node=pl.col("node").fill_null(_UNPLACED))
    loads = _loads(cluster)
    cost = pl.DataFrame(
        [(name, load.redirects, load.pods) for name, load in loads.items()],
        schema={"endpoint": pl.String, "redirects": pl.Int64, "pods": pl.Int64},
        orient="row",
    )
    all_of = counted.join(cost, on="endpoint", how="left")
    own = all_of.join(homes, on="endpoint", how="inner")
    nodes = pl.concat([homes["node"], inventory.nodes["node"]]).unique()
    nodes = nodes if len(nodes) else pl.Series("node", [_UNPLACED])
    every = all_of.filter(pl.col("endpoint").is_in([HOST, HEALTH]))
    shared = every.join(pl.DataFrame({"node": nodes}), how="cross")
    hosts = all_of.filter(pl.col("endpoint").str.starts_with(f"{HOST}/")).with_columns(
        node=pl.col("endpoint").str.strip_prefix(f"{HOST}/")
    )
    return pl.concat([own, shared, hosts.select(own.columns)])


def _loads(cluster: Cluster) -> dict[str, _Load]:
    bits = [cluster.universe.bit_of[one.number] for one in cluster.population.identities]
    pods = as_bits(bits, len(cluster.universe.identities) + 1)
    known: dict[int, _Load] = {}
    found = {}
    for group, endpoints in cluster.groups.items():
        load = _Load()
        for is_ingress in (True, False):
            direction = direction_of(cluster, group, is_ingress=is_ingress)
            own = known.get(id(direction))
            if own is None:
                own = known[id(direction)] = _load(direction, pods)
            load = _Load(load.redirects + own.redirects, load.pods + own.pods)
        found.update({one.name: load for one in endpoints})
    return found


def _load(direction: Direction, pods: int) -> _Load:
    redirects = {
        (id(one), treated.insertion.proxy.name)
        for one, treated in direction.insertions
        if treated.insertion.proxy
    }
    entries = (*direction.state.allows.values(), *direction.state.denies.values())
    return _Load(len(redirects), sum((own & pods).bit_count() for own in entries))


def _bytes(sizes: Iterable[int], limit: int, version: str) -> pl.DataFrame:
    """Give memlock and charged bytes of a policy map by its entries."""
    row = facts.maps(version).filter(pl.col("map").str.starts_with(_PREFIX)).row(0, named=True)
    flags = 0 if row["prealloc"] == "always" else NO_PREALLOC
    shape = (row["type"], row["key_size"], row["value_size"], limit)
    found = [
        (size, *(of(*shape, flags=flags, entries=min(size, limit), cpus=1)
                 for of in (memlock_bytes, charged_bytes)))
        for size in sizes
    ]  # fmt: skip
    schema = {"total": pl.Int64, "memlock": pl.Int64, "charged": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row")
