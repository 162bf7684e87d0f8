"""Peaks: quantiles over time and nodes, spikes around starts and crowds of pods, OOM margins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from capacity.export import Metrics, build
from capacity.kernel_memory import KernelMemory
from capacity.observe import by_step, look, observe
from capacity.observe.usage import shrunk
from capacity.peaks import Extra, extra, peaks, with_reserve
from capacity.tables import SPIKES, STEPS

from .conftest import START
from .test_charges import fleet
from .test_costs import MEMORY, fitted

MB = 1e6
MINUTE = 60_000
BORN, CROWD = 240, 900  # minutes
SPIKE, POD_SPIKE = 80 * MB, 50 * MB


def agents(minutes: int, spacing: int = 1, nodes: int = 3) -> Metrics:
    """Agents that start anew after four hours, and later get 30 pods at once; nothing else."""
    rng = np.random.default_rng(0)
    at = np.arange(0, minutes, spacing)
    labels: list[dict[str, str]] = []
    series, times, values = [], [], []
    for i in range(nodes):
        since, crowd = at - BORN, at - CROWD
        rss = 300 * MB + 20 * MB * i + 0.5 * MB * rng.normal(size=len(at))
        rss += SPIKE * ((since >= 0) & (since < 5)) + POD_SPIKE * ((crowd >= 0) & (crowd < 4))
        # What stays is no spike: a pod costs half a megabyte for good
        rss += 15 * MB * (crowd >= 0)
        told = {
            "cilium_process_resident_memory_bytes": rss,
            "cilium_process_start_time_seconds": START / 1000
            + np.where(since >= 0, BORN * 60, -1e6),
            # After a start endpoints come back: no crowd of new pods
            "cilium_endpoint": np.where(crowd >= 0, 40.0, np.where(since == 0, 0.0, 10.0)),
        }
        for name, column in told.items():
            labels.append({"__name__": name, "node": f"n{i}"})
            series.append(np.full(len(at), len(labels) - 1))
            times.append(START + MINUTE * at)
            values.append(column)
    parts: list[Any] = [np.concatenate(part) for part in (series, times, values)]
    return build(labels, *parts, cluster="c")


def test_starts_and_crowds_of_pods_are_told_apart_from_what_stays() -> None:
    found = look(agents(1800)).spikes.filter(quantity="memory").rows_by_key("kind", named=True)
    assert found["start"][0]["events"] == found["pods"][0]["events"] == 3
    assert found["start"][0]["p50"] == pytest.approx(SPIKE, rel=0.05)
    assert found["pods"][0]["p95"] == pytest.approx(POD_SPIKE, rel=0.1)


def test_samples_far_apart_tell_no_spike() -> None:
    assert look(agents(7200, spacing=30)).spikes.is_empty()


def test_an_infinite_time_of_start_is_no_start() -> None:
    metrics = agents(1800)
    started = metrics.series.filter(metric="cilium_process_start_time_seconds")["series"]
    is_odd = pl.col("series").is_in(started.implode()) & (pl.int_range(pl.len()) % 7 == 0)
    value = pl.when(is_odd).then(np.inf).otherwise("value")
    odd = replace(metrics, samples=metrics.samples.with_columns(value=value))
    assert look(odd).spikes.equals(look(metrics).spikes)


def test_quantiles_are_over_time_and_nodes() -> None:
    seen = look(agents(600)).usage.filter(component="agent", quantity="memory").row(0, named=True)
    assert seen["nodes"] == 3
    assert seen["worst_node"] == "n2"
    assert seen["p50"] == pytest.approx(320 * MB, rel=0.01)
    assert seen["largest"] == pytest.approx(420 * MB, rel=0.01)
    assert seen["typical"] < seen["worst_level"] < seen["worst_p99"]


def test_a_node_that_few_steps_tell_is_drawn_to_the_others() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(100.0, 3.0, 300)
    steps = np.where(np.arange(300) < 150, 2, 50)
    level = true + rng.normal(size=300) * 10 / np.sqrt(steps)
    nodes = pl.DataFrame({"what": 0, "level": level, "noise": 10.0, "steps": steps})
    drawn = shrunk(nodes)["shrunk"].to_numpy()
    young = steps == 2
    error = [np.sqrt(np.mean((told - true)[young] ** 2)) for told in (level, drawn)]
    assert error[1] < 0.6 * error[0]
    assert np.abs(drawn - level)[~young].max() < np.abs(drawn - level)[young].max()


KERNEL = KernelMemory("6.18", 200 * MB, 260 * MB, {}, 1.0)


def spiked(amount: float) -> pl.DataFrame:
    row = {"cluster": "c", "component": "agent", "quantity": "memory", "kind": "start",
           "events": 9, "nodes": 9, "p50": amount / 2, "p95": amount, "largest": 2 * amount,
           "worst_node": "n7"}  # fmt: skip
    return pl.DataFrame([row], schema=SPIKES.schema)


def told(*quantities: str) -> pl.DataFrame:
    rows = [dict.fromkeys(STEPS.schema) | {"component": "agent", "quantity": q} for q in quantities]
    return pl.DataFrame(rows, schema=STEPS.schema)


def test_a_limit_holds_starts_and_what_no_agent_reports() -> None:
    more = extra(MEMORY, spiked(80 * MB), KERNEL, told("memory_bpf_maps"))
    assert more == Extra(80 * MB, "start", 9, 60 * MB)
    # No metric of maps: all of them are missing. Where both kinds of pods were seen: nothing is
    assert extra(MEMORY, spiked(0), KERNEL, told("memory_rss")).kernel == 260 * MB
    seen = told("memory_bpf_maps", "memory_maps_seen")
    assert extra(MEMORY, spiked(0), replace(KERNEL, ratio=1.3), seen).kernel == 0


@pytest.mark.parametrize(("charged", "missing"), [(25, 0.0), (2, 60 * MB), (0, 60 * MB)])
def test_working_sets_of_first_pods_hold_what_the_kernel_charges(
    charged: int, missing: float
) -> None:
    """Agents that are known to have made the maps of their node are charged for all of it."""
    metrics, _ = fleet([True] * charged + [False] * 2, tell=("working", "rss", "maps", "start",
                                                             "boot"))  # fmt: skip
    steps = by_step(observe(metrics))
    assert extra(MEMORY, spiked(0), KERNEL, steps).kernel == missing


def test_agents_that_are_only_taken_to_be_first_pods_hold_nothing_for_sure() -> None:
    charge = told("memory_bpf_maps", "map_charge").with_columns(
        subject=pl.lit("assumed"), nodes=pl.lit(30, pl.Int64), mean=pl.lit(1.0),
        time=pl.lit(0).cast(STEPS.schema["time"]),
    )  # fmt: skip
    assert extra(MEMORY, spiked(0), KERNEL, charge).kernel == 60 * MB


def test_what_is_held_back_brings_the_end_nearer_and_raises_the_chance_of_a_kill() -> None:
    item = fitted("c", 120, 5)
    held = with_reserve(item, Extra(80 * MB, "start", 9, 60 * MB))
    assert np.median(held.runs_out()) < np.median(item.runs_out())
    assert "76.29 MiB for starts" in held.reserved
    nodes = round(float(np.median(item.runs_out())))
    key, nothing = ("agent", "memory"), Extra(None, None, 0, 0.0)
    usage = look(agents(600)).usage
    rows = [
        peaks([item], {key: more}, usage, nodes, 0.01).row(0, named=True)
        for more in (nothing, Extra(80 * MB, "start", 9, 60 * MB))
    ]
    assert rows[0]["probability"] == pytest.approx(0.5, abs=0.1)
    assert rows[1]["probability"] > rows[0]["probability"] + 0.1
    assert rows[1]["holds"] - rows[0]["holds"] == pytest.approx(140 * MB)
    assert rows[1]["margin"] == pytest.approx(MEMORY["limit"] - rows[1]["holds"])
    assert rows[0]["spike"] is None


def test_a_start_that_is_no_time_is_none() -> None:
    metrics = agents(120)
    begun = metrics.series.filter(metric="cilium_process_start_time_seconds")["series"].to_list()
    wild = pl.when(pl.col("series").is_in(begun)).then(1e300).otherwise("value")
    odd = replace(metrics, samples=metrics.samples.with_columns(value=wild))
    assert look(odd).spikes.filter(kind="start").is_empty()
