"""Drivers at node counts that are not there yet, drawn from their relation to the node count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.growth import DRAWS, PER_NODE, has_varied
from capacity.models.linear_drivers import Array, block_rows
from capacity.settings import PlanSettings

# Bytes of the maps of a node: a driver of memory that follows from the other drivers
MAP_BYTES: Final = "map_bytes"
# A rate of the busiest node, not a count: each step has its own
REGENERATIONS: Final = "regenerations"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Drivers at node counts: `draws` (draws × counts × drivers), and how each was told."""

    draws: Array
    basis: tuple[str, ...]


def scenario_draws(
    rows: pl.DataFrame,
    names: list[str],
    counts: Array,
    settings: PlanSettings,
    more: Mapping[str, Array] | None = None,
    slopes: Mapping[str, float] | None = None,
) -> Scenario:
    """Draw the drivers at node counts from their relation to the node count in the history.

    A driver is a line in the node count where the count varied by 10 % or more over 8 or more
    points; else in proportion to it (constant density). Endpoints per node stay as they are.

    Parameters
    ----------
    counts
        Node counts, shape (m,), or one set for each draw, shape (DRAWS, m).
    more
        By driver, what comes on top of that at each of them, shape (DRAWS, m).
    slopes
        Bytes of maps that one more of a driver makes (kernel_memory.py), for column map_bytes.
    """
    columns: list[Array] = []
    basis = []
    nodes = rows["nodes"].to_numpy()
    picked = block_rows(len(rows), DRAWS, np.random.default_rng(settings.seed))
    varied, shape = has_varied(nodes), (DRAWS, counts.shape[-1])
    for name in names:
        values = rows[name].to_numpy()
        now = float(values[-1])
        if name in settings.fixed_drivers:
            drawn, how = np.full(shape, settings.fixed_drivers[name]), "set"
        elif name == "nodes":
            drawn, how = np.broadcast_to(counts, shape), "asked"
        elif name == PER_NODE:
            drawn, how = np.full(shape, now), "constant density"
        elif name == MAP_BYTES:
            told = dict(zip(names, columns, strict=False))
            drawn, how = _map_bytes(rows, told, slopes or {}, shape), "kernel's accounting"
        elif name == REGENERATIONS:
            drawn, how = _as_often(values, counts / nodes[-1], settings.seed), "as often as before"
        elif varied:
            drawn, how = _line_draws(nodes, values, picked, counts), "line in nodes, fitted"
        else:
            share = counts / nodes[-1]
            drawn, how = np.broadcast_to(now * share, shape), "in proportion"
        if more is not None and name in more and how != "set":
            drawn = np.maximum(drawn + more[name], 0.0)
        columns.append(drawn)
        basis.append(how)
    return Scenario(np.stack(columns, axis=2), tuple(basis))


def _as_often(values: Array, share: Array, seed: int) -> Array:
    """Give a rate of any step of the history to each draw, in proportion to the nodes."""
    rng = np.random.default_rng(seed + 3)
    return np.asarray(rng.choice(values, DRAWS)[:, None] * share)


def _map_bytes(
    rows: pl.DataFrame, told: dict[str, Array], slopes: Mapping[str, float], shape: tuple[int, int]
) -> Array:
    """Give the newest bytes of maps and what the drivers before it in the scenario add."""
    # The median of three: agents report more for a moment while a map is made anew
    total = np.full(shape, float(np.median(rows[MAP_BYTES].to_numpy()[-3:])))
    for name, slope in slopes.items():
        if name in told:
            total += slope * (told[name] - float(rows[name][-1]))
    return np.asarray(np.maximum(total, 0.0))


def _line_draws(nodes: Array, values: Array, picked: Any, counts: Array) -> Array:
    """Draws of the slope of a line, shape (draws, counts), never below 0."""
    centered = nodes - nodes.mean()
    power = centered @ centered
    best = centered @ values / power
    residuals = values - values.mean() - best * centered
    slope = best + residuals[picked] @ centered / power
    # Anchored at the newest point: the history may hold steps that a line does not follow
    return np.asarray(np.maximum(values[-1] + slope[:, None] * (counts - nodes[-1]), 0.0))
