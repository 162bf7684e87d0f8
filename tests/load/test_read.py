"""read(): which files are exports, what is skipped, and what is told of the rest."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import capacity
from capacity.errors import ExportError, SettingsError
from capacity.export import build
from capacity.load import READERS, instants, is_url, write

Put = Callable[[str, str | bytes], Path]
ANSWER = (
    '{"status":"success","data":{"resultType":"vector","result":'
    '[{"metric":{"__name__":"saved"},"value":[1795477137,"1"]}]}}'
)
KUBERNETES = '{"apiVersion":"v1","kind":"List","items":[]}'
BPFTOOL = '[{"id":1,"type":"hash","bytes_key":4,"max_entries":5}]'


def test_a_folder_is_every_export_below_it(put: Put, tmp_path: Path) -> None:
    put("2026-11-23T23-38-57Z.prom", "scraped 1\n")
    put("more/deep/1795477137.txt", "deep 1\n")
    put("more/packed.prom.gz", gzip.compress(b"packed 1 1795477137000\n"))
    put("open.om", "opened 1 1795477137\n# EOF\n")
    put("answer.json", ANSWER)
    put("rows.csv", "time,metric,value\n1795477137,rows,1\n")
    write(build([{"__name__": "own"}], [0], [1], [1.0], cluster="default"), tmp_path / "own")
    put(".git/objects.prom", "hidden 1\n")
    made = capacity.read(tmp_path)
    assert set(made.series["metric"]) == {
        "scraped", "deep", "packed", "opened", "saved", "rows", "own",
    }  # fmt: skip
    assert set(made.sources["format"]) == {"exposition", "prometheus-json", "tabular", "tables"}
    assert made.sources["refused"].sum() == 0


def test_what_is_recognizably_something_else_is_skipped_silently(put: Put, tmp_path: Path) -> None:
    put("a.prom", "up 1\n")
    others = {
        "nodes.json": KUBERNETES, "maps.json": BPFTOOL, "values.yaml": "a: 1\n",
        "README.md": "# up\n", "LICENSE": "text", "plan.ipynb": "{}",
        "status.txt": "KVStore: Disabled\nCilium: Ok\n",
    }  # fmt: skip
    for name, text in others.items():
        put(name, text)
    assert capacity.read(tmp_path).sources.height == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.prom", b"", "is empty; export it again"),
        ("b.prom", b"\x89PNG\0\0\0", "is binary; wanted is a Prometheus or OpenMetrics scrape"),
        ("b.prom", b"<html>\n", "begins with '<html>"),
        ("b.txt", b"\0\1\2", "is binary"),
        ("b.json", ANSWER[:-9].encode(), "is no whole JSON"),
        ("b.csv", b"a,b\n1,2\n", "no column of times"),
        ("b.parquet", b"nothing", "begins with 'nothing'"),
        ("b.prom.gz", b"\x1f\x8b\x08\0garbage", "cannot be"),
        ("b.bin", b"\0\0", "is binary"),
    ],
)
def test_an_export_that_cannot_be_read_is_told_and_the_rest_is_used(
    put: Put, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    put("a.prom", "up 1\n")
    bad = put(name, content)
    made = capacity.read(tmp_path)
    assert made.samples.height == 1
    row = made.sources.filter(pl.col("source") == str(bad)).row(0, named=True)
    assert (row["read"], row["kept"]) == (0, 0)
    assert reason in row["reason"]
    with pytest.raises(ExportError) as error:
        capacity.read(bad)
    assert str(error.value).startswith(f"{bad}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_several_files_of_which_none_can_be_read_are_one_error(put: Put, tmp_path: Path) -> None:
    put("a.prom", "")
    put("b.prom", "")
    with pytest.raises(ExportError, match=r"a\.prom: is empty; .*; and 1 more files"):
        capacity.read(tmp_path)


def test_a_missing_path_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no such file or folder, and no file matches it"):
        capacity.read(tmp_path / "no*.prom")
    with pytest.raises(ExportError, match="the folder holds no files"):
        capacity.read(tmp_path)
    with pytest.raises(ExportError, match="cannot be read: File name too long"):
        capacity.read("up 1" * 1_000)


def test_a_folder_of_kubernetes_objects_holds_no_metrics(put: Put, tmp_path: Path) -> None:
    put("nodes.json", KUBERNETES)
    with pytest.raises(ExportError, match="no export of metrics in it; wanted is a Prometheus"):
        capacity.read(tmp_path)


def test_a_file_of_nothing_but_malformed_lines_is_told_by_its_first(put: Put) -> None:
    path = put("a.prom", "# TYPE up gauge\nup{ 1\n")
    with pytest.raises(ExportError, match=r"^\S+a\.prom:2: 'up\{ 1' is no sample") as error:
        capacity.read(path)
    assert str(error.value).count(str(path)) == 1


def test_an_export_without_wanted_metrics_is_no_error(put: Put) -> None:
    made = capacity.read(put("a.prom", "up 1\n"), metrics=["down"])
    assert made.samples.is_empty()
    assert made.sources["reason"].to_list() == ["no sample of wanted metrics and times"]


def test_globs_and_several_sources_are_joined(put: Put, tmp_path: Path) -> None:
    for i in range(3):
        put(f"{1_795_477_137 + i}.prom", f"up {i}\n")
    frame = pl.DataFrame({"time": [1_795_477_200], "metric": ["up"], "value": [9.0]})
    made = capacity.read([f"{tmp_path}/*7.prom", tmp_path / "1795477138.prom", frame])
    assert made.series.height == 1
    assert made.samples["value"].to_list() == [0.0, 1.0, 9.0]


def test_metrics_are_names_or_regular_expressions_that_match_whole(put: Put) -> None:
    path = put("a.prom", "up 1\nupper 2\ndown 3\n")
    found = {
        str(wanted): set(capacity.read(path, metrics=wanted).series["metric"])
        for wanted in ("up", ["up.*"], ["up", "d.wn"], [])
    }
    assert list(found.values()) == [{"up"}, {"up", "upper"}, {"up", "down"}, set()]
    with pytest.raises(SettingsError, match="metrics: 'a.' is no metric name and no regular"):
        capacity.read(path, metrics=["a("])


def test_start_and_end_are_both_kept_in_every_spelling(put: Put) -> None:
    text = "".join(f"up {i} {1_795_477_137_000 + 1000 * i}\n" for i in range(5))
    path = put("a.prom", text)
    moment = datetime(2026, 11, 23, 23, 38, 58, tzinfo=UTC)
    for start in (moment, moment.replace(tzinfo=None), 1795477138, 1795477138000, "1795477138",
                  "2026-11-23T23:38:58Z", "2026-11-24T00:38:58+01:00"):  # fmt: skip
        made = capacity.read(path, start=start, end=moment + timedelta(seconds=2))
        assert made.samples["value"].to_list() == [1.0, 2.0, 3.0], start


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"start": "yesterday"}, "start: 'yesterday' is no time; write for example"),
        ({"start": "-7x"}, "start: '7x' is not a duration"),
        ({"start": "2026-01-02", "end": "2026-01-01"}, "lies after end"),
        ({"start": float("nan")}, "start: nan is no epoch"),
        ({"step": "fast"}, "step: 'fast' is not a duration"),
        ({"step": 0}, "step: 0 is no time"),
    ],
)
def test_arguments_that_cannot_be_used_are_told(
    put: Put, arguments: dict[str, object], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        capacity.read(put("a.prom", "up 1\n"), **arguments)  # type: ignore[arg-type]


@given(st.integers(10**11, 10**13))
def test_an_instant_in_milliseconds_text_and_seconds_is_the_same(moment: int) -> None:
    text = datetime.fromtimestamp(moment // 1000, UTC).isoformat()
    seconds = moment // 1000
    assert instants.instant(text, now=0) == seconds * 1000
    assert instants.instant(moment, now=0) == moment
    assert instants.instant(f"-{seconds}s", now=2 * seconds) == seconds * 1000


def test_with_a_step_the_last_sample_of_each_is_kept(put: Put) -> None:
    text = "".join(
        f'up{{a="{a}"}} {i} {1_795_477_140_000 + 1000 * i}\n'
        for a in "xy"
        for i in range(0, 150, 15)
    )
    made = capacity.read(put("a.prom", text), step="1m")
    assert made.samples["value"].to_list() == [45.0, 105.0, 135.0] * 2


def test_unnamed_clusters_take_the_only_name_there_is(put: Put, tmp_path: Path) -> None:
    put("a.prom", 'cilium_identity{cluster="prod"} 1\netcd_size{cluster="etcd-0"} 1\n')
    put("b.prom", "cilium_endpoint 1\n")
    assert set(capacity.read(tmp_path).series["cluster"]) == {"prod", "etcd-0"}
    assert set(capacity.read(tmp_path / "b.prom").series["cluster"]) == {"default"}
    assert set(capacity.read(tmp_path, cluster="lab").series["cluster"]) == {
        "prod", "lab", "etcd-0",
    }  # fmt: skip
    put("c.prom", 'cilium_endpoint{cluster="other"} 1\n')
    assert "default" in set(capacity.read(tmp_path).series["cluster"])


def test_what_is_no_source_is_told() -> None:
    with pytest.raises(SettingsError, match="source: int is no path, URL or frame"):
        capacity.read(7)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="source: an empty list"):
        capacity.read([])


def test_urls_are_known_by_their_scheme() -> None:
    assert is_url("https://prometheus.example")
    assert not is_url("C:\\exports")
    assert not is_url(Path("http:/x"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.sampled_from(["a.prom", "a.json", "a.csv", "a.parquet", "a.prom.gz", "a.txt", "a"]),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PAR1", b'{"status":"success"',
                     b"time,metric,value\n", b"# TYPE up gauge\n", b"time,up\n"]),
    st.binary(max_size=60),
)  # fmt: skip
def test_any_bytes_in_any_file_are_read_or_one_error(
    put: Put, name: str, head: bytes, tail: bytes
) -> None:
    path = put(name, head + tail)
    try:
        made = capacity.read(path)
    except ExportError as error:
        told = str(error)
    else:
        told = str(path)
        assert made.sources["read"].item() >= made.sources["kept"].item()
    assert told.startswith(str(path))
    assert "\n" not in told


def test_readers_are_one_literal_that_can_be_read() -> None:
    formats = ["tables", "tsdb-block", "parquet", "prometheus-json", "cilium_metrics", "dump",
               "exposition", "csv"]  # fmt: skip
    assert list(READERS) == formats


def test_recorded_folders_are_read_without_refusals(shared: Path) -> None:
    made = capacity.read(shared / "recorded" / "snap")
    assert made.sources["kept"].sum() == made.samples.height == 22_665
    assert made.sources["refused"].sum() == 0


@pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, (1 << 16) + 1])
def test_scrapes_about_as_long_as_what_tells_the_format_are_read_whole(
    tmp_path: Path, size: int
) -> None:
    # Without an end of the last line, beside other files
    for i in range(3):
        last = f'up{{node="n{i}"}} {i + 1}'
        head = "# TYPE up gauge\n"
        text = head + "#" * (size - len(head) - len(last) - 1) + "\n" + last
        (tmp_path / f"{1_795_477_000 + i}.prom").write_text(text)
        assert len(text) == size
    (tmp_path / "1795477000_.csv").write_text("time,down\n2026-11-23T00:00:00Z,1\n")
    (tmp_path / "a.yaml").write_text("a: b\n")
    made = capacity.read(tmp_path)
    assert made.samples["value"].sort().to_list() == [1, 1, 2, 3]
    assert sorted(map(Path, made.sources["source"])) == sorted(tmp_path.glob("179*"))
    assert made.sources["kept"].to_list() == [1, 1, 1, 1]
