"""What a plan's forecasts rest on, for people: tables and words."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from capacity.planning import Plan
from capacity.telling import amount, resource

# A part from elsewhere that is worth a word in a title
_MUCH: Final = 0.02
# Drivers as people call them
_WORDS: Final = {
    "endpoints": "pods",
    "endpoints_per_node": "pods of a node",
    "policy_entries": "policy entries of a node",
    "map_bytes": "bytes of maps",
    "services": "frontends of services",
}


def driver(name: str) -> str:
    """Name a driver for people.

    >>> driver("endpoints_per_node"), driver("nodes")
    ('pods of a node', 'nodes')
    """
    return _WORDS.get(name, name)


def moved_by(plan: Plan) -> dict[str, str]:
    """Give resource → the one driver that matters most to it, and its part of the forecast."""
    return {
        resource(row): f"{driver(row['driver'])} ({row['share']:.0%})"
        for row in plan.causes.drop_nulls("driver").iter_rows(named=True)
    }


def causes(plan: Plan) -> pl.DataFrame:
    """Give a row a forecast, what runs out first on top: what matters most, its doubt."""
    order = _order(plan)
    rows = sorted(plan.causes.iter_rows(named=True), key=lambda row: order[resource(row)])
    return pl.DataFrame([_cause(row) for row in rows])


def _order(plan: Plan) -> dict[str, tuple[int, str]]:
    """Give resource → what it is sorted by: what runs out first comes first."""
    ranks = {resource(row): row["rank"] for row in plan.exhaustion.iter_rows(named=True)}
    names = [resource(row) for row in plan.causes.iter_rows(named=True)]
    return {name: (ranks.get(name) or len(ranks) + 1, name) for name in names}


def parts(plan: Plan) -> pl.DataFrame:
    """Give forecast, part, share of it 0…1, believed: of each forecast, in the order of causes."""
    order = _order(plan)
    rows = [
        {"forecast": resource(row), "part": row["part"], "share": max(row["share"], 0.0),
         "believed": row["basis"] == "prior"}
        for row in plan.explanation.iter_rows(named=True)
    ]  # fmt: skip
    rows.sort(key=lambda row: order[str(row["forecast"])])
    return pl.DataFrame(rows)


def headline(plan: Plan) -> str:
    """Say which driver matters most to most forecasts, and how much is only believed."""
    known = plan.causes.drop_nulls("driver")
    if known.is_empty():
        return "Nothing moves any forecast"
    counted = known.group_by("driver").len().sort("len", "driver", descending=[True, False])
    first = counted.row(0, named=True)
    text = (
        f"{driver(first['driver'])} matter most to {first['len']} of {len(plan.causes)} forecasts"
    )
    most = plan.causes.sort("believed", descending=True).row(0, named=True)
    if most["believed"] >= _MUCH:
        text += f"; of {resource(most)} {most['believed']:.0%} are costs from elsewhere"
    return text


def _cause(row: dict[str, Any]) -> dict[str, Any]:
    share, second = row["share"], row["second"]
    doubt = None
    if row["doubt"] is not None:
        swing = "" if row["doubt_share"] is None else f" (±{row['doubt_share'] / 2:.0%})"
        doubt = f"{row['doubt']}{swing}"
    return {
        "forecast": resource(row),
        "at nodes": row["nodes"],
        "matters most": "nothing: it stands still" if share is None else driver(row["driver"]),
        "its part": None if share is None else f"{share:.0%}",
        "1 % more of it": None if share is None else _more(row),
        "then": None if second is None else f"{driver(second)} ({row['second_share']:.0%})",
        "always there": f"{max(row['always'], 0):.0%}",
        "from elsewhere": f"{row['believed']:.0%}",
        "most doubt": doubt,
    }


def _more(row: dict[str, Any]) -> str:
    value, unit = row["per_percent"], row["unit"]
    small = f"{value:.2g}" + ("m" if unit == "millicore" else "")
    return "+" + (small if unit != "byte" and value < 10 else amount(value, unit))


def made_of(plan: Plan) -> pl.DataFrame:
    """Take what runs out first, and the agents' memory, apart: shares, doubt, where costs are from.

    Columns resource, part, low, mean, high, share, learnt, basis: of table explanation.
    """
    names = [resource(row) for row in plan.explanation.iter_rows(named=True)]
    rows = plan.explanation.with_columns(resource=pl.Series(names, dtype=pl.String))
    asked = {"agent memory"}
    if len(plan.exhaustion):
        asked.add(resource(plan.exhaustion.sort("rank").row(0, named=True)))
    return (
        rows.filter(pl.col("resource").is_in(sorted(asked)))
        .select("resource", "nodes", "part", low="q05", mean="mean", high="q95", share="share",
                learnt="learnt", basis="basis")
        .sort("resource", "share", descending=[False, True])
    )  # fmt: skip
