"""What a cluster costs its control plane: identities over time, watches, pools of pod addresses.

Pure arithmetic. Rates that are reached in practice lie below:
these are what is asked for, not what an API server does.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect
from dataclasses import dataclass
from math import inf, log1p
from typing import Final

from capacity.errors import SettingsError

# Writes of one CiliumEndpoint while its pod starts; events that each watcher gets
WRITES_PER_ENDPOINT: Final = 3
# Sizes of the Hubble ring are one less than a power of two: pkg/hubble/container/ring.go
_RING_BITS: Final = range(1, 17)


def identities_last(identities: int, per_second: float, released_per_second: float = 0.0) -> float:
    """Seconds until a cluster's identities run out; inf where they are released as fast.

    Parameters
    ----------
    identities
        Free identities. [1]
    per_second
        New label sets. [1/s]
    released_per_second
        Identities the operator collects. [1/s]

    Examples
    --------
    >>> round(identities_last(65_280, 40) / 60, 1), round(identities_last(65_280, 40, 5) / 60, 1)
    (27.2, 31.1)
    """
    net = per_second - released_per_second
    return identities / net if net > 0 else inf


def watch_events(
    pods_per_second: float,
    nodes: int,
    *,
    writes: int = WRITES_PER_ENDPOINT,
    slices: bool = False,
    endpoints_per_slice: int = 100,
    slice_seconds: float = 1.0,
) -> float:
    """Events a second that the API server sends to agents about CiliumEndpoints.

    With CiliumEndpointSlices each slice is sent at most once a batching interval; pods that start
    at once share slices at best.

    Examples
    --------
    >>> watch_events(30, 1000)
    90000.0
    """
    written = pods_per_second * writes
    if slices:
        batches = max(written * slice_seconds / endpoints_per_slice, min(written, 1.0))
        written = min(written, batches / slice_seconds)
    return float(written * nodes)


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of pod addresses: nodes it has ranges for, and pods a node."""

    max_nodes: int
    pods_per_node: int


def pool(cidr: str, mask: int) -> Pool:
    """Tell how many nodes a cluster pool holds, and how many pods each.

    Raises
    ------
    SettingsError
        If the range cannot be read or the mask is not longer than it.

    Examples
    --------
    >>> pool("172.16.0.0/21", 24).max_nodes, pool("10.0.0.0/8", 24)
    (8, Pool(max_nodes=65536, pods_per_node=254))
    """
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise SettingsError(f"pool: {error}") from None
    if not network.prefixlen <= mask <= network.max_prefixlen:
        raise SettingsError(f"pool: mask {mask} is not within {cidr}")
    addresses = 1 << (network.max_prefixlen - mask)
    return Pool(1 << (mask - network.prefixlen), max(addresses - 2, 0))


def smallest_pool(nodes: int, mask: int) -> int:
    """Give the longest prefix of a pool that has ranges of this mask for so many nodes.

    >>> smallest_pool(20, 24)
    19
    """
    return mask - max(nodes - 1, 0).bit_length()


def hubble_seconds(flows_per_second: float, capacity: int) -> float:
    """Seconds of flows that a node's Hubble ring holds.

    Raises
    ------
    SettingsError
        If the capacity is not one less than a power of two up to 65,535; says which are near.

    Examples
    --------
    >>> round(hubble_seconds(1500, 4095), 2)
    2.73
    """
    sizes = [(1 << bits) - 1 for bits in _RING_BITS]
    if capacity not in sizes:
        at = bisect(sizes, capacity)
        near = sizes[max(at - 2, 0) : at + 1]
        raise SettingsError(f"hubble.eventBufferCapacity: {capacity} is none of {near} …, 2^n - 1")
    return capacity / flows_per_second if flows_per_second > 0 else inf


def connectivity_series(nodes: int) -> dict[str, int]:
    """Series of the node-connectivity metrics over all agents: each tells of each other node.

    Latency by address of node and endpoint, over HTTP and ICMP; status without the protocol.
    Source: Documentation/observability/metrics.rst of cilium/cilium, 1.17-dev,
    node_connectivity_latency_seconds and node_connectivity_status, with primary addresses only.
    Not for versions that name no target node (node_health_connectivity_…).

    >>> connectivity_series(1000)
    {'latency': 3996000, 'status': 1998000}
    """
    pairs = nodes * (nodes - 1)
    return {"latency": 4 * pairs, "status": 2 * pairs}


def cluster_interval(nodes: int, base: float = 60.0) -> float:
    """Seconds between rounds of what agents spread by cluster size (health probes, syncs).

    Source: pkg/backoff/backoff.go of cilium/cilium, ClusterSizeDependantInterval: base x ln(1 + n).

    >>> round(cluster_interval(1000), 2), round(cluster_interval(1024), 2)
    (414.53, 415.95)
    """
    return base * log1p(nodes)
