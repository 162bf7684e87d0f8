"""Table maps: the BPF maps of a node, their sizes, and what they cost the kernel."""

from __future__ import annotations

from typing import Any

import polars as pl

from capacity import facts
from capacity.cilium.map_memory import charged_bytes, memlock_bytes
from capacity.inventory import Inventory
from capacity.tables import MAPS, check

_NO_PREALLOC = 1
# Where no inventory tells: possible CPUs only widen per-CPU maps and free lists by some bytes
_CPUS = 1
_KERNEL = "6.18"


def maps(
    steps: pl.DataFrame, limits: pl.DataFrame, inventory: Inventory, version: str
) -> pl.DataFrame:
    """Give table maps: from bpftool where the inventory has it, else from facts and formulas.

    Parameters
    ----------
    steps
        Table steps: entries by map.
    limits
        Table limits: sizes by map.
    """
    used = entries_by_map(steps, version)
    rows = (
        _from_bpftool(inventory.bpf_maps, used, limits)
        if not inventory.bpf_maps.is_empty()
        else _from_facts(limits, used, steps, version)
    )
    frame = pl.DataFrame(rows, schema=MAPS.schema)
    return check(frame.sort("memlock", "map", descending=[True, False], nulls_last=True), MAPS)


def entries_by_map(steps: pl.DataFrame, version: str) -> dict[str, int]:
    """Give pinned map name → largest number of entries on any node at the newest step."""
    rows = steps.filter(pl.col("quantity") == "map_entries")
    newest = rows.filter(pl.col("time") == pl.col("time").max().over("subject"))
    found = newest.group_by("subject").agg(pl.col("largest").max()).iter_rows()
    named = ((facts.map_of_label(label, version), value) for label, value in found)
    return {name: round(value) for name, value in named if name is not None}


def _from_bpftool(
    bpf_maps: pl.DataFrame, used: dict[str, int], limits: pl.DataFrame
) -> list[dict[str, Any]]:
    newest = bpf_maps.filter(pl.col("time").eq_missing(pl.col("time").max()))
    newest = newest.filter(pl.col("name").str.starts_with("cilium_"))
    kinds = newest.with_columns(
        map=pl.col("name").str.replace(r"_\d{5}$|_(netdev|overlay|hostns)_.*$", "")
    )
    shape = ["map", "type", "key_size", "value_size", "max_entries"]
    by_node = kinds.group_by("node", *shape, maintain_order=True).agg(
        count=pl.len().cast(pl.Int64),
        memlock=pl.col("memlock").sum(),
        flags=pl.col("flags").first(),
    )
    # Maps are told per node: of several nodes the one that pays most for a kind counts
    grouped = by_node.sort("memlock", "count", descending=True, nulls_last=True).unique(
        shape, keep="first", maintain_order=True
    )
    rows = []
    for row in grouped.iter_rows(named=True):
        entries = used.get(row["map"]) if row["count"] == 1 else None
        rows.append(
            {
                **{k: row[k] for k in (*shape, "count", "memlock")},
                "cluster": limits["cluster"][0],
                "entries": entries,
                "charged": _charged(row, row["flags"], entries),
                "source": "bpftool map show",
                "verified": True,
            }
        )
    return rows


def _charged(row: dict[str, Any], flags: int, entries: int | None) -> int | None:
    on_demand = flags & _NO_PREALLOC or row["type"] == "lpm_trie"
    if row["count"] != 1 or (on_demand and entries is None):
        return None
    return charged_bytes(
        row["type"], row["key_size"], row["value_size"], row["max_entries"],
        flags=flags, entries=entries or 0, cpus=_CPUS, kernel=_KERNEL,
    )  # fmt: skip


def _from_facts(
    limits: pl.DataFrame, used: dict[str, int], steps: pl.DataFrame, version: str
) -> list[dict[str, Any]]:
    shapes = {row["map"]: row for row in facts.maps(version).iter_rows(named=True)}
    held = steps.filter(pl.col("quantity") == "endpoints")["largest"].max()
    rows = []
    for limit in limits.filter(pl.col("component") == "map").iter_rows(named=True):
        name = facts.map_of_label(limit["subject"], version)
        fact = shapes.get(name or "")
        if fact is None or fact["key_size"] is None or fact["value_size"] is None:
            continue
        # One policy map an endpoint; all taken to be as full as the worst: an upper bound
        count = int(held) if fact["per"] == "endpoint" and isinstance(held, float) else 1
        size = limit["limit"] if limit["quantity"] == "map_entries" else fact["max_entries"]
        row = {
            "map": fact["map"],
            "type": fact["type"],
            "key_size": fact["key_size"],
            "value_size": fact["value_size"],
            "max_entries": int(size),
        }
        rows.append(row | _bytes(row, fact, count, used.get(str(name), 0)) | {
            "cluster": limit["cluster"],
            "count": count,
            "entries": used.get(str(name)),
            "source": f"formula of Linux {_KERNEL} at the observed entries"
            + (", all taken as full as the worst" if count > 1 else ""),
            "verified": bool(fact["verified"]),
        })  # fmt: skip
    return rows


def _bytes(row: dict[str, Any], fact: dict[str, Any], count: int, entries: int) -> dict[str, Any]:
    flags = 0 if fact["prealloc"] == "always" or fact["type"].startswith("lru") else _NO_PREALLOC
    known = (row["type"], row["key_size"], row["value_size"], row["max_entries"])
    filled = min(entries, row["max_entries"])
    more = {"flags": flags, "entries": filled, "cpus": _CPUS, "kernel": _KERNEL}
    charged = charged_bytes(*known, **more)
    return {
        "memlock": count * memlock_bytes(*known, **more),
        "charged": None if charged is None else count * charged,
    }
