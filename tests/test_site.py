"""The site of the documents, which .ci/run builds: what is made for it, the check of its links."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import capacity
from capacity import facts
from capacity.cli import cli
from capacity.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
STUBS = sorted((ROOT / "docs" / "reference").glob("*.md"))


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PAGES = tool("reference_pages")
SITE = tool("site")


def page(name: str) -> str:
    return PAGES.fill((ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8"))


def test_every_place_that_is_to_be_filled_is() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in STUBS)
    assert sorted(PAGES._PLACE.findall(text)) == sorted(PAGES.MAKERS)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = page("commands")

    def all_of(command: click.Command, name: str) -> None:
        assert f"\n## {name}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in text
        if isinstance(command, click.Group):
            for below in command.commands.values():
                all_of(below, f"{name} {below.name}")

    all_of(cli, "capacity")


def test_tables_are_told_with_the_unit_of_each_column() -> None:
    text = page("tables")
    for table in TABLES:
        start = text.index(f"\n## {table.name}\n")
        told = text[start : text.find("\n## ", start + 4)]
        for column in table.columns:
            line = next(
                line for line in told.splitlines() if line.startswith(f"| `{column.name}` ")
            )
            assert line.split(" | ")[2] == (column.unit or "–")


def test_every_map_limit_option_and_chart_value_is_told() -> None:
    for name, frame, key in (
        ("maps", facts.maps(), "map"),
        ("limits", facts.limits(), "limit"),
        ("limits", facts.options(), "option"),
        ("metrics", facts.metrics(), "metric"),
        ("metrics", facts.quantities(), "quantity"),
        ("helm", facts.removed_values(), "key"),
    ):
        text = page(name)
        assert not [row for row in frame[key].unique() if row not in text]
    lines = {line.removesuffix(".*") for line in page("helm").splitlines()}
    values = facts.chart_values()
    assert not set(values.filter(values["kind"] != "section")["key"]) - lines


def test_every_public_name_is_in_the_reference_of_the_library() -> None:
    text = (ROOT / "docs" / "reference" / "library.md").read_text(encoding="utf-8")
    errors = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    for name in capacity.__all__:
        assert f"capacity.{name}" in text or name == "CapacityError"
    assert "capacity.errors" in errors


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="other.html">', None),
        ('<a href="other.html#here">', None),
        ('<a href="https://example.com">', None),
        ('<a href="gone.html">', "page.html: gone.html leads nowhere"),
        ('<a href="other.html#there">', "page.html: other.html#there has no such place"),
        ('<a href="#there">', "page.html: #there has no such place"),
        ('<script src="https://cdn.example/a.js">', "page.html: <script> loads https://cdn.example/a.js"),
        ('<link href="//cdn.example/a.css">', "page.html: <link> loads //cdn.example/a.css"),
    ],
)  # fmt: skip
def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(
    body: str, fault: str | None, tmp_path: Path
) -> None:
    (tmp_path / "other.html").write_text('<h1 id="here">', encoding="utf-8")
    (tmp_path / "page.html").write_text(body, encoding="utf-8")
    assert list(SITE.faults(tmp_path)) == ([fault] if fault else [])
