"""Fit each limited quantity to its drivers and draw it at node counts and dates.

One Monte Carlo run ties everything together: each draw has its own costs, driver relations and
growth path, so that dates, node counts and quantiles agree with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.censored import demand
from capacity.costs import Aside, Believed, believed, with_nodes
from capacity.driver_draws import scenario_draws
from capacity.errors import ModelError
from capacity.evidence import set_beyond, too_few
from capacity.facts import derivations
from capacity.growth import DRAWS, Growth, node_counts
from capacity.models import LinearDrivers
from capacity.models.linear_drivers import EXTRAPOLATION_SD, MIN_ROWS, Array
from capacity.models.recurring import Recurring, recurring
from capacity.models.scoring import LEVELS
from capacity.settings import PlanSettings

# Node counts looked at, as multiples of the present one; running out beyond that is «not in sight»
FARTHEST: Final = 20.0
# Points in time looked at ahead; of those told in table outlook, the days
_TIMES: Final = 120
OUTLOOK_DAYS: Final = (1, 3, 7, 14, 30, 60, 90, 180, 365)
DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What makes up a quantity at a node count: draws (DRAWS × parts) of base and each driver.

    `learnt` is how much of what is known of each part comes from the user's own data, 0…1.
    """

    nodes: float
    names: tuple[str, ...]
    draws: Array
    learnt: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """One quantity, fitted: draws at all looked-at node counts, and the fit in words.

    `rows` is what it was fitted to (time, nodes, value, worst_node); `basis` says how each driver
    was told. `dated` holds draws at `seconds` after the newest time, where growth is known.
    `known` are its rows with all drivers; `model`, `season`, `slopes` what was learnt of them.
    `believed` says what was believed of each cost beforehand. `reserve` is held back of the limit,
    for what `reserved` says.
    """

    limit: dict[str, Any]
    rows: pl.DataFrame
    counts: Array
    draws: Array
    fit: dict[str, Any]
    basis: dict[str, str]
    seconds: Array
    dated: Array | None
    parts: Parts
    fixed: tuple[float, ...]
    known: pl.DataFrame
    model: LinearDrivers
    season: Recurring
    slopes: Mapping[str, float] | None
    believed: Believed
    reserve: float = 0.0
    reserved: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Drivers, in the order of the model's costs."""
        return self.parts.names[1:]

    @property
    def free(self) -> float | None:
        """The limit less what is held back of it; None where there is no limit."""
        value = self.limit["limit"]
        return None if value is None else max(float(value) - self.reserve, 0.0)

    def dates(self) -> Array:
        """Seconds after the newest time at which each draw reaches the limit; inf where never."""
        value = self.free
        if value is None or self.dated is None:
            return np.full(len(self.draws), np.inf)
        values = np.concatenate([self.draws[:, :1], self.dated], axis=1)
        over = values >= value
        index = np.where(over.any(axis=1), over.argmax(axis=1), -1)
        return _crossing(np.append(0.0, self.seconds), values, index, float(value))

    def at(self, seconds: Array) -> Array:
        """Give draws at times ahead, shape (draws, times): those looked at that lie nearest."""
        if self.dated is None:
            return np.empty((len(self.draws), 0))
        near = np.abs(self.seconds[:, None] - seconds).argmin(axis=0)
        return np.asarray(self.dated[:, near])

    def runs_out(self) -> Array:
        """Node count at which each draw reaches the limit; inf where beyond the farthest."""
        value = self.free
        if value is None:
            return np.full(len(self.draws), np.inf)
        over = self.draws >= value
        index = np.where(over.any(axis=1), over.argmax(axis=1), -1)
        return _crossing(self.counts, self.draws, index, float(value))


def _crossing(counts: Array, draws: Array, index: Any, limit: float) -> Array:
    """Interpolate between the last node count that fits and the first that does not."""
    rows = np.arange(len(draws))
    left = np.maximum(index - 1, 0)
    low, high = draws[rows, left], draws[rows, index]
    step = np.where(high > low, (limit - low) / np.where(high > low, high - low, 1), 0)
    found = counts[left] + np.clip(step, 0, 1) * (counts[index] - counts[left])
    return np.asarray(np.where(index < 0, np.inf, found))


def fit_quantity(
    limit: dict[str, Any],
    observed: pl.DataFrame,
    drivers: pl.DataFrame,
    growth: Growth,
    settings: PlanSettings,
    aside: Aside | None = None,
) -> Fitted:
    """Fit one quantity of the limits table to its drivers and draw it at many node counts.

    Parameters
    ----------
    limit
        A row of table limits.
    observed
        Columns time, value, worst_node: the peak over nodes at each step; optionally censored.
    drivers
        Table drivers of the cluster.
    aside
        What is known beside the history.

    Raises
    ------
    ModelError
        If fewer than 5 points in time have the quantity and its drivers.
    """
    aside = aside or Aside()
    beliefs = believed(limit, aside)
    terms = _terms(limit, observed, drivers, beliefs)
    names = list(terms)
    rows = observed.join(drivers, on="time").drop_nulls(["value", "nodes", *names]).sort("time")
    if len(rows) < MIN_ROWS:
        raise ModelError(too_few(limit, observed, rows, names))
    free = rows.filter(~pl.col("censored")) if "censored" in rows.columns else rows
    beliefs = with_nodes(beliefs, limit, free["time"], aside)
    rows = demand(rows, names, limit, settings.seed)
    fixed = tuple(np.nan if cost is None else cost for cost in terms.values())
    model = LinearDrivers(
        fixed=fixed, draws=DRAWS, seed=settings.seed, prior=beliefs.of(names),
        bend=EXTRAPOLATION_SD if beliefs.bend is None else beliefs.bend,
    )  # fmt: skip
    model.fit(rows.select(names).to_numpy(), rows["value"].to_numpy())
    season = _without_season(model, rows, names, growth.step)
    counts = _looked_at(growth, settings)
    scenario = scenario_draws(rows, names, counts, settings, slopes=aside.slopes)
    reach = np.maximum(counts / growth.largest, set_beyond(rows, names, settings))
    draws = np.maximum(model.sample(scenario.draws, reach=reach), 0.0)
    draws = draws * season.drawn(DRAWS, np.random.default_rng(settings.seed + 2))[:, None]
    seconds, dated = _dated(model, season, rows, names, growth, settings, aside.slopes)
    fit = _fit_row(limit, model, names, rows)
    basis = dict(zip(names, scenario.basis, strict=True))
    seen = rows.select("time", "nodes", "value", "worst_node")
    at = int(np.searchsorted(counts, max(node_counts(growth, settings))))
    parts = _parts(model, names, scenario.draws[:, at], float(counts[at]), beliefs)
    return Fitted(
        limit, seen, counts, draws, fit, basis, seconds, dated, parts, fixed, rows, model, season,
        aside.slopes, beliefs,
    )  # fmt: skip


def _without_season(
    model: LinearDrivers, rows: pl.DataFrame, names: list[str], step: float
) -> Recurring:
    """Fit a model again without what recurs by day or week, where anything does; give that."""
    at = rows["time"].dt.epoch("s").to_numpy()
    behind = np.round((at[-1] - at) / step)
    drivers, values = rows.select(names).to_numpy(), rows["value"].to_numpy()
    found = recurring(behind, values, model.predict(drivers) - model.shift_, DAY / step)
    if len(found.season.profile):
        model.set_params(spent=found.spent).fit(drivers, values / found.factor(-behind))
    return found


def _parts(
    model: LinearDrivers, names: list[str], drivers: Array, nodes: float, known: Believed
) -> Parts:
    """Take a quantity apart: base with the newest offset, and cost x driver of each driver."""
    base = model.draws_[:, 0] + model.shift_
    draws = np.column_stack([base, model.draws_[:, 1:] * drivers])
    spread = model.draws_[:, 1:].std(axis=0)
    # The variance that data took from the prior; all of it where there is no prior
    learnt = [
        float(np.clip(1 - (own / sd) ** 2, 0, 1)) if np.isfinite(sd) else 1.0
        for own, sd in zip(spread, known.deviations(names), strict=True)
    ]
    return Parts(nodes, ("base", *names), draws, (1.0, *learnt))


def _dated(
    model: LinearDrivers,
    season: Recurring,
    rows: pl.DataFrame,
    names: list[str],
    growth: Growth,
    settings: PlanSettings,
    slopes: Mapping[str, float] | None,
) -> tuple[Array, Array | None]:
    """Draw a quantity at times ahead: on drawn node counts, with drivers that grow beside them."""
    if growth.paths is None:
        return np.empty(0), None
    steps = growth.paths.shape[1]
    days = np.asarray(OUTLOOK_DAYS) * DAY / growth.step
    told = np.round(days[(days >= 1) & (days <= steps)]) - 1
    evenly = np.linspace(0, steps - 1, min(steps, _TIMES))
    picked = np.unique(np.concatenate([evenly, told]).astype(int))
    paths = growth.paths[:, picked]
    more = {name: drawn[:, picked] for name, drawn in growth.more.items()}
    drivers = scenario_draws(rows, names, paths, settings, more, slopes).draws
    reach = np.maximum(paths / growth.largest, set_beyond(rows, names, settings))
    ahead = picked + 1.0
    drawn = np.maximum(model.sample(drivers, reach=reach, ahead=ahead), 0.0)
    return ahead * growth.step, drawn * season.factor(ahead)


def _looked_at(growth: Growth, settings: PlanSettings) -> Array:
    now = growth.now
    # Whole nodes: a forecast at 1,054.6 would be told beside one at 1,054
    dense = np.round(now * np.geomspace(1.0, FARTHEST, 120))
    return np.unique(np.concatenate([dense, np.asarray(node_counts(growth, settings), float)]))


def _terms(
    limit: dict[str, Any], observed: pl.DataFrame, drivers: pl.DataFrame, known: Believed
) -> dict[str, float | None]:
    """Drivers of a quantity with their fixed costs, as facts/structure.csv tells; known ones only.

    A driver that never varied cannot be told from the base: it is left out, unless its cost is
    known from elsewhere or from the fleet.
    """
    rows = derivations.structure(limit["component"], limit["subject"], limit["quantity"])
    within = observed.join(drivers, on="time")
    out: dict[str, float | None] = {}
    for name, cost in rows.select("driver", "per_unit").iter_rows():
        if name not in within.columns:
            continue
        values = within[name].drop_nulls()
        enough = len(values) >= 0.8 * len(within) and (values.n_unique() > 1 or name in known.costs)
        if enough:
            out[name] = cost
    return out or {"nodes": None}


def _fit_row(
    limit: dict[str, Any], model: LinearDrivers, names: list[str], rows: pl.DataFrame
) -> dict[str, Any]:
    parts = [f"{_told(model.intercept_, rows):.4g}"]
    for name, cost, fixed in zip(names, model.coef_, model.fixed or (), strict=True):
        if cost == 0:
            continue
        parts.append(f"{cost:.4g} x {name}" + ("" if np.isnan(fixed) else " (by Cilium's code)"))
    error, coverage = _backtest(model, names, rows)
    return {
        **{k: limit[k] for k in ("cluster", "component", "subject", "quantity")},
        "model": " + ".join(parts),
        "points": len(rows),
        "spread": float(model.residuals_.std()),
        "backtest_error": error,
        "backtest_coverage": coverage,
    }


def _told(base: float, rows: pl.DataFrame) -> float:
    """Give the base, or 0 where it is rounding noise beside the values."""
    return base if base > 1e-9 * float(np.abs(rows["value"].to_numpy()).max()) else 0.0


def _backtest(
    model: LinearDrivers, names: list[str], rows: pl.DataFrame
) -> tuple[float | None, float | None]:
    """Fit on the first two thirds; median error and coverage of the 90 % interval on the rest."""
    cut = len(rows) * 2 // 3
    if cut < 8:
        return None, None
    drivers, target = rows.select(names).to_numpy(), rows["value"].to_numpy()
    past = LinearDrivers(**model.get_params() | {"draws": 100, "spent": 0.0})
    past.fit(drivers[:cut], target[:cut])
    nodes = rows["nodes"].to_numpy()
    drawn = past.sample(drivers[cut:], reach=nodes[cut:] / nodes[:cut].max())
    low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95], axis=0)
    truth = target[cut:]
    error = np.median(np.abs(middle - truth) / np.maximum(np.abs(truth), 1e-12))
    return float(error), float(np.mean((low <= truth) & (truth <= high)))


def worst_by_time(steps: pl.DataFrame, limit: dict[str, Any]) -> pl.DataFrame:
    """Give time, value, worst_node: the largest value over nodes at each step, never the mean."""
    return steps.filter(
        pl.col("component") == limit["component"],
        pl.col("subject").eq_missing(pl.lit(limit["subject"], pl.String)),
        pl.col("quantity") == limit["quantity"],
        pl.col("cluster") == limit["cluster"],
    ).select("time", "worst_node", value="largest")


def quantiles(draws: Array) -> Array:
    """Give quantiles of draws at the levels that tables tell, shape (4, m)."""
    return np.asarray(np.quantile(draws, LEVELS, axis=0))
