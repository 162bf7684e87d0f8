"""What services do to the plan: growth of load balancer maps, first limit, what to set."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from capacity.cilium.services import lb_entries
from capacity.cilium.services.growth import IDS, service_growth
from capacity.cilium.services.shapes import shape
from capacity.growth import Growth
from capacity.inventory import Inventory
from capacity.load import read_inventory
from capacity.planning import Plan
from capacity.recommend import Present, with_exact
from capacity.service_outlook import ServiceOutlook, service_outlook
from capacity.settings import PlanSettings
from capacity.shipped import path
from capacity.tables import NODES, RECOMMENDATION

VERSION = "1.17"


@pytest.fixture(scope="module")
def still() -> Growth:
    """100 nodes, no history: dates are not known."""
    from capacity.growth import grow
    from capacity.tables import DRIVERS

    row: dict[str, Any] = dict.fromkeys(DRIVERS.schema) | {
        "time": datetime(2026, 1, 1, tzinfo=UTC), "cluster": "test", "nodes": 100.0,
    }  # fmt: skip
    return grow(pl.DataFrame([row], schema=DRIVERS.schema), PlanSettings())


def outlook(
    made: Inventory, growth: Growth, options: dict[str, str] | None = None, **more: Any
) -> ServiceOutlook:
    rows = [
        {"option": key, "value": value, "source": "x"} for key, value in (options or {}).items()
    ]
    cluster = replace(made, options=pl.DataFrame(rows, schema=made.options.schema))
    present = Present(VERSION, {}, options or {}, {}, None)
    return service_outlook(cluster, growth, PlanSettings(**more), present, "test")


def nodes(count: int) -> pl.DataFrame:
    rows = [dict.fromkeys(NODES.schema) | {"node": f"n{i}", "labels": "{}"} for i in range(count)]
    return pl.DataFrame(rows, schema=NODES.schema)


def test_the_demo_has_the_entries_its_truth_tells() -> None:
    truth = json.loads(path("data", "demo", "truth.json").read_text(encoding="utf-8"))
    flat = json.dumps(truth)
    table = lb_entries(read_inventory(path("data", "demo", "inventory")), version=VERSION)
    for name in ("lb4_services_v2", "lb4_reverse_nat", "lb4_backends_v3"):
        entries = table.filter(map=f"cilium_{name}")["entries"].item()
        assert f'"{name}": {entries}' in flat


def test_the_demo_runs_out_where_its_metrics_say_it_does(demo: Plan) -> None:
    row = demo.service_growth.row(0, named=True)
    fitted = demo.exhaustion.filter(subject="lb4_services_v2").row(0, named=True)
    assert row["resource"] == "cilium_lb4_services_v2"
    assert row["factor"] * 1000 == pytest.approx(fitted["nodes_median"], rel=0.02)
    assert "used up at 1,474 nodes" in demo.headline


def test_growing_services_reach_the_limit_at_the_factor() -> None:
    row = service_growth(shape(services=1000, backends=30), version=VERSION).row(0, named=True)
    assert row["constant"] + row["growing"] * row["factor"] == pytest.approx(row["limit"])


def test_a_service_on_each_node_grows_by_backends_and_not_by_frontends() -> None:
    made = shape(services=1, backends=10)
    each = made.backends.with_columns(node=pl.format("n{}", pl.int_range(pl.len())))
    everywhere = replace(made, backends=each, nodes=nodes(10))
    table = service_growth(everywhere, version=VERSION)
    rows = {row["resource"]: row for row in table.iter_rows(named=True)}
    assert rows["cilium_lb4_services_v2"]["constant"] == 1
    assert rows["cilium_lb4_services_v2"]["growing"] == 10
    assert rows[IDS]["factor"] is None
    few = service_growth(replace(everywhere, nodes=nodes(100)), version=VERSION)
    assert few.filter(resource=IDS)["growing"].item() == 1


def test_no_services_tell_nothing(still: Growth) -> None:
    told = outlook(Inventory(), still)
    assert told.table.is_empty()
    assert (told.first, told.sentence, told.is_short) == (None, None, False)


def test_a_map_that_gets_full_is_told_with_what_to_set_and_its_cost(still: Growth) -> None:
    told = outlook(shape(services=1000, backends=50), still, nodes=(200,))
    assert told.first is not None
    assert told.first["resource"] == "map lb4_services_v2"
    assert told.first["nodes"] == 129
    assert told.is_short
    row = told.advice.row(0, named=True)
    assert (row["setting"], row["status"], row["target"]) == ("bpf.lbMapMax", "raise", 131072.0)
    assert row["cost"] > 0
    assert row["side_effect"]


def test_service_ids_are_a_redesign_that_names_the_largest_cluster(still: Growth) -> None:
    big = {"bpf-lb-map-max": "1000000", "kube-proxy-replacement": "true"}
    told = outlook(shape(services=9000, type="LoadBalancer"), still, big, nodes=(400,))
    assert told.first is not None
    assert (told.first["resource"], told.first["kind"]) == (IDS, "hard")
    assert told.first["nodes"] == 183
    assert "no setting adds any" in str(told.sentence)
    row = told.advice.row(0, named=True)
    assert row["status"] == "redesign"
    assert "182 nodes" in row["reason"]


def test_maglev_tables_are_sized_for_the_largest_service(still: Growth) -> None:
    options = {"bpf-lb-algorithm": "maglev", "kube-proxy-replacement": "true"}
    told = outlook(shape(services=2, type="NodePort", backends=300), still, options)
    rows = told.advice.filter(setting="maglev.tableSize")
    assert rows["target"].to_list() == [32749.0]
    assert rows["cost"].item() == pytest.approx(4 * (32749 - 16381) * 2 * 1.5)
    small = outlook(shape(services=2, type="NodePort", backends=100), still, options)
    assert small.advice.filter(setting="maglev.tableSize").is_empty()


def test_of_two_targets_for_one_setting_the_larger_counts(still: Growth) -> None:
    asked = outlook(shape(services=1000, backends=50), still, nodes=(200,)).advice
    smaller = asked.with_columns(target=pl.lit(70_000.0), status=pl.lit("raise"))
    fine = asked.with_columns(status=pl.lit("ok"), target=pl.lit(65_536.0))
    other = asked.with_columns(setting=pl.lit("x"), rank=pl.lit(2, pl.Int64))
    for old in (smaller, fine):
        both = with_exact(pl.concat([old, other]), asked)
        assert sorted(both.select("setting", "target").rows()) == [
            ("bpf.lbMapMax", 131072.0), ("x", 131072.0),
        ]  # fmt: skip
        assert both["rank"].to_list() == [1, 2]
    assert with_exact(other, RECOMMENDATION.empty()).height == 1
