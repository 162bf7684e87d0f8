"""Tornado: bars are what the laws say, agree with the interval, and name the longest first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from capacity import charts, findings, overview
from capacity.planning import Plan

KEYS = ("component", "subject", "quantity")


def test_every_fitted_quantity_is_told_with_the_longest_bar_first(demo: Plan) -> None:
    told = demo.sensitivity.select(KEYS).unique()
    assert len(told) == len(demo.exhaustion)
    for part in demo.sensitivity.partition_by(KEYS):
        assert part["rank"].to_list() == list(range(1, len(part) + 1))
        assert part["swing"].is_sorted(descending=True)
        assert (part["swing"] > 0).all()


def test_one_entry_a_pod_moves_ipcache_by_one_entry(demo: Plan) -> None:
    rows = demo.sensitivity.filter(subject="ipcache", factor="endpoints beside the nodes")
    row = rows.row(0, named=True)
    assert row["at_high"] - row["at_low"] == pytest.approx(row["high"] - row["low"], rel=1e-6)


def test_more_nodes_are_more_of_what_grows_with_nodes(demo: Plan) -> None:
    rows = demo.sensitivity.filter(pl.col("factor") == "growth of the node count")
    assert (rows["high"] > rows["low"]).all()
    assert (rows["at_high"] >= rows["at_low"]).all()
    assert rows["time"].n_unique() == 1


def test_bars_together_are_as_wide_as_the_interval(demo: Plan) -> None:
    # Independent parts add up as squares; costs that were fitted together must not count twice
    last = demo.outlook["time"].max()
    spans = demo.outlook.filter(pl.col("time") == last).with_columns(
        span=pl.col("q95") - pl.col("q05")
    )
    for part in demo.sensitivity.filter(pl.col("kind") != "season").partition_by(KEYS):
        one = part.row(0, named=True)
        same = [pl.col(k).eq_missing(pl.lit(one[k], pl.String)) for k in KEYS]
        (span,) = spans.filter(*same)["span"].to_list()
        assert np.sqrt((part["swing"] ** 2).sum()) == pytest.approx(span, rel=0.6), one


def test_a_season_is_a_bar_of_traffic_only(demo: Plan) -> None:
    seasons = demo.sensitivity.filter(kind="season")["subject"].drop_nulls().to_list()
    assert "ct4_global" in seasons
    assert "ipcache" not in seasons


def test_the_title_names_the_longest_bar_of_what_runs_out_first(demo: Plan) -> None:
    first = findings.sensitive(demo).row(0, named=True)
    assert findings.tornado(demo).startswith("map lb4_services_v2 at 2027-04-30")
    assert first["factor"] in findings.tornado(demo)
    figure = charts.tornado(demo)
    assert list(figure.data[0].y)[0] == first["factor"]
    assert figure.data[1].base == first["center"]


def test_what_it_is_made_of_adds_up(demo: Plan) -> None:
    table = overview.made_of(demo)
    for part in table.partition_by("resource"):
        assert part["share"].sum() == pytest.approx(1, abs=1e-9)
    assert {"map lb4_services_v2", "agent memory"} <= set(table["resource"])
