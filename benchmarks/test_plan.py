"""Time and memory of whole plans. Run: pytest benchmarks --benchmark-only -n 0."""

from __future__ import annotations

import resource
from typing import Any

import pytest

import capacity
from capacity import shipped
from capacity.observe import by_step, observe

SOURCES = {"demo": "demo", "lab": str(shipped.path("data", "lab"))}


@pytest.mark.parametrize("name", SOURCES)
def test_plan(benchmark: Any, name: str) -> None:
    """Everything from reading to recommendations, in a warm process."""
    plan = benchmark.pedantic(
        capacity.plan, (capacity.PlanSettings(SOURCES[name]),), rounds=5, warmup_rounds=1
    )
    benchmark.extra_info["peak_rss_mib"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    )
    assert plan.exhaustion["rank"][0] == 1


def test_observe(benchmark: Any) -> None:
    """Samples to steps: the part that grows with nodes and history."""
    metrics = capacity.read(shipped.path("data", "demo"))
    steps = benchmark.pedantic(lambda: by_step(observe(metrics)), rounds=5, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = len(metrics.samples) / benchmark.stats["median"]
    assert len(steps)
