"""Rules that turn use into requests and limits, ours and those of peers, side by side.

Each is what the tool of that name computes, on our steps; rounding, floors below and hysteresis
are told apart from the rule (advice.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from capacity.rightsizing.peaks import HORIZON
from capacity.rightsizing.workloads import OOM_BYTES

_NOTHING: Final = pl.lit(None, pl.Float64)
_MI: Final = float(1 << 20)
# Throttled in more of its periods than this, a container is slowed by its limit
THROTTLED: Final = 0.05


@dataclass(frozen=True, slots=True)
class Rule:
    """One resource: expressions, in millicores or bytes, over the columns of workload use.

    `lower` and `upper` bound the request: enough at the median, and what no more helps; a limit of
    null is none.
    """

    request: pl.Expr
    limit: pl.Expr
    lower: pl.Expr
    upper: pl.Expr
    words: str
    # The limit keeps its ratio to the request as it is set in the end
    is_proportional: bool = False


@dataclass(frozen=True, slots=True)
class Strategy:
    """Rules for CPU and memory, where they come from, and what they need."""

    source: str
    rules: Mapping[str, Rule]
    floors: Mapping[str, float]
    points: int = 100
    notes: tuple[str, ...] = field(default=())


_MARGIN: Final = 1.15
_OOM_MARGIN: Final = 1.25
_DAYS: Final = pl.col("hours") / 24
# A container that was killed used at least its limit then; where that is not known its peak
_KILLED: Final = pl.when(pl.col("kills") > 0).then(
    pl.max_horizontal(
        pl.coalesce("killed_at", "largest") * _OOM_MARGIN,
        pl.coalesce("killed_at", "largest") + OOM_BYTES,
    )
)
# Peaks that certainly rise do so for the next fortnight; a forecast of more than a half is none
_RISE: Final = (pl.col("peak_slope") * HORIZON).fill_null(0.0)
_GROWTH: Final = (_RISE / pl.max_horizontal("peak_mode", "largest")).fill_null(0.0).clip(0, 0.5)
_OUR_MEMORY: Final = _MARGIN * pl.max_horizontal(pl.col("largest") * (1 + _GROWTH), _KILLED)
_IS_SLOWED: Final = (pl.col("throttled") >= THROTTLED).fill_null(value=False)
# What a slowed container would use is not known: more than it uses where it is cut off
_SLOWED_MARGIN: Final = 1.25
_OUR_CPU: Final = (
    pl.when(_IS_SLOWED)
    .then(_SLOWED_MARGIN * pl.max_horizontal("p99", "p95"))
    .otherwise(pl.col("p95") * (1 + _GROWTH))
)
_OURS: Final = Strategy(
    source="ours: docs/resources.md",
    rules={
        "cpu": Rule(
            request=_OUR_CPU,
            # A limit that slows goes; one that does not stays, above the request
            limit=pl.when(_IS_SLOWED)
            .then(_NOTHING)
            .when(pl.col("limit").is_not_null())
            .then(pl.max_horizontal("limit", _OUR_CPU)),
            lower=pl.col("p50"),
            upper=pl.col("largest"),
            words="95th percentile of the worst pod with its trend (99th + 25 % if slowed)",
        ),
        "memory": Rule(
            request=_OUR_MEMORY,
            # A larger limit costs nothing and stays, but where it is the request (QoS Guaranteed)
            limit=pl.when((pl.col("limit") != pl.col("request")).fill_null(value=False))
            .then(pl.max_horizontal("limit", _OUR_MEMORY))
            .otherwise(_OUR_MEMORY),
            lower=pl.col("largest"),
            upper=_OUR_MEMORY * (1 + 1 / _DAYS),
            words="peak of the worst pod with its trend (limit + 25 % after an OOM kill) + 15 %",
        ),
    },
    floors={"cpu": 10.0, "memory": 16 * _MI},
)

# --- robusta-dev/krr d6baa74 (2026-07-27, after v1.29.0), strategies/simple.py, core/models/config
# .py: cpu_percentile 95, memory_buffer_percentage 15, points_required 100, floors 10m and 100 MiB
_KRR_MEMORY: Final = pl.col("largest") * 1.15
_KRR: Final = Strategy(
    source="robusta-dev/krr d6baa74 robusta_krr/strategies/simple.py",
    rules={
        "cpu": Rule(pl.col("p95"), _NOTHING, pl.col("p95"), pl.col("p95"),
                    "95th percentile of the worst pod, no limit"),
        "memory": Rule(_KRR_MEMORY, _KRR_MEMORY, _KRR_MEMORY, _KRR_MEMORY,
                       "peak of the worst pod + 15 %, limit = request"),
    },
    floors={"cpu": 10.0, "memory": 100 * _MI},
    notes=("KRR reads a rate over 75 s where we take one over --step",),
)  # fmt: skip

# --- kubernetes/autoscaler 55c37cd5eb (2026-08-22, 1.8.0), vertical-pod-autoscaler/pkg/recommender:
# config/config.go: percentiles 50, 90, 95, margin 15 %, floors of a pod 25m and 250 MiB;
# logic/recommender.go: upper x (1 + 1/c), lower x (1 + 0.001/c)^-2, c in days
_VPA_MARGIN: Final = 1.15
_VPA_TARGET: Final = pl.col("vpa90") * _VPA_MARGIN
_VPA_LOWER: Final = pl.col("vpa50") * _VPA_MARGIN * (1 + 0.001 / pl.col("confidence")).pow(-2)
_VPA_UPPER: Final = pl.col("vpa95") * _VPA_MARGIN * (1 + 1 / pl.col("confidence"))
_VPA_SOURCE: Final = (
    "kubernetes/autoscaler 55c37cd5eb vertical-pod-autoscaler/pkg/recommender logic/recommender.go"
)
_GOLDILOCKS_SOURCE: Final = "FairwindsOps/goldilocks 3be8f9e docs/faq.md, over VPA"
_VPA_FLOORS: Final = {"cpu": 25.0, "memory": 250 * _MI}
_VPA_WORDS: Final = "90th percentile of the decaying histogram + 15 %"
_VPA: Final = Strategy(
    source=_VPA_SOURCE,
    rules={
        # VPA keeps the ratio of limit to request: controlledValues RequestsAndLimits, its default
        name: Rule(_VPA_TARGET, _NOTHING, _VPA_LOWER, _VPA_UPPER, f"{_VPA_WORDS} of {what}", True)
        for name, what in (("cpu", "all samples"), ("memory", "daily peaks"))
    },
    floors=_VPA_FLOORS,
    points=1,
    notes=("floors are of a pod: each of its containers gets its part",),
)
# --- FairwindsOps/goldilocks 3be8f9e (2026-04-27) docs/faq.md: target for both, or bounds of VPA
_GUARANTEED: Final = Strategy(
    source=_GOLDILOCKS_SOURCE,
    rules={
        name: Rule(_VPA_TARGET, _VPA_TARGET, _VPA_LOWER, _VPA_UPPER,
                   "target of VPA as request and limit")
        for name in ("cpu", "memory")
    },
    floors=_VPA_FLOORS,
    points=1,
)  # fmt: skip
_BURSTABLE: Final = Strategy(
    source=_GOLDILOCKS_SOURCE,
    rules={
        name: Rule(_VPA_LOWER, _VPA_UPPER, _VPA_LOWER, _VPA_UPPER,
                   "lower bound of VPA as request, upper bound as limit")
        for name in ("cpu", "memory")
    },
    floors=_VPA_FLOORS,
    points=1,
)  # fmt: skip

STRATEGIES: Final[Mapping[str, Strategy]] = {
    "capacity": _OURS,
    "krr": _KRR,
    "vpa": _VPA,
    "goldilocks-guaranteed": _GUARANTEED,
    "goldilocks-burstable": _BURSTABLE,
}
# Whose floors are those of a pod, dealt out to its containers
POD_FLOORS: Final = ("vpa", "goldilocks-guaranteed", "goldilocks-burstable")
