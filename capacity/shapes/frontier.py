"""The frontier: the most nodes that fit, by pods a node, services and policies, and what binds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl

from capacity.shapes import Shape
from capacity.shapes.bytes import AGENT, ETCD, in_mebibytes
from capacity.tables import SHAPE_FRONTIER, SHAPE_USE, check
from capacity.units import bytes_to_quantity

PODS: Final = (10, 20, 30, 50, 70, 110, 150, 250)
FACTORS: Final = (0.5, 1.0, 2.0)
_NEVER: Final = 1 << 31
# Kinds that are told, but end no frontier: what others tested, and what we only estimate
SOFT: Final = ("tested", "estimate")


def use(laws: pl.DataFrame, shape: Shape) -> pl.DataFrame:
    """Give table shape_use: what the shape needs of each limit, and the most nodes that fit."""
    need = (
        pl.col("per_pod") * shape.pods
        + pl.col("per_node") * shape.nodes
        + pl.col("per_service") * shape.services
        + pl.col("per_local_pod") * shape.pods_per_node
        + pl.col("fixed")
    )
    told = laws.with_columns(need=(need - 1e-6).ceil().cast(pl.Int64)).with_columns(
        usage=pl.col("need") / pl.col("limit"),
        nodes_most=_nodes("limit", shape.pods_per_node, shape.services, 1.0),
        nodes_raised=_nodes("most", shape.pods_per_node, shape.services, 1.0),
    )
    is_short = pl.col("need") > pl.col("limit")
    fixed = (pl.col("need") <= pl.col("most")).fill_null(value=True)
    told = told.with_columns(
        status=pl.when(pl.col("need").is_null()).then(pl.lit("unknown"))
        .when(~is_short).then(pl.lit("fits"))
        .when(pl.col("kind") == "tested").then(pl.lit("untested"))
        .when(pl.col("kind") == "estimate").then(pl.lit("check"))
        .when(fixed).then(pl.lit("raise")).otherwise(pl.lit("redesign")),
        fix=pl.when(is_short & fixed & pl.col("setting").is_not_null())
        .then(pl.when(pl.col("resource") == "pod CIDRs").then("why")
              .when(pl.col("resource") == AGENT)
              .then(pl.format("{}: {}", "setting", in_mebibytes(pl.col("need"))))
              .otherwise(pl.format("{}: {}", "setting", _power(pl.col("need"), pl.col("most"))))),
    )  # fmt: skip
    return check(told.sort("usage", descending=True, nulls_last=True), SHAPE_USE)


def _power(need: pl.Expr, most: pl.Expr) -> pl.Expr:
    """Round up to a power of two, as hash buckets are anyway; not beyond what is taken."""
    exponent = need.clip(1).log(2).sub(1e-12).ceil().cast(pl.Int64)
    return pl.min_horizontal(pl.lit(2, pl.Int64).pow(exponent).cast(pl.Int64), most)


def _nodes(limit: str, pods: float, services: float, policies: float) -> pl.Expr:
    """Solve a law for nodes; null where it binds none, 0 where services alone exceed it."""
    factor = pl.when(pl.col("resource") == "policy map").then(policies).otherwise(1.0)
    slope = pl.col("per_pod") * factor * pods + pl.col("per_node")
    taken = pl.col("per_service") * services + pl.col("per_local_pod") * pods + pl.col("fixed")
    rest = pl.col(limit) - taken
    return (
        pl.when(rest < 0).then(pl.lit(0, pl.Int64))
        .when(slope > 0).then((rest / slope + 1e-9).floor().clip(0, _NEVER).cast(pl.Int64))
    )  # fmt: skip


def frontier(
    laws: pl.DataFrame, shape: Shape, *, pods: Iterable[float] = PODS,
    factors: Sequence[float] = FACTORS,
) -> pl.DataFrame:  # fmt: skip
    """Give table shape_frontier: a row a number of pods a node, of services and of policies.

    Parameters
    ----------
    pods
        Pods a node; those of the shape are added.
    factors
        Multiples of the shape's services, and of the entries of its fullest policy map.
    """
    most = shape.pod_ips if shape.pod_cidr else math.inf
    counts = sorted({p for p in (*pods, shape.pods_per_node) if p <= most})
    many = sorted({round(shape.services * factor) for factor in factors})
    policies = factors if shape.policy_entries else (1.0,)
    grid = [(p, s, q) for p in counts for s in many for q in policies]
    rows = [_point(laws, *point) for point in grid]
    return check(pl.DataFrame(rows, schema=SHAPE_FRONTIER.schema, orient="row"), SHAPE_FRONTIER)


def _point(laws: pl.DataFrame, pods: float, services: int, policies: float) -> dict[str, object]:
    told = laws.select(
        "resource", "kind",
        now=_nodes("limit", pods, services, policies),
        raised=_nodes("most", pods, services, policies),
    )  # fmt: skip
    ours = told.filter(~pl.col("kind").is_in(SOFT))
    tested = told.filter(pl.col("kind") == "tested")
    estimates = dict(
        told.filter(pl.col("kind") == "estimate").select("resource", "now").iter_rows()
    )
    first, last = (
        ours.drop_nulls(name).sort(name, maintain_order=True) for name in ("now", "raised")
    )
    return {
        "pods_per_node": pods,
        "services": services,
        "policies": policies,
        "nodes": first["now"][0],
        "binds": first["resource"][0],
        "nodes_raised": last["raised"][0],
        "binds_raised": last["resource"][0],
        "nodes_tested": tested["now"].min(),
        "nodes_memory": estimates.get(AGENT),
        "nodes_etcd": estimates.get(ETCD),
    }


def with_agents(
    used: pl.DataFrame, forecast: pl.DataFrame, exhaustion: pl.DataFrame, nodes: int
) -> pl.DataFrame:
    """Add the memory of agents to table shape_use, from a plan for the same nodes.

    Parameters
    ----------
    forecast, exhaustion
        Tables of the plan. Need is the 99 % quantile of the worst node.
    """
    own = (pl.col("component") == "agent") & (pl.col("quantity") == "memory")
    told = forecast.filter(own, pl.col("nodes") == nodes).select("q99", "limit")
    ends = exhaustion.filter(own).select("setting", "nodes_early")
    if told.is_empty() or ends.is_empty() or told["limit"][0] is None:
        return used
    need, limit = math.ceil(told["q99"][0]), int(told["limit"][0])
    row = {
        "resource": AGENT, "kind": "settable", "per_pod": None, "per_node": 0.0,
        "per_service": 0.0, "fixed": 0.0, "per_local_pod": 0.0, "limit": limit,
        "most": None, "setting": ends["setting"][0],
        "why": "forecast of the plan, 99 % quantile of the worst node [byte]", "need": need,
        "usage": need / limit, "nodes_most": ends["nodes_early"][0], "nodes_raised": None,
        "status": "fits" if need <= limit else "raise",
        "fix": None if need <= limit else f"{ends['setting'][0]}: {bytes_to_quantity(need, 'up')}",
    }  # fmt: skip
    more = pl.DataFrame([row], schema=SHAPE_USE.schema)
    # What was observed of these agents says more than costs from elsewhere
    return check(pl.concat([more, used.filter(pl.col("resource") != AGENT)]), SHAPE_USE)
