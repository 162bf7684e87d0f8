"""What the inventory's policies do to the plan: when the fullest policy map is full, what to set.

Exact where the pods are known: entries are counted as Cilium counts, workloads are taken to grow
in proportion to the nodes (constant density).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.policy.growth import growth as policy_growth
from capacity.cilium.policy.nodes import policy_nodes
from capacity.growth import Growth
from capacity.inventory import Inventory
from capacity.recommend import Planned, Present, Situation, Target, planned_nodes, sized
from capacity.recommend.cost import map_cost, side_effects, totals
from capacity.recommend.present import helm_value
from capacity.running_out import runs_out
from capacity.settings import PlanSettings
from capacity.tables import CHANGES, POLICY_GROWTH, POLICY_NODES, RECOMMENDATION, check

_OPTION: Final = "bpf-policy-map-max"
# What metrics call policy maps: one row for all of them
_SUBJECT: Final = "cilium_policy_*"


@dataclass(frozen=True, slots=True)
class Outlook:
    """Table policy_growth; what runs out first of it as outcome.json has it; one sentence.

    `advice` is table recommendation: at most a size and what no size holds.
    """

    table: pl.DataFrame
    first: dict[str, Any] | None
    sentence: str | None
    is_short: bool
    advice: pl.DataFrame


def outlook(
    inventory: Inventory,
    growth: Growth,
    settings: PlanSettings,
    situation: Situation,
    cluster: str,
) -> Outlook:
    """Tell at which node count the first policy map is full, from pods and policies.

    Without pods or policies in the inventory the tables are empty and nothing is told.
    """
    blank = RECOMMENDATION.empty()
    if inventory.endpoints.is_empty() or inventory.policies.is_empty():
        return Outlook(POLICY_GROWTH.empty(), None, None, is_short=False, advice=blank)
    table = policy_growth(inventory, version=situation.present.version)
    advice = policy_advice(table, growth, settings, situation, cluster)
    ahead = table.drop_nulls("factor").sort("factor", "endpoint")
    full = table.filter(pl.col("entries") >= pl.col("limit"))
    rows = full if not full.is_empty() else ahead
    if rows.is_empty():
        return Outlook(table, None, None, is_short=False, advice=advice)
    row = rows.row(0, named=True)
    nodes = math.ceil(growth.now * (1.0 if not full.is_empty() else row["factor"]))
    told = runs_out(
        f"policy map of {row['endpoint']}", "settable", "bpf.policyMapMax", nodes, growth, settings
    )
    return Outlook(table, told.first, _sentence(row, nodes), told.is_short, advice)


def node_costs(inventory: Inventory, version: str) -> pl.DataFrame:
    """Give table policy_nodes; empty without pods or policies in the inventory."""
    if inventory.endpoints.is_empty() or inventory.policies.is_empty():
        return POLICY_NODES.empty()
    return policy_nodes(inventory, version=version)


def _sentence(row: dict[str, Any], nodes: int) -> str:
    sentence = (
        f"The policies of the inventory give {row['endpoint']} {row['entries']:,} of "
        f"{row['limit']:,} entries of its policy map"
    )
    if row["entries"] >= row["limit"]:
        return sentence + ": it is full."
    return sentence + f"; it is full at {nodes:,} nodes if workloads grow as the nodes do."


def policy_advice(
    table: pl.DataFrame, growth: Growth, settings: PlanSettings, situation: Situation, cluster: str
) -> pl.DataFrame:
    """Give table recommendation: the size that the fullest endpoint needs at the planned nodes."""
    planned = planned_nodes(growth, settings)
    ratio = max(planned.nodes / max(growth.now, 1.0), 1.0)
    then = (pl.col("constant") + pl.col("growing") * ratio).ceil()
    known = table.drop_nulls("entries").with_columns(need=pl.max_horizontal("entries", then))
    if known.is_empty():
        return RECOMMENDATION.empty()
    fullest = known.sort("need", "endpoint", descending=[True, False]).row(0, named=True)
    rows = _rows(fullest, planned, growth, settings, situation)
    blank: dict[str, Any] = dict.fromkeys(RECOMMENDATION.schema)
    told = {
        "rank": 1, "cluster": cluster, "component": "map", "subject": _SUBJECT, "unit": "1",
        "nodes": planned.nodes, "confidence": "medium",
        "evidence": "pods and policies of the inventory, entries counted as the agent counts; "
        "growth of workloads in proportion to the nodes is taken",
    }  # fmt: skip
    made = [_whole(blank | told | row, planned, situation.present, settings) for row in rows]
    return check(pl.DataFrame(made, schema=RECOMMENDATION.schema), RECOMMENDATION)


def _rows(
    fullest: dict[str, Any], planned: Planned, growth: Growth, settings: PlanSettings,
    situation: Situation,
) -> list[dict[str, Any]]:  # fmt: skip
    present, need = situation.present, float(fullest["need"])
    setting = helm_value(_OPTION, present.version)
    most = float(facts.options(present.version).filter(option=_OPTION)["max"][0])
    current = min(present.sizes.get(setting, float(fullest["limit"])), most)
    # Never lowered: policy maps are tries of every version, empty room in them takes no memory
    target = sized(Target(need, need, current, most, settings.headroom, "1")).value
    cost = map_cost(
        setting, current, target, need, present, situation.endpoints_per_node, _SUBJECT
    )  # fmt: skip
    told = (
        f"the policies of the inventory give {fullest['endpoint']} {fullest['entries']:,} entries, "
        f"{need:,.0f} at {planned.nodes:,} nodes ({planned.why}), counted exactly"
    )
    row = {
        "setting": setting,
        "current": current,
        "target": target,
        "lower": min(need, target),
        "upper": most,
    }
    if target == current:
        row |= {"status": "ok", "reason": f"{told}: {current:,.0f} hold them"}
    else:
        full = f"at {current:,.0f} endpoints are not regenerated"
        why = full if need > current else "less than half the headroom is left"
        row |= {"status": "raise", "reason": f"{told}; {why}", "cost": cost, "restart": True,
                "alternative": "policies that select fewer identities: `capacity policies explain` "
                "names them"}  # fmt: skip
    if need <= target:
        return [row]
    last = _split(fullest, target, told, planned, growth)
    return [last] if target == current else [row, last]


def _split(
    fullest: dict[str, Any], size: float, told: str, planned: Planned, growth: Growth
) -> dict[str, Any]:
    """Say what remains where no size holds: the largest cluster of these policies, and a split."""
    fits = None
    if fullest["growing"] and size > fullest["constant"]:
        factor = (size - fullest["constant"]) / fullest["growing"]
        fits = math.floor(growth.now * factor)
    shown = "no cluster of these policies fits" if not fits else (
        f"the largest cluster of these policies has {fits:,} nodes")  # fmt: skip
    instead = f"rules of {fullest['endpoint']} that select fewer identities, ports or CIDRs"
    if fits:
        instead = f"{math.ceil(planned.nodes / fits)} clusters of at most {fits:,} nodes, or "
        instead += f"rules of {fullest['endpoint']} that select fewer identities"
    return {
        "setting": f"(no setting) {_SUBJECT}", "current": size, "status": "redesign",
        "reason": f"{told}, and no setting gives more than {size:,.0f}; {shown}",
        "alternative": instead,
    }  # fmt: skip


def _whole(
    row: dict[str, Any], planned: Planned, present: Present, settings: PlanSettings
) -> dict[str, Any]:
    if row["status"] not in CHANGES:
        return row
    effect = side_effects(present.version).get(row["setting"])
    whole = totals(row, planned.nodes, present, settings)
    return {**row, **whole, "side_effect": effect}
