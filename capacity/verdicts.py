"""What a plan says in words: verdict, what breaks first, how far it looks, what to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from capacity.export import Metrics, told_once
from capacity.growth import Growth
from capacity.inventory import Inventory
from capacity.settings import PlanSettings
from capacity.telling import resource

Verdict = Literal["fits", "short", "unknown"]


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


def earliest(*limits: dict[str, Any] | None) -> dict[str, Any] | None:
    """Give the limit at the fewest nodes."""
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


def span(driven: pl.DataFrame) -> str:
    """Name the history that advice rests on."""
    first, last = driven["time"][0], driven["time"][-1]
    return f"history {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {len(driven)} steps"


def unread(metrics: Metrics, inventory: Inventory) -> Sequence[str]:
    """Say what could not be read; objects of kinds that no plan needs are not worth a warning."""
    rows = told_once(metrics.sources, inventory.sources)
    lost = (pl.col("kept") == 0) & pl.col("reason").is_not_null()
    is_unused = pl.col("reason").str.contains("(?:are|is) not used$")
    bad = rows.filter(((pl.col("refused") > 0) & pl.col("format").is_not_null()) | lost)
    return [
        f"{row['source']}: {row['refused']} of {row['read']} records refused: {row['reason']}"
        for row in bad.filter(~is_unused).iter_rows(named=True)
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
