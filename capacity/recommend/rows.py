"""One limited resource → what to set: raise, lower, leave, or that no setting helps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from capacity import facts
from capacity.forecast import Fitted
from capacity.recommend.cost import map_cost
from capacity.recommend.present import Present, option_of
from capacity.recommend.steps import Target, sized
from capacity.settings import PlanSettings
from capacity.tables import RECOMMENDATION
from capacity.units import format_bytes

# A map is made smaller only where that gives back this much on a node. [byte]
_WORTH_A_MAP: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Planned:
    """The node count to be ready for, and why that one."""

    nodes: int
    why: str


@dataclass(frozen=True, slots=True)
class Question:
    """What one row of table exhaustion is asked: the fit, the node count, what is set now.

    `largest_size` is the largest size the map has on any node. [1]
    """

    fitted: Fitted
    row: dict[str, Any]
    planned: Planned
    settings: PlanSettings
    present: Present
    endpoints_per_node: float
    largest_size: float | None

    def need(self, quantile: float) -> float:
        """Quantile of the quantity at the planned node count, between the counts looked at."""
        values = np.quantile(self.fitted.draws, quantile, axis=0)
        return float(np.interp(self.planned.nodes, self.fitted.counts, values))

    @property
    def safe_need(self) -> float:
        """What must be held: the quantile of the accepted risk, and all that was ever seen."""
        seen = float(self.fitted.rows["value"].max() or 0.0)  # type: ignore[arg-type]
        return max(self.need(1 - self.settings.risk), seen) + self.fitted.reserve


def rows_of(question: Question) -> list[dict[str, Any]]:
    """Give the rows of table recommendation for one limited resource."""
    if question.row["kind"] == "hard":
        return [_hard(question)]
    if question.row["component"] == "map":
        return _map(question)
    if question.row["quantity"] == "memory":
        return _memory(question)
    return _cpu(question)


def _base(question: Question) -> dict[str, Any]:
    limit = question.fitted.limit
    keys = ("cluster", "component", "subject", "setting", "unit")
    blank = dict.fromkeys(RECOMMENDATION.schema)
    blank |= {k: limit[k] for k in keys} | {"percentile": 1 - question.settings.risk}
    return blank if limit["setting"] else blank | {"setting": f"(no setting) {limit['subject']}"}


def _map(question: Question) -> list[dict[str, Any]]:
    limit, row = question.fitted.limit, question.row
    base = _base(question)
    if limit["quantity"] == "map_pressure":
        return [base | {"status": "unknown", "reason": "the export does not tell this map's size"}]
    need = question.safe_need
    told = f"{need:,.0f} entries at {question.planned.nodes:,} nodes ({question.planned.why})"
    setting = limit["setting"] and _explicit(limit["setting"], row["subject"], question.present)
    current = question.present.sizes.get(setting, limit["limit"]) if setting else limit["limit"]
    if setting is None:
        if need > current:
            return [base | _redesign(question, f"needs {told}; no setting makes it larger")]
        return [base | _ok(current, told, need)]
    base |= {"setting": setting, "current": current, "upper": limit["upper"]}
    target = sized(
        Target(
            need, need, current, limit["upper"], question.settings.headroom, "1",
            _lowest(setting, question.present),
        )
    ).value  # fmt: skip
    if target > current:
        # On nodes with more memory a map that is sized dynamically may be larger already
        target = max(target, question.largest_size or 0.0)
    rows = [base | _resized(question, target, current, need, told)]
    if rows[0]["status"] == "lower" and -(rows[0]["cost"] or 0.0) < _WORTH_A_MAP:
        rows = [base | _ok(current, told, need)]
    if need > target:
        most = f"needs {told}, and no setting gives more than {target:,.0f}"
        last = base | {"setting": f"(no setting) {row['subject']}"}
        if target == current:
            rows = []
        rows.append(last | _redesign(question, most, _nodes_until(question, target)))
    return rows


def _resized(
    question: Question, target: float, current: float, need: float, told: str
) -> dict[str, Any]:
    """Say what becomes of a map's size, and what it costs."""
    limit = question.fitted.limit
    if target == current:
        found = _ok(current, told, need)
        if limit["limit"] != current:
            found["reason"] += f"; agents still run with {limit['limit']:,.0f}: roll it out"
        return found
    cost = map_cost(
        limit["setting"], current, target, need, question.present, question.endpoints_per_node,
        question.row["subject"],
    )  # fmt: skip
    median = question.need(0.5) / (1 - question.settings.headroom)
    made = {"target": target, "lower": min(median, target), "cost": cost, "restart": True}
    if target < current:
        return made | {
            "status": "lower",
            "reason": f"needs {told}: {current:,.0f} are more than is worth keeping",
        }
    full = "it evicts the oldest entries" if limit["kind"] == "soft" else "writes fail"
    at = f"at {current:,.0f} {full}" if need > current else "less than half the headroom is left"
    return made | {"status": "raise", "reason": f"needs {told}; {at}"}


def _explicit(setting: str, subject: str, present: Present) -> str:
    """Give the setting that moves a map: an option of its own, where one is set, wins."""
    name = facts.map_of_label(subject, present.version)
    options = dict(facts.maps(present.version).select("map", "option").iter_rows())
    own = options.get(name) if name is not None else None
    if own is None or present.options.get(own, "0") == "0" or own == option_of(
        setting, present.version
    ):  # fmt: skip
        return setting
    return f"extraConfig.{own}"


def _lowest(setting: str, present: Present) -> float | None:
    """Give how small a map may be set: Cilium's default; None where nothing larger is set.

    A map that is sized dynamically is left to that.
    """
    option = option_of(setting, present.version)
    if option is None or option not in present.options:
        return None
    default = facts.options(present.version).filter(pl.col("option") == option)["default"]
    usual = float(default[0]) if len(default) and str(default[0]).isdigit() else 0.0
    return usual or None


def _nodes_until(question: Question, size: float) -> int | None:
    """Largest node count that a size holds with the accepted risk; None where no count does."""
    limit = question.fitted.limit | {"limit": size}
    counts = replace(question.fitted, limit=limit).runs_out()
    least = float(np.quantile(counts, question.settings.risk, method="inverted_cdf"))
    return math.floor(least) if math.isfinite(least) else None


def _ok(current: float, told: str, need: float) -> dict[str, Any]:
    return {
        "current": current,
        "target": current,
        "status": "ok",
        "reason": f"holds {told} with {1 - need / current:.0%} to spare",
    }


def _hard(question: Question) -> dict[str, Any]:
    row = question.row
    base = _base(question) | {"setting": f"(no setting) {row['subject']}"}
    need = question.safe_need
    told = f"{need:,.0f} at {question.planned.nodes:,} nodes ({question.planned.why})"
    if need <= row["limit"]:
        return base | _ok(row["limit"], told, need) | {"target": None}
    return base | _redesign(question, f"needs {told}; the limit is fixed in Cilium")


def _redesign(question: Question, why: str, most: int | None = None) -> dict[str, Any]:
    """Say that no setting helps: the largest cluster that fits, and into how many to split."""
    most = most or question.row["nodes_early"]
    fits = f"; the largest cluster of this shape has {most:,} nodes" if most is not None else ""
    instead = "fewer pods, services or policies a node, or smaller clusters"
    if most:
        parts = math.ceil(question.planned.nodes / most)
        instead = f"{parts} clusters of at most {most:,} nodes, or fewer objects a node"
    return {
        "current": question.row["limit"],
        "status": "redesign",
        "reason": f"{why}{fits}: change the shape or split the cluster",
        "alternative": instead,
    }


def _memory(question: Question) -> list[dict[str, Any]]:
    bound = _limit(question, "byte", "before an OOM kill", "the rest only hides a leak")
    return [bound, _request(question, "memory", 0.5, bound["target"])]


def _cpu(question: Question) -> list[dict[str, Any]]:
    """Ask for what is used; a limit, which only throttles, is judged where somebody set one."""
    if question.present.sizes.get(str(question.fitted.limit["setting"])) is None:
        return [_request(question, "cpu", 0.95, None)]
    bound = _limit(question, "millicore", "before it is throttled", "the rest is never used")
    return [bound, _request(question, "cpu", 0.95, bound["target"])]


def _limit(question: Question, unit: str, fear: str, rest: str) -> dict[str, Any]:
    setting = str(question.fitted.limit["setting"])
    current = question.present.sizes.get(setting)
    need = question.safe_need
    headroom = question.settings.headroom
    target = sized(Target(need, need, current, None, headroom, unit, 0.0)).value
    told = f"{_shown(need, unit)} at {question.planned.nodes:,} nodes ({question.planned.why})"
    told += f", {question.fitted.reserved} in it" if question.fitted.reserve else ""
    state = _state(target, current)
    reason = {
        "ok": f"holds {told}",
        "lower": f"needs {told}, and {headroom:.0%} to spare: {rest}",
    }.get(state, f"needs {told}, and {headroom:.0%} to spare {fear}")
    return _base(question) | {
        "current": current,
        "target": target,
        "lower": question.need(0.5),
        "status": state,
        "reason": reason,
        "cost": target - (current or 0.0),
        "restart": state != "ok",
    }


def _request(
    question: Question, resource: str, quantile: float, most: float | None
) -> dict[str, Any]:
    """Request what the worst node uses at the quantile: a CPU limit would only throttle."""
    unit = question.fitted.limit["unit"]
    need = question.need(quantile)
    setting = str(question.fitted.limit["setting"]).replace("limits.", "requests.")
    current = question.present.sizes.get(setting)
    target = sized(Target(need, need, current, most, 0.0, unit, 0.0)).value
    shown = _shown(need, unit)
    state = _state(target, current)
    return _base(question) | {
        "setting": setting,
        "current": current,
        "target": target,
        "lower": need,
        "upper": most,
        "status": state,
        "percentile": quantile,
        "reason": f"the worst node uses {shown} of {resource} at {question.planned.nodes:,} nodes "
        f"({question.planned.why})",
        "cost": target - (current or 0.0),
        "restart": state != "ok",
    }


def _state(target: float, current: float | None) -> str:
    if current is None:
        return "set"
    return "ok" if target == current else "raise" if target > current else "lower"


def _shown(value: float, unit: str) -> str:
    return format_bytes(value) if unit == "byte" else f"{value:,.0f} millicores"
