"""What is set and what happened: requests, limits, OOM kills, restarts, throttling, autoscalers.

Read from samples that may lie hours apart (edges of windows): counters are compared sample by
sample, gauges by their newest value.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.export import Metrics
from capacity.rightsizing.usage import UNIT

_OOM: Final = "kube_pod_container_status_last_terminated_reason"
_RESTARTS: Final = "kube_pod_container_status_restarts_total"
_BOUNDS: Final = {
    "request": "kube_pod_container_resource_requests",
    "limit": "kube_pod_container_resource_limits",
}
_SCALES: Final = {"cpu": 1000.0, "memory": 1.0}
_PERIODS: Final = "container_cpu_cfs_periods_total"
_THROTTLED: Final = "container_cpu_cfs_throttled_periods_total"
# Fewer periods of 100 ms (CFS bandwidth control) than of an hour's tenth tell no share
_LEAST_PERIODS: Final = 3_600
_AT_START: Final = pl.duration(minutes=20)


def _label(name: str) -> pl.Expr:
    return pl.col("labels").str.json_path_match(f"$['{name}']")


def _samples(state: Metrics, metric: str, label: str | None = None) -> pl.DataFrame:
    """Give the samples of a metric by series and time, with its container and one label."""
    chosen = state.series.filter(pl.col("metric") == metric)
    # Labels are looked up once a series, not once a sample
    chosen = chosen.select("series", *UNIT, label=_label(label) if label else pl.lit(None))
    return state.samples.join(chosen, on="series").sort("series", "time")


def _newest(state: Metrics, metric: str, label: str) -> pl.DataFrame:
    """Give the newest value of each series of a metric."""
    chosen = state.series.filter(pl.col("metric") == metric)
    chosen = chosen.select("series", *UNIT, label=_label(label))
    newest = state.samples.join(chosen.select("series"), on="series", how="semi")
    newest = newest.group_by("series").agg(pl.all().sort_by("time").last())
    return newest.join(chosen, on="series")


def bounds(state: Metrics) -> pl.DataFrame:
    """Give what is set for each container of a pod, newest, and since when.

    Returns
    -------
    DataFrame
        namespace, pod, container, resource, request, limit [millicore or byte], seen.
    """
    found = []
    for name, metric in _BOUNDS.items():
        rows = _newest(state, metric, "resource").rename({"label": "resource"})
        rows = rows.filter(pl.col("resource").is_in(list(_SCALES)))
        scale = pl.col("resource").replace_strict(_SCALES, return_dtype=pl.Float64)
        found.append(
            rows.sort("time")
            .group_by(*UNIT, "resource")
            .agg(value=pl.col("value").last(), seen=pl.col("time").last())
            .with_columns(value=pl.col("value") * scale, bound=pl.lit(name))
        )
    rows = pl.concat(found)
    keys = [*UNIT, "resource"]
    seen = rows.group_by(keys).agg(pl.col("seen").max())
    for name in _BOUNDS:
        own = rows.filter(pl.col("bound") == name).select(*keys, pl.col("value").alias(name))
        seen = seen.join(own, on=keys, how="left", nulls_equal=True)
    return seen.select(*keys, "request", "limit", "seen")


def oom_kills(state: Metrics) -> pl.DataFrame:
    """Give containers that were killed for want of memory: namespace, pod, container, time.

    The gauge stays at 1 until the container ends for another reason: a kill counts once a pod.
    """
    rows = _samples(state, _OOM, "reason")
    rows = rows.filter(pl.col("label") == "OOMKilled", pl.col("value") >= 1)
    return rows.group_by(UNIT).agg(time=pl.col("time").min())


def restarts(state: Metrics) -> pl.DataFrame:
    """Give the restarts of each container of a pod within the history."""
    rows = _samples(state, _RESTARTS).with_columns(start=pl.col("time").min())
    first = pl.col("value").first()
    # A pod that came later began with none
    base = pl.when(pl.col("time").first() == pl.col("start").first()).then(first).otherwise(0)
    made = rows.group_by("series", *UNIT).agg(restarts=pl.col("value").max() - base)
    # Copies of one series tell the same
    return made.group_by(UNIT).agg(pl.col("restarts").max())


def throttling(state: Metrics) -> pl.DataFrame:
    """Give the share of CPU periods in which a container was throttled, on its worst day.

    Only containers with a CPU limit have these counters (google/cadvisor).
    """
    rows = pl.concat(
        _samples(state, name).with_columns(metric=pl.lit(name)) for name in (_PERIODS, _THROTTLED)
    )
    is_first = pl.col("series") != pl.col("series").shift()
    is_first = is_first.fill_null(value=True)
    before = pl.when(is_first).then(0.0).otherwise(pl.col("value").shift())
    rise = pl.col("value") - before
    rises = rows.sort("series", "time").with_columns(
        # A series that was there at the start began before: its first value is no increase
        rise=pl.when(is_first & (pl.col("time") - pl.col("time").min() < _AT_START)).then(0.0)
        .when(rise < 0).then("value").otherwise(rise),
        day=pl.col("time").dt.truncate("1d"),
    )  # fmt: skip
    days = rises.group_by(*UNIT, "day").agg(
        periods=pl.col("rise").filter(pl.col("metric") == _PERIODS).sum(),
        throttled=pl.col("rise").filter(pl.col("metric") == _THROTTLED).sum(),
    )
    told = days.filter(pl.col("periods") >= _LEAST_PERIODS)
    return told.group_by(UNIT).agg(
        throttled=(pl.col("throttled") / pl.col("periods")).max().clip(0, 1)
    )


def autoscaled(state: Metrics) -> pl.DataFrame:
    """Give workloads whose replicas follow the use of a request, with the resource and the HPA.

    Labels: kubernetes/kube-state-metrics docs/metrics/workload/horizontalpodautoscaler-metrics.md.
    """
    name = _label("horizontalpodautoscaler")
    series = state.series
    aims = series.filter(pl.col("metric") == "kube_horizontalpodautoscaler_info").select(
        "namespace", hpa=name, kind=_label("scaletargetref_kind"),
        workload=_label("scaletargetref_name"),
    )  # fmt: skip
    targets = series.filter(pl.col("metric") == "kube_horizontalpodautoscaler_spec_target_metric")
    targets = targets.filter(_label("metric_target_type") == "utilization").select(
        "namespace", hpa=name, resource=_label("metric_name")
    )
    joined = aims.join(targets, on=["namespace", "hpa"])
    return joined.select("namespace", "kind", "workload", "resource", "hpa").unique()
