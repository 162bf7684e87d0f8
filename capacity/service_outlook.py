"""What the inventory's services do to the plan: when the first load balancer map is full.

Exact today: entries are counted as Cilium counts. Services are taken to grow in proportion to the
nodes (constant density).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity.cilium.maglev import OPTION, SLOTS_A_BACKEND, table_sizes
from capacity.cilium.services import count
from capacity.cilium.services.growth import IDS, service_growth
from capacity.growth import Growth
from capacity.inventory import Inventory
from capacity.recommend import Planned, Present, Target, planned_nodes, sized
from capacity.recommend.cost import map_cost, side_effects, totals
from capacity.running_out import runs_out
from capacity.settings import PlanSettings
from capacity.tables import CHANGES, RECOMMENDATION, SERVICE_GROWTH, check

# Below this share of its limit a map is not worth a sentence in the headline
_WORTH_TELLING: Final = 0.5
_LB_MAP: Final = "bpf.lbMapMax"
_TABLE: Final = "maglev.tableSize"
# Options without which no frontend has a table
_MAGLEV: Final = (("bpf-lb-algorithm", "maglev"), ("bpf-lb-algorithm-annotation", "true"))


@dataclass(frozen=True, slots=True)
class ServiceOutlook:
    """Table service_growth; what runs out first of it; a sentence where it is near; what to set."""

    table: pl.DataFrame
    first: dict[str, Any] | None
    sentence: str | None
    is_short: bool
    advice: pl.DataFrame


def service_outlook(
    inventory: Inventory,
    growth: Growth,
    settings: PlanSettings,
    present: Present,
    cluster: str,
) -> ServiceOutlook:
    """Tell at which node count services fill the first map or use up service IDs.

    Without services in the inventory the tables are empty and nothing is told.
    """
    blank = RECOMMENDATION.empty()
    if inventory.services.is_empty():
        return ServiceOutlook(SERVICE_GROWTH.empty(), None, None, is_short=False, advice=blank)
    table = service_growth(inventory, version=present.version)
    ahead = table.drop_nulls("factor")
    if ahead.is_empty():
        return ServiceOutlook(table, None, None, is_short=False, advice=blank)
    row = ahead.row(0, named=True)
    nodes = math.ceil(growth.now * max(row["factor"], 1.0))
    if row["entries"] < row["limit"]:
        nodes = max(nodes, math.ceil(growth.now) + (row["factor"] > 1))
    kind, setting = row["kind"], row["setting"]
    told = runs_out(_named(row["resource"]), kind, setting, nodes, growth, settings)
    near = told.is_short or row["entries"] >= _WORTH_TELLING * row["limit"]
    planned = planned_nodes(growth, settings)
    rows = _advice(table, inventory, growth, planned, settings, present)
    rows = [_whole(one, cluster, planned, present, settings) for one in rows]
    frame = pl.DataFrame(rows, schema=RECOMMENDATION.schema)
    return ServiceOutlook(
        table, told.first, _sentence(row, nodes) if near else None, told.is_short,
        check(frame, RECOMMENDATION),
    )  # fmt: skip


def _named(resource: str) -> str:
    return resource if resource == IDS else f"map {resource.removeprefix('cilium_')}"


def _sentence(row: dict[str, Any], nodes: int) -> str:
    unit = "of a node" if row["resource"] == IDS else "entries"
    text = (
        f"The services of the inventory take {row['entries']:,} of {row['limit']:,} {unit} "
        f"({row['resource']})"
    )
    if row["entries"] >= row["limit"]:
        text += ": none is left"
    else:
        text += f", used up at {nodes:,} nodes if services grow as the nodes do"
    if row["setting"] is None:
        text += "; no setting adds any"
    return text + "."


def _advice(
    table: pl.DataFrame,
    inventory: Inventory,
    growth: Growth,
    planned: Planned,
    settings: PlanSettings,
    present: Present,
) -> list[dict[str, Any]]:
    ratio = planned.nodes / max(growth.now, 1.0)
    need = {
        row["resource"]: row["constant"] + row["growing"] * ratio
        for row in table.iter_rows(named=True)
    }
    limits = dict(table.select("resource", "limit").iter_rows())
    rows = _map_row(need, limits, planned, settings, present)
    if need[IDS] > limits[IDS]:
        fits = math.floor(planned.nodes * limits[IDS] / need[IDS])
        rows.append({
            "component": "services", "subject": None, "setting": f"(no setting) {IDS}",
            "current": float(limits[IDS]), "status": "redesign",
            "reason": f"needs {need[IDS]:,.0f} at {planned.nodes:,} nodes ({planned.why}); the "
            f"limit is fixed in Cilium; the largest cluster of this mix has {fits:,} nodes: fewer "
            "ports or frontends a service, or another cluster",
        })  # fmt: skip
    return rows + _maglev_row(inventory, ratio, present)


def _map_row(
    need: dict[str, float],
    limits: dict[str, int | None],
    planned: Planned,
    settings: PlanSettings,
    present: Present,
) -> list[dict[str, Any]]:
    """Give the row of bpf.lbMapMax: it sizes all maps at once, the fullest one decides."""
    fullest = max((name for name in need if name != IDS), key=lambda name: need[name])
    wanted, current = need[fullest], limits[fullest]
    if current is None:
        return []
    target = sized(Target(wanted, wanted, float(current), None, settings.headroom, "1")).value
    if target <= current:
        return []
    subject = fullest.removeprefix("cilium_")
    cost = map_cost(_LB_MAP, float(current), target, wanted, present, 1.0, subject)
    return [{
        "component": "map", "subject": subject, "setting": _LB_MAP,
        "current": float(current), "target": target, "lower": float(math.ceil(wanted)),
        "status": "raise", "cost": cost, "restart": True,
        "reason": f"needs {wanted:,.0f} entries at {planned.nodes:,} nodes ({planned.why}); at "
        f"{current:,} services are not programmed, or in part",
        "alternative": "fewer frontends or backends: `capacity services entries` names most",
    }]  # fmt: skip


def _maglev_row(inventory: Inventory, ratio: float, present: Present) -> list[dict[str, Any]]:
    """Give the row of maglev.tableSize where the largest service has too few slots a backend."""
    if not any(present.options.get(name) == value for name, value in _MAGLEV):
        return []
    counted = count(inventory, version=present.version)
    own = counted.frontends.filter(pl.col("maglev") & (pl.col("active") > 0))
    if own.is_empty():
        return []
    largest = int(own.select(pl.col("active").max()).item())
    sizes = table_sizes(present.version)
    told = present.options.get(OPTION)
    current = int(told) if told and told.isdecimal() else _default_size(present.version)
    taken = next((size for size in sizes if size >= SLOTS_A_BACKEND * largest), sizes[-1])
    if taken <= current:
        return []
    return [{
        "component": "map", "subject": "lb4_maglev", "setting": _TABLE,
        "current": float(current), "target": float(taken), "lower": float(taken),
        "upper": float(sizes[-1]), "status": "raise", "restart": True,
        "cost": 4.0 * (taken - current) * own.height * ratio,
        "reason": f"{largest:,} backends behind one frontend want {SLOTS_A_BACKEND} slots each, so "
        f"that about 1 % moves when one leaves; {own.height:,} frontends have a table",
        "alternative": "fewer backends behind one service",
    }]  # fmt: skip


def _default_size(version: str) -> int:
    from capacity import facts

    return int(facts.options(version).filter(option=OPTION)["default"][0])


def _whole(
    row: dict[str, Any], cluster: str, planned: Planned, present: Present, settings: PlanSettings
) -> dict[str, Any]:
    blank: dict[str, Any] = dict.fromkeys(RECOMMENDATION.schema)
    told = {
        "rank": 1, "cluster": cluster, "unit": "1", "nodes": planned.nodes,
        "evidence": "services and backends of the inventory, counted as the agent counts; growth "
        "in proportion to the nodes is taken",
        "confidence": "medium",
    }  # fmt: skip
    row = blank | told | row
    if row["status"] in CHANGES:
        row |= totals(row, planned.nodes, present, settings)
        row["side_effect"] = side_effects(present.version).get(row["setting"])
    return row
