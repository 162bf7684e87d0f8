"""Tornado: bars are what the laws say, agree with the interval, and name the longest first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from capacity import charts, explained, findings, overview
from capacity.causes import causes_table
from capacity.planning import Plan
from capacity.tables import EXPLANATION, SENSITIVITY

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
    table = explained.made_of(demo)
    for part in table.partition_by("resource"):
        assert part["share"].sum() == pytest.approx(1, abs=1e-9)
    assert {"map lb4_services_v2", "agent memory"} <= set(table["resource"])


@pytest.mark.parametrize(
    ("subject", "driver"),
    [
        ("lb4_services_v2", "services"), ("cilium_policy_*", "identities"),
        ("ipcache", "endpoints"), ("tunnel_map", "nodes"),
        ("lxc", "endpoints_per_node"), ("lb4_reverse_nat", "services"),
    ],
)  # fmt: skip
def test_the_driver_that_matters_most_is_that_of_the_simulated_law(
    demo: Plan, subject: str, driver: str
) -> None:
    row = demo.causes.filter(subject=subject).row(0, named=True)
    assert row["driver"] == driver
    assert row["share"] > row["always"]


def test_each_forecast_names_one_driver_and_the_parts_add_up(demo: Plan) -> None:
    assert demo.causes.select(KEYS).rows() == demo.explanation.select(KEYS).unique(
        maintain_order=True
    ).rows()  # fmt: skip
    assert demo.causes["driver"].null_count() == 0
    parts = explained.parts(demo).group_by("forecast").agg(pl.col("share").sum())
    assert parts["share"].to_list() == pytest.approx([1.0] * len(parts), abs=1e-3)
    # One bar a forecast, stacked to the whole
    drawn: dict[str, float] = {}
    for bar in charts.decomposition(demo).data:
        for name, share in zip(bar.y, bar.x, strict=True):
            drawn[name] = drawn.get(name, 0.0) + share
    assert list(drawn.values()) == pytest.approx([100.0] * len(parts), abs=0.1)


def test_one_percent_more_of_a_driver_is_one_percent_of_its_part(demo: Plan) -> None:
    for row in demo.causes.iter_rows(named=True):
        same = [pl.col(k).eq_missing(pl.lit(row[k], pl.String)) for k in KEYS]
        part = demo.explanation.filter(*same, part=row["driver"]).row(0, named=True)
        assert row["per_percent"] == pytest.approx(part["mean"] / 100)
        assert (row["share"], row["basis"]) == (part["share"], part["basis"])
        rest = demo.explanation.filter(*same).filter(pl.col("part") != "base")
        assert part["share"] == rest["share"].max()


def test_costs_from_elsewhere_are_told_apart_and_doubt_has_a_name(demo: Plan) -> None:
    memory = demo.causes.filter(component="agent", quantity="memory").row(0, named=True)
    rows = demo.explanation.filter(component="agent", quantity="memory")
    assert memory["believed"] == pytest.approx(rows.filter(basis="prior")["share"].sum())
    assert memory["doubt"] == demo.sensitivity.filter(
        component="agent", quantity="memory", rank=1
    )["factor"].item()  # fmt: skip
    told = explained.causes(demo)
    assert told["forecast"][0] == "map lb4_services_v2"
    assert overview.breaks_first(demo)["matters most"][0].startswith("frontends of services (8")


def test_what_nothing_moves_names_no_driver() -> None:
    shape = EXPLANATION.schema
    row = {
        "cluster": "c", "component": "map", "subject": "m", "quantity": "map_entries", "unit": "1",
        "nodes": 5, "q05": 2.0, "q95": 2.0, "swing": 0.0, "learnt": 1.0, "basis": "observed",
    }  # fmt: skip
    rows = [row | {"part": "base", "mean": 2.0, "share": 1.0},
            row | {"part": "nodes", "mean": 0.0, "share": 0.0}]  # fmt: skip
    made = causes_table(pl.DataFrame(rows, schema=shape), SENSITIVITY.empty())
    assert made.select("driver", "share", "always", "doubt").rows() == [(None, None, 1.0, None)]
