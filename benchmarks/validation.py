"""Forecast simulated clusters of ten shapes and compare with their future, beside other rules.

    python benchmarks/validation.py                                # to develop with
    python benchmarks/validation.py --seeds SEEDS --first 800000   # the table of the docs

Prints the tables of docs/validation.md. Each cluster has a seed of its own. Looked at while the
model was made: 20,000 to 20,079, 30,000 to 30,079, 40,000 to 40,059, 50,000 to 50,039, 60,000 to
62,399, 70,000 to 72,499, 80,000 to 84,999 (growth_calibration.py), and 700,000 to 700,749, which
an earlier model had not seen. Those of the docs were drawn once, after everything was fixed.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from capacity.backtesting import OURS, score, trial
from capacity.forecast import Fitted, fit_quantity, quantiles
from capacity.growth import Growth, grow
from capacity.settings import DRIVER_NAMES, PlanSettings
from capacity.simulate.worlds import SHAPES, World, world
from capacity.tables import DRIVERS, TRIALS, check

NEWEST = datetime(2026, 6, 1, tzinfo=UTC)
HORIZONS = (30.0, 90.0, 180.0)
# Seeds to develop with; the table of docs/validation.md is of others, never looked at before
DEVELOPMENT = 20_000
SUBJECTS = {
    "ipcache": ("map", "ipcache", "map_entries"),
    "lb4_services_v2": ("map", "lb4_services_v2", "map_entries"),
    "memory": ("agent", None, "memory"),
}


def rows(drawn: World, values: np.ndarray, name: str) -> pl.DataFrame:
    """One series of a cluster, past and future, as observing it would give; gaps left out."""
    kept = (drawn.seen > 0) | drawn.future
    times = [NEWEST + timedelta(days=float(d)) for d in drawn.days[kept]]
    return pl.DataFrame(
        {"time": pl.Series(times, dtype=DRIVERS.schema["time"]), name: values[kept]}
    )


def drivers(drawn: World) -> pl.DataFrame:
    """Table drivers of what was seen."""
    table = pl.DataFrame({"time": rows(drawn, drawn.days, "day")["time"]})
    for name, values in drawn.drivers.items():
        table = table.join(rows(drawn, values, name), on="time")
    blank = [pl.lit(None, pl.Float64).alias(n) for n in DRIVER_NAMES if n not in drawn.drivers]
    table = table.filter(pl.col("time") <= NEWEST).with_columns(
        pl.lit(drawn.shape).alias("cluster"), *blank
    )
    return check(table.sort("time"), DRIVERS)


def limit_of(name: str, drawn: World, rng: np.random.Generator) -> dict[str, object]:
    """A limited quantity; its limit is what the cluster reaches at some day of the future."""
    component, subject, quantity = SUBJECTS[name]
    future = drawn.quantities[name][drawn.future]
    size = float(future[: int(rng.integers(20, 180))].max()) * rng.uniform(0.98, 1.05)
    return {"cluster": drawn.shape, "component": component, "subject": subject,
            "quantity": quantity, "unit": "1", "limit": size, "kind": "settable", "setting": None,
            "upper": None, "verified": True, "source": "simulated"}  # fmt: skip


def date_held(fitted: Fitted, limit: float, values: np.ndarray, drawn: World) -> bool | None:
    """Whether the true day of exhaustion lies in the 90 % interval of the forecast one.

    A day that does not come within the simulated future is held if the interval reaches beyond.
    None where the limit is reached already.
    """
    if (values[drawn.days <= 0] >= limit).any():
        return None
    reached = drawn.days[drawn.future & (values >= limit)]
    low, high = np.quantile(fitted.dates() / 86_400, [0.05, 0.95], method="inverted_cdf")
    if len(reached) == 0:
        return bool(high > drawn.days[-1])
    return bool(low <= reached[0] + 0.5 and reached[0] - 0.5 <= high)


def one(drawn: World, seed: int) -> tuple[list[pl.DataFrame], list[tuple[str, bool]]]:
    """Forecast one cluster: rows of table trials, and whether exhaustion dates were held."""
    settings, rng = PlanSettings("x", seed=seed), np.random.default_rng(seed)
    known = drivers(drawn)
    growth: Growth = grow(known, settings)
    keys = {"cluster": drawn.shape, "component": "cluster", "subject": None, "quantity": "nodes"}
    table = rows(drawn, drawn.drivers["nodes"], "value")
    frames, dates = [trial(keys, table, NEWEST, 1.0, lambda s: quantiles(growth.at(s)))], []
    for name, values in drawn.quantities.items():
        limit = limit_of(name, drawn, rng)
        table = rows(drawn, values, "value")
        past = table.filter(pl.col("time") <= NEWEST).with_columns(worst_node=pl.lit("n"))
        fitted = fit_quantity(limit, past, known, growth, settings)
        frames.append(
            trial(limit, table, NEWEST, 1.0,
                  lambda s, f=fitted: quantiles(f.at(np.array([s]))[:, 0]))
        )  # fmt: skip
        held = date_held(fitted, float(limit["limit"]), values, drawn)
        dates += [] if held is None else [(name, held)]
    return frames, dates


def markdown(frame: pl.DataFrame) -> str:
    """A frame as a Markdown table."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * len(frame.columns)]
    for row in frame.iter_rows():
        cells = [f"{v:.4g}" if isinstance(v, float) else "" if v is None else str(v) for v in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shares(trials: list[pl.DataFrame]) -> pl.DataFrame:
    """Give, of each horizon, shares inside and above p99 with standard errors over clusters.

    The four forecasts of a cluster depend on each other: its mean counts as one.
    """
    ours = pl.concat(
        frame.filter(pl.col("method") == OURS, pl.col("horizon").is_in(HORIZONS))
        .with_columns(world=pl.lit(number))
        for number, frame in enumerate(trials)
    )  # fmt: skip
    low, high, most = (pl.col(name) for name in ("q05", "q95", "q99"))
    means = ours.group_by("world", "horizon").agg(
        inside=((pl.col("truth") >= low) & (pl.col("truth") <= high)).mean(),
        below=(pl.col("truth") < low).mean(),
        above=(pl.col("truth") > most).mean(),
    )
    told = [
        part
        for name in ("inside", "below", "above")
        for part in (
            (100 * pl.col(name).mean()).round(2).alias(f"{name} %"),
            (100 * pl.col(name).std() / pl.len().sqrt()).round(2).alias(f"{name} se"),
        )
    ]
    return means.group_by("horizon").agg(pl.len().alias("clusters"), *told).sort("horizon")


def main() -> None:
    """Print what docs/validation.md holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=250, help="clusters, each with a seed")
    parser.add_argument("--first", type=int, default=DEVELOPMENT, help="first seed")
    asked = parser.parse_args()
    begin, trials, dates = time.monotonic(), [], []
    names = list(SHAPES)
    for done in range(asked.seeds):
        seed, shape = asked.first + done, names[done % len(names)]
        frames, held = one(world(shape, seed), seed)
        trials.append(pl.concat(frames))
        dates += [(shape, *pair) for pair in held]
        if done % 100 == 99:
            print(f"{done + 1} clusters: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    table = check(pl.concat(trials), TRIALS).filter(pl.col("horizon").is_in(HORIZONS))
    print(markdown(shares(trials)))
    report(table, pl.DataFrame(dates, schema=["shape", "quantity", "held"], orient="row"))


def report(table: pl.DataFrame, held: pl.DataFrame) -> None:
    """Print scores over all, of each quantity, of each shape, and how often dates were held."""
    scores = score(table)
    print(f"\n{len(table)} forecasts of all methods\n")
    print(markdown(scores.filter(pl.col("quantity") == "all").drop("quantity")))
    ours = scores.filter(pl.col("method") == OURS, pl.col("quantity") != "all")
    print("\n" + markdown(ours.drop("method", "skill")))
    shapes = pl.concat(
        score(part).filter(pl.col("quantity") == "all", pl.col("method") == OURS)
        .with_columns(shape=pl.lit(str(key[0])))
        for key, part in table.partition_by("cluster", as_dict=True).items()
    )  # fmt: skip
    print(
        "\n"
        + markdown(shapes.select("shape", "horizon", "forecasts", "error", "coverage", "above"))
    )
    told = held.group_by("quantity").agg(pl.len().alias("limits"), pl.col("held").mean())
    print("\n" + markdown(told.sort("quantity")))
    print(
        f"\nexhaustion dates within their 90 % interval: {held['held'].mean():.3f} of {len(held)}"
    )


if __name__ == "__main__":
    main()
