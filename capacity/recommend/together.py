"""Rows that bear on each other: maps that share a setting, and what the agent says of them all.

Nothing leaves this room that an agent would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from capacity import facts
from capacity.cilium.map_sizes import CT_ANY, CT_TCP, NAT, RATIO, Finding, dynamic_sizes, validate
from capacity.recommend.cost import map_cost
from capacity.recommend.present import Present, helm_value, option_of
from capacity.tables import CHANGES, RECOMMENDATION, check

Rows = list[dict[str, Any]]


def one_a_setting(rows: Rows) -> Rows:
    """Let maps that share a setting agree: the largest target holds for all.

    One row changes the setting, the others say that they hold with it.
    """
    groups: dict[str, Rows] = {}
    for row in rows:
        if row["component"] == "map" and row["target"] is not None:
            groups.setdefault(row["setting"], []).append(row)
    changed: dict[int, dict[str, Any]] = {}
    for setting, group in groups.items():
        if len(group) > 1:
            leader = max(group, key=lambda row: row["target"])
            for row in group:
                if row is not leader and row["target"] != row["current"]:
                    changed[id(row)] = _led(row, leader, setting)
    return [changed.get(id(row), row) for row in rows]


def _led(row: dict[str, Any], leader: dict[str, Any], setting: str) -> dict[str, Any]:
    told = f"{row['reason'].split(';')[0]}; {setting} is decided by {leader['subject']}"
    return row | {
        "target": leader["target"], "status": "ok", "reason": told, "cost": None, "restart": None,
    }  # fmt: skip


def with_exact(advice: pl.DataFrame, exact: pl.DataFrame) -> pl.DataFrame:
    """Add rows that rest on exact counts; of two rows about a setting the larger target holds.

    So an exact count vetoes a smaller size that a trend suggests, and the other way round. A row
    that takes another's place takes its rank; a change of its own stands before what is only
    lowered.

    Parameters
    ----------
    advice, exact
        Table recommendation.
    """
    theirs, more = advice.to_dicts(), []
    for row in exact.to_dicts():
        same = [one for one in theirs if one["setting"] == row["setting"]]
        if not same:
            more.append(row)
        elif row["target"] is None or row["target"] > max(one["target"] or 0.0 for one in same):
            at = theirs.index(same[0])
            theirs = [one for one in theirs if one["setting"] != row["setting"]]
            theirs.insert(at, row)
    theirs += more
    theirs.sort(key=lambda row: row["status"] == "lower")
    ranked = [row | {"rank": i} for i, row in enumerate(theirs, start=1)]
    return check(pl.DataFrame(ranked, schema=RECOMMENDATION.schema), RECOMMENDATION)


def accepted(rows: Rows, present: Present) -> Rows:
    """Change rows until an agent takes the options as they are then.

    NAT that would be more than two thirds of the connection tables: they are not lowered, else
    the TCP table is raised. What the agent still refuses becomes status `error` with its words.
    """
    known = {finding.message for finding in _findings([], present)}
    mends = [_keep_tables, _raise_tcp]
    while found := _new(rows, present, known):
        out_of_bounds = [finding for finding in found if finding.option != NAT]
        if mends and not out_of_bounds:
            rows = mends.pop(0)(rows, present)
            continue
        refused = {helm_value(finding.option, present.version): finding for finding in found}
        made = [
            _refused(row, refused[row["setting"]]) if row["setting"] in refused else row
            for row in rows
        ]
        if made == rows:
            break  # not a change of ours, or one that bears on another option's finding
        rows = made
    return rows


def _new(rows: Rows, present: Present, known: set[str]) -> list[Finding]:
    """Errors and warnings that only the changes bring."""
    found = _findings(rows, present)
    return [f for f in found if f.level != "info" and f.message not in known]


def _findings(rows: Rows, present: Present) -> list[Finding]:
    options = options_after(rows, present)
    return validate(options, version=present.version, memory_bytes=present.memory)


def options_after(rows: Rows, present: Present) -> dict[str, str]:
    """Give the agent's options with all changes made."""
    out = dict(present.options)
    for row in rows:
        option = option_of(row["setting"], present.version) if row["status"] in CHANGES else None
        if option is not None and row["target"] is not None:
            out[option] = str(round(row["target"]))
    return out


def _keep_tables(rows: Rows, present: Present) -> Rows:
    tables = {helm_value(option, present.version) for option in (CT_TCP, CT_ANY)}
    why = "; kept: NAT may be two thirds of the connection tables at most"
    return [
        row | {"target": row["current"], "status": "ok", "reason": row["reason"] + why,
               "cost": None, "restart": None}
        if row["setting"] in tables and row["status"] == "lower" else row
        for row in rows
    ]  # fmt: skip


def _raise_tcp(rows: Rows, present: Present) -> Rows:
    """Raise the TCP table to what NAT needs: 3/2 of NAT less the other table, rounded up."""
    options = options_after(rows, present)
    sizes = _sizes(options, present)
    if NAT not in options:
        return rows
    wanted = -(-int(options[NAT]) * 3 // 2) - sizes[CT_ANY]
    most = int(facts.dynamic(present.version).filter(option=CT_TCP)["limit_max"][0])
    target = min(float(1 << max(wanted - 1, 1).bit_length()), float(most))
    setting = helm_value(CT_TCP, present.version)
    nat = helm_value(NAT, present.version)
    # NAT may be set without a metric that tells of it: then there is no row of its own
    leader = next((row for row in rows if row["setting"] == nat), rows[0])
    made = leader | {
        "component": "map", "unit": "1", "subject": "ct4_global", "setting": setting,
        "current": float(sizes[CT_TCP]),
        "target": target, "lower": float(wanted), "upper": float(most), "status": "raise",
        "reason": f"NAT of {int(options[NAT]):,} may be two thirds of the connection tables at "
        "most", "cost": map_cost(setting, sizes[CT_TCP], target, 0.0, present, 1.0, "ct4_global"),
        "restart": True, "alternative": None,
    }  # fmt: skip
    at = next((i for i, row in enumerate(rows) if row["setting"] == setting), None)
    if at is None:
        return [*rows, dict.fromkeys(RECOMMENDATION.schema) | made]
    kept = {key: rows[at][key] for key in ("cluster", "component", "subject")}
    return [*rows[:at], made | kept, *rows[at + 1 :]]


def _sizes(options: Mapping[str, str], present: Present) -> dict[str, int]:
    """Give the connection tables then: explicit, else dynamic, else the least there can be."""
    explicit = {
        name: int(options[name])
        for name in (CT_TCP, CT_ANY, NAT)
        if options.get(name, "").isdecimal()
    }
    if present.memory is not None:
        ratio = float(options.get(RATIO, "0.0025"))
        return dynamic_sizes(present.memory, ratio, version=present.version, explicit=explicit)
    least = facts.dynamic(present.version).select("option", "minimum")
    return dict(least.iter_rows()) | explicit


def _refused(row: dict[str, Any], finding: Finding) -> dict[str, Any]:
    if row["status"] not in CHANGES:
        return row
    return row | {
        "status": "error", "target": None, "cost": None, "restart": None,
        "reason": f"{row['reason']}; but an agent would not take it: {finding.message}",
    }  # fmt: skip


def within_reach(rows: Rows, provider: str | None) -> Rows:
    """Leave only what users of a managed service can change; of the rest, say whom to ask."""
    if provider is None:
        return rows
    fact = facts.managed().filter(provider=provider).row(0, named=True)
    if fact["helm"]:
        return [row | {"alternative": fact["instead"]} if _changes(row) else row for row in rows]
    nothing = dict.fromkeys(("target", "cost", "cost_total", "money", "restart", "side_effect"))
    return [
        row | nothing | {
            "status": "redesign", "alternative": fact["instead"],
            "reason": f"{row['reason']}; {row['setting']} is not yours to set on {fact['name']}",
        }
        if _changes(row) else row
        for row in rows
    ]  # fmt: skip


def _changes(row: dict[str, Any]) -> bool:
    return row["status"] in CHANGES
