"""The notebook is thin and runs as shipped; its page is whole, offline, repeatable and discreet."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import capacity
from capacity import outcome, report, shipped
from capacity.errors import CapacityError, ExportError, SettingsError
from capacity.planning import Plan
from capacity.report.notebook import NOTEBOOKS
from capacity.report.page import without
from capacity.report.secrets import secrets_of
from capacity.settings import PlanSettings

NOTEBOOK = shipped.path("notebooks", "plan.ipynb")
SECRET = "planted-secret"
Cells = list[dict[str, Any]]


def cells(path: Path = NOTEBOOK) -> Cells:
    loaded: Cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return loaded


def code(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Write a notebook with the plan's parameters and other cells after them."""

    def make(*sources: str, change: tuple[str, str] = ("", "")) -> Path:
        whole = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
        first = next(c for c in whole["cells"] if "parameters" in c["metadata"].get("tags", []))
        first["source"] = code(first).replace(*change) if change[0] else first["source"]
        blank = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
        more = [{**blank, "id": f"own-{i}", "source": s} for i, s in enumerate(sources)]
        path = tmp_path / "own.ipynb"
        path.write_text(json.dumps({**whole, "cells": [first, *more]}), encoding="utf-8")
        return path

    return make


class Page(HTMLParser):
    """What a browser would load, and what a screen reader would meet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def page(pages: Path) -> str:
    return (pages / "plan.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plan(pages: Path) -> Plan:
    """The plan of the page's cluster, made by the library."""
    cluster = pages.parents[2] / "cluster"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cluster.parent)
        return capacity.plan(PlanSettings(cluster.name))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_parameters_cell_is_the_settings(name: str) -> None:
    """`python tools/notebook_parameters.py` writes it."""
    kind = NOTEBOOKS[name]
    declared = report.declared_parameters(shipped.path("notebooks", f"{name}.ipynb"))
    wanted = {}
    for field in fields(kind):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        told = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list[\1]", str(field.type))
        # papermill does not read `str | None`
        wanted[field.name] = (re.sub(r"(\w+) \| None", r"Optional[\1]", told), default)
    assert declared == wanted
    assert list(declared) == [field.name for field in fields(kind)]


def test_every_notebook_that_is_shipped_can_be_named() -> None:
    there = {path.stem for path in NOTEBOOK.parent.glob("*.ipynb")}
    assert there == set(NOTEBOOKS)


@pytest.mark.notebook
def test_papermill_itself_finds_each_parameter() -> None:
    papermill = pytest.importorskip("papermill")
    assert list(papermill.inspect_notebook(str(NOTEBOOK))) == [f.name for f in fields(PlanSettings)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stripped_and_thin(name: str) -> None:
    path = shipped.path("notebooks", f"{name}.ipynb")
    programs = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert len(programs) <= 24
    for cell in programs:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        most = (
            len(fields(PlanSettings)) + 2
            if "parameters" in cell["metadata"].get("tags", ())
            else 16
        )
        assert len(code(cell).splitlines()) <= most
        forbidden = (
            ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Lambda, ast.If, ast.Try,
            ast.With, ast.comprehension,
        )  # fmt: skip
        tree = list(ast.walk(ast.parse(code(cell))))
        assert not [node for node in tree if isinstance(node, forbidden)]
        assert "path" not in code(cell).lower()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_words_in_a_notebook_state_no_result(name: str) -> None:
    path = shipped.path("notebooks", f"{name}.ipynb")
    words = "\n".join(code(cell) for cell in cells(path) if cell["cell_type"] == "markdown")
    assert not re.search(r"\d", words), "a number in a Markdown cell cannot follow the plan"


@pytest.mark.notebook
def test_the_notebook_gives_the_same_plan_as_the_library(page: str, plan: Plan) -> None:
    told = re.search(r"<summary>outcome.json</summary>\s*<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert told
    assert json.loads(unescape(told.group(1))) == json.loads(outcome.to_json(plan))


@pytest.mark.notebook
def test_settings_reach_the_notebook(notebook: Callable[..., Path], tmp_path: Path) -> None:
    path = notebook("print((source, nodes, set, risk, cilium, horizon))")
    settings = PlanSettings(
        source="it's", nodes=(7, 9), set=("services=3",), risk=0.05, cilium="1.20", horizon="90d"
    )
    text = report.report(path, settings, tmp_path / "out.html").read_text(encoding="utf-8")
    assert repr(("it's", [7, 9], ["services=3"], 0.05, "1.20", "90d")) in unescape(text)


@pytest.mark.notebook
def test_the_page_loads_nothing_and_is_small_enough_to_mail(page: str) -> None:
    loads = [
        value
        for _, attributes in Page(page).tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "action", "poster", "href")
    ]
    assert loads
    assert all(value.startswith("#") for value in loads)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)
    assert len(page.encode()) < 6_000_000


@pytest.mark.notebook
def test_plotly_is_in_the_page_once_and_code_is_not(page: str) -> None:
    assert len(re.findall(r"plotly\.js v\d", page)) == 1
    assert "requirejs" not in page.lower()
    assert "import capacity" not in page
    assert "papermill" not in page


@pytest.mark.notebook
def test_the_page_can_be_read_without_eyes(page: str) -> None:
    read = Page(page)
    assert read.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in zip(levels, levels[1:], strict=False))
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in read.all("a")} <= set(ids)
    assert len(read.all("caption")) == len(read.all("table")) > 5
    assert all(a.get("scope") for a in read.all("th"))
    charts = [a for a in read.all("div") if a.get("class") == "chart"]
    assert len(charts) == 8
    for chart in charts:
        assert chart["role"] == "img"
        assert chart["tabindex"] == "0"
        assert chart["aria-labelledby"] in ids


@pytest.mark.notebook
def test_chart_titles_and_tables_tell_the_same_first_limit(page: str, plan: Plan) -> None:
    first = plan.first_limit
    assert first is not None
    assert f"{first['nodes']:,} nodes" in page.split("<figcaption")[1].split("</figcaption>")[0]
    assert f">{first['nodes']:,}</td>" in page


@pytest.mark.notebook
def test_credentials_are_in_no_page_and_no_file(
    notebook: Callable[..., Path], tmp_path: Path
) -> None:
    source = f"https://me:{SECRET}@prometheus.example/api?token={SECRET}"
    path = notebook("print(source)", "source", "import json; print(json.dumps([source + '\"']))")
    out = report.report(path, PlanSettings(source=source), tmp_path / "out.html")
    text = out.read_text(encoding="utf-8")
    assert "https://prometheus.example/api" in text
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) == 2
    assert not [f for f in files if SECRET in f.read_text(encoding="utf-8")]


@pytest.mark.notebook
def test_an_error_in_a_cell_is_the_librarys_error_without_credentials(
    notebook: Callable[..., Path], tmp_path: Path
) -> None:
    source = f"https://me:{SECRET}@prometheus.example/api"
    path = notebook(
        "from capacity.errors import ExportError",
        "raise ExportError(f'{source}: no answer;\\n wanted one')",
    )
    with pytest.raises(ExportError) as caught:
        report.report(path, PlanSettings(source=source), tmp_path / "out.html")
    assert str(caught.value) == "https://prometheus.example/api: no answer; wanted one"
    assert not (tmp_path / "out.html").exists()


@pytest.mark.notebook
def test_a_failed_run_keeps_the_old_page_and_names_the_cell(
    notebook: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.html"
    out.write_text("old", encoding="utf-8")
    with pytest.raises(CapacityError, match=r"own\.ipynb, cell \d: ZeroDivisionError: division"):
        report.report(notebook("1 / 0"), PlanSettings(), out)
    assert out.read_text(encoding="utf-8") == "old"
    assert {f.name for f in tmp_path.iterdir()} == {"own.ipynb", "out.html"}


@pytest.mark.notebook
def test_the_kernel_is_this_interpreter_and_nothing_of_the_users(
    notebook: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    for kernel in ("python3", "capacity"):
        folder = home / "kernels" / kernel
        folder.mkdir(parents=True)
        spec = {"argv": ["/bin/false"], "display_name": kernel, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    startup = home / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("planted = 1", encoding="utf-8")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')", encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home))
    monkeypatch.chdir(tmp_path)
    path = notebook("import json, os, sys; print(sys.executable, os.getcwd(), 'planted' in dir())")
    steps: list[float] = []
    out = report.report(
        path, PlanSettings(), Path("out.html"), progress=lambda name, share: steps.append(share)
    )
    assert f"{sys.executable} {tmp_path} False" in out.read_text(encoding="utf-8")
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("horizon", "horizn"), r"lacks \['horizon'\] and has unknown \['horizn'\]"),
        (('str = "180d"', "str = print()"), "cannot be read"),
    ],
)
def test_other_parameters_than_the_settings_are_refused_before_a_kernel_starts(
    notebook: Callable[..., Path], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        report.report(notebook(change=change), PlanSettings(), tmp_path / "out.html")


def test_a_notebook_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.ipynb: no such file"):
        report.report(tmp_path / "gone.ipynb", PlanSettings(), tmp_path / "out.html")
    with pytest.raises(SettingsError, match="notebook gone: no such one; shipped are plan"):
        report.report("gone", PlanSettings(), tmp_path / "out.html")


def test_without_the_extra_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "papermill" else True)
    assert not report.is_installed()
    with pytest.raises(SettingsError, match=re.escape("pip install 'cilium-capacity[report]'")):
        report.report("plan", PlanSettings(), tmp_path / "out.html")


def test_a_password_is_hidden_as_requests_and_urls_hold_it_too() -> None:
    told = secrets_of({"CAPACITY_PROM_USER": "me", "CAPACITY_PROM_PASSWORD": "p/w d"})
    text = "Authorization: Basic bWU6cC93IGQ=, https://me:p%2Fw%20d@prom.example"
    assert without(text, (), told) == "Authorization: Basic ***, https://me:***@prom.example"


def test_a_token_in_a_file_is_hidden_beside_one_of_the_environment(tmp_path: Path) -> None:
    """A cluster of a fleet has its own; the worker's environment may hold that of another."""
    (tmp_path / "token").write_text("of-the-member\n", encoding="utf-8")
    own = {"CAPACITY_PROM_TOKEN_FILE": str(tmp_path / "token")}
    assert secrets_of({"CAPACITY_PROM_TOKEN": "of-all"}, own) == ("of-the-member", "of-all")
