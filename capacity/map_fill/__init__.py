"""Table map_fill: entries of every map by structural equation x drivers, corrected by what is.

The equations are rows (facts/fill.csv). Where a map's entries are observed, the ratio of observed
to predicted corrects what the equation says of other sizes of the cluster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.equations import evaluate, names
from capacity.cilium.policy.growth import growth as policy_growth
from capacity.cilium.services.choices import map_size
from capacity.cilium.services.growth import service_growth
from capacity.coverage import switched_off
from capacity.facts import derivations
from capacity.facts.filling import fill, fill_drivers
from capacity.limits import configured_sizes, helm_value
from capacity.map_fill.drivers import Driver, drivers_of, given
from capacity.maps import entries_by_map
from capacity.observing import Observed, observed
from capacity.settings import PlanSettings
from capacity.tables import MAP_FILL, POLICY_GROWTH, SERVICE_GROWTH, check

__all__ = ["Driver", "counted", "drivers_of", "filled", "given", "map_fill", "unseen"]

# Nodes beyond which a map is not said to fill; node IDs end far before (facts/limits.csv)
_FARTHEST: Final = 1_000_000
_POLICY: Final = re.compile(r"cilium_policy_(v\d+_)?")
_NODE_MAPS: Final = ("cilium_node_map", "cilium_node_map_v2")


def map_fill(
    seen: Observed, drivers: Mapping[str, Driver], settings: PlanSettings, nodes: int | None = None
) -> pl.DataFrame:
    """Give table map_fill: a row each map that the version can have.

    Parameters
    ----------
    seen
        What the source tells: observed entries, sizes, options.
    drivers
        By `drivers_of`.
    settings
        Memory of a node, where sizes follow from it.
    nodes
        Node count to look ahead to, all that grows in proportion. [1]

    Returns
    -------
    DataFrame
        Table map_fill, the fullest first; maps whose feature is off last.
    """
    held, sizes = _observed(seen), _sizes(seen, settings)
    laws = {row["map"]: row for row in fill(seen.version).iter_rows(named=True)}
    now = drivers["nodes"].value if "nodes" in drivers else None
    ratio = nodes / now if nodes and now else None
    options = dict(seen.inventory.options.select("option", "value").iter_rows())
    rows = []
    for fact in facts.maps(seen.version).iter_rows(named=True):
        size, law = sizes.get(fact["map"]), laws[fact["map"]]
        own = dict(drivers)
        if size is not None:
            own["size"] = Driver(size, 0.0, "the map's size")
        told = _told(law, own, held.get(fact["map"]), ratio)
        limit = size if size is not None else _size_of_rings(fact, own)
        rows.append(
            {
                "map": fact["map"], **_use(fact, held, options),
                **{key: law[key] for key in
                   ("equation", "bound", "created", "removed", "source", "verified")},
                **{key: fact[key] for key in ("kind", "full")}, "setting": helm_value(fact),
                **told, "nodes": nodes, "limit": limit,
                "usage": _usage(told, limit), "full_at_nodes": _full_at(law, own, told, limit, now),
            }
        )  # fmt: skip
    frame = pl.DataFrame(rows, schema=MAP_FILL.schema)
    order = pl.col("in_use").replace_strict({"yes": 0, "unknown": 1, "no": 2})
    is_fixed = pl.col("bound") == "fixed"
    return check(frame.sort(order, is_fixed, -pl.col("usage").fill_null(-1), "map"), MAP_FILL)


def unseen(table: pl.DataFrame, limits: pl.DataFrame, version: str) -> list[str]:
    """Warn of maps that no metric tells and that their equation fills at the planned nodes."""
    seen = {facts.map_of_label(name, version) for name in limits["subject"].drop_nulls()}
    near = table.filter(
        (pl.col("in_use") == "yes") & ~pl.col("map").is_in(list(seen))
        & (pl.col("full_at_nodes") <= pl.col("nodes")) & ~pl.col("bound").is_in(["fixed", "upper"])
    )  # fmt: skip
    return [
        f"{row['map']} is full at {row['full_at_nodes']:,} nodes by what fills it "
        f"({row['equation']}); no metric tells how full it is: capacity maps --map {row['map']}"
        for row in near.iter_rows(named=True)
    ]


def _observed(seen: Observed) -> dict[str, int]:
    """Give pinned map → most entries on any node, as metrics or commands on a node tell."""
    used = entries_by_map(seen.steps, seen.version)
    # Nodes x addresses, put among the observations where an inventory tells both: no observation
    used = {name: entries for name, entries in used.items() if name not in _NODE_MAPS}
    for name, entries in _most(seen, "entries").items():
        used[name] = max(used.get(name, 0), entries)
    return used


def _most(seen: Observed, column: str) -> dict[str, int]:
    """Give pinned map → largest number that commands on nodes tell of it."""
    told = seen.inventory.map_entries.drop_nulls(column).select(
        map=pl.col("map").map_elements(_of_version(seen.version), pl.String), told=column
    )
    return dict(told.drop_nulls().group_by("map").agg(pl.col("told").max()).iter_rows())


def _of_version(version: str) -> Callable[[str], str | None]:
    """Name maps as the version does: development builds name policy maps otherwise."""
    policy = facts.map_of_label("cilium_policy_*", version)
    return lambda name: policy if _POLICY.fullmatch(name) else name


def _sizes(seen: Observed, settings: PlanSettings) -> dict[str, int]:
    """Give pinned map → size: what agents report, else options, dynamic sizing, defaults."""
    sizing = configured_sizes(seen.inventory, settings, seen.version)
    out: dict[str, int | None] = {}
    for fact in facts.maps(seen.version).iter_rows(named=True):
        option = str(fact["option"] or "")
        if option in sizing:
            out[fact["map"]] = sizing[option][0]
        elif option.startswith("bpf-lb-"):
            out[fact["map"]] = map_size(seen.inventory, None, fact)
        else:
            out[fact["map"]] = fact["max_entries"]
    out |= {name: size for name, size in _most(seen, "max_entries").items() if name in out}
    rows = seen.limits.filter(component="map", quantity="map_entries").drop_nulls("limit")
    for subject, limit in rows.select("subject", "limit").iter_rows():
        name = facts.map_of_label(subject, seen.version)
        if name is not None:
            out[name] = int(limit)
    return {name: int(size) for name, size in out.items() if size is not None}


def _size_of_rings(fact: Mapping[str, Any], drivers: Mapping[str, Driver]) -> int | None:
    """Give the size of an array of rings: the kernel takes the number of possible CPUs."""
    is_ring = fact["type"] == "perf_event_array" and "cpus" in drivers
    return int(drivers["cpus"].value) if is_ring else None


def _use(
    fact: Mapping[str, Any], held: Mapping[str, int], options: Mapping[str, str]
) -> dict[str, str]:
    when = str(fact["when"])
    if held.get(fact["map"]):
        return {"in_use": "yes", "why": when}
    if off := switched_off(when, options):
        return {"in_use": "no", "why": off}
    wanted = derivations.features().filter(
        (pl.col("absent") == "off") | (pl.col("when") == "IPv6")
    )["when"].unique()  # fmt: skip
    # Without options nothing tells whether what is off by default was switched on
    is_plain = not any(name in when.partition(" or ")[0] for name in wanted)
    on = is_plain or (bool(options) and "IPv6" not in when) or options.get("enable-ipv6") == "true"
    return {"in_use": "yes" if on else "unknown", "why": when}


def _told(
    law: Mapping[str, Any], drivers: Mapping[str, Driver], observed: int | None, ratio: float | None
) -> dict[str, Any]:
    """Give predicted, observed, factor, ahead, and the drivers in words."""
    out: dict[str, Any] = {"observed": observed}
    equation = law["equation"]
    if equation is None:
        return out | {"missing": "only counting tells: cilium-dbg or bpftool map dump on a node"}
    wanted = names(equation)
    known = [name for name in wanted if name in drivers]
    out["drivers"] = "; ".join(_words(name, drivers[name]) for name in known) or None
    lacking = [name for name in wanted if name not in drivers]
    if lacking:
        return out | {"missing": "; ".join(f"{name}: {_teller(name)}" for name in lacking)}
    now = _entries(equation, drivers, 1.0)
    # What is observed is of the cluster as it is, whatever else is tried out
    seen = evaluate(equation, {name: drivers[name].seen for name in wanted})
    factor = observed / seen if observed is not None and seen > 0 else None
    out |= {"predicted": math.ceil(now), "factor": factor}
    if ratio is not None:
        out["ahead"] = math.ceil(_entries(equation, drivers, ratio) * (factor or 1.0))
    return out


def _words(name: str, driver: Driver) -> str:
    return f"{name} {driver.value:,.6g} ({driver.basis})"


def _teller(name: str) -> str:
    return str(fill_drivers().filter(driver=name)["told_by"].item())


def _entries(equation: str, drivers: Mapping[str, Driver], ratio: float) -> float:
    return evaluate(equation, {name: drivers[name].at(ratio) for name in names(equation)})


def _usage(told: Mapping[str, Any], limit: int | None) -> float | None:
    entries = told["observed"] if told["observed"] is not None else told.get("predicted")
    return entries / limit if limit and entries is not None else None


def _full_at(
    law: Mapping[str, Any],
    drivers: Mapping[str, Driver],
    told: Mapping[str, Any],
    limit: int | None,
    now: float | None,
) -> int | None:
    """Give the node count at which the corrected equation reaches the limit; halves intervals."""
    if not now or limit is None or told.get("predicted") is None or law["bound"] == "fixed":
        return None
    factor = told.get("factor") or 1.0

    def is_full(nodes: int) -> bool:
        return _entries(law["equation"], drivers, nodes / now) * factor >= limit

    low, high = 0, _FARTHEST
    if is_full(low) or not is_full(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_full(middle) else (middle, high)
    return high


def filled(
    settings: PlanSettings, values: Mapping[str, float], nodes: int | None = None
) -> tuple[pl.DataFrame, dict[str, Driver]]:
    """Give table map_fill of a source, and the drivers it rests on; nothing is fitted.

    Parameters
    ----------
    settings
        As for `plan`.
    values
        Drivers that override what the source tells.
    nodes
        Node count to look ahead to. [1]
    """
    seen = observed(settings, lambda name, share: None)
    drivers = counted(seen, values)
    return map_fill(seen, drivers, settings, nodes), drivers


def counted(seen: Observed, values: Mapping[str, float] | None = None) -> dict[str, Driver]:
    """Give drivers with the policies and services of the inventory counted for this.

    Parameters
    ----------
    seen
        What a source tells, and the version to count for.
    values
        Drivers that override what the source tells.
    """
    inventory, version = seen.inventory, seen.version
    policies, services = POLICY_GROWTH.empty(), SERVICE_GROWTH.empty()
    if not (inventory.endpoints.is_empty() or inventory.policies.is_empty()):
        policies = policy_growth(inventory, version=version)
    if not inventory.services.is_empty():
        services = service_growth(inventory, version=version)
    return drivers_of(seen, policies, services, values)
