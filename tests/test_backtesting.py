"""Backtest and ledger: nothing is seen too early, and what is told is what came."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import capacity
from capacity import backtesting
from capacity.backtesting import NODES, OURS, Backtest, score, trial
from capacity.cli import cli
from capacity.errors import ExportError, ModelError
from capacity.ledger import ledger
from capacity.outcome import fill
from capacity.planning import Plan
from capacity.settings import PlanSettings
from capacity.tables import OUTLOOK, SCORES, TRIALS, check

QUANTILES = ("q05", "q50", "q95", "q99")
MADE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tested() -> Backtest:
    return capacity.backtest(PlanSettings(), origins=2)


def rows(values: np.ndarray, first: int) -> pl.DataFrame:
    times = [MADE + timedelta(days=first + i) for i in range(len(values))]
    return pl.DataFrame({"time": times, "value": values})


def test_a_backtest_gives_declared_tables_and_compares_all_methods(tested: Backtest) -> None:
    check(tested.trials, TRIALS)
    check(tested.scores, SCORES)
    methods = set(backtesting.overall(tested.scores)["method"])
    assert methods == {OURS, "naive", "predict_linear", "straight line", "VPA", "KRR"}
    assert tested.trials["made"].n_unique() == 2


def test_what_came_is_what_the_history_holds(tested: Backtest, demo: Plan) -> None:
    plan_drivers = demo.drivers.select("time", "nodes")
    told = tested.trials.filter(quantity="nodes", method=OURS)
    came = told.with_columns(time=pl.col("made") + pl.duration(days=pl.col("horizon")))
    joined = came.join(plan_drivers, on="time", how="left")
    assert joined["truth"].equals(joined["nodes"], check_names=False)


def test_a_forecast_does_not_change_with_what_came_later() -> None:
    past = 100 + 2.0 * np.arange(40)
    told = [
        trial(NODES | {"cluster": "c"}, rows(np.r_[past, later], -39), MADE, 1.0,
              lambda s: np.full(4, s))
        for later in (np.full(30, 5.0), np.full(30, 9e9))
    ]  # fmt: skip
    assert told[0].drop("truth").equals(told[1].drop("truth"))
    assert set(told[0]["truth"]) == {5.0}


def test_horizons_without_data_are_left_out() -> None:
    values = rows(np.arange(45.0), -39)  # five days ahead
    found = trial(NODES | {"cluster": "c"}, values, MADE, 1.0, lambda s: np.full(4, 1.0))
    assert found["horizon"].unique().sort().to_list() == [1.0, 3.0]
    gap = values.filter(pl.col("time") != MADE + timedelta(days=3))
    found = trial(NODES | {"cluster": "c"}, gap, MADE, 1.0, lambda s: np.full(4, 1.0))
    assert found["horizon"].unique().to_list() == [1.0]


def test_a_perfect_forecast_has_full_skill() -> None:
    values = rows(100 + np.arange(60.0) ** 2, -39)
    frame = trial(
        NODES | {"cluster": "c"}, values, MADE, 1.0,
        lambda s: np.full(4, 100 + (39 + s / 86_400) ** 2),
    )  # fmt: skip
    told = score(frame).filter(quantity="all")
    ours = told.filter(method=OURS)
    assert ours["pinball"].max() == 0
    assert ours["coverage"].min() == 1
    assert told.filter(method="naive")["skill"].to_list() == [1.0, 1.0, 1.0, 1.0]


def test_a_short_history_is_refused_with_what_to_collect() -> None:
    lab = str(Path(capacity.__file__).parents[1] / "data" / "lab")
    with pytest.raises(ModelError, match="a backtest needs 35: collect more"):
        capacity.backtest(PlanSettings(lab))


def reports(folder: Path, demo: Plan) -> Path:
    """Two reports: the demo's, and one 30 days older that told 1 % less than what then came."""
    made = demo.drivers["time"][-31]
    past = pl.col("time") <= made
    told = demo.drivers.filter(pl.col("time") > made).select(
        "cluster", "time", made=pl.lit(made), component=pl.lit("cluster"), quantity=pl.lit("nodes"),
        unit=pl.lit("1"), subject=pl.lit(None, pl.String), limit=pl.lit(None, pl.Float64),
        **{q: pl.col("nodes") * x for q, x in zip(QUANTILES, (0.9, 0.99, 1.1, 1.2), strict=True)},
    )  # fmt: skip
    older = dataclasses.replace(
        demo, history=demo.history.filter(past), growth=demo.growth.filter(past),
        outlook=check(told.cast({"made": OUTLOOK.schema["made"]}), OUTLOOK),
    )  # fmt: skip
    for name, plan in (("old", older), ("new", demo)):
        (folder / name).mkdir(parents=True)
        fill(plan, folder / name)
    return folder


def test_a_ledger_scores_old_reports_by_what_new_ones_saw(tmp_path: Path, demo: Plan) -> None:
    done = ledger(reports(tmp_path, demo))
    check(done.trials, TRIALS)
    assert done.reports["scored"].to_list()[0] == 0
    assert done.reports["scored"].to_list()[1] > 0
    nodes = done.trials.filter(quantity="nodes", method=OURS).sort("horizon")
    assert nodes["horizon"].to_list() == [1.0, 3.0, 7.0, 14.0, 30.0]
    assert nodes["truth"][-1] == demo.drivers["nodes"][-1]
    at = done.scores.filter(quantity="cluster nodes", method=OURS, horizon=30.0).row(0, named=True)
    assert at["error"] == pytest.approx(0.01)
    assert (at["coverage"], at["above"]) == (1.0, 0.0)
    told = CliRunner().invoke(cli, ["ledger", str(tmp_path), "-o", "json"])
    assert told.exit_code == 0
    assert {row["method"] for row in json.loads(told.stdout)} >= {OURS, "naive"}


def test_a_folder_without_reports_or_with_a_broken_one_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no report found"):
        ledger(tmp_path)
    (tmp_path / "a" / "tables").mkdir(parents=True)
    (tmp_path / "a" / "outcome.json").write_text("{}")
    with pytest.raises(ExportError, match=r"growth\.parquet: is missing"):
        ledger(tmp_path)
    (tmp_path / "a" / "tables" / "growth.parquet").write_text("PAR1?")
    with pytest.raises(ExportError, match="cannot be read"):
        ledger(tmp_path)


def test_the_chart_of_a_backtest_is_one_file(tested: Backtest) -> None:
    from capacity.charts.backtest import backtest as figure

    page = figure(tested.scores).to_html(include_plotlyjs=False)
    assert "forecasts from past times held what came" in page
    assert "predict_linear" in page
