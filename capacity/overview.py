"""Thin views of a plan, an export or facts: the tables that commands print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import polars as pl

from capacity import facts, findings
from capacity.backtesting import ALL, OURS
from capacity.cilium.map_memory import charged_bytes, memlock_bytes
from capacity.cilium.map_sizes import RATIO, Finding, dynamic_sizes, validate
from capacity.cilium.policy import heaviest
from capacity.errors import FactError, SettingsError
from capacity.explained import moved_by
from capacity.export import Metrics, told_once
from capacity.facts.filling import fill, fill_drivers
from capacity.findings import percent, scope
from capacity.inventory import Inventory
from capacity.observing import inventory_of, missing, observed
from capacity.planning import Plan
from capacity.settings import PlanSettings
from capacity.tables import CHANGES, UPGRADE, data_dictionary
from capacity.telling import amount, resource
from capacity.units import format_bytes, parse_bytes
from capacity.upgrade import upgrade as compare

FACT_COLUMNS: Final = {
    "maps": ("map", "since", "until", "type", "key_size", "value_size", "max_entries", "helm_value",
             "kind", "verified", "source"),
    "options": ("option", "helm_value", "since", "until", "default", "min", "max", "verified",
                "source"),
    "metrics": ("metric", "since", "until", "type", "unit", "default_on", "verified", "source"),
    "limits": ("limit", "value", "unit", "since", "until", "condition", "kind", "verified",
               "source"),
    "fill": ("map", "since", "until", "equation", "bound", "created", "removed", "verified"),
}  # fmt: skip


def breaks_first(plan: Plan, most: int = 12) -> pl.DataFrame:
    """Give what runs out, in order, for people: texts with units."""
    rows, moved = [], moved_by(plan)
    for row in plan.exhaustion.head(most).iter_rows(named=True):
        rows.append(
            {
                "resource": resource(row),
                "kind": row["kind"],
                "now": amount(row["current"], row["unit"]),
                "limit": amount(row["limit"], row["unit"]),
                "used": None if row["usage"] is None else f"{row['usage']:.0%}",
                f"nodes at {percent(plan.settings.risk)} risk": row["nodes_early"],
                "at median": row["nodes_median"],
                "from": row["date_early"],
                "median": row["date_median"],
                f"chance in {scope(plan)}": (
                    None if row["probability"] is None else f"{row['probability']:.0%}"
                ),
                "status": row["status"],
                "matters most": moved.get(resource(row)),
            }
        )
    return pl.DataFrame(rows)


def maps(plan: Plan) -> pl.DataFrame:
    """Give how full each map is, now and at the planned nodes, and what it costs, for people."""
    cost = plan.maps.select(_bare("map"), memory=pl.coalesce("charged", "memlock"))
    rows = findings.map_fill(plan).with_columns(_bare("subject"))
    rows = rows.join(cost.unique("bare"), on="bare", how="left", maintain_order="left")
    ahead = f"at {findings.planned_nodes(plan):,} nodes"
    return rows.select(
        pl.col("subject").alias("map"),
        "kind",
        pl.col("current").round().cast(pl.Int64).alias("entries, worst node"),
        pl.col("limit").cast(pl.Int64),
        _share("usage").alias("full today"),
        pl.format("{} ({} to {})", *map(_share, ("q50", "q05", "q95"))).alias(ahead),
        pl.col("nodes_early").alias(f"nodes at {percent(plan.settings.risk)} risk"),
        pl.col("memory").map_elements(format_bytes, return_dtype=pl.String).alias("memory a node"),
        "setting",
        "worst_node",
    )


def what_fills(plan: Plan) -> pl.DataFrame:
    """Give what fills each map that is in use, by its structure, for people."""
    rows = plan.map_fill.filter(pl.col("in_use") == "yes", pl.col("bound") != "fixed")
    return rows.select(
        pl.col("map").str.strip_prefix("cilium_"),
        pl.col("equation").fill_null("only counting tells").alias("filled by"),
        "bound",
        pl.col("predicted").alias("entries by that"),
        "observed",
        pl.col("ahead").alias(f"at {findings.planned_nodes(plan):,} nodes"),
        "limit",
        "kind",
        pl.col("full_at_nodes").alias("full at nodes"),
    )


def _bare(name: str) -> pl.Expr:
    """Name a map alike where it is told by the label of its pressure and where by its own name."""
    return pl.col(name).str.strip_prefix("cilium_").str.replace("^policy.*", "policy").alias("bare")


def policies(plan: Plan, most: int = 20) -> pl.DataFrame:
    """Give the fullest policy maps by the inventory's policies, for people."""
    return _growing(plan, plan.policy_growth, "endpoint", "workloads").head(most)


def heaviest_rules(settings: PlanSettings, version: str, most: int = 10) -> pl.DataFrame:
    """Give the rules that fill policy maps most, by the inventory of a plan's settings."""
    inventory = inventory_of(settings)
    if inventory.endpoints.is_empty() or inventory.policies.is_empty():
        return pl.DataFrame()
    return heaviest(inventory, version=version, top=most)


def services(plan: Plan) -> pl.DataFrame:
    """Give the load balancer maps and service IDs by the inventory's services, for people."""
    told = _growing(plan, plan.service_growth, "resource", "nodes")
    return told.join(
        plan.service_growth.select("resource", "kind", "setting", heaviest="service"),
        on="resource", how="left", maintain_order="left",
    )  # fmt: skip


def packets(plan: Plan) -> pl.DataFrame:
    """Give the nodes that the packet rate needs, by way of load balancing, for people."""

    def bounds(name: str, low: str, high: str) -> pl.Expr:
        return pl.format("{} ({} to {})", *(pl.col(n).round().cast(pl.Int64) for n in
                                            (name, low, high)))  # fmt: skip

    return plan.lb_tier.select(
        "nodes", "mode", "acceleration", pl.col("present").alias("set now"),
        (pl.col("packets") / 1e6).round(2).alias("million packets/s"),
        bounds("nanoseconds", "low", "high").alias("ns a packet"),
        _share("use").alias("busiest CPU"), _share("budget").alias("budget"),
        bounds("needed", "needed_low", "needed_high").alias("nodes needed, one spare"),
        pl.col("per_mpps").round(2).alias("nodes per million/s"), "calibration", "note",
    )  # fmt: skip


def _growing(plan: Plan, table: pl.DataFrame, name: str, driver: str) -> pl.DataFrame:
    share = pl.col("entries") / pl.col("limit")
    rows = table.sort(share, name, descending=[True, False], nulls_last=True)
    nodes = (pl.col("factor").clip(1.0) * findings.nodes_now(plan)).ceil().cast(pl.Int64)
    return rows.select(
        name, "entries", "limit", share.alias("share"),
        pl.col("growing").alias(f"more with twice the {driver}"), nodes.alias("full at nodes"),
    ).with_columns(_share("share").alias("share"))  # fmt: skip


def scores(told: pl.DataFrame) -> pl.DataFrame:
    """Give table scores over all quantities, for people: every method by how far ahead."""
    rows = told.filter(pl.col("quantity") == ALL).sort("horizon", "pinball")
    return rows.select(
        pl.format("{} d", pl.col("horizon").round(1)).alias("ahead"), "method", "forecasts",
        *_scored(), _share("skill").alias("loss that ours saves"),
    )  # fmt: skip


def scores_by_quantity(told: pl.DataFrame) -> pl.DataFrame:
    """Give how our own forecasts did for each quantity, nearest horizon first, for people."""
    rows = told.filter(pl.col("quantity") != ALL, pl.col("method") == OURS)
    rows = rows.sort("horizon", "quantity")
    return rows.select(
        "quantity", pl.format("{} d", pl.col("horizon").round(1)).alias("ahead"), "forecasts",
        *_scored(),
    )  # fmt: skip


def _scored() -> list[pl.Expr]:
    return [
        _share("error", digits=1).alias("median error"),
        _share("coverage").alias("within 5–95 %"),
        _share("pinball", digits=2).alias("pinball loss"),
    ]


def upgrade(settings: PlanSettings) -> pl.DataFrame:
    """Give table upgrade from the version that a source shows to `settings.cilium`.

    Without `cilium` the newest known version; no rows where that one runs already.
    """
    seen = observed(replace(settings, cilium=None), lambda name, share: None)
    target = facts.minor(settings.cilium) if settings.cilium else facts.LATEST
    if target == seen.version:
        return UPGRADE.empty()
    return compare(seen.version, target, seen.inventory, None, settings)


def to_do(changes: pl.DataFrame) -> pl.DataFrame:
    """Give what is to be dealt with before each step, for people."""
    return _changes(changes.filter("act"))


def other_changes(changes: pl.DataFrame) -> pl.DataFrame:
    """Give the changes that ask for nothing, for people."""
    return _changes(changes.filter(~pl.col("act")))


def _changes(rows: pl.DataFrame) -> pl.DataFrame:
    both = pl.format("{}: {} → {}", "change", "before", "after")
    return rows.select(
        "name", pl.coalesce(both, "change").alias("change"), "effect", "kind", "step",
        pl.when("verified").then(pl.lit("yes")).otherwise(pl.lit("no")).alias("verified"),
    )  # fmt: skip


def growth_laws(plan: Plan) -> pl.DataFrame:
    """Give the laws of growth that were weighed, the most trusted first, for people."""
    rows = plan.growth_laws.sort("driver", "share", descending=[False, True])
    return rows.select(
        "driver", "law", _share("share").alias("share of futures"),
        _share("error", digits=1).alias("error on its own past"),
    )  # fmt: skip


def _share(name: str, digits: int = 0) -> pl.Expr:
    return pl.format("{}%", (100 * pl.col(name)).round(digits)).str.replace(
        ".0%", "%", literal=True
    )


def what_to_set(plan: Plan) -> pl.DataFrame:
    """Give the recommendations that change something, for people."""
    rows = []
    told = plan.recommendation.filter(pl.col("status").is_in([*CHANGES, "redesign", "error"]))
    has_prices = told["money"].null_count() < len(told)
    for row in told.iter_rows(named=True):
        cost_unit = "millicore" if row["unit"] == "millicore" else "byte"
        rows.append(
            {
                "setting": row["setting"],
                "now": amount(row["current"], row["unit"]),
                "set to": amount(row["target"], row["unit"]),
                "each": _change(row["cost"], cost_unit),
                "cluster": _change(row["cost_total"], cost_unit),
                **({"a month": _money(row["money"])} if has_prices else {}),
                "why": row["reason"],
                "side effect, or instead": row["side_effect"] or row["alternative"],
                "sure": row["confidence"],
            }
        )
    return pl.DataFrame(rows)


def must_hold(plan: Plan) -> pl.DataFrame:
    """Give what limits of memory and CPU must hold at the planned nodes, for people."""
    return pl.DataFrame(
        [
            {
                "container": f"{row['component']} {row['quantity']}",
                "worst node": row["worst_node"],
                "99 % over time and nodes": amount(row["now_p99"], row["unit"]),
                "worst / typical": None if row["spread"] is None else f"{row['spread']:.2f}",
                "trend": amount(row["steady"], row["unit"]),
                "starts, many pods": amount(row["spike"], row["unit"]),
                "maps not reported": amount(row["kernel"] or None, row["unit"]),
                "must hold": amount(row["holds"], row["unit"]),
                "limit": amount(row["limit"], row["unit"]),
                "left": _change(row["margin"], row["unit"]),
                "chance of passing it": None
                if row["probability"] is None
                else f"{row['probability']:.0%}",
                "spikes": row["basis"],
            }
            for row in plan.peaks.iter_rows(named=True)
        ]
    )


def _change(cost: float | None, unit: str) -> str | None:
    """Write what a change adds to a node or replica, or gives back."""
    if cost is None:
        return None
    return ("+" if cost >= 0 else "-") + str(amount(abs(cost), unit))


def _money(money: float | None) -> str | None:
    return None if money is None else f"{money:+,.2f}"


def reading(metrics: Metrics, inventory: Inventory) -> dict[str, pl.DataFrame]:
    """Give what an export holds: sources, metrics by name, inventory, coverage."""
    by_series = metrics.samples.group_by("series").agg(
        samples=pl.len(), first=pl.col("time").min(), last=pl.col("time").max()
    )
    by_metric = (
        metrics.series.join(by_series, on="series", how="left")
        .group_by("cluster", "metric")
        .agg(
            series=pl.len(),
            samples=pl.col("samples").sum(),
            first=pl.col("first").min(),
            last=pl.col("last").max(),
        )
        .sort("cluster", "metric")
    )
    tables = [f.name for f in fields(Inventory) if f.name != "sources"]
    counts = {name: len(getattr(inventory, name)) for name in tables}
    return {
        "sources": told_once(metrics.sources, inventory.sources),
        "metrics": by_metric,
        "inventory": pl.DataFrame({"table": list(counts), "rows": list(counts.values())}),
        "coverage": missing(metrics, inventory),
    }


def fact_rows(table: str, version: str | None, match: str) -> pl.DataFrame:
    """Give fact rows of a table; `match` is searched in the first column.

    Raises
    ------
    FactError
        If the version is not known, or no row matches.
    """
    made: dict[str, Callable[[], pl.DataFrame]] = {
        "maps": lambda: facts.maps(version),
        "options": lambda: facts.options(version),
        "metrics": lambda: facts.metrics(version),
        "limits": lambda: facts.limits(version),
        "fill": lambda: fill(version),
        "drivers": fill_drivers,
        "quantities": facts.quantities,
        "sources": facts.sources,
        "tables": data_dictionary,
    }
    frame = made[table]()
    found = frame.filter(pl.col(frame.columns[0]).str.contains(match, literal=True))
    if found.is_empty():
        raise FactError(f"no {table} with {match!r} in Cilium {version or 'any version'}")
    return found


def sizes(
    memory: str, ratio: float, explicit: Sequence[str], version: str | None
) -> tuple[pl.DataFrame, list[Finding]]:
    """Give dynamic map sizes with the kernel's bytes, and what the agent says of the options.

    Raises
    ------
    SettingsError
        If an argument cannot be read.
    """
    known = version or facts.LATEST
    given = dict(_pair(item) for item in explicit)
    # Names that look like one of a map get a word of `validate`, as the agent ignores them
    options = set(facts.options(known)["option"])
    if strange := [name for name in given if name not in options and name[:4] != "bpf-"]:
        raise SettingsError(
            f"--set {strange[0]}: no option of Cilium {known}; `capacity facts options` lists them"
        )
    sized = dynamic_sizes(parse_bytes(memory), ratio, version=known, explicit=given)
    findings = validate({RATIO: ratio, **given}, version=known, memory_bytes=parse_bytes(memory))
    rows: list[dict[str, Any]] = []
    for option, entries in sized.items():
        shapes = facts.maps(known).filter(
            pl.col("option") == option, pl.col("key_size").is_not_null(), pl.col("per") == "node"
        )
        for shape in shapes.iter_rows(named=True):
            arguments = (shape["type"], shape["key_size"], shape["value_size"], entries)
            memlock = memlock_bytes(*arguments, cpus=1)
            charged = charged_bytes(*arguments, cpus=1)
            rows.append(
                {
                    "option": option,
                    "helm_value": shape["helm_value"],
                    "entries": entries,
                    "map": shape["map"],
                    "memlock": memlock,
                    "memlock_text": format_bytes(memlock),
                    "charged": charged,
                    "set": option in given,
                    "verified": shape["verified"],
                }
            )
    return pl.DataFrame(rows), findings


def _pair(item: str) -> tuple[str, int]:
    name, equals, value = item.partition("=")
    if not equals or not value.strip().isdecimal():
        raise SettingsError(f"--set {item}: wanted OPTION=ENTRIES with a whole number")
    return name.strip(), int(value)
