"""`cilium-dbg metrics list`: what a real agent printed, beside what it served."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capacity
from capacity.export import Metrics
from capacity.load import cilium_metrics
from capacity.load.gather import Selection

Put = Callable[[str, str | bytes], Path]
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "metrics_list"
NEW_TABLE = (
    "Metric                        Labels                          Value\n"
    "cilium_agent_bootstrap        scope=a b outcome=success       1.000000\n"
    "cilium_bpf_map_ops_total      map_name=lxc operation=update   3.000000\n"
    "cilium_k8s_workqueue_x        name=y                          2.5ms / 9ms / 9.9ms\n"
    "go_gc_pauses                                                  0s / 0s / 0s\n"
)


def values(made: Metrics) -> dict[tuple[str, str, str], float]:
    rows = made.samples.join(made.series, on="series").rows(named=True)
    own = ("node", "namespace", "pod", "container", "map_name")
    return {
        (row["metric"], row["labels"], str([row[name] for name in own])): row["value"]
        for row in rows
    }


def test_json_and_table_of_one_agent_tell_the_same_series() -> None:
    table = values(capacity.read(GOLDEN / "metrics_list.txt"))
    exact = values(capacity.read(GOLDEN / "metrics_list.json"))
    assert len(exact) == 211
    assert table.keys() == exact.keys()
    # Two calls, one after the other: what did not change meanwhile has 6 decimals
    same = [key for key, value in exact.items() if abs(table[key] - value) <= 5e-7]
    assert len(same) > 0.75 * len(exact)


def test_what_is_kept_is_what_the_agent_served(shared: Path) -> None:
    folder = shared / "recorded" / "dbg" / "small_k8s"
    made, served = (capacity.read(folder / name) for name in ("metrics_list.json", "metrics.prom"))
    told, scraped = values(made), values(served)
    assert not told.keys() - scraped.keys()
    for name in ("cilium_bpf_map_capacity", "cilium_identity", "go_sched_gomaxprocs_threads",
                 "cilium_endpoint"):  # fmt: skip
        keys = [key for key in told if key[0] == name]
        assert keys, name
        assert [told[key] for key in keys] == [scraped[key] for key in keys], name
    text = (folder / "metrics.prom").read_text()
    summarised = set(re.findall(r"# TYPE (\S+) (?:histogram|summary)", text))
    listed = {metric["name"] for metric in json.loads((folder / "metrics_list.json").read_text())}
    assert {key[0] for key in told} == listed - summarised


def test_histograms_are_refused_by_name_and_counted() -> None:
    made = capacity.read(GOLDEN / "metrics_list.json")
    row = made.sources.row(0, named=True)
    assert (row["read"], row["kept"], row["format"]) == (297, 211, "cilium_metrics")
    assert "cilium_policy_implementation_delay" in row["reason"]
    assert "is a histogram, of which this command tells one number" in row["reason"]


def test_a_value_that_is_left_out_is_zero(put: Put) -> None:
    path = put("a.json", '[{"name": "cilium_unreachable_nodes"}, {"labels": {"a": ""}, '
               '"name": "cilium_controllers_failing", "value": 2}]')  # fmt: skip
    made = capacity.read(path)
    assert sorted(values(made).items()) == [
        (("cilium_controllers_failing", "{}", str([None] * 5)), 2.0),
        (("cilium_unreachable_nodes", "{}", str([None] * 5)), 0.0),
    ]


def test_the_table_of_newer_agents_has_bare_values_and_quantiles(put: Put) -> None:
    made = capacity.read(put("a.txt", NEW_TABLE))
    labels = dict(zip(made.series["metric"], made.series["labels"], strict=True))
    assert json.loads(labels["cilium_agent_bootstrap"]) == {"outcome": "success", "scope": "a b"}
    assert made.series["map_name"].to_list() == [None, "lxc"]
    row = made.sources.row(0, named=True)
    assert (row["read"], row["kept"]) == (4, 2)
    assert "each of cilium_k8s_workqueue_x, go_gc_pauses is a histogram" in row["reason"]
    assert "values have 6 decimals; -o json tells all" in row["reason"]


def test_its_time_is_told_as_that_of_a_scrape(put: Put) -> None:
    text = '[{"name": "cilium_identity", "value": 1}]'
    named = put("metrics-list-20261123-233857.json", text)
    assert capacity.read(named).samples["time"].dt.to_string("%T").to_list() == ["23:38:57"]
    bare = put("a.json", text)
    os.utime(bare, (1_700_000_000, 1_700_000_000))
    assert capacity.read(bare).samples["time"].dt.epoch("s").to_list() == [1_700_000_000]
    event = put(
        "b.json", '[{"name": "cilium_event_ts", "labels": {"source": "k8s"}, "value": 1.5e9}]'
    )
    assert capacity.read(event).samples["time"].dt.epoch("s").to_list() == [1_500_000_000]


def test_packed_lists_are_read(put: Put) -> None:
    packed = put("a.json.gz", gzip.compress((GOLDEN / "metrics_list.json").read_bytes()))
    assert capacity.read(packed).sources["kept"].to_list() == [211]


def test_what_is_no_metric_is_refused_with_its_place(put: Put) -> None:
    text = '[{"name": "cilium_identity", "value": 1}, {"value": 2}, 3, {"name": "x", "value": "y"}]'
    row = capacity.read(put("a.json", text)).sources.row(0, named=True)
    assert (row["read"], row["kept"]) == (4, 1)
    assert "a.json: metric 2 \"{'value': 2}\" has no name or value" in row["reason"]
    cut = NEW_TABLE + "cilium_x\n"
    assert "a.txt:6: 'cilium_x' is no row" in capacity.read(put("a.txt", cut)).sources["reason"][0]


def test_a_list_that_is_cut_is_told(put: Put) -> None:
    text = (GOLDEN / "metrics_list.json").read_text()
    with pytest.raises(capacity.errors.ExportError, match="a.json: no JSON .*; export it again"):
        capacity.read(put("a.json", text[: len(text) // 2]))


@pytest.mark.parametrize(
    "name", ["node_list.json", "endpoint_list.json", "map_list.json", "status.json"]
)
def test_other_lists_of_the_tool_are_not_taken_for_metrics(shared: Path, name: str) -> None:
    data = (shared / "recorded" / "dbg" / "small_k8s" / name).read_bytes()
    assert not cilium_metrics.is_mine(data[: 1 << 16])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from([b"[", NEW_TABLE.encode()[:69], b""]))
def test_any_bytes_are_read_or_refused(put: Put, tail: bytes, head: bytes) -> None:
    made = cilium_metrics.read([put("a.txt", head + tail)], Selection())
    row = made.sources.row(0, named=True)
    assert row["read"] == row["kept"] + row["refused"]
    assert made.samples.select(pl.col("value").is_nan().sum()).item() == 0
