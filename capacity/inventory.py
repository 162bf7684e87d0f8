"""Inventory: what a cluster is made of, as tables, whatever file it came in.

Reading lives in load/; what Cilium makes of it lives in cilium/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import polars as pl

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
    SOURCES,
    WORKLOADS,
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Tables of one cluster; a table that no source told of has no rows and is in `unknown`."""

    nodes: pl.DataFrame = field(default_factory=NODES.empty)
    endpoints: pl.DataFrame = field(default_factory=ENDPOINTS.empty)
    services: pl.DataFrame = field(default_factory=SERVICES.empty)
    backends: pl.DataFrame = field(default_factory=BACKENDS.empty)
    namespaces: pl.DataFrame = field(default_factory=NAMESPACES.empty)
    identities: pl.DataFrame = field(default_factory=IDENTITIES.empty)
    policies: pl.DataFrame = field(default_factory=POLICIES.empty)
    cidr_groups: pl.DataFrame = field(default_factory=CIDR_GROUPS.empty)
    dns: pl.DataFrame = field(default_factory=DNS.empty)
    prefixes: pl.DataFrame = field(default_factory=PREFIXES.empty)
    objects: pl.DataFrame = field(default_factory=OBJECTS.empty)
    workloads: pl.DataFrame = field(default_factory=WORKLOADS.empty)
    options: pl.DataFrame = field(default_factory=OPTIONS.empty)
    bpf_maps: pl.DataFrame = field(default_factory=BPF_MAPS.empty)
    map_entries: pl.DataFrame = field(default_factory=MAP_ENTRIES.empty)
    sources: pl.DataFrame = field(default_factory=SOURCES.empty)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of tables without rows: not told, which is not the same as none."""
        return tuple(
            f.name for f in fields(self) if f.name != "sources" and getattr(self, f.name).is_empty()
        )

    @property
    def node_addresses(self) -> float | None:
        """Mean addresses of a node that agents know; None where no node tells any [1].

        Where no node has two, they come from Node objects, which lack that of cilium_host.

        >>> Inventory().node_addresses is None
        True
        """
        told = self.nodes["addresses"].drop_nulls().to_list()
        if not told:
            return None
        return sum(told) / len(told) if max(told) > 1 else 2.0

    def option(self, name: str) -> str | None:
        """Value of an agent option that is set explicitly; None where it is not.

        >>> Inventory().option("bpf-map-dynamic-size-ratio") is None
        True

        Parameters
        ----------
        name
            As the agent's flag is called, without dashes before it.

        Returns
        -------
        str or None
            The value as text.
        """
        rows = self.options.filter(pl.col("option") == name)
        return None if rows.is_empty() else str(rows["value"][-1])


def merge(parts: Sequence[Inventory]) -> Inventory:
    """Join inventories of one cluster; an object told twice counts once, the later one wins.

    Parameters
    ----------
    parts
        Of one cluster, the older ones first.

    Returns
    -------
    Inventory
        One of all.
    """
    keys = {
        "nodes": ["node"],
        "endpoints": ["namespace", "pod"],
        "services": ["namespace", "service"],
        "backends": None,
        "namespaces": ["namespace"],
        "identities": ["identity"],
        "policies": ["kind", "namespace", "policy"],
        "cidr_groups": ["name"],
        "dns": ["name", "address"],
        "prefixes": ["prefix"],
        "objects": ["kind", "namespace", "name"],
        "workloads": ["kind", "namespace", "workload", "container"],
        "options": ["option"],
        "bpf_maps": None,
        "map_entries": None,
    }
    tables = (
        {
            name: pl.concat(getattr(part, name) for part in parts).unique(
                key, keep="last", maintain_order=True
            )
            for name, key in keys.items()
        }
        if parts
        else {}
    )
    sources = pl.concat(part.sources for part in parts) if parts else SOURCES.empty()
    return Inventory(**tables, sources=sources)
