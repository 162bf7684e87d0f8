"""Use of workloads and a rule → what to set, through named steps; nothing changes for nothing."""

from __future__ import annotations

import math
from typing import Final

import polars as pl

from capacity.rightsizing.peaks import chance_above, share_above
from capacity.rightsizing.strategies import POD_FLOORS, STRATEGIES, THROTTLED, Rule, Strategy
from capacity.rightsizing.workloads import CONTAINER
from capacity.rightsizing_settings import RightsizingSettings
from capacity.tables import RIGHTSIZING, check

_UNITS: Final = {"cpu": "millicore", "memory": "byte"}
# What is written: whole millicores, whole Mi (units.bytes_to_quantity)
_GRAINS: Final = {"cpu": 1.0, "memory": float(1 << 20)}
# A change of less is not worth a rollout, whatever its share. [millicore or byte]
_LEAST: Final = {"cpu": 5.0, "memory": 16.0 * (1 << 20)}
_HOURS_A_MONTH: Final = 730
_FULL_DAYS: Final = 14
# Share of periods from which on throttling is a risk of its own
_SLOWED_BADLY: Final = 0.5
_GIB: Final = 1 << 30
_CORE: Final = 1000
_KEYS: Final = [*CONTAINER, "resource"]
_RISKS: Final = ("high", "medium", "unknown", "low")
_PATCHED: Final = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")


def advise(
    rows: pl.DataFrame, workloads: pl.DataFrame, settings: RightsizingSettings
) -> pl.DataFrame:
    """Give table rightsizing: four settings a container, the riskiest first.

    Parameters
    ----------
    rows
        As `workload_usage` gives them.
    workloads
        Table workloads: those without any use are told as unknown.
    """
    strategy = STRATEGIES[settings.strategy]
    rows = _with_missing(rows, workloads, settings)
    rows = _judged(rows, strategy, settings)
    parts = []
    for resource, rule in strategy.rules.items():
        own = _targets(rows.filter(pl.col("resource") == resource), rule, settings)
        parts += [_setting(own, bound, settings) for bound in ("requests", "limits")]
    return check(_ranked(pl.concat(parts)), RIGHTSIZING)


def _with_missing(
    rows: pl.DataFrame, workloads: pl.DataFrame, settings: RightsizingSettings
) -> pl.DataFrame:
    """Add what the inventory tells of and no metric does, and the other resource of a container."""
    listed = workloads.select(*CONTAINER, "replicas").unique(CONTAINER)
    if settings.namespaces:
        listed = listed.filter(pl.col("namespace").is_in(settings.namespaces))
    known = pl.concat([rows.select(*CONTAINER, "replicas"), listed]).unique(
        CONTAINER, maintain_order=True
    )
    pairs = known.join(pl.DataFrame({"resource": list(_UNITS)}), how="cross")
    missing = pairs.join(rows, on=_KEYS, how="anti")
    bounds = pl.concat(
        workloads.select(
            *CONTAINER, resource=pl.lit(name),
            request=pl.col(f"{name}_request").cast(pl.Float64),
            limit=pl.col(f"{name}_limit").cast(pl.Float64),
        )
        for name in _UNITS
    )  # fmt: skip
    return pl.concat([rows, missing.join(bounds, on=_KEYS, how="left")], how="diagonal")


def _judged(rows: pl.DataFrame, strategy: Strategy, settings: RightsizingSettings) -> pl.DataFrame:
    """Say what stands against a number: no data, too little of it, a leak, an autoscaler."""
    need = math.ceil(settings.min_seconds / 3600)
    metric = pl.col("resource").replace_strict(
        {"cpu": "container_cpu_usage_seconds_total", "memory": "container_memory_working_set_bytes"}
    )
    is_short = (pl.col("hours") < need) | (pl.col("points") < strategy.points)
    short = pl.format(
        "{} h of history and {} steps of {}, wanted are {} h and {}: collect longer, or give "
        "--min-history",
        pl.col("hours").round(1), "points", pl.lit(settings.step), pl.lit(need),
        pl.lit(strategy.points),
    )  # fmt: skip
    hpa = pl.format(
        "autoscaler {} holds replicas by the use of this request: another request changes them "
        "(--allow-hpa recommends all the same)",
        "hpa",
    )
    leak = pl.format(
        "memory of {} rises like a leak, faster than its CPU: a size would only delay the kill",
        "worst_pod",
    )
    return rows.with_columns(
        refusal=pl.when(pl.col("points").is_null())
        .then(pl.format("no series of {} for its pods: scrape the kubelets' /metrics/cadvisor",
                        metric))
        .when(is_short).then(short)
        .when(pl.col("leak")).then(leak)
        .when(pl.col("hpa").is_not_null() & (not settings.allow_hpa)).then(hpa),
        refused=(pl.col("leak") | pl.col("hpa").is_not_null()).fill_null(value=False)
        & ~is_short.fill_null(value=True),
    )  # fmt: skip


def _targets(rows: pl.DataFrame, rule: Rule, settings: RightsizingSettings) -> pl.DataFrame:
    """Apply the rule and the floor, round up to what is written, keep what is near enough."""
    grain, least, floor = (_of(table) for table in (_GRAINS, _LEAST, _floors(settings)))
    if settings.strategy in POD_FLOORS:
        floor = floor / pl.len().over("namespace", "kind", "workload")

    def rounded(value: pl.Expr) -> pl.Expr:
        # The last bits of a float must not add a grain
        whole = ((pl.max_horizontal(value, floor) / grain - 1e-6).ceil() * grain).cast(pl.Int64)
        return pl.when(value.is_not_null() & pl.col("refusal").is_null()).then(whole)

    told = rows.with_columns(
        now_request=(pl.col("request") - 1e-6).ceil().cast(pl.Int64),
        now_limit=(pl.col("limit") - 1e-6).ceil().cast(pl.Int64),
        new_request=rounded(rule.request), new_limit=rounded(rule.limit),
        lower=rounded(rule.lower), upper=rounded(rule.upper), words=pl.lit(rule.words),
    )  # fmt: skip
    told = told.with_columns(
        lower=pl.min_horizontal("lower", "new_request"),
        upper=pl.max_horizontal("upper", "new_request"),
    )

    def kept(now: str, new: str, least_wanted: pl.Expr) -> pl.Expr:
        band = pl.max_horizontal(settings.worth * pl.col(now), least)
        is_near = ((pl.col(new) - pl.col(now)).abs() <= band) & (pl.col(now) >= least_wanted)
        return pl.when(is_near.fill_null(value=False)).then(now).otherwise(new)

    told = told.with_columns(new_request=kept("now_request", "new_request", pl.col("lower")))
    if rule.is_proportional:
        # Kubernetes takes the limit for a request that is not set
        ratio = pl.col("limit") / pl.coalesce("request", "limit")
        told = told.with_columns(new_limit=rounded(ratio * pl.col("new_request")))
    # A limit below its request is refused by the API server
    floor_limit = pl.max_horizontal("new_limit", "new_request")
    told = told.with_columns(new_limit=pl.when(pl.col("new_limit").is_not_null()).then(floor_limit))
    return told.with_columns(new_limit=kept("now_limit", "new_limit", pl.col("new_request")))


def _of(table: dict[str, float]) -> pl.Expr:
    return pl.col("resource").replace_strict(table, return_dtype=pl.Float64)


def _floors(settings: RightsizingSettings) -> dict[str, float]:
    return dict(STRATEGIES[settings.strategy].floors)


def _setting(rows: pl.DataFrame, bound: str, settings: RightsizingSettings) -> pl.DataFrame:
    """Give the rows of one setting: requests or limits."""
    is_request = bound == "requests"
    now, new = (f"{age}_{bound.removesuffix('s')}" for age in ("now", "new"))
    saving = (pl.col(now).fill_null(0) - pl.col(new)) * pl.col("replicas")
    saving = saving if is_request else pl.lit(None, pl.Int64)
    prices = {"cpu": (settings.cpu_price, _CORE), "memory": (settings.memory_price, _GIB)}
    factor = pl.coalesce(
        pl.when(pl.col("resource") == name).then(pl.lit(price, pl.Float64) / unit * _HOURS_A_MONTH)
        for name, (price, unit) in prices.items()
    )
    status = _status(pl.col(now), pl.col(new))
    is_changed = status.is_in(["raise", "lower", "set", "remove"])
    return rows.select(
        *CONTAINER, "replicas",
        setting=pl.format(f"{bound}.{{}}", "resource"),
        unit=pl.col("resource").replace_strict(_UNITS, return_dtype=pl.String),
        current=now, target=new,
        lower="lower" if is_request else pl.lit(None, pl.Int64),
        upper="upper" if is_request else pl.lit(None, pl.Int64),
        status=status, risk=_risk(), exceeds=_exceeds(pl.col(new), pl.col(now)),
        saving=saving, money=saving * factor,
        confidence=(pl.col("hours") / 24 / _FULL_DAYS).clip(0, 1),
        reason=pl.coalesce("refusal", _reason(bound, status)), evidence=_evidence(),
        side_effect=pl.when(is_changed).then(_side_effect(settings)),
    )  # fmt: skip


def _status(now: pl.Expr, new: pl.Expr) -> pl.Expr:
    refused = pl.when(pl.col("refused")).then(pl.lit("refused")).otherwise(pl.lit("unknown"))
    return (
        pl.when(pl.col("refusal").is_not_null()).then(refused)
        .when(now.is_null() & new.is_null()).then(pl.lit("ok"))
        .when(now.is_null()).then(pl.lit("set"))
        .when(new.is_null()).then(pl.lit("remove"))
        .when(new > now).then(pl.lit("raise"))
        .when(new < now).then(pl.lit("lower"))
        .otherwise(pl.lit("ok"))
    )  # fmt: skip


def _risk() -> pl.Expr:
    """Tell the risk of leaving a resource as it is."""
    is_memory = pl.col("resource") == "memory"
    killed = (pl.col("kills") > 0) | pl.col("leak") | (pl.col("limit") < 1.05 * pl.col("largest"))
    slowed, request = pl.col("throttled"), pl.col("request")
    starved = request.is_null() | (request < 0.9 * pl.col("p95"))
    evicted = request.is_null() | pl.col("limit").is_null() | (request < pl.col("largest"))
    high = (is_memory & killed) | (~is_memory & (slowed >= _SLOWED_BADLY))
    medium = (is_memory & evicted) | (~is_memory & (starved | (slowed >= THROTTLED)))
    return (
        pl.when(high.fill_null(value=False)).then(pl.lit("high"))
        .when(pl.col("points").is_null()).then(pl.lit("unknown"))
        .when(medium.fill_null(value=False)).then(pl.lit("medium"))
        .when(pl.col("refusal").is_not_null() & ~pl.col("refused")).then(pl.lit("unknown"))
        .otherwise(pl.lit("low"))
    )  # fmt: skip


def _exceeds(new: pl.Expr, now: pl.Expr) -> pl.Expr:
    """Tell how likely use passes what is meant, or what is there where nothing is meant.

    Not where use was cut off: by kills, or by a limit that slows.
    """
    level = pl.coalesce(new, pl.when(pl.col("refusal").is_not_null()).then(now))
    is_cut = (pl.col("kills") > 0) | pl.col("leak")
    memory = pl.when(~is_cut.fill_null(value=True)).then(chance_above(level))
    is_slowed = (pl.col("throttled") >= THROTTLED).fill_null(value=False)
    cpu = pl.when(~is_slowed).then(share_above(level))
    return pl.when(pl.col("resource") == "cpu").then(cpu).otherwise(memory)


def _amount(name: str) -> pl.Expr:
    """Write an amount: whole millicores or Mi, rounded up."""
    value = (pl.col(name) / _of(_GRAINS) - 1e-6).ceil().cast(pl.Int64)
    unit = pl.when(pl.col("resource") == "cpu").then(pl.lit("m")).otherwise(pl.lit("Mi"))
    return pl.when(pl.col(name).is_not_null()).then(pl.concat_str(value, unit)).otherwise(_DASH)


_DASH: Final = pl.lit("–")


def _reason(bound: str, status: pl.Expr) -> pl.Expr:
    if bound == "requests":
        kept = pl.when(status == "ok").then(pl.lit("near enough to ")).otherwise(pl.lit(""))
        return pl.concat_str(kept, "words", pl.lit(": p95 "), _amount("p95"), pl.lit(", peak "),
                             _amount("largest"), _events())  # fmt: skip
    slowed = (pl.col("throttled") * 100).round(0).cast(pl.Int64)
    return (
        pl.when((status == "remove") & (pl.col("throttled") >= THROTTLED))
        .then(pl.format("throttled in {} % of periods on the worst day: it slows", slowed))
        .when(status == "remove").then(pl.lit("the rule sets no limit"))
        .when(pl.col("new_limit").is_null()).then(pl.lit("none is needed"))
        .when(status == "ok").then(pl.lit("no reason to change it"))
        .otherwise(pl.concat_str(pl.lit("request, or "), "words"))
    )  # fmt: skip


def _events() -> pl.Expr:
    """Tell what happened to the pods."""
    is_memory = pl.col("resource") == "memory"
    killed = pl.format("; {} pods killed for memory", "kills")
    slowed = pl.format("; throttled in {} % of periods on the worst day",
                       (pl.col("throttled") * 100).round(0).cast(pl.Int64))  # fmt: skip
    starts = pl.concat_str(pl.lit("; the start takes "), _amount("start"))
    at_start = (pl.col("start") > 1.5 * pl.col("p95")) & (pl.col("start") > 0)
    return pl.concat_str(
        pl.when(is_memory & (pl.col("kills") > 0)).then(killed).otherwise(pl.lit("")),
        pl.when(~is_memory & (pl.col("throttled") >= 0.01).fill_null(value=False))
        .then(slowed).otherwise(pl.lit("")),
        pl.when(at_start.fill_null(value=False)).then(starts).otherwise(pl.lit("")),
    )  # fmt: skip


def _evidence() -> pl.Expr:
    told = pl.concat_str(
        pl.lit("p50 "), _amount("p50"), pl.lit(", p90 "), _amount("p90"), pl.lit(", p95 "),
        _amount("p95"), pl.lit(", p99 "), _amount("p99"), pl.lit(", peak "), _amount("largest"),
        pl.lit(" (pod "), pl.col("worst_pod").fill_null("–"), pl.lit("); "),
        pl.format("{} pods, {} steps, {} h; {} restarts; workload by {}",
                  pl.col("pods").fill_null(0), pl.col("points").fill_null(0),
                  pl.col("hours").fill_null(0).round(1),
                  pl.col("restarts").fill_null(0).cast(pl.Int64),
                  pl.col("by").fill_null("inventory")),
    )  # fmt: skip
    return pl.when(pl.col("points").is_null()).then(pl.lit("nothing was seen")).otherwise(told)


def _side_effect(settings: RightsizingSettings) -> pl.Expr:
    rollout = (
        pl.when(pl.col("kind").is_in(_PATCHED)).then(pl.lit("a rollout: pods are replaced"))
        .otherwise(pl.lit("no controller to patch: change it where it is made"))
    )  # fmt: skip
    if not settings.allow_hpa:
        return rollout
    scaled = pl.format("{}; autoscaler {} will hold another number of replicas", rollout, "hpa")
    return pl.when(pl.col("hpa").is_not_null()).then(scaled).otherwise(rollout)


def _ranked(rows: pl.DataFrame) -> pl.DataFrame:
    """Rank containers: by the worst risk, then by what they save of the whole."""
    order = pl.col("risk").replace_strict({name: i for i, name in enumerate(_RISKS)})
    held = pl.when(pl.col("setting").str.starts_with("requests.")).then("current").fill_null(0)
    total = (held * pl.col("replicas")).sum().over("unit").clip(1)
    share = pl.col("saving").fill_null(0) / total
    worth = pl.col("money").sum() if rows["money"].is_not_null().any() else pl.col("share").sum()
    ranks = (
        rows.with_columns(order=order, share=share)
        .group_by(CONTAINER)
        .agg(pl.col("order").min(), worth=worth)
        .sort("order", "worth", *CONTAINER, descending=[False, True, *(False for _ in CONTAINER)])
        .with_row_index("rank", offset=1)
        .select(*CONTAINER, pl.col("rank").cast(pl.Int64))
    )
    names = pl.Enum(["requests.cpu", "limits.cpu", "requests.memory", "limits.memory"])
    joined = rows.join(ranks, on=list(CONTAINER))
    return joined.sort("rank", pl.col("setting").cast(names)).with_columns(
        pl.col("replicas").cast(pl.Int64), pl.col("saving").cast(pl.Int64)
    )
