"""Dumps of promtool: what it prints of a real database is read back as it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import capacity
from capacity.load import exposition, tsdb_dump
from capacity.load.gather import Selection
from capacity.load.lines import ExactLines, Lines
from capacity.load.scan import CompiledLines
from tests.prometheus_server import needed

Put = Callable[[str, str | bytes], Path]
VALUES = ['C:\\x\n"y"', "tab\there", "é", "{}", "a, b", "\x7f\x01", "\u200b", "\U0001f600"]


@pytest.fixture(autouse=True, params=[ExactLines, CompiledLines])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test holds for both ways to read lines."""
    made: Callable[[object], Lines] = request.param
    monkeypatch.setattr(exposition, "_lines", lambda _, dialect: made(dialect))


def told(path: Path, selection: Selection | None = None) -> list[tuple[str, str, int, float]]:
    made = tsdb_dump.read([path], selection or Selection())
    rows = made.samples.join(made.series, on="series").sort("series", "time")
    return [
        (row["metric"], row["labels"], round(row["time"].timestamp() * 1000), row["value"])
        for row in rows.rows(named=True)
    ]


@pytest.mark.prometheus
def test_what_promtool_prints_of_a_database_is_read(tmp_path: Path) -> None:
    _, promtool = needed()
    escaped = [v.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for v in VALUES]
    lines = [
        f'm{{Zone="z",value="{v}"}} {i}.5 {1_795_392_000 + i}.25' for i, v in enumerate(escaped)
    ]
    lines += ["m NaN 1795392100", "m -Inf 1795392101", "m 1e+300 1795392102"]
    text = "\n".join(["# TYPE m unknown", *lines, "# EOF", ""])
    (tmp_path / "samples.om").write_text(text, encoding="utf-8")
    make = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    data = tmp_path / "data"
    subprocess.run([*make, str(tmp_path / "samples.om"), str(data)], check=True)
    # promtool opens a whole database
    (data / "wal").mkdir()
    dump = tmp_path / "dump.txt"
    with dump.open("wb") as file:
        subprocess.run([promtool, "tsdb", "dump", str(data)], stdout=file, check=True)
    wanted = {
        (json.dumps({"Zone": "z", "value": v}, ensure_ascii=False), 1_795_392_000_250 + 1000 * i,
         i + 0.5) for i, v in enumerate(VALUES)
    }  # fmt: skip
    wanted |= {("{}", 1_795_392_101_000, -float("inf")), ("{}", 1_795_392_102_000, 1e300)}
    assert {row[1:] for row in told(dump)} == wanted
    assert capacity.read(dump).sources.row(0)[1:5] == ("dump", 11, 10, 1)


def test_a_dump_is_known_by_its_first_line(put: Put) -> None:
    assert tsdb_dump.is_dump(b'{__name__="up"} 1 1700000000000\n')
    assert tsdb_dump.is_dump(b'{Zone="a\\"{", "k8s.x"="y", __name__="up"} 1 1700000000000\n')
    assert not tsdb_dump.is_dump(b'{"up"} 1\n')
    assert not tsdb_dump.is_dump(b'up{__name__="x"} 1\n')
    path = put("a.txt", '{__name__="up"} 1 1700000000000\n{__name__="up"} 2 1700000060000\n')
    assert capacity.read(path).sources["format"].to_list() == ["dump"]


def test_times_are_milliseconds_however_old(put: Put) -> None:
    path = put("a.txt", '{__name__="up"} 1 86400000\n{__name__="up"} 2 -1\n')
    assert [row[2] for row in told(path)] == [-1, 86_400_000]


def test_samples_of_native_histograms_are_refused_by_name(put: Put) -> None:
    histogram = '{__name__="h"} {count:3, sum:1.5, (0.5,1]:3} 1700000000000\n'
    made = capacity.read(put("a.txt", '{__name__="up"} 1 1700000000000\n' + histogram))
    assert made.sources.row(0)[2:5] == (2, 1, 1)
    assert "a.txt:2:" in made.sources["reason"][0]
    assert "native histogram, which is not read" in made.sources["reason"][0]


def test_only_wanted_metrics_and_times_are_kept(put: Put) -> None:
    lines = [f'{{__name__="{m}"}} {t} {t * 1000}\n' for m in ("a", "b") for t in range(5)]
    path = put("a.txt", "".join(lines))
    assert told(path, Selection(("b",), 1000, 2000)) == [
        ("b", "{}", 1000, 1.0),
        ("b", "{}", 2000, 2.0),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"\a\b\f\n\r\t\v\\\"", '\a\b\f\n\r\t\v\\"'), (r"\x41é\u00e9", "Aéé"), (r"\U0001f600", "😀"),
     (r"\xff", "�"), (r"\xc3\xa9", "é"), (r"\101", "A"), (r"\ud800", "?"), (r"\U99999999", "�"),
     (r"\q", r"\q")],
)  # fmt: skip
def test_escapes_are_those_of_go(put: Put, written: str, meant: str) -> None:
    path = put("a.txt", f'{{__name__="up", a="{written}"}} 1 1700000000000\n')
    assert [json.loads(row[1])["a"] for row in told(path)] == [meant]


def test_a_dump_as_openmetrics_is_a_scrape_with_times(put: Put) -> None:
    text = 'up{a="1"} 1 1700000000.25\nup{a="1"} 2 1700000060.25\n# EOF\n'
    made = capacity.read(put("a.txt", text))
    assert made.sources["format"].to_list() == ["exposition"]
    assert made.samples["time"].dt.epoch("ms").to_list() == [1_700_000_000_250, 1_700_000_060_250]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_what_json_quotes_alike_is_read_back(value: str) -> None:
    # Of these escapes Go's are the same
    quoted = json.dumps(value, ensure_ascii=False)
    parsed = tsdb_dump.DIALECT.parse(f'{{__name__="up", a={quoted}}}')
    assert parsed == ({"__name__": "up", "a": value} if value else {"__name__": "up"})
