"""Costs in production: packets that Cilium forwarded against the softirq time nodes spent.

From node_exporter (softirq time by CPU, squeezes) and Cilium (forwarded packets, drops). What else
runs in softirq (timers, block devices, RCU) is a base, told apart by steps at which traffic varied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import theilslopes

from capacity.errors import ModelError
from capacity.export import Metrics
from capacity.tables import Column, Table, check

Array = npt.NDArray[np.float64]

LEAST_STEPS: Final = 6
# Below this share of variation in the packet rate a slope is noise
_LEAST_VARIATION: Final = 0.1
# Pairs of steps grow as their square
_MOST_STEPS: Final = 2000

COUNTERS: Final = {
    "packets": "cilium_forward_count_total",
    "bytes": "cilium_forward_bytes_total",
    "drops": "cilium_drop_count_total",
    "softirq": "node_cpu_seconds_total",
    "squeezes": "node_softnet_times_squeezed_total",
    "ct_gc": "cilium_datapath_conntrack_gc_duration_seconds_sum",
}

LIVE: Final = Table(
    "lb_live",
    "one node, or all together",
    (
        Column("node", pl.String, "", "node name; * for all nodes together"),
        Column("steps", pl.Int64, "1", "intervals between scrapes that were used"),
        Column("packets", pl.Float64, "1/s", "forwarded, mean"),
        Column("packets_most", pl.Float64, "1/s", "forwarded, largest step"),
        Column("nanoseconds", pl.Float64, "ns", "softirq time a packet", nullable=True),
        Column("low", pl.Float64, "ns", "5 % bound", nullable=True),
        Column("high", pl.Float64, "ns", "95 % bound", nullable=True),
        Column("base", pl.Float64, "1", "softirq time without packets, in cores", nullable=True),
        Column("busiest", pl.Float64, "1", "softirq share of the busiest CPU, largest step"),
        Column("headroom", pl.Float64, "1", "factor by which traffic may grow until the busiest "
               "CPU reaches the budget", nullable=True),
        Column("frame", pl.Float64, "byte", "bytes a packet", nullable=True),
        Column("drops", pl.Float64, "1/s", "dropped, mean", nullable=True),
        Column("drop_reason", pl.String, "", "reason of most drops", nullable=True),
        Column("squeezes", pl.Float64, "1/s", "times that a poll ran out of budget", nullable=True),
        Column(
            "ct_gc", pl.Float64, "1", "share of time that CT garbage collection runs", nullable=True
        ),
        Column("note", pl.String, "", "what cannot be told, and why", nullable=True),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fit:
    """softirq = base + cost × packets: cost with bounds [s], base [cores]."""

    cost: float
    low: float
    high: float
    base: float


def fit(packets: npt.ArrayLike, softirq: npt.ArrayLike) -> Fit:
    """Fit softirq seconds a second to packets a second, robustly, with a base of 0 or more.

    Theil and Sen's slope: the median of slopes of pairs of steps, which a few odd steps do not
    move; 90 % bounds by Sen's order statistics, which take steps as independent: where what runs
    beside comes and goes slowly, they are too narrow.

    Raises
    ------
    ModelError
        If there are fewer than 6 steps, or traffic varied by less than 10 %.

    References
    ----------
    .. [1] P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63
       (1968).
    """
    rate, used = np.asarray(packets, float), np.asarray(softirq, float)
    if len(rate) < LEAST_STEPS:
        raise ModelError(f"{len(rate)} steps; at least {LEAST_STEPS} are needed")
    middle = float(np.median(rate))
    spread = float(np.subtract(*np.quantile(rate, [0.9, 0.1])))
    if middle <= 0 or spread < _LEAST_VARIATION * middle:
        raise ModelError("the packet rate hardly varied: cost and base cannot be told apart")
    thin = np.linspace(0, len(rate) - 1, min(len(rate), _MOST_STEPS)).astype(int)
    told = theilslopes(used[thin], rate[thin], alpha=0.9)
    base = max(float(np.median(used - told.slope * rate)), 0.0)
    cost, low, high = (max(float(v), 0.0) for v in (told.slope, told.low_slope, told.high_slope))
    return Fit(cost, low, high, base)


def rates(export: Metrics, metric: str, **labels: str) -> pl.DataFrame:
    """Give increments a second of a counter's series: a fall is a restart, counted from zero.

    Returns
    -------
    DataFrame
        series, time, node, labels (JSON), span [s], rate [1/s].
    """
    series = export.series.filter(pl.col("metric") == metric)
    for name, value in labels.items():
        series = series.filter(pl.col("labels").str.json_path_match(f"$.{name}") == value)
    grown = (
        export.samples.join(series.select("series", "node", "labels"), on="series")
        .sort("series", "time")
        .with_columns(
            span=pl.col("time").diff().over("series").dt.total_milliseconds() / 1000,
            step=pl.col("value").diff().over("series"),
        )
        .drop_nulls("span")
        .filter(pl.col("span") > 0)
    )
    up = pl.when(pl.col("step") < 0).then(pl.col("value")).otherwise(pl.col("step"))
    return grown.with_columns(rate=up / pl.col("span"))


def live(export: Metrics, *, budget: float = 0.7) -> pl.DataFrame:
    """Give cost of a packet, and headroom, of each node and of all together.

    Parameters
    ----------
    export
        Metrics of node_exporter and Cilium agents, several scrapes.
    budget
        Share of a CPU that softirq may take. [1]

    Returns
    -------
    DataFrame
        Table `LIVE`, the whole last.

    Raises
    ------
    ModelError
        If the export lacks softirq time or forwarded packets.

    Notes
    -----
    Packets count as often as nodes handle them: this is a cost a pass, not a client's packet.
    Headroom takes the busiest CPU of the largest step and lets its packets' part grow:
    (budget − base of a CPU) / (busiest − base of a CPU).
    """
    steps = paired(export)
    others = {
        name: rates(export, COUNTERS[name]) for name in ("bytes", "drops", "squeezes", "ct_gc")
    }
    rows = [
        _row(str(node), part, others, budget)
        for (node,), part in steps.group_by("node", maintain_order=True)
    ]
    if len(rows) > 1:
        rows.append(_row("*", steps, others, budget))
    return check(pl.DataFrame(rows, schema=LIVE.schema), LIVE)


def paired(export: Metrics) -> pl.DataFrame:
    """Give packets and softirq time of each node at the times of softirq.

    Returns
    -------
    DataFrame
        node, time, packets [1/s], used and busiest (all CPUs, the busiest) [cores], cpus, span [s].

    Raises
    ------
    ModelError
        If the export lacks softirq time or forwarded packets.
    """
    packets = rates(export, COUNTERS["packets"])
    softirq = rates(export, COUNTERS["softirq"], mode="softirq")
    lacking = [
        name
        for name, frame in (
            (COUNTERS["packets"], packets),
            ('node_cpu_seconds_total{mode="softirq"}', softirq),
        )
        if frame.is_empty()
    ]
    if lacking:
        msg = f"the export has no two samples of {' and '.join(lacking)}; scrape Cilium agents and "
        raise ModelError(msg + "node_exporter (collectors cpu, softnet) into one export")
    steps = _steps(packets, softirq)
    if steps.is_empty():
        raise ModelError(
            "no node has both softirq time and forwarded packets at the same times; name nodes "
            "alike: label node, or relabel instance"
        )
    return steps


def _steps(packets: pl.DataFrame, softirq: pl.DataFrame) -> pl.DataFrame:
    """Put both on the times of softirq: node, time, packets, used, busiest, cpus."""
    per_cpu = softirq.with_columns(cpu=pl.col("labels").str.json_path_match("$.cpu"))
    used = (
        per_cpu.group_by("node", "time")
        .agg(used=pl.col("rate").sum(), busiest=pl.col("rate").max(), cpus=pl.len(),
             span=pl.col("span").mean())
        .sort("time")
    )  # fmt: skip
    moved = packets.group_by("node", "time").agg(packets=pl.col("rate").sum()).sort("time")
    near = used.join_asof(
        moved, on="time", by="node", strategy="nearest", tolerance="60s", check_sortedness=False
    )
    return near.drop_nulls(["node", "packets"]).sort("node", "time")


def _row(
    node: str, steps: pl.DataFrame, others: dict[str, pl.DataFrame], budget: float
) -> dict[str, object]:
    note = None
    told: Fit | None = None
    try:
        told = fit(steps["packets"].to_numpy(), steps["used"].to_numpy())
    except ModelError as error:
        note = str(error)
    own = {
        name: frame if node == "*" else frame.filter(pl.col("node") == node)
        for name, frame in others.items()
    }
    busiest = float(steps["busiest"].max())  # type: ignore[arg-type]
    nodes = steps["node"].n_unique()
    mean = float(steps["packets"].mean())  # type: ignore[arg-type]
    bytes_ = _mean(own["bytes"], nodes)
    return {
        "node": node, "steps": len(steps), "packets": mean,
        "packets_most": float(steps["packets"].max()),  # type: ignore[arg-type]
        "nanoseconds": told.cost * 1e9 if told else None,
        "low": told.low * 1e9 if told else None, "high": told.high * 1e9 if told else None,
        "base": told.base if told else None, "busiest": busiest,
        "headroom": _headroom(told, busiest, float(steps["cpus"].mean()), budget),  # type: ignore[arg-type]
        "frame": bytes_ / mean if bytes_ is not None and mean > 0 else None,
        "drops": _mean(own["drops"], nodes), "drop_reason": _reason(own["drops"]),
        "squeezes": _mean(own["squeezes"], nodes), "ct_gc": _mean(own["ct_gc"], nodes),
        "note": note,
    }  # fmt: skip


def _headroom(told: Fit | None, busiest: float, cpus: float, budget: float) -> float | None:
    if told is None:
        return None
    base = told.base / max(cpus, 1.0)
    return max(budget - base, 0.0) / (busiest - base) if busiest > base else None


def _mean(frame: pl.DataFrame, nodes: int) -> float | None:
    """Rate of one node: series at a time summed, times averaged."""
    if frame.is_empty():
        return None
    whole = frame.group_by("node", "time").agg(pl.col("rate").sum())["rate"].mean()
    return float(whole) if whole is not None else None  # type: ignore[arg-type]


def _reason(drops: pl.DataFrame) -> str | None:
    if drops.is_empty():
        return None
    by = (
        drops.with_columns(reason=pl.col("labels").str.json_path_match("$.reason"))
        .group_by("reason").agg(pl.col("rate").sum()).sort("rate", "reason", descending=True)
    )  # fmt: skip
    return by["reason"][0] if by["rate"][0] > 0 else None
