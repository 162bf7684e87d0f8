"""The one composition: settings → Plan. Our whole program on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import polars as pl

from capacity import censored, facts, shipped
from capacity.costs import Aside, fleet_costs
from capacity.coverage import coverage
from capacity.doubts import corrected, doubts
from capacity.errors import ExportError, ModelError
from capacity.export import Metrics
from capacity.facts import derivations
from capacity.forecast import Fitted, fit_quantity, worst_by_time
from capacity.forecast_tables import (
    evidence_table,
    exhaustion_row,
    explanation_table,
    fits_table,
    forecast_rows,
    history_rows,
    outlook_table,
    rank,
    scenario_table,
)
from capacity.growth import Growth, grow, growth_table, laws_table
from capacity.inventory import Inventory
from capacity.kernel_memory import KernelMemory, kernel_memory
from capacity.lb_advice import with_tier
from capacity.lb_outlook import tier_outlook
from capacity.limits import limits, node_memory
from capacity.load import read, read_inventory
from capacity.maps import maps
from capacity.observe import by_step, drivers, from_inventory, look
from capacity.observe.leaks import Leak, leaks, without
from capacity.observe.names import NODE_INFO, one_cluster
from capacity.peaks import Extra, extra, is_peaked, peaks, with_reserve
from capacity.policy_outlook import node_costs, outlook
from capacity.recommend import Situation, planned_nodes, present, reachable, recommend, with_exact
from capacity.sensitivity import sensitivity_table
from capacity.service_outlook import service_outlook
from capacity.settings import DEMO, PlanSettings
from capacity.tables import DOUBTS, check
from capacity.telling import Progress as Progress
from capacity.telling import is_url
from capacity.telling import resource as resource
from capacity.throughput.live import COUNTERS
from capacity.units import parse_duration
from capacity.upgrade import sentences, upgrade

Verdict = Literal["fits", "short", "unknown"]

# Frames of a Plan, in reading order; each is a table of `tables` (`curves` is a forecast too)
FRAMES: Final = (
    "exhaustion", "recommendation", "forecast", "explanation", "sensitivity", "outlook",
    "evidence", "scenario", "usage", "spikes", "peaks",
    "maps", "fits", "limits", "drivers", "growth", "growth_laws", "history", "curves",
    "policy_growth", "policy_nodes", "service_growth", "lb_tier", "doubts", "coverage", "sources",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What breaks first, when, and what to set; every frame is a table of `tables`."""

    settings: PlanSettings
    cluster: str
    version: str
    verdict: Verdict
    first_limit: dict[str, Any] | None
    headline: str
    warnings: tuple[str, ...]
    exhaustion: pl.DataFrame
    recommendation: pl.DataFrame
    forecast: pl.DataFrame
    explanation: pl.DataFrame
    sensitivity: pl.DataFrame
    evidence: pl.DataFrame
    usage: pl.DataFrame
    spikes: pl.DataFrame
    peaks: pl.DataFrame
    outlook: pl.DataFrame
    scenario: pl.DataFrame
    maps: pl.DataFrame
    fits: pl.DataFrame
    limits: pl.DataFrame
    drivers: pl.DataFrame
    growth: pl.DataFrame
    growth_laws: pl.DataFrame
    history: pl.DataFrame
    curves: pl.DataFrame
    policy_growth: pl.DataFrame
    policy_nodes: pl.DataFrame
    service_growth: pl.DataFrame
    lb_tier: pl.DataFrame
    doubts: pl.DataFrame
    coverage: pl.DataFrame
    sources: pl.DataFrame

    def _repr_html_(self) -> str:
        """Show the plan in a notebook: verdict and what breaks first."""
        from html import escape

        shown = self.exhaustion.head(8)._repr_html_()
        return f"<p><strong>{escape(self.headline)}</strong></p>{shown}"


def plan(settings: PlanSettings, *, progress: Progress | None = None) -> Plan:
    """Plan the capacity of a cluster.

    Parameters
    ----------
    settings
        What to read, how far to look, how much risk to take.
    progress
        Called with a step's name and the share that is done, 0…1.

    Returns
    -------
    Plan
        Verdict, first limit, and the frames; equal settings over equal data give equal plans.

    Raises
    ------
    ExportError
        If nothing can be read, or the export holds several clusters and none is named.
    ModelError
        If the node count is not known, or no limited quantity can be fitted.
    """
    say = progress or (lambda name, share: None)
    seen = observed(settings, say)
    metrics, inventory, version, driven = seen.metrics, seen.inventory, seen.version, seen.drivers
    steps, bounds, cluster = seen.steps, seen.limits, seen.cluster
    say("fitting", 0.4)
    growth = grow(driven, settings)
    fitted, gaps = _fit_all(seen, growth, settings, say)
    if not fitted:
        raise ModelError(
            f"nothing can be planned: {'; '.join(gaps) or 'no limited quantity found'}"
        )
    say("deciding", 0.9)
    extras = {
        (limit["component"], limit["quantity"]): extra(limit, seen.spikes, seen.kernel, steps)
        for limit in bounds.iter_rows(named=True)
        if is_peaked(limit)
    }
    fitted = [_reserved(item, extras) for item in fitted]
    table = rank([exhaustion_row(item, growth, settings) for item in fitted])
    held = driven["endpoints_per_node"].drop_nulls()
    situation = Situation(
        present(steps, inventory, version, node_memory(inventory, settings)),
        steps,
        _evidence(settings, driven),
        held[-1] if len(held) else 1.0,
    )
    advice = recommend(fitted, table, growth, settings, situation)
    policies = outlook(inventory, growth, settings, situation, cluster)
    services = service_outlook(inventory, growth, settings, situation.present, cluster)
    packets = tier_outlook(metrics, inventory, driven, growth, settings, situation.present, cluster)
    first = _earlier(first_limit(table, settings), policies.first, services.first, packets.first)
    warnings = [seen.version_note, growth.note, *gaps, *_reading(metrics, inventory)]
    warnings += seen.doubts["detail"].to_list()
    warnings += unverified(bounds, version) + far_reach(table)
    warnings += before_upgrade(metrics, inventory, version)
    warnings += [packets.warning] if packets.warning else []
    is_short = policies.is_short or services.is_short or packets.is_short
    advice = with_exact(with_exact(advice, policies.advice), services.advice)
    advice = with_tier(advice, packets.advice)
    return Plan(
        settings=settings,
        cluster=cluster,
        version=version,
        verdict="short" if is_short else verdict(table),
        first_limit=first,
        headline=" ".join(
            filter(
                None,
                (
                    headline(cluster, table, growth, settings),
                    policies.sentence,
                    services.sentence,
                    packets.sentence,
                ),
            )
        ),
        warnings=tuple(w for w in warnings if w),
        exhaustion=table,
        recommendation=reachable(advice, settings.managed),
        forecast=pl.concat(forecast_rows(item, growth, settings) for item in fitted),
        explanation=explanation_table(fitted),
        sensitivity=sensitivity_table(fitted, growth, settings),
        evidence=evidence_table(fitted),
        usage=seen.usage,
        spikes=seen.spikes,
        peaks=peaks(
            fitted, extras, seen.usage, planned_nodes(growth, settings).nodes, settings.risk
        ),
        outlook=outlook_table(fitted, growth, cluster),
        scenario=scenario_table(driven, growth, settings, cluster),
        maps=maps(steps, bounds, inventory, version),
        fits=fits_table([item.fit for item in fitted]),
        limits=bounds,
        drivers=driven,
        growth=growth_table(driven, growth, settings),
        growth_laws=laws_table(growth, cluster),
        history=pl.concat(history_rows(item) for item in fitted),
        curves=pl.concat(forecast_rows(item, growth, settings, curve=True) for item in fitted),
        policy_growth=policies.table,
        policy_nodes=node_costs(inventory, version),
        service_growth=services.table,
        lb_tier=packets.table,
        doubts=seen.doubts,
        coverage=coverage(metrics.series["metric"].unique(), steps, inventory, version),
        sources=pl.concat([metrics.sources, inventory.sources]),
    )


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
        if limit["quantity"] != "memory":
            return rows
        if limit["component"] == "agent":
            rows = self.kernel.history(rows, self.steps)
        return without(rows, limit["component"], self.leaks)


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
    seen = Observed(
        metrics, inventory, version, version_note, cluster, steps, driven, leaking, distrusted,
        bounds, kernel, Aside(kernel.slopes, fleet), told.usage, told.spikes,
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


def _reserved(item: Fitted, extras: dict[tuple[str, str], Extra]) -> Fitted:
    more = extras.get((item.limit["component"], item.limit["quantity"]))
    return item if more is None else with_reserve(item, more)


def _fit_all(
    seen: Observed, growth: Growth, settings: PlanSettings, say: Progress
) -> tuple[list[Fitted], list[str]]:
    fitted, gaps = [], []
    for i, limit in enumerate(seen.limits.iter_rows(named=True)):
        name = limit["subject"] or f"{limit['component']} {limit['quantity']}"
        say(f"fitting {name}", 0.4 + 0.5 * i / len(seen.limits))
        try:
            rows = seen.history(limit)
            fitted.append(fit_quantity(limit, rows, seen.drivers, growth, settings, seen.aside))
        except ModelError as error:
            gaps.append(f"{name} is not planned: {error}")
    return fitted, gaps


def verdict(exhaustion: pl.DataFrame) -> Verdict:
    """Short if anything is, unknown if no limit is known, else fits."""
    states = set(exhaustion["status"])
    return "short" if "short" in states else "fits" if "ok" in states else "unknown"


def first_limit(exhaustion: pl.DataFrame, settings: PlanSettings) -> dict[str, Any] | None:
    """Give what runs out first, as outcome.json holds it; None where nothing is in sight."""
    seen = exhaustion.filter(pl.col("nodes_early").is_not_null())
    if seen.is_empty():
        return None
    row = seen.row(0, named=True)
    date = row["date_early"]
    return {
        "resource": resource(row),
        "kind": row["kind"],
        "nodes": row["nodes_early"],
        "date": None if date is None else date.strftime("%Y-%m-%d"),
        "quantile": settings.risk,
        "nodes_median": row["nodes_median"],
        "probability_within_horizon": row["probability"],
        "setting": row["setting"],
    }


def _earlier(*limits: dict[str, Any] | None) -> dict[str, Any] | None:
    known = [limit for limit in limits if limit is not None]
    return min(known, key=lambda limit: limit["nodes"], default=None)


def headline(cluster: str, exhaustion: pl.DataFrame, growth: Growth, settings: PlanSettings) -> str:
    """Say in one sentence what breaks first, at which node count and date, and how sure that is."""
    first = first_limit(exhaustion, settings)
    now = f"Cluster {cluster} has {growth.now:,.0f} nodes"
    if first is None:
        return f"{now}; no limit of a trend is in sight up to {20 * growth.now:,.0f} nodes."
    median = first["nodes_median"]
    text = f"{now}; first to run out is {first['resource']} ({first['kind']} limit)"
    text += f" at {first['nodes']:,} nodes with {100 * settings.risk:.3g}% risk"
    text += f", {median:,} in the median" if median is not None else ""
    text += f"; from {first['date']}" if first["date"] else ""
    chance = first["probability_within_horizon"]
    if chance is not None:
        within = planned_for(settings, has_dates=growth.paths is not None)
        text += f"; chance within {within}: {chance:.0%}"
    return text + "."


def planned_for(settings: PlanSettings, *, has_dates: bool) -> str:
    """Name how far a plan looks: the horizon, the largest node count asked for, or both.

    >>> planned_for(PlanSettings(nodes=(1200,)), has_dates=True)
    '180d or 1,200 nodes'
    """
    asked = f"{max(settings.nodes):,} nodes" if settings.nodes else None
    parts = [settings.horizon if has_dates or asked is None else None, asked]
    return " or ".join(part for part in parts if part)


def _evidence(settings: PlanSettings, driven: pl.DataFrame) -> str:
    first, last = driven["time"][0], driven["time"][-1]
    return f"history {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {len(driven)} steps"


def _reading(metrics: Metrics, inventory: Inventory) -> Sequence[str]:
    """Say what could not be read; objects of kinds that no plan needs are not worth a warning."""
    rows = pl.concat([metrics.sources, inventory.sources])
    unread = (pl.col("kept") == 0) & pl.col("reason").is_not_null()
    bad = rows.filter(((pl.col("refused") > 0) & pl.col("format").is_not_null()) | unread)
    return [
        f"{row['source']}: {row['refused']} of {row['read']} records refused: {row['reason']}"
        for row in bad.filter(~pl.col("reason").str.contains("are not used$")).iter_rows(named=True)
    ]


def unverified(bounds: pl.DataFrame, version: str) -> list[str]:
    """Say which limits rest on facts that nobody read in Cilium's source."""
    names = bounds.filter(~pl.col("verified"))["subject"].drop_nulls().unique().sort().to_list()
    if not names:
        return []
    return [f"facts of Cilium {version} not verified in its source: {', '.join(names)}"]


def far_reach(exhaustion: pl.DataFrame) -> list[str]:
    """Say where a node count lies far beyond what was observed."""
    first = exhaustion.filter(pl.col("nodes_early").is_not_null()).head(1)
    reach = first["reach"][0] if len(first) else None
    if reach is None or reach <= 1.5:
        return []
    return [
        f"the first limit lies at {reach:.1f} x the largest node count observed: a trend, not a "
        "measurement"
    ]
