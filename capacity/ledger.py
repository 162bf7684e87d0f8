"""What past reports forecast against what came: scored as soon as a later report knows it.

A folder of what `capacity plan --out` wrote is enough: each report holds its outlook and the
history that it saw.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.backtesting import NODES, score, trial
from capacity.errors import ExportError, ModelError
from capacity.models.linear_drivers import Array
from capacity.tables import GROWTH, HISTORY, OUTLOOK, TRIALS, Table, check

_KEYS: Final = ("cluster", "component", "subject", "quantity")
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """Reports that were found, forecasts whose time has come (table trials), and their scores."""

    reports: pl.DataFrame
    trials: pl.DataFrame
    scores: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Report:
    place: Path
    outlook: pl.DataFrame
    history: pl.DataFrame


def ledger(folder: str | Path) -> Ledger:
    """Score the forecasts of all reports in a folder whose future later reports have seen.

    Parameters
    ----------
    folder
        Reports in any depth: folders with outcome.json and tables/.

    Raises
    ------
    ExportError
        If there is no report, or one is broken.
    ModelError
        If no report has seen the future of another.
    """
    reports = [_read(mark.parent) for mark in sorted(Path(folder).rglob("outcome.json"))]
    if not reports:
        raise ExportError(f"{folder}: no report found; write some with `capacity plan --out`")
    seen = pl.concat(r.history for r in reports).unique([*_KEYS, "time"], keep="last")
    frames = [frame for report in reports for frame in _scored(report, seen)]
    told = pl.concat(r.outlook for r in reports)
    if not frames:
        first = told["time"].sort()[0] if len(told) else None
        raise ModelError(
            f"{folder}: {len(reports)} reports, none has seen the future of another yet"
            + (f"; the first forecast is for {first:%Y-%m-%d}" if first is not None else "")
        )
    trials = check(pl.concat(frames), TRIALS)
    return Ledger(_listed(reports, trials), trials, score(trials))


def _read(place: Path) -> _Report:
    try:
        json.loads((place / "outcome.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{place}: outcome.json cannot be read: {error!s}") from None
    nodes = _table(place, GROWTH).drop_nulls("observed")
    history = _table(place, HISTORY).select(*_KEYS, "time", "value")
    named = nodes.select(
        "cluster", *(pl.lit(v, pl.String).alias(k) for k, v in NODES.items()), "time",
        value="observed",
    )  # fmt: skip
    return _Report(
        place, _table(place, OUTLOOK), pl.concat([history, named.select(history.columns)])
    )


def _table(place: Path, table: Table) -> pl.DataFrame:
    file = place / "tables" / f"{table.name}.parquet"
    try:
        return check(pl.read_parquet(file), table)
    except FileNotFoundError:
        raise ExportError(
            f"{file}: is missing; reports of older versions hold no outlook, plan anew"
        ) from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ExportError(f"{file}: cannot be read: {error}") from None


def _scored(report: _Report, seen: pl.DataFrame) -> list[pl.DataFrame]:
    """Give rows of table trials of one report: its own past, and what others saw after it."""
    out = []
    for keys, told in report.outlook.partition_by(_KEYS, as_dict=True).items():
        named = dict(zip(_KEYS, keys, strict=True))
        same = [pl.col(k).eq_missing(pl.lit(v, pl.String)) for k, v in named.items()]
        made = told["made"][0]
        past = report.history.filter(*same)
        rows = pl.concat([past, seen.filter(*same, pl.col("time") > made)])
        out.append(
            trial(named, rows.select("time", "value"), made,
                  _width(rows), _lookup(told))
        )  # fmt: skip
    return [frame for frame in out if not frame.is_empty()]


def _lookup(told: pl.DataFrame) -> Any:
    ahead = (told["time"] - told["made"]).dt.total_seconds().to_numpy()
    table = told.select("q05", "q50", "q95", "q99").to_numpy()

    def quantiles(seconds: float) -> Array | None:
        near = int(np.abs(ahead - seconds).argmin())
        return np.asarray(table[near]) if abs(ahead[near] - seconds) < 1 else None

    return quantiles


def _width(rows: pl.DataFrame) -> float:
    """Give the usual spacing of a history in days."""
    if len(rows) < 2:
        return 1.0
    return float(np.median(np.diff(np.sort(rows["time"].dt.epoch("s").to_numpy())))) / _DAY


def _listed(reports: list[_Report], trials: pl.DataFrame) -> pl.DataFrame:
    """Give one row a report: where, when made, forecasts told, and those whose time has come."""
    come = dict(trials.filter(method="capacity").group_by("made").len().iter_rows())
    rows = [
        {
            "report": str(r.place),
            "made": r.outlook["made"].max(),
            "forecasts": len(r.outlook),
            "scored": come.get(r.outlook["made"].max(), 0),
        }
        for r in reports
    ]
    return pl.DataFrame(rows, schema_overrides={"made": OUTLOOK.schema["made"]})
