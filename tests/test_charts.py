"""Charts say what the tables say, in colors and sizes that everyone can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import polars as pl
import pytest

from capacity import charts, findings, overview
from capacity.charts.look import GRAY
from capacity.planning import Plan
from capacity.tables import RECOMMENDATION
from capacity.telling import resource

ALL: list[Callable[[Plan], go.Figure]] = [
    charts.breaks_first,
    charts.fill,
    charts.growth,
    charts.memory,
    charts.map_memory,
]
HOSTILE = "<script>alert(1)</script><a href='javascript:1'>&x</a>%{y}"


def without_dates(plan: Plan) -> Plan:
    """The plan of a history too short for dates."""
    past = plan.growth.drop_nulls("observed").tail(3)
    gone = [pl.lit(None, plan.exhaustion.schema[c]).alias(c) for c in ("date_early", "date_median")]
    note = "history spans 2 days; dates need 14 or more, so only node counts are told"
    return replace(
        plan, growth=past, exhaustion=plan.exhaustion.with_columns(gone), warnings=(note,)
    )


def without_limits(plan: Plan) -> Plan:
    """The plan of a cluster in which nothing runs out in sight."""
    empty = [
        pl.lit(None, plan.exhaustion.schema[c]).alias(c)
        for c in ("nodes_early", "nodes_median", "date_early", "date_median", "reach")
    ]
    calm = plan.exhaustion.with_columns(*empty, status=pl.lit("ok"), probability=pl.lit(0.0))
    return replace(plan, exhaustion=calm, verdict="fits")


def hostile(plan: Plan) -> Plan:
    """The plan of a cluster whose label values hold markup."""
    named = (
        pl.when(pl.col("subject").is_null())
        .then(None)
        .otherwise(pl.lit(HOSTILE) + pl.col("subject"))
    )
    frames = {
        name: getattr(plan, name).with_columns(subject=named)
        for name in ("exhaustion", "curves", "recommendation", "limits", "fits", "forecast")
    }
    maps = plan.maps.with_columns(map=pl.lit(HOSTILE) + pl.col("map"))
    return replace(plan, cluster=HOSTILE, headline=HOSTILE, maps=maps, **frames)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item)


def fonts(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key.endswith("font") and isinstance(item, dict) and "size" in item:
                yield item["size"]
            yield from fonts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from fonts(item)


def title(figure: go.Figure) -> str:
    return str(figure.layout.title.text).replace("<br>", " ").lower()


@pytest.mark.parametrize("chart", ALL)
@pytest.mark.parametrize("change", [lambda p: p, without_dates, without_limits, hostile])
def test_a_chart_is_a_valid_figure_with_something_in_it(
    demo: Plan, chart: Callable[[Plan], go.Figure], change: Callable[[Plan], Plan]
) -> None:
    figure = chart(change(demo))
    again = go.Figure(figure.to_dict())  # plotly checks every property
    assert again.to_plotly_json() == figure.to_plotly_json()
    assert figure.data


@pytest.mark.parametrize("chart", ALL)
def test_the_same_plan_gives_the_same_figure(
    demo: Plan, chart: Callable[[Plan], go.Figure]
) -> None:
    assert chart(demo).to_json() == chart(demo).to_json()


@pytest.mark.parametrize("chart", [c for c in ALL if c is not charts.memory])
def test_label_values_are_never_markup(demo: Plan, chart: Callable[[Plan], go.Figure]) -> None:
    texts = list(strings(chart(hostile(demo)).to_plotly_json()))
    assert any("alert(1)" in text for text in texts)
    for text in texts:
        assert not re.sub(r"</?b>|<br>|</?extra>", "", text).count("<"), text


@pytest.mark.parametrize("chart", ALL)
def test_texts_are_large_enough_and_axes_are_named(
    demo: Plan, chart: Callable[[Plan], go.Figure]
) -> None:
    figure = chart(demo)
    assert min(fonts(figure.to_plotly_json())) >= 12
    named = [axis.title.text for axis in figure.select_xaxes()]
    assert all(re.search(r"nodes|date|MiB", name) for name in named if name)
    assert any(named)


def test_the_title_of_breaks_first_is_the_first_row_of_the_table(demo: Plan) -> None:
    first = demo.exhaustion.row(0, named=True)
    told = title(charts.breaks_first(demo))
    assert told.startswith(resource(first).lower())
    assert f"at {first['nodes_early']:,} nodes" in told
    short = len(demo.exhaustion.filter(pl.col("status") == "short"))
    assert f"{short} of {len(demo.exhaustion)} resources" in told


def test_nothing_in_sight_is_said_and_each_resource_is_still_listed(demo: Plan) -> None:
    calm = without_limits(demo)
    figure = charts.breaks_first(calm)
    assert title(figure).startswith("no limit is in sight")
    assert len(figure.layout.yaxis.categoryarray) == len(calm.exhaustion)
    assert [t for trace in figure.data for t in trace.text or ()].count("limit not known") == len(
        calm.exhaustion.filter(pl.col("limit").is_null())
    )


def test_a_bar_runs_from_the_risk_to_the_median(demo: Plan) -> None:
    bars = [t for t in charts.breaks_first(demo).data if t.mode == "lines"]
    drawn = {t.y[i]: (t.x[i], t.x[i + 1]) for t in bars for i in range(0, len(t.x), 3)}
    seen = demo.exhaustion.drop_nulls(["nodes_early", "nodes_median"])
    assert len(seen)
    for row in seen.iter_rows(named=True):
        label = f"{resource(row)} ({row['kind']})"
        assert drawn[label] == (row["nodes_early"], row["nodes_median"])


def test_the_title_of_fill_names_the_fullest_resource(demo: Plan) -> None:
    fullest = demo.exhaustion.drop_nulls("usage").sort("usage").row(-1, named=True)
    assert f"{resource(fullest)}: {fullest['usage']:.0%}".lower() in title(charts.fill(demo))


def test_node_counts_that_were_never_observed_are_dashed_and_shaded(demo: Plan) -> None:
    # As if half as many nodes again had been observed once
    known = replace(demo, curves=demo.curves.with_columns(pl.col("reach") / 1.2))
    figure = charts.fill(known)
    lines = [t for t in figure.data if t.name and t.name.startswith("median") and t.xaxis == "x"]
    by_dash = {t.line.dash: t for t in lines}
    row = demo.exhaustion.filter(pl.col("limit") > 0).row(0, named=True)
    curve = known.curves.filter(pl.col("subject").eq_missing(pl.lit(row["subject"], pl.String)),
                                pl.col("quantity") == row["quantity"])  # fmt: skip
    observed = curve.filter(pl.col("reach") <= 1)["nodes"].to_list()
    assert list(by_dash["solid"].x) == observed
    assert by_dash["dash"].x[0] == observed[-1]
    beyond = curve.filter(pl.col("reach") > 1)["nodes"]
    assert beyond.min() in [shape.x0 for shape in figure.layout.shapes]


def test_curves_show_what_the_forecast_says(demo: Plan) -> None:
    figure = charts.memory(demo)
    rows = demo.curves.filter(pl.col("component") == "agent", pl.col("quantity") == "memory")
    told = dict(rows.select("nodes", pl.col("q50") / 2**20).iter_rows())
    drawn = next(t for t in figure.data if t.name == "median, extrapolated")
    for nodes, value in zip(drawn.x, drawn.y, strict=True):
        assert value == pytest.approx(told[nodes], rel=1e-5)
    low_and_high = drawn.customdata[-1]
    assert low_and_high[0] <= drawn.y[-1] <= low_and_high[1]
    assert "5–95 %" in drawn.hovertemplate


def test_memory_limits_in_the_title_are_those_of_the_table(demo: Plan) -> None:
    told = title(charts.memory(demo))
    for row in demo.exhaustion.filter(pl.col("quantity") == "memory").iter_rows(named=True):
        if row["nodes_early"] is not None:
            assert f"{row['component']} memory may reach its limit" in told
            assert f"at {row['nodes_early']:,} nodes" in told


def test_memory_without_a_limit_tells_what_it_may_need(demo: Plan) -> None:
    open_ended = demo.exhaustion.with_columns(limit=pl.lit(None, pl.Float64))
    need = demo.forecast.filter(pl.col("component") == "agent", pl.col("quantity") == "memory")
    last = need.sort("nodes").row(-1, named=True)
    told = title(charts.memory(replace(demo, exhaustion=open_ended)))
    assert "agent memory has no known limit and may need" in told
    assert f"{last['q95'] / 2**30:.4g} gib at {last['nodes']:,} nodes" in told


def test_a_recommended_memory_limit_is_drawn_where_it_is_recommended(demo: Plan) -> None:
    row: dict[str, Any] = dict.fromkeys(RECOMMENDATION.schema) | {
        "component": "agent", "setting": "resources.limits.memory", "status": "raise",
        "target": 3.0 * 2**30,
    }  # fmt: skip
    raised = pl.DataFrame([row], schema=RECOMMENDATION.schema)
    figure = charts.memory(replace(demo, recommendation=raised))
    lines = [t.y[0] for t in figure.data if t.name == "limit recommended"]
    assert lines == [3 * 1024]


def test_growth_without_dates_shows_the_past_and_says_why(demo: Plan) -> None:
    figure = charts.growth(without_dates(demo))
    assert "dates need 14 or more" in title(figure)
    assert "interval" not in {trace.legendgroup for trace in figure.data}


def test_growth_tells_the_interval_at_the_horizon(demo: Plan) -> None:
    last = demo.growth.row(-1, named=True)
    low, middle, high = (f"{last[name]:,.0f}" for name in ("q05", "q50", "q95"))
    told = title(charts.growth(demo))
    assert f"{middle} ({low} to {high}) on {last['time']:%Y-%m-%d}" in told


def test_map_memory_counts_only_maps_whose_charge_is_known(demo: Plan) -> None:
    rows = demo.maps.head(2).with_columns(
        memlock=pl.Series([10 << 20, 4 << 20]), charged=pl.Series([12 << 20, None], dtype=pl.Int64)
    )
    told = title(charts.map_memory(replace(demo, maps=rows)))
    assert told == ("1 kind of bpf map costs a node 12 mib of charged memory; bpftool shows 10 mib")


def luminance(color: str) -> float:
    """WCAG 2.2 relative luminance."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#000000"])
def test_text_reads_on_light_and_on_dark(paper: str) -> None:
    light, dark = sorted((luminance(GRAY), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_fullest_map_stands_on_top_and_in_the_title(demo: Plan) -> None:
    figure = charts.fullest(demo)
    today, ahead = figure.data
    rows = findings.map_fill(demo)
    assert ahead.y[0].startswith(f"map {rows['subject'][0]}")
    most = [x + more for x, more in zip(ahead.x, ahead.error_x.array, strict=True)]
    assert most == sorted(most, reverse=True)
    assert max(today.x) == pytest.approx(100 * float(str(rows["usage"].max())), abs=0.01)
    assert str(rows["subject"][0]) in figure.layout.title.text.replace("<br>", " ")


def test_every_map_that_can_be_full_is_in_the_table_with_its_memory(demo: Plan) -> None:
    table = overview.maps(demo)
    wanted = demo.exhaustion.filter(pl.col("component") == "map", pl.col("limit") > 0)
    assert set(table["map"]) == set(wanted["subject"])
    assert table["memory a node"].null_count() == 0
