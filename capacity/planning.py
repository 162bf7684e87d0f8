"""The one composition: settings → Plan. Our whole program on one page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from capacity.causes import causes_table
from capacity.coverage import coverage
from capacity.errors import ModelError
from capacity.export import told_once
from capacity.forecast import Fitted, fit_quantity
from capacity.forecast_tables import (
    bends_table,
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
from capacity.lb_advice import with_tier
from capacity.lb_outlook import TierOutlook, tier_outlook
from capacity.limits import node_memory
from capacity.map_fill import drivers_of, map_fill, unseen
from capacity.maps import maps
from capacity.observing import Observed, before_upgrade, observed
from capacity.peaks import Extra, extra, is_peaked, peaks, with_reserve
from capacity.policy_outlook import Outlook, node_costs, outlook
from capacity.recommend import Situation, planned_nodes, present, reachable, recommend, with_exact
from capacity.sensitivity import sensitivity_table
from capacity.service_outlook import ServiceOutlook, service_outlook
from capacity.settings import PlanSettings
from capacity.telling import Progress
from capacity.verdicts import (
    Verdict,
    earliest,
    far_reach,
    first_limit,
    headline,
    span,
    unread,
    unverified,
    verdict,
)

# Frames of a Plan, in reading order; each is a table of `tables` (`curves` is a forecast too)
FRAMES: Final = (
    "exhaustion", "recommendation", "forecast", "explanation", "causes", "sensitivity", "outlook",
    "evidence", "bends", "scenario", "usage", "spikes", "peaks",
    "maps", "map_fill", "fits", "limits", "drivers", "growth", "growth_laws", "history", "curves",
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
    causes: pl.DataFrame
    sensitivity: pl.DataFrame
    evidence: pl.DataFrame
    bends: pl.DataFrame
    usage: pl.DataFrame
    spikes: pl.DataFrame
    peaks: pl.DataFrame
    outlook: pl.DataFrame
    scenario: pl.DataFrame
    maps: pl.DataFrame
    map_fill: pl.DataFrame
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
    say("fitting", 0.4)
    growth = grow(seen.drivers, settings)
    fitted, gaps = _fit_all(seen, growth, settings, say)
    if not fitted:
        raise ModelError(
            f"nothing can be planned: {'; '.join(gaps) or 'no limited quantity found'}"
        )
    say("deciding", 0.9)
    extras = _extras(seen)
    fitted = [_reserved(item, extras) for item in fitted]
    table = rank([exhaustion_row(item, growth, settings) for item in fitted])
    situation = _situation(seen, settings)
    advice = recommend(fitted, table, growth, settings, situation)
    exact = _exact(seen, growth, settings, situation)
    policies, services, packets = exact
    advice = with_exact(with_exact(advice, policies.advice), services.advice)
    advice = with_tier(advice, packets.advice)
    sentences = (headline(seen.cluster, table, growth, settings), *(e.sentence for e in exact))
    drivers = drivers_of(seen, policies.table, services.table)
    filled = map_fill(seen, drivers, settings, planned_nodes(growth, settings).nodes)
    blind = unseen(filled, seen.limits, seen.version)
    warnings = (*_warnings(seen, table), growth.note, *gaps, *blind, packets.warning)
    return Plan(
        settings=settings,
        cluster=seen.cluster,
        version=seen.version,
        verdict="short" if any(e.is_short for e in exact) else verdict(table),
        first_limit=earliest(first_limit(table, settings), *(e.first for e in exact)),
        headline=" ".join(filter(None, sentences)),
        warnings=tuple(filter(None, warnings)),
        exhaustion=table,
        recommendation=reachable(advice, settings.managed),
        policy_growth=policies.table,
        service_growth=services.table,
        lb_tier=packets.table,
        map_fill=filled,
        **_fitted_frames(fitted, growth, settings),
        **_observed_frames(seen),
        peaks=peaks(
            fitted, extras, seen.usage, planned_nodes(growth, settings).nodes, settings.risk
        ),
        outlook=outlook_table(fitted, growth, seen.cluster),
        scenario=scenario_table(seen.drivers, growth, settings, seen.cluster),
        growth=growth_table(seen.drivers, growth, settings),
        growth_laws=laws_table(growth, seen.cluster),
    )


def _fitted_frames(
    fitted: list[Fitted], growth: Growth, settings: PlanSettings
) -> dict[str, pl.DataFrame]:
    """Give the frames that hold rows of each fitted quantity."""
    explanation = explanation_table(fitted)
    sensitivity = sensitivity_table(fitted, growth, settings)
    return {
        "forecast": pl.concat(forecast_rows(item, growth, settings) for item in fitted),
        "curves": pl.concat(forecast_rows(item, growth, settings, curve=True) for item in fitted),
        "history": pl.concat(history_rows(item) for item in fitted),
        "explanation": explanation,
        "sensitivity": sensitivity,
        "causes": causes_table(explanation, sensitivity),
        "evidence": evidence_table(fitted),
        "bends": bends_table(fitted),
        "fits": fits_table([item.fit for item in fitted]),
    }


def _observed_frames(seen: Observed) -> dict[str, pl.DataFrame]:
    """Give the frames that tell what is, before anything is fitted."""
    metrics, inventory, version = seen.metrics, seen.inventory, seen.version
    return {
        "usage": seen.usage,
        "spikes": seen.spikes,
        "limits": seen.limits,
        "drivers": seen.drivers,
        "doubts": seen.doubts,
        "maps": maps(seen.steps, seen.limits, inventory, version),
        "policy_nodes": node_costs(inventory, version),
        "coverage": coverage(metrics.series["metric"].unique(), seen.steps, inventory, version),
        "sources": told_once(metrics.sources, inventory.sources),
    }


def _situation(seen: Observed, settings: PlanSettings) -> Situation:
    """Tell what is set today, and what advice rests on."""
    memory = node_memory(seen.inventory, settings)
    held = seen.drivers["endpoints_per_node"].drop_nulls()
    return Situation(
        present(seen.steps, seen.inventory, seen.version, memory),
        seen.steps,
        span(seen.drivers),
        held[-1] if len(held) else 1.0,
    )


def _exact(
    seen: Observed, growth: Growth, settings: PlanSettings, situation: Situation
) -> tuple[Outlook, ServiceOutlook, TierOutlook]:
    """Look ahead where entries are counted, not fitted, and at the packets of the tier."""
    inventory, now, cluster = seen.inventory, situation.present, seen.cluster
    return (
        outlook(inventory, growth, settings, situation, cluster),
        service_outlook(inventory, growth, settings, now, cluster),
        tier_outlook(seen.metrics, inventory, seen.drivers, growth, settings, now, cluster),
    )


def _warnings(seen: Observed, exhaustion: pl.DataFrame) -> list[str | None]:
    return [
        seen.version_note,
        *unread(seen.metrics, seen.inventory),
        *seen.doubts["detail"],
        *unverified(seen.limits, seen.version),
        *far_reach(exhaustion),
        *before_upgrade(seen.metrics, seen.inventory, seen.version),
    ]


def _extras(seen: Observed) -> dict[tuple[str, str], Extra]:
    """Give what starts and crowds of pods add to quantities that have peaks."""
    return {
        (limit["component"], limit["quantity"]): extra(limit, seen.spikes, seen.kernel, seen.steps)
        for limit in seen.limits.iter_rows(named=True)
        if is_peaked(limit)
    }


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
