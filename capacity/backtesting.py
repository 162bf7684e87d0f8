"""How right forecasts would have been: made again from past times, compared with what then came.

Each forecast sees only what was known at its origin. Other tools' rules are asked the same
question on the same rows (capacity/models/peers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.errors import ModelError
from capacity.forecast import OUTLOOK_DAYS, Fitted, fit_quantity, quantiles
from capacity.growth import MIN_HISTORY_DAYS, grow
from capacity.models.linear_drivers import MIN_ROWS, Array
from capacity.models.peers import PEERS, SIZING
from capacity.models.scoring import inside, pinball, skill
from capacity.observing import Observed, observed
from capacity.settings import PlanSettings
from capacity.tables import SCORES, TRIALS, check

OURS: Final = "capacity"
ALL: Final = "all"
_KEYS: Final = ("cluster", "component", "subject", "quantity")
_TOLD: Final = ("q05", "q50", "q95", "q99")
_DAY: Final = 86_400.0
# Share of the history that the first origin has seen
_FIRST: Final = 0.4
NODES: Final = {"component": "cluster", "subject": None, "quantity": "nodes"}


@dataclass(frozen=True, slots=True)
class Backtest:
    """Every forecast beside what came (table trials), and how good methods were (table scores)."""

    cluster: str
    trials: pl.DataFrame
    scores: pl.DataFrame
    notes: tuple[str, ...]


def backtest(
    settings: PlanSettings,
    *,
    origins: int = 8,
    progress: Callable[[str, float], None] | None = None,
) -> Backtest:
    """Make forecasts from past times of a history and compare them with what came.

    Parameters
    ----------
    settings
        Source and history, as for `plan`; node counts, horizon and targets are not used.
    origins
        Past times to forecast from, evenly over the newest 60 % of the history.
    progress
        Called with a step's name and the share that is done, 0…1.

    Returns
    -------
    Backtest
        Tables trials (a forecast and what came) and scores (coverage, pinball loss, skill).

    Raises
    ------
    ModelError
        If the history is too short: the first origin needs 14 days behind it.
    """
    say = progress or (lambda name, share: None)
    seen = observed(settings, say)
    times = seen.drivers.drop_nulls("nodes")["time"].sort()
    if times.is_empty():
        raise ModelError("the node count is not known: there is nothing to forecast from")
    span = (times[-1] - times[0]).total_seconds() / _DAY
    if span * _FIRST < MIN_HISTORY_DAYS:
        raise ModelError(
            f"history spans {span:.3g} days; a backtest needs {MIN_HISTORY_DAYS / _FIRST:.0f}: "
            "collect more, or read a longer range (--start)"
        )
    frames, notes = [], []
    for i, index in enumerate(np.linspace(len(times) * _FIRST, len(times) - 2, origins)):
        made = times[int(index)]
        say(f"forecasting from {made:%Y-%m-%d}", 0.4 + 0.6 * i / origins)
        found, missed = _from(seen, made, settings)
        frames += found
        notes += missed
    if not frames:
        raise ModelError(f"nothing could be forecast: {'; '.join(notes)}")
    trials = check(pl.concat(frames), TRIALS)
    return Backtest(seen.cluster, trials, score(trials), tuple(dict.fromkeys(notes)))


def _from(
    seen: Observed, made: datetime, settings: PlanSettings
) -> tuple[list[pl.DataFrame], list[str]]:
    """Forecast everything from one past time."""
    known = seen.drivers.filter(pl.col("time") <= made)
    growth = grow(known, settings)
    nodes = seen.drivers.select("time", value="nodes").drop_nulls()
    width = growth.step / _DAY
    keys = NODES | {"cluster": seen.cluster}
    out = [trial(keys, nodes, made, width, lambda s: quantiles(np.asarray(growth.at(s))))]
    notes = []
    for limit in seen.limits.iter_rows(named=True):
        rows = seen.history(limit)
        past = rows.filter(pl.col("time") <= made)
        try:
            fitted = fit_quantity(limit, past, known, growth, settings, seen.aside)
        except ModelError as error:
            notes.append(f"{limit['subject'] or limit['component']} is not compared: {error}")
            continue

        def told(seconds: float, fitted: Fitted = fitted) -> Array:
            return quantiles(fitted.at(np.array([seconds]))[:, 0])

        # What a limit cut is no truth to compare with
        free = rows.filter((pl.col("time") <= made) | ~pl.col("censored"))
        out.append(trial(limit, free, made, width, told))
    return [frame for frame in out if not frame.is_empty()], notes


def trial(
    keys: dict[str, Any],
    rows: pl.DataFrame,
    made: datetime,
    width: float,
    told: Callable[[float], Array | None],
) -> pl.DataFrame:
    """Give rows of table trials: one quantity from one origin, by us and by all peers.

    Parameters
    ----------
    keys
        cluster, component, subject, quantity.
    rows
        Columns time and value, past and future of the origin.
    width
        Of a time step; what came is looked for within half of it. [day]
    told
        Quantiles at seconds ahead, None where we told none.
    """
    at = rows.drop_nulls("value").sort("time")
    days = (at["time"].dt.epoch("s").to_numpy() - made.timestamp()) / _DAY
    values = at["value"].to_numpy()
    past = days <= 0
    if past.sum() < MIN_ROWS:
        return TRIALS.empty()
    pairs = [(h, y, told(h * _DAY)) for h, y in _came(days, values, width)]
    known = [(h, y, q) for h, y, q in pairs if q is not None]
    if not known:
        return TRIALS.empty()
    ahead, truth, ours = (np.array(column) for column in zip(*known, strict=True))
    sizes = keys["quantity"] == "memory"
    methods = {OURS: ours} | {
        name: np.repeat(rule(days[past], values[past], ahead)[:, None], len(_TOLD), axis=1)
        for name, rule in PEERS.items()
        if sizes or name not in SIZING
    }
    frames = [
        pl.DataFrame(
            {"horizon": ahead, "truth": truth, **dict(zip(_TOLD, table.T, strict=True))}
        ).with_columns(pl.lit(name).alias("method"))
        for name, table in methods.items()
    ]
    named = [pl.lit(keys[k], pl.String).alias(k) for k in _KEYS]
    return pl.concat(frames).with_columns(
        pl.lit(made).cast(TRIALS.schema["made"]).alias("made"), *named
    ).select(TRIALS.schema.names())  # fmt: skip


def _came(days: Array, values: Array, width: float) -> list[tuple[float, float]]:
    """Give horizons within the data and what came: the value nearest in time, half a step off."""
    out = []
    for horizon in OUTLOOK_DAYS:
        near = int(np.abs(days - horizon).argmin())
        if days[near] > 0 and abs(days[near] - horizon) <= 0.5 * width + 1e-9:
            out.append((float(horizon), float(values[near])))
    return out


def score(trials: pl.DataFrame) -> pl.DataFrame:
    """Give table scores of trials: of each quantity, and of all together."""
    known = trials.filter(pl.col("truth").abs() > 0)
    name = pl.coalesce("subject", pl.concat_str("component", pl.lit(" "), "quantity"))
    parts = known.with_columns(name=name).partition_by("name", as_dict=True)
    frames = {str(key[0]): part for key, part in sorted(parts.items(), key=str)}
    rows = [r for quantity, part in {ALL: known, **frames}.items() for r in _scored(quantity, part)]
    return check(pl.DataFrame(rows, schema=SCORES.schema), SCORES)


def overall(scores: pl.DataFrame) -> pl.DataFrame:
    """Give scores over all quantities."""
    return scores.filter(pl.col("quantity") == ALL).drop("quantity")


def _scored(quantity: str, part: pl.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for (horizon,), group in sorted(part.partition_by("horizon", as_dict=True).items()):
        ours = group.filter(pl.col("method") == OURS)
        for method in [OURS, *PEERS]:
            own = group.filter(pl.col("method") == method)
            if own.is_empty():
                continue
            # A rule of memory is compared with ours on memory alone
            same = ours.join(own, on=[*_KEYS, "made"], how="semi", nulls_equal=True)
            rows.append(_row(own, same, quantity, float(horizon), method))
    return rows


def _row(
    own: pl.DataFrame, ours: pl.DataFrame, quantity: str, horizon: float, method: str
) -> dict[str, Any]:
    truth = own["truth"].to_numpy()
    low, middle, high, most = (own[name].to_numpy() for name in _TOLD)
    loss, other = _loss(own), _loss(ours)
    whole = method == OURS
    return {
        "quantity": quantity, "horizon": horizon, "method": method, "forecasts": len(own),
        "error": float(np.median(np.abs(middle - truth) / np.abs(truth))),
        "coverage": inside(truth, low, high) if whole else None,
        "above": float(np.mean(truth > most)) if whole else None,
        "pinball": loss, "skill": None if whole else skill(other, loss),
    }  # fmt: skip


def _loss(part: pl.DataFrame) -> float:
    truth = part["truth"].to_numpy()
    return float(np.mean(pinball(truth, part.select(_TOLD).to_numpy()) / np.abs(truth)))
