"""Every shipped notebook runs, by the command that users and schedules call."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest

from capacity.report.notebook import NOTEBOOKS
from capacity.simulate import simulate, write
from capacity.simulation_settings import SimulationSettings
from tests.command import run

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of all notebooks over a small simulated cluster: 45 days, enough for a backtest."""
    folder = tmp_path_factory.mktemp("reports")
    write(simulate(SimulationSettings(nodes=30, days=45, step="6h", seed=3)), folder / "cluster")
    done = run("report", "all", "cluster", "--out", "out", cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    (index,) = (folder / "out").glob("*/*/run.json")
    return index.parent


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_draws(name: str, pages: Path) -> None:
    page = unescape((pages / f"{name}.html").read_text(encoding="utf-8"))
    assert page.count('class="chart"') >= 1
    assert page.count("<table") >= 1
    assert "Traceback" not in page


def test_the_backtest_compares_with_the_rules_that_people_use(pages: Path) -> None:
    page = unescape((pages / "validation.html").read_text(encoding="utf-8"))
    assert "forecasts from past times held what came" in page
    assert "predict_linear" in page
