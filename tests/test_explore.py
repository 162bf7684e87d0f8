"""What-if: sliders that plan anew in a live notebook, a chart with a slider in a page."""

from __future__ import annotations

import pytest

from capacity import charts, explore
from capacity.planning import Plan


def test_moving_the_node_slider_plans_anew(demo: Plan) -> None:
    pytest.importorskip("ipywidgets")
    *moved, told = explore.sliders(demo).children
    before = told.value
    nodes = next(slider for slider in moved if slider.description == "nodes")
    assert nodes.value == 1000
    nodes.value = 3000
    assert "3,000 nodes" in told.value
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
