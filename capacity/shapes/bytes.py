"""What a shape takes of memory: of an agent, and of the etcd behind the API server.

Costs of objects come from elsewhere (facts/priors.csv: recorded, published, or judged), so both are
told with doubt: scaled so that the shape asked for needs its 95 % quantile.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from capacity import facts
from capacity.models.prior import BASE, expected, prior
from capacity.shapes.shape import Shape
from capacity.units import format_bytes

AGENT: Final = "agent memory"
ETCD: Final = "etcd"
# Of a database beside what it holds: revisions until they are compacted, pages not yet given back.
# A judgment: nobody measured it here
_HISTORY: Final = 2.0


def agent_law(shape: Shape) -> dict[str, Any]:
    """Give the law of an agent's memory without that of maps, as keywords of a row.

    Policies are not in it: what they take depends on what they select.
    """
    drivers = {
        "endpoints": shape.pods, "endpoints_per_node": shape.pods_per_node,
        "identities": float(shape.identities or 0), "nodes": float(shape.nodes),
        "services": float(shape.services),
    }  # fmt: skip
    costs, low, high = _costs("agent", "memory_rss", drivers)
    return {
        "per_pod": costs["endpoints"] + _a_pod(costs["identities"], shape),
        "per_node": costs["nodes"], "per_service": costs["services"], "fixed": costs[BASE],
        "per_local_pod": costs["endpoints_per_node"],
        "why": f"resident, without maps and policies; {format_bytes(round(low))} to "
        f"{format_bytes(round(high))} at 90 % [byte]",
    }  # fmt: skip


def etcd_law(shape: Shape) -> dict[str, Any]:
    """Give the law of the API server's database, as keywords of a row."""
    drivers = {
        "endpoints": shape.pods, "identities": float(shape.identities or 0),
        "nodes": float(shape.nodes), "services": float(shape.services),
    }  # fmt: skip
    costs, low, high = _costs("kubernetes-etcd", "db_size", drivers)
    pods = costs["endpoints"] + _a_pod(costs["identities"], shape)
    return {
        "per_pod": _HISTORY * pods, "per_node": _HISTORY * costs["nodes"],
        "per_service": _HISTORY * costs["services"],
        "why": f"pods, nodes, services, Cilium's objects, {_HISTORY:g} times for history; no other "
        f"objects; {format_bytes(round(_HISTORY * low))} to "
        f"{format_bytes(round(_HISTORY * high))} at 90 % [byte]",
    }  # fmt: skip


def etcd_limits() -> tuple[int, int]:
    """Give the database's default quota and the largest that etcd suggests. [byte]."""
    told = facts.limits(facts.LATEST).filter(limit="etcd-database").sort("value")["value"]
    return int(told[0]), int(told[-1])


def _costs(
    component: str, quantity: str, drivers: dict[str, float]
) -> tuple[dict[str, float], float, float]:
    """Give costs by driver that sum up to the 95 % quantile, and the 5 and 95 % quantiles."""
    median = dict(prior(component, quantity).median)
    many = {BASE: 1.0, **drivers}
    known = {name: count for name, count in drivers.items() if name in median}
    low, high = np.quantile(expected(component, quantity, known), [0.05, 0.95])
    middle = sum(median.get(name, 0.0) * count for name, count in many.items())
    scale = float(high) / middle
    return {name: median.get(name, 0.0) * scale for name in many}, float(low), float(high)


def _a_pod(cost: float, shape: Shape) -> float:
    return cost * (shape.identities or 0) / shape.pods


def in_mebibytes(need: pl.Expr) -> pl.Expr:
    """Give bytes as a quantity in Mi, rounded up."""
    return pl.format("{}Mi", (need / (1 << 20)).ceil().cast(pl.Int64))
