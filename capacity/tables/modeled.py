"""Tables of what is observed, fitted and forecast."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import TIME, Column, Table

OBSERVATIONS: Final = Table(
    "observations",
    "one quantity of one thing at one time",
    (
        Column("time", TIME),
        Column("cluster", pl.String),
        Column("node", pl.String, nullable=True),
        Column("component", pl.String, "", "agent, operator, map"),
        Column("subject", pl.String, "", "map name, reason …", nullable=True),
        Column("quantity", pl.String, "", "key of facts/quantities.csv"),
        Column("value", pl.Float64, "of the quantity"),
        Column("series", pl.String, "", "metric it came from"),
    ),
)
STEPS: Final = Table(
    "steps",
    "one quantity at one time, over all nodes",
    (
        Column("time", TIME),
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("largest", pl.Float64, "of the quantity", "worst node"),
        Column("smallest", pl.Float64, "of the quantity"),
        Column("mean", pl.Float64, "of the quantity"),
        Column("nodes", pl.Int64, "1", "nodes that report it"),
        Column("worst_node", pl.String, "", "node of the largest value", nullable=True),
        Column("series", pl.String, "", "metric it came from"),
    ),
)
DRIVERS: Final = Table(
    "drivers",
    "what the cluster was like at one time; null where no source tells",
    (
        Column("time", TIME),
        Column("cluster", pl.String),
        Column("nodes", pl.Float64, "1", "nodes of the cluster", nullable=True),
        Column("endpoints", pl.Float64, "1", "Cilium endpoints of all nodes", nullable=True),
        Column("endpoints_per_node", pl.Float64, "1", "mean over nodes", nullable=True),
        Column("identities", pl.Float64, "1", "cluster-wide security identities", nullable=True),
        Column("services", pl.Float64, "1", "service frontends an agent holds", nullable=True),
        Column("backends", pl.Float64, "1", "distinct load-balancer backends", nullable=True),
        Column("policies", pl.Float64, "1", "policy rules an agent holds", nullable=True),
        Column(
            "policy_entries",
            pl.Float64,
            "1",
            "policy-map entries of the worst endpoint x endpoints of its node: at most so many",
            nullable=True,
        ),
    ),
)
NODE_PANEL: Final = Table(
    "node_panel",
    "what one node held and used at one time: costs are told from what differs between nodes",
    (
        Column("time", TIME),
        Column("node", pl.UInt32, "", "number of the node, by its name"),
        Column("endpoints", pl.Float64, "1", "Cilium endpoints of the node"),
        Column("policy_worst", pl.Float64, "1", "entries of its fullest policy map", nullable=True),
        Column("map_bytes", pl.Float64, "byte", "of its maps, as charged", nullable=True),
        Column("regenerations", pl.Float64, "1/s", "of its endpoints", nullable=True),
        Column("agent_memory", pl.Float64, "byte", nullable=True),
        Column("agent_cpu", pl.Float64, "millicore", nullable=True),
        Column("envoy_memory", pl.Float64, "byte", nullable=True),
        Column("envoy_cpu", pl.Float64, "millicore", nullable=True),
    ),
)
LIMITS: Final = Table(
    "limits",
    "one limited resource of the cluster: how much of it there is",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
        Column("kind", pl.String, "", "settable, hard, install-time or soft (evicts when full)"),
        Column("setting", pl.String, "", "Helm value that moves the limit", nullable=True),
        Column("upper", pl.Float64, "of the quantity", "most that may be set", nullable=True),
        Column("verified", pl.Boolean, "", "the fact was read in Cilium's source", nullable=True),
        Column("source", pl.String, "", "metric, option or fact that tells the limit"),
    ),
)
FITS: Final = Table(
    "fits",
    "one fitted model and how it did on data that it had not seen",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("model", pl.String, "", "formula with its numbers"),
        Column("points", pl.Int64, "1", "points in time it was fitted to"),
        Column("spread", pl.Float64, "of the quantity", "standard deviation of the residuals"),
        Column(
            "backtest_error",
            pl.Float64,
            "1",
            "median absolute error on the newest third, fitted on the rest",
            nullable=True,
        ),
        Column(
            "backtest_coverage",
            pl.Float64,
            "1",
            "share of the newest third inside the 90 % interval, fitted on the rest",
            nullable=True,
        ),
    ),
)
SCENARIO: Final = Table(
    "scenario",
    "what the cluster is taken to be like at one node count (medians)",
    (
        Column("cluster", pl.String),
        Column("nodes", pl.Int64, "1"),
        Column("driver", pl.String),
        Column("value", pl.Float64, "1"),
        Column("basis", pl.String, "", "fitted on history, in proportion, constant, or set"),
    ),
)
HISTORY: Final = Table(
    "history",
    "one observation that a model was fitted to",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("time", TIME),
        Column("nodes", pl.Float64, "1", "nodes of the cluster then"),
        Column("value", pl.Float64, "of the quantity", "worst node, peak of the step"),
        Column("worst_node", pl.String, "", "its name", nullable=True),
    ),
)
GROWTH: Final = Table(
    "growth",
    "the node count at one time: observed, or drawn from the growth of the history",
    (
        Column("cluster", pl.String),
        Column("time", TIME),
        Column("observed", pl.Float64, "1", "nodes", nullable=True),
        Column("q05", pl.Float64, "1", "nodes", nullable=True),
        Column("q50", pl.Float64, "1", "nodes", nullable=True),
        Column("q95", pl.Float64, "1", "nodes", nullable=True),
    ),
)
GROWTH_LAWS: Final = Table(
    "growth_laws",
    "one law of growth of one driver: how it did on the driver's own past",
    (
        Column("cluster", pl.String),
        Column(
            "driver", pl.String, "", "nodes; others as they would have been at the present nodes"
        ),
        Column("law", pl.String, "", "function of capacity/models/trends.py"),
        Column("share", pl.Float64, "1", "of the drawn paths that follow this law"),
        Column(
            "error", pl.Float64, "1", "median absolute error from rolling origins, share of truth"
        ),
    ),
)
MAPS: Final = Table(
    "maps",
    "one kind of BPF map on a node: its size and what it costs the kernel",
    (
        Column("cluster", pl.String),
        Column("map", pl.String),
        Column("type", pl.String, nullable=True),
        Column("count", pl.Int64, "1", "maps of this kind on the node"),
        Column("key_size", pl.Int64, "byte", nullable=True),
        Column("value_size", pl.Int64, "byte", nullable=True),
        Column("max_entries", pl.Int64, "1", nullable=True),
        Column("entries", pl.Int64, "1", "most on any node", nullable=True),
        Column("memlock", pl.Int64, "byte", "what bpftool shows", nullable=True),
        Column("charged", pl.Int64, "byte", "what the memory cgroup is charged", nullable=True),
        Column("source", pl.String, "", "bpftool, or facts with the formula's kernel"),
        Column("verified", pl.Boolean, "", "shape read in Cilium's source or from the kernel"),
    ),
)
FORECAST: Final = Table(
    "forecast",
    "one quantity at one node count",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("statistic", pl.String, "", "of what the value is: worst node, total …"),
        Column("nodes", pl.Int64, "1"),
        Column("time", TIME, "", "median date the cluster has that many nodes", nullable=True),
        Column("q05", pl.Float64, "of the quantity"),
        Column("q50", pl.Float64, "of the quantity"),
        Column("q95", pl.Float64, "of the quantity"),
        Column("q99", pl.Float64, "of the quantity"),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
        Column("model", pl.String, "", "how the number was made"),
        Column("reach", pl.Float64, "1", "node count divided by the largest one observed"),
    ),
)
EXPLANATION: Final = Table(
    "explanation",
    "one part of a quantity at the largest node count asked for: what it is made of, and why",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("nodes", pl.Int64, "1"),
        Column("part", pl.String, "", "base, or a driver: its cost x its count"),
        Column("q05", pl.Float64, "of the quantity"),
        Column("mean", pl.Float64, "of the quantity", "of the draws: parts add up to the whole"),
        Column("q95", pl.Float64, "of the quantity"),
        Column("share", pl.Float64, "1", "of the whole"),
        Column("swing", pl.Float64, "of the quantity", "q95 - q05: what its doubt moves"),
        Column("learnt", pl.Float64, "1", "of what is known of its cost, by the user's own data"),
        Column("basis", pl.String, "", "code (Cilium's arithmetic), observed, or prior"),
        Column(
            "prior",
            pl.String,
            "",
            "what was believed of the cost beforehand, and from where; it weighs 1 - learnt",
            nullable=True,
        ),
        Column(
            "between_nodes",
            pl.String,
            "",
            "what the cluster's nodes beside each other tell of the cost",
            nullable=True,
        ),
    ),
)
SENSITIVITY: Final = Table(
    "sensitivity",
    "one thing that a forecast rests on, from its low to its high end while all else is the median",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("nodes", pl.Int64, "1", "node count it is told at"),
        Column("time", TIME, "", "end of the horizon; null where a node count", nullable=True),
        Column("center", pl.Float64, "of the quantity", "where everything is the median"),
        Column("factor", pl.String, "", "what moves: growth, a cost, noise …"),
        Column("kind", pl.String, "", "growth, cost, noise, season, or reach"),
        Column("factor_unit", pl.String, "", "of low and high"),
        Column("low", pl.Float64, "of the factor", "its 5 % quantile"),
        Column("high", pl.Float64, "of the factor", "its 95 % quantile"),
        Column("at_low", pl.Float64, "of the quantity"),
        Column("at_high", pl.Float64, "of the quantity"),
        Column("swing", pl.Float64, "of the quantity", "between at_low and at_high"),
        Column("rank", pl.Int64, "1", "1: moves the quantity most"),
        Column("basis", pl.String, "", "observed, prior, code, growth laws, or judgment"),
    ),
)
EVIDENCE: Final = Table(
    "evidence",
    "what one quantity's history says of its costs, as sums: other clusters borrow it (--pool)",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("time", TIME, "", "newest time of the history"),
        Column("driver", pl.String),
        Column(
            "other",
            pl.String,
            "",
            "with this driver: drivers' products; null: products with the quantity",
            nullable=True,
        ),
        Column(
            "value",
            pl.Float64,
            "of the drivers",
            "sum over rows, divided by the variance of the noise",
        ),
    ),
)
OUTLOOK: Final = Table(
    "outlook",
    "one quantity at one time ahead: to be compared with what comes",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("made", TIME, "", "newest time of the history"),
        Column("time", TIME, "", "time that is forecast"),
        Column("q05", pl.Float64, "of the quantity"),
        Column("q50", pl.Float64, "of the quantity"),
        Column("q95", pl.Float64, "of the quantity"),
        Column("q99", pl.Float64, "of the quantity"),
        Column("limit", pl.Float64, "of the quantity", nullable=True),
    ),
)
CAUSES: Final = Table(
    "causes",
    "what one forecast rests on: the driver that matters most, and where its doubt comes from",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("unit", pl.String),
        Column("nodes", pl.Int64, "1", "at which it is taken apart"),
        Column("driver", pl.String, "", "of the largest part; null: none moves it", nullable=True),
        Column("share", pl.Float64, "1", "its part of the value", nullable=True),
        Column("per_percent", pl.Float64, "of the quantity", "more with 1 % more", nullable=True),
        Column("basis", pl.String, "", "of its cost: code, observed, prior", nullable=True),
        Column("second", pl.String, "", "the driver after that", nullable=True),
        Column("second_share", pl.Float64, "1", "", nullable=True),
        Column("always", pl.Float64, "1", "part that no driver moves"),
        Column("believed", pl.Float64, "1", "part whose costs come from elsewhere"),
        Column("doubt", pl.String, "", "longest bar of the tornado", nullable=True),
        Column("doubt_share", pl.Float64, "1", "its length of the median", nullable=True),
    ),
)  # fmt: skip
TRIALS: Final = Table(
    "trials",
    "one forecast that was made from a past time, by one method, beside what came",
    (
        Column("cluster", pl.String),
        Column("component", pl.String),
        Column("subject", pl.String, nullable=True),
        Column("quantity", pl.String),
        Column("method", pl.String, "", "ours, or a rule of capacity/models/peers.py"),
        Column("made", TIME, "", "newest time the method saw"),
        Column("horizon", pl.Float64, "day", "how far ahead"),
        Column("truth", pl.Float64, "of the quantity", "what came"),
        Column("q05", pl.Float64, "of the quantity", "a rule that tells one number tells it in"),
        Column("q50", pl.Float64, "of the quantity", "all four"),
        Column("q95", pl.Float64, "of the quantity"),
        Column("q99", pl.Float64, "of the quantity"),
    ),
)
SCORES: Final = Table(
    "scores",
    "how good one method was at one horizon",
    (
        Column("quantity", pl.String, "", "all, or one quantity"),
        Column("horizon", pl.Float64, "day"),
        Column("method", pl.String),
        Column("forecasts", pl.Int64, "1", "how many were compared"),
        Column("error", pl.Float64, "1", "median of |q50 - truth| / truth"),
        Column("coverage", pl.Float64, "1", "truths within 5…95 %", nullable=True),
        Column("above", pl.Float64, "1", "truths above the 99 % quantile", nullable=True),
        Column("pinball", pl.Float64, "1", "mean pinball loss of the four quantiles / truth"),
        Column(
            "skill", pl.Float64, "1", "share of this rule's loss that ours saves", nullable=True
        ),
    ),
)
