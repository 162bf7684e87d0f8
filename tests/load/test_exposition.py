"""Scrapes: text 0.0.4 and OpenMetrics, one or a folder of them, well and badly written."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as text_families

from capacity.export import Metrics
from capacity.load import exposition, line_blocks, scrape_times
from capacity.load.gather import Selection
from capacity.load.lines import ExactLines
from capacity.load.scan import CompiledLines

Put = Callable[[str, str | bytes], Path]
ALL = Selection()
WAYS: dict[str, type[ExactLines] | type[CompiledLines]] = {
    "exact": ExactLines, "compiled": CompiledLines,
}  # fmt: skip


@pytest.fixture(autouse=True, params=list(WAYS))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test holds for both ways to read lines."""
    monkeypatch.setattr(exposition, "_lines", lambda _, dialect: WAYS[request.param](dialect))
    return str(request.param)


def told(metrics: Metrics) -> list[tuple[str, int | None, float]]:
    """Series as sorted text, time in ms and value of each sample."""
    rows = metrics.samples.join(metrics.series, on="series").with_columns(
        pl.col("time").dt.epoch("ms")
    )
    out = []
    for row in rows.rows(named=True):
        own = {k: row[k] for k in ("node", "namespace", "pod", "container", "map_name") if row[k]}
        out.append((text_of(row["metric"], own | json.loads(row["labels"])), row["time"],
                    row["value"]))  # fmt: skip
    return sorted(out)


def text_of(name: str, labels: dict[str, str]) -> str:
    return name + json.dumps({k: v for k, v in labels.items() if v and k != "cluster"},
                             sort_keys=True)  # fmt: skip


def kept(path: Path, selection: Selection = ALL) -> list[tuple[str, float]]:
    return [(text, value) for text, _, value in told(exposition.read([path], selection))]


# Times


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("2026-11-23T23-38-57Z_m00.prom", "2026-11-23T23:38:57+00:00"),
        ("node-7_20261123T233857Z.prom.gz", "2026-11-23T23:38:57+00:00"),
        ("2026-11-23T23:38:57.25+01:00.txt", "2026-11-23T22:38:57.250+00:00"),
        ("metrics-cilium-abc-20261123-233857.txt", "2026-11-23T23:38:57+00:00"),
        ("scrape_1795477137.prom", "2026-11-23T23:38:57+00:00"),
        ("scrape_1795477137250.prom", "2026-11-23T23:38:57.250+00:00"),
        ("99999999-999999_1795477137.prom", "2026-11-23T23:38:57+00:00"),
    ],
)
def test_the_time_of_a_scrape_stands_in_its_name(name: str, moment: str) -> None:
    wanted = round(datetime.fromisoformat(moment).timestamp() * 1000)
    assert scrape_times.scrape_time(Path(name), 5.0) == (wanted, None)


def test_without_a_time_in_the_name_the_newest_event_tells(put: Put) -> None:
    path = put("m00.prom", 'cilium_event_ts{source="api"} 1.5e9\n'
               'cilium_event_ts{source="k8s"} 1.7954771503143167e+09\nup 1\n')  # fmt: skip
    made = exposition.read([path], Selection(("up",)))
    assert made.samples["time"].dt.epoch("ms").to_list() == [1795477150314]
    assert made.sources["reason"].to_list() == ["time taken from the newest cilium_event_ts"]


def test_an_event_that_is_no_time_tells_nothing(put: Put) -> None:
    path = put("m00.prom", "cilium_event_ts 1e300\nup 1\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    made = exposition.read([path], ALL)
    assert made.samples["time"].dt.epoch("s").unique().to_list() == [1_700_000_000]


def test_without_events_the_file_modification_time_tells(put: Put) -> None:
    path = put("m00.prom", "up 1\n")
    os.utime(path, (1_700_000_000, 1_700_000_000.5))
    made = exposition.read([path], ALL)
    assert made.samples["time"].dt.epoch("ms").to_list() == [1_700_000_000_500]
    assert made.sources["reason"].to_list() == ["time taken from file modification time"]


def test_times_in_the_text_are_milliseconds_and_in_openmetrics_seconds(put: Put) -> None:
    text = put("a.txt", "up 1 1795477137250\n")
    openmetrics = put("b.txt", "up 1 1795477137.25\n# EOF\n")
    old = put("c.om", "up 1 86400\n# EOF\n")
    cut_off = put("d.txt", "up 1 1795477137.25\n")
    made = [exposition.read([p], ALL).samples["time"] for p in (text, openmetrics, old, cut_off)]
    assert [int(t.dt.epoch("ms")[0]) for t in made] == [
        1795477137250, 1795477137250, 86_400_000, 1795477137250,
    ]  # fmt: skip


def test_a_folder_of_scrapes_over_time_is_one_series_each(put: Put) -> None:
    paths = [put(f"2026-11-23T23-{i:02}-00Z.prom", f'up{{job="a"}} {i}\n') for i in range(60)]
    made = exposition.read(paths, ALL)
    assert made.series.height == 1
    assert made.samples["value"].to_list() == list(range(60))
    assert made.samples["time"].dt.minute().to_list() == list(range(60))


def test_only_wanted_times_are_kept(put: Put) -> None:
    start = round(datetime(2026, 11, 23, 0, 10, tzinfo=UTC).timestamp() * 1000)
    paths = [put(f"2026-11-23T00-{i:02}-00Z.prom", "up 1\n") for i in range(60)]
    made = exposition.read(paths, Selection(None, start, start + 300_000))
    assert made.samples["time"].dt.minute().to_list() == list(range(10, 16))
    assert made.sources["refused"].sum() == 0


# What is in a scrape


def test_escapes_empty_labels_and_spaces_are_understood(put: Put) -> None:
    path = put("a.prom", 'up { path = "C:\\\\x" , said="\\"no\\"",line="a\\nb",empty="" , } 1 \n')
    assert kept(path) == [(text_of("up", {"path": "C:\\x", "said": '"no"', "line": "a\nb"}), 1.0)]


def test_exemplars_are_left_out_and_their_samples_kept(put: Put) -> None:
    path = put("a.om", "\n".join([
        'a_bucket{le="1"} 5 # {trace_id="x"} 0.67',
        'b_bucket{le="1"} 6 1.5 # {trace_id="x"} 0.67 9',
        'c_total{said="a # {b"} 7', 'd_total{said="\\" # {"} 8 # {trace_id="}"} 1',
        "e_total 9 # {} 1", 'f_total{said="x\\\\"} 10 # {trace_id="\\""} 1', "# EOF", "",
    ]))  # fmt: skip
    assert [value for _, value in kept(path)] == [5, 6, 7, 8, 9, 10]


def test_infinity_is_a_value_and_nan_is_no_sample(put: Put) -> None:
    path = put("a.prom", "a +Inf\nb -Inf\nc NaN\nd nan\ne Inf\n")
    made = exposition.read([path], ALL)
    assert made.samples["value"].to_list() == [math.inf, -math.inf, math.inf]
    assert made.sources.row(0)[2:5] == (5, 3, 2)
    assert made.sources["reason"][0].startswith("2 NaN, which is no sample")


def test_histograms_and_repeated_heads_are_plain_series(put: Put) -> None:
    head = "# HELP h text\n# TYPE h histogram\n"
    path = put("a.prom", head + 'h_bucket{le="1"} 1\n' + head + 'h_bucket{le="+Inf"} 2\nh_sum 3\n')
    assert [value for _, value in kept(path)] == [2, 1, 3]


def test_a_series_told_twice_in_one_scrape_counts_once_and_the_last_wins(put: Put) -> None:
    path = put(
        "2026-11-23T23-38-57Z.prom", 'up{a="1",b="2"} 1\nup{b="2",a="1"} 2\nup{a="1",b="2",} 3\n'
    )
    made = exposition.read([path], ALL)
    assert made.samples["value"].to_list() == [3.0]
    assert made.sources.row(0)[2:] == (
        3, 1, 2, "2 told again with another value, the last one is kept",
    )  # fmt: skip


def test_scrapes_of_two_targets_that_nothing_tells_apart_are_warned_of(put: Put) -> None:
    paths = [put(f"{n}/2026-11-23T23-38-57Z.prom", f"up {n}\nsame 1\n") for n in (1, 2)]
    made = exposition.read(paths, ALL)
    assert sorted(made.samples["value"]) == [1.0, 2.0]
    assert made.sources["refused"].to_list() == [1, 0]
    assert "need a label instance, node or pod" in made.sources["reason"][0]


def test_created_series_of_a_counter_are_left_out_but_not_others(put: Put) -> None:
    path = put(
        "2026-11-23T23-38-57Z.om",
        "a_total 1\na_created 1.7e9\nb_count 1\nb_created 1.7e9\nkube_pod_created 1.7e9\n# EOF\n",
    )
    made = exposition.read([path], ALL)
    assert sorted(made.series["metric"]) == ["a_total", "b_count", "kube_pod_created"]
    assert made.sources["reason"][0] == "2 series X_created left out"


def test_malformed_lines_are_refused_with_their_place_and_the_rest_is_used(put: Put) -> None:
    first = put("1.prom", "up 1\n" * 3)
    second = put(
        "2.prom", 'good 1\nbad{a="x} 1\n# HELP x y\n\nbad value\nup{} 2 x\ngood2 2\nup{a=b} 1\n'
    )
    made = exposition.read([first, second], ALL)
    assert sorted(made.series["metric"]) == ["good", "good2", "up"]
    row = made.sources.row(1, named=True)
    assert (row["read"], row["kept"], row["refused"]) == (6, 2, 4)
    for line in (2, 5, 6):
        assert f"{second}:{line}: " in row["reason"]
    assert "4 refused in all" in row["reason"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_of_windows_and_a_missing_last_one_are_fine(put: Put, newline: str) -> None:
    path = put("a.prom", newline.join(['up{a="b"} 1', "down 2", "# x", "left 3"]))
    assert [value for _, value in kept(path)] == [2.0, 3.0, 1.0]


def test_labels_may_hold_what_separates_columns(put: Put) -> None:
    every = "".join(map(chr, (*range(1, 9), 11, 12, *range(14, 32))))
    path = put("a.prom", f'up{{a="{every}"}} 1\nup{{a="\t"}}\t2\t1795477137250\n')
    assert sorted(value for _, value in kept(path)) == [1.0, 2.0]


def test_text_that_is_no_utf8_is_kept_with_marks(put: Put) -> None:
    path = put("a.prom", b'up{a="\xff"} 1\ndown 2\n')
    assert [value for _, value in kept(path)] == [2.0, 1.0]


def test_files_in_several_blocks_read_as_in_one(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["".join(f'm{i}{{a="{j}"}} {i + j}\n' for j in range(40)) for i in range(9)]
    paths = [put(f"{1_795_477_137 + i}.prom", text) for i, text in enumerate(texts)]
    whole = told(exposition.read(paths, ALL))
    monkeypatch.setattr(line_blocks, "BLOCK", 100)
    assert told(exposition.read(paths, ALL)) == whole
    assert len(whole) == 9 * 40


def test_packed_scrapes_are_unpacked_and_one_that_is_cut_off_gives_what_it_holds(put: Put) -> None:
    text = "".join(f'up{{a="{i}"}} {i}\n' for i in range(5_000)).encode()
    packed = gzip.compress(text)
    good, bad = put("1.prom.gz", packed), put("2.prom.gz", packed[: len(packed) // 2])
    made = exposition.read([good, bad], ALL)
    assert made.sources["kept"][0] == 5_000
    assert 0 < made.sources["kept"][1] < 5_000
    assert "cannot be unpacked to its end" in made.sources["reason"][1]
    assert made.sources["refused"][1] >= 1


def test_of_a_packed_scrape_that_is_cut_off_the_last_line_is_no_sample(put: Put) -> None:
    text = b'up{a="1"} 1\nup{a="2"} 12345678901234567890\n'
    for size in range(len(text) - 20, len(text) - 1):
        packed = zlib.compressobj(wbits=31)
        data = packed.compress(text[:size]) + packed.flush(zlib.Z_SYNC_FLUSH)
        made = exposition.read([put("1.prom.gz", data)], ALL)
        assert made.samples["value"].to_list() == [1.0]
        assert "its last line is left out" in made.sources["reason"][0]


@pytest.mark.parametrize("end", range(1, 13))
def test_a_line_that_is_cut_and_no_sample_is_refused(put: Put, end: int) -> None:
    made = exposition.read([put("1.prom", "up 1\n" + 'down{a="b"} 2'[:end])], ALL)
    assert made.sources.row(0)[2:5] == (2, 1, 1)


def test_an_empty_scrape_holds_nothing_wanted(put: Put) -> None:
    made = exposition.read([put("1.prom", ""), put("2.prom", "\n# TYPE up gauge\n\n")], ALL)
    assert made.sources["read"].to_list() == [0, 0]
    assert made.samples.is_empty()
    assert set(made.sources["reason"]) == {"no sample of wanted metrics and times"}


# Another process chooses by itself: once is enough
@pytest.mark.parametrize("way", ["exact"], indirect=True)
def test_small_inputs_need_no_compiler_and_large_ones_take_it(put: Put) -> None:
    comment = "# HELP up " + "x" * 990 + "\n"
    small = put("1.prom", "up 1\n")
    large = put("2.prom", comment * (exposition.SMALL // len(comment) + 1) + "up 1\n")
    code = (
        "import sys; from pathlib import Path; from capacity.load import exposition as e\n"
        "from capacity.load.gather import Selection\n"
        "for path in sys.argv[1:]:\n"
        "    e.read([Path(path)], Selection()); print('numba' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(small), str(large)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.split() == ["False", "True"]


def test_zstd_is_read_where_its_package_is_there(put: Put) -> None:
    zstandard = pytest.importorskip("zstandard")
    path = put("1.prom.zst", zstandard.compress(b"up 1\n"))
    assert kept(path) == [("up{}", 1.0)]


def test_zstd_without_its_package_is_named(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("1.prom.zst", b"\x28\xb5\x2f\xfd rest")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    made = exposition.read([path], ALL)
    assert "pip install zstandard" in made.sources["reason"][0]


# Against other programs


def oracle(text: str, parse: Callable[[str], object]) -> list[tuple[str, int | None, float]]:
    """What prometheus_client's parser makes of a text: series, time in ms, value; NaN left out."""
    return sorted(
        (
            text_of(sample.name, sample.labels),
            None if sample.timestamp is None else round(float(sample.timestamp) * 1000),
            sample.value,
        )
        for family in parse(text)  # type: ignore[attr-defined]
        for sample in family.samples
        if not math.isnan(sample.value)
    )


names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,6}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
samples = st.tuples(
    names,
    st.dictionaries(label_names.filter(lambda n: n != "cluster"), texts, max_size=4),
    st.floats(allow_nan=False),
    st.none() | st.integers(1_000_000_000_000, 2_000_000_000_000),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(samples, min_size=1, max_size=12, unique_by=lambda s: (s[0], *sorted(s[1].items())))
)
def test_what_prometheus_client_reads_is_read_alike(
    put: Put, written: list[tuple[str, dict[str, str], float, int | None]]
) -> None:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    lines = []
    for name, labels, value, stamp in written:
        body = ",".join(f'{k}="{quoted(v)}"' for k, v in labels.items())
        lines.append(f"{name}{{{body}}} {value!r}" + ("" if stamp is None else f" {stamp}"))
    text = "\n".join(["# HELP x y", *lines, ""])
    path = put("scrape.prom", text)
    moment = int(scrape_times.scrape_time(path, None)[0])
    wanted = [(t, moment if at is None else at, v) for t, at, v in oracle(text, text_families)]
    made = exposition.read([path], ALL)
    left_out = {name for name in made.series["metric"] if name.endswith("_created")}
    assert not left_out
    assert told(made) == sorted(wanted)


def recorded() -> list[Path]:
    shared = Path(__file__).resolve().parents[2].parent / "shared"
    folders = ("snap", "scale", "operator")
    own = (p for f in folders for p in (shared / "recorded" / f).rglob("*.prom"))
    return sorted([*own, *(shared / "public" / "metrics").glob("*.txt")])


@pytest.mark.parametrize("group", range(4))
def test_recorded_and_public_scrapes_hold_what_others_count(shared: Path, group: int) -> None:
    files = recorded()[group::4]
    assert len(files) > 15
    for path in files:
        text = path.read_text(encoding="utf-8")
        moment = exposition.read([path], ALL)
        lines = [line for line in text.split("\n") if line.strip() and line[0] != "#"]
        assert moment.sources["read"].item() == len(lines), path
        assert "is no sample; wanted" not in (moment.sources["reason"].item() or ""), path


@pytest.mark.parametrize(
    "name",
    ["recorded/snap/m07_ep60/metrics.prom", "recorded/scale/metrics_endpoints_50.prom",
     "recorded/operator/metrics_cnps_1000.prom", "public/metrics/datadog_coredns_18.txt",
     "public/metrics/datadog_ksm_gke.txt", "public/metrics/datadog_cilium_agent_metrics.txt"],
)  # fmt: skip
def test_recorded_and_public_scrapes_are_read_as_prometheus_client_reads_them(
    shared: Path, name: str
) -> None:
    path = shared / name
    # Without its TYPE lines, for which it renames counters; of equal series the last one wins
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line[:1] != "#"]
    wanted = {
        text_of(sample.name, sample.labels): sample.value
        for family in text_families("\n".join(lines))
        for sample in family.samples
        if not math.isnan(sample.value)
    }
    assert dict(kept(path)) == wanted


def test_openmetrics_is_read_as_prometheus_client_reads_it(put: Put) -> None:
    text = (
        "# TYPE a counter\na_total 1.0 1795477137.123\na_created 1.5e9 1795477137.123\n"
        "# TYPE h histogram\n"
        'h_bucket{le="1.0"} 1.0 # {trace_id="abc"} 0.5 1795477137.0\nh_bucket{le="+Inf"} 2.0\n'
        "h_count 2.0\nh_sum 3.5\n# TYPE i info\n"
        'i_info{v="1"} 1\n# TYPE s stateset\ns{s="on"} 1\ns{s="off"} 0\n# EOF\n'
    )
    path = put("1795477000.om", text)
    wanted = [
        (series, 1_795_477_000_000 if at is None else at, value)
        for series, at, value in oracle(text, openmetrics_families)
        if "_created" not in series
    ]
    assert told(exposition.read([path], ALL)) == wanted


TOKENS = (
    "{", "}", '"', '"', "\\", "a", "up", "=", ",", " ", " ", "1", "2.5", "#", " # {", "\n", "\n",
    "\t", "e", "NaN", '{a="b"}', "} 5", "# TYPE up gauge", 'a="x y"', " 1795479824743", "+Inf",
    "\r\n", "\x01", "é", 'b=""', '__name__="q"',
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.sampled_from(TOKENS), max_size=150).map("".join))
def test_the_quick_way_reads_a_line_as_the_grammar_does(put: Put, text: str) -> None:
    path = put("1795477000.prom", text)
    quick, exact = (read_by(way, path) for way in ("compiled", "exact"))
    assert told(quick) == told(exact)
    assert (
        quick.sources.select("read", "kept").rows() == exact.sources.select("read", "kept").rows()
    )


def read_by(way: str, path: Path) -> Metrics:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exposition, "_lines", lambda _, dialect: WAYS[way](dialect))
        return exposition.read([path], ALL)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(put: Put, data: bytes) -> None:
    made = exposition.read([put("a.prom", data)], ALL)
    row = made.sources.row(0, named=True)
    assert row["read"] == row["kept"] + row["refused"]
    assert made.samples.height <= row["kept"]


def test_the_order_of_files_and_lines_changes_nothing(put: Put) -> None:
    texts = [f'up{{a="{i}"}} {i}\ndown{{b="{i}"}} {i}\n' for i in range(3)]
    paths = [put(f"{1_795_477_137 + i}.prom", text) for i, text in enumerate(texts)]
    for order in itertools.permutations(paths):
        assert told(exposition.read(order, ALL)) == told(exposition.read(paths, ALL))


def test_a_text_is_known_by_its_lines() -> None:
    assert exposition.is_exposition(b"# HELP up x\n")
    assert exposition.is_exposition(b'up{a="b"} 1\n')
    assert not exposition.is_exposition(b"a: 1\nb: 2\nc 3\n")
    assert not exposition.is_exposition(b"")
