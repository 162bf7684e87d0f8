"""Samples → observations (tidy, unit known, counters turned to rates) and drivers.

Which metric tells which quantity is a row of facts/observed.csv. Nothing is interpolated: a step
without a sample has no row. Replicas that scraped the same target are merged, not summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity.export import Metrics
from capacity.facts import derivations
from capacity.inventory import Inventory
from capacity.observe.charges import agent_memory
from capacity.observe.derived import derived, renumbered
from capacity.observe.names import copies, named
from capacity.observe.panel import node_panel
from capacity.observe.reduced import present, reduced, times_of
from capacity.observe.spikes import spikes
from capacity.observe.usage import usage
from capacity.tables import DRIVERS, OBSERVATIONS, STEPS, TIME, check

# A step grid never has more steps than this: charts and fits gain nothing from more.
MAX_STEPS: Final = 240
_NICE_STEPS: Final = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
                      43200, 86400, 172800, 604800)  # fmt: skip
# An agent reports what it holds; the cluster total needs most agents to report.
ENOUGH_AGENTS: Final = 0.5
# Share of a policy map above which the agent exports its pressure (facts/maps.csv)
POLICY_THRESHOLD: Final = 0.1


def observe(metrics: Metrics, step: float | None = None) -> pl.DataFrame:
    """Turn an export into observations on a regular time grid; the peak of each step is kept.

    Parameters
    ----------
    metrics
        The export.
    step
        Width of the grid [s]; the spacing of the samples, or wider, where left out.

    Returns
    -------
    DataFrame
        Table observations. Map sizes and pressure come as `map_max_entries`, `map_pressure` and,
        where both are known, `map_entries` (their product, rounded).
    """
    told = _told(metrics, step)
    rows, targets = told.rows, told.targets
    named = rows.sort("target", "time").join(targets, on="target", maintain_order="left")
    return check(named, OBSERVATIONS)


def steps(metrics: Metrics, step: float | None = None) -> pl.DataFrame:
    """Give table steps of an export; as `by_step(observe(metrics))` without making all the rows."""
    told = _told(metrics, step)
    return _by_step(told.rows, told.targets)


@dataclass(frozen=True, slots=True)
class Look:
    """What was observed, brought together: tables steps, usage, spikes, node_panel."""

    steps: pl.DataFrame
    usage: pl.DataFrame
    spikes: pl.DataFrame
    panel: pl.DataFrame


def look(metrics: Metrics, step: float | None = None) -> Look:
    """Give tables steps, usage, spikes and node_panel of an export."""
    told = _told(metrics, step)
    own = told.targets.filter(pl.col("target") < told.own)
    return Look(
        _by_step(told.rows, told.targets), usage(told.rows, told.targets),
        spikes(metrics.samples, told.keyed, own), node_panel(told.rows, told.targets),
    )  # fmt: skip


def by_step(observations: pl.DataFrame) -> pl.DataFrame:
    """Give table steps: each quantity at each step over all nodes, with the worst node's name."""
    names = [*_TARGET, "series"]
    targets = observations.select(names).unique().sort(names, nulls_last=True)
    targets = targets.with_row_index("target")
    rows = observations.join(targets, on=names, nulls_equal=True)
    return _by_step(rows.select("time", "target", "value"), targets)


_TARGET: Final = ["cluster", "node", "component", "subject", "quantity"]
_WHAT: Final = ["cluster", "component", "subject", "quantity"]


@dataclass(frozen=True, slots=True)
class _Told:
    """Rows (time, target, value), what the targets are, which series tell the first `own` ones."""

    rows: pl.DataFrame
    targets: pl.DataFrame
    keyed: pl.DataFrame
    own: int


def _told(metrics: Metrics, step: float | None) -> _Told:
    """Bring samples to steps and targets: numbers group faster than names.

    A target is one quantity of one thing on one node; many series may tell of it (replicas,
    restarts). Its number grows with its name, so that equal inputs give equal orders.
    """
    metrics = named(metrics)
    wanted = (
        metrics.series.join(derivations.observed(), on="metric", how="inner")
        .filter(_where_holds())
        .with_columns(node=_node_key(), subject=_subject())
    )
    targets = wanted.group_by(_TARGET).agg(series=pl.col("metric").min())
    targets = targets.sort(_TARGET, nulls_last=True).with_row_index("target")
    keyed = wanted.join(targets, on=_TARGET, nulls_equal=True)
    keyed = keyed.select("series", "target", "kind", "scale")
    width = step or grid_step(times_of(metrics.samples, keyed))
    seen = present(metrics.samples, keyed, targets, width)
    copied = copies(wanted.select(metrics.series.columns))
    rows, own = reduced(metrics.samples, keyed, copied, width), len(targets)
    for derive in (_entries, _memory, _service_ids, _identities):
        rows, targets = derive(rows, targets)
    new = renumbered(seen.select("cluster").unique().sort("cluster"), targets).with_columns(
        component=pl.lit("driver"), quantity=pl.lit("nodes_reporting"), series=pl.lit(_AGENTS),
        node=pl.lit(None, pl.String), subject=pl.lit(None, pl.String),
    )  # fmt: skip
    counted = seen.join(new, on="cluster").with_columns(value=pl.col("nodes").cast(pl.Float64))
    rows, targets = derived(rows, targets, counted, new)
    return _Told(rows, targets, keyed, own)


# Every agent exports it, with or without endpoints: whose series are there, reports
_AGENTS: Final = "cilium_endpoint"


def _by_step(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    kinds = targets.select(_WHAT).unique().sort(_WHAT, nulls_last=True).with_row_index("what")
    numbered = targets.join(kinds, on=_WHAT, nulls_equal=True).select("target", "what")
    found = (
        rows.join(numbered, on="target")
        .sort("target")
        .group_by("time", "what")
        .agg(
            largest=pl.col("value").max(),
            smallest=pl.col("value").min(),
            mean=pl.col("value").mean(),
            nodes=pl.len().cast(pl.Int64),
            target=pl.col("target").get(pl.col("value").arg_max()),
        )
    )
    named = found.join(targets.select("target", "series", worst_node="node"), on="target")
    named = named.join(kinds, on="what").sort("what", "time")
    return check(named, STEPS)


def grid_step(times: pl.Series) -> float:
    """Width of the time grid [s]: a round number, at least the spacing of the samples.

    >>> from datetime import UTC, datetime
    >>> grid_step(pl.Series([datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2, 3, 4)]))
    86400
    """
    if len(times) < 2:
        return _NICE_STEPS[0]
    stamps = times.sort().dt.epoch("s")
    spacing = stamps.diff().drop_nulls()
    span = stamps[-1] - stamps[0]
    # The lower quartile: scrapes of many targets are shifted against each other by parts of a step
    typical = max(float(spacing.quantile(0.25) or 1), span / MAX_STEPS)
    return next((s for s in _NICE_STEPS if s >= typical * 0.999), _NICE_STEPS[-1])


def _where_holds() -> pl.Expr:
    """Hold for series whose labels have the values named in column `where` (a=b;c=d*)."""
    holds = pl.lit(value=True)
    own = {"container": pl.col("container"), "pod": pl.col("pod")}
    for clause in derivations.conditions():
        label, _, value = clause.partition("=")
        column = own.get(label, pl.col("labels").str.json_path_match(f"$['{label}']"))
        asked = pl.col("where").str.split(";").list.contains(clause)
        is_so = column.str.starts_with(value[:-1]) if value.endswith("*") else column == value
        holds &= ~asked | is_so.fill_null(value=False)
    return holds


def _node_key() -> pl.Expr:
    """Name the node of a series: label node, else pod, else instance.

    An address alone is reused by the next node and a pod name changes with each restart, so each
    is a last resort only (shared knowledge of the exporters, see docs/explanation.md).
    """
    instance = pl.col("labels").str.json_path_match("$['instance']")
    return pl.coalesce("node", "pod", instance)


def _subject() -> pl.Expr:
    group = pl.col("labels").str.json_path_match("$['map_group']")
    # One name for policy maps: cilium_policy_v2_* since 1.17; a series an endpoint in 1.14
    policy = pl.col("map_name").str.contains(r"^(cilium_)?policy_(v[0-9]+_)?(\*|[0-9]+)$")
    name = pl.when(policy).then(pl.lit("cilium_policy_*")).otherwise("map_name")
    by_label = pl.when(pl.col("label") == "map_name").then(name).otherwise(group)
    return pl.when(pl.col("label").is_not_null()).then(by_label)


def _entries(rows: pl.DataFrame, targets: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Derive map_entries = pressure × max_entries of that time, where the agent tells both."""
    known = targets.filter(pl.col("quantity").is_in(["map_pressure", "map_max_entries"]))
    told = _by_step(rows.join(known, on="target", how="semi"), known)
    sizes = _sizes_over_time(told)
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


def _memory(rows: pl.DataFrame, targets: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
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


def _service_ids(rows: pl.DataFrame, targets: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
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


def _identities(rows: pl.DataFrame, targets: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
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


def map_sizes(steps: pl.DataFrame) -> pl.DataFrame:
    """Give the newest max_entries by cluster and pressure label.

    Parameters
    ----------
    steps
        Table steps.

    Returns
    -------
    DataFrame
        Columns cluster, subject (as in map_pressure), max_entries.
    """
    newest = _sizes_over_time(steps).sort("time").unique(["cluster", "subject"], keep="last")
    return newest.select("cluster", "subject", "max_entries").sort("cluster", "subject")


def _sizes_over_time(steps: pl.DataFrame) -> pl.DataFrame:
    """Give time, cluster, subject, max_entries, from cilium_bpf_map_capacity.

    The metric has a series for each map that differs from the group `default`, one for all policy
    maps (`endpoint_policy`), and none for maps equal to the default (pkg/metrics/bpf.go). The
    smallest value over nodes counts: that node fills first. Sizes change when agents restart with
    other options, so each time has its own.
    """
    sizes = steps.filter(pl.col("quantity") == "map_max_entries")
    sizes = sizes.select("time", "cluster", group="subject", size="smallest")
    used = pl.col("quantity").is_in(["map_pressure", "map_entries"])
    asked = steps.filter(used).select("cluster", "subject").unique().with_columns(group=_group())
    default = sizes.filter(pl.col("group") == "default").drop("group").rename({"size": "fallback"})
    return (
        sizes.select("time", "cluster")
        .unique()
        .join(asked, on="cluster")
        .join(sizes, on=["time", "cluster", "group"], how="left")
        .join(default, on=["time", "cluster"], how="left")
        .with_columns(max_entries=pl.coalesce("size", "fallback"))
        .drop_nulls("max_entries")
        .select("time", "cluster", "subject", "max_entries")
    )


def _group() -> pl.Expr:
    """Name the group of cilium_bpf_map_capacity that a pressure label belongs to."""
    policy = pl.col("subject").str.contains(r"^(cilium_)?policy_")
    return (
        pl.when(policy)
        .then(pl.lit("endpoint_policy"))
        .when(pl.col("subject").str.starts_with("cilium_"))
        .then("subject")
        .otherwise(pl.concat_str(pl.lit("cilium_"), "subject"))
    )


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
