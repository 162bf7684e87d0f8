"""Tables of what is counted from inventories, and of what is known or doubted."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import TIME, Column, Table

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
        Column(
            "kind", pl.String, "", "leak suspected, saturated, throttled, conflict, not finite, …"
        ),
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
        Column(
            "exceeds",
            pl.Float64,
            "1",
            "cpu: share of time that the busiest pod uses more; memory: "
            "chance that a pod does in the next 14 days",
            nullable=True,
        ),  # fmt: skip
        Column("saving", pl.Int64, "of the unit", "over all replicas; requests", nullable=True),
        Column("money", pl.Float64, "a month", "saving x price x 730 h", nullable=True),
        Column("confidence", pl.Float64, "1", "history, of 14 days", nullable=True),
        Column("reason", pl.String),
        Column("evidence", pl.String, "", "use, pods, history, events, who told the workload"),
        Column("side_effect", pl.String, "", "of changing it", nullable=True),
    ),
)
GUARDS: Final = Table(
    "guards",
    "one field of a quota, default, disruption budget or autoscaler that a plan leads to",
    (
        Column("guard", pl.String, "", "quota, limit-range, pdb, hpa"),
        Column("namespace", pl.String),
        Column("name", pl.String, "", "of the object"),
        Column("kind", pl.String, "", "of the workload that it is for", nullable=True),
        Column("workload", pl.String, nullable=True),
        Column("field", pl.String, "", "hard.requests.cpu, maxUnavailable …"),
        Column("unit", pl.String, "", "millicore, byte, percent, or 1"),
        Column("current", pl.Int64, "of the unit", "null: not set", nullable=True),
        Column("target", pl.Int64, "of the unit"),
        Column("exists", pl.Boolean, "", "the object is there already"),
        Column("selector", pl.String, "", "of the pods, as JSON", nullable=True),
        Column("reason", pl.String),
    ),
)
_SHAPE_LAW: Final = (
    Column("resource", pl.String),
    Column("kind", pl.String, "", "hard, settable, tested (Kubernetes goes no further), estimate"),
    Column("per_pod", pl.Float64, "of the resource", "null: not known", nullable=True),
    Column("per_node", pl.Float64, "of the resource"),
    Column("per_service", pl.Float64, "of the resource"),
    Column("fixed", pl.Float64, "of the resource", "in any shape"),
    Column("per_local_pod", pl.Float64, "of the resource", "for each pod of a node, not of all"),
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
        Column("status", pl.String, "", "fits, raise, redesign, untested, check, unknown"),
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
        Column(
            "nodes_memory",
            pl.Int64,
            "1",
            "most for an agent's memory limit, an estimate",
            nullable=True,
        ),
        Column(
            "nodes_etcd", pl.Int64, "1", "most for etcd's default quota, an estimate", nullable=True
        ),
    ),
)
MESH_SETTINGS: Final = Table(
    "mesh_settings",
    "a setting of one cluster of a ClusterMesh: what it must be, so that the clusters can join",
    (
        Column("mesh", pl.String, "", "name of the mesh"),
        Column("cluster", pl.String, "", "its name in the fleet"),
        Column("setting", pl.String, "", "Helm value; (no setting) where none moves it"),
        Column("current", pl.String, "", "as the inventory tells it", nullable=True),
        Column("target", pl.String, "", "null: nothing that can be set", nullable=True),
        Column("status", pl.String, "", "ok, set, install-time, redesign"),
        Column("reason", pl.String),
    ),
)
MESH_USE: Final = Table(
    "mesh_use",
    "one limited resource in one way to split nodes into clusters of a mesh",
    (
        Column("split", pl.String, "", "clusters x nodes of each"),
        Column("resource", pl.String),
        Column("kind", pl.String, "", "hard, settable, tested, install-time"),
        Column("need", pl.Int64, "of the resource", "of the fullest place", nullable=True),
        Column("limit", pl.Int64, "of the resource", "as it is set"),
        Column("usage", pl.Float64, "1", "need divided by limit", nullable=True),
        Column("status", pl.String, "", "fits, raise, redesign, untested, check, unknown"),
        Column("fix", pl.String, "", "setting that makes it fit", nullable=True),
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
        Column("agent_memory", pl.Int64, "byte", "of an agent, 95 % quantile of costs elsewhere"),
        Column("etcd", pl.Int64, "byte", "of the API server of one cluster, the same"),
        Column("watchers", pl.Int64, "1", "agents that watch one API server"),
        Column("remote_watches", pl.Int64, "1", "agents x other clusters, without KVStoreMesh"),
        Column("endpoint_events", pl.Float64, "1/s", "CiliumEndpoint, no slices", nullable=True),
        Column("short", pl.String, "", "what does not fit, and what to set", nullable=True),
    ),
)
