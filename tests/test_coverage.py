"""What an export lacks, and why: each status is a conclusion from other things in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from capacity.coverage import coverage
from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.observe import steps
from capacity.tables import OPTIONS

Export = Callable[..., Metrics]
PRESSURE = "cilium_bpf_map_pressure"


def with_options(**options: str) -> Inventory:
    rows = [{"option": name.replace("_", "-"), "value": value} for name, value in options.items()]
    blank = OPTIONS.empty()
    frame = pl.concat([blank, pl.DataFrame(rows)], how="diagonal")
    return replace(Inventory(), options=frame.select(blank.columns))


def told(metrics: Metrics, inventory: Inventory, version: str = "1.16") -> dict[str, str]:
    frame = coverage(metrics.series["metric"].unique(), steps(metrics), inventory, version)
    return dict(frame.select("want", "status").iter_rows())


def agent(name: str, **labels: str) -> dict[str, str]:
    return {"__name__": name, "node": "a", **labels}


@pytest.fixture
def little(export: Export) -> Metrics:
    return export((agent(PRESSURE, map_name="ipcache"), [(0, 0.5)]))


def test_a_metric_of_an_exporter_that_is_there_was_dropped(little: Metrics) -> None:
    seen = told(little, Inventory())
    assert seen["map map_pressure"] == "present"
    assert seen["driver nodes"] == "dropped"
    assert seen["operator memory_rss"] == "unknown"  # nothing of the operator is there


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"enable_ipv4": "true"}, "off"),
        ({"operator_prometheus_serve_addr": ":9963"}, "dropped"),
        ({}, "unknown"),
    ],
)
def test_the_options_tell_whether_an_exporter_is_off(
    little: Metrics, options: dict[str, str], status: str
) -> None:
    assert told(little, with_options(**options))["operator memory_rss"] == status


def test_a_metric_that_the_version_lacks_is_off(little: Metrics) -> None:
    assert told(little, Inventory(), "1.14")["map map_max_entries"] == "off"
    assert told(little, Inventory(), "1.15")["map map_max_entries"] == "dropped"


def test_silent_policy_pressure_is_below_its_threshold_or_unknown_by_version(
    little: Metrics,
) -> None:
    # S24 of the acceptance scenarios
    want = "pressure of map cilium_policy_*"
    assert told(little, Inventory(), "1.16")[want] == "below"
    for version in ("1.17", "1.18", "1.19"):
        assert told(little, Inventory(), version)[want] == "unknown"


def test_the_hint_of_a_silent_policy_map_names_threshold_or_issue(little: Metrics) -> None:
    def hint(version: str, **options: str) -> str:
        names = little.series["metric"].unique()
        frame = coverage(names, steps(little), with_options(**options), version)
        row = frame.filter(want="pressure of map cilium_policy_*").row(0, named=True)
        return str(row["hint"])

    assert "0.1 of its size" in hint("1.16")
    assert "0.02 of its size" in hint("1.16", bpf_policy_map_pressure_metrics_threshold="0.02")
    assert "0.1 of its size" in hint("1.16", bpf_policy_map_pressure_metrics_threshold="much")
    assert "#45788" in hint("1.18")


def test_maps_of_features_that_are_off_are_unused(little: Metrics) -> None:
    seen = told(little, with_options(enable_ipv4="true", enable_ipv6="false"))
    assert seen["pressure of map ct6_global"] == "unused"
    assert seen["pressure of map egress_gw_policy_v4"] == "unused"
    assert seen["pressure of map ct4_global"] == "unknown"
    nothing = told(little, Inventory())
    assert nothing["pressure of map ct6_global"] == "unknown"


def test_no_pressure_at_all_says_nothing_of_single_maps(export: Export) -> None:
    seen = told(export((agent("cilium_nodes_all_num"), [(0, 3.0)])), Inventory())
    pressures = {status for want, status in seen.items() if want.startswith("pressure of map")}
    assert pressures == {"dropped"}
