"""A user's own notebook: any parameters, their names and types checked before a kernel starts."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.errors import SettingsError
from capacity.report import own
from capacity.report.kernel import shared_imports
from capacity.report.notebook import settings_for
from capacity.settings import PlanSettings
from tests.command import run

pytestmark = pytest.mark.notebook

PARAMETERS = """from typing import Optional

team = "none"  # who asks
days: int = 3
ratio = 0.5
versions: list[str] = []
ports = [80,
         443]
strict = False
source: Optional[str] = None
labels: dict = {}
start = str(1)
limit = None
"""


def book(path: Path, *codes: str, parameters: str = PARAMETERS, **metadata: Any) -> Path:
    blank = {"cell_type": "code", "execution_count": None, "outputs": []}
    first = {**blank, "id": "p", "metadata": {"tags": ["parameters"]}, "source": parameters}
    more = [{**blank, "id": f"c{i}", "metadata": {}, "source": c} for i, c in enumerate(codes)]
    whole = {"cells": [first, *more], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def test_names_and_types_come_from_the_parameters_cell(tmp_path: Path) -> None:
    assert own.own_parameters(book(tmp_path / "mine.ipynb")) == {
        "team": "str", "days": "int", "ratio": "float", "versions": "list[str]", "ports": "list",
        "strict": "bool", "source": "Optional[str]", "labels": "dict", "start": "Any",
        "limit": "Any",
    }  # fmt: skip


def test_texts_become_what_their_type_says(tmp_path: Path) -> None:
    path = book(tmp_path / "mine.ipynb")
    told = settings_for(
        str(path), {"source": "x", "nodes": (3,)},
        ["team=1.20", "days=30", "ratio=2", "versions=1.20,1.21", "ports=[1, 2]", "strict=yes",
         "labels={'a': 1}", "start=a=b", "limit=7"], said=["source"],
    )  # fmt: skip
    assert told == {
        "team": "1.20", "days": 30, "ratio": 2.0, "versions": ["1.20", "1.21"], "ports": [1, 2],
        "strict": True, "labels": {"a": 1}, "start": "a=b", "limit": 7, "source": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said", "message"),
    [
        (["taem=x"], [], r"'taem' is no parameter of notebook mine.ipynb; it has team: str, days"),
        (["days=many"], [], "days=many: 'many' is not of type int"),
        (["days=1.5", "strict=maybe"], [], "'1.5' is not of type int; strict=maybe"),
        (["labels=[1]"], [], "is not of type dict"),
        (["labels=__import__('os')"], [], "is not of type dict"),
        (["versions=[1]"], [], r"is not of type list\[str\]"),
        (["team"], [], "wanted NAME=VALUE"),
        ([], ["horizon"], "has no parameters horizon; it has team, days"),
    ],
)
def test_wrong_names_and_types_are_told_before_a_kernel_starts(
    tmp_path: Path, changes: list[str], said: list[str], message: str
) -> None:
    path = book(tmp_path / "mine.ipynb")
    with pytest.raises(SettingsError, match=message):
        settings_for(str(path), {"horizon": "90d"}, changes, said)


def test_what_is_no_such_notebook_says_what_to_do(tmp_path: Path) -> None:
    language = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}
    with pytest.raises(SettingsError, match="is written in R"):
        own.own_parameters(book(tmp_path / "r.ipynb", **language))
    (tmp_path / "cut.ipynb").write_text('{"cells": [', encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be read"):
        own.own_parameters(tmp_path / "cut.ipynb")
    whole = json.loads(book(tmp_path / "bare.ipynb").read_text(encoding="utf-8"))
    whole["cells"][0]["metadata"] = {}
    (tmp_path / "bare.ipynb").write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(SettingsError, match="no cell tagged `parameters`"):
        own.own_parameters(tmp_path / "bare.ipynb")


def test_a_notebook_with_the_plans_parameters_takes_the_plans_settings(tmp_path: Path) -> None:
    shipped = json.loads(Path("notebooks/plan.ipynb").read_text(encoding="utf-8"))
    first = next(c for c in shipped["cells"] if "parameters" in c["metadata"].get("tags", []))
    path = book(tmp_path / "like.ipynb", parameters="".join(first["source"]))
    made = settings_for(str(path), {"source": "x"}, ["services=4000", "cilium=1.20"])
    assert isinstance(made, PlanSettings)
    assert (made.set, made.cilium) == (("services=4000",), "1.20")


def test_the_command_runs_it_and_gives_the_same_bytes(tmp_path: Path) -> None:
    book(tmp_path / "mine.ipynb", "print((team, days, versions))")
    options = ("-p", "team=<b>", "-p", "days=30", "--run", "r")
    for out in ("a", "b"):
        done = run("report", "--notebook", "mine.ipynb", *options, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    made = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    page = (tmp_path / "a" / "mine" / "r" / "mine.html").read_text(encoding="utf-8")
    assert "('<b>', 30, [])" in unescape(page)
    assert "<b>" not in page
    for file in made:
        if (tmp_path / "a" / file).is_file():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    wrong = run("report", "--notebook", "mine.ipynb", "-p", "x=1", "--out", "c", cwd=tmp_path)
    assert wrong.returncode == 2
    assert not (tmp_path / "c").exists()


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_a_value_written_as_text_is_read_as_the_same(i: int, f: float, b: bool) -> None:
    assert own.read_as(str(i), "int") == i
    assert own.read_as(repr(f), "float") == f
    assert own.read_as(str(b), "bool") is b
    assert own.read_as(f"[{i}]", "list[int]") == [i]
    assert own.read_as(str(i), "Optional[int]") == i


def test_only_what_several_notebooks_import_is_imported_ahead(tmp_path: Path) -> None:
    one = book(tmp_path / "1.ipynb", "import polars as pl", "from capacity import charts")
    two = book(tmp_path / "2.ipynb", "import polars as pl", "import numpyro")
    assert shared_imports([one, two]) == ("polars",)
    assert "capacity.planning" in shared_imports([one, one])
    assert shared_imports([tmp_path / "gone.ipynb"] * 2) == ()


@pytest.mark.parametrize("fault", ["tags", "metadata", "cells", "language"])
def test_a_broken_notebook_is_one_clear_error(tmp_path: Path, fault: str) -> None:
    path = book(tmp_path / "mine.ipynb")
    whole = json.loads(path.read_text(encoding="utf-8"))
    if fault == "tags":
        whole["cells"][0]["metadata"]["tags"] = None
    elif fault == "metadata":
        del whole["cells"][0]["metadata"]
    elif fault == "cells":
        whole["cells"] = None
    else:
        whole["metadata"] = {"kernelspec": {"name": "java", "language": "java"}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"notebook .*mine\.ipynb"):
        own.own_parameters(path)


def test_a_text_that_python_cannot_make_a_value_of_is_told(tmp_path: Path) -> None:
    path = book(tmp_path / "mine.ipynb")
    with pytest.raises(SettingsError, match="is not of type dict"):
        own.from_texts(path, {"labels": "{[1]: 2}"})
    assert own.from_texts(path, {"limit": "{[1]: 2}"}) == {"limit": "{[1]: 2}"}
