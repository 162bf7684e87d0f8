"""Tables of what is read: exports and inventories."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.tables.table import TIME, Column, Table

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
