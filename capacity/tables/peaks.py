"""Tables of peaks: what containers use in the worst case, and what a limit must hold."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import TIME, Column, Table

USAGE: Final = Table(
    "usage",
    "memory or CPU of one component over the newest 14 days: quantiles over time and nodes",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("quantity", pl.String, "", "memory, cpu"),
        Column("since", TIME, "", "start of the 14 days, or of the history"),
        Column("nodes", pl.Int64, "1", "nodes that report it"),
        Column("p50", pl.Float64, "of the quantity", "over time and nodes"),
        Column("p95", pl.Float64, "of the quantity", "over time and nodes"),
        Column("p99", pl.Float64, "of the quantity", "over time and nodes"),
        Column("largest", pl.Float64, "of the quantity", "at any time on any node"),
        Column("worst_node", pl.String, "", "whose 99 % quantile over time is largest",
               nullable=True),
        Column("worst_p95", pl.Float64, "of the quantity", "of the worst node, over time"),
        Column("worst_p99", pl.Float64, "of the quantity", "of the worst node, over time"),
        Column("typical", pl.Float64, "of the quantity", "median node's median over time"),
        Column("worst_level", pl.Float64, "of the quantity",
               "largest median of a node over time, drawn to the fleet's where few steps tell it"),
    ),
)  # fmt: skip
SPIKES: Final = Table(
    "spikes",
    "what starts and mass pod creation take on top of what stays, as the history shows it",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("quantity", pl.String, "", "memory, cpu"),
        Column("kind", pl.String, "", "start (of the process), pods (many at once on a node)"),
        Column("events", pl.Int64, "1", "in the history, with samples fine enough to see them"),
        Column("nodes", pl.Int64, "1", "on which they were"),
        Column("p50", pl.Float64, "of the quantity", "peak less what it settled at"),
        Column("p95", pl.Float64, "of the quantity"),
        Column("largest", pl.Float64, "of the quantity"),
        Column("worst_node", pl.String, "", "of the largest", nullable=True),
    ),
)
BENDS: Final = Table(
    "bends",
    "how far one quantity's law bent beyond its first half: other clusters borrow it (--pool)",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("time", TIME, "", "newest time of the history"),
        Column("bend", pl.Float64, "1", "γ: what grew came out reach^γ times as large"),
        Column("doubt", pl.Float64, "1", "standard deviation of γ"),
        Column("reach", pl.Float64, "1", "nodes then by the most of the first half"),
    ),
)
PEAKS: Final = Table(
    "peaks",
    "what a limit must hold: the trend's quantile, and what comes on top of it",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("quantity", pl.String, "", "memory, cpu"),
        Column("unit", pl.String),
        Column("nodes", pl.Int64, "1", "planned node count"),
        Column("now_p95", pl.Float64, "of the quantity", "over time and nodes", nullable=True),
        Column("now_p99", pl.Float64, "of the quantity", "over time and nodes", nullable=True),
        Column("worst_node", pl.String, "", "today", nullable=True),
        Column("worst_p99", pl.Float64, "of the quantity", "today, over time", nullable=True),
        Column("spread", pl.Float64, "1", "worst node's level, by the median node's",
               nullable=True),
        Column("steady", pl.Float64, "of the quantity", "1 - risk quantile, the worst node then"),
        Column("spike", pl.Float64, "of the quantity",
               "95 % quantile of starts and pod creation; null: samples too far apart to see any",
               nullable=True),
        Column("spike_kind", pl.String, "", "which of both is larger", nullable=True),
        Column("kernel", pl.Float64, "of the quantity",
               "bytes of maps that the cgroup is charged for and agents do not report"),
        Column("holds", pl.Float64, "of the quantity", "steady, spike and kernel: what must fit"),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
        Column("margin", pl.Float64, "of the quantity", "limit less holds", nullable=True),
        Column("probability", pl.Float64, "1",
               "of passing the limit at the planned node count: an OOM kill, or throttling",
               nullable=True),
        Column("basis", pl.String, "", "what the spike rests on"),
    ),
)  # fmt: skip
