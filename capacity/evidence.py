"""How much a forecast needs to be made at all, what to collect else, how far out it is asked."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity.facts import derivations
from capacity.models.linear_drivers import MIN_ROWS
from capacity.settings import PlanSettings

# What quantities that are derived are made of
_MADE_OF: Final = {
    "map_entries": ("map_pressure", "map_max_entries"),
    "memory": ("memory_rss", "memory_working_set"),
    "service_ids": ("map_pressure",),
}


def too_few(
    limit: dict[str, Any], observed: pl.DataFrame, rows: pl.DataFrame, names: list[str]
) -> str:
    """Say why a quantity cannot be fitted, and which metrics to collect for how long.

    Parameters
    ----------
    limit
        A row of table limits.
    observed, rows
        What was observed, and what of it has all drivers.
    names
        The drivers.
    """
    own = derivations.observed().filter(
        pl.col("component") == limit["component"],
        pl.col("quantity").is_in([limit["quantity"], *_MADE_OF.get(limit["quantity"], ())]),
    )
    metrics = " and ".join(own["metric"].unique(maintain_order=True)) or "what tells it"
    has = f"{len(observed)} points in time"
    if len(observed) >= MIN_ROWS:
        has += f", but only {len(rows)} with {', '.join(dict.fromkeys(['nodes', *names]))}"
        metrics = f"both at the same times: {metrics}, cilium_nodes_all_num and what tells these"
    return (
        f"{has}; {MIN_ROWS} are needed: collect {metrics} over at least {MIN_ROWS} steps, better "
        "over two weeks"
    )


def set_beyond(rows: pl.DataFrame, names: list[str], settings: PlanSettings) -> float:
    """Give how far a driver was set beyond the most that was observed of it; 1 where within."""
    told = [
        settings.fixed_drivers[name] / float(rows[name].max())  # type: ignore[arg-type]
        for name in names
        if name in settings.fixed_drivers and float(rows[name].max()) > 0  # type: ignore[arg-type]
    ]
    return max([1.0, *told])
