"""What a change costs: bytes of maps by the kernel's accounting, whole clusters, money."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity import facts
from capacity.cilium.map_memory import charged_bytes, memlock_bytes
from capacity.recommend.present import Present
from capacity.settings import PlanSettings

_GIB: Final = float(1 << 30)
# Words of column `when` of maps that most clusters do not have
_RARE: Final = (
    "maglev", "health datapath", "mutual", "egress gateway", "downgrade", "prefilter", "high-scale",
)  # fmt: skip


def map_cost(
    setting: str,
    current: float,
    target: float,
    need: float,
    present: Present,
    endpoints_per_node: float,
    subject: str,
) -> float:
    """Bytes a node that another size costs: all maps that the setting sizes, at the planned fill.

    What the kernel charges, else memlock. A policy map is counted for each endpoint of a node, all
    as full as the worst: at most so much. Negative where it gives memory back. [byte]
    """
    total = 0.0
    own = facts.map_of_label(subject, present.version)
    for fact in facts.maps(present.version).iter_rows(named=True):
        is_own = fact["map"] == own
        if not is_own and (fact["helm_value"] != setting or not is_there(fact, present)):
            continue
        if fact["key_size"] is None or fact["value_size"] is None:
            continue
        many = endpoints_per_node if fact["per"] == "endpoint" else 1.0
        held = need if is_own else 0.0
        total += many * (
            map_bytes(fact, target, held, present) - map_bytes(fact, current, held, present)
        )
    return total


def is_there(fact: dict[str, Any], present: Present) -> bool:
    """Say whether most clusters with these options have a map."""
    if fact["family"] == 6 and present.options.get("enable-ipv6") != "true":
        return False
    if fact["family"] == 4 and present.options.get("enable-ipv4") == "false":
        return False
    return " or " in fact["when"] or not any(word in fact["when"] for word in _RARE)


def map_bytes(fact: dict[str, Any], size: float, held: float, present: Present) -> float:
    """Give the bytes of one map of a size that holds so many entries, on one CPU. [byte]."""
    prealloc = fact["prealloc"] == "always" or (
        fact["prealloc"] == "option" and present.options.get("preallocate-bpf-maps") == "true"
    )
    shape = (fact["type"], fact["key_size"], fact["value_size"], int(size))
    more: dict[str, Any] = {"flags": 0 if prealloc else 1, "entries": int(min(held, size))}
    charged = charged_bytes(*shape, **more, cpus=1)
    return float(memlock_bytes(*shape, **more, cpus=1) if charged is None else charged)


def totals(row: dict[str, Any], nodes: int, present: Present, settings: PlanSettings) -> Any:
    """Give what a row costs the whole cluster, and its money for a month.

    Requests and maps take memory away from others; a limit reserves nothing and has no price.
    """
    if row["cost"] is None or row["cost"] == 0:
        return {"cost_total": row["cost"], "money": None}
    many = present.replicas.get(row["component"], nodes)
    total = row["cost"] * many
    is_cpu = row["unit"] == "millicore"
    price = settings.price_cpu if is_cpu else settings.price_memory
    if price is None or "limits." in row["setting"]:
        return {"cost_total": total, "money": None}
    return {"cost_total": total, "money": price * total / (1000.0 if is_cpu else _GIB)}


def side_effects(version: str) -> dict[str, str]:
    """Give what else happens when a setting changes: Helm value → words of the facts."""
    options = facts.options(version).filter(pl.col("side_effect").is_not_null())
    out = {}
    for row in options.iter_rows(named=True):
        first = "agents restart; " if row["restart"] else ""
        out[row["helm_value"] or f"extraConfig.{row['option']}"] = first + row["side_effect"]
        out.setdefault(f"extraConfig.{row['option']}", first + row["side_effect"])
    for row in facts.components(version).iter_rows(named=True):
        for bound in ("limits", "requests"):
            for resource in ("memory", "cpu"):
                out[f"{row['resources']}.{bound}.{resource}"] = row["side_effect"]
    return out
