"""A window of an export: use as steps, and what is set, which is read at the edges of windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import polars as pl

from capacity.export import Metrics, concat, is_in_order
from capacity.observe.names import one_cluster
from capacity.rightsizing.steps import Floats, Integers, Kinds, Steps, resample, runs_of
from capacity.rightsizing_settings import RightsizingSettings

CPU: Final = "container_cpu_usage_seconds_total"
MEMORY: Final = "container_memory_working_set_bytes"
USAGE: Final = (CPU, MEMORY)
# Each of a series a container and more, which change seldom: kubernetes/kube-state-metrics
# docs/metrics/workload, google/cadvisor metrics/prometheus.go
EDGES: Final = (
    "kube_pod_owner", "kube_replicaset_owner", "kube_job_owner",
    "kube_pod_container_resource_requests", "kube_pod_container_resource_limits",
    "kube_pod_container_status_restarts_total",
    "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total",
    "kube_horizontalpodautoscaler_info", "kube_horizontalpodautoscaler_spec_target_metric",
)  # fmt: skip
# Few series, and a value that must not be missed: read whole
EVENTS: Final = ("kube_pod_container_status_last_terminated_reason",)
WANTED: Final = (*USAGE, *EDGES, *EVENTS)
# What is set is read at edges: pods that come and go between two are told by their names alone
LONGEST: Final = 48 * 3_600_000
# An edge: two scrapes at the slowest usual interval
_EDGE: Final = 10 * 60_000

# By series: kinds and scales of what is wanted, width of a step, last samples before: `resample`
Reduce = Callable[[Kinds, Floats, int, tuple[Integers, Floats]], Steps]


@dataclass(frozen=True, slots=True)
class Part:
    """A window that follows the one before: series of use, how to bring them to steps, what is set.

    `sources` is asked for last; `share` is what is read so far of all.
    """

    series: pl.DataFrame
    reduce: Reduce
    state: Metrics
    sources: Callable[[], pl.DataFrame]
    share: float


def of_frames(
    usage: Metrics, state: Metrics, settings: RightsizingSettings, share: float,
    sources: pl.DataFrame | None = None,
) -> Part:  # fmt: skip
    """Make a part of frames of samples."""
    usage = one_cluster(usage, settings.cluster)
    samples = usage.samples if is_in_order(usage.samples) else usage.samples.sort("series", "time")
    runs = runs_of(
        samples["series"].to_numpy(), samples["time"].to_physical().to_numpy(),
        samples["value"].to_numpy(),
    )  # fmt: skip
    told = pl.concat([usage.sources, state.sources]) if sources is None else sources
    state = one_cluster(state, settings.cluster)
    return Part(usage.series, partial(resample, runs), state, lambda: told, share)


def read_at(low: int, high: int, *, is_first: bool) -> list[tuple[int, int]]:
    """Give the times of a window at which what is set is read: its end, of the first its start."""
    if high - low <= 2 * _EDGE:
        return [(low, high - 1)]
    begins = [(low, low + _EDGE)] if is_first else []
    return [*begins, (high - _EDGE, high - 1)]


def joined_metrics(found: list[Metrics]) -> Metrics:
    """Put parts of what is set together; those that tell nothing are left out."""
    return concat([part for part in found if len(part.series)])


def edges(start: int, end: int, width: int, step: int) -> list[int]:
    """Give the edges of windows: multiples of the step within, so that no step is cut in two."""
    many = max(1, math.ceil((end - start) / width))
    inner = [(start + (end - start) * k // many) // step * step for k in range(1, many)]
    return [start, *(edge for edge in inner if edge > start), end]
