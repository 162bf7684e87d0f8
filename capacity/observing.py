"""What a source tells of one cluster, before anything is fitted: settings → Observed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from capacity import censored, facts, shipped
from capacity.costs import Aside, fleet_bends, fleet_costs
from capacity.coverage import coverage
from capacity.doubts import corrected, doubts
from capacity.driver_draws import REGENERATIONS
from capacity.errors import ExportError, FactError
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.forecast import worst_by_time
from capacity.inventory import Inventory
from capacity.kernel_memory import KernelMemory, kernel_memory
from capacity.limits import limits
from capacity.load import read, read_inventory
from capacity.observe import by_step, drivers, from_inventory, look, steps
from capacity.observe.leaks import Leak, leaks, without
from capacity.observe.names import NODE_INFO, one_cluster
from capacity.settings import DEMO, PlanSettings
from capacity.tables import COVERAGE, DOUBTS, check
from capacity.telling import Progress, is_url
from capacity.throughput.live import COUNTERS
from capacity.units import parse_duration
from capacity.upgrade import sentences, upgrade


@dataclass(frozen=True, slots=True)
class Observed:
    """What a source tells of one cluster, before anything is fitted."""

    metrics: Metrics
    inventory: Inventory
    version: str
    version_note: str | None
    cluster: str
    steps: pl.DataFrame
    drivers: pl.DataFrame
    leaks: list[Leak]
    doubts: pl.DataFrame
    limits: pl.DataFrame
    kernel: KernelMemory
    aside: Aside
    usage: pl.DataFrame
    spikes: pl.DataFrame

    def history(self, limit: dict[str, Any]) -> pl.DataFrame:
        """Give what a limited quantity was over time, without suspected leaks.

        Column `censored` tells where its limit cut it.
        """
        rows = censored.mark(worst_by_time(self.steps, limit), self.steps, limit)
        if (limit["component"], limit["quantity"]) == ("agent", "cpu"):
            rows = rows.join(_regenerations(self.steps), on="time", how="left")
        if limit["quantity"] != "memory":
            return rows
        if limit["component"] == "agent":
            rows = self.kernel.history(rows, self.steps)
        return without(rows, limit["component"], self.leaks)


def _regenerations(steps: pl.DataFrame) -> pl.DataFrame:
    """Give time and regenerations: of the busiest node [1/s]."""
    told = steps.filter(component="agent", quantity="regenerations")
    return told.select("time", pl.col("largest").alias(REGENERATIONS))


def observed(settings: PlanSettings, say: Progress) -> Observed:
    """Read a source and tell what was observed, as `plan` and `backtest` see it."""
    say("reading", 0.0)
    metrics, inventory = _read(settings)
    metrics = one_cluster(metrics, settings.cluster)
    version, version_note = detect_version(metrics, settings)
    say("observing", 0.3)
    told = look(metrics)
    steps = told.steps
    cluster = _cluster(steps)
    driven = _with_inventory(drivers(steps), inventory)
    node_map = (
        "node_map_v2" if "cilium_node_map_v2" in set(facts.maps(version)["map"]) else "node_map"
    )
    steps = pl.concat([steps, by_step(from_inventory(inventory, driven, node_map))])
    leaking = leaks(steps, driven)
    distrusted = doubts(metrics, steps, driven, inventory, leaking, version)
    steps = corrected(steps, distrusted)
    bounds = limits(steps, inventory, settings, version)
    kernel = kernel_memory(steps, driven, inventory, settings, version)
    fleet = fleet_costs(settings.pool, cluster) if settings.pool else {}
    bends = fleet_bends(settings.pool, cluster) if settings.pool else {}
    panel = told.panel.with_columns(pl.col("map_bytes") * kernel.ratio)
    seen = Observed(
        metrics, inventory, version, version_note, cluster, steps, driven, leaking, distrusted,
        bounds, kernel, Aside(kernel.paid, fleet, bends, panel), told.usage, told.spikes,
    )  # fmt: skip
    return replace(seen, doubts=pl.concat([distrusted, _cut(seen)]))


def _cut(seen: Observed) -> pl.DataFrame:
    """Give rows of table doubts: quantities that their limit cut."""
    rows = [
        found | {"cluster": seen.cluster}
        for limit in seen.limits.iter_rows(named=True)
        for found in censored.findings(seen.history(limit), limit)
    ]
    return check(pl.DataFrame(rows, schema=DOUBTS.schema), DOUBTS)


def _read(settings: PlanSettings) -> tuple[Metrics, Inventory]:
    source = _place(settings)
    observed = derivations.observed()["metric"].unique().sort().to_list()
    wanted = [*observed, "cilium_version", NODE_INFO, COUNTERS["packets"]]
    if not is_url(source):
        # Of a server it would be a series for each mode of each CPU of each node
        wanted.append(COUNTERS["softirq"])
    metrics = read(
        source,
        metrics=wanted,
        start=settings.start,
        end=settings.end,
        step=None if settings.step is None else parse_duration(settings.step),
        only_cluster=settings.cluster,
    )
    inventory = inventory_of(settings)
    if settings.source == DEMO:
        metrics = replace(metrics, sources=_relative(metrics.sources, source))
        inventory = replace(inventory, sources=_relative(inventory.sources, source))
    return metrics, inventory


def inventory_of(settings: PlanSettings) -> Inventory:
    """Read the inventory of a plan: what is named, or what lies among the exports.

    Raises
    ------
    ExportError
        If the inventory that is named cannot be read, or holds none.
    """
    source = _place(settings)
    places = [settings.inventory] if settings.inventory else [] if is_url(source) else [source]
    parts = [read_inventory(place, required=place != source) for place in places]
    return parts[0] if parts else Inventory()


def _place(settings: PlanSettings) -> str:
    return str(shipped.path("data", DEMO)) if settings.source == DEMO else settings.source


def _relative(sources: pl.DataFrame, folder: str) -> pl.DataFrame:
    """Name the demo's files as the user named the demo: where they are installed says nothing."""
    return sources.with_columns(pl.col("source").str.replace(folder, DEMO, literal=True))


def detect_version(metrics: Metrics, settings: PlanSettings) -> tuple[str, str | None]:
    """Give the minor version to plan for, and a note where it was not told outright.

    From --cilium, else the label of cilium_version, else the newest version that has all maps
    whose pressure is in the export.
    """
    if settings.cilium is not None:
        return facts.minor(settings.cilium), None
    told = metrics.select("cilium_version")["labels"].str.json_path_match("$.version")
    named = [v for v in told.unique().drop_nulls().sort() if v]
    if named:
        newest = max({facts.minor(v) for v in named}, key=lambda v: tuple(map(int, v.split("."))))
        mixed = len({facts.minor(v) for v in named}) > 1
        return newest, f"agents of versions {named} run together" if mixed else None
    labels = metrics.series["map_name"].drop_nulls().unique().sort()
    for version in reversed(facts.VERSIONS):
        if not labels.is_empty() and all(facts.map_of_label(m, version) for m in labels):
            note = f"Cilium {version} is the newest version with all maps in the export; "
            return version, note + "name the real one with --cilium"
    note = f"the Cilium version is not in the export, {facts.LATEST} is taken; use --cilium"
    return facts.LATEST, note


def missing(metrics: Metrics, inventory: Inventory) -> pl.DataFrame:
    """Give table coverage of what was read; all unknown for a version without facts."""
    try:
        version, _ = detect_version(metrics, PlanSettings())
    except FactError as error:
        row = {"want": "all", "status": "unknown", "source": "cilium_version", "hint": str(error)}
        return check(pl.DataFrame([row], schema=COVERAGE.schema), COVERAGE)
    return coverage(metrics.series["metric"].unique(), steps(metrics), inventory, version)


def before_upgrade(metrics: Metrics, inventory: Inventory, version: str) -> list[str]:
    """Say what an upgrade asks for, where agents run an older version than is planned for."""
    running = _told_version(metrics)
    if running is None or facts.VERSIONS.index(running) >= facts.VERSIONS.index(version):
        return []
    table = upgrade(running, version, inventory)
    asked = f"`capacity upgrade --from {running} --to {version}` tells all {len(table)} changes"
    return [f"agents run {running}, planned is {version}: {asked}", *sentences(table)]


def _told_version(metrics: Metrics) -> str | None:
    """Give the newest minor version that agents tell of themselves."""
    told = metrics.select("cilium_version")["labels"].str.json_path_match("$.version")
    named = {facts.minor(version) for version in told.unique().drop_nulls() if version}
    return max(named, key=facts.VERSIONS.index, default=None)


def _cluster(steps: pl.DataFrame) -> str:
    if steps.is_empty():
        raise ExportError(
            "no Cilium metrics found; wanted are cilium_bpf_map_pressure, cilium_nodes_all_num, "
            "cilium_process_resident_memory_bytes and others of `capacity facts metrics`"
        )
    return str(steps["cluster"][0])


def _with_inventory(table: pl.DataFrame, inventory: Inventory) -> pl.DataFrame:
    """Fill drivers that no metric tells at any time with the inventory's count."""
    counted = {
        "nodes": inventory.nodes,
        "endpoints": inventory.endpoints,
        "identities": inventory.identities,
        "policies": inventory.policies,
    }
    unknown = [
        pl.lit(float(len(frame))).alias(name)
        for name, frame in counted.items()
        if table[name].null_count() == len(table) and not frame.is_empty()
    ]
    return table.with_columns(unknown)
