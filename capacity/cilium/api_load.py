"""What a cluster asks of its API server or kvstore: objects, watches, events, bytes of etcd.

Pure arithmetic on counts and rates. Sizes of objects are rows of facts/objects.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from capacity.cilium.control_plane import WRITES_PER_ENDPOINT, watch_events
from capacity.facts import derivations

_PAGE: Final = 4096
# Beside key and value: revision key, protobuf and node header; bbolt pages are filled to 90 %
# (etcd-io/etcd server/storage/backend: FillPercent). Measured on etcd 3.4.23: docs/validation.md
_AROUND: Final = 60
_FILL: Final = 0.9
# The API server compacts every 5 minutes what is older than 5 minutes: kubernetes/kubernetes
# staging/src/k8s.io/apiserver/pkg/storage/storagebackend/config.go, DefaultCompactInterval
_KEPT_SECONDS: Final = 600
# pkg/option: ces-max-ciliumendpoints-per-ces
_PER_SLICE: Final = 100
API: Final = "kube-apiserver"
KVSTORE: Final = "kvstore"
# Of the objects: agents watch nodes, endpoints or slices, and identities
_KINDS: Final = 3


@dataclass(frozen=True, slots=True)
class Load:
    """A cluster to its control plane: objects there are, pods made a second where known."""

    nodes: float
    pods: float
    identities: float
    pods_per_second: float | None = None
    slices: bool = False
    kvstore: bool = False


def etcd_bytes(value: int, key: int) -> float:
    """Bytes of etcd's database that one revision of a key takes.

    Parameters
    ----------
    value, key
        Size of each. [byte]

    Notes
    -----
    bbolt fills pages of 4 KiB to 90 %: as many whole records a page as fit, or two records over as
    many pages as they need.

    Examples
    --------
    >>> [round(etcd_bytes(size, 57)) for size in (531, 739, 983, 4000, 12_000)]
    [819, 1024, 1365, 6144, 12288]
    """
    record = value + key + _AROUND
    many = int(_FILL * _PAGE // record)
    return _PAGE / many if many >= 2 else _PAGE * ceil(2 * record / _PAGE) / 2


def control_plane(load: Load) -> list[dict[str, Any]]:
    """Tell what a cluster asks of its control plane, as rows: server, what, value, unit, why."""
    return [*_api(load), *(_kvstore(load) if load.kvstore else [])]


def _api(load: Load) -> list[dict[str, Any]]:
    slices = ceil(load.pods / _PER_SLICE) if load.slices else 0
    counts = {"ciliumnodes": load.nodes, "ciliumendpoints": load.pods}
    if load.slices:
        counts["ciliumendpointslices"] = slices
    if not load.kvstore:
        counts["ciliumidentities"] = load.identities
    stored = {name: counts[name] * _stored(name) for name in counts}
    rows = [
        _row(API, f"{name} stored", count, "1", "one a node, pod, slice of 100 pods, or label set")
        for name, count in counts.items()
    ]
    kinds = 0 if load.kvstore else _KINDS
    rows.append(_row(API, "watches of agents", kinds * load.nodes, "1",
                     "each agent watches nodes, endpoints (or slices) and identities"))  # fmt: skip
    kept = 0.0
    if load.pods_per_second is not None:
        rate = load.pods_per_second
        writes = rate * WRITES_PER_ENDPOINT
        kept = writes * _KEPT_SECONDS * _stored("ciliumendpoints")
        rows.append(_row(API, "writes of endpoints", writes, "1/s",
                         "cilium/cilium issue 15153: three writes while a pod starts"))  # fmt: skip
        if not load.kvstore:
            rows += _events(load, rate)
    told = "objects as recorded, without managedFields"
    why = f"{told}; no revisions: name churn" if not kept else f"{told}, and 10 min of revisions"
    return [*rows, _row(API, "etcd database", sum(stored.values()) + kept, "byte", why)]


def _events(load: Load, rate: float) -> list[dict[str, Any]]:
    objects = derivations.objects()
    nodes = round(load.nodes)
    sent = watch_events(rate, nodes, slices=load.slices)
    each = float(objects["ciliumendpoints"]["bytes"])
    if load.slices:
        shape = objects["ciliumendpointslices"]
        each = shape["bytes"] + min(_PER_SLICE, max(load.pods, 1)) * shape["per_endpoint"]
    # New pods bring as many new label sets as those that are there did
    share = load.identities / load.pods if load.pods else 0.0
    named = rate * share * nodes
    kind = "endpoint slices" if load.slices else "endpoints"
    return [
        _row(API, "events sent to agents", sent + named, "1/s", f"{kind} and identities, each once "
             "an agent; identities as new pods bring label sets today"),
        _row(API, "bytes sent to agents", sent * each
             + named * objects["ciliumidentities"]["bytes"], "byte/s", "before compression"),
    ]  # fmt: skip


def _kvstore(load: Load) -> list[dict[str, Any]]:
    # A node uses as many identities as it has pods, at most all of them
    uses = load.nodes * min(load.identities, load.pods / max(load.nodes, 1))
    counts = {
        "kvstore-identities": load.identities, "kvstore-identity-uses": uses,
        "kvstore-addresses": load.pods + load.nodes, "kvstore-nodes": load.nodes,
    }  # fmt: skip
    rows = [
        _row(KVSTORE, f"{name.removeprefix('kvstore-')} stored", count, "1", "under cilium/state")
        for name, count in counts.items()
    ]
    rows.append(_row(KVSTORE, "watches of agents", _KINDS * load.nodes, "1",
                     "nodes, addresses, identities"))  # fmt: skip
    if load.pods_per_second is not None:
        # An address is written and deleted; each agent hears of both
        rows.append(_row(KVSTORE, "events sent to agents",
                         2 * load.pods_per_second * load.nodes, "1/s",
                         "each address that comes and goes, once an agent"))  # fmt: skip
    total = sum(counts[name] * _stored(name) for name in counts)
    return [*rows, _row(KVSTORE, "etcd database", total, "byte", "without revisions")]


def _stored(name: str) -> float:
    row = derivations.objects()[name]
    return etcd_bytes(row["bytes"] + _PER_SLICE * row["per_endpoint"], row["key"])


def _row(server: str, what: str, value: float, unit: str, why: str) -> dict[str, Any]:
    return {"server": server, "what": what, "value": float(value), "unit": unit, "why": why}
