"""A tier replayed flow by flow and packet by packet, beside which the closed formulas are held.

Vectorized over flows and packets, seeded; hashes are real ones (a finalizer of 64 bits), backends
are picked by them, queues are followed packet by packet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Hash = npt.NDArray[np.uint64]


def hashed(values: npt.ArrayLike, salt: int) -> Hash:
    """Mix numbers to 64 bits: the finalizer of SplitMix64 (G. Steele et al., OOPSLA 2014)."""
    x = np.asarray(values, np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % (1 << 64))
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


@dataclass(frozen=True, slots=True)
class Replay:
    """What was counted, for one request packet of each flow.

    Attributes
    ----------
    hop_share : float
        Flows whose backend is on another node.
    passes : float
        Passes through nodes, a request with its replies.
    busiest : float
        Flows of the busiest core over the mean.
    moved, broken : float
        Shares of the flows of nodes that stay, and of all, when the last node leaves.
    """

    hop_share: float
    passes: float
    busiest: float
    moved: float
    broken: float


def replay(
    flows: int,
    nodes: int,
    cores: int,
    *,
    in_cluster: bool,
    snat: bool,
    replies: float = 1.0,
    resilient: bool = False,
    seed: int = 0,
) -> Replay:
    """Send each flow through the tier, then take the last node away and send it again.

    Parameters
    ----------
    flows
        Client connections of one packet rate. [1]
    nodes, cores
        Nodes of the tier, and cores of each. [1]
    in_cluster
        Backends are on the nodes, one hundred on each; else behind them.
    snat
        Replies come back through the first node.
    """
    key = hashed(np.arange(flows), seed)
    first = (key % np.uint64(nodes)).astype(np.int64)
    core = first * cores + (hashed(key, 1) % np.uint64(cores)).astype(np.int64)
    # All nodes ask the same table: the backend does not depend on the node
    slot = (hashed(key, 2) % np.uint64(100 * nodes)).astype(np.int64)
    home = slot // 100 if in_cluster else np.full(flows, -1)
    away = home != first
    passes = away.astype(float)
    if in_cluster:
        passes += 1.0 + replies
    if snat:
        passes += replies * away
    counts = np.bincount(core, minlength=nodes * cores)
    again = (key % np.uint64(max(nodes - 1, 1))).astype(np.int64)
    if resilient:
        again = np.where(first == nodes - 1, again, first)
    moves = again != first
    return Replay(
        float(away.mean()), float(passes.mean()), float(counts.max() / counts.mean()),
        float(moves.mean()), float((moves & snat).mean()),
    )  # fmt: skip


def waits(
    rate: float, services: Array, *, burst: float = 1.0, seed: int = 0, packets: int = 100_000
) -> Array:
    """Give waits of packets in the queue of one core: trains come by Poisson, served in order. [s].

    Parameters
    ----------
    rate
        Packets. [1/s]
    services
        Times of a packet, drawn from with equal chance. [s]
    burst
        Mean length of a train, geometric; its packets come at once. [1]
    """
    rng = np.random.default_rng(seed)
    starts = rng.random(packets) < 1 / burst
    gaps = np.where(starts, rng.exponential(burst / rate, packets), 0.0)
    work = rng.choice(services, packets)
    # Lindley's recursion W' = max(0, W + S − T), solved by running sums
    steps = np.concatenate([[0.0], np.cumsum(work[:-1] - gaps[1:])])
    return np.asarray(steps - np.minimum.accumulate(np.minimum(steps, 0.0)), float)


def busy_share(
    packet: float, wake: float, hold: float, rate: float, *, seed: int = 0, packets: int = 100_000
) -> float:
    """Share of time a core works: it sleeps when nothing waits, the device holds, it wakes. [1].

    Event by event: the core serves until its queue is empty; the next packet starts the hold, at
    whose end the core spends `wake` and then serves all that came meanwhile. Times in seconds.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, packets)).tolist()
    now = worked = 0.0
    place = 0
    while place < packets:
        if arrivals[place] > now:
            now = arrivals[place] + hold + wake
            worked += wake
        now += packet
        worked += packet
        place += 1
    return worked / now
