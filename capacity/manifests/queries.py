"""PromQL for each limited resource of a plan: used share, and the thresholds of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from capacity import facts
from capacity.manifests.subject import Subject, present

# The driver of hard limits that a metric tells outright, and the share of a map that tells others
_IDENTITIES = 'cilium_operator_identity_gc_entries{status="alive"}'


@dataclass(frozen=True, slots=True)
class Resource:
    """One limited resource in Prometheus.

    `usage` is PromQL of the used share by cluster, `planned` the share that the plan's 99 %
    quantile has at the planned node count with what is recommended, None where that is not known.
    """

    name: str
    kind: str
    usage: str
    planned: float | None
    current: float | None
    nodes: int | None
    advice: str


def resources(subject: Subject) -> list[Resource]:
    """Give the resources that a metric tells, in the order in which they run out."""
    found = []
    for row in subject.exhaustion.iter_rows(named=True):
        usage = _usage(subject, row)
        if usage is None:
            continue
        found.append(
            Resource(
                _name(row), row["kind"], usage, _planned(subject, row), row["usage"],
                row["nodes_early"], _advice(subject, row),
            )
        )  # fmt: skip
    return found


def _name(row: dict[str, Any]) -> str:
    if row["component"] in ("map", "cluster"):
        return str(row["subject"])
    return f"{row['component']} {row['quantity']}"


def _usage(subject: Subject, row: dict[str, Any]) -> str | None:
    if row["component"] == "map":
        # A label that no fact knows is the export's word: it gets into no query
        name = facts.map_of_label(row["subject"], subject.version)
        told = facts.maps(subject.version).filter(pl.col("pressure"))["map"].to_list()
        return f"max by (cluster) ({_pressure(row['subject'])})" if name in told else None
    if row["limit"] is None:
        return None
    if row["subject"] == "cluster-identities":
        return f"max by (cluster) ({_IDENTITIES}) / {row['limit']:.0f}"
    if row["subject"] == "service-ids":
        size = subject.exhaustion.filter(subject="lb4_reverse_nat")["limit"].drop_nulls()
        if size.is_empty():
            return None
        share = f"max by (cluster) ({_pressure('lb4_reverse_nat')})"
        return f"{share} * {size[0]:.0f} / {row['limit']:.0f}"
    return _pods(subject, row) if row["quantity"] == "memory" else None


def _pressure(subject: str) -> str:
    if subject == "cilium_policy_*":
        return 'cilium_bpf_map_pressure{map_name=~"(cilium_)?policy_.*"}'
    return f'cilium_bpf_map_pressure{{map_name="{subject}"}}'


def _pods(subject: Subject, row: dict[str, Any]) -> str | None:
    """Give memory over its limit: working set, else RSS with the kernel's memory of maps."""
    component = row["component"]
    fact = facts.components(subject.version).filter(component=component)
    if fact.is_empty():
        return None
    container = fact["container"][0]
    limit = f"{row['limit']:.0f}"
    if present(subject, f"{component} memory_limit"):
        chosen = f'{{container="{container}",resource="memory"}}'
        limit = f"min by (cluster) (kube_pod_container_resource_limits{chosen})"
    if present(subject, f"{component} memory_working_set") or present(
        subject, f"{component} memory"
    ):
        used = f'container_memory_working_set_bytes{{container="{container}"}}'
    elif component == "operator":
        used = "cilium_operator_process_resident_memory_bytes"
    elif present(subject, "agent memory_bpf_maps"):
        used = (
            "cilium_process_resident_memory_bytes + on (cluster, node, pod, instance) "
            "cilium_bpf_maps_virtual_memory_max_bytes"
        )
    else:
        used = "cilium_process_resident_memory_bytes"
    return f"max by (cluster) ({used}) / {limit}"


def _planned(subject: Subject, row: dict[str, Any]) -> float | None:
    """Share of the size recommended that the 99 % quantile takes at the largest planned count."""
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.lit(row[name])) for name in ("component", "subject", "quantity")
    )
    rows = subject.forecast.filter(same).sort("nodes")
    if rows.is_empty() or row["limit"] is None:
        return None
    target = subject.recommendation.filter(_is_of(row), pl.col("target").is_not_null())["target"]
    size = max(float(target[0]) if len(target) else 0.0, float(row["limit"]))
    nodes = planned_nodes(subject)
    most = float(np.interp(nodes, rows["nodes"].to_numpy(), rows["q99"].to_numpy()))
    return most / size


def _is_of(row: dict[str, Any]) -> pl.Expr:
    """Recommendations that move the limit of a row: requests move none."""
    same = pl.col("subject").eq_missing(pl.lit(row["subject"]))
    is_limit = ~pl.col("setting").str.contains("requests.", literal=True)
    return pl.all_horizontal(pl.col("component") == row["component"], same, is_limit)


def planned_nodes(subject: Subject) -> int:
    """Give the node count that the recommendations hold."""
    nodes = subject.recommendation["nodes"].max()
    return int(nodes) if isinstance(nodes, int) else 0


def _advice(subject: Subject, row: dict[str, Any]) -> str:
    found = subject.recommendation.filter(_is_of(row))
    if found.is_empty():
        return "plan again"
    told = found.row(0, named=True)
    if told["status"] in ("raise", "set") and told["target"] is not None:
        return f"set {told['setting']} as the plan says"
    if str(told["setting"]).startswith("("):
        return "no setting moves this limit: change the shape of the cluster, or split it"
    return f"plan again; the setting is {told['setting']}"
