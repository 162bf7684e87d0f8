"""Text that is broken on purpose: long lines, times that no calendar has, faults far below."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capacity.load import exposition, files, read, read_inventory
from capacity.load.gather import Selection
from capacity.load.labels import parse_labels
from capacity.load.lines import is_sample

Put = Callable[[str, str | bytes], Path]


def test_a_fault_in_a_packed_file_is_told_with_its_line(put: Put) -> None:
    rng = random.Random(1)
    lines = [f'up{{a="{rng.getrandbits(64):x}"}} {rng.random()}' for _ in range(5000)]
    lines[4321] = "no sample at all"
    path = put("1795477000.prom.gz", gzip.compress("\n".join(lines).encode()))
    made = exposition.read([path], Selection())
    assert made.sources["read"].to_list() == [5000]
    assert f"{path}:4322: 'no sample at all'" in made.sources["reason"][0]


def test_a_line_without_end_is_not_held(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST", 1 << 16)
    path = put("1795477000.prom.gz", gzip.compress(b"up 1\n" + b"a" * (4 << 20) + b"\ndown 1\n"))
    made = exposition.read([path], Selection())
    assert made.series["metric"].to_list() == ["up"]
    told = made.sources.row(0, named=True)
    assert (told["kept"], told["refused"]) == (1, 1)
    assert "a line is longer than 65536 bytes" in told["reason"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.prom", "up 1 9000000000000000\nup 2 1700000000000\n"),
        ("a.prom", "up 1 -90000000000000000\nup 2 1700000000000\n"),
        ("a.om", "up 1 9.9e15\nup 2 1700000000\n# EOF\n"),
        ("a.dump", '{__name__="up"} 1 900000000000000\n{__name__="up"} 2 1700000000000\n'),
        (
            "a.json",
            '{"status":"success","data":{"resultType":"matrix","result":[{"metric":'
            '{"__name__":"up"},"values":[[9e12,"1"],[1700000000,"2"]]}]}}',
        ),
    ],
)
def test_a_time_that_no_calendar_has_is_refused(put: Put, name: str, text: str) -> None:
    made = read(put(name, text))
    assert made.samples["value"].to_list() == [2.0]
    assert made.sources["refused"].to_list() == [1]
    assert made.samples["time"].dt.epoch("s").to_list() == [1_700_000_000]


@pytest.mark.parametrize(
    ("line", "is_good"),
    [
        ("up " + "1" * 30_000 + "x", False), ("up 1 " + "1" * 30_000 + "x", False),
        ("up " + "1" * 30_000, True), ("up 1." + "1" * 30_000 + "x", False),
        ("up" + " " * 30_000 + "x", False), ("up{" + '"' * 30_000 + " 1", False),
    ],
)  # fmt: skip
def test_a_long_line_is_judged_at_once(line: str, is_good: bool) -> None:
    begin = time.process_time()
    assert is_sample(line) is is_good
    # Each pair of its characters would take half a minute
    assert time.process_time() - begin < 2


def test_a_long_label_is_judged_at_once() -> None:
    begin = time.process_time()
    assert parse_labels("up{a" + " " * 60_000 + 'x="1"}') is None
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("ending", ["x", 'apiVersion: v1\nkind: Node\nmetadata: {name: "a"}\n'])
def test_blank_lines_before_anything_are_passed_over_at_once(put: Put, ending: str) -> None:
    path = put("dump", "\n" * 2000 + ending)
    begin = time.process_time()
    assert len(read_inventory(str(path), required=False).nodes) == (ending != "x")
    # Their compositions would take longer than the sun
    assert time.process_time() - begin < 2
