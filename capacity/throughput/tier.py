"""What a tier of N load-balancing nodes carries at a CPU and a latency budget; nodes needed.

One request packet makes passes on nodes: it is forwarded (SNAT, DSR), delivered, answered, and with
source NAT the answer comes back through the first node. Costs of passes are drawn, so that rates
have intervals; the law of cores is the one that published curves of a like load balancer prefer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from capacity.errors import SettingsError
from capacity.facts import lb
from capacity.models.queueing import Core, utilization_for_wait, wait_batches
from capacity.models.usl import Choice, choose
from capacity.tables import Column, Table, check
from capacity.throughput.calibration import Calibration
from capacity.throughput.costs import SEEN_SPREAD, Cost, Passes, fact, passes, seen
from capacity.throughput.shares import (
    DSR_OPTION,
    FRAMING,
    LEAST_FRAME,
    VXLAN,
    broken,
    bucket_imbalance,
    hop_share,
    imbalance,
    moved,
)
from capacity.tier_settings import TierSettings

Array = npt.NDArray[np.float64]

MOST_NODES: Final = 10_000
# The curve whose law of cores is taken: an XDP load balancer with one core to six (facts)
_LIKE_OURS: Final = "Katran XDP LB"
_DRAWS: Final = 400
_TAIL: Final = 0.99
# Counts of cores that a law needs
LEAST_COUNTS: Final = 4

TIER: Final = Table(
    "lb_counts",
    "one count of load-balancing nodes",
    (
        Column("nodes", pl.Int64, "1", "nodes of the tier"),
        Column("carrying", pl.Int64, "1", "nodes left when the allowed ones are away"),
        Column("packets_low", pl.Float64, "1/s", "request packets that 95 % of the draws carry"),
        Column("packets", pl.Float64, "1/s", "request packets carried, median"),
        Column("packets_high", pl.Float64, "1/s", "request packets that 5 % of the draws carry"),
        Column("connections", pl.Float64, "1/s", "new connections in that, median"),
        Column("gbits", pl.Float64, "Gbit/s", "request traffic in that, frames without gaps"),
        Column("limit", pl.String, "", "what ends it in the median draw: cpu, latency, nic, flow"),
        Column("passes", pl.Float64, "1", "passes through nodes of a request and its replies"),
        Column("hop_share", pl.Float64, "1", "packets whose backend is on another node"),
        Column("imbalance", pl.Float64, "1", "busiest core over the mean"),
        Column("moved", pl.Float64, "1", "connections that reach another node when one leaves"),
        Column("broken", pl.Float64, "1", "connections that break when one leaves"),
        Column("utilization", pl.Float64, "1", "busiest core at the demand", nullable=True),
        Column(
            "latency", pl.Float64, "s", "p99 wait in a core's queue at the demand", nullable=True
        ),
        Column("fits", pl.Boolean, "", "carries the demand in 95 % of the draws", nullable=True),
    ),
)


@cache
def published_law() -> Choice:
    """Give how the rate of an XDP load balancer grows with cores, by published evidence."""
    rows = lb.published().filter(~pl.col("holdout"), datapath=_LIKE_OURS, quantity="rate")
    return choose(rows["cores"].to_numpy(), rows["value"].to_numpy())


def cores_law(calibration: Calibration | None) -> Choice:
    """Give the law of cores: of a calibration that measured four counts, else the published."""
    if calibration is None:
        return published_law()
    rows = calibration.timings.filter(
        ~pl.col("is_new"), hook="xdp", stage="snat",
        ct_entries=calibration.timings["ct_entries"].max(),
    ).filter(pl.col("flows") == pl.col("flows").min())  # fmt: skip
    rows = rows.unique("cores").sort("cores")
    if len(rows) < LEAST_COUNTS or rows["cores"].max() < LEAST_COUNTS:  # type: ignore[operator]
        return published_law()
    counts = rows["cores"].to_numpy().astype(float)
    return choose(counts, counts / rows["nanoseconds"].to_numpy())


def efficiency(law: Choice, cores: int, seed: int = 0, draws: int = _DRAWS) -> Array:
    """Rate of `cores` over that of one, divided by their number: draws, at most 1. [1].

    Beyond the cores of the evidence draws widen (models.usl).
    """
    z = np.random.default_rng(seed).standard_normal(draws)
    low, high = law.model.interval([cores], extrapolate=True)
    middle = law.model.predict([cores], extrapolate=True)[0]
    sd = max(np.log(high[0] / low[0]) / (2 * 1.645), 1e-6)
    one = law.model.predict([1])[0]
    return np.asarray(np.minimum(middle * np.exp(sd * z) / (one * cores), 1.0), float)


@dataclass(frozen=True, slots=True)
class Load:
    """What one request packet makes on the tier: passes by kind, bytes each way on links."""

    hop: float
    forwards: float
    replies: float
    delivers: float
    encrypts: float
    decrypts: float
    wire_in: float
    wire_out: float

    @property
    def passes(self) -> float:
        """Passes through nodes."""
        return self.forwards + self.replies + self.delivers


def load(settings: TierSettings, nodes: int) -> Load:
    """Count passes and wire bytes of one request packet and its replies, over all nodes.

    With N nodes that hold the backends themselves, a share h = (N − 1)/N of requests is forwarded
    and then delivered elsewhere; the rest is delivered at once. Replies leave from the backend's
    node; with source NAT a share h of them comes back through the first node. On a tier of its
    own requests are forwarded, replies come back with source NAT only.
    """
    in_cluster = settings.placement == "cluster"
    hop = hop_share(nodes, in_cluster=in_cluster, local=settings.policy == "Local")
    again = hop * settings.replies if settings.mode == "snat" else 0.0
    delivers = 1.0 - hop + hop + settings.replies if in_cluster else 0.0
    frame = max(settings.packet, LEAST_FRAME) + FRAMING
    outer = (VXLAN if settings.tunnel else 0) + (DSR_OPTION if settings.mode == "dsr" else 0)
    forwarded, returned = hop * (frame + outer), again * (frame + (VXLAN if settings.tunnel else 0))
    is_hidden = settings.encryption != "none"
    both = in_cluster and is_hidden
    return Load(
        hop, hop, again, delivers,
        (hop + (again if both else 0.0)) if is_hidden else 0.0,
        ((hop if both else 0.0) + again) if is_hidden else 0.0,
        frame + (forwarded if in_cluster else 0.0) + returned,
        forwarded + (returned + (settings.replies - again) * frame if in_cluster else 0.0)
        + again * frame,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Node:
    """Draws of what a core spends on a mean pass, and its wakes [s]; c² of passes [1]."""

    work: Array
    wake: Array
    hold: Array
    variation: float


def _node(settings: TierSettings, per: Load, costs: Passes, law: Choice) -> _Node:
    rng = np.random.default_rng(settings.seed)
    z = rng.standard_normal((6, _DRAWS))
    new = 1.0 / settings.per_connection
    kinds: list[tuple[float, Cost]] = [
        (per.forwards, costs.forward), (per.forwards * new, costs.opened),
        (per.replies, costs.reply), (per.delivers, costs.deliver),
        (per.encrypts, costs.encrypt), (per.decrypts, costs.decrypt),
    ]  # fmt: skip
    # One measurement holds for programs of all kinds: they are wrong together
    draws = np.stack(
        [share * cost.draw(z[0 if i < 4 else i]) for i, (share, cost) in enumerate(kinds)]
    )
    work = draws.sum(axis=0) * 1e-9 / per.passes
    mean = sum(share * cost.middle for share, cost in kinds) / per.passes
    squares = (
        per.forwards * (1 - new) * costs.forward.middle**2
        + per.forwards * new * (costs.forward.middle + costs.opened.middle) ** 2
        + per.replies * costs.reply.middle**2 + per.delivers * costs.deliver.middle**2
    ) / per.passes  # fmt: skip
    variation = max(squares / mean**2 - 1, 0.0)
    skb = per.delivers / per.passes if costs.hook == "xdp" else 1.0
    if settings.pass_cost:
        still = np.zeros(_DRAWS)
        work = work / efficiency(law, settings.cores, settings.seed)
        return _Node(work, still, still, variation)
    wakes = [
        (1 - skb) * fact(name, "xdp").draw(z[5]) + skb * fact(name, "tc").draw(z[5])
        for name in ("wake", "hold")
    ]
    work = work / efficiency(law, settings.cores, settings.seed)
    return _Node(work, wakes[0] * 1e-9, wakes[1] * 1e-9, variation)


def capacity_of(
    settings: TierSettings, nodes: int, calibration: Calibration | None = None
) -> dict[str, Any]:
    """Give one row of table `TIER` for `nodes` nodes, of which the spare ones may be away.

    Raises
    ------
    SettingsError
        If no node is left.
    """
    left = nodes - settings.spare - settings.upgrading
    if left < 1:
        away = settings.spare + settings.upgrading
        raise SettingsError(f"{nodes} nodes of which {away} may be away leave none")
    per = load(settings, left)
    flows = max(1.0, settings.connections / (left * settings.cores))
    costs = seen(settings.pass_cost, settings.encryption) if settings.pass_cost else passes(
        calibration, mode=settings.mode, xdp=settings.xdp, tunnel=settings.tunnel,
        encryption=settings.encryption, flows=flows, services=settings.services,
    )  # fmt: skip
    node = _node(settings, per, costs, cores_law(calibration))
    uneven = _uneven(settings, left)
    # Packets of one core a second, by request packet of the tier
    share = per.passes / (left * settings.cores) * uneven
    ends = _ends(settings, left, node, share, per)
    rate = np.min(np.stack(list(ends.values())), axis=0)
    middle = {name: float(np.median(draws)) for name, draws in ends.items()}
    packets = float(np.median(rate))
    offered = settings.mpps * 1e6 * share
    work, wake, hold = (float(np.median(x)) for x in (node.work, node.wake, node.hold))
    low, high = (float(v) for v in np.quantile(rate, [0.05, 0.95]))
    return {
        "nodes": nodes, "carrying": left, "packets_low": low, "packets": packets,
        "packets_high": high, "connections": packets / settings.per_connection,
        "gbits": packets * settings.packet * 8e-9, "limit": min(middle, key=lambda k: middle[k]),
        "passes": per.passes, "hop_share": per.hop, "imbalance": uneven,
        "moved": moved(nodes, settings.router),
        "broken": broken(nodes, settings.router, mode=settings.mode, maglev=settings.maglev,
                         backends=settings.backends),
        "utilization": float(Core(work, wake, hold).utilization(offered)),
        "latency": _finite(float(wait_batches(
            offered * work, work, variation=node.variation, burst=settings.burst, quantile=_TAIL
        ))),
        "fits": low >= settings.mpps * 1e6,
    }  # fmt: skip


def _ends(
    settings: TierSettings, left: int, node: _Node, share: float, per: Load
) -> dict[str, Array]:
    """Draws of the request rate at which each limit is reached. [1/s]."""
    cpu = Core(node.work, node.wake, node.hold).rate(settings.cpu)
    budget = settings.latency * 1e-6
    busy = utilization_for_wait(
        budget, node.work, variation=node.variation, burst=settings.burst, quantile=_TAIL
    )
    waits = busy / node.work
    wire = left / _uneven_nodes(settings, left) * settings.nic * 1e9 / 8
    ends = {
        "cpu": cpu / share, "latency": waits / share,
        "nic": np.full(_DRAWS, wire / max(per.wire_in, per.wire_out)),
    }  # fmt: skip
    if settings.largest > 0:
        # A single flow stays on one core; the tier ends where that core is full
        fits = cpu >= settings.largest * 1e6 * max(per.forwards, per.delivers - settings.replies)
        ends["flow"] = np.where(fits, np.inf, 0.0)
    return ends


def _uneven_nodes(settings: TierSettings, nodes: int) -> float:
    whole = bucket_imbalance(nodes, settings.buckets) if settings.buckets >= nodes else 1.0
    return max(whole, 1.0) * imbalance(nodes, settings.connections)


def _uneven(settings: TierSettings, nodes: int) -> float:
    whole = bucket_imbalance(nodes, settings.buckets) if settings.buckets >= nodes else 1.0
    return whole * imbalance(nodes * settings.cores, settings.connections)


def tier(
    settings: TierSettings, nodes: list[int], calibration: Calibration | None = None
) -> pl.DataFrame:
    """Give table `TIER` for node counts."""
    rows = [capacity_of(settings, count, calibration) for count in nodes]
    return check(pl.DataFrame(rows, schema=TIER.schema), TIER)


def nodes_needed(settings: TierSettings, calibration: Calibration | None = None) -> int:
    """Give the fewest nodes that carry the demand in 95 % of the draws, spare ones included.

    Raises
    ------
    SettingsError
        If 10,000 nodes do not: a single flow or latency cannot be bought with nodes.
    """
    low = 1 + settings.spare + settings.upgrading
    high = low
    while not capacity_of(settings, high, calibration)["fits"]:
        low, high = high + 1, high * 2
        if high > MOST_NODES:
            row = capacity_of(settings, MOST_NODES, calibration)
            msg = (
                f"{settings.mpps:g} million packets/s are not carried by {MOST_NODES:,} nodes "
                f"({row['limit']} ends it at {row['packets_low'] / 1e6:.3g}): more do not help"
            )
            raise SettingsError(msg)
    while low < high:
        middle = (low + high) // 2
        if capacity_of(settings, middle, calibration)["fits"]:
            high = middle
        else:
            low = middle + 1
    return high


def around(needed: int, least: int) -> list[int]:
    """Give node counts to show: from the fewest to twice those needed, some ten of them.

    >>> around(6, 2)
    [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    """
    end = max(2 * needed, least + 4)
    step = max((end - least) // 10, 1)
    return sorted({*range(least, end + 1, step), needed})


def doubts(settings: TierSettings, calibration: Calibration | None = None) -> list[str]:
    """Say what the numbers of these settings do not rest on evidence for."""
    out = []
    law = cores_law(calibration).model
    if settings.pass_cost:
        out.append(
            f"every pass is taken to cost {settings.pass_cost:g} ns, wakes and new connections "
            f"within, bounds ±{SEEN_SPREAD:.0%}"
        )
    if settings.cores > law.largest_:
        out.append(
            f"{settings.cores} cores are beyond the {law.largest_:g} that the law of cores "
            "rests on (published for another load balancer, or your calibration): bounds are "
            "wider by a judgment"
        )
    if settings.xdp != "native":
        out.append(
            "the driver's part without native XDP is bounded by two measurements, not measured"
        )
    if settings.encryption != "none":
        out.append("costs of encryption are derived from charts of one machine, not verified")
    if settings.placement == "cluster":
        out.append("delivering to pods is counted on the nodes, the applications' own CPU is not")
    return out


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
