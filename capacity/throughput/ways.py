"""What one request and its reply cost all nodes, by way of load balancing: SNAT or DSR, XDP or tc.

Only ratios are meant: a cluster's own cost of a packet, times the ratio of two ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from capacity.throughput.costs import Cost, passes
from capacity.throughput.tier import load
from capacity.tier_settings import TierSettings


@dataclass(frozen=True, slots=True)
class Way:
    """How replies go (snat, dsr), and where packets are forwarded (disabled: tc; native: XDP)."""

    mode: str
    acceleration: str


WAYS: Final = tuple(
    Way(mode, hook) for mode, hook in product(("snat", "dsr"), ("disabled", "native"))
)


def work(way: Way, nodes: int, *, tunnel: bool) -> Cost:
    """Give what all nodes together spend on a request of a client outside and its reply. [ns].

    Backends are on the same nodes; connections and services are the defaults of `capacity lb size`.
    """
    xdp = "native" if way.acceleration == "native" else "off"
    given = TierSettings(mode=way.mode, xdp=xdp, tunnel=tunnel)
    per = load(given, nodes)
    costs = passes(
        None, mode=way.mode, xdp=xdp, tunnel=tunnel, encryption="none",
        flows=max(1.0, given.connections / (nodes * given.cores)), services=given.services,
    )  # fmt: skip
    return (
        costs.forward.times(per.forwards)
        + costs.opened.times(per.forwards / given.per_connection)
        + costs.reply.times(per.replies)
        + costs.deliver.times(per.delivers)
    )


def ratio(way: Way, present: Way, nodes: int, *, tunnel: bool) -> Cost:
    """Give the work of a way over that of the present one, on as many nodes. [1].

    The middle is as if all packets came from clients outside. Bounds hold 1, as if none did, since
    pods' own packets gain nothing; and the least and the largest ratio of both lower, both middle
    and both upper costs, which rest on the same measurements and are wrong together.
    """
    new, old = work(way, nodes, tunnel=tunnel), work(present, nodes, tunnel=tunnel)
    told = (new.low / old.low, new.middle / old.middle, new.high / old.high)
    return Cost(told[1], min(1.0, *told), max(1.0, *told))
