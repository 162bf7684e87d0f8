"""Every table that crosses a border between rooms: columns, types, units, in one place.

A frame is checked once, where it is born. Unknown is null, never 0, −1 or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity.errors import SchemaError

TIME: Final = pl.Datetime("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, polars type, unit (empty for text and keys), meaning."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    unit: str = ""
    meaning: str = ""
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: name, columns in order, and what one row is."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pl.Schema:
        """The polars schema of the declared columns."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """Give a frame of this table without rows."""
        return pl.DataFrame(schema=self.schema)


def check(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Give the frame with the table's columns in the table's order.

    Raises
    ------
    SchemaError
        If a column is missing or of another type, or null or NaN where neither may be.
    """
    missing = [c.name for c in table.columns if c.name not in frame.columns]
    if missing:
        msg = f"table {table.name}: missing columns {missing}; present: {frame.columns}"
        raise SchemaError(msg)
    frame = frame.select(c.name for c in table.columns)
    wrong = [
        f"{c.name} is {frame.schema[c.name]}, wanted {c.dtype}"
        for c in table.columns
        if frame.schema[c.name] != c.dtype
    ]
    if wrong:
        msg = f"table {table.name}: {'; '.join(wrong)}"
        raise SchemaError(msg)
    holes = [c.name for c in table.columns if not c.nullable and frame[c.name].null_count()]
    holes += [
        c.name
        for c in table.columns
        if frame.schema[c.name].is_float() and frame[c.name].is_nan().any()
    ]
    if holes:
        msg = f"table {table.name}: null or NaN in {holes}, where every row needs a value"
        raise SchemaError(msg)
    return frame


def data_dictionary() -> pl.DataFrame:
    """List every column of every declared table: table, column, type, unit, nullable, meaning."""
    return pl.DataFrame(
        [
            {
                "table": table.name,
                "row": table.row,
                "column": c.name,
                "type": str(c.dtype),
                "unit": c.unit,
                "nullable": c.nullable,
                "meaning": c.meaning,
            }
            for table in TABLES
            for c in table.columns
        ]
    )


SERIES: Final = Table(
    "series",
    "one time series: a metric name with one set of labels",
    (
        Column("series", pl.UInt32, "", "key into samples"),
        Column("metric", pl.String, "", "metric name as exported"),
        Column("cluster", pl.String, "", "cluster the series is of"),
        Column("node", pl.String, "", "Kubernetes node name", nullable=True),
        Column("namespace", pl.String, "", "namespace of the pod", nullable=True),
        Column("pod", pl.String, "", "pod name", nullable=True),
        Column("container", pl.String, "", "container name", nullable=True),
        Column("map_name", pl.String, "", "label map_name, as exported", nullable=True),
        Column("labels", pl.String, "", "the other labels, a JSON object with sorted keys"),
    ),
)
SAMPLES: Final = Table(
    "samples",
    "one sample; stale markers and NaN are left out and counted",
    (
        Column("series", pl.UInt32, "", "key into series"),
        Column("time", TIME, "", "time of the sample, UTC"),
        Column("value", pl.Float64, "of the metric", "value as exported"),
    ),
)
SOURCES: Final = Table(
    "sources",
    "one input that was read, or could not be",
    (
        Column("source", pl.String, "", "path or URL without secrets"),
        Column("format", pl.String, "", "reader that took it", nullable=True),
        Column("read", pl.Int64, "1", "records seen: samples, or Kubernetes objects"),
        Column("kept", pl.Int64, "1", "records used"),
        Column("refused", pl.Int64, "1", "records not used"),
        Column(
            "reason",
            pl.String,
            "",
            "why records were refused: place, value, what was wanted",
            nullable=True,
        ),
    ),
)
NODES: Final = Table(
    "nodes",
    "one Kubernetes node",
    (
        Column("node", pl.String, "", "node name"),
        Column("memory", pl.Int64, "byte", "status.capacity.memory", nullable=True),
        Column("cpu", pl.Int64, "millicore", "status.capacity.cpu", nullable=True),
        Column(
            "addresses",
            pl.Int64,
            "1",
            "distinct IPs: CiliumNode spec.addresses, else Node status.addresses",
            nullable=True,
        ),
        Column("pod_cidrs", pl.Int64, "1", "pod CIDRs of the node", nullable=True),
        Column("max_pods", pl.Int64, "1", "status.allocatable.pods", nullable=True),
        Column("kernel", pl.String, "", "status.nodeInfo.kernelVersion", nullable=True),
        Column("labels", pl.String, "", "labels, a JSON object with sorted keys"),
    ),
)
ENDPOINTS: Final = Table(
    "endpoints",
    "one pod with an address of its own (host-network pods have none)",
    (
        Column("namespace", pl.String),
        Column("pod", pl.String),
        Column("node", pl.String, nullable=True),
        Column("labels", pl.String, "", "pod labels, a JSON object with sorted keys"),
        Column("ips", pl.Int64, "1", "pod IPs (2 with dual stack)", nullable=True),
        Column("service_account", pl.String, "", "spec.serviceAccountName", nullable=True),
        Column(
            "named_ports",
            pl.String,
            "",
            "ports of containers that have a name, a JSON list of name, port, protocol",
            nullable=True,
        ),
        Column(
            "host_ports",
            pl.String,
            "",
            "ports of the node that lead to the pod, a JSON list of host_ip, host_port, protocol, "
            "port, addresses; null where there are none or they are not told",
            nullable=True,
        ),
    ),
)
SERVICES: Final = Table(
    "services",
    "one Kubernetes Service",
    (
        Column("namespace", pl.String),
        Column("service", pl.String),
        Column("type", pl.String, "", "ClusterIP, NodePort, LoadBalancer or ExternalName"),
        Column("ports", pl.Int64, "1", "ports of the service"),
        Column("cluster_ips", pl.Int64, "1", "cluster IPs; 0 for headless services"),
        Column("external_ips", pl.Int64, "1", "spec.externalIPs"),
        Column("load_balancer_ips", pl.Int64, "1", "status.loadBalancer.ingress with an IP"),
        Column("external_policy", pl.String, "", "externalTrafficPolicy"),
        Column("internal_policy", pl.String, "", "internalTrafficPolicy"),
        Column("affinity", pl.Boolean, "", "sessionAffinity: ClientIP"),
        Column("node_ports", pl.Boolean, "", "node ports are allocated"),
        Column("labels", pl.String, "", "labels, a JSON object with sorted keys"),
        Column("object", pl.String, "", "spec, status and Cilium's annotations as JSON"),
    ),
)
BACKENDS: Final = Table(
    "backends",
    "one backend address and port of a service, from EndpointSlices",
    (
        Column("namespace", pl.String),
        Column("service", pl.String),
        Column("address", pl.String),
        Column("port", pl.Int64, nullable=True),
        Column("protocol", pl.String),
        Column("port_name", pl.String, "", "name of the service's port", nullable=True),
        Column("node", pl.String, "", "node of the backend", nullable=True),
        Column("ready", pl.Boolean, "", "it takes new connections", nullable=True),
        Column("terminating", pl.Boolean, "", "it is about to end", nullable=True),
        Column("serving", pl.Boolean, "", "it answers, even if about to end", nullable=True),
    ),
)
NAMESPACES: Final = Table(
    "namespaces",
    "one Kubernetes namespace: policies select pods by its labels",
    (
        Column("namespace", pl.String),
        Column("labels", pl.String, "", "labels, a JSON object with sorted keys"),
    ),
)
IDENTITIES: Final = Table(
    "identities",
    "one cluster-wide security identity (CiliumIdentity)",
    (
        Column("identity", pl.Int64, "", "numeric identity, the name of the object"),
        Column("labels", pl.String, "", "security labels, a JSON object with sorted keys"),
    ),
)
POLICIES: Final = Table(
    "policies",
    "one network policy object; the whole object is kept for resolution",
    (
        Column("kind", pl.String),
        Column("namespace", pl.String, nullable=True),
        Column("policy", pl.String),
        Column("rules", pl.Int64, "1", "rules in the object"),
        Column("source", pl.String, "", "file and document it was read from"),
        Column("object", pl.String, "", "spec and specs as JSON"),
    ),
)
CIDR_GROUPS: Final = Table(
    "cidr_groups",
    "one list of CIDRs that policies name (CiliumCIDRGroup)",
    (
        Column("name", pl.String),
        Column("labels", pl.String, "", "labels, a JSON object with sorted keys"),
        Column("cidrs", pl.String, "", "spec.externalCIDRs, a JSON list"),
    ),
)
DNS: Final = Table(
    "dns",
    "one address that a name was answered with, as the DNS proxy learned it",
    (
        Column("name", pl.String, "", "name without the dot at its end"),
        Column("address", pl.String),
    ),
)
PREFIXES: Final = Table(
    "prefixes",
    "one CIDR that has labels of its own in the ipcache",
    (
        Column("prefix", pl.String),
        Column("labels", pl.String, "", "labels with their sources, a JSON list"),
    ),
)
OBJECTS: Final = Table(
    "objects",
    "one object that makes entries or settings of its own; the whole object is kept",
    (
        Column("kind", pl.String, "", "CiliumEnvoyConfig, CiliumNodeConfig and the like"),
        Column("namespace", pl.String, nullable=True),
        Column("name", pl.String),
        Column("source", pl.String, "", "file and document it was read from"),
        Column("object", pl.String, "", "spec as JSON"),
    ),
)
WORKLOADS: Final = Table(
    "workloads",
    "one container of the pods that a Deployment, StatefulSet or DaemonSet makes",
    (
        Column("kind", pl.String),
        Column("namespace", pl.String),
        Column("workload", pl.String),
        Column("container", pl.String),
        Column("replicas", pl.Int64, "1", "pods; null for one on each node", nullable=True),
        Column("cpu_request", pl.Int64, "millicore", nullable=True),
        Column("cpu_limit", pl.Int64, "millicore", nullable=True),
        Column("memory_request", pl.Int64, "byte", nullable=True),
        Column("memory_limit", pl.Int64, "byte", nullable=True),
    ),
)
OPTIONS: Final = Table(
    "options",
    "one Cilium agent option that is set explicitly (cilium-config ConfigMap or Helm values)",
    (
        Column("option", pl.String, "", "agent flag, e.g. bpf-ct-global-tcp-max"),
        Column("value", pl.String),
        Column("source", pl.String, "", "where it was read"),
    ),
)
BPF_MAPS: Final = Table(
    "bpf_maps",
    "one BPF map as the kernel reports it (bpftool map show -j)",
    (
        Column("time", TIME, nullable=True),
        Column("node", pl.String, nullable=True),
        Column("name", pl.String, "", "pinned name where known, else the kernel's 15 characters"),
        Column("type", pl.String),
        Column("key_size", pl.Int64, "byte"),
        Column("value_size", pl.Int64, "byte"),
        Column("max_entries", pl.Int64, "1"),
        Column("flags", pl.Int64),
        Column("memlock", pl.Int64, "byte", nullable=True),
    ),
)
MAP_ENTRIES: Final = Table(
    "map_entries",
    "one BPF map of a node as a command of cilium-dbg tells it: how full, or how large",
    (
        Column("time", TIME, nullable=True),
        Column("node", pl.String, "", "its name, else the folder it is told in", nullable=True),
        Column("map", pl.String, "", "pinned name; policy maps without the endpoint's number"),
        Column("entries", pl.Int64, "1", "entries the map holds", nullable=True),
        Column("max_entries", pl.Int64, "1", "size the agent reports", nullable=True),
        Column("subject", pl.String, "", "endpoint of a policy map", nullable=True),
        Column("source", pl.String, "", "command, and the file it was read from"),
    ),
)
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
POLICY_GROWTH: Final = Table(
    "policy_growth",
    "how the policy map of one endpoint grows with the workloads; the fullest first",
    (
        Column("endpoint", pl.String),
        Column("entries", pl.Int64, "entry", "now; null: policies conflict", nullable=True),
        Column("constant", pl.Int64, "entry", "entries - growing", nullable=True),
        Column("growing", pl.Int64, "entry", "more with twice the workloads", nullable=True),
        Column("per_percent", pl.Float64, "entry", "more with 1 % more workloads", nullable=True),
        Column("limit", pl.Int64, "entry", "bpf-policy-map-max"),
        Column(
            "factor", pl.Float64, "1",
            "workloads then, as a multiple of those now, when entries reach the limit; "
            "below 1: passed already; null: never",
            nullable=True,
        ),
    ),
)  # fmt: skip
SERVICE_GROWTH: Final = Table(
    "service_growth",
    "how one load balancer map, or the service IDs, of a node grow with the cluster",
    (
        Column("resource", pl.String, "", "pinned name of the map, or service IDs"),
        Column("kind", pl.String, "", "settable or hard"),
        Column("setting", pl.String, "", "Helm value that moves the limit", nullable=True),
        Column("entries", pl.Int64, "entry", "now"),
        Column("constant", pl.Int64, "entry", "entries - growing"),
        Column("growing", pl.Int64, "entry", "more with twice the nodes"),
        Column("limit", pl.Int64, "entry", "", nullable=True),
        Column(
            "factor", pl.Float64, "1",
            "nodes then, as a multiple of those now, when entries reach the limit; below 1: passed "
            "already; null: never",
            nullable=True,
        ),
        Column("service", pl.String, "", "with most entries", nullable=True),
        Column("service_entries", pl.Int64, "entry", "of the services map", nullable=True),
    ),
)  # fmt: skip
POLICY_NODES: Final = Table(
    "policy_nodes",
    "what the inventory's policies cost one node; the fullest policy map first",
    (
        Column("node", pl.String, "", "(unknown): pods of no known node"),
        Column("endpoints", pl.Int64, "1", "pods, the host, the health endpoint"),
        Column("worst_endpoint", pl.String, "", "whose policy map is the fullest"),
        Column("worst_entries", pl.Int64, "entry", "null: policies conflict", nullable=True),
        Column("limit", pl.Int64, "entry", "bpf-policy-map-max"),
        Column("entries", pl.Int64, "entry", "in all policy maps of the node"),
        Column("memlock", pl.Int64, "byte", "all of them, as the kernel reports them"),
        Column("charged", pl.Int64, "byte", "as it charges them; null: unknown", nullable=True),
        Column("redirects", pl.Int64, "1", "to proxies: endpoint, direction, port, listener"),
        Column("updates", pl.Float64, "entry", "that change with one identity of pods, the mean"),
    ),
)
DOUBTS: Final = Table(
    "doubts",
    "one reason to distrust a number of the export, and what was done about it",
    (
        Column("cluster", pl.String),
        Column("kind", pl.String, "", "leak suspected, conflict, not finite, or failed insertions"),
        Column("subject", pl.String, "", "component, map, driver or metric"),
        Column("since", TIME, "", "start of the time it holds for", nullable=True),
        Column("until", TIME, "", "its end", nullable=True),
        Column("metric", pl.Float64, "of the row", "what the metrics tell", nullable=True),
        Column("other", pl.Float64, "of the row", "what the inventory tells, or expects"),
        Column("unit", pl.String),
        Column("used", pl.String, "", "what the plan rests on"),
        Column("detail", pl.String, "", "one sentence for people"),
    ),
)
LB_TIER: Final = Table(
    "lb_tier",
    "one way of load balancing at one node count of the cluster",
    (
        Column("nodes", pl.Int64, "1", "nodes of the cluster: now, or planned"),
        Column("mode", pl.String, "", "loadBalancer.mode: snat or dsr"),
        Column("acceleration", pl.String, "", "loadBalancer.acceleration: disabled or native"),
        Column("present", pl.Boolean, "", "set now"),
        Column("packets", pl.Float64, "1/s", "of all nodes at the busiest step, the present way"),
        Column("nanoseconds", pl.Float64, "ns", "softirq time for one of these packets"),
        Column("low", pl.Float64, "ns", "lower bound of it"),
        Column("high", pl.Float64, "ns", "upper bound of it"),
        Column("use", pl.Float64, "1", "softirq share of the busiest CPU"),
        Column("use_high", pl.Float64, "1", "upper bound of it"),
        Column("budget", pl.Float64, "1", "softirq share of a CPU that packets may take"),
        Column("fits", pl.Boolean, "", "use is within the budget"),
        Column("needed", pl.Int64, "1", "nodes for these packets, one spare", nullable=True),
        Column("needed_low", pl.Int64, "1", "lower bound of it", nullable=True),
        Column("needed_high", pl.Int64, "1", "upper bound of it", nullable=True),
        Column("per_mpps", pl.Float64, "1", "nodes for a million packets/s, none spare",
               nullable=True),
        Column("calibration", pl.String, "", "what the cost rests on"),
        Column("note", pl.String, "", "why Cilium refuses this way here", nullable=True),
    ),
)  # fmt: skip
COVERAGE: Final = Table(
    "coverage",
    "one thing the planner wants to know",
    (
        Column("want", pl.String),
        Column(
            "status",
            pl.String,
            "",
            "present; below (a threshold of the agent's); off (switched off, or not in this "
            "version); unused (the feature is); dropped (on its way); unknown",
        ),
        Column("source", pl.String, "", "metric or inventory table", nullable=True),
        Column("hint", pl.String, "", "why it is not there, how to get it", nullable=True),
    ),
)
RIGHTSIZING: Final = Table(
    "rightsizing",
    "one request or limit of a container of a workload: what it is, should be, and why",
    (
        Column("rank", pl.Int64, "1", "order of risk, then of saving; the same for a container"),
        Column("namespace", pl.String),
        Column("kind", pl.String, "", "Deployment, StatefulSet, DaemonSet, CronJob, Pod …"),
        Column("workload", pl.String),
        Column("container", pl.String),
        Column("replicas", pl.Int64, "1", "pods: of the inventory, else seen last", nullable=True),
        Column("setting", pl.String, "", "requests.cpu, limits.cpu, requests.memory …"),
        Column("unit", pl.String, "", "millicore or byte"),
        Column("current", pl.Int64, "of the unit", "null: not set", nullable=True),
        Column("target", pl.Int64, "of the unit", "null: none, or not known", nullable=True),
        Column("lower", pl.Int64, "of the unit", "least request that is enough", nullable=True),
        Column("upper", pl.Int64, "of the unit", "beyond it nothing is gained", nullable=True),
        Column("status", pl.String, "", "ok, raise, lower, set, remove, refused, unknown"),
        Column("risk", pl.String, "", "of leaving it as it is: high, medium, low, unknown"),
        Column("saving", pl.Int64, "of the unit", "over all replicas; requests", nullable=True),
        Column("money", pl.Float64, "a month", "saving x price x 730 h", nullable=True),
        Column("confidence", pl.Float64, "1", "history, of 14 days", nullable=True),
        Column("reason", pl.String),
        Column("evidence", pl.String, "", "use, pods, history, events, who told the workload"),
        Column("side_effect", pl.String, "", "of changing it", nullable=True),
    ),
)
_SHAPE_LAW: Final = (
    Column("resource", pl.String),
    Column("kind", pl.String, "", "hard, settable, or tested (Kubernetes goes no further)"),
    Column("per_pod", pl.Float64, "of the resource", "null: not known", nullable=True),
    Column("per_node", pl.Float64, "of the resource"),
    Column("per_service", pl.Float64, "of the resource"),
    Column("limit", pl.Int64, "of the resource", "as it is set"),
    Column("most", pl.Int64, "of the resource", "that may be set; null: memory", nullable=True),
    Column("setting", pl.String, "", "Helm value that moves the limit", nullable=True),
    Column("why", pl.String, "", "what takes it"),
)
SHAPE_LAWS: Final = Table(
    "shape_laws", "what pods, nodes and services take of one limited resource", _SHAPE_LAW
)
SHAPE_USE: Final = Table(
    "shape_use",
    "one limited resource: what a shape of the cluster takes, and the most nodes of that shape",
    (
        *_SHAPE_LAW,
        Column("need", pl.Int64, "of the resource", "null: not known", nullable=True),
        Column("usage", pl.Float64, "1", "need divided by limit", nullable=True),
        Column("nodes_most", pl.Int64, "1", "as set; null: nodes take none", nullable=True),
        Column("nodes_raised", pl.Int64, "1", "with the most that may be set", nullable=True),
        Column("status", pl.String, "", "fits, raise, redesign, untested, unknown"),
        Column("fix", pl.String, "", "setting that makes it fit", nullable=True),
    ),
)
SHAPE_FRONTIER: Final = Table(
    "shape_frontier",
    "the most nodes of one shape of cluster",
    (
        Column("pods_per_node", pl.Float64, "1"),
        Column("services", pl.Int64, "1"),
        Column("policies", pl.Float64, "1", "entries of the fullest policy map, a multiple"),
        Column("nodes", pl.Int64, "1", "most that fit as set"),
        Column("binds", pl.String, "", "resource that is used up first"),
        Column("nodes_raised", pl.Int64, "1", "most with every setting raised as far as it goes"),
        Column("binds_raised", pl.String, "", "resource that is used up first then"),
        Column("nodes_tested", pl.Int64, "1", "most that Kubernetes is tested to", nullable=True),
    ),
)
MESH: Final = Table(
    "mesh",
    "one way to split nodes into clusters of a mesh: use of limits, of a cluster where not told",
    (
        Column("split", pl.String, "", "clusters x nodes of each"),
        Column("clusters", pl.Int64, "1"),
        Column("nodes", pl.Int64, "1", "of a cluster"),
        Column("verdict", pl.String, "", "fits, fits after changes, untested, infeasible"),
        Column("max_connected_clusters", pl.Int64, "1", "to be installed with", nullable=True),
        Column("identities", pl.Int64, "1", "of a cluster", nullable=True),
        Column("identities_limit", pl.Int64, "1", "of a cluster"),
        Column("ipcache", pl.Int64, "entry", "of every agent, all clusters together"),
        Column("node_map", pl.Int64, "entry", "of every agent, all clusters together"),
        Column("service_ids", pl.Int64, "1", "of a node"),
        Column("services_map", pl.Int64, "entry", "of a node"),
        Column("policy_map", pl.Int64, "entry", "of the fullest endpoint", nullable=True),
        Column("watchers", pl.Int64, "1", "agents that watch one API server"),
        Column("remote_watches", pl.Int64, "1", "agents x other clusters, without KVStoreMesh"),
        Column("endpoint_events", pl.Float64, "1/s", "CiliumEndpoint, no slices", nullable=True),
        Column("short", pl.String, "", "what does not fit, and what to set", nullable=True),
    ),
)
TABLES: Final = (
    SERIES, SAMPLES, SOURCES, NODES, ENDPOINTS, SERVICES, BACKENDS, NAMESPACES, IDENTITIES,
    POLICIES, CIDR_GROUPS, DNS, PREFIXES, OBJECTS, WORKLOADS, OPTIONS, BPF_MAPS,
    MAP_ENTRIES,
    OBSERVATIONS, STEPS, DRIVERS, MAPS, LIMITS, FITS, SCENARIO, HISTORY, GROWTH, GROWTH_LAWS,
    FORECAST, EXPLANATION, OUTLOOK, TRIALS, SCORES,
    EXHAUSTION, RECOMMENDATION, UPGRADE, DRIFT, RIGHTSIZING, POLICY_GROWTH,
    SERVICE_GROWTH, POLICY_NODES, LB_TIER, DOUBTS, COVERAGE,
    SHAPE_LAWS, SHAPE_USE, SHAPE_FRONTIER, MESH,
)  # fmt: skip
