"""What a cluster was like at each step, from what agents tell of it: table drivers."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables import DRIVERS, TIME, check

# An agent reports what it holds; the cluster total needs most agents to report.
ENOUGH_AGENTS: Final = 0.5
# Share of a policy map above which the agent exports its pressure (facts/maps.csv)
POLICY_THRESHOLD: Final = 0.1


def drivers(steps: pl.DataFrame) -> pl.DataFrame:
    """Give what the cluster was like at each step.

    `nodes` is what the agents know (cilium_nodes_all_num), else the most agents that report at
    once: a node that another replaces within a step counts once.
    `endpoints` is mean per agent × nodes where at least half of the agents report; below that it
    is told from the ipcache, which holds every pod address of the cluster, less the addresses of
    nodes. Unknown stays null.

    Parameters
    ----------
    steps
        Table steps.

    Returns
    -------
    DataFrame
        Table drivers, sorted by cluster and time.
    """
    keys = ["time", "cluster"]
    agents = steps.filter(pl.col("quantity") == "endpoints").select(
        *keys, reporting="nodes", endpoints_per_node="mean"
    )
    table = steps.select(keys).unique()
    for frame in (agents, *(_peak(steps, name) for name in _PEAKS)):
        table = table.join(frame, on=keys, how="left")
    table = table.with_columns(nodes=pl.coalesce("nodes", "at_once"))
    known = pl.col("reporting") >= ENOUGH_AGENTS * pl.col("nodes")
    told = pl.col("endpoints_per_node") * pl.col("nodes")
    from_ipcache = (pl.col("ipcache") - 3 * pl.col("nodes")).clip(0)
    table = table.with_columns(
        endpoints=pl.when(known).then(told).otherwise(from_ipcache),
        services=pl.coalesce(
            "lb4_reverse_nat",
            pl.col("services_added") - pl.col("services_deleted").fill_null(0),
        ),
        backends=pl.col("lb4_backends_v3"),
        policy_entries=_policy_worst() * pl.col("endpoints_per_node"),
        time=pl.col("time").cast(TIME),
    )
    return check(table.select(DRIVERS.schema.names()).sort("cluster", "time"), DRIVERS)


def _policy_worst() -> pl.Expr:
    """Fill entries of the worst policy map where the gauge is silent because it is below 0.1.

    The agent exports it only above that share (pkg/endpointmanager/policymap_pressure.go), so a
    silent step of an export that has the gauge at other steps lies somewhere in 0…0.1 of the size:
    the middle is taken. As a driver of memory the error is small; as a quantity of its own the
    step stays unknown.
    """
    middle = pl.col("policy_size") * POLICY_THRESHOLD / 2
    return pl.when(pl.col("policy_worst").count() > 0).then(
        pl.col("policy_worst").fill_null(middle)
    )


# Drivers read as the largest value over agents; second group: entries of a map (label regex)
_PEAKS: Final[dict[str, tuple[str, str | None]]] = {
    "nodes": ("nodes", None),
    "at_once": ("nodes_reporting", None),
    "identities": ("identities", None),
    "policies": ("policies", None),
    "services_added": ("services_added", None),
    "services_deleted": ("services_deleted", None),
    "ipcache": ("map_entries", "^ipcache(_v2)?$"),
    "lb4_backends_v3": ("map_entries", "^lb4_backends_v[0-9]$"),
    "lb4_reverse_nat": ("map_entries", "^lb4_reverse_nat$"),
    "policy_worst": ("map_entries", "^cilium_policy_"),
    "policy_size": ("map_max_entries", "^endpoint_policy$"),
}


def _peak(steps: pl.DataFrame, name: str) -> pl.DataFrame:
    quantity, subject = _PEAKS[name]
    rows = steps.filter(pl.col("quantity") == quantity)
    if subject is not None:
        rows = rows.filter(pl.col("subject").str.contains(subject))
    return rows.group_by("time", "cluster").agg(pl.col("largest").max().alias(name))
