"""Index pages over runs and clusters: plain HTML that needs no network and no program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

_TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates" / "report"
_STATES: Final = {"fits": "Fits", "short": "Short", "unknown": "Unknown"}
Row = Sequence[str]
# A field that hides the rows of the table `clusters` without its text
FIND: Final = (
    '<p class="find"><label for="find">Find</label> <input id="find" type="search" '
    'autocomplete="off"> <span id="found" role="status"></span></p>'
)


def document(title: str, body: str, *, script: str = "") -> str:
    """Give a whole page around a body, in the style of the reports.

    The policy lets nothing be loaded and no foreign program run, should anything slip through.
    """
    program = f"<script>{script}</script>" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_style('report.css')}{_style('site.css')}"
        f'</style>\n</head>\n<body>\n<a class="skip" href="#content">Skip to content</a>\n'
        f'<main id="content">\n{body}\n</main>\n{program}\n</body>\n</html>\n'
    )


@cache
def _style(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def script() -> str:
    """Give the program that sorts and finds in the table `clusters`; nothing needs it."""
    return _style("site.js")


def link(text: str, *parts: str) -> str:
    """Give a link to a file below; names cannot leave the folder or the attribute."""
    return f'<a href="{escape(quote("/".join(parts)))}">{escape(text)}</a>'


def state(verdict: str | None) -> str:
    """Give a verdict as a word with its color."""
    kind = verdict if verdict in _STATES else "unknown"
    return f'<span class="badge {kind}">{_STATES.get(str(verdict), "Failed")}</span>'


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Row], *, name: str = "",
    numbers: Sequence[int] = (),
) -> str:  # fmt: skip
    """Give a table of cells that are HTML already; the first one names its row."""
    look = ["num" if i in numbers else "" for i in range(len(heads))]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(text)}</th>'
        for text, kind in zip(heads, look, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if not i else f'<td class="{look[i]}">{cell}</td>'
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    mark = f' id="{name}"' if name else ""
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table{mark}><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def error_page(label: str, notebook: str, text: str) -> str:
    """Give the page of a notebook that failed: the cause, and what is not affected."""
    return document(
        f"{notebook} of {label} was not made",
        f"<h1>Notebook {escape(notebook)} of {escape(label)} was not made</h1>\n"
        f'<div class="verdict short"><p><strong class="state">Failed.</strong> {escape(text)}</p>'
        "</div>\n<p>Other pages of this run are not affected. Run the same command again once the "
        "cause is mended.</p>\n<p>" + link("All pages of this run", "index.html") + "</p>",
    )


def run_page(run: Mapping[str, Any]) -> str:
    """Give the front page of a run: verdict, pages, what changed since the last one."""
    label = str(run["cluster"])
    told = escape(run["headline"] or "No notebook of this run gave a verdict.")
    kind = run["verdict"] if run["verdict"] in _STATES else "unknown"
    pages = [
        (link(name, row["page"]), escape(row["status"]), escape(row["error"] or "–"))
        for name, row in run["notebooks"].items()
    ]
    files = [f for f in ("outcome.json" if run["verdict"] else "", "summary.md", "run.json") if f]
    files += run["pictures"]
    body = (
        f"<h1>Capacity of {escape(label)}</h1>\n"
        f'<div class="verdict {kind}"><p><strong class="state">'
        f"{_STATES.get(str(run['verdict']), 'Unknown')}.</strong> {told}</p></div>\n"
        f"<h2>Pages</h2>\n{table('Pages of this run', ('page', 'status', 'why'), pages)}\n"
        f"<h2>What changed</h2>\n{changes_table(run)}\n<h2>Files</h2>\n<p>"
        + " · ".join(link(name, *name.split("/")) for name in files)
        + '</p>\n<p><a href="../index.html">All runs of this cluster</a></p>'
    )
    return document(f"Capacity of {label}", body)


def changes_table(run: Mapping[str, Any]) -> str:
    """Give what changed since the run before, and why."""
    if run["previous"] is None:
        return "<p>This is the first run.</p>"
    if not run["changes"]:
        return f"<p>Nothing changed since {escape(run['previous'])}.</p>"
    rows = [
        tuple(escape(change[key]) for key in ("what", "was", "now", "why"))
        for change in run["changes"]
    ]
    return table(f"{len(rows)} changes since {run['previous']}", ("what", "was", "is", "why"), rows)


def cluster_page(label: str, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Give the index over the runs of a cluster, newest first."""
    rows = [
        (
            link(name, name, "index.html"),
            state(run["verdict"]),
            escape(run["headline"] or "–"),
            str(len(run["changes"])),
            str(sum(row["status"] != "ok" for row in run["notebooks"].values())),
        )
        for name, run in runs
    ]
    heads = ("run", "verdict", "headline", "changes", "failed pages")
    body = (
        f"<h1>Runs of {escape(label)}</h1>\n"
        f"{table(f'{len(rows)} runs, newest first', heads, rows, numbers=(3, 4))}\n"
        '<p><a href="../index.html">All clusters</a></p>'
    )
    return document(f"Runs of {label}", body)


def clusters_page(clusters: Sequence[tuple[str, str, Mapping[str, Any]]], more: str = "") -> str:
    """Give the index over clusters: (folder, newest run, its run.json), what is short first."""
    order = {"short": 0, None: 1, "unknown": 2, "fits": 3}
    chosen = sorted(clusters, key=lambda c: (order.get(c[2]["verdict"], 1), _soon(c[2]), c[0]))
    rows = [_cluster_row(*item) for item in chosen]
    short = sum(run["verdict"] == "short" for _, _, run in clusters)
    heads = ("cluster", "verdict", "first to run out", "at nodes", "from", "changes", "newest run")
    body = (
        f"<h1>Capacity of {len(rows):,} clusters</h1>\n<p>{short:,} of {len(rows):,} run short "
        f"within their horizon.</p>\n{more}\n{FIND}\n"
        f"{table('Clusters, what is short first', heads, rows, name='clusters', numbers=(3, 5))}"
    )
    return document("Capacity of clusters", body, script=script())


def _soon(run: Mapping[str, Any]) -> str:
    return str((run["first_limit"] or {}).get("date") or "9999")


def _cluster_row(folder: str, name: str, run: Mapping[str, Any]) -> Row:
    first = run["first_limit"] or {}
    nodes = first.get("nodes")
    return (
        link(run["cluster"], folder, "index.html"),
        state(run["verdict"]),
        escape(str(first.get("resource") or "–")),
        "–" if nodes is None else f"{nodes:,}",
        escape(str(first.get("date") or "–")),
        str(len(run["changes"])),
        link(name, folder, name, "index.html"),
    )
