"""What-if: sliders that plan anew in a live notebook, a chart with a slider in a page."""

from __future__ import annotations

from pathlib import Path

import pytest

import capacity
from capacity import charts, explore
from capacity.planning import Plan

LAB = Path(__file__).resolve().parents[1] / "data" / "lab"


def test_a_slider_moved_in_the_browser_plans_anew() -> None:
    pytest.importorskip("ipywidgets")
    plan = capacity.plan(capacity.PlanSettings(str(LAB)))
    *moved, told = explore.sliders(plan).children
    before = told.value
    sliders = {slider.description: slider for slider in moved}
    assert {name: s.value for name, s in sliders.items()} == explore.starts(plan)
    # What JupyterLab sends when a handle is let go: the state of the model, by its comm
    state = {"method": "update", "state": {"value": 2 * explore.starts(plan)["endpoints"]},
             "buffer_paths": []}  # fmt: skip
    sliders["endpoints"]._handle_msg({"content": {"data": state}, "buffers": []})
    assert sliders["endpoints"].value == state["state"]["value"]  # type: ignore[index]
    assert "planning" not in told.value
    assert told.value != before


def test_a_page_gets_a_chart_and_a_live_notebook_the_sliders(demo: Plan) -> None:
    bundle = explore.WhatIf(demo)._repr_mimebundle_()
    assert "application/vnd.plotly.v1+json" in bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_charts_slider_shows_one_node_count_at_a_time(demo: Plan) -> None:
    figure = charts.what_if(demo)
    steps = figure.layout.sliders[0].steps
    assert len(steps) == len(figure.data)
    assert [trace.visible for trace in figure.data].count(True) == 1
    for i, step in enumerate(steps):
        assert step.args[0]["visible"].index(True) == i
    first, last = figure.data[0].x, figure.data[-1].x
    assert all(b >= a for a, b in zip(first, last, strict=True))
