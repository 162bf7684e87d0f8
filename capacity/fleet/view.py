"""A fleet as HTML for its notebook: verdict, what breaks first, what to set, what is not known."""

from __future__ import annotations

from html import escape
from typing import Final

import polars as pl

from capacity.charts.fleet import first_limits
from capacity.display import Html, answer, table
from capacity.fleet.overview import Fleet
from capacity.telling import amount, resource

_MOST: Final = 50
_STATES: Final = {"fits": "Fits", "short": "Short", "unknown": "Unknown"}


def verdict(fleet: Fleet) -> Html:
    """Give the answer: which cluster breaks first, and how many run short."""
    told = fleet.outcome
    nodes = fleet.limits.unique("cluster")["nodes"].sum()
    facts = {
        "Clusters": f"{told['clusters']:,}",
        "Run short": f"{told['verdicts']['short']:,}",
        "Could not be planned": f"{len(told['not_planned']):,}",
        "Nodes today": f"{nodes:,.0f}",
        "Settings to change": f"{len(fleet.advice):,}",
    }
    return answer(told["verdict"], _STATES[told["verdict"]], told["headline"], facts)


def first(fleet: Fleet) -> Html:
    """Give each cluster's first limit, the most urgent first."""
    chosen = first_limits(fleet.limits)
    frame = pl.DataFrame(
        {
            "cluster": row["cluster"],
            "first to run out": resource(row),
            "used": f"{amount(row['current'], row['unit'])} of {amount(row['limit'], row['unit'])}",
            "nodes today": None if row["nodes"] is None else round(row["nodes"]),
            "at nodes": row["nodes_early"],
            "from": row["date_early"],
            "chance": None if row["probability"] is None else f"{row['probability']:.0%}",
            "kind": row["kind"],
            "status": row["status"],
        }
        for row in chosen.head(_MOST).iter_rows(named=True)
    )
    return table(
        frame, f"The first limit of each cluster{_of(len(chosen))}", empty="No limit is in sight."
    )


def advice(fleet: Fleet) -> Html:
    """Give the settings to change, the one of most clusters first."""
    keys = ["component", "setting", "unit"]
    many = (
        fleet.advice.group_by(keys)
        .agg(
            pl.col("cluster").n_unique().alias("count"),
            pl.col("cluster").unique().sort().alias("names"),
            pl.col("target").min().alias("low"),
            pl.col("target").max().alias("high"),
            pl.col("current").min().alias("now"),
        )
        .sort("count", *keys, descending=[True, False, False, False])
    )
    frame = pl.DataFrame(
        {
            "setting": row["setting"],
            "component": row["component"],
            "clusters": row["count"],
            "least now": amount(row["now"], row["unit"]),
            "set to": _range(row["low"], row["high"], row["unit"]),
            "where": _listed(row["names"]),
        }
        for row in many.head(_MOST).iter_rows(named=True)
    )
    return table(
        frame, f"What to set, and in how many clusters{_of(len(many))}",
        empty="Nothing has to be set today.",
    )  # fmt: skip


def _range(low: float | None, high: float | None, unit: str) -> str:
    if low == high:
        return amount(low, unit)
    return f"{amount(low, unit)} to {amount(high, unit)}"


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _of(count: int) -> str:
    return f" (the first {_MOST} of {count:,})" if count > _MOST else ""


def meshes(fleet: Fleet) -> Html:
    """Give what the clusters of each mesh fill together."""
    frame = pl.DataFrame(
        {
            "mesh": row["mesh"],
            "resource": row["resource"],
            "kind": row["kind"],
            "clusters counted": f"{row['counted']:,} of {row['clusters']:,}",
            "used": f"{amount(row['current'], '1')} of {amount(row['limit'], '1')}",
            "full at nodes": row["nodes_full"],
            "from": row["date_early"],
            "status": row["status"],
        }
        for row in fleet.meshes.iter_rows(named=True)
    )
    return table(
        frame, "What the clusters of a mesh fill together", empty="No cluster names a mesh."
    )


def not_planned(fleet: Fleet) -> Html:
    """Give the clusters that could not be planned, and why: nothing above speaks of them."""
    rows = fleet.outcome["not_planned"]
    frame = pl.DataFrame(
        {"cluster": r["cluster"], "state": r["state"], "why": r["error"]} for r in rows[:_MOST]
    )
    return table(
        frame, f"Clusters that could not be planned{_of(len(rows))}",
        empty="All clusters were planned.",
    )  # fmt: skip


def undated(fleet: Fleet) -> Html:
    """Give the clusters whose history tells no date: their limits are known by nodes alone."""
    known = fleet.limits.filter(pl.col("state") == "ok")
    dated = known.group_by("cluster").agg(pl.col("date_early").is_not_null().any().alias("dated"))
    names = sorted(dated.filter(~pl.col("dated"))["cluster"].to_list())
    if not names:
        return Html("<p>Every planned cluster has a date.</p>", "Every planned cluster has a date.")
    text = f"No date is in sight for {len(names):,} clusters: {_listed(names, 12)}."
    return Html(f"<p>{escape(text)}</p>", text)


def members(fleet: Fleet) -> Html:
    """Give each cluster with its version, size and newest sample."""
    rows = fleet.limits.unique("cluster", keep="first", maintain_order=True)
    frame = rows.head(_MOST).select(
        "cluster", "mesh", "state", Cilium="version", newest_sample="time",
        nodes=pl.col("nodes").round(0).cast(pl.Int64),
        endpoints=pl.col("endpoints").round(0).cast(pl.Int64),
        identities=pl.col("identities").round(0).cast(pl.Int64),
    )  # fmt: skip
    return table(frame, f"What the numbers rest on{_of(len(rows))}")
