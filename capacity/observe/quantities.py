"""Quantities that no metric tells, from those that are told: entries, memory, IDs, identities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from capacity.inventory import Inventory
from capacity.observe.charges import agent_memory
from capacity.observe.derived import derived, renumbered
from capacity.observe.sizes import sizes_over_time
from capacity.observe.stepped import stepped
from capacity.tables import OBSERVATIONS, check

# Rows (time, target, value) and what their targets are
_Told = tuple[pl.DataFrame, pl.DataFrame]


def _entries(rows: pl.DataFrame, targets: pl.DataFrame) -> _Told:
    """Derive map_entries = pressure × max_entries of that time, where the agent tells both."""
    known = targets.filter(pl.col("quantity").is_in(["map_pressure", "map_max_entries"]))
    told = stepped(rows.join(known, on="target", how="semi"), known)
    sizes = sizes_over_time(told)
    pairs = sizes.select("cluster", "subject").unique().sort("cluster", "subject")
    pairs = pairs.with_row_index("pair")
    pressure = known.filter(pl.col("quantity") == "map_pressure").rename({"target": "from"})
    new = pressure.join(pairs, on=["cluster", "subject"]).sort("from")
    new = renumbered(new.with_columns(quantity=pl.lit("map_entries")), targets)
    steps = told.filter(pl.col("quantity") == "map_pressure").select("time", "cluster", "subject")
    # A size may be exported less often than a pressure: the nearest one in time counts
    near = steps.sort("time").join_asof(
        sizes.sort("time"),
        on="time",
        by=["cluster", "subject"],
        strategy="nearest",
        check_sortedness=False,  # polars cannot check it with groups, and would warn
    )
    at = near.join(pairs, on=["cluster", "subject"]).select("time", "pair", "max_entries")
    entries = (
        rows.rename({"target": "from"})
        .join(new.select("from", "target", "pair"), on="from")
        .join(at, on=["time", "pair"])
        .with_columns(value=(pl.col("value") * pl.col("max_entries")).round())
    )
    return derived(rows, targets, entries, new)


def _memory(rows: pl.DataFrame, targets: pl.DataFrame) -> _Told:
    """Derive `memory`, what the pod's memory limit is held against.

    Working set of the container where it is in the export: of an agent as if it were charged for
    its maps (charges.py). Else RSS, of an agent with the kernel memory of BPF maps.
    """
    for component in ("agent", "operator"):
        own = targets.filter(pl.col("component") == component)
        found = own.filter(pl.col("quantity") == "memory_working_set")
        if not found.is_empty() and component == "agent":
            rows, targets = agent_memory(rows, targets)
            continue
        maps = own.clear()
        if found.is_empty():
            found = own.filter(pl.col("quantity") == "memory_rss")
            maps = own.filter(pl.col("quantity") == "memory_bpf_maps")
        same = ["cluster", "node"]
        pairs = found.rename({"target": "from"}).join(
            maps.select(*same, maps="target"), on=same, how="left", nulls_equal=True
        )
        new = renumbered(pairs.sort("from").with_columns(quantity=pl.lit("memory")), targets)
        added = rows.join(maps.select("target"), on="target", how="semi")
        added = added.select("time", maps="target", more="value")
        told = (
            rows.rename({"target": "from"})
            .join(new.select("from", "maps", "target"), on="from")
            .join(added, on=["time", "maps"], how="left")
            .with_columns(value=pl.col("value") + pl.col("more").fill_null(0))
        )
        rows, targets = derived(rows, targets, told, new)
    return rows, targets


def _service_ids(rows: pl.DataFrame, targets: pl.DataFrame) -> _Told:
    """Derive service IDs in use on a node, one a frontend of either family.

    Source: pkg/service/id_local.go of cilium/cilium; the reverse-NAT map has an entry for each.
    """
    is_frontend = pl.col("subject").str.contains("^lb[46]_reverse_nat$")
    maps = targets.filter(pl.col("quantity") == "map_entries", is_frontend)
    new = maps.group_by("cluster", "node").agg(pl.col("series").min()).sort("cluster", "node")
    new = renumbered(new, targets).with_columns(
        component=pl.lit("cluster"), subject=pl.lit("service-ids"), quantity=pl.lit("service_ids")
    )
    pairs = maps.rename({"target": "from"}).join(
        new.select("cluster", "node", "target"), on=["cluster", "node"], nulls_equal=True
    )
    told = rows.rename({"target": "from"}).join(pairs.select("from", "target"), on="from")
    return derived(rows, targets, told.group_by("time", "target").agg(pl.col("value").sum()), new)


def _identities(rows: pl.DataFrame, targets: pl.DataFrame) -> _Told:
    """Derive the use of the cluster's identities from the driver of the same name."""
    known = targets.filter(pl.col("quantity") == "identities").rename({"target": "from"})
    new = renumbered(known, targets).with_columns(
        component=pl.lit("cluster"), subject=pl.lit("cluster-identities")
    )
    told = rows.rename({"target": "from"}).join(new.select("from", "target"), on="from")
    return derived(rows, targets, told, new)


def from_inventory(inventory: Inventory, drivers: pl.DataFrame, node_map: str) -> pl.DataFrame:
    """Give observations of the node map, which has no metric: nodes × addresses per node.

    Parameters
    ----------
    node_map
        The map's label, ``node_map`` or ``node_map_v2``.
    """
    addresses = inventory.node_addresses
    if addresses is None:
        return OBSERVATIONS.empty()
    rows = drivers.drop_nulls("nodes").select(
        "time",
        "cluster",
        component=pl.lit("map"),
        subject=pl.lit(node_map),
        quantity=pl.lit("map_entries"),
        value=pl.col("nodes") * addresses,
        series=pl.lit(f"inventory: nodes x {addresses:.3g} addresses"),
        node=pl.lit(None, pl.String),
    )
    return check(rows, OBSERVATIONS)


# In this order: later ones may be made of earlier ones
QUANTITIES: Final[tuple[Callable[[pl.DataFrame, pl.DataFrame], _Told], ...]] = (
    _entries, _memory, _service_ids, _identities,
)  # fmt: skip
