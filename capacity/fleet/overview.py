"""A fleet's results as tables, a page, a summary: what breaks first, where, when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity.errors import SettingsError
from capacity.findings import amount
from capacity.fleet.members import Member
from capacity.fleet.mesh import meshes
from capacity.fleet.running import FLEET as FOLDER
from capacity.fleet.tables import FLEET
from capacity.report.runs import to_json
from capacity.report.site import FIND, document, link, script, state, table
from capacity.report.summary import escaped
from capacity.report.summary import table as lines_of
from capacity.tables import EVIDENCE, check
from capacity.writing import file_name, write
from capacity.writing import told as telling

SCHEMA: Final = "capacity.fleet/1"
_TOP: Final = 20
_FROM_DRIVERS: Final = ("nodes", "endpoints", "identities", "services")
Result = Mapping[str, Any]


def fleet_table(results: Sequence[Result]) -> pl.DataFrame:
    """Give table fleet of results, as `work.perform` gives them."""
    rows = [row for result in results for row in _rows(result)]
    raw = pl.DataFrame(rows, schema={c.name: _raw(c.dtype) for c in FLEET.columns}, orient="row")
    times = [c.name for c in FLEET.columns if c.dtype == FLEET.schema["time"]]
    parsed = pl.col(times).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return check(raw.with_columns(parsed), FLEET)


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


def outcome(members: Sequence[Member], results: Sequence[Result]) -> dict[str, Any]:
    """Give what a program needs: counts, verdict, what breaks first, meshes, failures."""
    states = Counter(result["status"] for result in results)
    verdicts = Counter(str(r["verdict"]) for r in results if r["status"] == "ok")
    mesh = meshes([(m.name, m.mesh) for m in members], results)
    short = verdicts["short"] or "short" in set(mesh["status"])
    return {
        "schema": SCHEMA,
        "clusters": len(results),
        "states": {name: states[name] for name in ("ok", "failed", "late")},
        "verdicts": {name: verdicts[name] for name in ("short", "fits", "unknown")},
        "verdict": "short" if short else "fits" if verdicts["fits"] else "unknown",
        "first": [
            {"cluster": r["cluster"], **r["first_limit"]} for r in by_urgency(results)[:_TOP]
        ],
        "meshes": mesh.with_columns(
            pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        ).to_dicts(),
        "not_planned": [
            {"cluster": r["cluster"], "state": r["status"], "error": r["error"]}
            for r in results if r["status"] != "ok"
        ],
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


def evidence_table(results: Sequence[Result]) -> pl.DataFrame:
    """Give table evidence of all clusters, for others to borrow costs from (--pool)."""
    rows = [
        {**row, "cluster": result["cluster"]}
        for result in results
        for row in result.get("evidence") or []
    ]
    frame = pl.DataFrame(rows, schema={**EVIDENCE.schema, "time": pl.String})
    at = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return check(frame.with_columns(at), EVIDENCE)


def write_fleet(
    out: Path, run: str, members: Sequence[Member], results: Sequence[Result], *, pages: bool
) -> Path:
    """Write tables, outcome, summary and page into a folder that appears whole; give it.

    Parameters
    ----------
    out
        Folder of all runs.
    run
        Name of this one.
    members, results
        The fleet and what became of it.
    pages
        Whether the clusters have pages to link to.

    Raises
    ------
    SettingsError
        If it cannot be written, or such a run is there.
    """
    final = out / FOLDER / run
    if final.exists():
        raise SettingsError(f"{final}: is there already; a run is never overwritten")
    part = out / FOLDER / f".{run}.part"
    frame, whole = fleet_table(results), outcome(members, results)
    parquet, sums = BytesIO(), BytesIO()
    frame.write_parquet(parquet)
    evidence_table(results).write_parquet(sums)
    # Beside the table, since times differ from run to run and equal data give equal bytes
    timing = {result["cluster"]: result["seconds"] for result in results}
    page = fleet_page(whole, results, run if pages else None)
    with telling(final):
        write(part / "fleet.parquet", parquet.getvalue())
        write(part / "evidence.parquet", sums.getvalue())
        write(part / "fleet.csv", frame.write_csv())
        write(part / "timing.json", to_json(timing))
        write(part / "outcome.json", to_json(whole))
        write(part / "summary.md", summary(whole, results))
        write(part / "index.html", page)
        part.replace(final)
    write(out / FOLDER / "index.html", page.replace('href="../../', 'href="../'))
    return final


def fleet_page(told: Mapping[str, Any], results: Sequence[Result], run: str | None) -> str:
    """Give the page of a fleet; `run` is the run of the clusters' pages, where there are any."""
    counts = told["states"]
    rows = [_cluster_row(result, run) for result in [*by_urgency(results), *_others(results)]]
    heads = (
        "cluster",
        "verdict",
        "nodes",
        "first to run out",
        "at nodes",
        "from",
        "chance",
        "mesh",
    )
    body = (
        f"<h1>Fleet of {told['clusters']:,} clusters</h1>\n"
        f'<div class="verdict {told["verdict"]}"><p>{escape(headline(told))}</p></div>\n'
        f"<h2>What breaks first, where, when</h2>\n{FIND}\n"
        f"{table('Clusters, the most urgent first', heads, rows, name='clusters', numbers=(2, 4))}"
        f"\n<h2>Meshes</h2>\n{_mesh_table(told['meshes'])}\n<h2>Not planned</h2>\n"
        f"{_failures(told['not_planned'], counts)}"
    )
    return document("Fleet", body, script=script())


def headline(told: Mapping[str, Any]) -> str:
    """Say what the fleet is like in one or two sentences, made from its outcome."""
    short, ok = told["verdicts"]["short"], told["states"]["ok"]
    text = f"{short:,} of {ok:,} planned clusters run short within their horizon"
    if told["first"]:
        first = told["first"][0]
        text += f"; first is {first['cluster']}: {first['resource']} at {first['nodes']:,} nodes"
        text += f" from {first['date']}" if first["date"] else ""
    full = [m["mesh"] for m in told["meshes"] if m["status"] == "short"]
    text += f"; full meshes: {', '.join(full)}" if full else ""
    lost = told["clusters"] - ok
    return text + (f". {lost:,} clusters could not be planned." if lost else ".")


def _others(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r["status"] != "ok" or not r["first_limit"]]


def _cluster_row(result: Result, run: str | None) -> Sequence[str]:
    name, first = result["cluster"], result.get("first_limit") or {}
    shown = escape(name)
    if run is not None and result["status"] == "ok":
        shown = link(name, "..", "..", file_name(name), run, "index.html")
    nodes = result.get("drivers", {}).get("nodes")
    chance = first.get("probability_within_horizon")
    return (
        shown,
        state(result.get("verdict")),
        "–" if nodes is None else f"{nodes:,.0f}",
        escape(str(first.get("resource") or "–")),
        f"{first['nodes']:,}" if first else "–",
        escape(str(first.get("date") or "–")),
        "–" if chance is None else f"{chance:.0%}",
        escape(result["mesh"] or "–"),
    )


def _mesh_cells(mesh: Mapping[str, Any]) -> tuple[str, ...]:
    full = mesh["nodes_full"]
    return (
        str(mesh["mesh"]), str(mesh["resource"]), str(mesh["kind"]),
        f"{mesh['counted']} of {mesh['clusters']}",
        "–" if mesh["nodes"] is None else f"{mesh['nodes']:,.0f}",
        "–" if mesh["identities"] is None else f"{mesh['identities']:,.0f}",
        f"{amount(mesh['current'], '1')} of {amount(mesh['limit'], '1')}",
        "–" if full is None else f"{full:,}", _day(mesh["date_early"]), str(mesh["status"]),
    )  # fmt: skip


_MESH_HEADS: Final = (
    "mesh", "resource", "kind", "clusters counted", "nodes", "identities", "used", "full at nodes",
    "from", "status",
)  # fmt: skip


def _mesh_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No cluster of FLEET.yaml names a mesh.</p>"
    cells = [tuple(escape(cell) for cell in _mesh_cells(mesh)) for mesh in rows]
    return table("What the clusters of a mesh fill together", _MESH_HEADS, cells)


def _failures(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> str:
    if not rows:
        return f"<p>All {counts['ok']:,} clusters were planned.</p>"
    cells = [(escape(r["cluster"]), escape(r["state"]), escape(r["error"])) for r in rows]
    return table(f"{len(rows)} clusters could not be planned", ("cluster", "state", "why"), cells)


def summary(told: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Give a fleet as Markdown for an e-mail."""
    lines = ["# Fleet", "", f"**{escaped(headline(told))}**", ""]
    rows = [
        (r["cluster"], str(r["verdict"]), r["first_limit"]["resource"],
         f"{r['first_limit']['nodes']:,}", str(r["first_limit"]["date"] or "–"))
        for r in by_urgency(results)[:_TOP]
    ]  # fmt: skip
    if rows:
        heads = ("cluster", "verdict", "first to run out", "at nodes", "from")
        lines += ["## What breaks first", "", *lines_of(heads, rows)]
    if told["meshes"]:
        lines += ["## Meshes", "", *lines_of(_MESH_HEADS, map(_mesh_cells, told["meshes"]))]
    if told["not_planned"]:
        lost = [(r["cluster"], r["state"], r["error"]) for r in told["not_planned"]]
        lines += ["## Not planned", "", *lines_of(("cluster", "state", "why"), lost)]
    return "\n".join(lines).rstrip() + "\n"


def _day(value: str | datetime | None) -> str:
    return "–" if value is None else str(value)[:10]
