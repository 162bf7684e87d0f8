"""Forecasts of hand-made clusters whose laws are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from capacity import forecast, forecast_tables
from capacity.errors import ModelError
from capacity.growth import Growth, grow, growth_table
from capacity.recommend import planned_nodes
from capacity.settings import PlanSettings
from capacity.tables import DRIVERS, EXHAUSTION, FORECAST, GROWTH, SCENARIO, check

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = {
    "cluster": "c", "component": "map", "subject": "ipcache", "quantity": "map_entries",
    "unit": "1", "limit": 60_000.0, "kind": "hard", "setting": None, "upper": None,
    "verified": True, "source": "test",
}  # fmt: skip


def drivers(days: int = 90, per_day: float = 3.0, seed: int = 0, **more: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    nodes = np.round(700 + per_day * np.arange(days) + rng.normal(0, 1, days))
    columns = {
        "time": [BEGIN + timedelta(days=i) for i in range(days)],
        "cluster": ["c"] * days,
        "nodes": nodes,
        "endpoints": 32.0 * nodes + rng.normal(0, 60, days),
        **more,
    }
    frame = pl.DataFrame(columns)
    blank = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in DRIVERS.schema.items()
        if name not in columns
    ]
    return check(frame.with_columns(blank).cast(dict(DRIVERS.schema)), DRIVERS)


def entries(table: pl.DataFrame, seed: int = 1, spread: float = 50.0) -> pl.DataFrame:
    noise = np.random.default_rng(seed).normal(0, spread, len(table))
    value = pl.col("endpoints") + 3 * pl.col("nodes") + noise
    return table.select("time", value=value, worst_node=pl.lit("n7"))


def fitted(table: pl.DataFrame, settings: PlanSettings, **limit: Any) -> forecast.Fitted:
    growth = grow(table, settings)
    return forecast.fit_quantity(LIMIT | limit, entries(table), table, growth, settings)


def test_the_node_count_at_which_a_law_meets_its_limit_is_found() -> None:
    settings, table = PlanSettings("x"), drivers()
    growth = grow(table, settings)
    row = forecast_tables.exhaustion_row(fitted(table, settings), growth, settings)
    assert row["nodes_median"] == pytest.approx(60_000 / 35, rel=0.02)
    assert row["nodes_early"] <= row["nodes_median"]
    # 3 nodes a day from 967
    days = (60_000 / 35 - 967) / 3
    assert (row["date_median"] - table["time"][-1]).days == pytest.approx(days, rel=0.1)
    assert 0 <= row["probability"] <= 1
    check(forecast_tables.rank([row]), EXHAUSTION)


def test_intervals_of_the_exhaustion_hold_the_truth_at_their_level() -> None:
    settings, true = PlanSettings("x"), 60_000 / 35
    inside = []
    for seed in range(25):
        table = drivers(days=60, seed=seed)
        growth = grow(table, settings)
        model = forecast.fit_quantity(LIMIT, entries(table, seed + 99), table, growth, settings)
        low, high = np.quantile(model.runs_out(), [0.05, 0.95])
        inside.append(low <= true <= high)
    assert np.mean(inside) >= 0.8


def test_less_risk_means_an_earlier_node_count() -> None:
    table = drivers()
    early = []
    for risk in (0.01, 0.1, 0.5):
        settings = PlanSettings("x", risk=risk)
        growth = grow(table, settings)
        early.append(
            forecast_tables.exhaustion_row(fitted(table, settings), growth, settings)["nodes_early"]
        )
    assert early == sorted(early)


@settings_of_hypothesis(max_examples=15)
@given(st.floats(1_000, 500_000))
def test_a_larger_limit_never_runs_out_earlier(size: float) -> None:
    settings, table = PlanSettings("x"), _TABLE
    smaller = fitted(table, settings, limit=size).runs_out()
    larger = fitted(table, settings, limit=size * 1.5).runs_out()
    assert (larger >= smaller).all()


_TABLE = drivers(days=20)


def test_what_is_full_now_runs_out_at_the_present_node_count() -> None:
    settings, table = PlanSettings("x"), drivers()
    growth = grow(table, settings)
    row = forecast_tables.exhaustion_row(fitted(table, settings, limit=10.0), growth, settings)
    assert row["nodes_early"] == growth.now
    assert row["date_early"] == table["time"][-1]
    assert row["status"] == "short"


def test_an_unknown_limit_is_unknown_and_not_fine() -> None:
    settings, table = PlanSettings("x"), drivers()
    growth = grow(table, settings)
    row = forecast_tables.exhaustion_row(fitted(table, settings, limit=None), growth, settings)
    assert row["status"] == "unknown"
    assert row["nodes_early"] is None
    assert row["probability"] is None


def test_a_short_history_gives_node_counts_but_no_dates() -> None:
    settings, table = PlanSettings("x"), drivers(days=10)
    growth = grow(table, settings)
    assert growth.paths is None
    assert "only node counts" in str(growth.note)
    row = forecast_tables.exhaustion_row(fitted(table, settings), growth, settings)
    assert row["nodes_median"] is not None
    assert row["date_median"] is None
    assert check(growth_table(table, growth, settings), GROWTH)["q50"].is_null().all()


def test_too_few_points_are_refused_with_how_many_there_are() -> None:
    settings, table = PlanSettings("x"), drivers(days=3)
    growth = grow(table, settings)
    with pytest.raises(ModelError, match="3 points in time"):
        forecast.fit_quantity(LIMIT, entries(table), table, growth, settings)


def test_an_unknown_node_count_says_what_is_missing() -> None:
    with pytest.raises(ModelError, match="cilium_nodes_all_num"):
        grow(drivers(nodes=[None] * 90), PlanSettings("x"))


def test_forecasts_widen_and_say_how_far_out_they_are() -> None:
    settings, table = PlanSettings("x", nodes=(1000, 2000, 4000)), drivers()
    growth = grow(table, settings)
    rows = forecast_tables.forecast_rows(fitted(table, settings), growth, settings)
    check(rows, FORECAST)
    assert rows["nodes"].to_list() == [round(growth.now), 1000, 2000, 4000]
    assert (rows["q05"] <= rows["q50"]).all()
    assert (rows["q95"] <= rows["q99"]).all()
    width = (rows["q95"] - rows["q05"]).to_list()
    assert width == sorted(width)
    assert rows["reach"][-1] == pytest.approx(4000 / growth.largest)


def test_scenario_keeps_density_where_the_history_cannot_tell() -> None:
    settings = PlanSettings("x", nodes=(1400,))
    flat = drivers(per_day=0.0, services=np.full(90, 100.0), endpoints_per_node=np.full(90, 32.0))
    growth = grow(flat, settings)
    told = check(forecast_tables.scenario_table(flat, growth, settings, "c"), SCENARIO)
    at = {r["driver"]: r for r in told.filter(pl.col("nodes") == 1400).iter_rows(named=True)}
    assert at["services"]["value"] == pytest.approx(100 * 1400 / flat["nodes"][-1])
    assert at["services"]["basis"] == "in proportion"
    assert at["endpoints_per_node"]["value"] == 32.0


def test_planned_nodes_are_those_asked_for_then_growth_then_a_factor() -> None:
    growing = grow(drivers(), PlanSettings("x"))
    assert planned_nodes(growing, PlanSettings("x", nodes=(5, 1200))).nodes == 1200
    assert planned_nodes(growing, PlanSettings("x")).nodes > growing.now + 180 * 2
    young = Growth(100.0, 100.0, BEGIN, 60.0, None, None)
    assert planned_nodes(young, PlanSettings("x")).nodes == 150


def test_a_known_event_moves_the_nodes_and_what_follows_them_from_its_day_on() -> None:
    table = drivers()
    plain = grow(table, PlanSettings("x"))
    told = grow(table, PlanSettings("x", event=("2026-04-30:+200nodes",)))
    assert plain.paths is not None
    assert told.paths is not None
    gain = np.median(told.paths - plain.paths, axis=0)
    # The history ends on 2026-03-31: 30 days until the event
    assert gain[28] == 0
    assert gain[29] == 200
    rows = [fitted(table, PlanSettings("x", event=e)) for e in ((), ("2026-04-30:+200nodes",))]
    early, late = (np.median(row.dates()) for row in reversed(rows))
    assert early < late - 30 * 86_400


def test_events_of_the_past_or_far_away_are_told_and_left_out() -> None:
    event = ("2026-02-01:+900nodes", "2031-01-01:+900nodes")
    growth = grow(drivers(), PlanSettings("x", event=event))
    assert "event 2026-02-01:+900nodes is not after the history" in str(growth.note)
    assert "event 2031-01-01:+900nodes lies beyond" in str(growth.note)


def test_a_cluster_that_gets_denser_runs_out_though_its_nodes_stay() -> None:
    flat = drivers(per_day=0.0)
    denser = flat.with_columns(endpoints=pl.col("endpoints") * (1 + 0.01 * pl.int_range(pl.len())))
    dates = [np.median(fitted(t, PlanSettings("x")).dates()) for t in (flat, denser)]
    assert dates[0] == np.inf
    # Endpoints gain 224 a day from 42,336; 2,100 entries are of the nodes
    assert dates[1] / 86_400 == pytest.approx((60_000 - 2_100 - 42_336) / 224, rel=0.3)


def test_a_step_change_of_the_history_is_told_with_its_day() -> None:
    table = drivers(per_day=0.5)
    jump = pl.when(pl.int_range(pl.len()) >= 40).then(200.0).otherwise(0.0)
    note = grow(table.with_columns(nodes=pl.col("nodes") + jump), PlanSettings("x")).note
    assert "nodes changed in steps: +" in str(note)
    assert "about 2026-02-10" in str(note)
