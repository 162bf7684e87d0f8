"""An executed notebook as one HTML file that needs no network: charts, tables, no code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capacity.telling import without_secrets

if TYPE_CHECKING:
    from nbconvert.exporters import HTMLExporter
    from nbformat import NotebookNode

_TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"
_CHART: Final = "application/vnd.plotly.v1+json"
_PLOTLY_HERE: Final = "/* plotly.js goes here */"
_HEADING: Final = re.compile(r"^## +(.+?) *$", re.MULTILINE)


def library() -> tuple[str, str]:
    """Give name and text of plotly.js, for pages that share it; its version is in the name."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    return f"plotly-{get_plotlyjs_version()}.min.js", get_plotlyjs()


def page(notebook: NotebookNode, title: str, shared: str | None = None) -> str:
    """Give the page of an executed notebook, whose charts become HTML in place.

    Parameters
    ----------
    notebook
        With its outputs; changed in place.
    title
        Of the page.
    shared
        Where the page finds plotly.js, relative to itself; it holds its own where left out.
    """
    from plotly.offline import get_plotlyjs

    charts = _charts_to_html(notebook)
    words = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = _HEADING.findall("\n".join(words))
    told = {"page_title": title, "headings": {h: _slug(h) for h in headings}, "charts": charts,
            "shared": shared}  # fmt: skip
    made: str = _exporter().from_notebook_node(notebook, resources=told)[0]
    for heading in headings:
        made = made.replace(f"<h2>{heading}</h2>", f'<h2 id="{_slug(heading)}">{heading}</h2>')
    # Last, so that five megabytes are not parsed; once, however many charts there are
    return made.replace(_PLOTLY_HERE, get_plotlyjs() if charts and not shared else "", 1)


@cache
def _exporter() -> HTMLExporter:
    """Give the exporter: its template is compiled once, however many pages there are."""
    from nbconvert.exporters import HTMLExporter

    return HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_anchor_links=True,
    )


def _slug(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _charts_to_html(notebook: NotebookNode) -> int:
    """Turn figures into numbered HTML in place: their title becomes a caption that wraps."""
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(_CHART)
            if figure is not None:
                number += 1
                output["data"] = {"text/html": _chart_html(figure, number)}
    return number


def _chart_html(figure: dict[str, Any], number: int) -> str:
    layout = dict(figure["layout"])
    title = dict(layout.pop("title", {})).get("text", f"Chart {number}").replace("<br>", " ")
    layout["margin"] = {**layout.get("margin", {}), "t": 36}
    layout["height"] = layout.get("height", 450) - 50
    layout["dragmode"] = False
    text = json.dumps(
        {"data": figure["data"], "layout": layout}, sort_keys=True, separators=(",", ":")
    )
    # The title was escaped where it was made; in JSON a < could end the script element
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return (
        f'<figure><figcaption id="chart-{number}-title">{title}</figcaption>'
        f'<div class="scroll"><div id="chart-{number}" class="chart" role="img" tabindex="0" '
        f'aria-labelledby="chart-{number}-title" style="height:{layout["height"]}px"></div></div>'
        f'<script type="application/json" id="chart-{number}-data">{safe}</script></figure>'
    )


def figures(notebook: NotebookNode) -> list[dict[str, Any]]:
    """Give the charts of an executed notebook, as plotly's JSON."""
    return [
        {"data": output["data"][_CHART]["data"], "layout": output["data"][_CHART]["layout"]}
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if _CHART in output.get("data", {})
    ]


def without(text: str, places: Iterable[str], secrets: Iterable[str] = ()) -> str:
    """Take credentials out of a text: those of URLs, and secrets; plain or as in HTML and JSON."""
    hidden = [(place, without_secrets(place)) for place in places]
    hidden += [(secret, "***") for secret in secrets if secret]
    for shown, bare in hidden:
        if bare != shown:
            for form in sorted(_forms(shown), key=len, reverse=True):
                text = text.replace(form, bare)
    return text


def _forms(text: str) -> set[str]:
    """Give the ways in which a text may be written, also one inside of another."""
    from markupsafe import escape as jinja_escape

    written = {text, repr(text)[1:-1], json.dumps(text)[1:-1]}
    written |= {repr(form)[1:-1] for form in written} | {json.dumps(form)[1:-1] for form in written}
    marked = {escape(form) for form in written} | {escape(form, quote=False) for form in written}
    return written | marked | {str(jinja_escape(form)) for form in written}
