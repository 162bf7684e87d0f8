"""Forecast → recommendation: what to set today so that the planned cluster fits.

A target passes through small named steps; each says in words what it did. Nothing is raised
beyond what Cilium accepts, a limit that no setting moves is told as such, and what is set already
is left alone where a change would not be worth a restart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.forecast import Fitted
from capacity.growth import Growth
from capacity.recommend.cost import side_effects, totals
from capacity.recommend.present import Present, present
from capacity.recommend.rows import Planned, Question, rows_of
from capacity.recommend.steps import STEPS, Target, sized
from capacity.recommend.together import accepted, one_a_setting, with_exact, within_reach
from capacity.settings import PlanSettings
from capacity.tables import CHANGES, RECOMMENDATION, check

__all__ = [
    "STEPS", "Planned", "Present", "Situation", "Target", "planned_nodes", "present",
    "reachable",
    "recommend", "sized", "with_exact",
]  # fmt: skip

# Node count planned for where the user names none and the history is too short for dates
FALLBACK_GROWTH: Final = 1.5
# What makes a recommendation sure, or not: node count beyond the history, error on unseen data
_SURE_REACH, _FAR_REACH = 1.5, 3.0
_SURE_ERROR, _BAD_ERROR = 0.1, 0.3


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
class Situation:
    """What is known beside the fits.

    Attributes
    ----------
    present
        What is set now.
    steps
        Table steps: which metric tells what, and the sizes of maps over nodes.
    history
        What the numbers rest on: time range and steps, in words.
    endpoints_per_node
        Policy maps on a node: one an endpoint. [1]
    """

    present: Present
    steps: pl.DataFrame
    history: str
    endpoints_per_node: float


def recommend(
    fitted: list[Fitted],
    exhaustion: pl.DataFrame,
    growth: Growth,
    settings: PlanSettings,
    situation: Situation,
) -> pl.DataFrame:
    """Give table recommendation: what breaks first comes first, what is only lowered last."""
    planned = planned_nodes(growth, settings)
    by_key = {_key(item.limit): item for item in fitted}
    largest = _largest_sizes(situation.steps)
    rows: list[dict[str, Any]] = []
    for row in exhaustion.iter_rows(named=True):
        item = by_key.get(_key(row))
        if item is None:
            continue
        question = Question(
            item, row, planned, settings, situation.present, situation.endpoints_per_node,
            largest.get(row["subject"]),
        )  # fmt: skip
        told = {
            "nodes": planned.nodes,
            "evidence": _evidence(item, row, situation),
            "confidence": _confidence(item, row, planned),
        }
        rows += [made | told for made in rows_of(question)]
    rows = accepted(one_a_setting(rows), situation.present)
    rows = [_annotated(row, planned, situation.present, settings) for row in rows]
    rows.sort(key=lambda row: row["status"] == "lower")
    frame = pl.DataFrame(
        [{**row, "rank": i} for i, row in enumerate(rows, start=1)], schema=RECOMMENDATION.schema
    )
    return check(frame, RECOMMENDATION)


def reachable(advice: pl.DataFrame, provider: str | None) -> pl.DataFrame:
    """Leave what users of a managed service can change; of the rest, say whom to ask.

    Parameters
    ----------
    advice
        Table recommendation.
    provider
        As in facts/managed.csv; None: everything can be changed.
    """
    rows = within_reach(advice.to_dicts(), provider)
    return check(pl.DataFrame(rows, schema=RECOMMENDATION.schema), RECOMMENDATION)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("cluster", "component", "subject", "quantity"))


def _largest_sizes(steps: pl.DataFrame) -> dict[str, float]:
    """Newest size of each map on the node where it is largest."""
    sizes = steps.filter(pl.col("quantity") == "map_max_entries").sort("time")
    return dict(sizes.group_by("subject").last().select("subject", "largest").iter_rows())


def _annotated(
    row: dict[str, Any], planned: Planned, present: Present, settings: PlanSettings
) -> dict[str, Any]:
    if row["status"] not in CHANGES:
        return row
    effect = side_effects(present.version).get(row["setting"])
    row = row | totals(row, planned.nodes, present, settings) | {"side_effect": effect}
    return row | {"alternative": row["alternative"] or _alternative(row)}


def _alternative(row: dict[str, Any]) -> str | None:
    """Say what else would help."""
    if row["status"] == "lower":
        return "leave it: nothing breaks"
    if row["component"] != "map":
        return "fewer pods, identities or services; a smaller share is less safe"
    if row["setting"] in ("bpf.ctTcpMax", "bpf.ctAnyMax", "bpf.natMax", "bpf.neighMax"):
        factor = row["target"] / row["current"]
        follows = "follows each node's memory, for all five maps"
        return f"bpf.mapDynamicSizeRatio times {factor:.3g}: {follows}"
    if row["setting"] == "bpf.policyMapMax":
        return "policies that select fewer identities: `capacity policies explain` names them"
    return "fewer objects: split services, or headless ones"


def _evidence(item: Fitted, row: dict[str, Any], situation: Situation) -> str:
    """Name series, worst node, date, model and history."""
    limit = item.limit
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.lit(limit[name]))
        for name in ("component", "subject", "quantity")
    )
    series = situation.steps.filter(same)["series"].unique().sort().to_list()
    newest = item.rows.sort("time").tail(1)
    worst = newest["worst_node"][0] if len(newest) else None
    at = f"{newest['time'][0]:%Y-%m-%d}" if len(newest) else ""
    node = f"worst node {worst} on {at}" if worst else f"newest {at}"
    named = ", ".join(series) or "derived from other series"
    return f"{named}; {node}; {row['reason']}; {situation.history}"


def _confidence(item: Fitted, row: dict[str, Any], planned: Planned) -> str:
    """Say how sure a row is: by reach beyond the history, error on unseen data, verified facts."""
    reach = planned.nodes / max(float(item.rows["nodes"].max() or 1.0), 1.0)  # type: ignore[arg-type]
    error = item.fit["backtest_error"]
    if reach > _FAR_REACH or (error is not None and error > _BAD_ERROR):
        return "low"
    is_known = item.limit["verified"] is not False
    sure = error is not None and error <= _SURE_ERROR and reach <= _SURE_REACH and is_known
    return "high" if sure else "medium"
