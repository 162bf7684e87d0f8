"""How evenly hashes share packets and connections out, and what moves when a node leaves."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import poisson

from capacity.errors import ModelError

# Frame gap, preamble and start delimiter of Ethernet, IEEE 802.3 clause 4.4.2: 12 + 8 bytes
FRAMING: Final = 20
# Smallest frame with its check sequence: ibid.
LEAST_FRAME: Final = 64
# Outer headers of a packet between nodes, bytes: VXLAN over IPv4 (RFC 7348 section 5: 14 + 20 + 8
# + 8), an IPv4 option that carries address and port (cilium/cilium bpf/lib/nodeport.h, DSR: 8)
VXLAN: Final = 50
DSR_OPTION: Final = 8


def line_rate(gbps: float, frame: float) -> float:
    """Packets a second that a link carries in one direction. [1/s].

    Parameters
    ----------
    gbps
        Speed of the link. [Gbit/s]
    frame
        Ethernet frame with its check sequence, at least 64. [byte]

    Examples
    --------
    >>> round(line_rate(10, 64)), round(line_rate(25, 64))
    (14880952, 37202381)
    """
    return gbps * 1e9 / (8 * (max(frame, LEAST_FRAME) + FRAMING))


def imbalance(parties: int, flows: float, quantile: float = 0.5) -> float:
    """Load of the busiest of `parties` divided by the mean, where a hash shares flows out. [1].

    Each party's flows are nearly Poisson and independent: the busiest has the quantile^(1/parties)
    quantile of Poisson(flows / parties). For flows of unequal size take 1 / Σ share² as `flows`.

    Parameters
    ----------
    parties
        Nodes, or cores of all nodes. [1]
    flows
        Flows of equal rate. [1]
    quantile
        Chance that the busiest has at most that. [1]

    Raises
    ------
    ModelError
        If there are less than one party or flow.

    Examples
    --------
    >>> round(imbalance(1, 1000), 3), round(imbalance(40, 1_000_000), 3)
    (1.0, 1.013)
    """
    if parties < 1 or not flows >= 1 or not 0 < quantile < 1:
        raise ModelError(f"{parties} parties and {flows} flows: wanted 1 or more of both")
    if parties == 1:
        return 1.0
    mean = flows / parties
    return float(max(poisson.ppf(quantile ** (1 / parties), mean), np.ceil(mean)) / mean)


def bucket_imbalance(nodes: int, buckets: int) -> float:
    """Largest share of a table of hash buckets that routers keep a route by, over the mean. [1].

    Examples
    --------
    >>> bucket_imbalance(3, 8), bucket_imbalance(4, 8)
    (1.125, 1.0)
    """
    if not 1 <= nodes <= buckets:
        raise ModelError(f"{buckets} buckets for {nodes} nodes: wanted one or more a node")
    return float(-(-buckets // nodes) * nodes / buckets)


def moved(nodes: int, router: str) -> float:
    """Share of connections whose packets reach another node after one of `nodes` left. [1].

    A router that takes the hash modulo the count moves all but 1/N: of N (N − 1) equally likely
    remainders N − 1 stay. A resilient one moves only what the lost node had, 1/N.

    Examples
    --------
    >>> moved(4, "modulo"), moved(4, "resilient")
    (0.75, 0.25)
    """
    return 1.0 / nodes if router == "resilient" or nodes < 2 else 1.0 - 1.0 / nodes


def broken(
    nodes: int, router: str, *, mode: str, maglev: bool, backends: int, changed: float = 0.0
) -> float:
    """Share of connections that break when one node leaves, its own backends not counted. [1].

    Source NAT keeps a connection's ports on one node: what moves breaks. With DSR the other node
    asks its own table: by Maglev it gets the same backend unless the backends changed since the
    connection began; by random choice, another one in (B − 1)/B cases.

    Parameters
    ----------
    changed
        Share of a Maglev table that differs from when connections began. [1]

    Examples
    --------
    >>> broken(4, "modulo", mode="snat", maglev=True, backends=10)
    0.75
    >>> broken(4, "modulo", mode="dsr", maglev=True, backends=10)
    0.0
    """
    share = moved(nodes, router)
    if mode == "snat":
        return share
    return share * (changed if maglev else 1 - 1 / backends)


def hop_share(nodes: int, *, in_cluster: bool, local: bool) -> float:
    """Share of packets whose backend is on another node than the one they reach. [1].

    Backends spread evenly over N nodes: (N − 1)/N. All on a tier of its own; none where only nodes
    with backends are asked (externalTrafficPolicy: Local).

    Examples
    --------
    >>> hop_share(4, in_cluster=True, local=False), hop_share(4, in_cluster=False, local=False)
    (0.75, 1.0)
    """
    if not in_cluster:
        return 1.0
    return 0.0 if local else 1.0 - 1.0 / nodes
