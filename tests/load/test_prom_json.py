"""Saved answers of the Prometheus API."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError
from capacity.load import prom_json
from capacity.load.gather import Selection

Put = Callable[[str, str | bytes], Path]


def matrix(*series: tuple[dict[str, str], list[list[object]]], **more: object) -> str:
    result = [{"metric": labels, "values": values} for labels, values in series]
    data = {"resultType": "matrix", "result": result}
    return json.dumps({"status": "success", "data": data, **more})


@pytest.mark.parametrize(
    ("name", "series", "samples"),
    [("qr_rss", 1, 151), ("qr_map_pressure", 9, 662), ("q_vector", 8, 8), ("q_matrix", 1, 24),
     ("q_scalar", 1, 1), ("qr_endpoint_identity_policy", None, 1980), ("qr_nan_inf", 1, 129)],
)  # fmt: skip
def test_recorded_answers_are_read_whole(
    shared: Path, name: str, series: int | None, samples: int
) -> None:
    path = shared / "recorded" / "prom" / f"{name}.json"
    made = capacity.read(path)
    result = json.loads(path.read_bytes())["data"]["result"]
    assert made.series.height == (series or len(result))
    assert made.samples.height == samples


def test_every_point_of_a_recorded_answer_is_there(shared: Path) -> None:
    path = shared / "recorded" / "prom" / "qr_map_pressure.json"
    wanted = sorted(
        (one["metric"]["map_name"], round(at * 1000), float(value))
        for one in json.loads(path.read_bytes())["data"]["result"]
        for at, value in one["values"]
    )
    made = capacity.read(path)
    rows = made.samples.join(made.series, on="series").with_columns(
        ms=made.samples["time"].dt.epoch("ms")
    )
    assert sorted(rows.select("map_name", "ms", "value").rows()) == wanted


def test_all_recorded_answers_are_read_or_refused_with_a_reason(shared: Path) -> None:
    made = capacity.read(str(shared / "recorded" / "prom" / "q*.json"))
    reasons = {
        Path(name).name: reason for name, reason in made.sources.select("source", "reason").rows()
    }
    assert reasons["q_error.json"].startswith("Prometheus says: bad_data: invalid parameter")
    assert reasons["q_string.json"].startswith("holds a string, which has no number")
    assert reasons["qr_empty.json"] == "no sample of wanted metrics and times"
    assert reasons["qr_drop.json"] is None
    assert made.sources["kept"].sum() >= made.samples.height > 8_000


def test_nan_is_no_sample_and_infinity_is_one(put: Put) -> None:
    path = put(
        "a.json", matrix(({"__name__": "up"}, [[1, "NaN"], [2, "+Inf"], [3, "-Inf"], [4, "1e3"]]))
    )
    made = capacity.read(path)
    assert made.samples["value"].to_list() == [math.inf, -math.inf, 1000.0]
    assert made.sources.row(0)[2:5] == (4, 3, 1)


def test_results_of_expressions_are_called_as_their_file(put: Put) -> None:
    path = put("cpu-rate.json", matrix(({"node": "a"}, [[1, "1"]])))
    made = capacity.read(path)
    assert made.series["metric"].to_list() == ["cpu_rate"]
    assert "without a metric name are called cpu_rate" in made.sources["reason"][0]


def test_warnings_and_partial_answers_are_told(put: Put) -> None:
    path = put(
        "a.json",
        matrix(({"__name__": "up"}, [[1, "1"]]), warnings=["store a is down"], isPartial=True),
    )
    assert capacity.read(path).sources["reason"].to_list() == [
        "server warns: store a is down; server warns: partial response"
    ]


def test_native_histograms_are_refused_and_counted(put: Put) -> None:
    text = json.loads(matrix(({"__name__": "up"}, [[1, "1"]])))
    text["data"]["result"][0]["histograms"] = [[1, {"count": "1"}], [2, {"count": "2"}]]
    made = capacity.read(put("a.json", json.dumps(text)))
    assert made.sources.row(0)[2:5] == (3, 1, 2)
    assert "2 native histograms of up are not read" in made.sources["reason"][0]


def test_values_that_are_no_numbers_are_refused_and_counted(put: Put) -> None:
    path = put("a.json", matrix(({"__name__": "up"}, [[1, "many"], [2, 5], [3, "6"]])))
    made = capacity.read(path)
    assert made.samples["value"].to_list() == [5.0, 6.0]
    assert made.sources.row(0)[2:5] == (3, 2, 1)


def test_only_wanted_metrics_are_kept(put: Put) -> None:
    path = put(
        "a.json", matrix(({"__name__": "up"}, [[1, "1"]]), ({"__name__": "upper"}, [[1, "2"]]))
    )
    made = capacity.read(path, metrics=["up"])
    assert made.series["metric"].to_list() == ["up"]
    assert made.sources.row(0)[2:5] == (1, 1, 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (matrix(({"__name__": "up"}, [[1, "1"]]))[:-20], "is no whole JSON .offset"),
        ('{"status":"error","errorType":"bad_data","error":"no"}', "Prometheus says: bad_data: no"),
        ('{"status":"error"}', "Prometheus says: status 'error'"),
        ('{"status":"success","data":["a"]}', "holds no samples: it answers another question"),
        (
            '{"status":"success","data":{"resultType":"matrix","result":7}}',
            "its result is no matrix",
        ),
        (
            '{"status":"success","data":{"resultType":"streams","result":[]}}',
            "its result is no streams",
        ),
        (matrix(({"__name__": "up"}, [[1]])), "its result is no matrix"),
        (matrix(({"__name__": "up"}, [["1", "2"]])), "its result is no matrix"),
    ],
)
def test_a_broken_answer_alone_is_one_clear_error(put: Put, text: str, told: str) -> None:
    path = put("a.json", text)
    with pytest.raises(ExportError, match=told) as error:
        capacity.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_broken_answer_among_others_is_a_row_with_its_reason(put: Put) -> None:
    put("a.json", matrix(({"__name__": "up"}, [[1, "1"]])))
    bad = put("b.json", '{"status":"success","data":{"resultType":"matrix","resu')
    made = capacity.read(bad.parent)
    assert made.samples.height == 1
    assert made.sources.row(1)[2:5] == (0, 0, 0)
    assert "is no whole JSON" in made.sources["reason"][1]


times = st.integers(0, 4_000_000_000_000)
points = st.lists(
    st.tuples(times, st.floats(allow_nan=False)), unique_by=lambda p: p[0], max_size=9
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), points))
def test_what_is_written_is_read_back(series: dict[str, list[tuple[int, float]]]) -> None:
    def spelled(value: float) -> str:
        return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(value)

    text = matrix(*(
        ({"__name__": "m", "node": node}, [[at / 1000, spelled(value)] for at, value in told])
        for node, told in series.items()
    ))  # fmt: skip
    answer = prom_json.parse(text.encode(), "x")
    rows = [(answer.labels[i]["node"], at, value) for i, at, value in answer.points.rows()]
    assert rows == [(node, at, value) for node, told in series.items() for at, value in told]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "status",
                        "data",
                        "result",
                        "resultType",
                        "metric",
                        "values",
                        "value",
                        "histograms",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_an_answer_or_one_error(value: object) -> None:
    matrix = {"status": "success", "data": {"resultType": "matrix", "result": value}}
    vector = {"status": "success", "data": {"resultType": "vector", "result": [value]}}
    for body in (value, matrix, vector):
        with suppress(ExportError):
            prom_json.parse(json.dumps(body).encode(), "x")


def test_answers_are_joined_by_their_labels(put: Put) -> None:
    one, two = (
        put(f"{n}.json", matrix(({"__name__": "up", "a": "1", "b": "2"}, [[n, str(n)]])))
        for n in (1, 2)
    )
    made = prom_json.read([one, two], Selection())
    assert made.series.height == 1
    assert made.samples["value"].to_list() == [1.0, 2.0]
