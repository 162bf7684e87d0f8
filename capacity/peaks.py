"""Table peaks: what memory and CPU limits must hold beside the trend.

A trend is fitted to the peaks of steps. On top come starts and mass pod creation (table spikes),
and kernel memory that the cgroup is charged for though no agent reports it (kernel_memory.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from capacity.forecast import Fitted
from capacity.kernel_memory import KernelMemory
from capacity.observe.charges import all_charged
from capacity.tables import PEAKS, check
from capacity.units import format_bytes

_QUANTITIES: Final = ("memory", "cpu")


@dataclass(frozen=True, slots=True)
class Extra:
    """What comes on top of a trend: a spike (None: none could be seen) and the kernel's share."""

    spike: float | None
    kind: str | None
    events: int
    kernel: float

    @property
    def amount(self) -> float:
        """What a limit must hold beside the trend."""
        return (self.spike or 0.0) + self.kernel


def extra(
    limit: dict[str, Any], spikes: pl.DataFrame, kernel: KernelMemory, steps: pl.DataFrame
) -> Extra:
    """Give what comes on top of the trend of one quantity.

    Parameters
    ----------
    limit
        A row of table limits.
    spikes, steps
        Tables of what was observed.
    kernel
        Bytes of a node's maps by formula: those charged and not reported, all of them where
        nothing reports any. Where working sets themselves show what maps cost, nothing is missing:
        both kinds of pods were seen, or (nearly) all are known to be charged.
    """
    own = spikes.filter(component=limit["component"], quantity=limit["quantity"])
    worst = own.sort("p95", "kind").tail(1).to_dicts()
    found: dict[str, Any] = worst[0] if worst else {"p95": None, "kind": None, "events": 0}
    missing = 0.0
    if (limit["component"], limit["quantity"]) == ("agent", "memory"):
        told = set(steps.filter(component="agent")["quantity"].unique())
        is_told = {"memory_bpf_maps", "memory_maps_seen"} & told
        missing = kernel.charged - kernel.reported if is_told else kernel.charged
        if kernel.ratio != 1.0 or "memory_maps_seen" in told or all_charged(steps):
            missing = 0.0
    return Extra(found["p95"], found["kind"], found["events"], max(missing, 0.0))


def with_reserve(item: Fitted, more: Extra) -> Fitted:
    """Hold back of a memory limit what comes on top of the trend; CPU only waits for a moment."""
    if item.limit["quantity"] != "memory" or more.amount <= 0:
        return item
    parts = [
        f"{format_bytes(round(more.spike))} for {_KINDS[more.kind or 'start']}"
        if more.spike else None,
        f"{format_bytes(round(more.kernel))} of kernel memory that no agent reports"
        if more.kernel > 0 else None,
    ]  # fmt: skip
    return replace(item, reserve=more.amount, reserved=" and ".join(part for part in parts if part))


_KINDS: Final = {"start": "starts", "pods": "many pods at once"}


def peaks(
    fitted: Sequence[Fitted],
    extras: dict[tuple[str, str], Extra],
    usage: pl.DataFrame,
    nodes: int,
    risk: float,
) -> pl.DataFrame:
    """Give table peaks of all containers whose memory or CPU was fitted.

    Parameters
    ----------
    extras
        By component and quantity.
    usage
        Table usage.
    nodes
        Planned node count.
    risk
        Accepted chance of running short. [1]
    """
    today = {(row["component"], row["quantity"]): row for row in usage.iter_rows(named=True)}
    rows = [
        _row(item, extras[key], today.get(key, {}), nodes, risk)
        for item in fitted
        if (key := (item.limit["component"], item.limit["quantity"])) in extras
    ]
    return check(pl.DataFrame(rows, schema=PEAKS.schema), PEAKS)


def _row(
    item: Fitted, more: Extra, today: dict[str, Any], nodes: int, risk: float
) -> dict[str, Any]:
    limit = item.limit
    at = [np.interp(nodes, item.counts, draw) for draw in item.draws]
    seen = float(item.rows["value"].max() or 0.0)  # type: ignore[arg-type]
    steady = max(float(np.quantile(at, 1 - risk)), seen)
    holds, bound = steady + more.amount, limit["limit"]
    typical = today.get("typical")
    return {
        **{key: limit[key] for key in ("cluster", "component", "quantity", "unit")},
        "nodes": nodes,
        "now_p95": today.get("p95"),
        "now_p99": today.get("p99"),
        "worst_node": today.get("worst_node"),
        "worst_p99": today.get("worst_p99"),
        "spread": today["worst_level"] / typical if typical else None,
        "steady": steady,
        "spike": more.spike,
        "spike_kind": more.kind,
        "kernel": more.kernel,
        "holds": holds,
        "limit": bound,
        "margin": None if bound is None else bound - holds,
        "probability": None
        if bound is None
        else float(np.mean(np.asarray(at) + more.amount > bound)),
        "basis": f"{more.events} {_KINDS[more.kind or 'start']} seen"
        if more.events
        else "no start seen: none in the history, or samples more than 5 minutes apart",
    }


def is_peaked(limit: dict[str, Any]) -> bool:
    """Say whether a limit is one of a container's memory or CPU."""
    return limit["component"] != "map" and limit["quantity"] in _QUANTITIES
