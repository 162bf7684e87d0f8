"""What packets do to the plan: nodes for the packet rate, busiest CPU at its budget, what to set.

Costs are those seen in production (throughput.live); of ways of load balancing that are not set,
they are the present cost times a ratio of the shipped calibration, as if all packets came from
clients outside: at most so much is saved. Packets of a node stay as they are unless the history
shows that they grow with the node count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import theilslopes

from capacity.errors import ModelError
from capacity.export import Metrics
from capacity.growth import Growth, has_varied
from capacity.inventory import Inventory
from capacity.lb_advice import advice, refused, routing, way_now
from capacity.recommend import Present, planned_nodes
from capacity.running_out import runs_out
from capacity.settings import PlanSettings
from capacity.tables import LB_TIER, RECOMMENDATION, check
from capacity.throughput.live import COUNTERS, live, paired
from capacity.throughput.ways import WAYS, Way, ratio
from capacity.tier_settings import TierSettings

BUDGET: Final = TierSettings().cpu
SPARE: Final = TierSettings().spare
RESOURCE: Final = "softirq of the busiest CPU"
# Beyond so many times the present nodes a trend is not worth a date
_FARTHEST: Final = 20
# Below this share of the budget the CPU is not worth a sentence in the headline
_WORTH_TELLING: Final = 0.5


@dataclass(frozen=True, slots=True)
class TierOutlook:
    """Table lb_tier; what runs out of it; a sentence where it is near; what to set; a warning."""

    table: pl.DataFrame
    first: dict[str, Any] | None
    sentence: str | None
    is_short: bool
    advice: pl.DataFrame
    warning: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What production tells of packets.

    Attributes
    ----------
    node : float
        Packets of a mean node at the busiest step. [1/s]
    cost : tuple of float
        Softirq time a packet: middle, low, high. [ns]
    base : tuple of float
        Softirq share of a CPU without packets, at these costs. [1]
    busiest : float
        Softirq share of the busiest CPU at its busiest step. [1]
    skew : float
        Mean packets of the busiest node over those of the mean node. [1]
    measured : int
        Nodes that tell both.
    exponent : float
        A node's packets go with the node count to this power; 0 where the history shows no growth.
    """

    node: float
    cost: tuple[float, float, float]
    base: tuple[float, float, float]
    busiest: float
    skew: float
    measured: int
    exponent: float


def tier_outlook(
    metrics: Metrics,
    inventory: Inventory,
    drivers: pl.DataFrame,
    growth: Growth,
    settings: PlanSettings,
    present: Present,
    cluster: str,
) -> TierOutlook:
    """Tell nodes needed for the packet rate, and when the busiest CPU reaches the budget.

    Where the export lacks forwarded packets or softirq time the table is empty and nothing is
    told; where cost and base cannot be told apart, a warning says so.
    """
    none = TierOutlook(
        LB_TIER.empty(), None, None, is_short=False, advice=RECOMMENDATION.empty(), warning=None
    )
    names = set(metrics.series["metric"])
    if not {COUNTERS["packets"], COUNTERS["softirq"]} <= names:
        return none
    try:
        told = observe(metrics, drivers)
    except ModelError as error:
        return TierOutlook(
            none.table, None, None, is_short=False, advice=none.advice,
            warning=f"packets are not planned: {error}",
        )  # fmt: skip
    planned = planned_nodes(growth, settings)
    rows = [
        row
        for nodes in sorted({math.ceil(growth.now), planned.nodes})
        for row in _rows(told, nodes, growth.now, present)
    ]
    table = check(pl.DataFrame(rows, schema=LB_TIER.schema), LB_TIER)
    asked = advice(table, inventory, planned, settings, present, cluster, skew=told.skew)
    nodes = full_at(told, growth.now)
    if nodes is None:
        return TierOutlook(table, None, _sentence(told, None), False, asked, None)
    setting = asked["setting"][0] if len(asked) else None
    ends = runs_out(RESOURCE, "soft", setting, nodes, growth, settings)
    return TierOutlook(table, ends.first, _sentence(told, nodes), ends.is_short, asked, None)


def observe(metrics: Metrics, drivers: pl.DataFrame) -> Seen:
    """Give what production tells.

    Raises
    ------
    ModelError
        If softirq time or packets are missing, or varied too little to tell a cost.
    """
    whole = live(metrics, budget=BUDGET).row(-1, named=True)
    if whole["nanoseconds"] is None:
        raise ModelError(whole["note"])
    steps = paired(metrics)
    by_time = steps.group_by("time").agg(pl.col("packets").mean(), nodes=pl.len()).sort("time")
    # Scrapes of nodes that come apart in time say nothing of the mean node
    full = by_time.filter(pl.col("nodes") == pl.col("nodes").max())
    by_node = steps.group_by("node").agg(pl.col("packets").mean())["packets"].to_numpy()
    cpus = float(steps["cpus"].mean())  # type: ignore[arg-type]
    cost = tuple(float(whole[name]) for name in ("nanoseconds", "low", "high"))
    middle = float(steps["packets"].median())  # type: ignore[arg-type]
    base = tuple(
        max(whole["base"] + (cost[0] - one) * 1e-9 * middle, 0.0) / max(cpus, 1.0) for one in cost
    )
    return Seen(
        float(full["packets"].max()),  # type: ignore[arg-type]
        cost,  # type: ignore[arg-type]
        base,
        whole["busiest"], float(by_node.max() / by_node.mean()), len(by_node),
        exponent(by_time, drivers),
    )  # fmt: skip


def exponent(packets: pl.DataFrame, drivers: pl.DataFrame) -> float:
    """Give how a node's packets go with the node count: slope of logarithms, by Theil and Sen.

    Each day counts once, by its busiest step. 0 where node counts hardly varied (growth.has_varied)
    or where the 90 % interval of the slope holds 0. [1]
    """
    known = drivers.select("time", cluster_nodes="nodes").drop_nulls().sort("time")
    days = (
        packets.sort("time")
        .join_asof(known, on="time", strategy="nearest")
        .drop_nulls("cluster_nodes")
        .group_by(pl.col("time").dt.truncate("1d"))
        .agg(pl.col("packets").max(), pl.col("cluster_nodes").max())
        .filter(pl.col("packets") > 0)
    )
    nodes = days["cluster_nodes"].to_numpy()
    if not has_varied(nodes):
        return 0.0
    told = theilslopes(np.log(days["packets"].to_numpy()), np.log(nodes), alpha=0.9)
    return max(float(told.slope), 0.0) if told.low_slope > 0 else 0.0


def full_at(told: Seen, now: float) -> int | None:
    """Give the node count at which the busiest CPU reaches the budget; None: not in sight."""
    room = _room(told, 0)
    if room <= 1.0:
        return math.ceil(now)
    if told.exponent <= 0 or math.log(room) > told.exponent * math.log(_FARTHEST):
        return None
    return math.ceil(now * math.pow(room, 1.0 / told.exponent))


def _room(told: Seen, bound: int) -> float:
    """Factor by which packets may grow; bound 0: middle, 1 and 2: at the bounds of the cost."""
    base = told.base[bound]
    part = told.busiest - base
    return max(BUDGET - base, 0.0) / part if part > 0 else math.inf


def _rows(told: Seen, nodes: int, now: float, present: Present) -> list[dict[str, Any]]:
    grown = (nodes / now) ** told.exponent
    packets = told.node * grown * nodes
    set_now, (tunnel, _) = way_now(present), routing(present)
    rooms = [_room(told, bound) for bound in (0, 1, 2)]
    out = []
    for way in WAYS:
        more = ratio(way, set_now, max(nodes, 1), tunnel=tunnel)
        use = [
            base + (told.busiest - base) * grown * one
            for one in (more.low, more.middle, more.high)
            for base in told.base
        ]
        middle = told.base[0] + (told.busiest - told.base[0]) * grown * more.middle
        counts = [
            _needed(nodes * grown * one, room)
            for one, room in (
                (more.middle, rooms[0]), (more.low, max(rooms)), (more.high, min(rooms)),
            )
        ]  # fmt: skip
        carried = nodes * grown * more.middle / rooms[0] if rooms[0] > 0 else None
        out.append({
            "nodes": nodes, "mode": way.mode, "acceleration": way.acceleration,
            "present": way == set_now, "packets": packets,
            "nanoseconds": told.cost[0] * more.middle, "low": told.cost[1] * more.low,
            "high": told.cost[2] * more.high, "use": middle, "use_high": max(use),
            "budget": BUDGET, "fits": middle <= BUDGET, "needed": counts[0],
            "needed_low": counts[1], "needed_high": counts[2],
            "per_mpps": None if carried is None else carried / (packets / 1e6),
            "calibration": _calibration(way, set_now, told), "note": refused(way, present),
        })  # fmt: skip
    return out


def _needed(load: float, room: float) -> int | None:
    # Rounding must not add a node where the load is a whole number
    return math.ceil(load / room - 1e-9) + SPARE if room > 0 else None


def _calibration(way: Way, set_now: Way, told: Seen) -> str:
    seen = f"softirq time of {told.measured} nodes in production"
    if way == set_now:
        return seen
    return f"{seen}, x a ratio of the shipped calibration, all packets taken to be from outside"


def _sentence(told: Seen, nodes: int | None) -> str | None:
    if nodes is None and told.busiest < _WORTH_TELLING * BUDGET:
        return None
    text = f"Packets and other softirq take {told.busiest:.0%} of the busiest CPU"
    if nodes is None:
        return f"{text} ({BUDGET:.0%} is the budget)."
    if told.busiest >= BUDGET:
        return f"{text}: more than the budget of {BUDGET:.0%}."
    return f"{text}, {BUDGET:.0%} at {nodes:,} nodes as a node's packets grow with the cluster."
