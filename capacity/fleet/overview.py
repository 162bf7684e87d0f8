"""A fleet's results as tables and an outcome: what breaks first, where, when, what to set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import polars as pl

from capacity.fleet.members import Member
from capacity.fleet.mesh import meshes, settings_of
from capacity.fleet.tables import ADVICE, FLEET
from capacity.tables import Table, check

SCHEMA: Final = "capacity.fleet/1"
_TOP: Final = 20
_FROM_DRIVERS: Final = ("nodes", "endpoints", "identities", "services")
Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What became of a fleet: one row a limit, a setting to change, a mesh; and its outcome.

    `mesh_settings` is what clusters must be set to, so that they can join their mesh.
    """

    limits: pl.DataFrame
    advice: pl.DataFrame
    meshes: pl.DataFrame
    mesh_settings: pl.DataFrame
    outcome: dict[str, Any]


def collected(members: Sequence[Member], results: Sequence[Result]) -> Fleet:
    """Give the fleet of results, as `work.perform` gives them."""
    named = [(m.name, m.mesh) for m in members]
    mesh, to_set = meshes(named, results), settings_of(named, results)
    told = outcome(results, mesh)
    told["mesh_settings"] = to_set.filter(pl.col("status") != "ok").to_dicts()
    return Fleet(fleet_table(results), advice_table(results), mesh, to_set, told)


def fleet_table(results: Sequence[Result]) -> pl.DataFrame:
    """Give table fleet of results, as `work.perform` gives them."""
    rows = [row for result in results for row in _rows(result)]
    raw = pl.DataFrame(rows, schema={c.name: _raw(c.dtype) for c in FLEET.columns}, orient="row")
    times = [c.name for c in FLEET.columns if c.dtype == FLEET.schema["time"]]
    parsed = pl.col(times).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return check(raw.with_columns(parsed), FLEET)


def advice_table(results: Sequence[Result]) -> pl.DataFrame:
    """Give table fleet_advice: every setting that has to be changed somewhere."""
    rows = [{"cluster": r["cluster"], **row} for r in results for row in r.get("advice", ())]
    return check(pl.DataFrame(rows, schema=ADVICE.schema, orient="row"), ADVICE)


def lent(results: Sequence[Result], table: Table) -> pl.DataFrame:
    """Give table evidence or bends of all clusters, for others to borrow from (--pool)."""
    rows = [
        {**row, "cluster": result["cluster"]}
        for result in results
        for row in result.get(table.name) or []
    ]
    frame = pl.DataFrame(rows, schema={**table.schema, "time": pl.String})
    at = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return check(frame.with_columns(at), table)


def _raw(dtype: Any) -> Any:
    return pl.String if dtype == FLEET.schema["time"] else dtype


def _rows(result: Result) -> list[dict[str, Any]]:
    drivers = result.get("drivers", {})
    shared = {
        "cluster": result["cluster"], "mesh": result["mesh"], "state": result["status"],
        "error": result["error"],
        "version": result.get("version"), "verdict": result.get("verdict"),
        "time": result.get("time"), **{name: drivers.get(name) for name in _FROM_DRIVERS},
    }  # fmt: skip
    blank = {c.name: None for c in FLEET.columns}
    return [blank | shared | found for found in result.get("findings") or [{}]]


def outcome(results: Sequence[Result], mesh: pl.DataFrame) -> dict[str, Any]:
    """Give what a program needs: counts, verdict, what breaks first, meshes, failures.

    `findings` has one row a cluster in the shape of a plan's, so that what compares two plans
    compares two fleets.
    """
    states = Counter(result["status"] for result in results)
    verdicts = Counter(str(r["verdict"]) for r in results if r["status"] == "ok")
    short = verdicts["short"] or "short" in set(mesh["status"])
    urgent = by_urgency(results)
    first = urgent[0] if urgent else None
    told = {
        "schema": SCHEMA,
        "clusters": len(results),
        "states": {name: states[name] for name in ("ok", "failed", "late")},
        "verdicts": {name: verdicts[name] for name in ("short", "fits", "unknown")},
        "verdict": "short" if short else "fits" if verdicts["fits"] else "unknown",
        "first_limit": None if first is None else {
            **first["first_limit"],
            "resource": f"{first['cluster']}: {first['first_limit']['resource']}",
        },
        "first": [{"cluster": r["cluster"], **r["first_limit"]} for r in urgent[:_TOP]],
        "meshes": mesh.with_columns(
            pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        ).to_dicts(),
        "not_planned": [
            {"cluster": r["cluster"], "state": r["status"], "error": r["error"]}
            for r in results if r["status"] != "ok"
        ],
        "findings": list(_findings(results)),
        "recommendations": [],
        "warnings": [],
        "versions": {"capacity": version("cilium-capacity")},
    }  # fmt: skip
    return {**told, "headline": headline(told)}


def _findings(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """Give a row a cluster: when its first limit is reached, and how it stands now."""
    for result in results:
        first = result.get("first_limit") or {}
        yield {
            "component": "cluster", "subject": result["cluster"],
            "quantity": first.get("resource"), "unit": "1", "kind": first.get("kind"),
            "current": result.get("drivers", {}).get("nodes"), "limit": None, "usage": None,
            "nodes_early": first.get("nodes"), "date_early": first.get("date"),
            "status": result.get("verdict") or result["status"],
        }  # fmt: skip


def by_urgency(results: Sequence[Result]) -> list[Result]:
    """Give the results with a limit in sight: short ones first, then by date and node count."""
    seen = [r for r in results if r["status"] == "ok" and r["first_limit"]]

    def order(result: Result) -> tuple[Any, ...]:
        first = result["first_limit"]
        now = result["drivers"].get("nodes") or 1.0
        return (result["verdict"] != "short", first["date"] or "9999", first["nodes"] / now,
                result["cluster"])  # fmt: skip

    return sorted(seen, key=order)


def headline(told: Mapping[str, Any]) -> str:
    """Say what the fleet is like in one or two sentences, made from its outcome."""
    short, ok = told["verdicts"]["short"], told["states"]["ok"]
    text = f"{short:,} of {ok:,} planned clusters {_run(short)} short within their horizon"
    if told["first"]:
        first = told["first"][0]
        text += f"; first is {first['cluster']}: {first['resource']} at {first['nodes']:,} nodes"
        text += f" from {first['date']}" if first["date"] else ""
    full = [m["mesh"] for m in told["meshes"] if m["status"] == "short"]
    text += f"; full meshes: {', '.join(full)}" if full else ""
    lost = told["clusters"] - ok
    if not lost:
        return text + "."
    return f"{text}. {lost:,} {'cluster' if lost == 1 else 'clusters'} could not be planned."


def _run(count: int) -> str:
    return "runs" if count == 1 else "run"
