"""A run as Markdown for an e-mail or a chat: verdict, what breaks first, what changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from capacity.changes import Change
from capacity.telling import amount, resource

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
# What would begin a list, a quote or a heading, and what links by itself
_START: Final = re.compile(r"^(\d*)([-=.)])(?=\s|$)")
_LINK: Final = re.compile(r"(?i)\b(https?|ftp|mailto|www)(:|\.)")
_MOST: Final = 8


def escaped(text: str) -> str:
    r"""Give a text that Markdown shows as it is: nothing in it is markup, HTML or a link.

    >>> escaped("<b> | [x](http://y)")
    '&lt;b&gt; \\| \\[x\\]\\(http&#58;//y\\)'
    """
    plain = " ".join(text.split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _SPECIAL.sub(r"\\\1", plain)
    plain = _START.sub(r"\1\\\2", plain)
    return _LINK.sub(lambda m: m[1] + {":": "&#58;", ".": "&#46;"}[m[2]], plain).replace(
        "@", "&#64;"
    )


def summary(run: dict[str, Any], outcome: dict[str, Any] | None) -> str:
    """Give the summary of a run (the content of run.json) with the outcome of its plan."""
    lines = [f"# Capacity of {escaped(run['cluster'])}", ""]
    if outcome is not None:
        lines += [f"**{outcome['verdict'].capitalize()}.** {escaped(outcome['headline'])}", ""]
        lines += _first(outcome["findings"]) + _advice(outcome["recommendations"])
    lines += changes_lines([Change(**change) for change in run["changes"]], run["previous"])
    failed = {n: told for n, told in run["notebooks"].items() if told["status"] != "ok"}
    if failed:
        lines += ["## Not made", ""]
        lines += [f"- {escaped(n)}: {escaped(told['error'])}" for n, told in failed.items()]
        lines += [""]
    lines += ["## Pages", ""]
    lines += [f"- {escaped(name)}: `{told['page']}`" for name, told in run["notebooks"].items()]
    return "\n".join(lines) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Give a table as lines of Markdown."""
    out = [f"| {' | '.join(heads)} |", f"|{'|'.join(' --- ' for _ in heads)}|"]
    out += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    return [*out, ""]


def _first(findings: Sequence[dict[str, Any]]) -> list[str]:
    seen = [row for row in findings if row["nodes_early"] is not None][:_MOST]
    if not seen:
        return []
    rows = [
        (
            resource(row),
            f"{amount(row['current'], row['unit'])} of {amount(row['limit'], row['unit'])}",
            f"{row['nodes_early']:,}",
            str(row["date_early"] or "–")[:10],
            row["status"],
        )
        for row in seen
    ]
    heads = ("resource", "used", "runs out at nodes", "from", "status")
    return ["## What breaks first", "", *table(heads, rows)]


def _advice(advice: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        (
            str(row["setting"]),
            amount(row["current"], row["unit"]),
            amount(row["target"], row["unit"]),
            row["reason"],
        )
        for row in advice
        if row["status"] in ("raise", "set", "redesign")
    ]
    if not rows:
        return ["## What to set", "", "Nothing has to be set today.", ""]
    return ["## What to set", "", *table(("setting", "now", "set to", "why"), rows)]


def changes_lines(told: Sequence[Change], previous: str | None) -> list[str]:
    """Give what changed since the run before, as lines of Markdown."""
    if previous is None:
        return ["## What changed", "", "This is the first run.", ""]
    since = f"Since {previous}: " + ("nothing changed." if not told else f"{len(told)} changes.")
    rows = [(c.what, c.was, c.now, c.why) for c in told]
    return [
        "## What changed", "", since, "",
        *(table(("what", "was", "is", "why"), rows) if rows else []),
    ]  # fmt: skip
