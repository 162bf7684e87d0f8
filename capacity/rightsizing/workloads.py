"""Units → workloads: percentiles of the worst pod, peaks, kills, throttling, growth like a leak."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from capacity.observe.leaks import BINS, MIN_HOURS, RESTART, is_leak_shaped
from capacity.rightsizing.histogram import cpu_percentiles, memory_percentiles
from capacity.rightsizing.owners import owners
from capacity.rightsizing.peaks import peak_law
from capacity.rightsizing.state import autoscaled, bounds, oom_kills, restarts, throttling
from capacity.rightsizing.steps import longest_runs, part_medians, summary
from capacity.rightsizing.usage import UNIT, Usage, Values

CONTAINER: Final = ("namespace", "kind", "workload", "container")
# A pod's start: JIT compilation, cache fills, migrations
START_SECONDS: Final = 900.0
# Percentiles of pods that lived less tell of their start
_LONG_SECONDS: Final = 3600.0
# A pod is there if it was seen so shortly before the end
_ALIVE_SECONDS: Final = 900.0
# kubernetes/autoscaler model/aggregations_config.go 55c37cd5eb, DefaultOOMBumpUpRatio, …MinBumpUp
OOM_RATIO: Final = 1.2
OOM_BYTES: Final = 100 * (1 << 20)
# A pod that leaks matters where it is about as large as the largest
_LARGE: Final = 0.8


def workload_usage(usage: Usage, workloads: pl.DataFrame) -> pl.DataFrame:
    """Give a row a container of a workload and resource (cpu, memory), with all that rules use.

    Parameters
    ----------
    workloads
        Table workloads of the inventory; may be empty.

    Returns
    -------
    DataFrame
        Keys and resource; pods, running, replicas, points, hours; p50 … p99, largest, start
        of the worst pod; shared (p50 of the mean pod / of the worst); vpa50, vpa90, vpa95,
        peak_mode, peak_slope, peak_scale; confidence; kills, killed_at, throttled, restarts, leak;
        request, limit; hpa, by. [millicore or byte]
    """
    units = owners(usage.units, usage.state, workloads)
    containers = units.select(CONTAINER).unique().sort(CONTAINER).with_row_index("owner")
    units = units.join(containers, on=CONTAINER, maintain_order="left").sort("unit")
    units = _with_events(units, usage)
    of = units["owner"].to_numpy().astype(np.int64)
    told = []
    for resource, values in (("cpu", usage.cpu), ("memory", usage.memory)):
        start_steps = max(1, round(START_SECONDS / usage.width))
        rows = units.with_columns(**_columns(summary(*values, usage.since, start_steps)))
        rows = rows.with_columns(resource=pl.lit(resource), leak=_leaks(usage, resource))
        grouped = _grouped(rows, usage)
        if resource == "cpu":
            vpa = cpu_percentiles(*values, of, len(containers), usage.width)
        else:
            kills = _kill_steps(units, usage)
            vpa = memory_percentiles(*values, of, len(containers), usage.width, kills)
        names = {f"vpa{q}": vpa[:, k] for k, q in enumerate((50, 90, 95))}
        names |= peak_law(*values, of, len(containers), usage.width)
        owned = containers.select("owner").with_columns(**_columns(names))
        told.append(grouped.join(owned, on="owner"))
    return _with_set(pl.concat(told).join(containers, on="owner"), usage, units, workloads)


def _columns(arrays: dict[str, Any]) -> dict[str, pl.Series]:
    return {name: pl.Series(array, nan_to_null=True) for name, array in arrays.items()}


def _with_events(units: pl.DataFrame, usage: Usage) -> pl.DataFrame:
    """Add kills, restarts, throttling to units."""
    memory = bounds(usage.state).filter(pl.col("resource") == "memory")
    killed = oom_kills(usage.state).join(
        memory.select(*UNIT, "request", "limit"), on=UNIT, how="left"
    )
    killed = killed.select(
        *UNIT, killed="time", killed_at="limit", killed_request=pl.col("request")
    )
    for frame in (killed, restarts(usage.state), throttling(usage.state)):
        units = units.join(frame, on=UNIT, how="left", maintain_order="left")
    return units


def _kill_steps(units: pl.DataFrame, usage: Usage) -> tuple[Any, Any]:
    """Give the step of each unit's OOM kill, -1 without, and what VPA takes for the need then."""
    stepped = pl.col("killed").dt.epoch("ms") // round(usage.width * 1000)
    used = pl.col("killed_request").fill_null(0.0)
    need = pl.max_horizontal(used + OOM_BYTES, used * OOM_RATIO)
    told = units.select(step=stepped.fill_null(-1), need=need)
    return told["step"].to_numpy(), told["need"].to_numpy()


def _leaks(usage: Usage, resource: str) -> pl.Series:
    """Tell which units' memory rises like a leak while CPU, as a measure of load, does not."""
    if resource == "cpu":
        return pl.Series([False] * len(usage.units), dtype=pl.Boolean)
    offsets, steps, values = usage.memory
    begins, ends = longest_runs(offsets, values, RESTART)
    medians = part_medians(values, begins, ends, BINS)
    # Only what grew all the way is held against its load
    many = ends - begins
    is_long = (many >= 2 * BINS) & (many > 0)
    is_long[is_long] &= (
        steps[ends[is_long] - 1] - steps[begins[is_long]]
    ) * usage.width >= MIN_HOURS * 3600
    found = is_leak_shaped(medians, np.ones(len(medians))) & is_long
    for unit in np.flatnonzero(found).tolist():
        first, last = steps[begins[unit]], steps[ends[unit] - 1]
        load = _load(usage.cpu, unit, int(first), int(last))
        found[unit] = is_leak_shaped(medians[unit : unit + 1], np.array([load]))[0]
    return pl.Series(found)


def _load(cpu: Values, unit: int, first: int, last: int) -> float:
    """Give by how much a unit's CPU grew between two steps; 1 where it fell or is not known."""
    offsets, steps, values = cpu
    own = steps[offsets[unit] : offsets[unit + 1]]
    begin, end = offsets[unit] + np.searchsorted(own, [first, last + 1])
    medians = part_medians(values, np.array([begin]), np.array([end]), BINS)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.nan_to_num(medians[-1] / medians[0], nan=1.0, posinf=np.inf)
    return max(float(grown), 1.0)


def _grouped(rows: pl.DataFrame, usage: Usage) -> pl.DataFrame:
    """Take the worst pod of each container of a workload."""
    rows = rows.filter(pl.col("points") > 0)
    is_long = pl.col("points") * usage.width >= _LONG_SECONDS
    alive = pl.col("last") >= usage.until - max(1, round(_ALIVE_SECONDS / usage.width))
    peak = pl.col("largest").max()
    worst = {
        name: pl.coalesce(pl.col(name).filter(is_long).max(), pl.col(name).max())
        for name in ("p50", "p90", "p95", "p99")
    }
    leaks = pl.col("leak") & (pl.col("largest") >= _LARGE * pl.col("largest").max())
    return rows.group_by("owner", "resource").agg(
        **worst,
        shared=pl.col("p50").filter(is_long).mean() / pl.col("p50").filter(is_long).max(),
        pods=pl.len(),
        running=alive.sum(),
        points=pl.col("points").sum().cast(pl.Int64),
        hours=(pl.col("last").max() - pl.col("first").min() + 1) * usage.width / 3600,
        largest=peak,
        worst_pod=pl.col("pod").get(pl.col("largest").arg_max()),
        start=pl.col("start").max(),
        leak=leaks.any(),
        kills=pl.col("killed").is_not_null().sum(),
        killed_at=pl.col("killed_at").max(),
        restarts=pl.col("restarts").sum(),
        throttled=pl.col("throttled").max(),
        by=pl.col("by").first(),
    )


def _with_set(
    rows: pl.DataFrame, usage: Usage, units: pl.DataFrame, workloads: pl.DataFrame
) -> pl.DataFrame:
    """Add what is set now, replicas and autoscalers; the inventory is what a patch applies to."""
    keys = [*CONTAINER, "resource"]
    told = bounds(usage.state).join(units.select(*UNIT, "kind", "workload"), on=UNIT)
    told = told.sort("seen", *UNIT).group_by(keys).agg(
        pl.col("request").last(), pl.col("limit").last()
    )  # fmt: skip
    own = _of_inventory(workloads)
    counts = workloads.select(*CONTAINER, replicas=pl.col("replicas"), listed=pl.lit(value=True))
    rows = (
        rows.join(told, on=keys, how="left")
        .join(own, on=keys, how="left", suffix="_listed")
        .join(counts, on=list(CONTAINER), how="left")
    )
    rows = rows.with_columns(
        replicas=pl.coalesce("replicas", pl.col("running").cast(pl.Int64)),
        **{
            name: pl.when(pl.col("listed")).then(f"{name}_listed").otherwise(name)
            for name in ("request", "limit")
        },
    )
    scaled = autoscaled(usage.state)
    scaled = scaled.group_by("namespace", "kind", "workload", "resource").agg(pl.col("hpa").first())
    rows = rows.join(scaled, on=["namespace", "kind", "workload", "resource"], how="left")
    days = pl.col("hours") / 24
    minutes = usage.width / 60
    # estimator.go getConfidence: days of history, or days' worth of a sample a minute
    confidence = pl.min_horizontal(days, pl.col("points") * minutes / 1440)
    return rows.with_columns(confidence=confidence).drop(
        "request_listed", "limit_listed", "listed", "owner"
    )


def _of_inventory(workloads: pl.DataFrame) -> pl.DataFrame:
    """Give requests and limits of table workloads, a row a resource."""
    return pl.concat(
        workloads.select(
            *CONTAINER, resource=pl.lit(name),
            request=pl.col(f"{name}_request").cast(pl.Float64),
            limit=pl.col(f"{name}_limit").cast(pl.Float64),
        )
        for name in ("cpu", "memory")
    )  # fmt: skip
