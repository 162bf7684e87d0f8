"""What was fitted, as tables: node counts and dates of running out, outlook, explanation."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.costs import evidence_rows
from capacity.driver_draws import scenario_draws
from capacity.forecast import DAY, OUTLOOK_DAYS, Fitted, quantiles
from capacity.growth import DRAWS, Growth, node_counts
from capacity.models.bend import bend
from capacity.models.linear_drivers import Array
from capacity.models.pooling import Evidence, evidence, joined
from capacity.models.prior import BASE
from capacity.settings import PlanSettings
from capacity.tables import (
    BENDS,
    EVIDENCE,
    EXHAUSTION,
    EXPLANATION,
    FITS,
    FORECAST,
    HISTORY,
    OUTLOOK,
    SCENARIO,
    check,
)

STATISTIC: Final = "worst node, peak of each step"


def forecast_rows(
    fitted: Fitted, growth: Growth, settings: PlanSettings, *, curve: bool = False
) -> pl.DataFrame:
    """Give table forecast: quantiles of one quantity at the node counts asked for.

    Parameters
    ----------
    curve
        Give closely spaced node counts for charts instead, up to twice the farthest asked for.
    """
    wanted = np.asarray(node_counts(growth, settings), float)
    if curve:
        wanted = fitted.counts[fitted.counts <= 2 * wanted.max()]
    columns = fitted.draws[:, np.searchsorted(fitted.counts, wanted)]
    q = quantiles(columns)
    dates = [_median_date(growth, n) for n in wanted]
    rows = {
        **{k: fitted.limit[k] for k in ("cluster", "component", "subject", "quantity", "unit")},
        "statistic": STATISTIC,
        "limit": fitted.limit["limit"],
        "model": "linear_drivers",
    }
    frame = pl.DataFrame(
        {
            "nodes": wanted.astype(int),
            "time": pl.Series(dates, dtype=FORECAST.schema["time"]),
            **dict(zip(("q05", "q50", "q95", "q99"), q, strict=True)),
            "reach": wanted / growth.largest,
        }
    ).with_columns(pl.lit(v).cast(FORECAST.schema[k]).alias(k) for k, v in rows.items())
    return check(frame, FORECAST)


def outlook_times(growth: Growth) -> Array:
    """Give seconds ahead at which table outlook tells quantities; none without dates."""
    if growth.paths is None:
        return np.empty(0)
    seconds = np.asarray(OUTLOOK_DAYS) * DAY
    within = (seconds >= growth.step) & (seconds <= growth.paths.shape[1] * growth.step)
    return np.asarray(seconds[within])


def outlook_table(fitted: list[Fitted], growth: Growth, cluster: str) -> pl.DataFrame:
    """Give table outlook: the node count and every fitted quantity at times ahead."""
    seconds = outlook_times(growth)
    nodes = {"cluster": cluster, "component": "cluster", "subject": None, "quantity": "nodes",
             "unit": "1", "limit": None}  # fmt: skip
    told = [(nodes, growth.at(second)) for second in seconds]
    drawn = [(nodes, np.stack([d for _, d in told if d is not None], axis=1))] if told else []
    drawn += [(item.limit, item.at(seconds)) for item in fitted] if told else []
    frames = [
        pl.DataFrame(
            {
                "time": [growth.start + timedelta(seconds=s) for s in seconds],
                **dict(zip(("q05", "q50", "q95", "q99"), quantiles(draws), strict=True)),
            }
        ).with_columns(
            pl.lit(growth.start).alias("made"),
            *(pl.lit(limit[k], OUTLOOK.schema[k]).alias(k) for k in nodes),
        )
        for limit, draws in drawn
    ]
    made = pl.concat(frames) if frames else OUTLOOK.empty()
    return check(made.cast({k: OUTLOOK.schema[k] for k in ("made", "time")}), OUTLOOK)


def explanation_table(fitted: list[Fitted]) -> pl.DataFrame:
    """Give table explanation: what makes up each quantity, and what its doubt comes from."""
    rows = []
    for item in fitted:
        parts = item.parts
        low, high = np.quantile(parts.draws, [0.05, 0.95], axis=0)
        mean = parts.draws.mean(axis=0)
        whole = float(mean.sum()) or 1.0
        fixed = dict(zip(parts.names, (None, *item.fixed), strict=True))
        for i, name in enumerate(parts.names):
            known = fixed[name]
            rows.append(
                {
                    **{k: item.limit[k] for k in ("cluster", "component", "subject", "quantity")},
                    "unit": item.limit["unit"], "nodes": round(parts.nodes), "part": name,
                    "q05": low[i], "mean": mean[i], "q95": high[i], "share": mean[i] / whole,
                    "swing": high[i] - low[i], "learnt": parts.learnt[i],
                    "basis": "code" if known is not None and np.isfinite(known)
                    else "observed" if parts.learnt[i] >= 0.5 else "prior",
                    "prior": None if name == BASE else item.believed.source.get(name),
                    "between_nodes": item.believed.nodes.words.get(name),
                }
            )  # fmt: skip
    return check(pl.DataFrame(rows, schema=EXPLANATION.schema), EXPLANATION)


def evidence_table(fitted: list[Fitted]) -> pl.DataFrame:
    """Give table evidence: what histories say of costs, for other clusters to borrow (--pool)."""
    rows = [
        row
        for item in fitted
        for row in evidence_rows(item.limit, _evidence(item), item.rows["time"].max())
    ]
    return check(pl.DataFrame(rows, schema=EVIDENCE.schema), EVIDENCE)


def bends_table(fitted: list[Fitted]) -> pl.DataFrame:
    """Give table bends: of quantities whose node count grew by a tenth over the newer half."""
    told = [
        (item, bend(item.model, item.known.select(item.names).to_numpy(),
                    item.known["value"].to_numpy(), item.known["nodes"].to_numpy()))
        for item in fitted
        if any(np.isnan(cost) for cost in item.fixed)
    ]  # fmt: skip
    rows = [
        {key: item.limit[key] for key in ("cluster", "component", "subject", "quantity")}
        | {"time": item.rows["time"].max(), **asdict(one)}
        for item, one in told
        if one is not None
    ]
    return check(pl.DataFrame(rows, schema=BENDS.schema), BENDS)


def _evidence(item: Fitted) -> Evidence:
    """Sum up what the rows say of the costs that are fitted."""
    drivers, fixed = item.known.select(item.names).to_numpy(), np.asarray(item.fixed)
    free = np.isnan(fixed)
    own = [name for name, is_free in zip(item.names, free, strict=True) if is_free]
    rest = item.known["value"].to_numpy() - drivers @ np.nan_to_num(fixed)
    return joined(evidence(own, drivers[:, free], rest), item.believed.nodes.rows)


def history_rows(fitted: Fitted) -> pl.DataFrame:
    """Give table history: what one quantity was fitted to."""
    keys = ("cluster", "component", "subject", "quantity")
    named = [pl.lit(fitted.limit[key], pl.String).alias(key) for key in keys]
    return check(fitted.rows.with_columns(named), HISTORY)


def _median_date(growth: Growth, nodes: float) -> Any:
    seconds = growth.dates(np.full(DRAWS, nodes))
    return _date(growth, float(np.median(seconds)))


def _date(growth: Growth, seconds: float) -> Any:
    return growth.start + timedelta(seconds=seconds) if np.isfinite(seconds) else None


def exhaustion_row(fitted: Fitted, growth: Growth, settings: PlanSettings) -> dict[str, Any]:
    """Give one row of table exhaustion (rank 0: plan.py ranks them)."""
    limit = fitted.limit
    runs_out = fitted.runs_out()
    seconds = fitted.dates()
    asked = max(settings.nodes, default=0)
    within = (seconds <= settings.horizon_seconds) | (runs_out <= asked)
    probability = float(within.mean()) if growth.paths is not None or asked else None
    early, median = (_quantile(runs_out, q) for q in (settings.risk, 0.5))
    newest = fitted.rows.row(-1, named=True)
    current = newest["value"]
    known = limit["limit"] is not None
    short = known and (probability if probability is not None else float(early == growth.now))
    fit = fitted.fit
    return {
        "rank": 0,
        **{k: limit[k] for k in ("cluster", "component", "subject", "quantity", "unit", "kind")},
        "setting": limit["setting"],
        "current": current,
        "worst_node": newest["worst_node"],
        "limit": limit["limit"],
        "usage": current / limit["limit"] if known and limit["limit"] else None,
        "nodes_early": _whole(early),
        "nodes_median": _whole(median),
        "date_early": _date(growth, _quantile(seconds, settings.risk)),
        "date_median": _date(growth, _quantile(seconds, 0.5)),
        "probability": probability if known else None,
        "model": "linear_drivers",
        "reach": early / growth.largest if np.isfinite(early) else None,
        "status": "unknown" if not known else "short" if short > settings.risk else "ok",
        "reason": f"{fit['model']}, fitted to {fit['points']} points in time; "
        f"limit: {limit['source']}"
        + (f"; held back of it: {fitted.reserved}" if fitted.reserve else "")
        + ("; not verified in Cilium's source" if limit["verified"] is False else ""),
    }


def _quantile(values: Array, q: float) -> float:
    return float(np.quantile(values, q, method="inverted_cdf"))


def _whole(nodes: float) -> int | None:
    return int(nodes) if np.isfinite(nodes) else None


def scenario_table(
    drivers: pl.DataFrame, growth: Growth, settings: PlanSettings, cluster: str
) -> pl.DataFrame:
    """Give table scenario: medians of all known drivers at the node counts asked for."""
    known = [c for c in drivers.columns[2:] if drivers[c].null_count() < 0.2 * len(drivers)]
    rows = drivers.drop_nulls(known)
    counts = np.asarray(node_counts(growth, settings), float)
    drawn = scenario_draws(rows, known, counts, settings)
    middle = np.median(drawn.draws, axis=0)
    frames = [
        pl.DataFrame({"nodes": counts.astype(int), "value": middle[:, i]}).with_columns(
            driver=pl.lit(name), basis=pl.lit(drawn.basis[i]), cluster=pl.lit(cluster)
        )
        for i, name in enumerate(known)
    ]
    return check(pl.concat(frames), SCENARIO)


def rank(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Give table exhaustion in the order in which things break."""
    frame = pl.DataFrame(rows, schema={c.name: c.dtype for c in EXHAUSTION.columns})
    order = ["nodes_early", "nodes_median", "usage"]
    frame = frame.sort(
        *order, "component", "subject", descending=[False, False, True, False, False],
        nulls_last=True,
    )  # fmt: skip
    return check(frame.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)), EXHAUSTION)


def fits_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Give table fits."""
    return check(pl.DataFrame(rows, schema=FITS.schema), FITS)
