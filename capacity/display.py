"""A plan as HTML for notebooks: accessible tables, numbers with units, everything escaped.

Label values come from outside; nothing here passes them on as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from importlib.metadata import version
from typing import Any, Final

import polars as pl

from capacity import shipped
from capacity.manifests import manifests as manifest_texts
from capacity.planning import Plan
from capacity.printing import cell
from capacity.scenario_settings import ScenarioSettings
from capacity.settings import DEMO, PlanSettings
from capacity.tables import CHANGES
from capacity.telling import amount, resource, without_secrets

_LONGEST_LINE: Final = 12
_LONGEST_NAME: Final = 34
_WIDE: Final = 60
# More rows than this are scrolled in a page, so that a reader finds what comes after
_LONG: Final = 24
_AMOUNT: Final = re.compile(r"[+-]?[\d.,]+( ?(%|[KMGTPE]?i?B|m|x))?|–")
_STATES: Final = {"fits": "Fits", "short": "Short", "unknown": "Unknown"}


@dataclass(frozen=True, slots=True, repr=False)
class Html:
    """HTML that a notebook shows as it is; `text` is for places that show none."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def table(frame: pl.DataFrame, caption: str, *, empty: str = "Nothing to show.") -> Html:
    """Give a frame as an HTML table; its first column names the rows.

    Parameters
    ----------
    frame
        Texts, numbers and dates; column names become heads.
    caption
        What the table tells, in one sentence.
    empty
        Said instead of a table without rows.

    Examples
    --------
    >>> table(pl.DataFrame({"map": ["<b>"], "entries": [65536]}), "Maps").text
    'Maps: 1 row'
    """
    if frame.is_empty():
        return Html(f"<p>{escape(empty)}</p>", empty)
    cells = [[cell(value) for value in row] for row in frame.iter_rows()]
    right = [all(_AMOUNT.fullmatch(row[i]) for row in cells) for i in range(frame.width)]
    wide = [max(len(row[i]) for row in cells) >= _WIDE for i in range(frame.width)]
    head = "".join(
        f'<th scope="col"{_look(is_right, is_wide=is_wide)}>{escape(name.replace("_", " "))}</th>'
        for name, is_right, is_wide in zip(frame.columns, right, wide, strict=True)
    )
    body = "".join(f"<tr>{_row(row, right)}</tr>" for row in cells)
    look = "table long" if len(frame) > _LONG else "table"
    html = (
        f'<div class="{look}" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
    return Html(html, f"{caption}: {len(frame)} {'row' if len(frame) == 1 else 'rows'}")


def _row(row: list[str], right: list[bool]) -> str:
    first, *rest = row
    out = f'<th scope="row"{_look(right[0], first, _LONGEST_NAME)}>{escape(first)}</th>'
    for text, is_right in zip(rest, right[1:], strict=True):
        out += f"<td{_look(is_right, text)}>{escape(text)}</td>"
    return out


def _look(
    is_right: bool, text: str = "", longest: int = _LONGEST_LINE, *, is_wide: bool = False
) -> str:
    """Align and keep short texts such as dates on one line; Jupyter aligns all to the right.

    A column of sentences gets some room, or it would be squeezed to a word a line.
    """
    one_line = ";white-space:nowrap" if 0 < len(text) <= longest else ""
    room = ";min-width:16em" if is_wide else ""
    return f' style="text-align:{"right" if is_right else "left"}{one_line}{room}"'


def verdict(plan: Plan) -> Html:
    """Give the answer: does it fit, and what breaks first."""
    return answer(plan.verdict, _STATES[plan.verdict], plan.headline, _key_facts(plan))


def answer(kind: str, word: str, text: str, told: Mapping[str, str] | None = None) -> Html:
    """Give an answer in a box: a word in its color, a sentence, some numbers.

    Parameters
    ----------
    kind
        Color: fits, short, unknown.
    word, text
        The answer in a word, and in a sentence.
    told
        Numbers with their names.

    Examples
    --------
    >>> answer("fits", "Held", "90 % of 100 forecasts held.").text
    'Held. 90 % of 100 forecasts held.'
    """
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in (told or {}).items()
    )
    html = (
        f'<div class="verdict {kind}"><p><strong class="state">{escape(word)}.</strong> '
        f"{escape(text)}</p>{f'<dl>{rows}</dl>' if rows else ''}</div>"
    )
    return Html(html, f"{word}. {text}")


def _key_facts(plan: Plan) -> dict[str, str]:
    seen = plan.growth["observed"].drop_nulls()
    ahead = plan.growth.drop_nulls("q50").tail(1)
    short = plan.exhaustion.filter(pl.col("status") == "short")
    change = plan.recommendation.filter(pl.col("status").is_in([*CHANGES, "redesign", "error"]))
    out = {"Nodes today": cell(round(seen[-1])) if len(seen) else "–"}
    if not ahead.is_empty():
        low, middle, high = (f"{ahead[name][0]:,.0f}" for name in ("q05", "q50", "q95"))
        out[f"Nodes on {ahead['time'][0]:%Y-%m-%d}"] = f"{middle} ({low} to {high})"
    out["Resources that run short"] = f"{len(short)} of {len(plan.exhaustion)}"
    out["Settings to change"] = str(len(change))
    return out | {"Cilium": plan.version}


def warnings(plan: Plan) -> Html:
    """Give what the reader must know before trusting the numbers."""
    return notes(plan.warnings, empty="No warnings.")


def notes(texts: Sequence[str], *, empty: str = "Nothing to tell.") -> Html:
    """Give sentences as a list."""
    if not texts:
        return Html(f"<p>{escape(empty)}</p>", empty)
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return Html(f'<ul class="warnings">{items}</ul>', "\n".join(texts))


def manifests(plan: Plan) -> Html:
    """Give the manifests, each as text to copy."""
    texts = manifest_texts(plan)
    if not texts:
        return Html("<p>No manifest: nothing has to be changed.</p>", "No manifest.")
    blocks = "".join(
        f"<details{' open' if i == 0 else ''}><summary>{escape(path)}</summary>"
        f'<pre tabindex="0"><code>{escape(text)}</code></pre></details>'
        for i, (path, text) in enumerate(texts.items())
    )
    return Html(blocks, "\n".join(f"# {path}\n{text}" for path, text in texts.items()))


def fits(plan: Plan) -> Html:
    """Give how well each fit did on data it had not seen."""
    frame = pl.DataFrame(
        {
            "resource": resource(row),
            "error on unseen data": _percent(row["backtest_error"], 1),
            "unseen points inside the 90 % interval": _percent(row["backtest_coverage"]),
            "points": row["points"],
            "model": row["model"],
        }
        for row in plan.fits.iter_rows(named=True)
    )
    tested = plan.fits.drop_nulls("backtest_error")
    if tested.is_empty():
        told = "no history long enough to test a fit on unseen data"
    else:
        worst = tested.sort("backtest_error").row(-1, named=True)
        middle, inside = tested.select(pl.median("backtest_error", "backtest_coverage")).row(0)
        told = (
            f"fitted to the first two thirds of the history, they missed the rest by {middle:.1%} "
            f"in the median and {worst['backtest_error']:.1%} at worst ({resource(worst)}); "
            f"the 90 % interval held {inside:.0%} of it in the median"
        )
    return table(frame, f"How good the fits are: {told}")


def scenario(plan: Plan) -> Html:
    """Give what the cluster is taken to be like at each node count."""
    told = plan.scenario.filter(pl.col("driver") != "nodes").with_columns(
        head=pl.col("driver").str.replace_all("_", " ") + " (" + pl.col("basis") + ")",
        value=pl.col("value").round(0).cast(pl.Int64),
    )
    wide = told.pivot("head", index="nodes", values="value", maintain_order=True)
    return table(wide, "What the cluster is taken to be like (medians)")


def limits(plan: Plan) -> Html:
    """Give each limit, what moves it, and where it comes from."""
    frame = pl.DataFrame(
        {
            "resource": resource(row),
            "limit": amount(row["limit"], row["unit"]),
            "kind": row["kind"],
            "setting": row["setting"],
            "source": row["source"],
        }
        for row in plan.limits.iter_rows(named=True)
    )
    return table(frame, "How much there is of each resource, and who says so")


def missing(plan: Plan) -> Html:
    """Give what the export does not tell, and how to get it."""
    gone = plan.coverage.filter(~pl.col("status").is_in(["present", "unused"]))
    caption = f"{len(gone)} of {len(plan.coverage)} wanted inputs are not there"
    return table(
        gone.select("want", "status", metric="source", why_and_what_to_do="hint"),
        caption,
        empty=f"All {len(plan.coverage)} wanted inputs are there.",
    )


def sources(plan: Plan) -> Html:
    """Give what was read and refused."""
    kept, refused = (int(plan.sources[name].sum()) for name in ("kept", "refused"))
    # Where the demo is installed says nothing, and would make pages differ between machines
    place = pl.lit(str(shipped.path("data", DEMO)))
    frame = plan.sources.select(
        pl.col("source").str.replace(place, DEMO, literal=True), "format", "kept", "refused",
        "reason",
    )  # fmt: skip
    return table(frame, f"What was read: {kept:,} records kept, {refused:,} refused")


def settings(plan: Plan) -> Html:
    """Give the settings and versions that made the plan; credentials are left out."""
    return settings_of(plan.settings, plan.version)


def settings_of(chosen: PlanSettings | ScenarioSettings, cilium: str | None = None) -> Html:
    """Give settings and versions; credentials are left out."""
    values = {f.name: getattr(chosen, f.name) for f in fields(chosen)}
    values["source"] = without_secrets(values["source"])
    unset = [name for name, value in values.items() if value is None or value == ()]
    rows = {name: value for name, value in values.items() if name not in unset}
    rows |= {"not set": tuple(unset)} if unset else {}
    rows |= {"cilium-capacity": version("cilium-capacity")}
    rows |= {} if cilium is None else {"Cilium": cilium}
    frame = pl.DataFrame({"setting": list(rows), "value": list(_written(rows.values()))})
    return table(frame, "Settings: the same ones over the same data give this report again")


def _written(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, tuple):
            yield ", ".join(str(item) for item in value) or "–"
        else:
            yield "–" if value is None else str(value)


def _percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None else f"{share:.{digits}%}"
