"""Forecast → recommendation: what to set today so that the planned cluster fits.

A target passes through small named steps; each says in words what it did. Nothing is raised
beyond what Cilium accepts, and a limit that no setting moves is told as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from capacity import facts
from capacity.cilium.map_memory import charged_bytes, memlock_bytes
from capacity.forecast import Fitted, Growth
from capacity.settings import PlanSettings
from capacity.tables import RECOMMENDATION, check
from capacity.units import format_bytes

# Node count planned for where the user names none and the history is too short for dates
FALLBACK_GROWTH: Final = 1.5
_MEMORY_STEP: Final = 64 << 20
_CPU_STEP: Final = 10


@dataclass(frozen=True, slots=True)
class Planned:
    """The node count to be ready for, and why that one."""

    nodes: int
    why: str


def planned_nodes(growth: Growth, settings: PlanSettings) -> Planned:
    """Give the node count that recommendations must hold: asked for, else where growth leads."""
    if settings.nodes:
        return Planned(max(settings.nodes), "the largest --nodes")
    ahead = growth.at(settings.horizon_seconds)
    if ahead is not None:
        nodes = max(math.ceil(np.quantile(ahead, 0.95)), math.ceil(growth.now))
        return Planned(nodes, f"95 % quantile of the node count in {settings.horizon}")
    nodes = math.ceil(growth.now * FALLBACK_GROWTH)
    return Planned(nodes, f"{FALLBACK_GROWTH:g} x the present nodes; name others with --nodes")


@dataclass(frozen=True, slots=True)
class Target:
    """A size on its way through the steps."""

    need: float
    value: float
    current: float | None
    upper: float | None
    headroom: float
    unit: str


def with_headroom(target: Target) -> Target:
    """Leave the asked share free."""
    return replace(target, value=target.value / (1 - target.headroom))


def never_lowered(target: Target) -> Target:
    """Keep what is set where it is enough; lowering is another decision."""
    return replace(target, value=max(target.value, target.current or 0.0))


def rounded_up(target: Target) -> Target:
    """Round up: maps to a power of two (hash buckets are anyway), memory to 64Mi, CPU to 10m.

    Buckets: roundup_pow_of_two(max_entries) in kernel/bpf/hashtab.c, Linux 6.12.
    """
    if target.current is not None and target.value == target.current:
        return target
    if target.unit == "1":
        return replace(target, value=float(1 << math.ceil(math.log2(max(target.value, 1)))))
    step = _MEMORY_STEP if target.unit == "byte" else _CPU_STEP
    return replace(target, value=float(math.ceil(target.value / step) * step))


def capped(target: Target) -> Target:
    """Stay within what Cilium accepts."""
    return replace(target, value=min(target.value, target.upper or math.inf))


STEPS: Final[tuple[Callable[[Target], Target], ...]] = (
    with_headroom,
    never_lowered,
    rounded_up,
    capped,
)


def recommend(
    fitted: list[Fitted],
    exhaustion: pl.DataFrame,
    growth: Growth,
    settings: PlanSettings,
    version: str,
    evidence: str,
    endpoints_per_node: float,
) -> pl.DataFrame:
    """Give table recommendation, in the order of table exhaustion.

    Parameters
    ----------
    evidence
        What the numbers rest on: source, time range, nodes.
    endpoints_per_node
        Policy maps on a node: one an endpoint.
    """
    planned = planned_nodes(growth, settings)
    by_key = {_key(item.limit): item for item in fitted}
    rows = []
    for row in exhaustion.iter_rows(named=True):
        item = by_key.get(_key(row))
        if item is None:
            continue
        made = _rows(item, row, planned, settings)
        if made[0]["status"] == "raise" and row["component"] == "map":
            made[0]["cost"] = _map_cost(made[0], item, planned, version, endpoints_per_node)
        rows += [{**blank, "evidence": f"{row['reason']}; {evidence}"} for blank in made]
    frame = pl.DataFrame(
        [{**row, "rank": i} for i, row in enumerate(rows, start=1)], schema=RECOMMENDATION.schema
    )
    return check(frame, RECOMMENDATION)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("cluster", "component", "subject", "quantity"))


def _at(fitted: Fitted, nodes: int, quantile: float) -> float:
    """Quantile of a fitted quantity at a node count, between the counts looked at."""
    values = np.quantile(fitted.draws, quantile, axis=0)
    return float(np.interp(nodes, fitted.counts, values))


def _rows(
    fitted: Fitted, row: dict[str, Any], planned: Planned, settings: PlanSettings
) -> list[dict[str, Any]]:
    if row["kind"] == "hard":
        return [_hard(fitted, row, planned, settings)]
    if row["component"] == "map":
        return [_map(fitted, row, planned, settings)]
    if row["quantity"] == "memory":
        return _memory(fitted, row, planned, settings)
    return [_request(fitted, row, planned, settings, "cpu", 0.95)]


def _base(fitted: Fitted, settings: PlanSettings) -> dict[str, Any]:
    keys = ("cluster", "component", "subject", "setting", "unit")
    blank = dict.fromkeys(RECOMMENDATION.schema)
    return blank | {k: fitted.limit[k] for k in keys} | {"percentile": 1 - settings.risk}


def _target(
    fitted: Fitted, nodes: int, quantile: float, settings: PlanSettings
) -> tuple[Target, float]:
    limit = fitted.limit
    need = _at(fitted, nodes, quantile)
    target = Target(need, need, limit["limit"], limit["upper"], settings.headroom, limit["unit"])
    for step in STEPS:
        target = step(target)
    return target, need


def _map(
    fitted: Fitted, row: dict[str, Any], planned: Planned, settings: PlanSettings
) -> dict[str, Any]:
    limit = fitted.limit
    base = _base(fitted, settings) | {
        "setting": limit["setting"] or f"(no setting) {row['subject']}"
    }
    target, need = _target(fitted, planned.nodes, 1 - settings.risk, settings)
    median = _at(fitted, planned.nodes, 0.5) / (1 - settings.headroom)
    told = f"{need:,.0f} entries at {planned.nodes:,} nodes ({planned.why})"
    if limit["quantity"] == "map_pressure":
        return base | {"status": "unknown", "reason": "the size of this map is not in the export"}
    if target.value == limit["limit"] and need <= target.value:
        return base | {
            "current": limit["limit"], "target": target.value, "status": "ok",
            "reason": f"holds {told} with {1 - need / target.value:.0%} to spare",
        }  # fmt: skip
    if limit["setting"] is None or need > target.value:
        return base | _redesign(row, f"needs {told}, and no setting gives more than "
                                     f"{limit['upper'] or limit['limit']:,.0f}")  # fmt: skip
    when_full = "it evicts the oldest entries" if limit["kind"] == "soft" else "writes fail"
    return base | {
        "current": limit["limit"],
        "target": target.value,
        "lower": min(median, target.value),
        "upper": limit["upper"],
        "status": "raise",
        "reason": f"needs {told}; at {limit['limit']:,.0f} {when_full}",
        "restart": True,
    }


def _map_cost(
    row: dict[str, Any],
    fitted: Fitted,
    planned: Planned,
    version: str,
    endpoints_per_node: float,
) -> float | None:
    """Bytes a node that the larger map costs at the planned fill, by the kernel's accounting.

    A policy map is counted for each endpoint of a node, all as full as the worst: at most so much.
    """
    name = facts.map_of_label(row["subject"], version)
    shape = facts.maps(version).filter(pl.col("map") == name)
    if shape.is_empty() or shape["key_size"][0] is None or shape["value_size"][0] is None:
        return None
    fact = shape.row(0, named=True)
    need = _at(fitted, planned.nodes, row["percentile"])
    flags = 0 if fact["prealloc"] == "always" else 1
    count = endpoints_per_node if fact["per"] == "endpoint" else 1.0

    def cost(size: float) -> float:
        known = (fact["type"], fact["key_size"], fact["value_size"], int(size))
        held = int(min(need, size))
        charged = charged_bytes(*known, flags=flags, entries=held, cpus=1)
        if charged is None:
            return float(memlock_bytes(*known, flags=flags, entries=held, cpus=1))
        return float(charged)

    return count * (cost(row["target"]) - cost(row["current"]))


def _hard(
    fitted: Fitted, row: dict[str, Any], planned: Planned, settings: PlanSettings
) -> dict[str, Any]:
    base = _base(fitted, settings) | {"setting": f"(no setting) {row['subject']}"}
    need = _at(fitted, planned.nodes, 1 - settings.risk)
    told = f"{need:,.0f} at {planned.nodes:,} nodes ({planned.why})"
    if need <= row["limit"]:
        return base | {
            "current": row["limit"], "status": "ok",
            "reason": f"holds {told} with {1 - need / row['limit']:.0%} to spare",
        }  # fmt: skip
    return base | _redesign(row, f"needs {told}; the limit is fixed in Cilium")


def _redesign(row: dict[str, Any], why: str) -> dict[str, Any]:
    most = row["nodes_early"]
    fits = f"; the largest cluster of this shape has {most:,} nodes" if most is not None else ""
    return {
        "current": row["limit"],
        "status": "redesign",
        "reason": f"{why}{fits}: change the shape or split the cluster",
    }


def _memory(
    fitted: Fitted, row: dict[str, Any], planned: Planned, settings: PlanSettings
) -> list[dict[str, Any]]:
    target, need = _target(fitted, planned.nodes, 1 - settings.risk, settings)
    limit = fitted.limit["limit"]
    told = f"{format_bytes(need)} at {planned.nodes:,} nodes ({planned.why})"
    enough = limit is not None and target.value == limit
    bound = _base(fitted, settings) | {
        "current": limit,
        "target": target.value,
        "lower": _at(fitted, planned.nodes, 0.5),
        "status": "ok" if enough else "set" if limit is None else "raise",
        "reason": f"{'holds' if enough else 'needs'} {told}"
        + ("" if enough else f", and {settings.headroom:.0%} to spare before an OOM kill"),
        "cost": 0.0 if enough else target.value - (limit or 0.0),
        "restart": not enough,
    }
    return [bound, _request(fitted, row, planned, settings, "memory", 0.5)]


def _request(
    fitted: Fitted,
    row: dict[str, Any],
    planned: Planned,
    settings: PlanSettings,
    resource: str,
    quantile: float,
) -> dict[str, Any]:
    """Request what the worst node uses at the quantile: a CPU limit would only throttle."""
    unit = fitted.limit["unit"]
    value = _at(fitted, planned.nodes, quantile)
    step = _MEMORY_STEP if unit == "byte" else _CPU_STEP
    target = float(math.ceil(value / step) * step)
    shown = format_bytes(value) if unit == "byte" else f"{value:,.0f} millicores"
    setting = str(fitted.limit["setting"]).replace(".limits.", ".requests.")
    return _base(fitted, settings) | {
        "setting": setting.replace("limits.", "requests."),
        "target": target,
        "lower": value,
        "status": "set",
        "percentile": quantile,
        "reason": f"the worst node uses {shown} of {resource} at {planned.nodes:,} nodes "
        f"({planned.why})",
        "cost": target,
        "restart": True,
    }
