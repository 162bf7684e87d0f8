"""CSV, Parquet, frames, and our own tables."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import capacity
from capacity.errors import ExportError, SettingsError
from capacity.export import Metrics, build
from capacity.load import tabular, write
from capacity.load.gather import Selection

Put = Callable[[str, str | bytes], Path]
MOMENT = 1_795_477_137_000  # 2026-11-23T23:38:57Z
LONG = (
    "time,metric,node,labels,value\n"
    '2026-11-23T23:38:57Z,up,a,"{""job"": ""x""}",1\n'
    "2026-11-23T23:39:57Z,up,a,,2\n"
    "2026-11-23T23:39:57Z,down,,,3\n"
)


def told(metrics: Metrics) -> list[tuple[str, str | None, str, int, float]]:
    rows = metrics.samples.join(metrics.series, on="series").select(
        "metric", "node", "labels", pl.col("time").dt.epoch("ms"), "value"
    )
    return sorted(rows.rows(), key=lambda row: (row[0], str(row[1]), *row[2:]))


# Our own tables


def test_what_is_written_is_read_back_identically(tmp_path: Path) -> None:
    metrics = build(
        [{"__name__": "up", "node": "a", "x": 'q"\n'}, {"__name__": "up"}, {"__name__": "empty"}],
        [0, 1, 0], [MOMENT, MOMENT, MOMENT + 1], [1.0, float("inf"), 0.1], cluster="lab",
    )  # fmt: skip
    folder = write(metrics, tmp_path / "tables")
    again = capacity.read(folder)
    assert_frame_equal(again.series, metrics.series)
    assert_frame_equal(again.samples, metrics.samples)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "samples.parquet", "series.parquet", "tables",
    ]  # fmt: skip


def test_a_folder_is_replaced_whole_and_others_files_are_not_touched(tmp_path: Path) -> None:
    one, two = (build([{"__name__": n}], [0], [MOMENT], [1.0], cluster="c") for n in "ab")
    folder = write(one, tmp_path / "tables")
    write(two, folder)
    assert capacity.read(folder).series["metric"].to_list() == ["b"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="holds other files .notes.txt"):
        write(one, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_samples_in_several_files_are_one_table(tmp_path: Path) -> None:
    metrics = build([{"__name__": "up"}], [0, 0], [MOMENT, MOMENT + 1], [1.0, 2.0], cluster="c")
    metrics.series.write_parquet(tmp_path / "series.parquet")
    for i in range(2):
        metrics.samples[i : i + 1].write_parquet(tmp_path / f"samples-{i}.parquet")
    assert capacity.read(tmp_path).samples["value"].to_list() == [1.0, 2.0]
    assert capacity.read(tmp_path / "series.parquet").samples["value"].to_list() == [1.0, 2.0]


def test_wanted_metrics_and_times_of_own_tables_are_kept(tmp_path: Path) -> None:
    names = [{"__name__": n} for n in ("up", "upper", "down")]
    metrics = build(names, [0, 0, 1, 2], [MOMENT, MOMENT + 5000, MOMENT, MOMENT], [1.0, 2, 3, 4],
                    cluster="c")  # fmt: skip
    folder = write(metrics, tmp_path / "tables")
    made = capacity.read(folder, metrics=["up.*"], start=MOMENT + 1)
    assert made.samples["value"].to_list() == [2.0]
    assert set(made.series["metric"]) == {"up", "upper"}


def test_tables_of_others_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    for name in ("series", "samples"):
        pl.DataFrame({"x": [1]}).write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ExportError, match="table series: missing columns .'series', 'metric'"):
        capacity.read(tmp_path)


def test_samples_of_unknown_series_are_refused_and_counted(tmp_path: Path) -> None:
    metrics = build([{"__name__": "up"}], [0, 7], [MOMENT, MOMENT], [1.0, 2.0], cluster="c")
    made = capacity.read(write(metrics, tmp_path / "tables"))
    assert made.sources.row(0)[2:5] == (2, 1, 1)


# One sample a row


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "frame", "pandas"])
def test_a_sample_a_row_is_read_from_every_kind_of_table(
    put: Put, tmp_path: Path, name: str
) -> None:
    frame = pl.read_csv(LONG.encode(), infer_schema=False).with_columns(pl.col("value").cast(float))
    if name == "a.parquet":
        frame.write_parquet(tmp_path / name)
    packed = gzip.compress(LONG.encode()) if name.endswith(".gz") else LONG.encode()
    sources = {"frame": frame, "pandas": frame.to_pandas(), "a.parquet": tmp_path / name}
    made = capacity.read(sources[name] if name in sources else put(name, packed))
    assert told(made) == [
        ("down", None, "{}", MOMENT + 60_000, 3.0),
        ("up", "a", '{"job": "x"}', MOMENT, 1.0),
        ("up", "a", "{}", MOMENT + 60_000, 2.0),
    ]


@pytest.mark.parametrize(
    "text",
    ["1795477137", "1795477137.0", "1795477137000", "1795477137000000", "1795477137000000000",
     "2026-11-23T23:38:57Z", "2026-11-23 23:38:57", "2026-11-23T23:38:57.000+00:00",
     "2026-11-24T00:38:57+01:00", "2026-11-23T18:38:57-0500", "2026-11-23 23:38:57 UTC",
     " 2026-11-23T23:38:57.000000Z "],
)  # fmt: skip
def test_times_are_understood_as_people_write_them(put: Put, text: str) -> None:
    made = capacity.read(put("a.csv", f"Time,metric,Value\n{text},up,1\n"))
    assert made.samples["time"].dt.epoch("ms").to_list() == [MOMENT]


def test_times_without_a_zone_are_taken_as_utc_and_told(put: Put) -> None:
    made = capacity.read(put("a.csv", "time,metric,value\n2026-11-23 23:38,up,1\n"))
    assert made.samples["time"].to_list() == [datetime(2026, 11, 23, 23, 38, tzinfo=UTC)]
    assert made.sources["reason"].to_list() == ["times name no zone and are taken as UTC"]


def test_values_with_units_and_broken_times_are_refused_by_row(put: Put) -> None:
    rows = ("1795477137,up,1.5 GiB", "1795477137,up,45%", "yesterday,up,1", "1795477137,up,2")
    made = capacity.read(put("a.csv", "\n".join(["time,metric,value", *rows])))
    assert made.samples["value"].to_list() == [2.0]
    assert made.sources.row(0)[2:5] == (4, 1, 3)
    reason = made.sources["reason"][0]
    assert "row 1: value '1.5 GiB': is no plain number; export raw values, without units" in reason
    assert "row 2: value '45%'" in reason
    assert "row 3: value '1': its time is none" in reason


def test_a_table_of_nothing_but_units_is_one_clear_error(put: Put) -> None:
    path = put("a.csv", "time,metric,value\n1795477137,up,45%\n")
    with pytest.raises(ExportError, match=r"a\.csv: row 1: value '45%': is no plain number"):
        capacity.read(path)


def test_empty_values_are_no_samples(put: Put) -> None:
    made = capacity.read(
        put("a.csv", "time,metric,value\n1795477137,up,\n1795477138,up,null\n1795477139,up,1\n")
    )
    assert made.sources.row(0)[2:5] == (1, 1, 0)


def test_without_a_column_of_metrics_the_file_is_the_metric(put: Put) -> None:
    made = capacity.read(put("node_load1.csv", "time,node,value\n1795477137,a,1\n"))
    assert made.series["metric"].to_list() == ["node_load1"]
    assert made.sources["reason"].to_list() == ["no column metric: called node_load1, as the file"]


def test_a_sample_told_twice_counts_once_and_the_last_wins(put: Put) -> None:
    made = capacity.read(put("a.csv", "time,metric,value\n1795477137,up,1\n1795477137,up,2\n"))
    assert made.samples["value"].to_list() == [2.0]
    assert made.sources.row(0)[2:5] == (2, 1, 1)


@pytest.mark.parametrize(
    "text",
    ["sep=;\ntime;metric;value\n1795477137;up;1\n", "time\tmetric\tvalue\n1795477137\tup\t1\n",
     "\ufefftime,metric,value\r\n1795477137,up,1\r\n",
     '"time";"metric";"value"\n"1795477137";"up";"1"'],
)  # fmt: skip
def test_csv_is_read_as_spreadsheets_write_it(put: Put, text: str) -> None:
    made = capacity.read(put("a.csv", text))
    assert [(n, v) for n, _, _, _, v in told(made)] == [("up", 1.0)]


# One series a column


def test_a_series_a_column_is_read_by_its_header(put: Put) -> None:
    header = 'Time,up,"cpu{node=""a"",job=""x,y""}"\n'
    made = capacity.read(put("a.csv", header + "1795477137,1,\n1795477197,,2\n"))
    assert told(made) == [
        ("cpu", "a", '{"job": "x,y"}', MOMENT + 60_000, 2.0),
        ("up", None, "{}", MOMENT, 1.0),
    ]


def test_columns_that_are_no_series_are_refused_by_name(put: Put) -> None:
    made = capacity.read(put("a.csv", "time,CPU of node a,up\n1795477137,5,1\n1795477138,6,2\n"))
    assert made.sources.row(0)[2:5] == (4, 2, 2)
    assert "column 'CPU of node a': the header is no series" in made.sources["reason"][0]


def test_wide_parquet_and_pandas_with_a_time_index_are_read(tmp_path: Path) -> None:
    index = pd.DatetimeIndex(["2026-11-23T23:38:57Z", "2026-11-23T23:39:57Z"])
    frame = pd.DataFrame({"up": [1.0, None], 'cpu{node="a"}': [2, 3]}, index=index)
    wanted = [
        ("cpu", "a", "{}", MOMENT, 2.0), ("cpu", "a", "{}", MOMENT + 60_000, 3.0),
        ("up", None, "{}", MOMENT, 1.0),
    ]  # fmt: skip
    assert told(capacity.read(frame)) == wanted
    pl.from_pandas(frame.reset_index(names="timestamp")).write_parquet(tmp_path / "a.parquet")
    assert told(capacity.read(tmp_path / "a.parquet")) == wanted


def test_only_wanted_columns_and_times_are_read(put: Put) -> None:
    path = put("a.csv", "time,up,down\n1795477137,1,x\n1795477138,2,x\n1795477139,3,x\n")
    made = capacity.read(path, metrics="up", start=1795477138, end=1795477138)
    assert made.samples["value"].to_list() == [2.0]
    assert made.sources.row(0)[2:5] == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.csv", "node,metric,value\na,up,1\n", "no column of times .*present: .'node', 'metric'"),
        ("a.csv", "", "is empty; export it again"),
        ("a.csv", "time\n1795477137\n", "has a column of times and nothing else"),
        ("a.csv", b"time,\0\xff,value\n", "is binary"),
        ("a.parquet", b"PAR1 and no more", "a.parquet: "),
    ],
)
def test_a_table_that_cannot_be_read_is_one_clear_error(
    put: Put, name: str, text: str | bytes, fault: str
) -> None:
    path = put(name, text)
    with pytest.raises(ExportError, match=fault) as error:
        capacity.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_what_to_pandas_gives_is_read_back(export: Callable[..., Metrics]) -> None:
    metrics = export(({"__name__": "up", "node": "a", "x": "y"}, [(0, 1.0), (1000, 2.0)]))
    again = capacity.read(metrics.to_pandas())
    assert_frame_equal(again.series, metrics.series)
    assert_frame_equal(again.samples, metrics.samples)


rows = st.lists(
    st.tuples(
        st.integers(10**12, 2 * 10**12),
        st.sampled_from(["up", "down"]),
        st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
        st.floats(allow_nan=False),
    ),
    unique_by=lambda row: row[:3],
    min_size=1,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rows)
def test_csv_and_parquet_of_the_same_rows_are_the_same(
    tmp_path: Path, rows: list[tuple[int, str, str | None, float]]
) -> None:
    frame = pl.DataFrame(rows, schema=["time", "metric", "zone", "value"], orient="row",
                         schema_overrides={"zone": pl.String})  # fmt: skip
    frame = frame.filter(pl.col("zone").fill_null("") != "null")
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    made = [tabular.read([tmp_path / n], Selection()) for n in ("a.csv", "a.parquet")]
    assert told(made[0]) == told(made[1])
    wanted = [
        (metric, None, json.dumps({"zone": zone} if zone else {}, ensure_ascii=False), time, value)
        for time, metric, zone, value in frame.rows()
    ]
    assert sorted(told(made[1]), key=str) == sorted(wanted, key=str)
