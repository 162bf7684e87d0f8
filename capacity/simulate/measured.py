"""What Prometheus would have scraped from the cluster: series of every metric, gaps included.

Capacity series come as `max by (map_group)`, as a recording rule gives them: all agents have the
same. Everything else is per pod, with the labels a ServiceMonitor adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.cilium.map_sizes import dynamic_sizes
from capacity.export import Metrics, build, source_row
from capacity.simulate import laws
from capacity.simulate.cluster import Cluster, autoregressive, week
from capacity.simulate.laws import AGENT, CONNECTIONS, OPERATOR, PAGE, Array
from capacity.units import parse_bytes

_DAY: Final = 86_400.0
# Agents whose view of the cluster is one step old when they are scraped, share of scrapes
_LATE: Final = 0.01
# Services that are deleted and made again in a day, in frontends: counters move, entries do not
_CHURN: Final = 4.0
# Absent at or below this share: cilium/cilium v1.17 pkg/endpointmanager/policymap_pressure.go
_POLICY_THRESHOLD: Final = 0.1
# A standby operator holds nothing: base of the recorded one before it lists objects
_STANDBY_KIB: Final = 60 * 1024
# Capacity of map groups that no setting moves, as recorded (Cilium 1.17.0-dev, snap/m10_node300).
# Maps of 65,536 entries are in the group `default`: cilium/cilium v1.17 pkg/metrics/bpf.go.
_FIXED_GROUPS: Final = {
    "cilium_auth_map": 524_288,
    "cilium_call_policy": 65_535,
    "cilium_egresscall_policy": 65_535,
    "cilium_ipcache": 512_000,
    "cilium_ipv4_frag_datagrams": 8192,
    "cilium_lxc": 65_535,
    "cilium_metrics": 1024,
    "cilium_node_map": 16_384,
    "cilium_node_map_v2": 16_384,
    "cilium_skip_lb4": 100,
    "default": 65_536,
}


@dataclass(frozen=True, slots=True)
class _Group:
    """One metric of all agents or pods: labels by column, values (t, columns), nan = no sample."""

    labels: Callable[[int], dict[str, str]]
    values: Array


def measure(cluster: Cluster, rng: np.random.Generator) -> Metrics:
    """Give the export of a cluster.

    Returns
    -------
    Metrics
        Series ordered by metric, then agent; samples by series, then time.
    """
    missing = rng.random(cluster.alive.shape) < cluster.settings.gaps
    seen = cluster.alive & ~missing
    groups = [
        _Group(group.labels, np.where(seen, group.values, np.nan))
        for group in _agent_groups(cluster, rng)
    ]
    groups += [*_limit_groups(cluster), *_operator_groups(cluster, rng), *_capacity(cluster)]
    return _export(cluster, groups)


def _export(cluster: Cluster, groups: list[_Group]) -> Metrics:
    labels: list[dict[str, str]] = []
    keys, stamps, values = [], [], []
    times = np.round(cluster.times * 1000).astype(np.int64)
    for group in groups:
        columns = group.values.T
        there = ~np.isnan(columns)
        kept = there.any(axis=1)
        number = np.cumsum(kept) - 1 + len(labels)
        labels += [group.labels(int(i)) for i in np.flatnonzero(kept)]
        row, at = np.nonzero(there)
        keys.append(number[row])
        stamps.append(times[at])
        values.append(columns[there])
    total = sum(len(part) for part in keys)
    return build(
        labels,
        pl.Series(np.concatenate(keys)),
        pl.Series(np.concatenate(stamps)),
        pl.Series(np.concatenate(values)),
        cluster=cluster.settings.cluster,
        sources=source_row("simulation", "simulate", read=total, kept=total),
    )


def address(slot: int) -> str:
    """IPv4 address of a node."""
    return f"172.16.{slot // 250}.{slot % 250 + 1}"


def node_name(cluster: str, agent: int) -> str:
    """Name of a node, and of every life of it another one."""
    return f"{cluster}-{agent:05d}"


def _of_agent(cluster: Cluster, metric: str, **more: str) -> Callable[[int], dict[str, str]]:
    agents, name = cluster.agents, cluster.settings.cluster

    def labels(i: int) -> dict[str, str]:
        return {
            "__name__": metric,
            "node": node_name(name, i),
            "namespace": "kube-system",
            "pod": str(agents.pod[i]),
            "instance": f"{address(int(agents.slot[i]))}:9962",
            "job": "cilium-agent",
            "k8s_app": "cilium",
            **more,
        }

    return labels


def _agent_groups(cluster: Cluster, rng: np.random.Generator) -> Iterator[_Group]:
    counts = _views(cluster, rng)
    rows = laws.node_rows(
        cluster.pods, cluster.agents.heavy, counts["policy_worst"], cluster.settings.pods_per_node
    )
    entries = _entries(cluster, counts, rng)
    limits = laws.map_limits(cluster.settings)
    for name, value in sorted(entries.items()):
        labels = _of_agent(cluster, "cilium_bpf_map_pressure", map_name=name)
        yield _Group(labels, _pressure(name, value / limits[name]))
    maps = laws.map_bytes(cluster.settings, counts["ipcache"], cluster.pods + 2, rows)
    gauges = {
        "cilium_bpf_maps_virtual_memory_max_bytes": maps,
        "cilium_endpoint": cluster.pods + 2,
        "cilium_nodes_all_num": counts["nodes"],
        "cilium_policy": counts["policies"],
        "cilium_process_cpu_seconds_total": _cpu_seconds(cluster, rng),
        "cilium_process_resident_memory_bytes": _memory(cluster, counts, rows, rng),
        "cilium_process_start_time_seconds": cluster.started,
    }
    for metric, value in gauges.items():
        yield _Group(_of_agent(cluster, metric), value)
    yield from _labelled(cluster, rng)


def _labelled(cluster: Cluster, rng: np.random.Generator) -> Iterator[_Group]:
    """Metrics with labels of their own: identities, service events, version."""
    # An agent counts identities that its own endpoints use (recorded: 62 of 3,000 at 63 endpoints)
    local = np.ceil(0.9 * cluster.pods)
    yield _Group(_of_agent(cluster, "cilium_identity", type="cluster_local"), local)
    for action, value in _service_events(cluster, rng).items():
        yield _Group(_of_agent(cluster, "cilium_services_events_total", action=action), value)
    # The agent never sets a value: cilium/cilium v1.17 pkg/metrics (recorded: 0)
    patch = f"{cluster.settings.version}.4"
    labels = _of_agent(cluster, "cilium_version", version=patch, arch="amd64")
    yield _Group(labels, np.zeros(cluster.alive.shape))


def _views(cluster: Cluster, rng: np.random.Generator) -> dict[str, Array]:
    """Cluster-wide counts as each agent sees them, (t, m): a few are a step late, none at last."""
    late = rng.random(cluster.alive.shape) < _LATE * min(cluster.settings.noise, 1.0)
    late[0] = late[-1] = False
    at = np.arange(len(cluster.times))[:, None] - late
    return {name: value.astype(float)[at] for name, value in cluster.counts.items()}


def _entries(
    cluster: Cluster, counts: dict[str, Array], rng: np.random.Generator
) -> dict[str, Array]:
    """Entries of each map on each node, (t, m)."""
    out: dict[str, Any] = {name: counts[name] for name in ("ipcache", "tunnel_map", *laws.LB_MAPS)}
    out["lxc"] = cluster.pods + 3.0
    out["cilium_policy_*"] = np.round(cluster.agents.worst * counts["policy_worst"])
    limits = laws.map_limits(cluster.settings)
    shape, noise = cluster.alive.shape, cluster.settings.noise
    busy = np.exp(laws.CONNECTION_SIGMA * rng.normal(size=shape[1]))
    for kind in CONNECTIONS:
        jitter = np.exp(laws.CONNECTION_NOISE * noise * rng.normal(size=shape))
        value = kind.median * busy * week(cluster.times, laws.WEEK)[:, None] * jitter
        # These maps evict their oldest entries instead of growing past their size
        out[kind.map] = np.minimum(np.round(value), limits[kind.map])
    return out


def _pressure(name: str, ratio: Array) -> Array:
    """Hide what the gauge hides: nothing at 0, and policy maps up to their threshold."""
    threshold = _POLICY_THRESHOLD if name == "cilium_policy_*" else 0.0
    return np.where(ratio > threshold, np.minimum(ratio, 1.0), np.nan)


def _memory(
    cluster: Cluster, counts: dict[str, Array], rows: Array, rng: np.random.Generator
) -> Array:
    """Resident memory of agents in whole pages [byte]."""
    step = cluster.settings.step_seconds
    law = laws.agent_memory_kib(counts, cluster.pods + 2, rows)
    pace = np.exp(-step / (laws.MEMORY_DAYS * _DAY))
    noise = autoregressive(cluster.alive.shape, pace, rng)
    age = (cluster.times[:, None] - cluster.started) / _DAY
    kept = 1 - AGENT.restart_dip * np.exp(-np.maximum(age, 0) / laws.MEMORY_DAYS)
    kib = law * kept + AGENT.noise_kib * cluster.settings.noise * noise
    return _pages(kib)


def _pages(kib: Array) -> Array:
    return np.asarray(np.maximum(np.floor(kib * 1024 / PAGE), 1) * PAGE)


def _cpu_seconds(cluster: Cluster, rng: np.random.Generator) -> Array:
    """CPU seconds since the start of each process."""
    shape, noise = cluster.alive.shape, cluster.settings.noise
    cores = (
        AGENT.base_cores
        + AGENT.pod_cores * cluster.counts["pods"]
        + AGENT.identity_cores * cluster.counts["identities"]
    ) * week(cluster.times, laws.WEEK_CPU)
    of_node = np.exp(0.15 * noise * rng.normal(size=shape[1]))
    used = cores[:, None] * of_node * np.exp(0.05 * noise * rng.normal(size=shape))
    return _counter(cluster, used)


def _counter(cluster: Cluster, rate: Array) -> Array:
    """Integrate a rate from the start of each process, to hundredths."""
    begins = cluster.restarted
    seconds = np.where(
        begins, cluster.times[:, None] - cluster.started, cluster.settings.step_seconds
    )
    grown = np.where(cluster.alive, rate * seconds, 0.0)
    total = np.cumsum(grown, axis=0)
    before = np.maximum.accumulate(np.where(begins, total - grown, 0.0))
    return np.asarray(np.round(total - before, 2))


def _service_events(cluster: Cluster, rng: np.random.Generator) -> dict[str, Array]:
    """Frontends added and deleted since the start of each process.

    A vector of counters has no series before its first event: deletions are absent until then.
    """
    frontends = cluster.counts["lb4_reverse_nat"]
    days = cluster.settings.step_seconds / _DAY
    churn = rng.poisson(_CHURN * days * min(cluster.settings.noise, 1.0), len(frontends))
    change = np.diff(frontends, prepend=frontends[0])
    # All agents that live at the start were upgraded together: they share a past
    churn[0] += round(40 * _CHURN * min(cluster.settings.noise, 1.0))
    added = np.cumsum(np.maximum(change, 0) + churn)
    deleted = np.cumsum(np.maximum(-change, 0) + churn)
    old = (cluster.first == 0) & (cluster.agents.birth == 0)
    added_before = np.where(old, 0, added[cluster.first])
    deleted_before = np.where(old, 0, deleted[cluster.first])
    held = frontends[cluster.first]
    gone = (deleted[:, None] - deleted_before).astype(float)
    return {
        "add": (held + added[:, None] - added_before).astype(float),
        "delete": np.where(gone > 0, gone, np.nan),
    }


def _limit_groups(cluster: Cluster) -> Iterator[_Group]:
    """Memory limits as kube-state-metrics tells them."""
    limit = parse_bytes(cluster.settings.agent_memory_limit)
    agent = _of_agent(cluster, "kube_pod_container_resource_limits")

    def labels(i: int) -> dict[str, str]:
        kept = {k: v for k, v in agent(i).items() if k != "k8s_app"}
        return kept | _STATE_METRICS | {"container": "cilium-agent"}

    yield _Group(labels, np.where(cluster.alive, float(limit), np.nan))
    limit = parse_bytes(cluster.settings.operator_memory_limit)
    for pod in _OPERATORS:
        more = _STATE_METRICS | {"container": "cilium-operator"}
        yield _pod(cluster, pod, "kube_pod_container_resource_limits", float(limit), **more)


_STATE_METRICS: Final = {
    "instance": "172.16.0.1:8080",
    "job": "kube-state-metrics",
    "resource": "memory",
    "unit": "byte",
}
# Leader and standby; the name of the ReplicaSet is made up
_OPERATORS: Final = ("cilium-operator-6c8d9f7b54-kq2vx", "cilium-operator-6c8d9f7b54-zt7wm")


def _pod(cluster: Cluster, pod: str, metric: str, value: Any, **more: str) -> _Group:
    labels = {"__name__": metric, "namespace": "kube-system", "pod": pod, **more}
    values = np.broadcast_to(np.asarray(value, float), cluster.times.shape)
    return _Group(lambda _: labels, values[:, None])


def _operator_groups(cluster: Cluster, rng: np.random.Generator) -> Iterator[_Group]:
    counts, shape = cluster.counts, cluster.times.shape
    days = cluster.settings.step_seconds / _DAY
    noise = autoregressive(shape, float(np.exp(-days / laws.MEMORY_DAYS)), rng)
    leader = laws.operator_memory_kib(counts)
    leader = leader + OPERATOR.noise_kib * cluster.settings.noise * noise
    cores = (
        OPERATOR.base_cores
        + OPERATOR.node_cores * counts["nodes"]
        + OPERATOR.pod_cores * counts["pods"]
    )
    kib = (leader, np.full(shape, float(_STANDBY_KIB)))
    idle = np.full(shape, OPERATOR.base_cores)
    for pod, memory, used in zip(_OPERATORS, kib, (cores, idle), strict=True):
        more = {"job": "cilium-operator", "io_cilium_app": "operator"}
        more["instance"] = f"{address(_OPERATORS.index(pod) + 1)}:9963"
        prefix = "cilium_operator_process_"
        yield _pod(cluster, pod, f"{prefix}resident_memory_bytes", _pages(memory), **more)
        seconds = np.round(np.cumsum(used * days * _DAY), 2)
        yield _pod(cluster, pod, f"{prefix}cpu_seconds_total", seconds, **more)
        if pod == _OPERATORS[0]:
            more |= {"identity_type": "crd", "status": "alive"}
            metric = "cilium_operator_identity_gc_entries"
            yield _pod(cluster, pod, metric, counts["identities"], **more)


def _capacity(cluster: Cluster) -> Iterator[_Group]:
    """Sizes of maps by group, one series a group: the largest over agents."""
    settings = cluster.settings
    sizes = dynamic_sizes(parse_bytes(settings.memory), settings.ratio, version=settings.version)
    groups = _FIXED_GROUPS | {
        "endpoint_policy": settings.policy_map_max,
        "cilium_ct4_global": sizes["bpf-ct-global-tcp-max"],
        "cilium_ct_any4_global": sizes["bpf-ct-global-any-max"],
        "cilium_snat_v4_external": sizes["bpf-nat-global-max"],
        "cilium_nodeport_neigh4": sizes["bpf-neigh-global-max"],
        "cilium_lb4_reverse_sk": sizes["bpf-sock-rev-map-max"],
    }
    if settings.lb_map_max != _FIXED_GROUPS["default"]:
        groups |= {f"cilium_{name}": settings.lb_map_max for name in laws.LB_MAPS}
    for group, size in sorted(groups.items()):
        labels = {"__name__": "cilium_bpf_map_capacity", "map_group": group}
        values = np.full((len(cluster.times), 1), float(size))
        yield _Group(lambda _, labels=labels: labels, values)  # type: ignore[misc]
