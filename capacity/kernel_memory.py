"""Kernel memory of a node's BPF maps: exact bytes by Cilium version and kernel, and what moves it.

Only the first agent pod after boot is charged for it (observe/charges.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import theilslopes

from capacity import facts
from capacity.cilium.map_memory import charged_bytes, memlock_bytes
from capacity.driver_draws import MAP_BYTES
from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.limits import configured_sizes
from capacity.maps import entries_by_map
from capacity.models.linear_drivers import Array
from capacity.recommend.cost import is_there
from capacity.recommend.present import present
from capacity.settings import PlanSettings

# Where no node tells its kernel
KERNEL: Final = "6.18"
_NO_PREALLOC: Final = 1
# Entries over which the bytes of one are told
_MANY: Final = 1000
_POLICY: Final = "policy_entries"
# Points in time that tell how maps grow, and how much entries must vary for that
_TELLS: Final = 8
_VARIED: Final = 1.05


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """Bytes of all maps of a node, by formula, at the newest entries.

    Attributes
    ----------
    kernel
        Release that the formulas are of.
    reported, charged
        As agents and bpftool report them; what the memory cgroup pays. [byte]
    slopes
        Driver → reported bytes that one more of it makes. [byte]
    paid
        The same as the memory cgroup pays for it. [byte]
    ratio
        How far working sets of charged and other pods lie apart, by what agents report; 1 where
        that was not seen. [1]
    """

    kernel: str
    reported: float
    charged: float
    slopes: Mapping[str, float]
    ratio: float
    paid: Mapping[str, float] = field(default_factory=dict)

    def history(self, rows: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
        """Add column map_bytes: what agents report at each time, the worst node."""
        known = _reported(steps).with_columns(pl.col(MAP_BYTES) * self.ratio)
        return rows.join(known, on="time", how="left")


def kernel_memory(
    steps: pl.DataFrame,
    drivers: pl.DataFrame,
    inventory: Inventory,
    settings: PlanSettings,
    version: str,
) -> KernelMemory:
    """Tell the bytes of a node's maps from their shapes, sizes and entries.

    Parameters
    ----------
    steps, drivers
        Tables of one cluster.
    inventory
        Kernel of the nodes, options; of bpftool, all maps as they are.
    version
        Cilium minor version.
    """
    named = inventory.nodes["kernel"].drop_nulls().sort()
    kernel = str(named.mode().sort()[0]) if len(named) else KERNEL
    options = dict(inventory.options.select("option", "value").iter_rows())
    used = entries_by_map(steps, version)
    newest = drivers.sort("time").tail(1).to_dicts()[0] if len(drivers) else {}
    at = present(steps, inventory, version, None)
    sizes = configured_sizes(inventory, settings, version)
    reported = 0.0
    # Charged beyond the report, by whether policy maps are
    more = {False: 0.0, True: 0.0}
    slopes: dict[bool, dict[str, float]] = {False: {}, True: {}}
    beyond: dict[str, float] = {}
    for fact in facts.maps(version).iter_rows(named=True):
        shape = (fact["key_size"], fact["value_size"], fact["max_entries"])
        if any(part is None for part in shape) or not is_there(fact, at):
            continue
        size = sizes[fact["option"]][0] if fact["option"] in sizes else fact["max_entries"]
        many = float(newest.get("endpoints_per_node") or 1.0) if fact["per"] == "endpoint" else 1.0
        held = used.get(fact["map"], 0)
        costs = _bytes(fact, size or fact["max_entries"], held, options, kernel)
        reported += many * costs[0]
        more[_is_policy(fact)] += many * (costs[1] - costs[0])
        each, paid = _each(fact, size or fact["max_entries"], options, kernel)
        own = slopes[fact["prealloc"] == "option"]
        for driver, entries in _entries(fact, held, newest).items():
            own[driver] = own.get(driver, 0.0) + each * entries
            # A kernel that reports a map as a whole reports what it does not pay yet
            if each > 0 and fact["prealloc"] != "option":
                beyond[driver] = beyond.get(driver, 0.0) + (paid - each) * entries
    told = _bpftool(inventory)
    reported = reported if told is None else told
    fitting, filled = _fitting(slopes, _reported(steps).join(drivers, on="time", how="inner"))
    charged = reported + more[False] + filled * more[True]
    paid_for = dict(fitting)
    for name, extra in beyond.items():
        share = filled if name == _POLICY else 1.0
        paid_for[name] = paid_for.get(name, 0.0) + share * extra
    return KernelMemory(kernel, reported, charged, fitting, _ratio(steps), paid_for)


def _reported(steps: pl.DataFrame) -> pl.DataFrame:
    """Give time and map_bytes: what agents report, the worst node."""
    told = steps.filter(component="agent", quantity="memory_bpf_maps")
    return told.select("time", pl.col("largest").alias(MAP_BYTES))


def _fitting(
    slopes: dict[bool, dict[str, float]], seen: pl.DataFrame
) -> tuple[dict[str, float], float]:
    """Choose what fits what agents report: hash maps that are preallocated do not grow.

    Also tells how full policy maps are beside the fullest, at most.

    Helm's chart switches preallocation off, the agent's own default is on. Entries of policy maps
    are known as at most so many (worst map x endpoints): their slope is at most a whole entry's.
    """
    both = {name: slopes[False].get(name, 0.0) + slopes[True].get(name, 0.0)
            for name in [*slopes[False], *slopes[True]]}  # fmt: skip
    rows = seen.drop_nulls([MAP_BYTES, *both])
    if len(rows) < _TELLS or not both:
        return {name: slope for name, slope in both.items() if slope > 0}, 1.0
    fits = []
    for one in (both, slopes[False]):
        rest = rows[MAP_BYTES].to_numpy() - sum(
            slope * rows[name].to_numpy() for name, slope in one.items() if name != _POLICY
        )
        slope = _slope(rows[_POLICY].to_numpy(), rest, one[_POLICY]) if _POLICY in one else 0.0
        off = rest - slope * (rows[_POLICY].to_numpy() if _POLICY in one else 0.0)
        # Agents report more for a moment while a map is made anew: medians do not see it
        fits.append((float(np.median(np.abs(off - np.median(off)))), {**one, _POLICY: slope}))
    # Told by the drivers that moved; where none did, both fit the same and Helm's default stays
    best = min(fits, key=lambda fit: round(fit[0]))[1]
    # Services and policies grow together: the fit that leaves most to policies is on the safe side
    most = max(fit[1].get(_POLICY, 0.0) for fit in fits)
    filled = most / both[_POLICY] if both.get(_POLICY, 0.0) > 0 else 1.0
    return {name: slope for name, slope in best.items() if slope > 0}, filled


def _slope(entries: Array, rest: Array, most: float) -> float:
    """Give bytes by entry, between 0 and a whole entry's; that where entries hardly varied."""
    if entries.max() < _VARIED * max(float(entries.min()), 1.0):
        return most
    return float(np.clip(theilslopes(rest, entries).slope, 0.0, most))


def _bytes(
    fact: dict[str, Any], size: int, held: int, options: Mapping[str, str], kernel: str
) -> tuple[float, float]:
    """Give bytes of one map: reported, charged.

    Where the charge of a kernel is not known, as much more than it reports as on the kernel that
    was measured: for ipcache on 6.12 the source comes to the same (96 and 64 byte for the two
    nodes of an entry, 88 more than the 72 reported).
    """
    prealloc = fact["prealloc"] == "always" or (
        fact["prealloc"] == "option" and options.get("preallocate-bpf-maps") == "true"
    )
    shape = (fact["type"], fact["key_size"], fact["value_size"], int(size))
    more: dict[str, Any] = {
        "flags": 0 if prealloc else _NO_PREALLOC, "entries": int(min(held, size)), "cpus": 1,
        "kernel": kernel,
    }  # fmt: skip
    told = float(memlock_bytes(*shape, **more))
    paid = charged_bytes(*shape, **more)
    if paid is not None:
        return told, float(paid)
    measured = more | {"kernel": KERNEL}
    known = charged_bytes(*shape, **measured)
    return told, told if known is None else told + known - memlock_bytes(*shape, **measured)


def _each(
    fact: dict[str, Any], size: int, options: Mapping[str, str], kernel: str
) -> tuple[float, float]:
    """Give the bytes that an entry adds, reported and charged; 0 where allocated as a whole."""
    many = min(_MANY, size)
    full, empty = (_bytes(fact, size, held, options, kernel) for held in (many, 0))
    return (full[0] - empty[0]) / many, (full[1] - empty[1]) / many


def _entries(fact: dict[str, Any], held: int, newest: dict[str, Any]) -> dict[str, float]:
    """Entries that one more of a driver makes: fixed ones, and the rest by the driver they follow.

    Entries of all policy maps of a node are a driver of their own.
    """
    if fact["per"] == "endpoint":
        return {_POLICY: 1.0} if _is_policy(fact) else {}
    if not held or fact["metric_label"] is None:
        return {}
    rows = derivations.structure("map", fact["metric_label"], "map_entries")
    terms = list(rows.iter_rows())
    out = {name: cost for name, cost in terms if cost is not None}
    rest = held - sum(cost * float(newest.get(name) or 0.0) for name, cost in out.items())
    for name, cost in terms:
        count = newest.get(name)
        if cost is None and count and rest > 0:
            return out | {name: rest / float(count)}
    return out


def _is_policy(fact: dict[str, Any]) -> bool:
    return str(fact["map"]).startswith("cilium_policy")


def _bpftool(inventory: Inventory) -> float | None:
    """Sum Cilium's newest maps on the node where they cost most; None without bpftool's output."""
    own = inventory.bpf_maps.filter(pl.col("name").str.starts_with("cilium_"))
    sums = own.group_by("node", "time").agg(pl.col("memlock").sum())
    newest = sums.filter(pl.col("time").eq_missing(pl.col("time").max().over("node")))
    most = newest["memlock"].max()
    return float(most) if isinstance(most, int) else None


def _ratio(steps: pl.DataFrame) -> float:
    seen = steps.filter(component="agent", quantity="memory_maps_seen")["largest"]
    told = steps.filter(component="agent", quantity="memory_bpf_maps")["mean"].median()
    return float(seen[-1]) / told if len(seen) and isinstance(told, float) and told > 0 else 1.0
