"""When a resource that is counted exactly runs out: its node count → date, chance, outcome row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from capacity.growth import Growth
from capacity.settings import PlanSettings


@dataclass(frozen=True, slots=True)
class RunsOut:
    """What runs out, as outcome.json has it, and whether it does within the plan."""

    first: dict[str, Any]
    is_short: bool


def runs_out(
    resource: str,
    kind: str,
    setting: str | None,
    nodes: int,
    growth: Growth,
    settings: PlanSettings,
) -> RunsOut:
    """Tell the date and chance of reaching a node count at which a resource is used up."""
    draws = 1 if growth.paths is None else len(growth.paths)
    seconds = growth.dates(np.full(draws, float(nodes)))
    asked = max(settings.nodes, default=0)
    within = (seconds <= settings.horizon_seconds) | (nodes <= max(asked, growth.now))
    known = growth.paths is not None or asked or nodes <= growth.now
    chance = float(within.mean()) if known else None
    early = float(np.quantile(seconds, settings.risk, method="inverted_cdf"))
    date = growth.start + timedelta(seconds=early) if np.isfinite(early) else None
    first = {
        "resource": resource,
        "kind": kind,
        "nodes": nodes,
        "date": None if date is None else date.strftime("%Y-%m-%d"),
        "quantile": settings.risk,
        "nodes_median": nodes,
        "probability_within_horizon": chance,
        "setting": setting,
    }
    return RunsOut(first, is_short=chance is not None and chance > settings.risk)
