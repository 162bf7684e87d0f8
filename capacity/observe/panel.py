"""What each node used and held at each step: the rows that costs are told from between nodes."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from capacity.tables import NODE_PANEL, TIME, check

# Column of the panel → component and quantity that it holds
_COLUMNS: Final = {
    "endpoints": ("driver", "endpoints"),
    "policy_worst": ("map", "map_entries"),
    "map_bytes": ("agent", "memory_bpf_maps"),
    "regenerations": ("agent", "regenerations"),
    "agent_memory": ("agent", "memory"),
    "agent_cpu": ("agent", "cpu"),
    "envoy_memory": ("envoy", "memory"),
    "envoy_cpu": ("envoy", "cpu"),
}
_POLICY: Final = "^cilium_policy_"


def node_panel(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Give table node_panel of one cluster.

    Parameters
    ----------
    rows
        Columns time, target, value.
    targets
        Columns cluster, node, component, subject, quantity, series, target.
    """
    own = targets.filter(pl.col("node").is_not_null())
    held = own.filter(component="driver", quantity="endpoints")
    if held["cluster"].n_unique() != 1 or held["node"].n_unique() < 2:
        return NODE_PANEL.empty()
    nodes, times = held["node"].unique().sort(), rows["time"].unique().sort()
    told = own.join(pl.DataFrame({"node": nodes}).with_row_index("number"), on="node")
    stamps = times.dt.epoch("ms").to_numpy()
    made: dict[str, pl.Series] = {}
    for name, (component, quantity) in _COLUMNS.items():
        mine = told.filter(component=component, quantity=quantity)
        if name == "policy_worst":
            mine = mine.filter(pl.col("subject").str.contains(_POLICY))
        picked = rows.join(mine.select("target", "number"), on="target")
        at = np.searchsorted(stamps, picked["time"].dt.epoch("ms").to_numpy())
        grid = np.full((len(nodes), len(times)), np.nan)
        grid[picked["number"].to_numpy(), at] = picked["value"].to_numpy()
        made[name] = pl.Series(grid.ravel()).fill_nan(None)
    frame = pl.DataFrame(
        {
            "time": pl.Series(np.tile(stamps, len(nodes))).cast(TIME),
            "node": np.repeat(np.arange(len(nodes), dtype=np.uint32), len(times)),
            **made,
        }
    )
    return check(frame.filter(pl.col("endpoints").is_not_null()), NODE_PANEL)
