"""Which node to count where none is named: traffic policy Local makes nodes differ."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from capacity.cilium.services.choices import Choices
from capacity.inventory import Inventory


def worst_node(frontends: pl.DataFrame, inventory: Inventory, chosen: Choices) -> Choices:
    """Choose the node with most backends behind frontends of policy Local, weighted by these.

    Without such frontends, or without nodes of backends, all nodes are alike: none is chosen.
    """
    local = frontends.filter("is_local").group_by("namespace", "service", "name").len("weight")
    local = local.with_columns(pl.col("name").cast(pl.String))
    if local.is_empty():
        return chosen
    here = inventory.backends.drop_nulls("node").join(
        local,
        left_on=["namespace", "service", pl.col("port_name").fill_null("")],
        right_on=["namespace", "service", "name"],
        how="inner",
    )
    most = here.group_by("node").agg(pl.col("weight").sum()).sort(["weight", "node"])
    return replace(chosen, node=most["node"][-1]) if len(most) else chosen
