"""What to change where packets fill a CPU: loadBalancer.mode, .acceleration, session affinity.

Only where the inventory tells that Cilium does load balancing, for services reached from outside.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity.inventory import Inventory
from capacity.recommend import Planned, Present
from capacity.recommend.cost import side_effects
from capacity.settings import PlanSettings
from capacity.tables import RECOMMENDATION, check
from capacity.throughput.ways import Way

MODE: Final = "loadBalancer.mode"
ACCELERATION: Final = "loadBalancer.acceleration"
AFFINITY: Final = "(no setting) sessionAffinity"
# Mean packets of the busiest node over the mean node's from which a few clients may be the cause:
# a judgment
_UNEVEN: Final = 1.5
_OUTSIDE: Final = ("NodePort", "LoadBalancer")


def way_now(present: Present) -> Way:
    """Give what is set, or the agent's defaults; hybrid counts as DSR, best-effort as native."""
    mode = present.options.get("bpf-lb-mode", "snat")
    hook = present.options.get("bpf-lb-acceleration", "disabled")
    return Way(
        "snat" if mode == "snat" else "dsr",
        "native" if hook in ("native", "best-effort") else "disabled",
    )


def routing(present: Present) -> tuple[bool, str]:
    """Say whether packets between nodes are encapsulated, and by which protocol.

    Without options nothing is known: taken is native routing, which costs least.
    """
    told = present.options
    old = told.get("tunnel", "")
    native = told.get("routing-mode") == "native" or old == "disabled" or not told
    return not native, told.get("tunnel-protocol") or old or "vxlan"


def refused(way: Way, present: Present) -> str | None:
    """Say why an agent would not start so; None where it would.

    cilium/cilium daemon/cmd/kube_proxy_replacement.go.
    """
    tunnel, protocol = routing(present)
    if way.mode == "dsr" and tunnel and protocol != "geneve":
        return f"DSR is refused with {protocol} tunneling: native routing or Geneve"
    return None


def advice(
    table: pl.DataFrame,
    inventory: Inventory,
    planned: Planned,
    settings: PlanSettings,
    present: Present,
    cluster: str,
    *,
    skew: float,
) -> pl.DataFrame:
    """Give rows of table recommendation; none where packets leave the headroom free.

    Parameters
    ----------
    table
        Table lb_tier.
    skew
        Mean packets of the busiest node over those of the mean node. [1]
    """
    ahead = table.filter(nodes=planned.nodes)
    now = ahead.filter("present").row(0, named=True)
    outside = inventory.services.filter(
        pl.col("type").is_in(_OUTSIDE) | (pl.col("external_ips") > 0)
    )
    is_tight = now["use"] > (1.0 - settings.headroom) * now["budget"]
    if not is_tight or outside.is_empty() or not _balances(present):
        return RECOMMENDATION.empty()
    rows = [*_mode(ahead, now, outside, present), *_acceleration(ahead, now, present)]
    rows += _affinity(outside, skew)
    blank: dict[str, Any] = dict.fromkeys(RECOMMENDATION.schema)
    effects = side_effects(present.version)
    told = {
        "cluster": cluster, "component": "services", "unit": "1", "nodes": planned.nodes,
        "status": "redesign", "confidence": "low", "restart": True,
        "evidence": f"{now['calibration']}; services reached from outside: {len(outside):,}; their "
        "share of packets is not known",
    }  # fmt: skip
    made = [
        blank | told | {"side_effect": effects.get(row["setting"])} | row | {"rank": i + 1}
        for i, row in enumerate(rows)
    ]
    return check(pl.DataFrame(made, schema=RECOMMENDATION.schema), RECOMMENDATION)


def with_tier(all_: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """Put the tier's rows after the others."""
    return pl.concat([all_, own.with_columns(pl.col("rank") + all_.height)])


def _balances(present: Present) -> bool:
    """Say whether Cilium handles services from outside: kube-proxy has no such settings."""
    told = present.options
    return (
        told.get("kube-proxy-replacement") in ("true", "strict")
        or told.get("enable-node-port") == "true"
    )


def _other(ahead: pl.DataFrame, mode: str, acceleration: str) -> dict[str, Any]:
    return ahead.row(
        by_predicate=(pl.col("mode") == mode) & (pl.col("acceleration") == acceleration), named=True
    )


def _told(now: dict[str, Any], then: dict[str, Any]) -> str:
    return (
        f"softirq would take {now['use']:.0%} of the busiest CPU at {now['nodes']:,} nodes, then "
        f"{then['use']:.0%} if all packets come from outside, as much if none does; the budget is "
        f"{now['budget']:.0%}"
    )


def _mode(
    ahead: pl.DataFrame, now: dict[str, Any], outside: pl.DataFrame, present: Present
) -> list[dict[str, Any]]:
    """Give the row of DSR: replies no longer come back through the first node."""
    spread = outside.filter(pl.col("external_policy").fill_null("Cluster") == "Cluster")
    then = _other(ahead, "dsr", now["acceleration"])
    is_saved = then["use"] < now["use"]
    if now["mode"] == "dsr" or spread.is_empty() or then["note"] or not is_saved:
        return []
    tunnel, _ = routing(present)
    more = " with loadBalancer.dsrDispatch=geneve" if tunnel else ""
    return [{
        "setting": MODE, "reason": f"dsr instead of snat{more}: {_told(now, then)}",
        "alternative": "externalTrafficPolicy: Local where each node in front has a backend; or "
        "hybrid (DSR for TCP only), which asks for no smaller MTU",
    }]  # fmt: skip


def _acceleration(
    ahead: pl.DataFrame, now: dict[str, Any], present: Present
) -> list[dict[str, Any]]:
    """Give the row of native XDP, not where it would take encryption away."""
    told = present.options
    is_hidden = told.get("enable-wireguard") == "true" and told.get("encrypt-node") == "true"
    then = _other(ahead, now["mode"], "native")
    if now["acceleration"] == "native" or is_hidden or then["use"] >= now["use"]:
        return []
    return [{
        "setting": ACCELERATION, "reason": f"native instead of disabled: {_told(now, then)}",
        "alternative": "best-effort where some devices have no native XDP; more nodes",
    }]  # fmt: skip


def _affinity(outside: pl.DataFrame, skew: float) -> list[dict[str, Any]]:
    """Give the row of session affinity, where nodes are unevenly busy and services have it."""
    sticky = outside.filter("affinity")
    if sticky.is_empty() or skew < _UNEVEN:
        return []
    first = sticky.sort("namespace", "service").row(0, named=True)
    more = f" and {len(sticky) - 1:,} more" if len(sticky) > 1 else ""
    return [{
        "subject": f"{first['namespace']}/{first['service']}{more}", "setting": AFFINITY,
        "reason": f"the busiest node handles {skew:.1f} times the packets of the mean node, and "
        "ClientIP keeps all connections of an address (a proxy, a NAT) on one backend; whether "
        "that is the cause is not known",
        "side_effect": "without it an address's connections spread over backends: state that an "
        "application keeps in one backend is not found in another",
        "restart": False, "alternative": "fewer clients behind one address; state outside the pods",
    }]  # fmt: skip
