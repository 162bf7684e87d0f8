"""Signals that lie: suspected leaks, gauges that the kernel contradicts, values that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capacity
from capacity.doubts import doubts
from capacity.export import Metrics
from capacity.inventory import Inventory
from capacity.observe import drivers
from capacity.observe import steps as steps_of
from capacity.observe.leaks import leaks, without
from capacity.settings import DRIVER_NAMES, PlanSettings
from capacity.tables import DRIVERS, NODES, STEPS

START = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2.0**20


def cluster(
    values: list[float], nodes: list[float], minutes: float = 60
) -> tuple[pl.DataFrame, pl.DataFrame]:
    times = [START + timedelta(minutes=minutes * i) for i in range(len(values))]
    common = {"time": times, "cluster": "c"}
    steps = pl.DataFrame(
        common | {"component": "agent", "subject": None, "quantity": "memory", "largest": values},
    )
    driven = pl.DataFrame(common | dict.fromkeys(DRIVER_NAMES, None) | {"nodes": nodes})
    fill = {"smallest": values, "mean": values, "nodes": 1, "series": "x", "worst_node": "n"}
    steps = steps.with_columns(
        pl.Series(k, v) if isinstance(v, list) else pl.lit(v).alias(k) for k, v in fill.items()
    )
    return (
        steps.select(STEPS.schema.names()).cast(STEPS.schema),
        driven.select(DRIVERS.schema.names()).cast(DRIVERS.schema),
    )


def noisy(values: np.ndarray, seed: int = 0) -> list[float]:
    noise = 1 + 0.02 * np.random.default_rng(seed).standard_normal(len(values))
    return list(values * noise * MIB)


def test_memory_that_grows_while_nothing_else_does_is_a_suspected_leak() -> None:
    # S22 of the acceptance scenarios: 300 MB to 2,000 MB in a day, objects constant
    steps, driven = cluster(noisy(np.linspace(300, 2000, 49)), [50.0] * 49, minutes=30)
    (leak,) = leaks(steps, driven)
    assert leak.component == "agent"
    assert leak.slope / MIB == pytest.approx(1700 / 24, rel=0.05)
    assert leak.expected == 1.0
    assert without(steps, "agent", [leak]).is_empty()
    assert len(without(steps, "operator", [leak])) == len(steps)


def test_only_the_time_since_the_restart_is_left_out() -> None:
    flat, up = np.full(40, 300.0), np.linspace(300, 900, 40)
    steps, driven = cluster(noisy(np.concatenate([up, flat, up])), [50.0] * 120)
    found = leaks(steps, driven)
    # Flat time and the second leak have no restart between them: the first part is told alone
    assert found[0].since == START
    assert found[0].until == START + timedelta(hours=39)
    left = without(steps, "agent", found)
    assert left["time"].min() == START + timedelta(hours=40)


@pytest.mark.parametrize("hours", [20, 36, 60, 120])
def test_a_leak_that_begins_after_days_without_one_is_found(hours: int) -> None:
    flat = np.full(480 - hours, 300.0)
    up = np.linspace(300, 300 + 30 * hours, hours)
    (leak,) = leaks(*cluster(noisy(np.concatenate([flat, up])), [50.0] * 480))
    begin = START + timedelta(hours=480 - hours)
    assert abs(leak.since - begin) <= timedelta(hours=hours / 3)
    assert leak.until == START + timedelta(hours=479)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", range(390, 414, 3))
def test_memory_that_rises_each_day_is_no_leak(end: int, seed: int) -> None:
    """Whatever the hour of the day at which the history ends."""
    hour = np.arange(end)
    values = 400 + 150 * np.sin(hour / 24 * 2 * np.pi) + 0.1 * hour
    assert leaks(*cluster(noisy(values, seed), [50.0] * end)) == []


@settings(max_examples=30, deadline=None)
@given(
    st.floats(1, 4),
    st.floats(0, 400),
    st.integers(20, 120),
    st.integers(0, 9),
    st.sampled_from(["line", "jump"]),
)
def test_memory_that_follows_the_nodes_is_no_leak(
    factor: float, base: float, points: int, seed: int, shape: str
) -> None:
    nodes = np.linspace(100, 100 * factor, points)
    if shape == "jump":
        nodes = np.where(np.arange(points) < points // 2, 100.0, 100.0 * factor)
    steps, driven = cluster(noisy(base + 3 * nodes, seed), list(nodes))
    assert leaks(steps, driven) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_start_that_settles_is_no_leak(seed: int) -> None:
    values = 300 + 500 * (1 - np.exp(-np.arange(60) / 6))
    assert leaks(*cluster(noisy(values, seed), [50.0] * 60)) == []


def test_without_drivers_nothing_is_concluded() -> None:
    steps, driven = cluster(noisy(np.linspace(300, 2000, 48)), [50.0] * 48)
    unknown = driven.with_columns(nodes=pl.lit(None, pl.Float64))
    assert leaks(steps, unknown) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of a week: services map at 0.42 of its size by the gauge, memory that leaks."""
    lines = []
    for i in range(8 * 24):
        at = int((START + timedelta(hours=i)).timestamp() * 1000)
        size = 65536
        used = 1e300 if i == 5 else 0.4 + i * 1e-4
        for text in (
            f'cilium_bpf_map_pressure{{map_name="lb4_services_v2",node="a"}} {used}',
            f'cilium_bpf_map_capacity{{map_group="default",node="a"}} {size}',
            f'cilium_nodes_all_num{{node="a"}} {50 + i // 48}',
            f'cilium_process_resident_memory_bytes{{node="a"}} {(300 + 5 * i) * 2**20}',
            f'cilium_endpoint{{node="a"}} {"+Inf" if i == 3 else 30}',
        ):
            lines.append(f"{text} {at}")
    (tmp_path / "week.prom").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_leak_refuses_the_sizing_of_memory_but_of_nothing_else(folder: Path) -> None:
    plan = capacity.plan(PlanSettings(str(folder)))
    assert "agent" not in plan.exhaustion["component"].to_list()
    assert "lb4_services_v2" in plan.exhaustion["subject"].to_list()
    assert any("a leak is suspected" in w for w in plan.warnings)
    assert any("agent memory is not planned" in w for w in plan.warnings)


def test_samples_without_a_value_are_counted(folder: Path) -> None:
    plan = capacity.plan(PlanSettings(str(folder)))
    told = plan.doubts.filter(kind="not finite").sort("subject")
    assert told["subject"].to_list() == ["cilium_bpf_map_pressure", "cilium_endpoint"]
    assert told["other"].to_list() == [1.0, 1.0]
    assert told["since"].to_list() == [START + timedelta(hours=5), START + timedelta(hours=3)]


def test_the_kernels_count_wins_over_the_gauge(folder: Path) -> None:
    # S25 of the acceptance scenarios: the gauge says 0.42, the kernel's map is full
    inventory = folder / "dump"
    inventory.mkdir()
    text = folder / "week.prom"
    lines = text.read_text().replace("lb4_services_v2", "ipcache").replace("} 65536", "} 1000")
    text.write_text(lines)
    entries = {
        f"10.0.{i // 250}.{i % 250}/32": [f"identity={i} encryptkey=0 tunnelendpoint=0.0.0.0"]
        for i in range(1000)
    }
    asked = PlanSettings(str(text), inventory=str(inventory))
    (inventory / "bpf_ipcache.json").write_text(json.dumps(dict(list(entries.items())[:420])))
    honest = capacity.plan(asked)
    assert honest.exhaustion.filter(subject="ipcache")["usage"].item() == pytest.approx(0.42, 0.01)
    assert honest.doubts.filter(kind="conflict").is_empty()
    (inventory / "bpf_ipcache.json").write_text(json.dumps(entries))
    plan = capacity.plan(asked)
    row = plan.doubts.filter(kind="conflict").row(0, named=True)
    assert (row["subject"], row["metric"], row["other"]) == ("ipcache", 419.0, 1000.0)
    assert plan.exhaustion.filter(subject="ipcache")["usage"].item() == pytest.approx(1.0, 0.01)
    assert plan.verdict == "short"


def test_an_inventory_of_another_size_is_told_not_used(folder: Path) -> None:
    rows = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{i}"}} for i in range(10)]
    listed = {"apiVersion": "v1", "kind": "List", "items": rows}
    (folder / "nodes.json").write_text(json.dumps(listed))
    plan = capacity.plan(PlanSettings(str(folder)))
    row = plan.doubts.filter(kind="conflict").row(0, named=True)
    assert (row["subject"], row["metric"], row["other"]) == ("nodes", 53.0, 10.0)
    assert row["used"] == "metrics"
    assert plan.drivers["nodes"].max() == 53.0


@pytest.mark.parametrize(
    ("pressure", "kernel", "used", "word"),
    [
        (0.03, "5.14.0-427", "no larger map", "kernels from 5.11 to 6.14"),
        (0.97, "5.14.0-427", "larger maps help", "97% full"),
        (0.03, "6.18.1", "no larger map", "tell full maps from locked ones first"),
    ],
)
def test_failed_insertions_are_told_apart_from_a_full_map(
    export: Callable[..., Metrics], pressure: float, kernel: str, used: str, word: str
) -> None:
    # S23 of the acceptance scenarios: 12 drops/s, pressure 0.03, kernel 5.14
    times = [60_000 * i for i in range(60)]
    drops = {"__name__": "cilium_drop_count_total", "reason": "CT: Map insertion failed",
             "direction": "EGRESS", "node": "n1"}  # fmt: skip
    gauge = {"__name__": "cilium_bpf_map_pressure", "map_name": "ct4_global", "node": "n1"}
    count = {"__name__": "cilium_nodes_all_num", "node": "n1"}
    metrics = export(
        (drops, [(at, 12.0 * at / 1000) for at in times]),
        (gauge, [(at, pressure) for at in times]),
        (count, [(at, 9.0) for at in times]),
    )
    steps = steps_of(metrics)
    row = dict.fromkeys(NODES.schema) | {"node": "n1", "kernel": kernel, "labels": "{}"}
    inventory = Inventory(nodes=pl.DataFrame([row], schema=NODES.schema))
    found = doubts(metrics, steps, drivers(steps), inventory, [], "1.17")
    (told,) = found.filter(kind="failed insertions").iter_rows(named=True)
    assert told["metric"] == pytest.approx(12, rel=0.01)
    assert told["used"] == used
    assert word in told["detail"]
