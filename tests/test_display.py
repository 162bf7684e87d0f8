"""Tables and findings as HTML: escaped, with units, and readable by a screen reader."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import capacity
from capacity import display
from capacity.planning import Plan

VIEWS = [
    display.verdict, display.warnings, display.manifests, display.fits, display.scenario,
    display.limits, display.missing, display.sources, display.settings,
]  # fmt: skip


class Texts(HTMLParser):
    """Collects tags and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1))
def test_any_text_comes_back_as_text_and_never_as_a_tag(text: str) -> None:
    frame = pl.DataFrame({"name": [text], "value": [1]})
    read = Texts(display.table(frame, "Caption").html)
    assert set(read.tags) == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "".join(read.texts) == f"Captionnamevalue{text}1"


def test_numbers_dates_and_unknowns_are_written_for_people() -> None:
    when = datetime(2026, 11, 1, 12, tzinfo=UTC)
    frame = pl.DataFrame({"a": ["x"], "count": [65536], "day": [when], "gone": [None]})
    assert Texts(display.table(frame, "c").html).texts[-4:] == ["x", "65,536", "2026-11-01", "–"]


def test_a_table_names_its_rows_columns_and_itself() -> None:
    html = display.table(pl.DataFrame({"map": ["ct"], "n": [1]}), "Maps").html
    assert "<caption>Maps</caption>" in html
    assert html.count('scope="col"') == 2
    assert html.count('scope="row"') == 1
    assert 'tabindex="0" aria-label="Maps"' in html


def test_numbers_stand_right_and_texts_left() -> None:
    frame = pl.DataFrame({"map": ["ct"], "size": ["1.5 GiB"], "why": ["it is full"]})
    _, size, why = display.table(frame, "c").html.split("<tbody>")[1].split("text-align:")[1:]
    assert size.startswith("right")
    assert why.startswith("left")


def test_an_empty_table_is_a_sentence() -> None:
    assert display.table(pl.DataFrame(), "c", empty="Nothing.").html == "<p>Nothing.</p>"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_a_hostile_plan_has_no_foreign_tags(demo: Plan, view: object) -> None:
    bad = "<img src=x onerror=alert(1)>"
    frames = {
        name: getattr(demo, name).with_columns(pl.lit(bad).alias(column))
        for name, column in (
            ("exhaustion", "subject"), ("limits", "source"), ("fits", "model"),
            ("coverage", "want"), ("sources", "source"), ("scenario", "basis"),
            ("recommendation", "reason"),
        )
    }  # fmt: skip
    plan = replace(demo, cluster=bad, headline=bad, warnings=(bad,), **frames)
    assert "img" not in Texts(view(plan).html).tags  # type: ignore[operator]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_a_plain_text_too(demo: Plan, view: object) -> None:
    shown = view(demo)  # type: ignore[operator]
    assert repr(shown)
    assert "</" not in repr(shown)
    assert shown._repr_html_() == shown.html


def test_the_verdict_says_the_headline_and_how_many_run_short(demo: Plan) -> None:
    texts = Texts(display.verdict(demo).html).texts
    assert demo.headline in "".join(texts)
    short = len(demo.exhaustion.filter(pl.col("status") == "short"))
    assert texts[texts.index("Resources that run short") + 1] == (
        f"{short} of {len(demo.exhaustion)}"
    )


def test_settings_are_shown_without_credentials(demo: Plan) -> None:
    source = "https://me:planted-secret@prometheus.example/api?token=planted-token"
    told = display.settings(replace(demo, settings=capacity.PlanSettings(source=source)))
    assert "planted" not in told.html
    assert "https://prometheus.example/api" in told.html
