"""Public policies: each file is resolved, or refused by name with a reason, as docs tell."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from capacity.cilium import policy
from capacity.cilium.policy import rows
from capacity.inventory import Inventory
from capacity.load.inventories import read_inventory
from capacity.tables import ENDPOINTS

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- begin public policies -->\n", "<!-- end public policies -->"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public", ROOT / "tools" / "public_policies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder() -> Path:
    found = ROOT.parent / "shared" / "public" / "policies"
    if not found.is_dir():
        pytest.skip("third-party policies are not beside this checkout")
    return found


@pytest.fixture(scope="module")
def told(tool: ModuleType, folder: Path) -> pl.DataFrame:
    frame: pl.DataFrame = tool.outcomes(folder)
    return frame


def selected(tables: Inventory) -> Inventory:
    """The inventory with a pod for each subject that its policies name."""
    told = []
    for n, row in enumerate(tables.policies.iter_rows(named=True)):
        specs = json.loads(row["object"])
        for spec in [specs.get("spec") or {}, *(specs.get("specs") or [])]:
            subject: dict[str, Any] = spec.get("endpointSelector") or spec.get("podSelector") or {}
            labels = {key.rpartition(":")[2]: text for key, text in (subject.get("matchLabels") or {}).items()}  # fmt: skip  # noqa: E501
            told.append((row["namespace"] or "default", f"p{n}", json.dumps(labels)))
    pods = pl.DataFrame(told, schema=["namespace", "pod", "labels"], orient="row")
    missing = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in ENDPOINTS.schema.items()
        if name not in pods.columns
    ]
    pods = pods.unique(["namespace", "pod"]).with_columns(missing)
    return Inventory(policies=tables.policies, endpoints=pods.select(ENDPOINTS.schema.names()))


def test_every_public_file_is_resolved_or_refused_by_name_with_a_reason(
    told: pl.DataFrame, tool: ModuleType, folder: Path
) -> None:
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in tool.ENDINGS
    }
    assert set(told["file"]) == files
    assert not (told["policy"] == "").any()
    refused = told.filter(pl.col("reason").is_not_null())
    assert (refused["reason"].str.len_chars() > 20).all()


def test_the_docs_tell_how_many_public_policies_are_resolved_and_why_others_are_not(
    told: pl.DataFrame, tool: ModuleType
) -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == f"{tool.summary(told)}\n"


def test_public_policies_make_entries_that_are_counted_as_listed(
    told: pl.DataFrame, folder: Path
) -> None:
    some = told.filter(pl.col("reason").is_null())["file"].unique().sort().gather_every(8)
    for name in some:
        tables = selected(read_inventory(folder / name))
        cluster = policy.ready(tables, version="1.17")
        counted = rows.counts(cluster).filter(pl.col("total") > 0)
        listed = rows.entries(cluster).group_by("endpoint").len()
        assert dict(counted.select("endpoint", "total").iter_rows()) == dict(listed.iter_rows())
