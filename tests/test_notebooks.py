"""Every shipped notebook runs, by the command that users and schedules call."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest

from capacity.report.notebook import OF_A_CLUSTER

pytestmark = pytest.mark.notebook


@pytest.mark.parametrize("name", OF_A_CLUSTER)
def test_a_notebook_runs_and_draws(name: str, pages: Path) -> None:
    page = unescape((pages / f"{name}.html").read_text(encoding="utf-8"))
    assert page.count('class="chart"') >= 1
    assert page.count("<table") >= 1
    assert page.index('class="verdict') < page.index('class="chart"') < page.index("<table")
    assert "Traceback" not in page


def test_the_backtest_compares_with_the_rules_that_people_use(pages: Path) -> None:
    page = unescape((pages / "validation.html").read_text(encoding="utf-8"))
    assert "forecasts from past times held what came" in page
    assert "predict_linear" in page
