"""Deployments, StatefulSets and DaemonSets: their containers, and the pods that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from capacity.load.documents import Row
from capacity.load.fields import (
    Fault,
    Object,
    as_json,
    bounded,
    dicts_at,
    name_of,
    namespace_of,
    quantity_at,
    value_at,
)
from capacity.tables import ENDPOINTS
from capacity.units import parse_bytes, parse_millicores

KINDS: Final = ("DaemonSet", "Deployment", "StatefulSet")
# Kubernetes is tested to 150,000 pods: https://kubernetes.io/docs/setup/best-practices/cluster-large/
_MOST_PODS: Final = 200_000
_PORT: Final = 65535
_POD: Final = "spec.template.spec"


def read(item: Object, place: str) -> list[Row]:
    """Give a row of table workloads a container, with what its pods are like at the end."""
    is_daemon = item["kind"] == "DaemonSet"
    told = value_at(item, "spec.replicas", int)
    replicas = (
        None
        if is_daemon
        else bounded(1 if told is None else int(told), "spec.replicas", _MOST_PODS)
    )
    pod = value_at(item, _POD, dict)
    if pod is None:
        raise Fault(f"{_POD} is missing")
    template = (
        value_at(item, "spec.template.metadata.labels", dict),
        value_at(pod, "serviceAccountName", str) or "default",
        named_ports(pod, ""),
    )
    is_endpoint = not value_at(pod, "hostNetwork", bool)
    selector = as_json({"selector": value_at(item, "spec.selector", dict), "labels": template[0]})
    made = (as_json(template[0]), template[1], as_json(template[2]), selector, is_endpoint)
    head = (item["kind"], namespace_of(item), name_of(item))
    containers = dicts_at(pod, "containers")
    if not containers:
        raise Fault(f"{_POD}.containers is missing")
    return [(*head, str(one.get("name")), replicas, *_resources(one), *made) for one in containers]


def selectors(rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Give rows of table objects: how workloads find their pods, and the labels of these."""
    found = {row[:3]: row[-2] for kind in KINDS for row in rows.get(kind, ())}
    return [(*key, "", selector) for key, selector in found.items()]


def _resources(container: Object) -> list[int | None]:
    return [
        quantity_at(container, f"resources.{bound}.{name}", parse)
        for name, parse in (("cpu", parse_millicores), ("memory", parse_bytes))
        for bound in ("requests", "limits")
    ]


def named_ports(item: Object, path: str) -> list[dict[str, Any]]:
    """Give ports of containers that have a name: those that policies can name.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/types, `Pod.Spec.Containers`, read by daemon/cmd/endpoint.go into
       the endpoint's named ports, b095517e625e.
    """
    containers = dicts_at(item, f"{path}.containers" if path else "containers")
    told = (
        named_port(port, "containerPort") for one in containers for port in dicts_at(one, "ports")
    )
    return [port for port in told if port is not None]


def named_port(port: Object, number: str) -> dict[str, Any] | None:
    """Give name, port and protocol of a port; None where it has no name."""
    name, told = value_at(port, "name", str), value_at(port, number, int)
    if not name or told is None:
        return None
    protocol = value_at(port, "protocol", str) or "TCP"
    return {"name": name, "port": bounded(int(told), number, _PORT), "protocol": protocol}


def host_ports(item: Object, addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Give ports of the node that lead to a pod.

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/watchers/pod.go `genServiceMappings`, b095517e625e.
    """
    containers = [*dicts_at(item, "spec.initContainers"), *dicts_at(item, "spec.containers")]
    return [
        {
            "host_ip": value_at(port, "hostIP", str) or "",
            "host_port": bounded(int(number), "hostPort", _PORT),
            "protocol": value_at(port, "protocol", str) or "TCP",
            "port": bounded(int(value_at(port, "containerPort", int) or 0), "containerPort", _PORT),
            "addresses": list(addresses),
        }
        for one in containers
        for port in dicts_at(one, "ports")
        if (number := value_at(port, "hostPort", int))
    ]


def endpoints(rows: Mapping[str, Sequence[Row]], nodes: int) -> tuple[pl.DataFrame, str | None]:
    """Give the pods that workloads make, and a note that says so.

    Parameters
    ----------
    rows
        Rows of `read` by kind.
    nodes
        Nodes of the cluster, each with a pod of every DaemonSet; one where none is told. [1]

    Returns
    -------
    tuple
        Table endpoints: pods NAME-0, NAME-1 … without node; and the note, None without pods.
    """
    # Workloads that are told several times or have several containers make their pods once
    found = {row[:3]: row for kind in KINDS for row in rows.get(kind, ()) if row[-1]}
    many = {key: max(nodes, 1) if row[4] is None else row[4] for key, row in found.items()}
    total = sum(many.values())
    if total > _MOST_PODS:
        return (
            ENDPOINTS.empty(),
            f"{total} pods of {len(found)} workloads are too many to be listed",
        )
    made = [
        (key[1], f"{key[2]}-{number}", None, row[9], None, row[10], row[11], None)
        for key, row in sorted(found.items())
        for number in range(many[key])
    ]
    note = f"no pods are told: {total} are taken from {len(found)} workloads (replicas x template)"
    frame = pl.DataFrame(made, schema=ENDPOINTS.schema, orient="row")
    frame = frame.unique(["namespace", "pod"], keep="last", maintain_order=True)
    return frame.sort("namespace", "pod"), note if made else None
