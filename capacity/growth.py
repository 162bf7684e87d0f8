"""Where the drivers lead over time: drawn paths of the node count and of what moves besides it.

A driver that follows the nodes grows with them; what the nodes do not explain (a denser cluster,
more services on the same nodes) grows by itself. Events that the user knows of are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.errors import ModelError
from capacity.models import NodeGrowth
from capacity.models.growth import MIN_STEPS
from capacity.models.growth_spread import CALIBRATED
from capacity.models.linear_drivers import Array
from capacity.models.trends import TRENDS, level
from capacity.settings import DRIVER_NAMES, PlanSettings
from capacity.tables import GROWTH, GROWTH_LAWS, check

DRAWS: Final = 400
# Node counts printed where the user names none
_STEPS: Final = (1.0, 1.25, 1.5, 2.0, 3.0)
# History from which growth may be told as dates, and how far beyond its own length it may reach
MIN_HISTORY_DAYS: Final = 14.0
LOOK_AHEAD: Final = 3.0
# What a driver does beside the nodes is steadier than a node count: no step that nothing foretold,
# and what looks like a walk of its level is noise with a memory
_BESIDE: Final = replace(CALIBRATED, level=0.03, surprise=0.0, level_walk=0.4, up=1.2)
PER_NODE: Final = "endpoints_per_node"
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Growth:
    """Drawn node counts over time: `paths` (draws × steps of `step` seconds after `start`).

    `more` holds, of other drivers, what comes on top of what the node count explains, in the
    same shape; `laws` the models behind both, by driver.
    """

    now: float
    largest: float
    start: Any
    step: float
    paths: Array | None
    note: str | None
    more: Mapping[str, Array] = field(default_factory=dict)
    laws: Mapping[str, NodeGrowth] = field(default_factory=dict)

    def dates(self, nodes: Array) -> Array:
        """Seconds after `start` at which each draw first has its node count; inf where never."""
        if self.paths is None:
            return np.full(len(nodes), np.inf)
        hit = self.paths >= nodes[:, None]
        first = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf) * self.step
        first[nodes <= self.now] = 0.0
        return np.asarray(first)

    def at(self, seconds: float) -> Array | None:
        """Drawn node counts at a time after `start`."""
        if self.paths is None:
            return None
        return np.asarray(self.paths[:, min(round(seconds / self.step), self.paths.shape[1]) - 1])


def grow(drivers: pl.DataFrame, settings: PlanSettings) -> Growth:
    """Fit the growth of the drivers; without enough history there are node counts, no dates.

    Raises
    ------
    ModelError
        If the node count is not known at any time.
    """
    history = drivers.drop_nulls("nodes").sort("time")
    if history.is_empty():
        raise ModelError(
            "the node count is not known: the export needs cilium_nodes_all_num, or series of all "
            "agents with a label node; or give an inventory with nodes"
        )
    nodes, times = history["nodes"].to_numpy(), history["time"]
    now, largest, start = float(nodes[-1]), float(nodes.max()), times[-1]
    step = float(np.median(np.diff(times.dt.epoch("s").to_numpy()))) if len(times) > 1 else _DAY
    span = (times[-1] - times[0]).total_seconds() / _DAY
    if span < MIN_HISTORY_DAYS:
        note = (
            f"history spans {span:.2g} days; dates need {MIN_HISTORY_DAYS:g} or more, so only "
            f"node counts are told: collect {MIN_HISTORY_DAYS - span:.0f} more days, or read a "
            "longer range (--start)"
        )
        return Growth(now, largest, start, step, None, note)
    steps = int(np.ceil(LOOK_AHEAD * span * _DAY / step))
    notes = []
    if settings.horizon_seconds > LOOK_AHEAD * span * _DAY:
        notes.append(
            f"horizon {settings.horizon} is longer than {LOOK_AHEAD:g} times the history; growth "
            f"is told for {LOOK_AHEAD * span:.0f} days only"
        )
    laws = _laws(history, step, settings)
    paths = laws["nodes"].paths(steps)
    more = {name: _beside(law, steps) for name, law in laws.items() if name != "nodes"}
    notes += _add_events(paths, more, start, step, settings)
    notes += [_told_steps(name, law, start, step) for name, law in laws.items()]
    told = "; ".join(note for note in notes if note)
    return Growth(now, largest, start, step, np.maximum(paths, 1.0), told or None, more, laws)


def _laws(history: pl.DataFrame, step: float, settings: PlanSettings) -> dict[str, NodeGrowth]:
    """Fit nodes, and every other driver as it would have been at the present node count."""
    out = {}
    for i, name in enumerate(DRIVER_NAMES):
        rows = history.drop_nulls(name)
        if len(rows) < max(MIN_STEPS, 0.5 * len(history)) or name in settings.fixed_drivers:
            continue
        seconds = rows["time"].dt.epoch("s").to_numpy().astype(float)
        values = at_present_nodes(rows, name)
        grid = np.arange(seconds[-1], seconds[0] - 1, -step)[::-1]
        if len(grid) < MIN_STEPS:
            continue
        spread = CALIBRATED if name == "nodes" else _BESIDE
        model = NodeGrowth(DRAWS, settings.seed + i, _DAY / step, spread)
        out[name] = model.fit(None, np.interp(grid, seconds, values))
    if "nodes" not in out:
        raise ModelError(
            f"the node count has too few points in time for a growth of its own: {MIN_STEPS} over "
            f"{MIN_HISTORY_DAYS:g} days are needed; collect cilium_nodes_all_num"
        )
    return out


def at_present_nodes(rows: pl.DataFrame, name: str) -> Array:
    """Give a driver's history as it would have been at the newest node count."""
    nodes, values = rows["nodes"].to_numpy(), rows[name].to_numpy()
    if name in ("nodes", PER_NODE):
        return np.asarray(values)
    if has_varied(nodes):
        return np.asarray(values - _slope(nodes, values) * (nodes - nodes[-1]))
    return np.asarray(values * nodes[-1] / np.maximum(nodes, 1.0))


def has_varied(nodes: Array) -> bool:
    """Tell whether the node count varied enough to fit lines in it: 10 % over 8 points."""
    return bool(len(nodes) >= 8 and nodes.max() >= 1.1 * nodes.min())


def _slope(nodes: Array, values: Array) -> float:
    centered = nodes - nodes.mean()
    return max(float(centered @ values / (centered @ centered)), 0.0)


def _beside(law: NodeGrowth, steps: int) -> Array:
    """Draw what a driver gains or loses beside the nodes."""
    return np.asarray(law.paths(steps) - max(level(law.history_), 1.0))


def _add_events(
    paths: Array, more: dict[str, Array], start: Any, step: float, settings: PlanSettings
) -> list[str]:
    """Add known events to the drawn paths; say which lie in the past or beyond."""
    notes = []
    for event in settings.events:
        first = int(np.ceil((event.date - start).total_seconds() / step))
        if first < 1:
            notes.append(f"event {event.text} is not after the history: it is taken to be in it")
            continue
        if first > paths.shape[1]:
            notes.append(f"event {event.text} lies beyond what growth is told for")
            continue
        if event.driver == "nodes":
            paths[:, first - 1 :] += event.amount
            continue
        held = more.setdefault(event.driver, np.zeros_like(paths))
        held[:, first - 1 :] += event.amount
    return notes


def _told_steps(name: str, law: NodeGrowth, start: Any, step: float) -> str:
    """Say which step changes were recognized; of drivers that follow the nodes beside them."""
    rows = len(law.history_)
    told = [
        f"{size:+,.0f} about {start - timedelta(seconds=step * (rows - 1 - at)):%Y-%m-%d}"
        for at, size in zip(law.steps_.at.tolist(), law.steps_.sizes.tolist(), strict=True)
    ]
    beside = "" if name == "nodes" else " beside what the node count explains"
    return f"{name} changed in steps{beside}: {', '.join(told)}" if told else ""


def node_counts(growth: Growth, settings: PlanSettings) -> list[int]:
    """Node counts to print: those asked for, else steps from now and where growth leads."""
    now = round(growth.now)
    if settings.nodes:
        return sorted({now, *settings.nodes})
    counts = {max(round(now * step), now) for step in _STEPS}
    ahead = growth.at(settings.horizon_seconds)
    if ahead is not None:
        counts |= {max(int(np.quantile(ahead, q)), now) for q in (0.5, 0.95)}
    return sorted(counts)


def growth_table(drivers: pl.DataFrame, growth: Growth, settings: PlanSettings) -> pl.DataFrame:
    """Give table growth: observed node counts, then quantiles of the drawn paths."""
    past = drivers.drop_nulls("nodes").select("cluster", "time", observed="nodes")
    if growth.paths is None:
        return check(past.with_columns(_no_quantiles()), GROWTH)
    steps = min(growth.paths.shape[1], round(settings.horizon_seconds / growth.step))
    q = np.quantile(growth.paths[:, :steps], [0.05, 0.5, 0.95], axis=0)
    ahead = pl.DataFrame(
        {
            "cluster": [past["cluster"][0]] * steps,
            "time": [growth.start + timedelta(seconds=growth.step * (i + 1)) for i in range(steps)],
            **dict(zip(("q05", "q50", "q95"), q, strict=True)),
        }
    ).with_columns(pl.col("time").cast(GROWTH.schema["time"]), observed=pl.lit(None, pl.Float64))
    return check(pl.concat([past.with_columns(_no_quantiles()), ahead], how="diagonal"), GROWTH)


def _no_quantiles() -> list[pl.Expr]:
    return [pl.lit(None, pl.Float64).alias(name) for name in ("q05", "q50", "q95")]


def laws_table(growth: Growth, cluster: str) -> pl.DataFrame:
    """Give table growth_laws: how each law did on the drivers' own past, and its share of draws."""
    rows = []
    for driver, model in growth.laws.items():
        for i, law in enumerate(TRENDS):
            rows.append(
                {
                    "cluster": cluster,
                    "driver": driver,
                    "law": law,
                    "share": float(model.weights_[i]),
                    "error": float(model.law_errors_[i]),
                }
            )
    return check(pl.DataFrame(rows, schema=GROWTH_LAWS.schema), GROWTH_LAWS)
