"""A fleet's results on disk: tables, page, summary, what changed since the run before."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl

from capacity.changes import Change, changes
from capacity.errors import CapacityError, SettingsError
from capacity.fleet.members import Member
from capacity.fleet.overview import Fleet, by_urgency, collected, lent
from capacity.fleet.results import OUTCOME
from capacity.fleet.running import FLEET as FOLDER
from capacity.fleet_settings import FleetSettings
from capacity.manifests.mesh import values
from capacity.report import make
from capacity.report.runs import (
    RUN,
    SCHEMA,
    main_outcome,
    newest,
    read_run,
    shared_library,
    to_json,
)
from capacity.report.site import (
    FIND,
    changes_table,
    document,
    error_page,
    link,
    script,
    state,
    table,
)
from capacity.report.summary import changes_lines, escaped
from capacity.report.summary import table as lines_of
from capacity.tables import BENDS, EVIDENCE
from capacity.telling import amount
from capacity.warm import Start
from capacity.writing import file_name, write
from capacity.writing import told as telling

LABEL: Final = "fleet"
PAGE: Final = "fleet.html"
_TOP: Final = 20
Result = Mapping[str, Any]


def write_fleet(
    out: Path,
    run: str,
    members: Sequence[Member],
    results: Sequence[Result],
    *,
    pages: bool,
    start: Start | None = None,
) -> Path:
    """Write tables, outcome, summary and pages into a folder that appears whole; give it.

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
    start
        Starts the kernel of the notebook `fleet`, whose page is written too; none where left out.

    Raises
    ------
    SettingsError
        If it cannot be written, or such a run is there.
    """
    final = out / FOLDER / run
    if final.exists():
        raise SettingsError(f"{final}: is there already; a run is never overwritten")
    part = out / FOLDER / f".{run}.part"
    for left in (out / FOLDER).glob(".*.part"):
        shutil.rmtree(left, ignore_errors=True)
    fleet, before = collected(members, results), newest(out / FOLDER)
    # Beside the table, since times differ from run to run and equal data give equal bytes
    timing = {result["cluster"]: result["seconds"] for result in results}
    with telling(final):
        for name, frame in (
            ("fleet", fleet.limits), ("advice", fleet.advice), ("mesh", fleet.meshes),
            ("mesh_settings", fleet.mesh_settings),
        ):  # fmt: skip
            parquet = BytesIO()
            frame.write_parquet(parquet)
            write(part / f"{name}.parquet", parquet.getvalue())
            write(part / f"{name}.csv", frame.write_csv())
        for table in (EVIDENCE, BENDS):
            parquet = BytesIO()
            lent(results, table).write_parquet(parquet)
            write(part / f"{table.name}.parquet", parquet.getvalue())
        for path, text in mesh_values(members, fleet.mesh_settings).items():
            write(part / "mesh" / path, text)
        write(part / "timing.json", to_json(timing))
        write(part / OUTCOME, to_json(fleet.outcome))
        error = None if start is None else _notebook(part, fleet, out, start)
        told = _run_json(fleet, before, error, PAGE if start is not None else "index.html")
        write(part / RUN, to_json(told))
        write(part / "summary.md", summary(fleet.outcome, results, told))
        page = fleet_page(fleet.outcome, results, run if pages else None, told)
        write(part / "index.html", page)
        part.replace(final)
    above = page.replace('href="../../', 'href="../')
    write(out / FOLDER / "index.html", above.replace(f'href="{PAGE}"', f'href="{run}/{PAGE}"'))
    return final


def mesh_values(members: Sequence[Member], settings: pl.DataFrame) -> dict[str, str]:
    """Give Helm values of each cluster of a mesh that has something to set, by path."""
    made = {
        f"{file_name(member.mesh)}/{member.folder}.yaml": values(settings, member.name)
        for member in members if member.mesh is not None
    }  # fmt: skip
    return {path: text for path, text in made.items() if text is not None}


def _notebook(part: Path, fleet: Fleet, out: Path, start: Start) -> str | None:
    """Write the page of the notebook `fleet`, or why there is none; give that cause."""
    shared = shared_library(out)
    title = f"Fleet of {fleet.outcome['clusters']:,} clusters"
    try:
        made = make("fleet", FleetSettings(str(part)), start=start, shared=shared, title=title)
    except CapacityError as error:
        text = str(error).replace(str(part), part.name)
        write(part / PAGE, error_page(LABEL, LABEL, text))
        return text
    write(part / PAGE, made.page)
    return None


def _run_json(fleet: Fleet, before: Path | None, error: str | None, page: str) -> dict[str, Any]:
    """Give run.json of the shape that a run of one cluster has: metrics and retention read it."""
    old = None if before is None else main_outcome(before, read_run(before)["notebooks"])
    return {
        "schema": SCHEMA,
        "cluster": LABEL,
        "source": "",
        "notebooks": {
            LABEL: {"status": "failed" if error else "ok", "page": page, "outcome": OUTCOME,
                    "error": error},
        },
        **{key: fleet.outcome[key] for key in ("verdict", "headline", "first_limit")},
        "previous": None if before is None else before.name,
        "changes": [asdict(change) for change in changes(old, fleet.outcome)],
        "pictures": [],
    }  # fmt: skip


def fleet_page(
    told: Mapping[str, Any], results: Sequence[Result], run: str | None, record: Mapping[str, Any]
) -> str:
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
        f'<div class="verdict {told["verdict"]}"><p><strong class="state">'
        f"{told['verdict'].capitalize()}.</strong> {escape(told['headline'])}</p></div>\n"
        f"{_chart_link(record)}"
        f"<h2>What breaks first, where, when</h2>\n{FIND}\n"
        f"{table('Clusters, the most urgent first', heads, rows, name='clusters', numbers=(2, 4))}"
        f"\n<h2>Meshes</h2>\n{_mesh_table(told['meshes'])}\n"
        f"{_settings_table(told['mesh_settings'])}\n<h2>Not planned</h2>\n"
        f"{_failures(told['not_planned'], counts)}\n<h2>What changed</h2>\n"
        f"{changes_table(record)}"
    )
    return document("Fleet", body, script=script())


def _chart_link(record: Mapping[str, Any]) -> str:
    if record["notebooks"][LABEL]["page"] != PAGE:
        return ""
    return f"<p>{link('Charts, what to set, how sure this is', PAGE)}</p>\n"


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


def _settings_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    heads = ("mesh", "cluster", "setting", "now", "to be", "status", "why")
    names = ("mesh", "cluster", "setting", "current", "target", "status", "reason")
    cells = [
        tuple(escape("–" if row[name] is None else str(row[name])) for name in names)
        for row in rows
    ]  # fmt: skip
    return table("Settings so that the clusters can join (values below mesh/)", heads, cells)


def _failures(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> str:
    if not rows:
        return f"<p>All {counts['ok']:,} clusters were planned.</p>"
    cells = [(escape(r["cluster"]), escape(r["state"]), escape(r["error"])) for r in rows]
    return table("Clusters that could not be planned", ("cluster", "state", "why"), cells)


def summary(told: Mapping[str, Any], results: Sequence[Result], record: Mapping[str, Any]) -> str:
    """Give a fleet as Markdown for an e-mail."""
    lines = ["# Fleet", "", f"**{escaped(told['headline'])}**", ""]
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
    lines += changes_lines([Change(**c) for c in record["changes"]], record["previous"])
    return "\n".join(lines).rstrip() + "\n"


def _day(value: str | datetime | None) -> str:
    return "–" if value is None else str(value)[:10]
