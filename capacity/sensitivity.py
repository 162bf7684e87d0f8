"""What moves a forecast: each thing that is not known from its low to its high end, one at a time.

The longest bar of a tornado chart is what to find out first, or to act on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.driver_draws import scenario_draws
from capacity.evidence import set_beyond
from capacity.forecast import Fitted
from capacity.growth import Growth, node_counts
from capacity.models.linear_drivers import Array
from capacity.settings import PlanSettings
from capacity.tables import SENSITIVITY, check

_ENDS: Final = (0.05, 0.95)
# 5 % and 95 % quantiles of the standard normal
_NORMAL: Final = 1.6448536269514722
GROWTH: Final = "growth of the node count"
NOISE: Final = "single steps beside the fit"
BEND: Final = "a bend of the law beyond the largest size observed"
SEASON: Final = "time of the day or week"


@dataclass(frozen=True, slots=True)
class _Case:
    """Medians that everything else is held at: nodes, drivers, and the seconds ahead, if any."""

    nodes: float
    drivers: Array
    ahead: float | None
    index: int


def sensitivity_table(fitted: list[Fitted], growth: Growth, settings: PlanSettings) -> pl.DataFrame:
    """Give table sensitivity of all fitted quantities.

    Each is told at the end of the horizon; at the largest node count asked for where node counts
    are, or where the history is too short for dates.
    """
    rows = [row for item in fitted for row in _rows(item, growth, settings)]
    return check(pl.DataFrame(rows, schema=SENSITIVITY.schema), SENSITIVITY)


def _rows(item: Fitted, growth: Growth, settings: PlanSettings) -> list[dict[str, Any]]:
    case = _case(item, growth, settings)
    center = _value(item, case.drivers)
    told = [
        *_growing(item, case, growth, settings),
        *_costs(item, case),
        *_rest(item, case, growth, settings),
    ]
    moving = [t for t in told if t["at_low"] != t["at_high"]]
    moving.sort(key=lambda t: (-abs(t["at_high"] - t["at_low"]), t["factor"]))
    when = None if case.ahead is None else growth.start + timedelta(seconds=case.ahead)
    common = {
        **{k: item.limit[k] for k in ("cluster", "component", "subject", "quantity", "unit")},
        "nodes": round(case.nodes), "time": when, "center": center,
    }  # fmt: skip
    return [
        common | t | {"rank": i + 1, "swing": abs(t["at_high"] - t["at_low"])}
        for i, t in enumerate(moving)
    ]


def _case(item: Fitted, growth: Growth, settings: PlanSettings) -> _Case:
    if growth.paths is None or settings.nodes:
        nodes, ahead, index = float(max(node_counts(growth, settings))), None, -1
    else:
        steps = growth.paths.shape[1]
        index = min(max(round(settings.horizon_seconds / growth.step), 1), steps) - 1
        ahead = (index + 1) * growth.step
        nodes = float(np.median(growth.paths[:, index]))
    return _Case(nodes, _drivers(item, nodes, growth, settings, index), ahead, index)


def _drivers(
    item: Fitted,
    nodes: float,
    growth: Growth,
    settings: PlanSettings,
    index: int,
    beside: tuple[str, float] | None = None,
) -> Array:
    """Give medians of the drivers at a node count; one of them at another quantile beside it."""
    more = None
    if index >= 0:
        at = dict.fromkeys(growth.more, 0.5) | dict([beside] if beside else [])
        more = {
            name: np.full((len(drawn), 1), np.quantile(drawn[:, index], at[name]))
            for name, drawn in growth.more.items()
        }
    counts = np.array([nodes])
    names = list(item.names)
    drawn = scenario_draws(item.known, names, counts, settings, more, item.slopes).draws
    return np.asarray(np.median(drawn[:, 0], axis=0))


def _value(item: Fitted, drivers: Array) -> float:
    model = item.model
    costs = np.median(model.draws_, axis=0)
    return max(float(costs[0] + model.shift_ + costs[1:] @ drivers), 0.0)


def _growing(
    item: Fitted, case: _Case, growth: Growth, settings: PlanSettings
) -> list[dict[str, Any]]:
    """Move the node count, and what each driver does beside it."""
    if growth.paths is None or case.index < 0:
        return []
    ends = [float(np.quantile(growth.paths[:, case.index], q)) for q in _ENDS]
    values = [_value(item, _drivers(item, n, growth, settings, case.index)) for n in ends]
    out = [_row(GROWTH, "growth", "1", ends, values, "growth laws")]
    for name in set(item.names) & set(growth.more):
        told = [_drivers(item, case.nodes, growth, settings, case.index, (name, q)) for q in _ENDS]
        at = item.names.index(name)
        levels = [float(drivers[at]) for drivers in told]
        values = [_value(item, drivers) for drivers in told]
        out.append(_row(f"{name} beside the nodes", "growth", "1", levels, values, "growth laws"))
    return out


def _costs(item: Fitted, case: _Case) -> list[dict[str, Any]]:
    """Move what one more of each driver costs, and the part that is always there.

    Costs that were fitted together depend on each other: where one is higher, another is lower.
    A bar is the mean over the draws in which this cost has that size, to first order.
    """
    draws, center = item.model.draws_, _value(item, case.drivers)
    middle, out = np.median(draws, axis=0), []
    whole = draws @ np.append(1.0, case.drivers)
    for i, name in enumerate(("base", *item.names)):
        ends = [float(np.quantile(draws[:, i], q)) for q in _ENDS]
        power = float(draws[:, i].var())
        slope = float(np.cov(draws[:, i], whole, bias=True)[0, 1]) / power if power > 0 else 0.0
        values = [center + (end - float(middle[i])) * slope for end in ends]
        learnt = item.parts.learnt[i]
        is_code = i > 0 and np.isfinite(item.fixed[i - 1])
        basis = "code" if is_code else "observed" if learnt >= 0.5 else "prior"
        told = "the part that is always there" if i == 0 else f"cost of one of {name}"
        out.append(_row(told, "cost", "of the quantity", ends, values, basis))
    return out


def _rest(
    item: Fitted, case: _Case, growth: Growth, settings: PlanSettings
) -> list[dict[str, Any]]:
    """Move what stands beside drivers: noise of single steps, the season, a bend of the line."""
    center, model = _value(item, case.drivers), item.model
    ends = [float(np.quantile(model.residuals_, q)) for q in _ENDS]
    out = [_row(NOISE, "noise", item.limit["unit"], ends, [center + e for e in ends], "observed")]
    profile = item.season.season.profile
    if len(profile):
        parts = [float(np.quantile(1 + profile, q)) for q in _ENDS]
        values = [center * part for part in parts]
        out.append(_row(SEASON, "season", "1", parts, values, "observed"))
    reach = max(case.nodes / growth.largest, set_beyond(item.known, list(item.names), settings))
    if reach > 1:
        free = np.isnan(np.asarray(item.fixed))
        grown = float(np.median(model.draws_[:, 1:], axis=0)[free] @ case.drivers[free])
        bends = [-_NORMAL * model.bend, _NORMAL * model.bend]
        values = [center + grown * (reach**bend - 1) for bend in bends]
        basis = "fleet" if item.believed.bend is not None else "judgment"
        out.append(_row(BEND, "reach", "1", bends, values, basis))
    return out


def _row(
    factor: str, kind: str, unit: str, ends: list[float], values: list[float], basis: str
) -> dict[str, Any]:
    return {
        "factor": factor, "kind": kind, "factor_unit": unit, "low": ends[0], "high": ends[1],
        "at_low": values[0], "at_high": values[1], "basis": basis,
    }  # fmt: skip
