"""Tables of what runs out and what to set."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import TIME, Column, Table

EXHAUSTION: Final = Table(
    "exhaustion",
    "one limited resource: at which node count and date it is used up",
    (
        Column("rank", pl.Int64, "1", "1 breaks first"),
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("kind", pl.String, "", "settable, hard, install-time or soft"),
        Column("setting", pl.String, "", "Helm value that moves the limit", nullable=True),
        Column(
            "current",
            pl.Float64,
            "of the quantity",
            "newest observation, worst node",
            nullable=True,
        ),
        Column("worst_node", pl.String, "", "node of the newest observation", nullable=True),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
        Column("usage", pl.Float64, "1", "current divided by limit", nullable=True),
        Column("nodes_early", pl.Int64, "1", "risk quantile reaches the limit", nullable=True),
        Column("nodes_median", pl.Int64, "1", "median reaches the limit", nullable=True),
        Column("date_early", TIME, nullable=True),
        Column("date_median", TIME, nullable=True),
        Column(
            "probability",
            pl.Float64,
            "1",
            "of reaching the limit within the horizon",
            nullable=True,
        ),
        Column("model", pl.String),
        Column("reach", pl.Float64, "1", "of nodes_early; above 1 is extrapolation", nullable=True),
        Column("status", pl.String, "", "ok, short, unknown"),
        Column("reason", pl.String, "", "formula, evidence or what is missing"),
    ),
)
RECOMMENDATION: Final = Table(
    "recommendation",
    "one setting: what it is, what it should be, and why",
    (
        Column("rank", pl.Int64, "1", "order of urgency"),
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("setting", pl.String, "", "Helm value, or what has to change"),
        Column("unit", pl.String),
        Column("current", pl.Float64, "of the unit", nullable=True),
        Column("target", pl.Float64, "of the unit", nullable=True),
        Column("lower", pl.Float64, "of the unit", "enough for the median", nullable=True),
        Column("upper", pl.Float64, "of the unit", "most that may be set", nullable=True),
        Column(
            "status",
            pl.String,
            "",
            "ok; raise, lower, set (nothing is set yet); redesign (no size helps); error (an "
            "agent would refuse it); unknown",
        ),
        Column("percentile", pl.Float64, "1", "of the forecast the target holds", nullable=True),
        Column("nodes", pl.Int64, "1", "node count that the target holds"),
        Column("reason", pl.String),
        Column("evidence", pl.String, "", "series, nodes, time range, model, facts used"),
        Column(
            "cost",
            pl.Float64,
            "byte or millicore",
            "that a change adds to a node or replica; negative: what it gives back",
            nullable=True,
        ),
        Column(
            "cost_total",
            pl.Float64,
            "byte or millicore",
            "cost x planned nodes, or replicas",
            nullable=True,
        ),
        Column("money", pl.Float64, "currency/month", "of cost_total, by --price-…", nullable=True),
        Column("restart", pl.Boolean, "", "pods must restart", nullable=True),
        Column("side_effect", pl.String, "", "what else happens then", nullable=True),
        Column("alternative", pl.String, "", "what else would help", nullable=True),
        Column("confidence", pl.String, "", "high, medium, low"),
    ),
)
# Status of recommendations that change a setting
CHANGES: Final = ("raise", "lower", "set")
UPGRADE: Final = Table(
    "upgrade",
    "one thing that changes from one minor version of Cilium to the next",
    (
        Column("step", pl.String, "", "from which version to which"),
        Column("kind", pl.String, "", "map, option, limit, metric, value, memory"),
        Column("name", pl.String),
        Column("change", pl.String, "", "new, gone, or what of it changes"),
        Column("before", pl.String, nullable=True),
        Column("after", pl.String, nullable=True),
        Column("act", pl.Boolean, "", "something is to be done before the upgrade"),
        Column("effect", pl.String, "", "what it means, what to do"),
        Column("source", pl.String, "", "of the fact after the change, of a thing gone before it"),
        Column("verified", pl.Boolean, "", "both facts were read in the source"),
    ),
)
DRIFT: Final = Table(
    "drift",
    "one setting: what was planned, what is set, what runs",
    (
        Column("setting", pl.String, "", "Helm value, or nodes"),
        Column("subject", pl.String, "", "map it is for", nullable=True),
        Column("unit", pl.String),
        Column("planned", pl.Float64, "of the unit"),
        Column("set", pl.Float64, "of the unit", "explicitly, in the inventory", nullable=True),
        Column("running", pl.Float64, "of the unit", "smallest over nodes", nullable=True),
        Column(
            "status",
            pl.String,
            "",
            "applied; open (as before the plan); pending (set, agents not restarted); moved "
            "(another value); unknown",
        ),
        Column("detail", pl.String),
    ),
)
SCENARIOS: Final = Table(
    "scenarios",
    "one resource in one scenario",
    (
        Column("scenario", pl.String),
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("nodes", pl.Int64, "1", "of one cluster, the median"),
        Column("q05", pl.Float64, "of the quantity"),
        Column("q50", pl.Float64, "of the quantity"),
        Column("q95", pl.Float64, "of the quantity"),
        Column("q99", pl.Float64, "of the quantity"),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
        Column("usage", pl.Float64, "1", "the 1 - risk quantile of the limit", nullable=True),
        Column("status", pl.String, "", "ok, short, or unknown"),
        Column("reach", pl.Float64, "1", "farthest driver divided by the largest observed"),
        Column("note", pl.String, "", "where the limit comes from, what it does not hold",
               nullable=True),
    ),
)  # fmt: skip
CONTROL_PLANE: Final = Table(
    "control_plane",
    "what one scenario asks of the API server or kvstore, and its churn of each agent",
    (
        Column("scenario", pl.String),
        Column("cluster", pl.String),
        Column("nodes", pl.Int64, "1"),
        Column("server", pl.String, "", "kube-apiserver, kvstore, each agent or operator"),
        Column("what", pl.String),
        Column("value", pl.Float64, "of the row"),
        Column("unit", pl.String),
        Column("limit", pl.Float64, "of the row", nullable=True),
        Column("why", pl.String, "", "what is counted"),
    ),
)
