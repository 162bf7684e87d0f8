"""Overhead of reports: 20 light notebooks with isolation, from a warm interpreter or each anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from capacity import shipped
from capacity.report import kernel
from capacity.report.runs import Task, run
from capacity.settings import PlanSettings

REPORTS = 20


@pytest.fixture
def notebooks(tmp_path: Path) -> list[str]:
    """Write notebooks that only look at their parameters and one small table."""
    shipped_one = json.loads(shipped.path("notebooks", "plan.ipynb").read_text(encoding="utf-8"))
    first = next(c for c in shipped_one["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "id": "c",
            "source": "import polars as pl\npl.DataFrame({'a': [1]}).sum()"}  # fmt: skip
    names = []
    for i in range(REPORTS):
        path = tmp_path / f"light{i}.ipynb"
        path.write_text(json.dumps({**shipped_one, "cells": [first, cell]}), encoding="utf-8")
        names.append(str(path))
    return names


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "fresh"])
def test_20_light_reports(benchmark: Any, notebooks: list[str], tmp_path: Path, fork: bool) -> None:
    """With the start of the program: a warm interpreter has to import everything once."""
    count = iter(range(100))

    def make() -> None:
        with kernel.kernels(map(Path, notebooks), fork=fork) as start:
            pairs = tuple((name, PlanSettings()) for name in notebooks)
            run(Task("c", tmp_path / "out", str(next(count)), pairs), start, workers=4)

    benchmark.pedantic(make, rounds=3 if fork else 1)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_20_more_light_reports(
    benchmark: Any, notebooks: list[str], tmp_path: Path, workers: int
) -> None:
    """What 20 reports add to a program that made some already, as in a fleet."""
    count = iter(range(100))
    pairs = tuple((name, PlanSettings()) for name in notebooks)
    with kernel.kernels(map(Path, notebooks), fork=True) as start:
        benchmark.pedantic(
            lambda: run(
                Task("c", tmp_path / "out", str(next(count)), pairs), start, workers=workers
            ),
            rounds=5, warmup_rounds=1,
        )  # fmt: skip
