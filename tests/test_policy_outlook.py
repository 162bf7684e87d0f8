"""Sizes of policy maps by exact count: what is told to be set, applied, and told again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.cilium.map_sizes import validate
from capacity.growth import Growth, grow
from capacity.inventory import Inventory
from capacity.policy_outlook import outlook, policy_advice
from capacity.recommend import Present, Situation, with_exact
from capacity.settings import PlanSettings
from capacity.tables import CHANGES, DRIVERS, POLICY_GROWTH, RECOMMENDATION, STEPS
from tests.cilium.test_policy import shop

VERSION, OPTION, SETTING = "1.17", "bpf-policy-map-max", "bpf.policyMapMax"


def growing(nodes: float) -> Growth:
    row: dict[str, Any] = dict.fromkeys(DRIVERS.schema) | {
        "time": datetime(2026, 1, 1, tzinfo=UTC), "cluster": "test", "nodes": nodes,
    }  # fmt: skip
    return grow(pl.DataFrame([row], schema=DRIVERS.schema), PlanSettings())


STILL = growing(100.0)


def situation(size: int | None, version: str = VERSION) -> Situation:
    told = {} if size is None else {OPTION: str(size)}
    sizes = {} if size is None else {SETTING: float(size)}
    return Situation(Present(version, sizes, told, {}, None), STEPS.empty(), "history", 30.0)


def table(constant: int, grows: int, size: int | None) -> pl.DataFrame:
    rows = [
        ("shop/web", constant + grows, constant, grows, grows / 100, size or 16384, None),
        ("reserved:host", 3, 3, 0, 0.0, size or 16384, None),
    ]
    return pl.DataFrame(rows, schema=POLICY_GROWTH.schema, orient="row")


def told(
    constant: int, grows: int, size: int | None, nodes: int, version: str = VERSION
) -> list[dict[str, Any]]:
    settings = PlanSettings(nodes=(nodes,))
    grown = table(constant, grows, size)
    return policy_advice(grown, STILL, settings, situation(size, version), "test").to_dicts()


entries = st.integers(0, 70_000)
sizes = st.one_of(st.none(), st.integers(256, 65_536))
counts = st.integers(1, 5000)


@given(entries, entries, sizes, counts)
def test_a_size_holds_what_was_counted_or_the_cluster_is_to_be_split(
    constant: int, grows: int, size: int | None, nodes: int
) -> None:
    rows = told(constant, grows, size, nodes)
    need = max(constant + grows, constant + grows * nodes / 100)
    held = next((row["target"] for row in rows if row["target"] is not None), size or 16384)
    assert (need <= held) == ("redesign" not in {row["status"] for row in rows})
    for row in rows:
        if row["status"] == "raise":
            assert (size or 16384) < row["target"] <= 65_536
            found = validate({OPTION: str(round(row["target"]))}, version=VERSION)
            assert [one for one in found if one.level != "info"] == []
        assert row["status"] != "lower"
        if row["status"] == "redesign":
            assert row["target"] is None
            assert not row["setting"].startswith("bpf")


@given(entries, entries, sizes, counts)
def test_what_was_applied_is_left_alone(
    constant: int, grows: int, size: int | None, nodes: int
) -> None:
    set_ = {row["target"] for row in told(constant, grows, size, nodes) if row["status"] in CHANGES}
    again = told(constant, grows, int(set_.pop()), nodes) if set_ else []
    assert {row["status"] for row in again} <= {"ok", "redesign"}


@given(entries, entries, sizes, counts, counts)
def test_more_nodes_never_get_a_smaller_map(
    constant: int, grows: int, size: int | None, one: int, other: int
) -> None:
    less, more = (
        max((row["target"] or 0 for row in told(constant, grows, size, nodes)), default=0)
        for nodes in sorted((one, other))
    )
    assert less <= more


def test_the_largest_cluster_of_the_policies_is_told_where_no_size_holds_them() -> None:
    raised, last = told(1000, 5000, 16384, 2000)
    assert (raised["status"], raised["target"]) == ("raise", 65_536)
    # 1,000 + 5,000 for each 100 nodes
    assert "has 1,290 nodes" in last["reason"]
    assert last["alternative"].startswith("2 clusters of at most 1,290 nodes")
    (full,) = told(1000, 5000, 65536, 2000)
    assert full["status"] == "redesign"


def test_a_larger_map_costs_its_entries_on_every_endpoint_and_an_empty_one_nothing() -> None:
    (row,) = told(100, 400, 16384, 5000)
    assert (row["status"], row["target"], row["lower"]) == ("raise", 32_768, 20_100)
    # A trie: the entries beyond the present size, 36 bytes each at least, on 30 endpoints a node
    assert row["cost"] >= (20_100 - 16_384) * 36 * 30
    assert row["cost_total"] == row["cost"] * 5000
    assert row["side_effect"]
    (large,) = told(100, 50, 65536, 200)
    assert large["status"] == "ok"


def test_policies_of_an_inventory_raise_the_map_that_workloads_will_fill() -> None:
    tables = shop({"spec": {"endpointSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]}})
    grown = outlook(tables, STILL, PlanSettings(nodes=(200_000,)), situation(None), "test")
    row = grown.advice.row(0, named=True)
    assert (row["setting"], row["status"]) == (SETTING, "raise")
    then = grown.table.select(pl.col("constant") + 2_000 * pl.col("growing")).to_series().max()
    assert row["target"] > row["lower"] == then
    assert "counted exactly" in row["reason"]
    assert outlook(Inventory(), STILL, PlanSettings(), situation(None), "t").advice.is_empty()


@pytest.mark.parametrize(
    ("trend", "status", "wins"),
    [(32_768.0, "lower", "exact"), (65_536.0, "ok", "exact"), (131_072.0, "raise", "trend")],
)
def test_an_exact_count_vetoes_a_smaller_size_of_a_trend(
    trend: float, status: str, wins: str
) -> None:
    blank = dict.fromkeys(RECOMMENDATION.schema) | {
        "rank": 1, "cluster": "c", "component": "map", "setting": SETTING, "unit": "1",
        "confidence": "low", "evidence": "e", "nodes": 1, "status": "raise", "reason": "exact",
        "target": 98_304.0,
    }  # fmt: skip
    theirs = [blank | {"target": trend, "status": status, "reason": "trend"},
              blank | {"setting": "x", "rank": 2}]  # fmt: skip
    frames = [pl.DataFrame(rows, schema=RECOMMENDATION.schema) for rows in (theirs, [blank])]
    made = with_exact(*frames).filter(setting=SETTING)
    assert made["reason"].to_list() == [wins]
