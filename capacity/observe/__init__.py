"""Samples → observations (tidy, unit known, counters turned to rates) and drivers.

Which metric tells which quantity is a row of facts/observed.csv. Nothing is interpolated: a step
without a sample has no row. Replicas that scraped the same target are merged, not summed.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from capacity.export import Metrics
from capacity.observe.driver_table import drivers
from capacity.observe.panel import node_panel
from capacity.observe.quantities import from_inventory
from capacity.observe.sizes import map_sizes
from capacity.observe.spikes import spikes
from capacity.observe.stepped import by_step, stepped
from capacity.observe.told import grid_step, told
from capacity.observe.usage import usage
from capacity.tables import OBSERVATIONS, check

__all__ = [
    "Look", "by_step", "drivers", "from_inventory", "grid_step", "look", "map_sizes", "observe",
    "steps",
]  # fmt: skip


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
    found = told(metrics, step)
    rows, targets = found.rows, found.targets
    named = rows.sort("target", "time").join(targets, on="target", maintain_order="left")
    return check(named, OBSERVATIONS)


def steps(metrics: Metrics, step: float | None = None) -> pl.DataFrame:
    """Give table steps of an export; as `by_step(observe(metrics))` without making all the rows."""
    found = told(metrics, step)
    return stepped(found.rows, found.targets)


@dataclass(frozen=True, slots=True)
class Look:
    """What was observed, brought together: tables steps, usage, spikes, node_panel."""

    steps: pl.DataFrame
    usage: pl.DataFrame
    spikes: pl.DataFrame
    panel: pl.DataFrame


def look(metrics: Metrics, step: float | None = None) -> Look:
    """Give tables steps, usage, spikes and node_panel of an export."""
    found = told(metrics, step)
    own = found.targets.filter(pl.col("target") < found.own)
    return Look(
        stepped(found.rows, found.targets), usage(found.rows, found.targets),
        spikes(metrics.samples, found.keyed, own), node_panel(found.rows, found.targets),
    )  # fmt: skip
