"""Samples to steps and targets: which series tell which quantity of which thing on which node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from capacity.export import Metrics
from capacity.facts import derivations
from capacity.observe.derived import derived, renumbered
from capacity.observe.names import copies, named
from capacity.observe.quantities import QUANTITIES
from capacity.observe.reduced import present, reduced, times_of
from capacity.observe.stepped import TARGET

# A step grid never has more steps than this: charts and fits gain nothing from more.
MAX_STEPS: Final = 240
_NICE_STEPS: Final = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
                      43200, 86400, 172800, 604800)  # fmt: skip
# Every agent exports it, with or without endpoints: whose series are there, reports
_AGENTS: Final = "cilium_endpoint"


@dataclass(frozen=True, slots=True)
class Told:
    """Rows (time, target, value), what the targets are, which series tell the first `own` ones."""

    rows: pl.DataFrame
    targets: pl.DataFrame
    keyed: pl.DataFrame
    own: int


def told(metrics: Metrics, step: float | None) -> Told:
    """Bring samples to steps and targets: numbers group faster than names.

    A target is one quantity of one thing on one node; many series may tell of it (replicas,
    restarts). Its number grows with its name, so that equal inputs give equal orders.
    """
    metrics = named(metrics)
    wanted = (
        metrics.series.join(derivations.observed(), on="metric", how="inner")
        .filter(_where_holds())
        .with_columns(node=_node_key(), subject=_subject())
    )
    targets = wanted.group_by(TARGET).agg(series=pl.col("metric").min())
    targets = targets.sort(TARGET, nulls_last=True).with_row_index("target")
    keyed = wanted.join(targets, on=TARGET, nulls_equal=True)
    keyed = keyed.select("series", "target", "kind", "scale")
    width = step or grid_step(times_of(metrics.samples, keyed))
    seen = present(metrics.samples, keyed, targets, width)
    copied = copies(wanted.select(metrics.series.columns))
    rows, own = reduced(metrics.samples, keyed, copied, width), len(targets)
    for derive in QUANTITIES:
        rows, targets = derive(rows, targets)
    new = renumbered(seen.select("cluster").unique().sort("cluster"), targets).with_columns(
        component=pl.lit("driver"), quantity=pl.lit("nodes_reporting"), series=pl.lit(_AGENTS),
        node=pl.lit(None, pl.String), subject=pl.lit(None, pl.String),
    )  # fmt: skip
    counted = seen.join(new, on="cluster").with_columns(value=pl.col("nodes").cast(pl.Float64))
    rows, targets = derived(rows, targets, counted, new)
    return Told(rows, targets, keyed, own)


def grid_step(times: pl.Series) -> float:
    """Width of the time grid [s]: a round number, at least the spacing of the samples.

    >>> from datetime import UTC, datetime
    >>> grid_step(pl.Series([datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2, 3, 4)]))
    86400
    """
    if len(times) < 2:
        return _NICE_STEPS[0]
    stamps = times.sort().dt.epoch("s")
    spacing = stamps.diff().drop_nulls()
    span = stamps[-1] - stamps[0]
    # The lower quartile: scrapes of many targets are shifted against each other by parts of a step
    typical = max(float(spacing.quantile(0.25) or 1), span / MAX_STEPS)
    return next((s for s in _NICE_STEPS if s >= typical * 0.999), _NICE_STEPS[-1])


def _where_holds() -> pl.Expr:
    """Hold for series whose labels have the values named in column `where` (a=b;c=d*)."""
    holds = pl.lit(value=True)
    own = {"container": pl.col("container"), "pod": pl.col("pod")}
    for clause in derivations.conditions():
        label, _, value = clause.partition("=")
        column = own.get(label, pl.col("labels").str.json_path_match(f"$['{label}']"))
        asked = pl.col("where").str.split(";").list.contains(clause)
        is_so = column.str.starts_with(value[:-1]) if value.endswith("*") else column == value
        holds &= ~asked | is_so.fill_null(value=False)
    return holds


def _node_key() -> pl.Expr:
    """Name the node of a series: label node, else pod, else instance.

    An address alone is reused by the next node and a pod name changes with each restart, so each
    is a last resort only (shared knowledge of the exporters, see docs/explanation.md).
    """
    instance = pl.col("labels").str.json_path_match("$['instance']")
    return pl.coalesce("node", "pod", instance)


def _subject() -> pl.Expr:
    group = pl.col("labels").str.json_path_match("$['map_group']")
    # One name for policy maps: cilium_policy_v2_* since 1.17; a series an endpoint in 1.14
    policy = pl.col("map_name").str.contains(r"^(cilium_)?policy_(v[0-9]+_)?(\*|[0-9]+)$")
    name = pl.when(policy).then(pl.lit("cilium_policy_*")).otherwise("map_name")
    by_label = pl.when(pl.col("label") == "map_name").then(name).otherwise(group)
    return pl.when(pl.col("label").is_not_null()).then(by_label)
