from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from capacity.export import Metrics, build
from capacity.observe import by_step, observe
from capacity.observe.charges import (
    ASSUMED,
    BY_BOOT,
    BY_HEIGHT,
    BY_LEVEL,
    agent_memory,
    two_levels,
)

from .conftest import START

MAPS = 158e6
HOUR = 3_600_000
NAMES = {
    "working": "container_memory_working_set_bytes",
    "rss": "cilium_process_resident_memory_bytes",
    "maps": "cilium_bpf_maps_virtual_memory_max_bytes",
    "start": "cilium_process_start_time_seconds",
    "boot": "node_boot_time_seconds",
}


def fleet(
    charged: list[bool],
    *,
    tell: tuple[str, ...] = ("working", "rss", "maps"),
    apart: float = 1.0,
    program: float = 30e6,
    hours: int = 12,
) -> tuple[Metrics, np.ndarray]:
    """Equal agents of which some are charged for maps; and what each would hold as a first pod.

    `program` is the part of resident memory that the pod is not charged for.
    """
    rng = np.random.default_rng(1)
    labels, series, times, values, truth = [], [], [], [], []
    for i, is_charged in enumerate(charged):
        own = rng.uniform(200e6, 400e6) + rng.normal(0, 4e6, hours)
        first = own - program + rng.normal(0, 4e6, hours) + apart * MAPS
        truth.append(first.max())
        begun = START / 1000 - (1e6 if is_charged else 5e5)
        told = {
            "working": first if is_charged else first - apart * MAPS, "rss": own,
            "maps": np.full(hours, MAPS), "start": np.full(hours, begun),
            "boot": np.full(hours, START / 1000 - 1e6 - 60),
        }  # fmt: skip
        for name in tell:
            more = {"container": "cilium-agent"} if name == "working" else {}
            labels.append({"__name__": NAMES[name], "node": f"n{i:03}", **more})
            series.append(np.full(hours, len(labels) - 1))
            times.append(START + HOUR * np.arange(hours))
            values.append(told[name])
    parts: list[Any] = [np.concatenate(part) for part in (series, times, values)]
    return build(labels, *parts, cluster="c"), np.array(truth)


def told(metrics: Metrics) -> tuple[np.ndarray, set[str]]:
    """Largest `memory` of each node, and what the charge was told by."""
    seen = observe(metrics)
    memory = seen.filter(component="agent", quantity="memory").group_by("node").agg(
        pl.col("value").max()
    ).sort("node")  # fmt: skip
    return memory["value"].to_numpy(), set(seen.filter(quantity="map_charge")["subject"])


@pytest.mark.parametrize(
    ("tell", "by"),
    [
        (("working", "rss", "maps"), BY_LEVEL),
        (("working", "rss"), BY_LEVEL),
        (("working", "rss", "maps", "start"), BY_LEVEL),
        (("working", "maps", "start", "boot"), BY_BOOT),
    ],
)
def test_agents_that_restarted_are_planned_as_first_pods(tell: tuple[str, ...], by: str) -> None:
    metrics, truth = fleet([True] * 25 + [False] * 15, tell=tell)
    memory, evidence = told(metrics)
    assert evidence == {by}
    assert memory == pytest.approx(truth, rel=0.05)


def test_a_fleet_that_was_restarted_as_a_whole_is_planned_for_the_next_boot() -> None:
    metrics, truth = fleet([False] * 20, tell=("working", "rss", "maps", "start", "boot"))
    assert told(metrics)[0] == pytest.approx(truth, rel=0.01)
    metrics, truth = fleet([False] * 20)
    memory, evidence = told(metrics)
    assert evidence == {ASSUMED}
    assert memory == pytest.approx(truth, rel=0.01)


def test_first_pods_get_nothing_added() -> None:
    metrics, truth = fleet([True] * 20)
    memory, evidence = told(metrics)
    assert evidence == {BY_HEIGHT}
    assert memory == pytest.approx(truth)


def test_what_both_kinds_differ_by_wins_over_what_agents_report() -> None:
    # Tries cost the kernel more than it reports: here 1.6 times
    metrics, truth = fleet([True] * 25 + [False] * 15, apart=1.6)
    assert told(metrics)[0] == pytest.approx(truth, rel=0.05)
    seen = by_step(observe(metrics)).filter(quantity="memory_maps_seen")
    assert seen["largest"].to_list() == pytest.approx([1.6 * MAPS], rel=0.05)


def test_one_level_is_not_taken_for_two() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.normal(0, 1, 500), rng.uniform(0, 1, 500), rng.standard_t(4, 500),
                   np.full(9, 3.0)):  # fmt: skip
        assert two_levels(values) is None
    both = np.concatenate([rng.normal(0, 1, 480), rng.normal(9, 1, 20)])
    assert two_levels(both) == pytest.approx((0, 9), abs=0.5)


def test_no_more_than_the_working_set_is_told_where_nothing_tells_of_maps() -> None:
    metrics, truth = fleet([True] * 6, tell=("working",))
    memory, evidence = told(metrics)
    assert evidence == {ASSUMED}
    assert memory == pytest.approx(truth)


def test_agents_without_a_sample_tell_nothing() -> None:
    keys = dict.fromkeys(("cluster", "node", "component", "subject", "quantity", "series"), "c")
    own = pl.DataFrame([{**keys, "component": "agent", "quantity": "memory_working_set"}])
    own = own.with_columns(target=pl.lit(0, pl.UInt32))
    schema = {"time": pl.Datetime("ms", "UTC"), "target": pl.UInt32, "value": pl.Float64}
    rows, targets = agent_memory(pl.DataFrame(schema=schema), own)
    assert rows.is_empty()
    assert targets.equals(own)


def test_a_clock_that_jitters_is_no_restart() -> None:
    """A start at half a minute: the kernel's time of boot, which it rests on, moves by a second."""
    metrics, truth = fleet([True] * 4 + [False] * 4, tell=("working", "rss", "maps", "start"))
    begun = metrics.series.filter(metric=NAMES["start"])["series"]
    odd = pl.int_range(pl.len()) % 2
    jitter = pl.when(pl.col("series").is_in(begun.to_list())).then(
        (pl.col("value") / 60).floor() * 60 + 29.9 + 0.2 * odd
    )
    samples = metrics.samples.with_columns(value=jitter.otherwise("value"))
    found = told(metrics)[0]
    assert np.array_equal(told(replace(metrics, samples=samples))[0], found)
