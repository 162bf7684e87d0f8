from __future__ import annotations

import itertools
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity import export as exports
from capacity.errors import SchemaError
from capacity.export import Metrics, build, concat, is_in_order, without_secrets
from capacity.tables import SAMPLES, TABLES, check, data_dictionary


def test_equal_label_sets_of_two_exports_become_one_series(export: Callable[..., Metrics]) -> None:
    labels = {"__name__": "up", "node": "a", "job": "x"}
    first = export((labels, [(0, 1.0), (1000, 1.0)]))
    second = export((labels, [(1000, 0.0), (2000, 1.0)]), ({"__name__": "down"}, [(0, 5.0)]))
    joined = concat([first, second])
    assert len(joined.series) == 2
    assert joined.select("up")["value"].to_list() == [1.0, 0.0, 1.0]
    assert joined.select("down")["value"].to_list() == [5.0]


def test_joining_an_export_with_itself_changes_nothing(export: Callable[..., Metrics]) -> None:
    one = export(({"__name__": "m", "a": "1"}, [(0, 1.0)]), ({"__name__": "m"}, [(0, 2.0)]))
    twice = concat([one, one])
    assert twice.samples.equals(one.samples)
    assert twice.series.equals(one.series)


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 9)), max_size=8
        ),
        max_size=4,
    )
)  # fmt: skip
def test_of_parts_that_disagree_the_last_one_wins(told: list[list[tuple[str, int, int]]]) -> None:
    parts = []
    for rows in told:
        names = sorted({name for name, *_ in rows}, reverse=True)
        keys = [names.index(name) for name, *_ in rows]
        labels = [{"__name__": name} for name in names]
        times, values = [row[1] for row in rows], [float(row[2]) for row in rows]
        parts.append(build(labels, keys, times, values, cluster="c"))
    joined = concat(parts)
    # What one part tells twice is kept as it is where there is nothing to join
    if len(parts) != 1:
        wanted = {(name, time): float(value) for rows in told for name, time, value in rows}
        rows = joined.samples.join(joined.series, on="series").select("metric", "time", "value")
        assert {
            (metric, round(time.timestamp() * 1000)): value for metric, time, value in rows.rows()
        } == wanted
        assert len(rows) == len(wanted)
        assert is_in_order(joined.samples)


def test_parts_whose_series_keys_have_holes_are_joined(export: Callable[..., Metrics]) -> None:
    both = export(({"__name__": "a"}, [(0, 1.0)]), ({"__name__": "b"}, [(0, 2.0)]))
    second = Metrics(both.series[1:], both.samples[1:], both.sources)
    joined = concat([second, both])
    assert joined.series["metric"].to_list() == ["b", "a"]
    assert joined.samples["value"].to_list() == [2.0, 1.0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=9), st.integers(1, 4))
def test_samples_are_in_order_when_each_is_above_the_one_before(
    rows: list[tuple[int, int]], width: int
) -> None:
    frame = pl.DataFrame(rows, schema={"series": pl.UInt32, "time": pl.Int64}, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "_SLICE", width)
        assert is_in_order(frame) == all(a < b for a, b in itertools.pairwise(rows))


def test_nan_is_no_sample(export: Callable[..., Metrics]) -> None:
    made = export(({"__name__": "m"}, [(0, float("nan")), (1, float("inf")), (2, 0.0)]))
    assert made.select("m")["value"].to_list() == [float("inf"), 0.0]


def test_select_matches_whole_names_and_labels(export: Callable[..., Metrics]) -> None:
    made = export(
        ({"__name__": "cilium_endpoint", "node": "a", "x": 'q"\\'}, [(0, 1.0)]),
        ({"__name__": "cilium_endpoint_state", "node": "a"}, [(0, 2.0)]),
    )
    assert made.select("cilium_endpoint")["value"].to_list() == [1.0]
    assert made.select("cilium_.*", x='q"\\')["value"].to_list() == [1.0]


def test_pandas_gets_the_same_values(export: Callable[..., Metrics]) -> None:
    frame = export(({"__name__": "m", "node": "a"}, [(0, 1.5)])).to_pandas()
    assert frame["value"].tolist() == [1.5]
    assert frame["node"].tolist() == ["a"]


@pytest.mark.parametrize(
    "url",
    [
        "http://u:s3cret@h:1/p", "https://h/p?token=s3cret", "https://s3cret@h/",
        "https://h/#access_token=s3cret", "u:s3cret@h:9090", "//u:s3cret@h/p",
    ],
)  # fmt: skip
def test_no_secret_survives_in_a_source_name(url: str) -> None:
    assert "s3cret" not in without_secrets(url)


def test_a_table_names_its_missing_columns_and_wrong_types() -> None:
    with pytest.raises(SchemaError, match="missing columns.*value.*present"):
        check(pl.DataFrame({"series": [1]}), SAMPLES)
    whole = build([{"__name__": "m"}], [0], [0], [1.0], cluster="c").samples
    with pytest.raises(SchemaError, match="value is String, wanted Float64"):
        check(whole.cast({"value": pl.String}), SAMPLES)
    with pytest.raises(SchemaError, match="null or NaN in \\['value'\\]"):
        check(whole.with_columns(value=pl.lit(float("nan"))), SAMPLES)


def test_every_numeric_column_of_every_table_has_a_unit_or_is_a_key() -> None:
    rows = data_dictionary().filter(pl.col("type").str.contains("Int64|Float64"))
    without = rows.filter(
        pl.col("unit") == "", ~pl.col("column").is_in(["flags", "port", "identity"])
    )
    assert without["column"].to_list() == []
    assert len({table.name for table in TABLES}) == len(TABLES)
