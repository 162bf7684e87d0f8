"""What the inventory's policies do to the plan: when the fullest policy map is full.

Exact where the pods are known: entries are counted as Cilium counts, workloads are taken to grow
in proportion to the nodes (constant density).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from capacity.cilium.policy.growth import growth as policy_growth
from capacity.cilium.policy.nodes import policy_nodes
from capacity.growth import Growth
from capacity.inventory import Inventory
from capacity.running_out import runs_out
from capacity.settings import PlanSettings
from capacity.tables import POLICY_GROWTH, POLICY_NODES


@dataclass(frozen=True, slots=True)
class Outlook:
    """Table policy_growth; what runs out first of it as outcome.json has it; one sentence."""

    table: pl.DataFrame
    first: dict[str, Any] | None
    sentence: str | None
    is_short: bool


def outlook(inventory: Inventory, growth: Growth, settings: PlanSettings, version: str) -> Outlook:
    """Tell at which node count the first policy map is full, from pods and policies.

    Without pods or policies in the inventory the table is empty and nothing is told.
    """
    if inventory.endpoints.is_empty() or inventory.policies.is_empty():
        return Outlook(POLICY_GROWTH.empty(), None, None, is_short=False)
    table = policy_growth(inventory, version=version)
    ahead = table.drop_nulls("factor").sort("factor", "endpoint")
    full = table.filter(pl.col("entries") >= pl.col("limit"))
    rows = full if not full.is_empty() else ahead
    if rows.is_empty():
        return Outlook(table, None, None, is_short=False)
    row = rows.row(0, named=True)
    nodes = math.ceil(growth.now * (1.0 if not full.is_empty() else row["factor"]))
    return _told(table, row, nodes, growth, settings)


def node_costs(inventory: Inventory, version: str) -> pl.DataFrame:
    """Give table policy_nodes; empty without pods or policies in the inventory."""
    if inventory.endpoints.is_empty() or inventory.policies.is_empty():
        return POLICY_NODES.empty()
    return policy_nodes(inventory, version=version)


def _told(
    table: pl.DataFrame, row: dict[str, Any], nodes: int, growth: Growth, settings: PlanSettings
) -> Outlook:
    told = runs_out(
        f"policy map of {row['endpoint']}", "settable", "bpf.policyMapMax", nodes, growth, settings
    )
    sentence = (
        f"The policies of the inventory give {row['endpoint']} {row['entries']:,} of "
        f"{row['limit']:,} entries of its policy map"
    )
    if row["entries"] >= row["limit"]:
        sentence += ": it is full."
    else:
        sentence += f"; it is full at {nodes:,} nodes if workloads grow as the nodes do."
    return Outlook(table, told.first, sentence, told.is_short)
